# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ml_dtypes
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


BRAIN = ml_dtypes.bfloat16
MOST = 2**63 - 1


@pytest.mark.parametrize(
    ("array", "kind", "data"),
    [
        (numpy.array([-MOST - 1, MOST]), "INT64", [-MOST - 1, MOST]),
        (numpy.array([-MOST - 1, MOST]), "INT64", [str(-MOST - 1), str(MOST)]),
        (numpy.array([-MOST - 1, MOST]), "INT64", numpy.array([-MOST - 1, MOST])),
        (numpy.array([2**64 - 1], "uint64"), "UINT64", [2**64 - 1]),
        (numpy.array([1, 2], "int32"), "INT32", numpy.array([1.0, 2.0])),
        (numpy.array([0.1, 2], BRAIN), "BF16", [0.1, 2]),
        (numpy.array([0.1, 2], BRAIN), "BF16", numpy.array([0.1, 2])),
        (numpy.array([0.1, 2], BRAIN).astype("float32"), "BF16", [0.1, 2]),
        (numpy.array([3.4e38, -numpy.inf, numpy.nan], BRAIN), "BF16", [3.4e38, float("-inf"), float("nan")]),
        (numpy.array([0.1], "float16"), "FP16", [0.1]),
        (numpy.array([0.1], "float32"), "FP32", numpy.array([0.1])),
        (numpy.array([numpy.nan]), "FP64", numpy.array([numpy.nan])),
        (numpy.array([True, False]), "BOOL", numpy.array([1, 0])),
        (numpy.array([b"\xff\0"], object), "BYTES", numpy.array([b"\xff\0"], object)),
        (numpy.array([], "int32"), "INT32", []),
        (numpy.array([], "float32"), "FP32", numpy.array([], "float32")),
        (numpy.array([], object), "BYTES", []),
        (numpy.array(1.5, "float32"), "FP32", [1.5]),
    ],
)
def test_every_type_is_compared_as_its_own_values(array, kind, data):
    assert compare(array, kind, data=data) == ""


@pytest.mark.parametrize(
    ("array", "kind", "expected", "words"),
    [
        ([-MOST - 1], "INT64", {"data": [MOST], "tolerance": 1}, "O[0] is -9223372036854775808, expected 9223372036854775807"),
        ([MOST], "INT64", {"data": [MOST - 1]}, "expected 9223372036854775806 (tolerance 0); 1 of 1 values differ"),
        ([1], "INT64", {"data": [10**400], "relative": 0.1}, "O[0] is 1, expected 1000"),
        ([1.0], "FP32", {"data": [10**400]}, "a value does not fit into FP32"),
        (numpy.array([0.5], BRAIN), "BF16", {"data": [0.504]}, "O[0] is 0.5, expected 0.504"),
        ([1], "INT32", {"data": numpy.array([1.5])}, "O is INT32, the expected values in its file are float64"),
        ([1.0], "FP32", {"data": numpy.array(["1"])}, "O is FP32, the expected values in its file are <U1"),
        ([1], "INT8", {"data": numpy.array([300])}, "O is INT8, the expected values in its file are int64"),
        ([1, 2], "INT32", {"data": numpy.array([[1], [2], [3]])}, "O has 2 values, expected 3"),
        ([], "INT32", {"data": [1]}, "O has 0 values, expected 1"),
        (numpy.array([b"\xff"], object), "BYTES", {"data": ["x"]}, "O[0] is \ufffd, expected x"),
    ],
)
def test_a_difference_at_the_edge_of_a_type_is_told(array, kind, expected, words):
    assert words in compare(array, kind, **expected)


@pytest.mark.parametrize(
    ("array", "kind", "words"),
    [
        ([1.0, numpy.nan], "FP32", "O[1] is nan, expected a finite number"),
        ([-numpy.inf], "FP64", "O[0] is -inf, expected a finite number"),
        (numpy.array([1, numpy.inf], BRAIN), "BF16", "O[1] is inf, expected a finite number"),
        (numpy.array([65504], "float16"), "FP16", ""),
        (numpy.array([], "float32"), "FP32", ""),
        ([1], "INT32", ""),
    ],
)
def test_finite_means_neither_nan_nor_infinite(array, kind, words):
    assert compare(array, kind, finite=True) == words


@pytest.mark.parametrize(
    ("texts", "expected", "words"),
    [
        ([b"a cat sat"], {"pattern": "c.t"}, ""),
        ([b"cat", b"dog"], {"pattern": "^cat$"}, "O[1] is dog, expected a text in which ^cat$ is found"),
        ([b"\xff"], {"pattern": "x"}, "O[0] is \ufffd, expected a text"),
        ([], {"pattern": "x"}, ""),
        ([b'{"a": 1}'], {"contains": {"a": 1}}, ""),
        ([b'{"a": 1.4}'], {"contains": {"a": 1}, "tolerance": 0.5}, ""),
        ([b'{"a": 2}'], {"contains": {"a": 1}}, "O[0] has 2 at $.a, expected 1"),
        ([b"0"], {"contains": False}, "O[0] has 0 at $, expected false"),
        ([b'{"a": 1}'], {"contains": {"a": 1}, "pattern": "b"}, "expected a text in which b is found"),
    ],
)
def test_texts_are_held_against_a_pattern_and_a_structure(texts, expected, words):
    found = compare(numpy.array(texts, object), "BYTES", **expected)
    assert words in found and bool(words) == bool(found)


def test_a_pattern_is_for_texts_only():
    assert compare([1.0], pattern="1") == "O has the data type FP32, expected BYTES, which alone holds texts"


def answers(*values):
    return [{"O": ("INT32", numpy.array([value]))} for value in values]


def responses(*values):
    return [{"outputs": [{"name": "O", "data": [value]}]} for value in values]


@pytest.mark.parametrize(
    ("outputs", "expected", "got", "words"),
    [
        ([], responses(1, 2), answers(1, 2), ""),
        ([], responses(1, 2), answers(1, 3), "response 2 of 2: O[0] is 3, expected 2"),
        ([], responses(1, 2), answers(1), "the stream had 1 response, expected 2"),
        ([], [{"outputs": None}], answers(1), ""),
        ([{"name": "O", "shape": [1]}], None, answers(1, 2, 3), ""),
        ([{"name": "O", "data": [1]}], None, answers(1, 1, 2), "response 3 of 3: O[0] is 2, expected 1"),
        ([], None, [], "the stream ended without a response"),
    ],
)
def test_each_response_of_a_stream_is_compared(outputs, expected, got, words):
    found = _expectations.compare_each(outputs, expected, got)
    assert words in found and bool(words) == bool(found)
