# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _model_tree

GOOD = {"simple/config.pbtxt": 'name: "simple"', "simple/1/model.py": "x = 1"}
ENSEMBLE = 'platform: "ensemble"\nensemble_scheduling { step [ ] }'


def tree(root, files: dict) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def names(result: _model_tree.Tree) -> list:
    return sorted(file.name for file in result.files)


def test_takes_what_triton_needs_and_nothing_else(tmp_path):
    extra = ["README.md", "simple/verify.yml", "simple/.DS_Store", "simple/1/__pycache__/model.pyc", "simple/1/old.pyc", ".git/config"]
    source = tree(tmp_path, {**GOOD, **dict.fromkeys(extra, "no part"), "simple/1/verify.yml": "a file of the model"})
    result = _model_tree.read(source)
    assert names(result) == ["simple/1/model.py", "simple/1/verify.yml", "simple/config.pbtxt"]
    assert [model.name for model in result.models] == ["simple"]
    assert not result.warnings


def test_a_model_may_have_no_config(tmp_path):
    assert names(_model_tree.read(tree(tmp_path, {"auto/3/model.onnx": "x"}))) == ["auto/3/model.onnx"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"notes/readme.txt": "x"}, "notes: neither config.pbtxt nor a version directory"),
        ({"m/config.pbtxt": ""}, "m: no version directory. Put the model's files into m/1/"),
        ({"m/config.pbtxt": "", "m/1/.keep": ""}, "m/1: the version directory is empty"),
        ({"m/config.pbtxt": "", "m/01/model.py": ""}, "m/01: Triton ignores version directories that start with 0. Rename it, such as to 1"),
        ({"m/1/model.py": "", "m/1/a b.txt": ""}, "m/1/a b.txt: Triton can address only letters"),
        ({"m+1/1/model.py": ""}, "m+1/1/model.py: Triton can address only letters"),
    ],
)
def test_says_what_triton_could_not_serve(tmp_path, files, expected):
    with pytest.raises(_model_tree.TreeError) as error:
        _model_tree.read(tree(tmp_path, files))
    assert expected in str(error.value)
    assert "Nothing was transferred" in str(error.value)


def test_lists_every_problem_at_once(tmp_path):
    with pytest.raises(_model_tree.TreeError) as error:
        _model_tree.read(tree(tmp_path, {"a/config.pbtxt": "", "b/config.pbtxt": "", **GOOD}))
    assert "a: no version" in str(error.value) and "b: no version" in str(error.value) and "simple" not in str(error.value)


@pytest.mark.parametrize("version", [None, "1"])
def test_an_ensemble_without_files_is_a_warning(tmp_path, version):
    source = tree(tmp_path, {"both/config.pbtxt": ENSEMBLE})
    if version:
        (tmp_path / "both" / version).mkdir()
    (warning,) = _model_tree.read(source).warnings
    assert "no empty directories" in warning and "both/1/README" in warning


def test_a_comment_makes_no_ensemble(tmp_path):
    with pytest.raises(_model_tree.TreeError, match="no version directory"):
        _model_tree.read(tree(tmp_path, {"m/config.pbtxt": '# platform: "ensemble"'}))


def test_links_are_followed_and_loops_are_named(tmp_path):
    source = tree(tmp_path / "models", {"m/config.pbtxt": ""})
    tree(tmp_path / "weights", {"model.bin": "x"})
    (tmp_path / "models/m/1").symlink_to(tmp_path / "weights")
    assert "m/1/model.bin" in names(_model_tree.read(source))
    (tmp_path / "weights/loop").symlink_to(tmp_path / "models/m")
    with pytest.raises(_model_tree.TreeError, match="m/1/loop: cannot be read: the link leads back"):
        _model_tree.read(source)


def test_a_broken_link_is_named(tmp_path):
    source = tree(tmp_path, GOOD)
    (tmp_path / "simple/1/gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(_model_tree.TreeError, match="simple/1/gone: cannot be read: No such file"):
        _model_tree.read(source)


@pytest.mark.parametrize(("make", "expected"), [(None, "does not exist"), ("file", "is not a directory"), ("directory", "holds no model directory")])
def test_says_what_is_wrong_with_the_source(tmp_path, make, expected):
    source = tmp_path / "source"
    if make == "file":
        source.write_text("")
    if make == "directory":
        source.mkdir()
    with pytest.raises(_model_tree.TreeError, match=expected):
        _model_tree.read(str(source))
