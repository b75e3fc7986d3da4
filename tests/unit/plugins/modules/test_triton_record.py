# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a Triton in this process; what it wrote is verified by the module triton_verify."""

from __future__ import annotations

import pathlib

import numpy
import pytest
import yaml

from ansible_collections.mlserving.triton.plugins.module_utils import _verify_target
from ansible_collections.mlserving.triton.plugins.modules import triton_record, triton_verify
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_triton import FakeTriton

INPUTS = [{"name": "INPUT0", "data": [0, 1, 2, 3]}, {"name": "INPUT1", "data": [1]}]


@pytest.fixture
def triton():
    with FakeTriton() as server:
        yield server


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models" / "simple"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def record(run_module, triton, models):
    def call(check=False, **options):
        base = {"url": triton.http, "grpc_url": triton.grpc, "source": str(models.parent), "model": "simple", "timeout": 5}
        return run_module(triton_record, {key: value for key, value in (base | options).items() if value is not None}, check)

    return call


@pytest.fixture
def verify(run_module, triton, models):
    return lambda: run_module(triton_verify, {"url": triton.http, "grpc_url": triton.grpc, "source": str(models.parent), "timeout": 5})


def text(models):
    return (models / "verify.yml").read_text()


def test_what_is_recorded_passes_the_verification_and_a_wrong_answer_does_not(record, verify, triton, models):
    result = record()
    assert result["changed"] and result["action"] == "added" and result["path"] == str(models / "verify.yml")
    assert result["case"] == text(models) and result["target"] == triton.http and triton.answered == 3 and not result["warnings"]
    assert result["outputs"] == [{"name": name, "recorded": "values", "why": ""} for name in ("OUTPUT0", "OUTPUT1")]
    assert text(models).splitlines()[1] == "    - {name: INPUT0, datatype: INT32, shape: [4], fill: random, seed: 0}"
    assert verify()["ok"]
    triton.off = 1
    assert "4 of 4 values differ" in verify()["msg"]


def test_the_second_time_nothing_changes(record, models):
    record()
    before = text(models)
    result = record()
    assert not result["changed"] and result["action"] == "unchanged" and text(models) == before


def test_check_mode_and_diff(record, models):
    result = record(check=True, _ansible_diff=True)
    assert result["changed"] and not (models / "verify.yml").exists()
    assert result["diff"] == [{"before_header": result["path"], "after_header": result["path"], "before": "", "after": result["case"]}]
    record()
    assert "diff" not in record(check=True, _ansible_diff=True)


def test_another_case_is_appended_and_comments_stay(record, verify, models):
    (models / "verify.yml").write_text(
        "# By hand.\n- inputs: [{name: INPUT0, fill: ones}, {name: INPUT1, fill: ones}]  # twos\n  outputs: [{name: OUTPUT0, data: [2, 2, 2, 2]}]\n"
    )
    before = text(models)
    assert record(inputs=INPUTS)["action"] == "added"
    assert text(models).startswith(before) and yaml.safe_load(text(models))[1]["outputs"][0]["data"] == [1, 2, 3, 4]
    assert len(verify()["targets"][0]["inferences"]) == 4


def test_a_case_with_the_same_inputs_is_replaced_only_on_demand(record, verify, triton, models):
    (models / "verify.yml").write_text(
        "# By hand.\n- inputs: [{name: INPUT0, data: [0, 1, 2, 3]}, {name: INPUT1, fill: ones}]\n  outputs: [{name: OUTPUT0, data: [9, 9, 9, 9]}]\n"
    )
    before = text(models)
    result = record(inputs=INPUTS)
    assert (
        "has another case with the same inputs already, its number 1; nothing was written" in result["msg"] and "data: [1, 2, 3, 4]" in result["msg"]
    )
    assert text(models) == before
    result = record(inputs=INPUTS, replace=True, _ansible_diff=True)
    assert result["action"] == "replaced" and text(models) == "# By hand.\n" + result["case"] and result["diff"][0]["before"] == before
    assert verify()["ok"] and record(inputs=INPUTS, replace=True)["action"] == "unchanged"
    triton.off = 1
    assert record(inputs=INPUTS, replace=True)["action"] == "replaced" and "data: [2, 3, 4, 5]" in text(models)


def test_a_model_that_answers_differently_each_time(record, verify, triton, models, monkeypatch):
    compute = triton.compute

    def drifting(model, raw):
        triton.off += 1
        return compute(model, raw)

    monkeypatch.setattr(triton, "compute", drifting)
    message = record()["msg"]
    assert "model simple answered the same inputs differently: in run 2 of 3 OUTPUT0[0]" in message and "shape_only" in message
    assert not (models / "verify.yml").exists()
    assert record(outputs=["OUTPUT1"])["changed"]
    result = record(shape_only=True, replace=True)
    assert "data:" not in result["case"] and not result["warnings"] and verify()["ok"]


def test_a_large_output_is_recorded_by_its_shape_and_a_warning_says_so(record, verify):
    result = record(values=3)
    assert [output["recorded"] for output in result["outputs"]] == ["shape", "shape"] and verify()["ok"]
    assert "Output OUTPUT0 of model simple is recorded without its values: it has 4 values, more than 3" in result["warnings"][0]


