# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import pathlib
import re

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _model_lint, _model_rules, _model_tree

EXAMPLES = pathlib.Path(__file__).parents[4] / "examples"
FAMILIES = sorted({rule.family for rule in _model_rules.RULES})
CONFIG = """
name: "m"
backend: "python"
max_batch_size: 8
input [ { name: "INPUT" data_type: TYPE_FP32 dims: [ 4, -1 ] reshape { shape: [ -1 ] } } ]
output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" } ]
version_policy { specific { versions: [ 1 ] } }
dynamic_batching { preferred_batch_size: [ 4 ] }
ensemble_scheduling {
  step [ { model_name: "m" model_version: 1 input_map { key: "INPUT" value: "INPUT" } output_map { key: "OUTPUT" value: "OUTPUT" } } ]
}
"""


def finding(severity="error", file="m/config.pbtxt", line=3, column=1, rule="config-name") -> _model_lint.Finding:
    return _model_lint.Finding(file, line, column, rule, severity, "It is wrong.", "Correct it.")


def lint(source) -> list:
    return _model_lint.lint(_model_tree.read(str(source)))


def test_the_good_example_has_no_finding():
    assert lint(EXAMPLES / "models") == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_broken_example_has_the_findings_of_its_family(family):
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", (EXAMPLES / "broken" / "README.md").read_text(), re.MULTILINE)
    expected = dict(rows)[family]
    findings = lint(EXAMPLES / "broken" / family)
    families = {rule.id: rule.family for rule in _model_rules.RULES}
    assert sorted({finding.rule for finding in findings}) == sorted(re.findall(r"`([\w-]+)`", expected))
    assert {families[finding.rule] for finding in findings} == {family}


def test_a_finding_leads_to_its_place(tmp_path):
    (tmp_path / "m/1").mkdir(parents=True)
    (tmp_path / "m/1/model.py").write_text("auto_complete_config")
    (tmp_path / "m/config.pbtxt").write_text('backend: "python"\nname: "other"\n')
    (found,) = lint(tmp_path)
    assert found.as_dict() == {
        "file": "m/config.pbtxt",
        "line": 2,
        "column": 1,
        "rule": "config-name",
        "severity": "error",
        "message": "The configuration names the model 'other' and its directory is m; Triton refuses a model whose two names differ.",
        "cure": 'Write name: "m" in m/config.pbtxt, or remove the line.',
    }


def test_a_configuration_that_does_not_parse_is_one_finding(tmp_path):
    for model in ("m", "n"):
        (tmp_path / model).mkdir()
    (tmp_path / "m/config.pbtxt").write_text("input [")
    (tmp_path / "n/config.pbtxt").symlink_to("nowhere")
    (tmp_path / "m/extra.bin").write_text("x")
    assert [(found.file, found.rule) for found in lint(tmp_path)] == [("m/config.pbtxt", "config-syntax"), ("n/config.pbtxt", "link-dangling")]


def test_findings_are_sorted_by_file_line_and_rule(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/config.pbtxt").write_text('max_batch_size: -1\nname: "other"\nplatform: "none"\n')
    places = [(found.file, found.line, found.rule) for found in lint(tmp_path)]
    assert places == sorted(places, key=lambda place: (place[0], place[1] or 0, place[2])) and len(places) == 4


def test_a_name_that_is_no_text_can_be_shown(tmp_path):
    (tmp_path / "m/1").mkdir(parents=True)
    (tmp_path / "m/1/model.py").write_text("auto_complete_config")
    (tmp_path / "m/1" / b"\xff\xfe".decode(errors="surrogateescape")).write_text("x")
    (found,) = lint(tmp_path)
    assert found.rule == "name-not-addressable" and "".join(map(str, found.as_dict().values())).encode()


def test_no_rule_fails_on_odd_configurations(tmp_path):
    model = tmp_path / "m"
    (model / "1").mkdir(parents=True)
    lines = CONFIG.strip().splitlines()
    pieces = [lines[:end] for end in range(len(lines))] + list(itertools.combinations(lines[1:6] + ["\n".join(lines[7:])], 3))
    values = [
        CONFIG.replace(good, odd) for good, odd in (("4", "99999999999"), ('"m"', '""'), ("[ 4", "[ 0"), ('"INPUT"', '"\\303\\277"'), ("1", "-1"))
    ]
    for text in ["\n".join(piece) for piece in pieces] + values:
        (model / "config.pbtxt").write_text(text)
        assert all(found.message and found.cure and found.file for found in lint(tmp_path))


def test_counts_and_judges():
    findings = [finding("info"), finding("warning"), finding("error"), finding("error")]
    assert _model_lint.count(findings) == {"error": 2, "warning": 1, "info": 1}
    assert [_model_lint.worst(some) for some in (findings, findings[:2], findings[:1], [])] == ["error", "warning", "info", None]
    assert _model_lint.failing(findings) == findings[2:]
    assert _model_lint.failing(findings, strict=True) == findings[1:]


def test_the_table_has_an_aligned_line_for_each_finding():
    findings = [finding(), finding("warning", "labels.txt", None, None, "stray-file")]
    assert _model_lint.table(findings) == [
        "error    m/config.pbtxt:3:1  config-name  It is wrong. Correct it.",
        "warning  labels.txt          stray-file   It is wrong. Correct it.",
    ]
    assert _model_lint.table([]) == []
