# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local tree of models: which files it holds, and what of it could not be read.

PRIVATE to the collection. This reads and judges nothing; what would keep Triton from serving a tree stands in _model_rules.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import pathlib
import re
import stat

CONFIG = "config.pbtxt"
#: Golden cases of a model, read by the collection and of no use to Triton.
NOT_UPLOADED = "verify.yml"
VERSION = re.compile(r"[0-9]+")
#: Uploaded in place of an empty version directory, since an object store has no empty directories.
MARKER = ".keep"
MARKER_CONTENT = b"Keeps this directory, which would be empty otherwise.\n"


class TreeError(Exception):
    """The tree as a whole cannot be read. The text says why."""


@dataclasses.dataclass(frozen=True)
class File:
    """One file. ``name`` is its path below the tree's root with slashes, such as simple/1/model.py; ``size`` is in bytes.

    ``identity`` is device, inode, mtime_ns and ctime_ns. A marker has ``content`` instead of a path and an identity.
    """

    name: str
    path: pathlib.Path | None
    size: int
    identity: tuple[int, int, int, int] | None
    content: bytes | None = None


@dataclasses.dataclass(frozen=True)
class Problem:
    """What the walk met at ``name``. ``kind``: unreadable, dangling, loop, external or special; ``detail`` completes a sentence."""

    name: str
    kind: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Model:
    """One directory of the tree's root.

    ``versions`` maps each numeric subdirectory to how many files it holds, markers not counted; ``directories`` are the names
    of all subdirectories; ``config`` is what config.pbtxt holds, None if there is none or it cannot be read.
    """

    name: str
    files: tuple[File, ...]
    versions: dict[str, int]
    directories: tuple[str, ...]
    config: bytes | None


@dataclasses.dataclass(frozen=True)
class Tree:
    """``strays`` are the names of the files beside the model directories; they are not uploaded."""

    root: pathlib.Path
    models: tuple[Model, ...]
    strays: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def files(self) -> list[File]:
        """Everything to upload, sorted by name."""
        return sorted((file for model in self.models for file in model.files), key=lambda file: file.name)


def is_ignored(name: str) -> bool:
    """Return whether a file or directory of this name is no part of a model."""
    return name.startswith(".") or name == "__pycache__" or name.endswith(".pyc")


def model_names(source: str) -> list[str]:
    """Return the names of the model directories in ``source``, sorted, without looking into them.

    :raises TreeError: there is no such directory, or none in it
    """
    names = [entry.name for entry in _root_entries(source) if _is_directory(entry)]
    if not names:
        raise TreeError(f"source {source} holds no model directory. Expected: MODEL/{CONFIG} and MODEL/1/FILE.")
    return names


def read(source: str, follow_external_links: bool = False) -> Tree:
    """Return what is below ``source``. A fault inside a model is a :class:`Problem` of the tree.

    Links are followed, since an object store has none; those that lead out of the tree only on demand.

    :raises TreeError: there is no such directory, no model directory in it, or it cannot be read
    """
    names = model_names(source)
    walk = _Walk(source, follow_external_links)
    models, strays = [], []
    for entry in _root_entries(source):
        if entry.name in names:
            models.append(walk.model(entry))
        elif walk.stat(entry, entry.name):
            strays.append(entry.name)
    return Tree(pathlib.Path(source), tuple(models), tuple(strays), tuple(walk.problems))


def _root_entries(source: str) -> list[os.DirEntry]:
    if not os.path.exists(source):
        raise TreeError(f"source {source} does not exist on the controller. Give the directory that holds the model directories.")
    if not os.path.isdir(source):
        raise TreeError(f"source {source} is not a directory. Give the directory that holds the model directories.")
    try:
        return _entries(source)
    except OSError as error:
        raise TreeError(f"source {source} cannot be read: {error.strerror}.") from None


def _entries(path: str) -> list[os.DirEntry]:
    with os.scandir(path) as found:
        return sorted((entry for entry in found if not is_ignored(entry.name)), key=lambda entry: entry.name)


