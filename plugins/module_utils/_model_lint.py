# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding out before an upload what would keep Triton from serving a tree of models. PRIVATE to the collection.

A further check is a further row of _model_rules.RULES. Before :func:`lint`, a module looks at _model_config.IMPORT_ERROR.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator

from ansible_collections.mlserving.triton.plugins.module_utils import _model_rules
from ansible_collections.mlserving.triton.plugins.module_utils._model_rules_view import ModelView, Repository
from ansible_collections.mlserving.triton.plugins.module_utils._model_tree import Tree

#: The worst first.
SEVERITIES = ("error", "warning", "info")


@dataclasses.dataclass(frozen=True)
class Finding:
    """``file`` is a path below the tree's root; ``line`` and ``column`` count from 1. ``message`` and ``cure`` are sentences."""

    file: str
    line: int | None
    column: int | None
    rule: str
    severity: str
    message: str
    cure: str

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)

    @property
    def place(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


def lint(tree: Tree) -> list[Finding]:
    """Return what is wrong with a tree, sorted by file, line and rule."""
    repository = Repository(tree)
    findings = set()
    for rule in _model_rules.RULES:
        for hit in _hits(rule, repository):
            findings.add(Finding(_shown(hit.file), hit.line, hit.column, rule.id, rule.severity, _shown(hit.message), _shown(hit.cure)))
    return sorted(findings, key=lambda finding: (finding.file, finding.line or 0, finding.rule, finding.column or 0, finding.message))


def _shown(text: str) -> str:
    """Return the text with bytes that are no UTF-8, which a file's name may have, written out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _hits(rule: _model_rules.Rule, repository: Repository) -> Iterator:
    if rule.of == _model_rules.TREE:
        yield from rule.function(repository)
        return
    for model in repository.models.values():
        if _applies(rule, model):
            yield from rule.function(model)


def _applies(rule: _model_rules.Rule, model: ModelView) -> bool:
    """A model whose configuration cannot be read gets that one finding, and what does not depend on it."""
    return model.is_known or rule.of == _model_rules.ANY_MODEL


def count(findings: list[Finding]) -> dict[str, int]:
    """Return severity -> number of findings, each severity present."""
    found = collections.Counter(finding.severity for finding in findings)
    return {severity: found[severity] for severity in SEVERITIES}


def worst(findings: list[Finding]) -> str | None:
    """Return the worst severity of the findings, None if there are none."""
    return min((finding.severity for finding in findings), key=SEVERITIES.index, default=None)


def failing(findings: list[Finding], strict: bool = False) -> list[Finding]:
    """Return the errors, and the warnings too if ``strict``."""
    fatal = SEVERITIES[:2] if strict else SEVERITIES[:1]
    return [finding for finding in findings if finding.severity in fatal]


def table(findings: list[Finding]) -> list[str]:
    """Return one aligned line for each finding, for people."""
    rows = [(finding.severity, finding.place, finding.rule, f"{finding.message} {finding.cure}") for finding in findings]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    return ["  ".join([*(text.ljust(width) for text, width in zip(row, widths)), row[3]]) for row in rows]
