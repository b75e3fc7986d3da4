# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import builtins
import hashlib
import os
import pathlib
import threading
import time

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _file_digest, _repository_transfer
from ansible_collections.mlserving.triton.plugins.module_utils._file_digest import Digests, FileError
from ansible_collections.mlserving.triton.plugins.module_utils._model_tree import File
from ansible_collections.mlserving.triton.plugins.module_utils._repository_plan import Step
from ansible_collections.mlserving.triton.plugins.module_utils._repository_transfer import Budget, Transfer
from ansible_collections.mlserving.triton.plugins.module_utils._s3 import S3Error
from ansible_collections.mlserving.triton.tests.unit.plugins.memory_s3 import MemoryStore

LARGE = b"abcdefghijklmnopqr"
PARTS = 5
KEY = "demo/m/1/large"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(_file_digest, "PART", 4)
    monkeypatch.setattr(_repository_transfer, "PART", 4)
    monkeypatch.setattr(_repository_transfer, "MEMORY", 8)
    monkeypatch.setattr(_file_digest, "SETTLED", -3600)


@pytest.fixture
def file(tmp_path):
    def make(content: bytes = LARGE, name="m/1/large", mtime=None) -> File:
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if mtime:
            os.utime(path, ns=(0, mtime))
        found = path.stat()
        return File(name, path, found.st_size, (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns))

    return make


@pytest.fixture
def opened(monkeypatch):
    """The names of the files that were opened."""
    paths, real = [], builtins.open

    def counting(path, *args, **kwargs):
        paths.append(pathlib.Path(path).name)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", counting)
    return paths


def step(file, digest=None, source=None):
    return Step(file, f"demo/{file.name}", digest, source)


def slow(store, verb):
    send = getattr(store, verb)
    setattr(store, verb, lambda *args: time.sleep(0.01) or send(*args))


