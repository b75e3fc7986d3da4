# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules on the names of files and on files that cannot be uploaded. The table is _model_rules.RULES. PRIVATE to the collection."""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterator

from ansible_collections.mlserving.triton.plugins.module_utils._model_rules_view import Hit, ModelView, Repository

#: core src/filesystem/implementations/s3.h: the path elements of a URL with an endpoint.
ADDRESSABLE = re.compile(r"[0-9a-zA-Z._-]+")
#: S3 allows 1024 bytes for prefix and name together; this leaves 128 for the prefix.
LONGEST_NAME = 1024 - 128


def names_are_addressable(model: ModelView) -> Iterator[Hit]:
    for path in sorted({path for file in model.model.files if (path := _unaddressable(file.name))}):
        element = path.rpartition("/")[2]
        odd = "".join(dict.fromkeys(re.sub(ADDRESSABLE, "", element)))
        yield Hit(
            path,
            f"Triton can address only letters, digits, '.', '_' and '-' in the names of a store with an endpoint; {path} has {odd!a}.",
            "Rename it.",
        )


def _unaddressable(name: str) -> str | None:
    """Return the path up to the first element that Triton cannot address."""
    if ADDRESSABLE.fullmatch(name.replace("/", "")):
        return None
    elements = name.split("/")
    wrong = next(index for index, element in enumerate(elements) if not ADDRESSABLE.fullmatch(element))
    return "/".join(elements[: wrong + 1])


def names_are_short(model: ModelView) -> Iterator[Hit]:
    for file in model.model.files:
        length = len(file.name.encode(errors="surrogateescape")) if len(file.name) * 4 > LONGEST_NAME else 0
        if length > LONGEST_NAME:
            yield Hit(
                file.name,
                f"The path has {length} bytes; an object's name may have 1024 with its prefix, which leaves {LONGEST_NAME} here.",
                "Shorten the names of its directories.",
            )


def names_differ_by_more_than_case(repository: Repository) -> Iterator[Hit]:
    alike = collections.defaultdict(list)
    for name in repository.models:
        alike[name.casefold()].append(name)
    for names in alike.values():
        for name in names[1:]:
            yield Hit(
                name,
                f"The models {names[0]} and {name} differ only in case: clients mix them up, and many file systems cannot hold both.",
                "Rename one of them.",
            )


def _problems(kind: str, message: str, cure: str) -> Callable[[Repository], Iterator[Hit]]:
    """Return a rule that finds the tree's problems of a kind."""

    def rule(repository: Repository) -> Iterator[Hit]:
        for problem in repository.tree.problems:
            if problem.kind == kind:
                yield Hit(problem.name, message.format(name=problem.name, detail=problem.detail), cure.format(name=problem.name, detail=problem.detail))

    return rule


is_readable = _problems("unreadable", "{name} cannot be read: {detail}.", "Give the user that runs this the right to read it.")
link_leads_somewhere = _problems("dangling", "The link {name} leads to {detail}, which does not exist.", "Restore its target, or remove the link.")
link_is_no_loop = _problems("loop", "The link {name} never ends: {detail}.", "Remove the link.")
link_stays_inside = _problems(
    "external",
    "The link {name} leads out of the source, to {detail}, which may not be meant to be published.",
    "Copy its target into the source, or allow links out of it with follow_external_links.",
)
is_regular = _problems("special", "{name} is {detail}, which cannot be uploaded.", "Remove it, or put a regular file in its place.")
