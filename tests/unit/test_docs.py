# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What docs/ says of the code is what the code says."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import pathlib

from ansible_collections.mlserving.triton.plugins.module_utils._model_rules import RULES

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_every_rule_is_in_the_table():
    rows = [line for line in (DOCS / "model-repository.md").read_text(encoding="utf-8").partition("## The rules")[2].splitlines() if line.startswith("| `")]
    assert rows == [f"| `{rule.id}` | {rule.severity} | {rule.checks} |" for rule in RULES]


def test_the_variables_are_those_of_the_argument_specs():
    loader = importlib.machinery.SourceFileLoader("variables", str(ROOT / "tools" / "variables"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("variables", loader))
    loader.exec_module(module)
    assert (DOCS / "variables.md").read_text(encoding="utf-8") == module.page(), "docs/variables.md is not as the argument specs are: run make docs"


def test_the_schema_of_summaries_has_every_playbook():
    schema = json.loads((DOCS / "summary.schema.json").read_text(encoding="utf-8"))
    names = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
    assert sorted(schema["$defs"]) == sorted(schema["properties"]["playbook"]["enum"]) == names, "say in docs/summary.schema.json which facts each playbook has"
    assert sorted(entry["if"]["properties"]["playbook"]["const"] for entry in schema["allOf"]) == names
