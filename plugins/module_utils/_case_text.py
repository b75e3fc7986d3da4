# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a MODEL/verify.yml: a case in it, added or replaced, with everything else left as people wrote it. PRIVATE to the collection."""

from __future__ import annotations

import json
import textwrap

try:
    import yaml
except ImportError:
    yaml = None  # _cluster.from_module has ended the module with the pip line


class TextError(Exception):
    """The file cannot be read or edited; the text names it and says what to do."""


def parse(text: str, path: str) -> list[dict]:
    """Return the cases of a file's text; none for a file that is empty or only holds comments.

    :raises TextError: it is not a list of mappings
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise TextError(f"{path} cannot be read: {error}. Correct it.") from None
    if content is None:
        return []
    if not isinstance(content, list) or not all(isinstance(case, dict) for case in content):
        raise TextError(f"{path} must hold a list of cases, each with inputs and outputs. Correct it.")
    return content


def render(case: dict) -> str:
    """Return one case as an entry of a block list, with one line for each tensor."""
    lines = []
    for key, value in case.items():
        if isinstance(value, list):
            lines += [f"{key}:", *(f"  - {flow(entry)}" for entry in value)]
        else:
            lines.append(f"{key}: {json.dumps(value)}")
    return textwrap.indent("\n".join(lines), "  ", lambda _line: True).replace("  ", "- ", 1) + "\n"


def flow(value) -> str:
    """Return a value as YAML on a single line."""
    text = yaml.dump(value, Dumper=_dumper(), default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False)
    return text.removesuffix("...\n").strip()


def append(text: str, case: dict, path: str) -> str:
    """Return the text with the case at its end.

    :raises TextError: its list is not written so that an entry can be added
    """
    before = parse(text, path)
    end = "" if not text or text.endswith("\n") else "\n"
    column = yaml.compose(text, yaml.SafeLoader).start_mark.column if before else 0
    return _checked(text + _like(text, end + textwrap.indent(render(case), " " * column)), [*before, case], path)


def replace(text: str, number: int, case: dict, path: str) -> str:
    """Return the text with the case in place of the one of that number, from 0.

    :raises TextError: comments would be lost, or its list is not written so that an entry can be replaced
    """
    before = parse(text, path)
    begin, end = _span(text, number, len(before), path)
    column = begin - text.rfind("\n", 0, begin) - 1
    new = textwrap.indent(render(case), " " * column).strip(" \n")
    return _checked(text[:begin] + _like(text, new) + text[end:], [*before[:number], case, *before[number + 1 :]], path)


def _like(text: str, new: str) -> str:
    """Return the new lines with the line ends of the text."""
    return new.replace("\n", "\r\n") if "\r\n" in text else new


def _span(text: str, number: int, count: int, path: str) -> tuple[int, int]:
    """Return where an entry of the list begins, at its dash, and where its last line ends.

    :raises TextError: as :func:`replace`
    """
    tokens = list(yaml.scan(text, yaml.SafeLoader))
    column = yaml.compose(text, yaml.SafeLoader).start_mark.column
    dashes = [token.start_mark.index for token in tokens if isinstance(token, yaml.BlockEntryToken) and token.start_mark.column == column]
    if len(dashes) != count:
        raise _unfit(path)
    begin, limit = dashes[number], (dashes + [len(text)])[number + 1]
    ends = [token.end_mark.index for token in tokens if begin <= token.start_mark.index < token.end_mark.index <= limit]
    end = text.find("\n", max(ends) - 1)
    end = len(text) if end < 0 else end - (text[end - 1] == "\r")
    scalars = [token for token in tokens if isinstance(token, yaml.ScalarToken) and begin <= token.start_mark.index < end]
    place = begin
    for stop, after in [*((token.start_mark.index, token.end_mark.index) for token in scalars), (end, end)]:
        comment = text.find("#", place, stop)
        if comment >= 0:
            line = text.count("\n", 0, comment) + 1
            raise TextError(
                f"{path} has a comment in the case that would be replaced, at line {line}, which would be lost. "
                "Move the comment above the case, or delete the case, and record again."
            )
        place = after
    return begin, end


def _checked(text: str, cases: list[dict], path: str) -> str:
    """Return the text if it holds exactly these cases."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        raise _unfit(path) from None
    # As text, in which not-a-number is equal to itself.
    if flow(found) != flow(cases):
        raise _unfit(path)
    return text


def _unfit(path: str) -> TextError:
    return TextError(
        f"{path} is not a plain list with a dash before each case, so that it cannot be edited by itself. Write it so, or start a new file."
    )


def _dumper():
    """Return a dumper that repeats equal values in place of anchors, and keeps every text on its line."""

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data):
            return True

    def text(dumper, value):
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"')

    Dumper.add_representer(str, text)
    return Dumper
