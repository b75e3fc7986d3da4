# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What docs/ says of the code is what the code says."""

from __future__ import annotations

import pathlib

from ansible_collections.mlserving.triton.plugins.module_utils._model_rules import RULES

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def test_every_rule_is_in_the_table():
    rows = [line for line in (DOCS / "model-repository.md").read_text(encoding="utf-8").partition("## The rules")[2].splitlines() if line.startswith("| `")]
    assert rows == [f"| `{rule.id}` | {rule.severity} | {rule.checks} |" for rule in RULES]
