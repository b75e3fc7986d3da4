# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _models_outline

CASES = "- inputs: [{name: IN, file: picture.json}, {name: TWO, file: ../../outside.json}]\n  outputs: [{name: OUT, file: wanted/out.npy}]\n"


def put(folder, **files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    files = {"config.pbtxt": b"name: 'm'", "verify.yml": CASES.encode(), "picture.json": b"[1]", "wanted/out.npy": b"npy", "1/model.py": b"large"}
    put(folder / "m", **files)
    put(tmp_path, **{"outside.json": b"[2]"})
    (folder / "m" / "3").mkdir()
    return folder


def test_only_what_a_verification_reads_is_kept(models, tmp_path):
    outline = _models_outline.read(str(models))
    assert list(outline) == ["m/1", "m/3", "m/config.pbtxt", "m/picture.json", "m/verify.yml", "m/wanted/out.npy"]
    _models_outline.write(outline, str(tmp_path / "again"))
    assert _models_outline.read(str(tmp_path / "again")) == outline
    assert (tmp_path / "again/m/wanted/out.npy").read_bytes() == b"npy" and not (tmp_path / "again/m/1/model.py").exists()


def test_no_folder_is_no_outline():
    assert _models_outline.read("") == {}


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(_models_outline.OutlineError, match="nowhere cannot be kept with the release"):
        _models_outline.read(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "m/../../up"])
def test_nothing_is_written_outside_the_folder(tmp_path, name):
    with pytest.raises(_models_outline.OutlineError, match="leads out of"):
        _models_outline.write({name: ""}, str(tmp_path / "folder"))
    assert not (tmp_path / "up").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    put(tmp_path, file=b"")
    with pytest.raises(_models_outline.OutlineError, match="cannot be written below"):
        _models_outline.write({"m/1": None}, str(tmp_path / "file"))
