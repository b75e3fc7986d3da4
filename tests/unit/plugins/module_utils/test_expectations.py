# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import numpy
import pytest
from ansible_collections.mlserving.triton.plugins.module_utils import _expectations

TOP = numpy.array([b"0.9:967:espresso", b"0.03:968:cup"], object)


def compare(array, kind="FP32", **expected):
    return _expectations.compare([{"name": "O"} | expected], {"O": (kind, numpy.array(array))})


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ([1.0, 2.0], {"data": [1, 2], "shape": [2], "datatype": "FP32"}),
        (numpy.array([0.1], "float32"), {"data": [0.1]}),
        ([1.0009], {"data": [1], "tolerance": 0.001}),
        ([[1.0], [2.0]], {"data": [[1], [2]]}),
        ([float("nan"), float("inf")], {"data": [float("nan"), float("inf")]}),
        ([5.0], {}),
        ([101.0], {"data": [100], "relative": 0.01}),
    ],
)
def test_an_answer_within_the_tolerance_passes(array, expected):
    assert compare(array, **expected) == ""


@pytest.mark.parametrize(
    ("array", "datatype", "expected", "words"),
    [
        ([1, 7, 8], "INT32", {"data": [1, 2, 3]}, "O[1] is 7, expected 2 (tolerance 0); 2 of 3 values differ"),
        ([1.1], "FP32", {"data": [1], "tolerance": 0.05}, "O[0] is 1.1, expected 1 (tolerance 0.05)"),
        ([float("nan")], "FP32", {"data": [1], "tolerance": 9}, "O[0] is nan, expected 1"),
        ([2**53 + 1], "INT64", {"data": [2**53]}, "expected 9007199254740992"),
        ([1], "INT32", {"data": [1, 2]}, "O has 1 values, expected 2"),
        ([1], "INT32", {"shape": [1, 1]}, "O has the shape [1], expected [1, 1]"),
        ([1], "INT32", {"datatype": "INT64"}, "O has the data type INT32, expected INT64"),
        ([1], "INT32", {"data": ["cat"]}, "'cat' is not a value of type INT32"),
    ],
)
def test_a_difference_is_told_in_words(array, datatype, expected, words):
    assert words in compare(array, datatype, **expected)


def test_texts_and_missing_outputs():
    assert compare(numpy.array([b"cat"], object), "BYTES", data=["cat"]) == ""
    assert "O[0] is dog, expected cat" in compare(numpy.array([b"dog"], object), "BYTES", data=["cat"])
    assert _expectations.compare([{"name": "P"}], {"O": ("INT32", numpy.array([1]))}) == "output P is missing; the answer has O"


def test_the_sample_shows_the_first_expected_output():
    outputs = [{"name": "O"}]
    answer = {"A": ("INT32", numpy.array([9])), "O": ("INT32", numpy.arange(1, 9))}
    assert _expectations.sample(outputs, answer) == "O[0:3]=1 2 3"
    assert _expectations.sample(outputs, {"O": ("BYTES", numpy.array([b"x" * 30], object))}) == f"O[0:1]={'x' * 24}..."


def test_classes_are_read():
    assert _expectations.classes(TOP)[0] == {"value": 0.9, "index": 967, "label": "espresso"}
    assert _expectations.classes(numpy.array([b"1.5:3"], object)) == [{"value": 1.5, "index": 3, "label": ""}]


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ({"top": 2}, ""),
        ({"classes": [{"label": "espresso"}]}, ""),
        ({"classes": [{"index": 967, "value": 0.91}], "tolerance": 0.02}, ""),
        (
            {"classes": [{"index": 967, "value": 0.8}], "tolerance": 0.02},
            "O: place 1 is espresso (967, 0.9), expected index 967, value 0.8 (tolerance 0.02)",
        ),
        ({"classes": [{"label": "espresso"}, {"label": "mug"}]}, "O: place 2 is cup (968, 0.03), expected label mug"),
        ({"classes": 3 * [{"index": 1}]}, "O has 2 classes, expected 3"),
    ],
)
def test_classes_are_compared_in_their_order(expected, words):
    found = compare(TOP, "BYTES", **expected)
    assert words in found and bool(words) == bool(found)


def test_values_in_place_of_classes_are_told():
    assert "was not answered with classes" in compare([0.5], top=1) and "was not answered" in compare(numpy.array([b"x"], object), "BYTES", top=1)


def test_the_same_values_have_the_same_digest():
    first = {"A": ("INT32", numpy.array([1, 2])), "B": ("BYTES", numpy.array([b"x"], object))}
    assert _expectations.digest(first) == _expectations.digest(dict(reversed(first.items())))
    assert _expectations.digest(first) != _expectations.digest(first | {"A": ("INT32", numpy.array([1, 3]))})
