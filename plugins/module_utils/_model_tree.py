# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local tree of models: which files Triton needs of it, and what would keep Triton from serving it.

PRIVATE to the collection. A further check is a further entry of RULES.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re

CONFIG = "config.pbtxt"
#: Golden cases of a model, read by the collection and of no use to Triton.
NOT_UPLOADED = "verify.yml"
#: Path elements that Triton can address on a store with its own endpoint.
ADDRESSABLE = re.compile(r"[0-9a-zA-Z._-]+")
VERSION = re.compile(r"[0-9]+")
ENSEMBLE = re.compile(r'^\s*(ensemble_scheduling\b|platform\s*:\s*"ensemble")', re.MULTILINE)


class TreeError(Exception):
    """The tree cannot be served. The text lists everything that was found."""


@dataclasses.dataclass(frozen=True)
class File:
    """One file. ``name`` is its path below the tree's root with slashes, such as simple/1/model.py; ``size`` is in bytes."""

    name: str
    path: pathlib.Path
    size: int


@dataclasses.dataclass(frozen=True)
class Model:
    """One directory of the tree's root. ``versions`` maps each numeric subdirectory to how many files it holds."""

    name: str
    files: tuple[File, ...]
    versions: dict[str, int]
    has_config: bool
    is_ensemble: bool


@dataclasses.dataclass(frozen=True)
class Tree:
    models: tuple[Model, ...]
    warnings: tuple[str, ...]

    @property
    def files(self) -> list[File]:
        return [file for model in self.models for file in model.files]


def is_ignored(name: str) -> bool:
    """Return whether a file or directory of this name is no part of a model."""
    return name.startswith(".") or name == "__pycache__" or name.endswith(".pyc")


def model_names(source: str) -> list[str]:
    """Return the names of the model directories in ``source``, sorted, without looking into them.

    :raises TreeError: there is no such directory, or none in it
    """
    root = pathlib.Path(source)
    if not root.exists():
        raise TreeError(f"source {source} does not exist on the controller. Give the directory that holds the model directories.")
    if not root.is_dir():
        raise TreeError(f"source {source} is not a directory. Give the directory that holds the model directories.")
    try:
        names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not is_ignored(entry.name))
    except OSError as error:
        raise TreeError(f"source {source} cannot be read: {error.strerror}.") from None
    if not names:
        raise TreeError(f"source {source} holds no model directory. Expected: MODEL/config.pbtxt and MODEL/1/FILE.")
    return names


def read(source: str) -> Tree:
    """Return the models below ``source``; files beside the model directories are not part of it.

    :raises TreeError: something in it cannot be served, or cannot be read
    """
    root = pathlib.Path(source)
    models, problems, warnings = [], [], []
    for name in model_names(source):
        try:
            models.append(_model(root, name))
        except OSError as error:
            problems.append(f"{error.filename}: cannot be read: {error.strerror}")
    for model in models:
        for rule in RULES:
            for text in rule(model):
                (warnings if rule in ADVISORY else problems).append(text)
    if problems:
        listed = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise TreeError(f"Triton could not serve {source}: {listed}. Nothing was transferred.")
    return Tree(tuple(models), tuple(warnings))


def _model(root: pathlib.Path, name: str) -> Model:
    directory = root / name
    files = tuple(
        File(path.relative_to(root).as_posix(), path, path.stat().st_size)
        for path in _walk(directory, (directory.resolve(),))
        if path != directory / NOT_UPLOADED
    )
    versions = {entry.name: 0 for entry in sorted(directory.iterdir()) if entry.is_dir() and VERSION.fullmatch(entry.name)}
    for file in files:
        version = file.name.split("/")[1]
        if version in versions:
            versions[version] += 1
    config = directory / CONFIG
    text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
    return Model(name, files, versions, config.is_file(), bool(ENSEMBLE.search(text)))


def _walk(directory: pathlib.Path, above: tuple[pathlib.Path, ...]):
    """Yield the files below a directory. Links are followed, since an object store has none; a loop of them is an OSError."""
    for entry in sorted(directory.iterdir()):
        if is_ignored(entry.name):
            continue
        if not entry.is_dir():
            yield entry
            continue
        target = entry.resolve()
        if target in above:
            raise OSError(0, "the link leads back to a directory above it", str(entry))
        yield from _walk(entry, (*above, target))


def _has_something_to_serve(model: Model):
    if not model.has_config and not any(model.versions.values()):
        yield f"{model.name}: neither {CONFIG} nor a version directory with files, such as {model.name}/1/. Remove what is no model"


def _has_a_version(model: Model):
    if model.has_config and not model.versions and not model.is_ensemble:
        yield f"{model.name}: no version directory. Put the model's files into {model.name}/1/"


def _versions_hold_files(model: Model):
    for version, count in model.versions.items():
        if not count and not model.is_ensemble:
            yield f"{model.name}/{version}: the version directory is empty. Put the model's files into it, or remove it"


def _versions_are_seen(model: Model):
    for version in model.versions:
        if version.startswith("0"):
            yield f"{model.name}/{version}: Triton ignores version directories that start with 0. Rename it, such as to {version.lstrip('0') or '1'}"


def _names_are_addressable(model: Model):
    for file in model.files:
        if not all(ADDRESSABLE.fullmatch(element) for element in file.name.split("/")):
            yield f"{file.name}: Triton can address only letters, digits, '.', '_' and '-' in names. Rename it"


def _is_regular(model: Model):
    for file in model.files:
        if not file.path.is_file():
            yield f"{file.name}: is not a regular file. Remove it"
        elif not os.access(file.path, os.R_OK):
            yield f"{file.name}: cannot be read by this user"


def _ensemble_has_a_version(model: Model):
    if model.is_ensemble and not any(model.versions.values()):
        yield (
            f"{model.name}: an object store has no empty directories, so the ensemble's version directory will not be there. "
            f"Put any file into it, such as {model.name}/1/README"
        )


#: Each takes a Model and yields what is wrong with it. Those in ADVISORY only warn.
RULES = (
    _has_something_to_serve,
    _has_a_version,
    _versions_hold_files,
    _versions_are_seen,
    _names_are_addressable,
    _is_regular,
    _ensemble_has_a_version,
)
ADVISORY = (_ensemble_has_a_version,)
