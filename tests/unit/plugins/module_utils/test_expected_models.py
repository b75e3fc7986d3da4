# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _expected_models, _model_tree

CONFIG = 'name: "m" backend: "python" input { name: "A" data_type: TYPE_STRING dims: [ 2 ] } output { name: "B" data_type: TYPE_FP32 dims: [ -1 ] }'


def model(folder, name="m", config=CONFIG, versions=("1",)):
    for version in versions:
        (folder / name / version).mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text(config)


def versions(folder, policy, there=("1", "2", "10")):
    model(folder, config=CONFIG + policy, versions=there)
    return _expected_models.of_source(str(folder))[2]["m"]


@pytest.mark.parametrize(
    ("policy", "loaded"),
    [
        ("", ["10"]),
        ("version_policy { latest { } }", ["10"]),
        ("version_policy { latest { num_versions: 2 } }", ["2", "10"]),
        ("version_policy { latest { num_versions: 9 } }", ["1", "2", "10"]),
        ("version_policy { all { } }", ["1", "2", "10"]),
        ("version_policy { specific { versions: [ 2, 1 ] } }", ["1", "2"]),
        ("version_policy { specific { versions: [ 2, 7 ] } }", ["2"]),
    ],
)
def test_the_version_policy_chooses_what_is_loaded(tmp_path, policy, loaded):
    assert versions(tmp_path, policy) == loaded


def test_only_folders_that_triton_takes_for_versions_count(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "99").write_text("a file")
    assert versions(tmp_path, "version_policy { all { } }", ("1", "02", "²", "x", "-3")) == ["1"]


def test_the_tensors_have_the_protocols_types(tmp_path):
    model(tmp_path)
    names, tensors, _versions = _expected_models.of_source(str(tmp_path))
    assert names == ("m",) and tensors == {"m": {"inputs": {"A": "BYTES"}, "outputs": {"B": "FP32"}}}


def test_a_configuration_that_does_not_parse_says_nothing(tmp_path):
    model(tmp_path, config="name: {")
    assert _expected_models.of_source(str(tmp_path)) == (("m",), {}, {})


def test_a_batch_has_a_dimension_of_its_own(tmp_path):
    model(tmp_path, config=CONFIG + " max_batch_size: 8")
    found = _expected_models.metadata(str(tmp_path / "m"))
    assert found["inputs"] == [{"name": "A", "datatype": "BYTES", "shape": [-1, 2]}] and found["outputs"][0]["shape"] == [-1, -1]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(_model_tree.TreeError):
        _expected_models.of_source(str(tmp_path / "none"))