def test_files_are_named_relative_to_the_models_folder_and_copied_there(record, verify, models, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    numpy.save(tmp_path / "work" / "outside.npy", numpy.arange(4, dtype="int32"))
    numpy.save(models / "beside.npy", numpy.ones(4, dtype="int32"))
    inputs = [{"name": "INPUT0", "file": "outside.npy"}, {"name": "INPUT1", "file": "beside.npy"}]
    result = record(check=True, inputs=inputs, _ansible_diff=True)
    assert result["copied"] == ["outside.npy"] and not (models / "outside.npy").exists()
    assert result["diff"][1]["after"] == f"144 bytes of {tmp_path / 'work' / 'outside.npy'}\n"
    assert record(inputs=inputs)["copied"] == ["outside.npy"] and (models / "outside.npy").exists()
    assert [tensor["file"] for tensor in yaml.safe_load(text(models))[0]["inputs"]] == ["outside.npy", "beside.npy"]
    monkeypatch.chdir(tmp_path)
    assert verify()["ok"] and not record(inputs=inputs)["changed"]
    numpy.save(models / "outside.npy", numpy.zeros(4, dtype="int32"))
    inputs[0]["file"] = str(tmp_path / "work" / "outside.npy")
    assert "is another file of that name. Rename one of the two." in record(inputs=inputs)["msg"]


def test_one_protocol_is_enough(record, triton):
    assert record(url=None)["target"] == triton.grpc
    assert record(grpc_url=None)["target"] == triton.http
    assert "Give url for http, grpc_url for grpc" in record(url=None, protocols=["http"])["msg"]


@pytest.mark.parametrize(
    "options, says",
    [
        ({"model": "other"}, "has no folder of the model other; it has: simple. Correct model or source."),
        ({"source": "/nowhere"}, "source /nowhere does not exist on the controller"),
        ({"inputs": [{"name": "X", "fill": "ones"}]}, "the model has no input X"),
        ({"inputs": [{"name": "INPUT0", "fill": "ones", "data": [1]}]}, "mutually exclusive"),
        ({"outputs": ["X"]}, "model simple has no output X; its outputs are: OUTPUT0, OUTPUT1"),
        ({"repeat": 0}, "repeat is 0; it must be at least 1."),
        ({"top": 1, "shape_only": True}, "mutually exclusive"),
        ({"release": "demo"}, "mutually exclusive"),
        ({"url": None, "grpc_url": None}, "one of the following is required: release, selector, url, grpc_url"),
        ({"url": "http://127.0.0.1:1", "grpc_url": None}, "http://127.0.0.1:1: HTTP: no answer (connection refused)"),
    ],
)
def test_what_cannot_be_recorded_is_said(record, models, options, says):
    result = record(**options)
    assert result["failed"] and says in result["msg"] and list(models.iterdir()) == []


def test_a_refused_inference_and_a_file_that_is_no_list(record, models):
    (models.parent / "missing").mkdir()
    assert "Request for unknown model: 'missing' is not found" in record(model="missing")["msg"]
    (models / "verify.yml").write_text("inputs: []")
    assert "must hold a list of cases" in record()["msg"] and text(models) == "inputs: []"


class Forbidden(_verify_target._Address):
    """A port that may not be forwarded."""

    problem, forbidden = "no port for you", True

    def __init__(self, *_where):
        super().__init__("127.0.0.1:1")


def test_the_first_ready_replica_is_asked_by_its_ports_or_else_by_the_proxy(record, triton, monkeypatch):
    def pod(name, ready):
        return {
            "metadata": {"name": name, "namespace": "triton"},
            "spec": {"containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]},
        }

    pods = [pod("a", False), pod("b", True)]
    monkeypatch.setattr(
        _verify_target, "replicas", lambda _api, namespace, selector: pods if (namespace, selector) == ("triton", "release=demo") else []
    )
    monkeypatch.setattr(
        _verify_target._tunnel, "Tunnel", lambda _api, _namespace, _name, port: _verify_target._Address({8000: triton.http, 8001: triton.grpc}[port])
    )
    options = {"url": None, "grpc_url": None, "release": "demo", "host": "http://127.0.0.1:1"}
    for name in ("K8S_AUTH_KUBECONFIG", "K8S_AUTH_HOST", "K8S_AUTH_CONTEXT", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert record(namespace="triton", **options)["target"] == "b"
    monkeypatch.setattr(_verify_target._tunnel, "Tunnel", Forbidden)
    monkeypatch.setattr(_verify_target._api_proxy, "ApiProxy", lambda _api, _namespace, _name, _port: _verify_target._Address(triton.http))
    assert record(namespace="triton", **options)["target"] == "b"
    assert (
        "no gRPC goes through the API server's proxy, and no port for you. Add http"
        in record(namespace="triton", protocols=["grpc"], **options)["msg"]
    )
    assert "There is no replica to ask: no pod has the labels release=demo in namespace other" in record(namespace="other", **options)["msg"]


def test_the_sample_in_the_documentation_is_a_case():
    sample = yaml.safe_load(triton_record.RETURN)["case"]["sample"]
    assert (
        yaml.safe_load(sample)[0]["outputs"][0]["name"] == "OUTPUT0"
        and pathlib.PurePath(yaml.safe_load(triton_record.RETURN)["path"]["sample"]).name == "verify.yml"
    )
