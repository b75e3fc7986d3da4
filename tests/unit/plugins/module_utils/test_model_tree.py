# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _model_tree

GOOD = {"simple/config.pbtxt": 'name: "simple"', "simple/1/model.py": "x = 1"}


def tree(root, files: dict) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def names(result: _model_tree.Tree) -> list:
    return [file.name for file in result.files]


def problems(result: _model_tree.Tree) -> list:
    return [(problem.name, problem.kind) for problem in result.problems]


def test_takes_what_triton_needs_and_nothing_else(tmp_path):
    extra = ["README.md", "simple/verify.yml", "simple/.DS_Store", "simple/1/__pycache__/model.pyc", "simple/1/old.pyc", ".git/config"]
    source = tree(tmp_path, {**GOOD, **dict.fromkeys(extra, "no part"), "simple/1/verify.yml": "a file of the model"})
    result = _model_tree.read(source)
    assert names(result) == ["simple/1/model.py", "simple/1/verify.yml", "simple/config.pbtxt"]
    assert [model.name for model in result.models] == ["simple"]
    assert result.strays == ("README.md",) and not result.problems


def test_a_file_is_what_one_stat_says(tmp_path):
    (file,) = (file for file in _model_tree.read(tree(tmp_path, GOOD)).files if file.name == "simple/1/model.py")
    found = (tmp_path / "simple/1/model.py").stat()
    assert file.path == tmp_path / "simple/1/model.py" and file.size == 5 and file.content is None
    assert file.identity == (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def test_a_model_is_described(tmp_path):
    files = {**GOOD, "simple/2/a/b.bin": "x", "simple/configs/other.pbtxt": "", "auto/3/model.onnx": "x"}
    auto, simple = _model_tree.read(tree(tmp_path, files)).models
    assert (auto.name, auto.versions, auto.config) == ("auto", {"3": 1}, None)
    assert (simple.versions, simple.directories, simple.config) == ({"1": 1, "2": 1}, ("1", "2", "configs"), b'name: "simple"')


def test_an_empty_version_directory_is_kept_by_a_marker(tmp_path):
    source = tree(tmp_path, {"both/config.pbtxt": "", "both/2/.gitkeep": "", "both/data/.gitkeep": ""})
    (tmp_path / "both/1").mkdir()
    result = _model_tree.read(source)
    assert names(result) == ["both/1/.keep", "both/2/.keep", "both/config.pbtxt"]
    assert result.models[0].versions == {"1": 0, "2": 0}
    marker = result.files[0]
    assert marker.path is None and marker.identity is None and marker.content.count(b"\n") == 1 and marker.size == len(marker.content)


def test_no_marker_hides_a_file_that_could_not_be_read(tmp_path):
    source = tree(tmp_path, {"m/config.pbtxt": ""})
    (tmp_path / "m/1").mkdir()
    (tmp_path / "m/1/model.py").symlink_to("nowhere")
    assert names(_model_tree.read(source)) == ["m/config.pbtxt"]


def test_links_inside_the_tree_are_followed(tmp_path):
    source = tree(tmp_path, {**GOOD, "other/1/model.py": "x"})
    (tmp_path / "simple/2").symlink_to("../other/1")
    (tmp_path / "alias").symlink_to("other")
    result = _model_tree.read(source)
    assert {"simple/2/model.py", "alias/1/model.py"} < set(names(result)) and not result.problems


def test_links_out_of_the_tree_are_followed_on_demand_only(tmp_path):
    source = tree(tmp_path / "models", {"m/config.pbtxt": ""})
    tree(tmp_path / "weights", {"model.bin": "x"})
    (tmp_path / "models/m/1").symlink_to(tmp_path / "weights")
    (tmp_path / "models/n").symlink_to(tmp_path / "weights")
    result = _model_tree.read(source)
    assert names(result) == ["m/config.pbtxt"] and problems(result) == [("m/1", "external"), ("n", "external")]
    assert result.problems[0].detail == str(tmp_path / "weights")
    followed = _model_tree.read(source, follow_external_links=True)
    assert names(followed) == ["m/1/model.bin", "m/config.pbtxt", "n/model.bin"] and not followed.problems


def test_the_source_itself_may_be_a_link(tmp_path):
    tree(tmp_path / "real", GOOD)
    (tmp_path / "models").symlink_to("real")
    result = _model_tree.read(str(tmp_path / "models"))
    assert len(result.files) == 2 and not result.problems


@pytest.mark.parametrize("follow", [False, True])
def test_a_loop_of_links_ends(tmp_path, follow):
    source = tree(tmp_path / "models", GOOD)
    (tmp_path / "models/simple/1/loop").symlink_to(tmp_path / "models/simple")
    (tmp_path / "models/simple/1/root").symlink_to(tmp_path / "models")
    (tmp_path / "models/simple/1/self").symlink_to("self")
    result = _model_tree.read(source, follow)
    assert len(result.files) == 2
    assert problems(result) == [("simple/1/loop", "loop"), ("simple/1/root", "loop"), ("simple/1/self", "loop")]


def test_what_is_no_file_is_named(tmp_path, monkeypatch):
    source = tree(tmp_path, GOOD)
    os.mkfifo(tmp_path / "simple/1/pipe")
    (tmp_path / "simple/1/gone").symlink_to("nowhere")
    (tmp_path / "lost").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path / "simple/1")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        result = _model_tree.read(source)
    assert len(result.files) == 2
    assert problems(result) == [("lost", "dangling"), ("simple/1/gone", "dangling"), ("simple/1/pipe", "special"), ("simple/1/socket", "special")]
    assert [problem.detail for problem in result.problems] == ["nowhere", "nowhere", "a named pipe", "a socket"]


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch):
    source = tree(tmp_path, {**GOOD, "simple/1/secret/file": "x"})
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    monkeypatch.setattr(os, "access", lambda path, mode: not path.endswith("config.pbtxt"))
    result = _model_tree.read(source)
    assert names(result) == ["simple/1/model.py"] and result.models[0].config is None
    assert problems(result) == [("simple/1/secret", "unreadable"), ("simple/config.pbtxt", "unreadable")]


def test_the_names_alone(tmp_path):
    tree(tmp_path, {**GOOD, "other/x": "", ".git/config": "", "file": ""})
    assert _model_tree.model_names(str(tmp_path)) == ["other", "simple"]


@pytest.mark.parametrize("function", [_model_tree.read, _model_tree.model_names])
@pytest.mark.parametrize(("make", "expected"), [(None, "does not exist"), ("file", "is not a directory"), ("directory", "holds no model directory")])
def test_says_what_is_wrong_with_the_source(tmp_path, function, make, expected):
    source = tmp_path / "source"
    if make == "file":
        source.write_text("")
    if make == "directory":
        source.mkdir()
    with pytest.raises(_model_tree.TreeError, match=expected):
        function(str(source))


def test_a_source_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(_model_tree.TreeError, match="cannot be read: Permission denied"):
        _model_tree.read(str(tmp_path))
