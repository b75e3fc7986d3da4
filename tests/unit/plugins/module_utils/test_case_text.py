# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import math

import pytest
import yaml

from ansible_collections.mlserving.triton.plugins.module_utils import _case_text

PATH = "models/m/verify.yml"
CASE = {
    "version": "1",
    "inputs": [{"name": "I", "datatype": "FP32", "shape": [2], "fill": "random", "seed": 0}],
    "outputs": [{"name": "O", "shape": [2], "data": [0.5, 1e-05], "relative": 0.001}],
}
TEXT = """\
- version: "1"
  inputs:
    - {name: I, datatype: FP32, shape: [2], fill: random, seed: 0}
  outputs:
    - {name: O, shape: [2], data: [0.5, 1.0e-05], relative: 0.001}
"""


def refusal(function, *arguments):
    with pytest.raises(_case_text.TextError) as raised:
        function(*arguments)
    return str(raised.value)


def test_each_tensor_has_a_line():
    assert _case_text.render(CASE) == TEXT


@pytest.mark.parametrize(
    "value",
    [
        "yes",
        "1.0",
        "null",
        "",
        "a: b, [c] # d",
        "two\nlines",
        "\ttab\x00\x7f",
        "é ✓ 😀 \u2028",
        "x" * 500 + " y",
        math.inf,
        -math.inf,
        1e300,
        5e-324,
        True,
        2**64 - 1,
    ],
)
def test_every_value_stands_on_one_line_and_comes_back(value):
    text = _case_text.render({"inputs": [], "outputs": [{"data": [value]}]})
    assert text.count("\n") == 4 - (1) and yaml.safe_load(text)[0]["outputs"][0]["data"] == [value]
    assert type(yaml.safe_load(text)[0]["outputs"][0]["data"][0]) is type(value)


def test_not_a_number_can_be_appended():
    text = _case_text.append("", {"outputs": [{"data": [math.nan]}]}, PATH)
    assert math.isnan(yaml.safe_load(text)[0]["outputs"][0]["data"][0])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# Only a word.\n",
        "# Why.\n- inputs: [{fill: ones}]  # here\n# The end.\n",
        "- inputs: [{fill: ones}]",
        "---\n  - inputs:\n    - fill: ones\n",
    ],
)
def test_a_case_is_appended_and_the_rest_stays(text):
    before = yaml.safe_load(text) or []
    after = _case_text.append(text, CASE, PATH)
    assert after.startswith(text) and yaml.safe_load(after) == [*before, CASE]


def test_line_ends_stay():
    after = _case_text.append("- inputs: [1]\r\n- inputs: [2]\r\n", CASE, PATH)
    assert after.count("\r\n") == after.count("\n") == 7
    replaced = _case_text.replace(after, 0, CASE, PATH)
    assert replaced.count("\r\n") == replaced.count("\n") == 11


@pytest.mark.parametrize("text", ["[{inputs: []}]", "[]", "- inputs: []\n...\n"])
def test_a_list_that_is_written_otherwise_is_refused(text):
    assert "cannot be edited by itself" in refusal(_case_text.append, text, CASE, PATH)


@pytest.mark.parametrize("text", ["inputs: []", "- 1", "text"])
def test_a_file_that_is_no_list_of_cases_is_refused(text):
    assert refusal(_case_text.append, text, CASE, PATH) == f"{PATH} must hold a list of cases, each with inputs and outputs. Correct it."
    assert "cannot be read" in refusal(_case_text.parse, "- [", PATH)


THREE = """\
# Above all.

# The first.
- inputs: [{fill: ones}]
# The second.
- inputs:
  - fill: zeros
    name: "a # b"
  outputs:
  - name: O

# The third.
- inputs: [{fill: random}]   # odd
# The end.
"""


def test_a_case_is_replaced_between_comments():
    after = _case_text.replace(THREE, 1, CASE, PATH)
    head, tail = THREE.partition("- inputs:\n")[0], THREE.partition("  - name: O\n")[2]
    assert after == head + TEXT + tail
    assert [case["inputs"] for case in yaml.safe_load(after)] == [[{"fill": "ones"}], CASE["inputs"], [{"fill": "random"}]]


def test_the_first_and_the_last_case_are_replaced():
    text = "  - {inputs: [1]}\n  - {inputs: [2]}"
    assert yaml.safe_load(_case_text.replace(text, 0, CASE, PATH)) == [CASE, {"inputs": [2]}]
    assert yaml.safe_load(_case_text.replace(text, 1, CASE, PATH)) == [{"inputs": [1]}, CASE]


def test_a_comment_within_the_case_is_not_lost():
    message = refusal(_case_text.replace, THREE, 2, CASE, PATH)
    assert f"{PATH} has a comment in the case that would be replaced, at line 13" in message
    assert "at line 2," in refusal(_case_text.replace, "- inputs:\n  # why\n  - fill: ones\n", 0, CASE, PATH)


def test_a_case_that_another_one_refers_to_is_not_replaced():
    assert "cannot be edited by itself" in refusal(_case_text.replace, "- inputs: &same [1]\n- inputs: *same\n", 0, CASE, PATH)
    assert "cannot be edited by itself" in refusal(_case_text.replace, "[{inputs: []}]", 0, CASE, PATH)
