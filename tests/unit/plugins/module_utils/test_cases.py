# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _cases


@pytest.fixture
def models(tmp_path):
    def add(name, text=None):
        (tmp_path / name).mkdir()
        if text is not None:
            (tmp_path / name / "verify.yml").write_text(text)
        return str(tmp_path)

    return add


def refusal(folder):
    with pytest.raises(_cases.SourceError) as raised:
        _cases.read(folder)
    return str(raised.value)


def test_every_models_cases_carry_its_name(models, tmp_path):
    models("b", "- inputs: [1]\n- inputs: [2]\n")
    models("a", "- {inputs: [0], outputs: []}")
    models("untested")
    (tmp_path / "README.md").touch()
    assert _cases.read(models("empty", "[]")) == [
        (f"{tmp_path}/a", {"model": "a", "inputs": [0], "outputs": []}),
        (f"{tmp_path}/b", {"model": "b", "inputs": [1]}),
        (f"{tmp_path}/b", {"model": "b", "inputs": [2]}),
    ]


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "missing", tmp_path / "file"):
        assert refusal(str(path)) == f"source is {path}, which is not a folder of models."


@pytest.mark.parametrize("text", ["inputs: []", "[1]", "text", ""])
def test_a_file_that_is_no_list_of_cases_is_named(models, text):
    folder = models("simple", text)
    assert refusal(folder) == f"{folder}/simple/verify.yml must hold a list of cases, each with inputs and outputs."


def test_a_file_that_cannot_be_read_says_where(models, tmp_path):
    folder = models("simple", "- inputs: [1\n- outputs")
    message = refusal(folder)
    assert message.startswith(f"{folder}/simple/verify.yml cannot be read: ") and "line 2" in message
    (tmp_path / "simple" / "verify.yml").write_bytes(b"\xff\xfe\xff")
    assert "cannot be read" in refusal(folder)
