# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done so that a bucket holds a tree of models: compared by content, nothing changed. PRIVATE to the collection.

Two layouts. In place: the tree lies right below the prefix, as the public chart has it. Release: each tree lies below
PREFIX/releases/DIGEST/, never changed once its manifest PREFIX/releases/DIGEST.json is there, which is written last.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable

from ansible_collections.mlserving.triton.plugins.module_utils._file_digest import Digest, Digests
from ansible_collections.mlserving.triton.plugins.module_utils._model_tree import CONFIG, File
from ansible_collections.mlserving.triton.plugins.module_utils._s3 import Object
from ansible_collections.mlserving.triton.plugins.module_utils._s3_url import RELEASE, RELEASES, Location

#: Keys below a prefix that belong to the layout of releases, and are no part of a tree that lies in place.
OF_RELEASES = re.compile(rf"{RELEASES}/{RELEASE.pattern}(?:\.json|/.*)", re.DOTALL)
#: Bytes. A smaller file is sent again rather than copied within the bucket: both are one request.
COPY_FROM = 1 << 20
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Step:
    """Write one object: the file's content, or a copy of the object ``source`` (key, ETag) that holds the same."""

    file: File
    key: str
    digest: Digest | None = None
    source: tuple[str, str] | None = None


@dataclasses.dataclass
class Plan:
    """What has to be done. The stages follow each other, the steps in one run side by side; ``deletes`` come last, in two stages."""

    stages: list[list[Step]]
    unchanged: int = 0
    deletes: tuple[list[str], list[str]] = ((), ())
    existing: list[str] | None = None

    @property
    def steps(self) -> list[Step]:
        return [step for stage in self.stages for step in stage]

    @property
    def uploads(self) -> list[Step]:
        return [step for step in self.steps if not step.source]

    @property
    def copies(self) -> list[Step]:
        return [step for step in self.steps if step.source]

    @property
    def deleted(self) -> list[str]:
        return sorted((*self.deletes[0], *self.deletes[1]))


def is_config(name: str) -> bool:
    """Return whether a path is a model's configuration: MODEL/config.pbtxt."""
    return name.split("/")[1:] == [CONFIG]


def in_place(
    files: list[File],
    location: Location,
    remote: dict[str, Object] | None,
    digests: Digests,
    sha256_of: Callable[[list[str]], dict[str, str]],
    prune: bool,
) -> Plan:
    """Plan for a tree right below the prefix.

    A model's configuration is written after every other file, and deleted before them, so that a Triton that polls never
    sees a configuration without its versions.

    :param remote: key -> object below the prefix; None if there is no bucket
    :param sha256_of: returns key -> SHA-256 in the objects' metadata, for those that have it
    :param prune: delete what the tree does not have
    """
    there = {location.name(key): found for key, found in (remote or {}).items()}
    there = {name: found for name, found in there.items() if not OF_RELEASES.fullmatch(name)}
    sizes = {found.size for found in there.values() if found.size >= COPY_FROM}
    comparable = [file for file in files if (file.name in there and there[file.name].size == file.size) or file.size in sizes]
    computed = digests.of(comparable)
    same = _same(comparable, location, there, computed, sha256_of)
    gone = sorted(there.keys() - {file.name for file in files}) if prune else []
    stays = {name for name in there if name in same or name not in {file.name for file in files}} - set(gone)
    sources = {there[name].etag: name for name in sorted(stays) if there[name].size >= COPY_FROM}
    steps = []
    for file in files:
        if file.name not in same:
            digest = computed.get(file.name)
            twin = sources.get(digest.etag) if digest else None
            steps.append(Step(file, location.key(file.name), digest, (location.key(twin), digest.etag) if twin else None))
    return Plan(
        stages=[[step for step in steps if not is_config(step.file.name)], [step for step in steps if is_config(step.file.name)]],
        unchanged=len(files) - len(steps),
        deletes=([location.key(name) for name in gone if is_config(name)], [location.key(name) for name in gone if not is_config(name)]),
        existing=None if remote is None else sorted(map(location.key, there)),
    )


def _same(files: list[File], location: Location, there: dict[str, Object], computed: dict[str, Digest], sha256_of: Callable) -> set[str]:
    """Return the names of the files whose content their object has."""
    candidates = [file for file in files if file.name in there and there[file.name].size == file.size]
    same = {file.name for file in candidates if there[file.name].etag == computed[file.name].etag}
    # An encrypting store, or another program's upload in parts, gives an ETag that tells nothing: the metadata may.
    unsure = [file for file in candidates if file.name not in same]
    sums = sha256_of([location.key(file.name) for file in unsure]) if unsure else {}
    return same | {file.name for file in unsure if sums.get(location.key(file.name)) == computed[file.name].sha256}


def release_digest(files: list[File], computed: dict[str, Digest]) -> str:
    """Return the name of the release that these files are: 16 hexadecimal digits of a SHA-256 over names, sizes and contents."""
    total = hashlib.sha256()
    for file in sorted(files, key=lambda each: each.name):
        total.update(f"{file.name}\0{file.size}\0{computed[file.name].sha256}\n".encode())
    return total.hexdigest()[:16]


def manifest(release: str, files: list[File], computed: dict[str, Digest]) -> bytes:
    """Return the content of a release's manifest: what it consists of, for people and for the releases after it."""
    rows = [{"name": file.name, "size": file.size, "sha256": computed[file.name].sha256} for file in sorted(files, key=lambda each: each.name)]
    return json.dumps({"format": FORMAT, "release": release, "files": rows}, indent=1).encode()


def read_manifest(content: bytes | None) -> dict[str, tuple[str, int]]:
    """Return sha256 -> (name, size) of the files in a manifest; empty for one that cannot be read."""
    try:
        loaded = json.loads(content or b"{}")
        return {row["sha256"]: (row["name"], row["size"]) for row in loaded["files"]} if loaded.get("format") == FORMAT else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def release(
    files: list[File],
    location: Location,
    computed: dict[str, Digest],
    there: dict[str, Object],
    known: dict[str, tuple[str, Object]],
    sha256_of: Callable[[list[str]], dict[str, str]],
) -> Plan:
    """Plan for the tree of one release, the manifest left out.

    :param location: of the release's folder
    :param there: key -> object in that folder, as a run that was cut off may have left it
    :param known: sha256 -> (key, object) in complete releases, to copy from
    """
    present = {location.name(key): found for key, found in there.items()}
    same = _same(files, location, present, computed, sha256_of)
    steps = []
    for file in files:
        if file.name not in same:
            digest = computed[file.name]
            key, found = known.get(digest.sha256, (None, None))
            steps.append(Step(file, location.key(file.name), digest, (key, found.etag) if key and found.size == file.size else None))
    strays = sorted(present.keys() - {file.name for file in files})
    return Plan(stages=[steps], unchanged=len(files) - len(steps), deletes=([], [location.key(name) for name in strays]), existing=sorted(there))
