# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import hashlib
import json

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _repository_plan, _s3_url
from ansible_collections.mlserving.triton.plugins.module_utils._file_digest import Digest, Digests, digest
from ansible_collections.mlserving.triton.plugins.module_utils._model_tree import File
from ansible_collections.mlserving.triton.plugins.module_utils._repository import UNFINISHED_FOR, Repository
from ansible_collections.mlserving.triton.plugins.module_utils._s3 import Object
from ansible_collections.mlserving.triton.tests.unit.plugins.memory_s3 import MemoryStore

LOCATION = _s3_url.parse("s3://models/demo")
NAME = "0123456789abcdef"


def file(name, content=b"x"):
    return File(name, None, len(content), None, content)


def there(**contents):
    """``a__1__m`` is a/1/m."""
    return {f"demo/{key.replace('__', '/')}": Object(len(content), hashlib.md5(content).hexdigest()) for key, content in contents.items()}


def in_place(files, remote, prune=True, sums=None):
    asked = []

    def sha256_of(keys):
        asked.extend(keys)
        return {key: value for key, value in (sums or {}).items() if key in keys}

    plan = _repository_plan.in_place(files, LOCATION, remote, Digests(None, 2), sha256_of, prune)
    return plan, asked


def size(plan) -> int:
    return sum(step.file.size for step in plan.uploads)


def keys(steps):
    return [step.key for step in steps]


@pytest.fixture(autouse=True)
def copy_small(monkeypatch):
    monkeypatch.setattr(_repository_plan, "COPY_FROM", 4)


def test_without_a_bucket_everything_is_uploaded_and_nothing_read():
    plan, asked = in_place([file("a/1/m", b"1234"), file("a/config.pbtxt")], None)
    assert keys(plan.uploads) == ["demo/a/1/m", "demo/a/config.pbtxt"] and size(plan) == 5
    assert plan.existing is None and plan.unchanged == 0 and asked == []
    assert all(step.digest is None for step in plan.steps), "the sums are taken while it is sent"


def test_only_what_differs_is_written():
    files = [file("a/1/m", b"new!"), file("a/1/n", b"longer"), file("a/1/same", b"same")]
    plan, asked = in_place(files, there(a__1__m=b"old!", a__1__n=b"short", a__1__same=b"same"))
    assert keys(plan.steps) == ["demo/a/1/m", "demo/a/1/n"] and plan.unchanged == 1
    assert asked == ["demo/a/1/m"], "only where the size is the same and the ETag is not"


def test_an_etag_that_tells_nothing_leaves_it_to_the_metadata():
    remote = {"demo/a/1/m": Object(4, "f" * 32 + "-2"), "demo/a/1/n": Object(4, "0" * 32), "demo/a/1/o": Object(4, "")}
    sums = {"demo/a/1/m": hashlib.sha256(b"1234").hexdigest(), "demo/a/1/n": hashlib.sha256(b"other").hexdigest()}
    plan, asked = in_place([file(f"a/1/{name}", b"1234") for name in "mno"], remote, sums=sums)
    assert asked == ["demo/a/1/m", "demo/a/1/n", "demo/a/1/o"]
    assert keys(plan.steps) == ["demo/a/1/n", "demo/a/1/o"]


def test_a_configuration_is_written_last_and_deleted_first():
    files = [file("a/config.pbtxt"), file("b/1/m"), file("b/config.pbtxt"), file("b/1/config.pbtxt"), file("a/configs/config.pbtxt")]
    plan, _asked = in_place(files, there(c__config_=b"", **{"d__config.pbtxt": b"", "d__1__m": b"", "d__1__config.pbtxt": b""}))
    assert [keys(stage) for stage in plan.stages] == [
        ["demo/b/1/m", "demo/b/1/config.pbtxt", "demo/a/configs/config.pbtxt"],
        ["demo/a/config.pbtxt", "demo/b/config.pbtxt"],
    ]
    assert plan.deletes == (["demo/d/config.pbtxt"], ["demo/c/config_", "demo/d/1/config.pbtxt", "demo/d/1/m"])


def test_without_prune_nothing_is_deleted():
    plan, _asked = in_place([file("a/1/m")], there(b__1__m=b"x"), prune=False)
    assert plan.deleted == [] and plan.existing == ["demo/b/1/m"]


def test_releases_are_no_part_of_a_tree_in_place():
    remote = there(**{f"releases__{NAME}.json": b"{}", f"releases__{NAME}__a__1__m": b"1234", "releases__1__m": b"", f"releases__{NAME}0__x": b""})
    plan, _asked = in_place([file("a/1/m", b"1234")], remote)
    assert plan.deleted == ["demo/releases/0123456789abcdef0/x", "demo/releases/1/m"] == plan.existing
    assert keys(plan.uploads) == ["demo/a/1/m"], "nor copied from"


@pytest.mark.parametrize(
    ("name", "prune", "source"),
    [("same/1/m", True, "same/1/m"), ("gone/1/m", False, "gone/1/m"), ("gone/1/m", True, None)],
)
def test_what_the_bucket_holds_and_will_keep_is_copied(name, prune, source):
    files = [file("new/1/m", b"1234"), file("same/1/m", b"1234")] if name == "same/1/m" else [file("new/1/m", b"1234")]
    plan, _asked = in_place(files, there(**{name.replace("/", "__"): b"1234"}), prune)
    (step,) = plan.steps
    assert step.key == "demo/new/1/m"
    assert step.source == (source and (f"demo/{source}", hashlib.md5(b"1234").hexdigest()))
    assert plan.copies == ([step] if source else []) and size(plan) == (0 if source else 4)


