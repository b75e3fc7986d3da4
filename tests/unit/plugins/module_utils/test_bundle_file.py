# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import tarfile

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _bundle_file

README = {_bundle_file.README: f"{_bundle_file.MARK}\n".encode()}


def test_the_file_is_for_this_user_only_and_begins_with_its_index(tmp_path):
    path = str(tmp_path / "b.tar.gz")
    size = _bundle_file.write(path, "triton-x", {"status.txt": b"well\n", **README})
    assert os.stat(path).st_mode & 0o777 == 0o600 and size == os.path.getsize(path)
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["triton-x/README.txt", "triton-x/status.txt"]
        assert archive.extractfile("triton-x/status.txt").read() == b"well\n"
    assert os.listdir(tmp_path) == ["b.tar.gz"]


def test_a_bundle_is_replaced(tmp_path):
    path = str(tmp_path / "b.tgz")
    for text in (b"old", b"new"):
        _bundle_file.check(path)
        _bundle_file.write(path, "triton-x", {**README, "status.txt": text})
    with tarfile.open(path) as archive:
        assert archive.extractfile("triton-x/status.txt").read() == b"new"


@pytest.mark.parametrize("kind", ["text", "empty", "other archive", "folder", "dangling link", "cut off"])
def test_anything_else_is_left_alone(tmp_path, kind):
    path = tmp_path / "b.tar.gz"
    if kind == "folder":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nosuch")
    elif kind == "other archive":
        with tarfile.open(path, "w:gz") as archive:
            archive.add(__file__, "README.txt")
    elif kind == "cut off":
        _bundle_file.write(str(path), "triton-x", {**README, "x": os.urandom(9999)})
        path.write_bytes(path.read_bytes()[:20])
    else:
        path.write_text("mine" if kind == "text" else "")
    with pytest.raises(_bundle_file.BundleError, match="Nothing was overwritten"):
        _bundle_file.check(str(path))


@pytest.mark.parametrize("path, told", [("b.zip", "has to end in .tar.gz or .tgz"), ("nosuch/b.tgz", "no folder nosuch")])
def test_a_path_that_cannot_be(path, told):
    with pytest.raises(_bundle_file.BundleError, match=told):
        _bundle_file.check(path)


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "b.tar.gz"
    _bundle_file.write(str(path), "triton-x", README)
    before = path.read_bytes()

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(_bundle_file.BundleError, match="No space left"):
        _bundle_file.write(str(path), "triton-x", README)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["b.tar.gz"]


def test_the_size_is_bounded_and_what_is_left_out_is_told(monkeypatch):
    monkeypatch.setattr(_bundle_file, "MOST_OF_ONE", 100)
    monkeypatch.setattr(_bundle_file, "MOST_OF_ALL", 300)
    kept, notes = _bundle_file.fitting({"status.txt": "s" * 90, "a.log": "old" * 100 + "new", "x.yaml": "first" + "x" * 200, "y.yaml": "y" * 30})
    assert list(kept) == ["status.txt", "a.log", "y.yaml"] and kept["a.log"].endswith(b"new") and len(kept["a.log"]) < 150
    assert notes == [
        "a.log: cut, it has 303 bytes",
        "x.yaml: cut, it has 205 bytes",
        "x.yaml: left out, since all files together have more than 300 bytes",
    ]
