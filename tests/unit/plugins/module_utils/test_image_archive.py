# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
import os
import tarfile

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _image_archive


def entries(*items):
    return {"entries": list(items)}


def content(dest, text="x", **more):
    return {"dest": dest, "content": text, **more}


class Archive:
    """What `docker load` reads: ``images`` holds (configuration, [layer digest]) by tag, ``files`` the bytes by name."""

    def __init__(self, path):
        with tarfile.open(path) as archive:
            self.names = archive.getnames()
            self.files = {name: archive.extractfile(name).read() for name in self.names}
        manifest = json.loads(self.files["manifest.json"])
        self.images = {tag: (json.loads(self.files[image["Config"]]), image["Layers"]) for image in manifest for tag in image["RepoTags"]}

    def members(self, layer, folder):
        (folder / layer).write_bytes(self.files[layer])
        with tarfile.open(folder / layer) as archive:
            return {member.name: (member, archive.extractfile(member).read() if member.isfile() else None) for member in archive}


@pytest.fixture
def write(tmp_path):
    def call(*images, name="images.tar"):
        path = str(tmp_path / name)
        size = _image_archive.write(path, [{"tags": ["a:1"], **image} for image in images])
        assert size == os.path.getsize(path)
        return Archive(path)

    return call


def members(archive, tmp_path, tag="a:1"):
    return archive.members(archive.images[tag][1][0], tmp_path)


def test_a_layer_that_images_share_is_there_once(write):
    shared = entries(content("/etc/shared"))
    archive = write(
        {"tags": ["a:1", "a:latest"], "layers": [shared, entries(content("/a"))]},
        {"tags": ["b:1"], "layers": [shared, entries(content("/etc/shared", owner=0))]},
    )
    assert sorted(archive.images) == ["a:1", "a:latest", "b:1"]
    assert archive.images["a:1"][1][0] == archive.images["b:1"][1][0] == archive.images["b:1"][1][1]
    assert len(archive.names) == len(set(archive.names)) == 2 + 2 + 1


def test_everything_is_named_by_its_digest(write):
    archive = write({"layers": [entries(content("/a")), entries(content("/b"))]})
    configuration, layers = archive.images["a:1"]
    for name, data in archive.files.items():
        if name != "manifest.json":
            assert hashlib.sha256(data).hexdigest() == name.partition(".")[0]
    assert configuration["rootfs"]["diff_ids"] == [f"sha256:{layer.removesuffix('.tar')}" for layer in layers]


def test_the_same_content_gives_the_same_bytes(write, tmp_path):
    def tree(name, later):
        folder = tmp_path / name / "tree"
        folder.mkdir(parents=True)
        for each in ("b", "a") if later else ("a", "b"):
            (folder / each).write_text(each)
            os.utime(folder / each, (later, later))
        return {"layers": [entries({"src": str(folder), "dest": "/t"}, content("/c"))]}

    first, second = write(tree("one", 0), name="1.tar"), write(tree("two", 86400), name="2.tar")
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes() and first.images == second.images


def test_how_it_runs(write):
    run = {
        "entrypoint": ["/a"],
        "cmd": ["-v"],
        "env": {"A": 1, "B": "x=y"},
        "labels": {"l": "x"},
        "user": "1000",
        "workdir": "/w",
        "stop_signal": "SIGINT",
    }
    configuration, _layers = write({"layers": [entries(content("/a"))], **run}).images["a:1"]
    assert (configuration["architecture"], configuration["os"]) == ("amd64", "linux")
    assert configuration["config"] == {
        "Entrypoint": ["/a"],
        "Cmd": ["-v"],
        "Env": ["A=1", "B=x=y"],
        "User": "1000",
        "WorkingDir": "/w",
        "Labels": {"l": "x"},
        "StopSignal": "SIGINT",
    }
    assert write({"layers": []}).images["a:1"][0]["config"]["WorkingDir"] == "/"


def test_links_folders_and_contents(write, tmp_path):
    layer = entries(
        content("/etc/motd", "gr\u00fc\u00df\n"),
        content("/etc/empty", ""),
        content("/bin/run", mode="755", owner=1000),
        {"dest": "/bin/sh", "link": "run", "mode": "600"},
        {"dest": "/data", "directory": True, "mode": "700", "owner": 5},
        {"dest": "/plain", "directory": True},
    )
    found = members(write({"layers": [layer]}), tmp_path)
    assert {name: (oct(member.mode), member.uid, member.gid) for name, (member, _data) in found.items()} == {
        "etc/motd": ("0o644", 0, 0),
        "etc/empty": ("0o644", 0, 0),
        "bin/run": ("0o755", 1000, 1000),
        "bin/sh": ("0o777", 0, 0),
        "data": ("0o700", 5, 5),
        "plain": ("0o755", 0, 0),
    }
    assert found["etc/motd"][1] == "gr\u00fc\u00df\n".encode() and found["etc/empty"][1] == b""
    assert found["bin/sh"][0].issym() and found["bin/sh"][0].linkname == "run" and found["data"][0].isdir()


def test_files_and_folders_of_this_machine(write, tmp_path):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True, mode=0o755)
    (tree / "sub" / "program").write_text("p")
    (tree / "sub" / "link").symlink_to("program")
    (tmp_path / "alias").symlink_to(tree / "sub" / "program")
    layer = entries({"src": str(tree), "dest": "/opt/t", "mode": "555", "owner": "7"}, {"src": str(tmp_path / "alias"), "dest": "/one"})
    found = members(write({"layers": [layer]}), tmp_path)
    assert list(found) == ["opt/t", "opt/t/sub", "opt/t/sub/link", "opt/t/sub/program", "one"]
    assert {(member.uid, member.uname, member.mtime) for name, (member, _data) in found.items() if name != "one"} == {(7, "", 0)}
    assert found["opt/t/sub/program"][0].mode == 0o555 and found["opt/t/sub"][0].mode == 0o755
    assert found["opt/t/sub/link"][0].linkname == "program" and found["one"][1] == b"p"


def test_a_layer_that_exists_is_taken_as_it_is(write, tmp_path):
    layer = tmp_path / "rootfs.tar"
    with tarfile.open(layer, "w") as archive:
        archive.addfile(tarfile.TarInfo("marker"))
    assert write({"layers": [{"tar": str(layer)}]}).files[f"{hashlib.sha256(layer.read_bytes()).hexdigest()}.tar"] == layer.read_bytes()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (entries({"src": "/no/such/program", "dest": "/bin/program"}), "/no/such/program, meant for /bin/program in the image, does not exist."),
        (entries({"dest": "/bin/program"}), "the entry for /bin/program has none of src, content, link and directory."),
        ({"tar": "/no/such/layer.tar"}, "the layer /no/such/layer.tar does not exist."),
    ],
)
def test_what_is_missing_is_named_and_the_archive_before_stays(write, tmp_path, layer, message):
    (tmp_path / "images.tar").write_text("before")
    with pytest.raises(_image_archive.ArchiveError) as raised:
        write({"layers": [layer]})
    assert str(raised.value) == message
    assert os.listdir(tmp_path) == ["images.tar"] and (tmp_path / "images.tar").read_text() == "before"
