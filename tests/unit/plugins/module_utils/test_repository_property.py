# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is edited, and wherever a run is cut off: what is published is the source, and nobody who reads meanwhile sees a part of it."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pathlib
import re
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ansible_collections.mlserving.triton.plugins.module_utils import _file_digest, _model_tree, _repository_plan, _repository_transfer, _s3_url
from ansible_collections.mlserving.triton.plugins.module_utils._bucket import TAG
from ansible_collections.mlserving.triton.plugins.module_utils._file_digest import Digests
from ansible_collections.mlserving.triton.plugins.module_utils._repository import Repository
from ansible_collections.mlserving.triton.plugins.module_utils._s3 import S3Error
from ansible_collections.mlserving.triton.tests.unit.plugins.memory_s3 import MemoryStore

#: Several of one size, and of all numbers of parts.
CONTENTS = st.sampled_from([b"", b"1", b"2", b"abcd", b"abcdefgh", b"xbcdefgh", b"abcdefghi", b"xbcdefghi"])
MODELS = st.sampled_from(["a", "ab", "releases"])
FILES = st.sampled_from(["config.pbtxt", "1/model", "1/data/weights", "2/model", "labels"])
EDITS = st.one_of(
    st.tuples(st.just("write"), MODELS, FILES, CONTENTS),
    st.tuples(st.just("write"), MODELS, st.just("config.pbtxt"), CONTENTS),
    st.tuples(st.just("delete"), MODELS, FILES),
    st.tuples(st.just("rename"), MODELS, FILES, MODELS, FILES),
    st.tuples(st.just("ensemble"), MODELS, CONTENTS),
    st.tuples(st.just("rename model"), MODELS, MODELS),
    st.tuples(st.just("delete model"), MODELS),
)
RUNS = st.fixed_dictionaries(
    {
        "edits": st.lists(EDITS, max_size=4),
        "undo": st.integers(0, 4),
        "layout": st.sampled_from(["in_place", "release"]),
        "keep": st.integers(1, 3),
        "cuts": st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=2),
        "completed": st.booleans(),
    }
)
STORES = st.fixed_dictionaries(
    {"prefix": st.sampled_from(["demo", "x/demo", ""]), "there": st.booleans(), "opaque": st.booleans(), "cached": st.booleans()}
)
SIZES = st.sampled_from([(4, 3), (4, 1 << 20), (8 << 20, 3)])
NEIGHBOURS = {
    "demo2/1": b"",
    "dem": b"1",
    "demo.json": b"2",
    "x/demo2/releases/0123456789abcdef.json": b"{}",
    "releases/0123456789abcdef.json": b"abcd",
}
MANIFEST = re.compile(r"releases/([0-9a-f]{16})\.json")


class Source:
    """A tree on the disk. ``files`` maps a name to its content; that of an empty version directory ends in a slash."""

    def __init__(self, root: pathlib.Path):
        self.root, self.files, self._written = root, {}, itertools.count(1)
        self.become({"a/config.pbtxt": b"", "a/1/model": b"1"})

    def become(self, files: dict[str, bytes]) -> None:
        for name in self.files.keys() - files.keys():
            if not name.endswith("/"):
                (self.root / name).unlink()
        for name, content in files.items():
            path = self.root / name
            if name.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
            elif self.files.get(name) != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                os.utime(path, ns=(0, next(self._written)))
        self.files = dict(files)
        for folder in sorted((path for path in self.root.rglob("*") if path.is_dir()), reverse=True):
            if not any(folder.iterdir()) and f"{folder.relative_to(self.root)}/" not in files:
                folder.rmdir()

    def edit(self, kind: str, model: str, *rest) -> None:
        files = dict(self.files)
        if kind == "write":
            files[f"{model}/{rest[0]}"] = rest[1]
        elif kind == "delete":
            files.pop(f"{model}/{rest[0]}", None)
        elif kind == "rename":
            old, new = f"{model}/{rest[0]}", f"{rest[1]}/{rest[2]}"
            if old in files and old != new:
                (self.root / new).parent.mkdir(parents=True, exist_ok=True)
                (self.root / old).rename(self.root / new)
                files[new] = files.pop(old)
                self.files.pop(old)
                self.files[new] = files[new]
        elif kind == "ensemble":
            files = {name: content for name, content in files.items() if not name.startswith(f"{model}/")}
            files |= {f"{model}/1/": b"", f"{model}/config.pbtxt": rest[0]}
        elif kind == "rename model" and rest[0] != model:
            moved = {name: content for name, content in files.items() if name.startswith(f"{model}/")}
            files = {name: content for name, content in files.items() if not name.startswith((f"{model}/", f"{rest[0]}/"))}
            files |= {rest[0] + name[len(model) :]: content for name, content in moved.items()}
        elif kind == "delete model":
            files = {name: content for name, content in files.items() if not name.startswith(f"{model}/")}
        if files:
            self.become(files)

    @property
    def published(self) -> dict[str, bytes]:
        """Return what the tree looks like in a store."""
        kept = {name: content for name, content in self.files.items() if not name.endswith("/")}
        empty = [name for name in self.files if name.endswith("/") and not any(file.startswith(name) for file in kept)]
        return kept | {f"{name}.keep": _model_tree.MARKER_CONTENT for name in empty}


