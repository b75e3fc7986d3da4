# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import json

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _expectations, _json

EXACT = _expectations.Tolerance(0.0, 0.0)
CHAT = {"choices": [{"index": 0, "text": "4", "score": 0.5}], "model": "m", "usage": None}


@pytest.mark.parametrize(
    "expected",
    [
        {},
        {"model": "m"},
        {"choices": [{"text": "4"}], "usage": None},
        {"choices": [{"index": 0.0, "score": 0.5}]},
    ],
)
def test_what_is_expected_must_be_there_and_more_may_be(expected):
    assert _json.mismatch(expected, json.dumps(CHAT), EXACT) == ""


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ({"id": 1}, "has no $.id; $ has choices, model, usage"),
        ({"choices": []}, "has 1 entries at $.choices, expected 0"),
        ({"choices": [{"index": 2}]}, "has 0 at $.choices[0].index, expected 2 (tolerance 0)"),
        ({"choices": [{"text": 4}]}, 'has "4" at $.choices[0].text, expected 4'),
        ({"usage": {}}, "has null at $.usage, expected {}"),
        ({"usage": False}, "has null at $.usage, expected false"),
        ([], "at $, expected []"),
    ],
)
def test_a_difference_is_told_with_its_place(expected, words):
    assert words in _json.mismatch(expected, json.dumps(CHAT), EXACT)


@pytest.mark.parametrize(
    ("expected", "got", "tolerance", "same"),
    [
        (1, "1.0", EXACT, True),
        (1, "true", EXACT, False),
        (True, "1", EXACT, False),
        (1.0, "1.05", _expectations.Tolerance(0.1, 0.0), True),
        (100, "101", _expectations.Tolerance(0.0, 0.01), True),
        (100, "102", _expectations.Tolerance(0.0, 0.01), False),
        (2**63 - 1, str(2**63 - 2), EXACT, False),
        (1.5, "1" + 400 * "0", EXACT, False),
        (1, "1" + 400 * "0", _expectations.Tolerance(0.1, 0.0), False),
        (float("inf"), "Infinity", EXACT, True),
        (float("nan"), "NaN", EXACT, True),
        (1.0, "NaN", _expectations.Tolerance(9.0, 0.0), False),
    ],
)
def test_numbers_may_differ_by_the_tolerance(expected, got, tolerance, same):
    assert (_json.mismatch(expected, got, tolerance) == "") is same


@pytest.mark.parametrize("text", ["", "{", "cat", "[" * 100_000, "9" * 5000])
def test_a_text_that_is_no_json_is_shown_by_its_begin(text):
    assert _json.mismatch({}, text, EXACT) == f"is no JSON: {text if len(text) <= 60 else text[:60] + '...'}"


def test_long_values_are_cut():
    assert len(_json.mismatch("x", json.dumps("y" * 1000), EXACT)) < 150


def test_a_value_that_json_lacks_is_shown_too():
    assert _json.mismatch({"day": datetime.date(2026, 1, 2)}, '{"day": "2026-01-02"}', EXACT).startswith(
        'has "2026-01-02" at $.day, expected "2026-01-02"'
    )
