# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _model_set, _serving, _serving_checks
from ansible_collections.mlserving.triton.tests.unit.plugins.serving_options import options


@pytest.mark.parametrize(
    ("content", "arguments"),
    [("a\nb c\n", ["--load-model=a", "--load-model=b c"]), ("*\n", ["--load-model=*"]), ("", []), ("a\n\nb", ["--load-model=a", "--load-model=b"])],
)
def test_the_server_starts_with_the_lines_of_the_set(tmp_path, content, arguments):
    (tmp_path / _model_set.KEY).write_text(content, encoding="utf-8")
    command = _model_set.command(["printf", "%s\n", "--model-store=s3://x y"])
    command[2] = command[2].replace(_model_set.PATH, str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines() == ["--model-store=s3://x y", *arguments]


def test_the_server_does_not_start_without_the_set(tmp_path):
    command = _model_set.command(["true"])
    command[2] = command[2].replace(_model_set.PATH, str(tmp_path))
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_another_set_is_no_other_pod():
    first, second = (
        _serving.deployment(options(model_control_mode="explicit", load_models=models), {"spec": {}, "container": {}, "annotations": {}}, {})
        for models in (["a"], ["b"])
    )
    assert first == second
    assert {"name": "model-set", "configMap": {"name": "models"}} in first["pod"]["volumes"]
    assert {"name": "model-set", "mountPath": "/etc/triton-models", "readOnly": True} in first["container"]["volumeMounts"]


def stored(data, agreed="true", where=None, **changed):
    given = options(model_control_mode="explicit", load_models=["new"], **changed)
    annotations = {_model_set.AGREED: agreed, _model_set.REPOSITORY: where or _model_set.repository(given)}
    return _model_set.to_apply({"metadata": {"annotations": annotations}, "data": {_model_set.KEY: data}}, given)


def test_a_set_that_all_replicas_have_stays_until_they_have_another():
    assert stored("old\n") == {"data": {"models": "old\n"}, "annotations": stored("old\n")["annotations"]}
    assert stored("old\n")["annotations"][_model_set.AGREED] == "true"


@pytest.mark.parametrize("changed", [{"agreed": "false"}, {"where": "elsewhere"}])
def test_a_set_that_was_never_loaded_or_is_of_another_repository_gives_way(changed):
    found = stored("old\n", **changed)
    assert found["data"] == {"models": "new\n"} and found["annotations"][_model_set.AGREED] == "false"


def test_the_first_set_is_the_one_that_is_asked_for():
    assert _model_set.to_apply(None, options(load_models=["a", 1]))["data"] == {"models": "a\n1\n"}


@pytest.mark.parametrize("models", [["a/b"], [""], [" a"], ["a\nb"], ["*", "a"]])
def test_names_that_cannot_be_are_refused(models):
    problems = _serving_checks.problems(options(model_control_mode="explicit", load_models=models))
    assert len(problems) == 1 and problems[0].startswith("triton_load_models has ")


def test_a_model_that_failed_is_told_by_its_state():
    index = [{"name": "a", "version": version, "state": "UNAVAILABLE", "reason": "no room"} for version in ("1", "2")]
    assert _model_set.state(index, "a") == "FAILED" and _model_set.reason(index, "a") == "no room"
    index[0] |= {"state": "LOADING", "reason": ""}
    assert _model_set.state(index, "a") == "LOADING"
