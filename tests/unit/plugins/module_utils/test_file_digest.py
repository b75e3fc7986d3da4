# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import builtins
import hashlib
import os
import pathlib
import time

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _file_digest
from ansible_collections.mlserving.triton.plugins.module_utils._file_digest import Digest, Digests, FileError
from ansible_collections.mlserving.triton.plugins.module_utils._model_tree import MARKER_CONTENT, File

TARGET = "the bucket models at memory/a/1/model"


def md5(content):
    return hashlib.md5(content).digest()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(_file_digest, "PART", 4)


@pytest.fixture
def file(tmp_path):
    def make(content: bytes, name="a/1/model") -> File:
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        found = path.stat()
        return File(name, path, found.st_size, (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns))

    return make


@pytest.fixture
def settled(monkeypatch):
    """A file that was just written counts as one that nobody writes to any more."""
    monkeypatch.setattr(_file_digest, "SETTLED", -3600)


@pytest.fixture
def opened(monkeypatch):
    """The paths of the files that were opened."""
    paths, real = [], builtins.open

    def counting(path, *args, **kwargs):
        paths.append(pathlib.Path(path).name)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", counting)
    return paths


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, 8 << 20),
        ((8 << 20) * 9_000, 8 << 20),
        ((8 << 20) * 9_000 + 1, 9 << 20),
        (94_000_000_000, 10 << 20),
        (5 << 40, 583 << 20),
    ],
)
def test_parts_are_as_small_as_the_number_of_parts_allows(monkeypatch, size, expected):
    monkeypatch.setattr(_file_digest, "PART", 8 << 20)
    assert _file_digest.part_size(size) == expected
    assert -(-size // expected) <= 10_000


@pytest.mark.parametrize(
    ("content", "parts"),
    [(b"", [b""]), (b"abc", [b"abc"]), (b"abcd", [b"abcd"]), (b"abcde", [b"abcd", b"e"]), (b"abcdefgh", [b"abcd", b"efgh"])],
)
def test_sums_are_those_of_an_upload_in_parts(file, content, parts):
    made = file(content)
    assert list(_file_digest.parts(made)) == parts
    etag = md5(content).hex() if len(parts) == 1 else f"{md5(b''.join(map(md5, parts))).hex()}-{len(parts)}"
    assert _file_digest.digest(made) == Digest(hashlib.sha256(content).hexdigest(), etag)


def test_a_marker_has_its_content_and_no_file():
    marker = File("a/1/.keep", None, len(MARKER_CONTENT), None, MARKER_CONTENT)
    assert list(_file_digest.parts(marker)) == [MARKER_CONTENT]
    assert Digests(None, 1).known(marker) is None


@pytest.mark.parametrize("now", [b"abcdefg", b"abcde", b"ABCDEF", b""])
def test_a_file_that_changed_meanwhile_is_an_error(file, now):
    made = file(b"abcdef")
    made.path.write_bytes(now)
    os.utime(made.path, ns=(0, 1))
    with pytest.raises(FileError, match="model changed while it was read"):
        _file_digest.digest(made)


def test_a_file_that_is_replaced_between_two_parts_is_an_error(file):
    made = file(b"abcdef")
    read = _file_digest.parts(made)
    assert next(read) == b"abcd"
    with open(made.path, "ab") as stream:
        stream.write(b"gh")
    with pytest.raises(FileError, match="changed while it was read"):
        list(read)


def test_a_file_that_cannot_be_read_says_why(file):
    made = file(b"abc")
    made.path.unlink()
    with pytest.raises(FileError, match="cannot be read: No such file or directory"):
        Digests(None, 2).of([made])


def test_what_is_remembered_is_not_read_again(file, tmp_path, settled, opened):
    made = file(b"abcdef")
    first = Digests(str(tmp_path / "cache"), 2)
    computed = first.of([made])
    assert opened == ["model"]
    assert first.of([made]) == computed and opened == ["model"]
    first.save()
    later = Digests(str(tmp_path / "cache"), 2)
    assert later.known(made) == computed[made.name] and later.of([made]) == computed
    assert opened == ["model"]
    assert oct((tmp_path / "cache").stat().st_mode & 0o777) == "0o700"


def test_a_changed_file_is_read_again(file, tmp_path, settled):
    digests = Digests(str(tmp_path / "cache"), 2)
    digests.of([file(b"abcdef")])
    changed = file(b"ABCDEF")
    os.utime(changed.path, ns=(0, 1))
    found = changed.path.stat()
    changed = File(changed.name, changed.path, 6, (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns))
    assert digests.of([changed])[changed.name].sha256 == hashlib.sha256(b"ABCDEF").hexdigest()


def test_a_file_that_changed_a_moment_ago_is_not_remembered(file, monkeypatch):
    made, digests = file(b"abc"), Digests(None, 1)
    digests.of([made])
    assert digests.known(made) is None
    now = time.time_ns()
    monkeypatch.setattr(_file_digest.time, "time_ns", lambda: now + 3 * 10**9)
    digests.of([made])
    assert digests.known(made)


def test_what_is_old_is_dropped(file, tmp_path, settled, monkeypatch):
    made, cache = file(b"abc"), str(tmp_path / "cache")
    digests = Digests(cache, 1)
    digests.of([made])
    digests.save()
    now = time.time()
    monkeypatch.setattr(_file_digest.time, "time", lambda: now + _file_digest.KEPT + 10)
    Digests(cache, 1).save()
    assert Digests(cache, 1).known(made) is None


@pytest.mark.parametrize("kind", ["a file", "no database", "no sqlite3"])
def test_a_cache_that_cannot_be_used_costs_nothing_but_time(file, tmp_path, settled, monkeypatch, kind):
    cache, made = tmp_path / "cache", file(b"abc")
    if kind == "a file":
        cache.write_text("")
    elif kind == "no database":
        cache.mkdir()
        (cache / "digests.sqlite").write_bytes(b"no database" * 100)
    else:
        monkeypatch.setattr(_file_digest, "sqlite3", None)
    for _run in range(2):
        digests = Digests(str(cache), 2)
        assert digests.known(made) is None
        assert digests.of([made])[made.name].etag == md5(b"abc").hex()
        digests.begun(TARGET, made, "upload-1")
        assert digests.pending_upload(TARGET, made) is None
        digests.ended(TARGET)
        digests.save()


def test_an_upload_that_was_begun_is_found_until_it_ends(file, tmp_path):
    made, cache = file(b"abcdef"), str(tmp_path / "cache")
    Digests(cache, 1).begun(TARGET, made, "upload-1")
    later = Digests(cache, 1)
    assert later.pending_upload(TARGET, made) == ("upload-1", True)
    assert later.pending_upload(TARGET + "2", made) is None
    os.utime(made.path, ns=(0, 1))
    found = made.path.stat()
    touched = File(made.name, made.path, 6, (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns))
    assert later.pending_upload(TARGET, touched) == ("upload-1", False)
    later.begun(TARGET, touched, "upload-2")
    assert later.pending_upload(TARGET, touched) == ("upload-2", True)
    later.ended(TARGET)
    assert Digests(cache, 1).pending_upload(TARGET, touched) is None