class Reader:
    """Looks at every state of a store. ``held`` are the releases that have to be whole; ``trees`` those that a configuration may belong to."""

    def __init__(self, location: _s3_url.Location):
        self.location, self.store, self.torn, self.released, self.held, self.trees, self.neighbours = location, None, [], [], [], [], {}

    def below(self, folder: str = "") -> dict[str, bytes]:
        start = self.location.key(folder)
        start = start if not start or start.endswith("/") else f"{start}/"
        return {key[len(start) :]: content for key, content in self.store.contents().items() if key.startswith(start)}

    def in_place(self) -> dict[str, bytes]:
        return {name: content for name, content in self.below().items() if not re.match(r"releases/[0-9a-f]{16}(\.json$|/)", name)}

    def complete(self) -> set[str]:
        return {found.group(1) for found in map(MANIFEST.fullmatch, self.below()) if found}

    def became(self, release: str) -> None:
        """Remember the release as the latest."""
        self.released = [name for name in self.released if name != release] + [release]

    def look(self, verb: str, key: str) -> None:
        found = MANIFEST.fullmatch(self.location.name(key))
        if found and verb in ("put", "finish"):
            self.became(found.group(1))
        elif found and verb == "delete":
            self.released.remove(found.group(1))
        if self.store.objects is None:
            return
        for release in self.complete():
            rows = json.loads(self.below("releases")[f"{release}.json"])["files"]
            files = {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in self.below(f"releases/{release}").items()}
            if files != {row["name"]: (row["size"], row["sha256"]) for row in rows}:
                self.torn.append(f"{verb} {key}: the release {release} is not what its manifest says")
        for release in set(self.held) - self.complete():
            self.torn.append(f"{verb} {key}: the release {release} is gone")
        there = self.in_place()
        for name in [name for name in there if re.fullmatch(r"[^/]+/config\.pbtxt", name)]:
            model = name.split("/")[0] + "/"
            needed = [{file for file in tree if file.startswith(model)} for tree in self.trees if tree.get(name) == there[name]]
            if not any(files <= there.keys() for files in needed):
                self.torn.append(f"{verb} {key}: {name} stands there without its files")
        contents = self.store.contents()
        if any(contents.get(key) != content for key, content in self.neighbours.items()):
            self.torn.append(f"{verb} {key}: a neighbour was touched")


def plan(run: dict, store: MemoryStore, location: _s3_url.Location, source: Source, digests: Digests) -> tuple:
    repository, files = Repository(store, location, digests, 2), _model_tree.read(str(source.root)).files
    return repository, repository.plan_in_place(files, True) if run["layout"] == "in_place" else repository.plan_release(files, run["keep"])


def publish(run: dict, reader: Reader, source: Source, cache: str | None) -> bool:
    """Return whether the run came to its end; look at what it left if so."""
    store, location, before = reader.store, reader.location, list(reader.released)
    if run["layout"] == "in_place":
        reader.trees.append(source.published)
    digests = Digests(cache, 2)
    try:
        repository, publication = plan(run, store, location, source, digests)
        others = [name for name in before if name != publication.release]
        reader.held = before if run["layout"] == "in_place" else others[len(others) - run["keep"] + 1 :] if run["keep"] > 1 else []
        repository.publish(publication)
    except S3Error:
        assert store.dead, "only a cut fails"
        return False
    finally:
        digests.save()
        assert not reader.torn
    if run["layout"] == "in_place":
        assert reader.in_place() == source.published
        reader.trees = [source.published]
    else:
        reader.became(publication.release)
        reader.released = [*reader.held, publication.release]
        assert reader.complete() == set(reader.released)
        assert publication.url == f"{location.url}/releases/{publication.release}"
        assert reader.below(f"releases/{publication.release}") == source.published
    _repository, again = plan(run, store, location, source, Digests(cache, 2))
    assert not again.changed, f"a second run would change {again}"
    assert again.url == publication.url
    return True


@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(STORES, SIZES, st.lists(RUNS, min_size=1, max_size=5))
def test_what_is_published_is_the_source_and_is_never_seen_torn(kind, sizes, runs):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_file_digest, "PART", sizes[0])
        patch.setattr(_repository_transfer, "PART", sizes[0])
        patch.setattr(_repository_transfer, "MEMORY", 2 * sizes[0])
        patch.setattr(_repository_plan, "COPY_FROM", sizes[1])
        patch.setattr(_file_digest, "SETTLED", -3600)
        location = _s3_url.parse(f"s3://models/{kind['prefix']}")
        source, reader = Source(pathlib.Path(folder) / "source"), Reader(location)
        reader.neighbours = NEIGHBOURS if kind["there"] and kind["prefix"] else {}
        there = kind["there"] or not kind["prefix"]
        reader.store = MemoryStore(reader.neighbours if there else None, reader.look, kind["opaque"])
        # Only a marked bucket is pruned at its root.
        reader.store.tags = [TAG] if there and not kind["prefix"] else None
        cache, trees = str(pathlib.Path(folder) / "cache") if kind["cached"] else None, []
        for run in runs:
            trees.append(source.files)
            if run["undo"] < len(trees) and not run["edits"]:
                source.become(trees[run["undo"]])
            for edit in run["edits"]:
                source.edit(*edit)
            for number, after in run["cuts"]:
                reader.store.kill_at(number, after)
                publish(run, reader, source, cache)
            reader.store.kill_at(None)
            if run["completed"] or run is runs[-1]:
                assert publish(run, reader, source, cache)
        shutil.rmtree(source.root)


@settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@example([(b"1", 3), (b"2", 3), (b"1", 3), (b"abcd", 2)])
@given(st.lists(st.tuples(st.sampled_from([b"1", b"2", b"abcd", b""]), st.integers(1, 3)), min_size=3, max_size=8))
def test_the_releases_that_were_published_last_stay_also_when_one_is_published_again(runs):
    with tempfile.TemporaryDirectory() as folder:
        location = _s3_url.parse("s3://models/demo")
        source, reader = Source(pathlib.Path(folder)), Reader(location)
        reader.store = MemoryStore(None, reader.look)
        for content, keep in runs:
            source.become({"a/1/model": content})
            assert publish({"layout": "release", "keep": keep}, reader, source, None)