def sha256(content):
    return {"sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("parallel", [1, 4])
def test_a_large_file_is_read_once_and_known_afterwards(file, opened, parallel):
    made, store, digests = file(), MemoryStore({}), Digests(None, 1)
    Transfer(store, digests, parallel).run([step(made)])
    assert store.contents() == {KEY: LARGE} and store.uploads == {}
    assert opened == ["large"]
    assert digests.known(made) == _file_digest.digest(made)
    assert store.objects[KEY].etag == digests.known(made).etag
    assert sorted(store.sent("put_part")) == [f"{KEY} {number}" for number in range(1, PARTS + 1)] and store.sent("put") == []


@pytest.mark.parametrize("content", [b"", b"a", b"abcd"])
def test_a_small_file_is_one_request_with_its_checksum(file, opened, content):
    made, store, digests = file(content), MemoryStore({}), Digests(None, 1)
    Transfer(store, digests, 2).run([step(made)])
    assert store.log == [("put", KEY)] and store.contents() == {KEY: content} and store.objects[KEY].metadata == sha256(content)
    assert opened == ["large"] and digests.known(made).etag == hashlib.md5(content).hexdigest()


def cut_off(file, digests, number, store=None):
    """Return the store of a run of which the change of that number failed: 1 begins, the parts follow."""
    store = store or MemoryStore({})
    store.kill_at(number)
    with pytest.raises(S3Error):
        Transfer(store, digests, 1).run([step(file)])
    assert store.given_up and KEY not in store.contents()
    store.kill_at(None)
    store.log.clear()
    return store


def test_a_run_after_one_that_was_cut_off_sends_only_the_missing_parts(file, tmp_path):
    made = file()
    store = cut_off(made, Digests(str(tmp_path / "cache"), 1), 5)
    assert len(store.uploads) == 1
    Transfer(store, Digests(str(tmp_path / "cache"), 1), 1).run([step(made)])
    assert store.sent("begin") == [] and store.sent("put_part") == [f"{KEY} 4", f"{KEY} 5"]
    assert store.contents() == {KEY: LARGE} and store.uploads == {}
    assert Digests(str(tmp_path / "cache"), 1).pending_upload(f"{store.where}/{KEY}", made) is None


def test_a_part_that_arrived_with_another_content_is_sent_again(file, tmp_path):
    made, digests = file(), Digests(str(tmp_path / "cache"), 1)
    store = cut_off(made, digests, 5)
    (_key, _metadata, parts), *_others = store.uploads.values()
    parts[2] = (b"????", hashlib.md5(b"????").hexdigest())
    Transfer(store, digests, 1).run([step(made)])
    assert store.sent("put_part") == [f"{KEY} 2", f"{KEY} 4", f"{KEY} 5"] and store.contents() == {KEY: LARGE}


@pytest.mark.parametrize("what", ["changed", "gone", "nothing remembered"])
def test_a_run_that_cannot_go_on_begins_anew(file, tmp_path, what):
    made, cache = file(), str(tmp_path / "cache")
    store = cut_off(made, Digests(cache, 1), 5)
    if what == "changed":
        made = file(LARGE[::-1], mtime=1)
    elif what == "gone":
        store.uploads.clear()
    Transfer(store, Digests(None if what == "nothing remembered" else cache, 1), 1).run([step(made)])
    assert len(store.sent("begin")) == 1 and len(store.sent("put_part")) == PARTS
    assert store.contents() == {KEY: LARGE[::-1] if what == "changed" else LARGE}
    assert len(store.uploads) == (1 if what == "nothing remembered" else 0)


@pytest.mark.parametrize("content", [LARGE, b"abc"])
def test_a_file_that_changed_is_not_published(file, tmp_path, content):
    made, digests, store = file(content), Digests(str(tmp_path / "cache"), 1), MemoryStore({KEY: b"before"})
    file(content.upper(), mtime=1)
    with pytest.raises(FileError, match="changed while it was read"):
        Transfer(store, digests, 2).run([step(made)])
    assert store.contents() == {KEY: b"before"} and store.uploads == {}
    assert digests.pending_upload(f"{store.where}/{KEY}", made) is None and digests.known(made) is None


def test_a_content_that_is_not_the_one_that_was_planned_is_not_published(file):
    made, other, store = file(b"abc"), file(b"xyz", "m/1/other"), MemoryStore({})
    with pytest.raises(FileError, match="large changed"):
        Transfer(store, Digests(None, 1), 2).run([step(made, _file_digest.digest(other))])
    assert store.contents() == {}


def test_where_etags_tell_nothing_the_checksum_goes_into_the_metadata(file, opened):
    made, store = file(), MemoryStore({}, opaque=True)
    Transfer(store, Digests(None, 1), 2).run([step(made)])
    assert store.contents() == {KEY: LARGE} and store.objects[KEY].metadata == sha256(LARGE) and store.uploads == {}
    assert opened == ["large"] * 3, "to find out, for the checksum, to send it"
    store.log.clear()
    Transfer(store, Digests(None, 1), 2).run([step(made, _file_digest.digest(made))])
    assert len(store.sent("begin")) == 1, "known beforehand, it is sent once"


def test_an_upload_that_was_begun_without_a_checksum_gets_one(file, tmp_path):
    made, digests = file(), Digests(str(tmp_path / "cache"), 1)
    store = cut_off(made, digests, 3)
    store.opaque = True
    Transfer(store, digests, 1).run([step(made, _file_digest.digest(made))])
    assert store.contents() == {KEY: LARGE} and store.objects[KEY].metadata == sha256(LARGE)


def test_small_files_are_written_to_a_store_whose_etags_tell_nothing(file):
    files, store = [file(content, f"m/1/{content.decode()}") for content in (b"a", b"b", b"c")], MemoryStore({}, opaque=True)
    Transfer(store, Digests(None, 1), 1).run([step(each) for each in files])
    assert sorted(store.contents().values()) == [b"a", b"b", b"c"]
    assert store.sent("get") == ["demo/m/1/a"], "one is read back, to know that they tell nothing"


def test_a_store_that_holds_something_else_than_what_was_sent_is_an_error(file):
    store = MemoryStore({})
    store.hook = lambda verb, key: store.objects.update({key: store._stored(b"damaged", {})})
    put = store.put
    store.put = lambda key, *args: put(key, *args) and store.objects[key].etag
    with pytest.raises(S3Error, match="demo/m/1/large holds something else"):
        Transfer(store, Digests(None, 1), 1).run([step(file(b"abc"))])


@pytest.mark.parametrize("opaque", [False, True])
def test_what_the_bucket_holds_is_copied(file, opened, opaque):
    made, store = file(), MemoryStore({"demo/twin": LARGE}, opaque=opaque)
    Transfer(store, Digests(None, 1), 2).run([step(made, _file_digest.digest(made), ("demo/twin", store.objects["demo/twin"].etag))])
    assert store.log == [("copy", KEY)] and store.contents()[KEY] == LARGE and store.objects[KEY].metadata == sha256(LARGE)
    assert opened == ["large"], "for the sum only"


@pytest.mark.parametrize("content", [LARGE, b"abc"])
@pytest.mark.parametrize("loss", ["gone", "changed"])
def test_what_cannot_be_copied_any_more_is_uploaded(file, content, loss):
    made, store = file(content), MemoryStore({"demo/twin": content})
    etag = store.objects["demo/twin"].etag
    if loss == "gone":
        store.vanishing = True
    else:
        store.objects["demo/twin"] = store._stored(content[::-1], {})
    Transfer(store, Digests(None, 1), 2).run([step(made, _file_digest.digest(made), ("demo/twin", etag))])
    assert store.contents()[KEY] == content and store.sent("copy") == [KEY]


@pytest.mark.parametrize("parallel", [1, 8])
def test_no_more_is_in_memory_than_the_budget_allows(file, monkeypatch, parallel):
    sizes, lock, most = {"now": 0}, threading.Lock(), []
    take, give = Budget.take, Budget.give

    def counted_take(self, size):
        got = take(self, size)
        with lock:
            sizes["now"] += got
            most.append(sizes["now"])
        return got

    def counted_give(self, size):
        with lock:
            sizes["now"] -= size
        give(self, size)

    monkeypatch.setattr(Budget, "take", counted_take)
    monkeypatch.setattr(Budget, "give", counted_give)
    files = [file(LARGE, "m/1/large"), file(LARGE * 2, "m/2/large"), *(file(b"abcd", f"m/3/{number}") for number in range(20))]
    store = MemoryStore({})
    slow(store, "put_part")
    Transfer(store, Digests(None, 1), parallel).run([step(each) for each in files])
    assert len(store.contents()) == len(files)
    assert max(most) <= _repository_transfer.MEMORY and sizes["now"] == 0
    assert parallel == 1 or max(most) == _repository_transfer.MEMORY
    assert len(most) == 5 + 9 + 20, "every part and every file asked for its memory"


@pytest.mark.parametrize("fails", ["a part", "a file"])
def test_the_budget_is_given_back_after_a_failure(file, fails):
    made, store = file(LARGE if fails == "a part" else b"abc"), MemoryStore({})
    transfer = Transfer(store, Digests(None, 1), 2)
    store.kill_at(2 if fails == "a part" else 1)
    with pytest.raises(S3Error):
        transfer.run([step(made)])
    store.kill_at(None)
    taken = threading.Thread(target=transfer._budget.take, args=(_repository_transfer.MEMORY,), daemon=True)
    taken.start()
    taken.join(5)
    assert not taken.is_alive()


def test_one_that_wants_more_than_the_budget_waits_for_all_of_it():
    budget, got = Budget(8), []
    held = budget.take(3)
    assert held == 3
    waiting = threading.Thread(target=lambda: got.append(budget.take(100)), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert got == []
    budget.give(held)
    waiting.join(5)
    assert got == [8]


def test_after_a_failure_nothing_else_is_begun(file):
    files, store = [file(b"abc", f"m/1/{number:02}") for number in range(30)], MemoryStore({})
    slow(store, "put")
    store.kill_at(3)
    with pytest.raises(S3Error, match="does not answer"):
        Transfer(store, Digests(None, 1), 1).run([step(each) for each in files])
    assert len(store.contents()) == 2 and len(store.log) < 30 and store.given_up
