# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verification needs of a folder of models, without the models: configurations, golden cases and names of versions. PRIVATE to the collection.

An outline maps each path, relative to the folder, to the file's content in base64, or to None for a folder.
"""

from __future__ import annotations

import base64
import os
import pathlib

from ansible_collections.mlserving.triton.plugins.module_utils import _cases, _model_tree


class OutlineError(Exception):
    """The folder cannot be read, or an outline cannot be written; the text says why."""


def read(source: str) -> dict[str, str | None]:
    """Return the outline of a folder of models, or of no folder.

    :raises OutlineError: the folder, or a file that a case names, cannot be read
    """
    if not source:
        return {}
    outline: dict[str, str | None] = {}
    try:
        for model in _model_tree.model_names(source):
            versions = [
                entry.name for entry in os.scandir(os.path.join(source, model)) if entry.is_dir() and _model_tree.VERSION.fullmatch(entry.name)
            ]
            outline |= {f"{model}/{version}": None for version in versions}
        outline |= {name: base64.b64encode(pathlib.Path(source, name).read_bytes()).decode() for name in _files(source)}
    except (_cases.SourceError, _model_tree.TreeError, OSError) as error:
        raise OutlineError(f"{source} cannot be kept with the release: {error}") from None
    return dict(sorted(outline.items()))


def _files(source: str) -> set[str]:
    names = {f"{model}/{file}" for model in _model_tree.model_names(source) for file in (_model_tree.CONFIG, _cases.FILE)}
    for folder, case in _cases.read(source):
        names |= {os.path.relpath(os.path.join(folder, file), source) for file in _named(case)}
    # What a case names outside the folder is not there wherever the outline is written.
    return {name for name in names if not name.startswith("..") and os.path.isfile(os.path.join(source, name))}


def _named(part: object) -> list[str]:
    """Return the value of each key ``file`` in a case."""
    if isinstance(part, dict):
        own = [part["file"]] if isinstance(part.get("file"), str) else []
        return own + [file for value in part.values() for file in _named(value)]
    return [file for value in part for file in _named(value)] if isinstance(part, list) else []


def write(outline: dict[str, str | None], folder: str) -> None:
    """Write an outline below a folder.

    :raises OutlineError: it leads out of the folder, or the folder cannot be written
    """
    try:
        for name, content in outline.items():
            path = pathlib.Path(folder, name)
            if os.path.isabs(name) or ".." in pathlib.PurePath(name).parts:
                raise OutlineError(f"the path {name!r} leads out of {folder}.")
            (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_bytes(base64.b64decode(content))
    except (OSError, ValueError) as error:
        raise OutlineError(f"the golden cases that were kept cannot be written below {folder}: {error}") from None
