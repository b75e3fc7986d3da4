# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a playbook says at its end, for people and for machines. PRIVATE to the collection."""

from __future__ import annotations

import os
import pathlib
import re
import tempfile
from collections.abc import Mapping

COMMAND = re.compile(r"(?:Next:?)?\s+(ansible-playbook .+|make .+)")


def next_commands(text: str) -> list[str]:
    """Return the commands of the lines from the one that begins with Next to the end.

    >>> next_commands("done\\nNext  ansible-playbook a.yml\\n      ansible-playbook b.yml")
    ['ansible-playbook a.yml', 'ansible-playbook b.yml']
    """
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith("Next")), len(lines))
    return [match[1].strip() for line in lines[start:] if (match := COMMAND.match(line))]


def build(playbook: str, host: str, check_mode: bool, text: str, facts: Mapping, assumed: Mapping) -> dict:
    """Return the summary as docs/summary.schema.json describes it."""
    return {
        "playbook": playbook,
        "host": host,
        "check_mode": check_mode,
        "facts": dict(facts),
        "assumed": dict(assumed),
        "next": next_commands(text),
        "text": text.strip().splitlines(),
    }


def path_for(path: str, host: str, alone: bool) -> pathlib.Path:
    """Return the file of a host; hosts do not write over each other's."""
    file = pathlib.Path(path).expanduser()
    return file if alone else file.with_name(f"{file.stem}-{host}{file.suffix}")


def write(path: pathlib.Path, text: str) -> None:
    """Write a file whole, or not at all.

    :raises OSError: it cannot be written
    """
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(scratch, 0o644)
    os.replace(scratch, path)