def test_nothing_is_copied_from_what_is_overwritten_or_from_what_is_small():
    plan, _asked = in_place([file("a/1/m", b"1234"), file("a/1/n", b"5678")], there(a__1__m=b"5678"))
    assert plan.copies == [] and len(plan.uploads) == 2
    plan, _asked = in_place([file("a/1/m", b"123"), file("a/1/n", b"123")], there(a__1__m=b"123"))
    assert plan.copies == [] and keys(plan.uploads) == ["demo/a/1/n"]


def digests_of(files):
    return {each.name: digest(each) for each in files}


def test_a_release_is_named_by_its_content_alone(tmp_path):
    files = [file("a/1/m", b"1"), file("b/1/m", b"2")]
    name = _repository_plan.release_digest(files, digests_of(files))
    assert _repository_plan.RELEASE.fullmatch(name)
    assert _repository_plan.release_digest(files[::-1], digests_of(files)) == name
    (tmp_path / "m").write_bytes(b"1")
    elsewhere = [File("a/1/m", tmp_path / "m", 1, (1, 2, 3, 4)), files[1]]
    sums = {each.name: Digest(digest(each).sha256, "another") for each in files}
    assert _repository_plan.release_digest(elsewhere, sums) == name
    others = ([file("a/1/m", b"2"), file("b/1/m", b"1")], [file("a/1/n", b"1"), files[1]], files[:1], [*files, file("c/1/m", b"")])
    assert len({name, *(_repository_plan.release_digest(other, digests_of(other)) for other in others)}) == 5


def test_a_manifest_says_what_a_release_consists_of():
    files = [file("b/1/m", b"22"), file("a/1/m", b"1")]
    content = _repository_plan.manifest(NAME, files, digests_of(files))
    assert [row["name"] for row in json.loads(content)["files"]] == ["a/1/m", "b/1/m"]
    assert content == _repository_plan.manifest(NAME, files[::-1], digests_of(files))
    sums = {hashlib.sha256(b"1").hexdigest(): ("a/1/m", 1), hashlib.sha256(b"22").hexdigest(): ("b/1/m", 2)}
    assert _repository_plan.read_manifest(content) == sums


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b"\xff", b"[]", b"1", b'"x"', b"null", b"{}", b'{"format": 1}', b'{"format": 1, "files": [1]}', b'{"format": 2, "files": []}'],
)
def test_a_manifest_that_cannot_be_read_tells_nothing(content):
    assert _repository_plan.read_manifest(content) == {}


def test_a_release_is_copied_from_others_and_finished_where_a_run_was_cut_off():
    files = [file("a/1/m", b"1234"), file("a/1/n", b"5678"), file("a/1/o", b"9"), file("a/1/p", b"0")]
    location = LOCATION.below(f"releases/{NAME}")
    found = {location.key("a/1/m"): Object(4, hashlib.md5(b"1234").hexdigest()), location.key("stray"): Object(1, "")}
    known = {
        hashlib.sha256(b"5678").hexdigest(): ("demo/releases/old/x", Object(4, "etag")),
        hashlib.sha256(b"9").hexdigest(): ("demo/releases/old/y", Object(2, "of another size")),
    }
    plan = _repository_plan.release(files, location, digests_of(files), found, known, lambda keys: {})
    assert plan.unchanged == 1 and plan.deleted == [location.key("stray")]
    assert [(step.key, step.source) for step in plan.copies] == [(location.key("a/1/n"), ("demo/releases/old/x", "etag"))]
    assert keys(plan.uploads) == [location.key("a/1/o"), location.key("a/1/p")] and size(plan) == 2


def test_only_the_keys_of_a_release_are_deleted_with_it():
    store = MemoryStore({f"demo/releases/{NAME}{rest}": b"" for rest in (".json", "/a/1/m", "0/x", ".jsonl")})
    repository = Repository(store, LOCATION, Digests(None, 1), 1)
    publication = repository.plan_release([file("a/1/m")], 1)
    assert publication.obsolete == (NAME,) and publication.obsolete_keys == ([f"demo/releases/{NAME}.json"], [f"demo/releases/{NAME}/a/1/m"])


@pytest.mark.parametrize("age", [UNFINISHED_FOR - datetime.timedelta(hours=2), UNFINISHED_FOR + datetime.timedelta(hours=2)])
def test_an_unfinished_release_is_left_to_its_run_for_a_day(age):
    store = MemoryStore({f"demo/releases/{NAME}/a/1/m": b""})
    key, stored = next(iter(store.objects.items()))
    modified = datetime.datetime.now(datetime.timezone.utc) - age
    store.objects[key] = type(stored)(stored.content, stored.etag, stored.metadata, modified)
    publication = Repository(store, LOCATION, Digests(None, 1), 1).plan_release([file("a/1/m")], 3)
    assert publication.deleted == ([key] if age > UNFINISHED_FOR else [])


def test_a_release_that_is_published_again_becomes_the_latest_and_then_nothing_changes():
    store = MemoryStore()
    repository = Repository(store, LOCATION, Digests(None, 1), 1)
    for content in (b"1", b"2", b"1"):
        publication = repository.plan_release([file("a/1/m", content)], 2)
        assert publication.changed
        repository.publish(publication)
        assert repository.releases()[0].name == publication.release
    assert publication.plan.steps == [] and publication.deleted == []
    assert not repository.plan_release([file("a/1/m", b"1")], 2).changed