def _is_directory(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


class _Walk:
    """Collects the files and problems of one model after the other."""

    def __init__(self, source: str, follow_external_links: bool):
        self.problems: list[Problem] = []
        self._root = os.path.realpath(source)
        self._follow_external_links = follow_external_links
        self._above = frozenset({_inode(os.stat(source))})
        self._files: list[File] = []
        self._directories: list[str] = []

    def model(self, entry: os.DirEntry) -> Model:
        self._files, self._directories = [], []
        before = len(self.problems)
        self._entry(entry, entry.name, self._above, f"{entry.name}/{NOT_UPLOADED}")
        directories = tuple(name.split("/")[1] for name in self._directories if name.count("/") == 1)
        versions = {name: 0 for name in directories if VERSION.fullmatch(name)}
        for file in self._files:
            version = file.name.split("/", 2)[1]
            if version in versions:
                versions[version] += 1
        troubled = {problem.name.split("/")[1] for problem in self.problems[before:] if "/" in problem.name}
        markers = [self._marker(f"{entry.name}/{version}") for version, count in versions.items() if not count and version not in troubled]
        return Model(entry.name, tuple(self._files + markers), versions, directories, self._config(entry.name))

    def stat(self, entry: os.DirEntry, name: str) -> os.stat_result | None:
        """Return what the entry, or the file it links to, is; None if that is a problem."""
        try:
            found = entry.stat()
        except OSError as error:
            kind = {errno.ENOENT: "dangling", errno.ELOOP: "loop"}.get(error.errno, "unreadable")
            self._problem(name, kind, _target(entry) if kind == "dangling" else error.strerror)
            return None
        if entry.is_symlink() and not self._follow_external_links:
            target = os.path.realpath(entry.path)
            if target != self._root and not target.startswith(os.path.join(self._root, "")):
                self._problem(name, "external", target)
                return None
        return found

    def _entry(self, entry: os.DirEntry, name: str, above: frozenset, left_out: str) -> None:
        found = self.stat(entry, name)
        if not found:
            return
        if stat.S_ISDIR(found.st_mode):
            if _inode(found) in above:
                self._problem(name, "loop", "it leads back to a directory above it")
                return
            self._directories.append(name)
            self._directory(entry.path, name, above | {_inode(found)}, left_out)
        elif not stat.S_ISREG(found.st_mode):
            self._problem(name, "special", _kind(found.st_mode))
        elif not os.access(entry.path, os.R_OK):
            self._problem(name, "unreadable", "Permission denied")
        else:
            identity = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
            self._files.append(File(name, pathlib.Path(entry.path), found.st_size, identity))

    def _directory(self, path: str, name: str, above: frozenset, left_out: str) -> None:
        try:
            entries = _entries(path)
        except OSError as error:
            self._problem(name, "unreadable", error.strerror)
            return
        for entry in entries:
            below = f"{name}/{entry.name}"
            if below != left_out:
                self._entry(entry, below, above, left_out)

    def _config(self, model: str) -> bytes | None:
        file = next((file for file in self._files if file.name == f"{model}/{CONFIG}"), None)
        if not file:
            return None
        try:
            return file.path.read_bytes()
        except OSError as error:
            self._problem(file.name, "unreadable", error.strerror)
            return None

    def _marker(self, directory: str) -> File:
        return File(f"{directory}/{MARKER}", None, len(MARKER_CONTENT), None, MARKER_CONTENT)

    def _problem(self, name: str, kind: str, detail: str) -> None:
        self.problems.append(Problem(name, kind, detail))


def _inode(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _target(entry: os.DirEntry) -> str:
    try:
        return os.readlink(entry.path)
    except OSError:
        return "nothing"


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISBLK, "a block device"), (stat.S_ISCHR, "a character device"))
    return next((text for test, text in kinds if test(mode)), "no regular file")
