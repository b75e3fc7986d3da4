# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the cases that lie beside the models, MODEL/verify.yml. PRIVATE to the collection."""

from __future__ import annotations

import os

try:
    import yaml
except ImportError:
    yaml = None  # _cluster.from_module has ended the module with the pip line

FILE = "verify.yml"


class SourceError(Exception):
    """A file of cases cannot be used; the text names it."""


def read(folder: str) -> list[tuple[str, dict]]:
    """Return (folder of the model, case) of all models in the folder, each with its model's name, as the option ``cases`` takes them.

    :raises SourceError: no such folder, or a file is not a list of mappings
    """
    if not os.path.isdir(folder):
        raise SourceError(f"source is {folder}, which is not a folder of models.")
    cases = []
    for model in sorted(os.listdir(folder)):
        path = os.path.join(folder, model, FILE)
        if os.path.exists(path):
            cases += [(os.path.join(folder, model), {"model": model, **case}) for case in _read(path)]
    return cases


def _read(path: str) -> list[dict]:
    try:
        with open(path, encoding="utf-8") as stream:
            content = yaml.safe_load(stream)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, list) or not all(isinstance(case, dict) for case in content):
        raise SourceError(f"{path} must hold a list of cases, each with inputs and outputs.")
    return content
