# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a Triton and an API server in this process; the pods' ports are reached without a tunnel here."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _tunnel, _verify_server
from ansible_collections.mlserving.triton.plugins.modules import triton_verify
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_triton import FakeTriton, make_certificate

CASE = {
    "model": "simple",
    "inputs": [
        {"name": "INPUT0", "datatype": "INT32", "shape": [4], "data": [0, 1, 2, 3]},
        {"name": "INPUT1", "datatype": "INT32", "shape": [4], "data": [1]},
    ],
    "outputs": [{"name": "OUTPUT0", "data": [1, 2, 3, 4]}, {"name": "OUTPUT1"}],
}


def pod(name, ready=True, phase="Running", **metadata):
    return {
        "metadata": {"name": name, "namespace": "triton", **metadata},
        "spec": {"nodeName": "node-1", "containers": [{"name": "t", "ports": [{"name": "grpc", "containerPort": 9001}]}]},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


@pytest.fixture
def triton():
    with FakeTriton() as server:
        yield server


@pytest.fixture
def cluster(monkeypatch, triton):
    """Give the module a cluster with ``pods``; returns the requested paths and tunnels."""
    for name in (*_cluster.ENVIRONMENT.values(), "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            """Keep the test's output clean."""

        def do_GET(self) -> None:
            self.server.seen.append(self.path)
            body = json.dumps({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": self.server.pods}).encode()
            if self.server.status != 200:
                body = b'{"message": "pods is forbidden: User me cannot list"}'
            self.send_response(self.server.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    class Tunnel(contextlib.nullcontext):
        problem, forbidden = "", False

        def __init__(self, _api, namespace, name, port):
            server.seen.append((namespace, name, port))
            super().__init__({9001: triton.grpc, 8002: triton.http.removeprefix("http://")}.get(port, triton.http))

    monkeypatch.setattr(_tunnel, "Tunnel", Tunnel)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.pods, server.seen, server.status = [pod("a"), pod("b")], [], 200
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def run(cluster, run_module, monkeypatch):
    monkeypatch.setattr(_verify_server, "PAUSE", 0.05)

    def call(check=False, **options):
        base = {"timeout": 5, "cases": [CASE]}
        if "release" in options or "selector" in options:
            base |= {"host": f"http://127.0.0.1:{cluster.server_port}", "namespace": "triton"}
        return run_module(triton_verify, base | options, check)

    return call


@pytest.mark.parametrize("check", [False, True])
def test_every_replica_and_the_address_answer(run, cluster, triton, check):
    result = run(check, release="demo", replicas=2, url=triton.http, grpc_url=triton.grpc)
    assert result["ok"] and not result["changed"] and result["problems"] == []
    assert [(report["target"], report["node"], report["kind"]) for report in result["targets"]] == [
        ("a", "node-1", "replica"),
        ("b", "node-1", "replica"),
        (triton.http, "", "url"),
    ]
    for report in result["targets"]:
        assert report["version"] == "2.51.0" and report["live"] and report["ready"]
        assert [(entry["protocol"], entry["ok"], entry["outputs"]) for entry in report["inferences"]] == [
            ("http", True, "OUTPUT0[0:3]=1 2 3"),
            ("grpc", True, "OUTPUT0[0:3]=1 2 3"),
        ]
    assert len(result["table"]) == 4 and "OUTPUT0[0:3]=1 2 3" in result["table"][1]
    assert "labelSelector=release%3Ddemo" in cluster.seen[0]
    assert set(cluster.seen[1:]) == {("triton", name, port) for name in "ab" for port in (8000, 9001)}


def test_a_wrong_answer_fails_with_the_difference(run, triton):
    triton.off = 1
    result = run(url=triton.http, protocols=["http"])
    assert result["failed"] and not result["ok"]
    assert f"{triton.http}: HTTP inference of simple: OUTPUT0[0] is 2, expected 1 (tolerance 0); 4 of 4 values differ" in result["msg"]
    assert "FAILED 1/1" in result["table"][1]


def test_a_server_that_comes_up_late_is_waited_for(run, triton):
    triton.refusals = 3
    assert run(url=triton.http, protocols=["http"])["ok"]


def test_a_model_that_is_not_ready_is_named_with_its_reason_and_the_others_are_run(run, triton):
    triton.index = [*triton.index, {"name": "bad", "version": "2", "state": "UNAVAILABLE", "reason": "Internal: out of memory"}]
    triton.ready = False
    result = run(url=triton.http, grpc_url=triton.grpc)
    assert "the server says that it is not ready; model bad version 2 is UNAVAILABLE: Internal: out of memory" in result["msg"]
    assert [entry["ok"] for entry in result["targets"][0]["inferences"]] == [True, True]
    assert " 1/2 " in result["table"][1]


def test_a_model_without_a_case_and_a_case_without_a_model(run, triton):
    result = run(url=triton.http, protocols=["http"], cases=[])
    assert result["ok"] and result["targets"][0]["models"][0]["note"] == "no case"
    result = run(url=triton.http, protocols=["http"], cases=[{**CASE, "model": "other"}])
    assert "model other is not in the repository index; it has: simple" in result["msg"]


def test_a_port_that_never_answers_says_what_was_seen_last(run, triton):
    result = run(url=triton.http, grpc_url="127.0.0.1:1", cases=[], timeout=1)
    assert "GRPC: no answer (connection refused); this was seen last, after" in result["msg"]


def test_replicas_are_counted(run, cluster):
    cluster.pods = [pod("a"), pod("gone", deletionTimestamp="2026-11-23T15:00:00Z"), pod("evicted", False, "Failed"), pod("new", False, "Pending")]
    result = run(release="demo", replicas=2)
    assert [report["target"] for report in result["targets"]] == ["a", "new"]
    assert "1 of 2 replicas are ready (labels release=demo, namespace triton)" in result["msg"]
    assert "new on node node-1: the pod cannot be asked: pod new on node node-1: Pending, not ready" in result["msg"]


def test_a_pod_that_is_not_ready_is_a_failure_whatever_its_server_says(run, cluster):
    cluster.pods = [pod("a", False)]
    result = run(release="demo")
    assert result["failed"] and result["problems"] == ["a: pod a on node node-1: Running, not ready"]


def test_no_pod_at_all_is_a_failure(run, cluster):
    cluster.pods = []
    assert "no pod has the labels app=x in namespace triton" in run(selector="app=x")["msg"]


def test_a_refused_request_and_a_wrong_case_are_told(run, cluster, triton):
    cluster.status = 403
    assert "listing the pods with the labels release=demo in namespace triton: pods is forbidden" in run(release="demo")["msg"]
    wrong = {**CASE, "inputs": [{**CASE["inputs"][0], "shape": [5]}]}
    assert "the case of model simple, input INPUT0: shape [5] holds 5 values, data has 4" in run(url=triton.http, cases=[wrong])["msg"]
    assert "there is no grpc_url for it" in run(url=triton.http, protocols=["grpc"])["msg"]


def test_tensors_are_made_as_the_server_tells_them(run, triton):
    case = {
        "model": "simple",
        "inputs": [{"name": "INPUT0", "fill": "ones"}, {"name": "INPUT1", "fill": "zeros"}],
        "outputs": [{"name": "OUTPUT0", "data": [1, 1, 1, 1]}],
    }
    result = run(url=triton.http, grpc_url=triton.grpc, cases=[case])
    assert result["ok"] and [entry["ok"] for entry in result["targets"][0]["inferences"]] == [True, True]
    case["inputs"][0] |= {"datatype": "FP32"}
    assert "datatype is FP32, the model takes INT32" in run(url=triton.http, cases=[case])["msg"]


def test_a_name_that_is_left_out_must_be_the_only_one(run, triton):
    result = run(url=triton.http, protocols=["http"], cases=[{"model": "simple", "inputs": [{"fill": "ones"}]}])
    assert "one of its inputs has no name, and the model has 2: INPUT0, INPUT1. Name it." in result["msg"]


def test_the_counters_of_a_replica_grow_by_what_was_sent(run, cluster, triton):
    cluster.pods = [pod("a")]
    result = run(release="demo", metrics=True)
    assert result["ok"] and result["targets"][0]["metrics"] == {"ok": True, "message": ""} and ("triton", "a", 8002) in cluster.seen

    triton.frozen = True
    result = run(release="demo", metrics=True, timeout=1)
    assert "the counters of answered requests grew too little: simple by 0 of 2" in result["msg"]


def test_the_models_of_the_source_must_be_served_as_configured(run, triton, tmp_path):
    tensor = '[ { name: "INPUT0" data_type: %s dims: [ 4 ] } ]'
    for name in ("simple", "other"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(f'name: "{name}" backend: "python" input {tensor % "TYPE_FP32"}')
    message = run(url=triton.http, protocols=["http"], source=str(tmp_path))["msg"]
    assert "model other is not in the repository index; it has: simple" in message
    assert "model simple: of its inputs, INPUT0 is INT32, expected FP32 as in its config.pbtxt" in message
    (tmp_path / "simple" / "config.pbtxt").write_text(f'name: "simple" backend: "python" input {tensor % "TYPE_INT32"}')
    assert run(url=triton.http, protocols=["http"], source=str(tmp_path), models=["simple"])["ok"]


def test_of_a_source_only_the_cases_of_the_models_that_are_wanted_count(run, triton, tmp_path):
    for name in ("simple", "other"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(f'name: "{name}" backend: "python"')
        (tmp_path / name / "verify.yml").write_text(json.dumps([{key: value for key, value in CASE.items() if key != "model"}]))
    asked = {"url": triton.http, "protocols": ["http"], "source": str(tmp_path), "cases": []}
    assert "model other" in run(**asked)["msg"]
    for models in (["simple"], []):
        result = run(**asked, models=models)
        assert result["ok"] and [entry["model"] for entry in result["targets"][0]["inferences"]] == models


def test_the_report_is_written_whatever_it_says(run, triton, tmp_path):
    result = run(url=triton.http, protocols=["http"], report=str(tmp_path / "report"))
    assert sorted(result["reports"]) == sorted(str(path) for path in (tmp_path / "report").iterdir()) and len(result["reports"]) == 3
    triton.off = 1
    assert run(url=triton.http, protocols=["http"], report=str(tmp_path / "report"))["failed"]
    assert not json.loads((tmp_path / "report" / "verification.json").read_text())["ok"]
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in run(url=triton.http, protocols=["http"], report=str(tmp_path / "file" / "x"))["msg"]


def test_options_of_an_input_exclude_each_other(run, triton):
    case = {"model": "simple", "inputs": [{"name": "INPUT0", "data": [1], "fill": "ones"}]}
    assert "mutually exclusive" in run(url=triton.http, cases=[case])["msg"]
    assert (
        "one of the following is required: data, file, fill"
        in run(url=triton.http, cases=[{"model": "simple", "inputs": [{"name": "INPUT0"}]}])["msg"]
    )


INPUTS = CASE["inputs"]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({"inputs": INPUTS, "steps": [{"inputs": INPUTS}]}, "mutually exclusive: inputs|steps"),
        ({"outputs": [], "steps": [{"inputs": INPUTS}]}, "mutually exclusive: outputs|steps"),
        ({"inputs": INPUTS, "stream": True, "outputs": [], "responses": []}, "mutually exclusive: outputs|responses"),
        ({"inputs": INPUTS, "outputs": [{"data": [1], "file": "a.npy"}]}, "mutually exclusive: data|file|classes"),
        ({}, "one of the following is required: inputs, steps"),
        ({"steps": [{"outputs": []}]}, "missing required arguments: inputs"),
        ({"stream": True, "steps": [{"inputs": INPUTS}]}, "it has stream and steps"),
        ({"inputs": INPUTS, "responses": []}, "it has responses, which only a stream has several of"),
    ],
)
def test_options_of_a_case_exclude_each_other(run, triton, case, words):
    assert words in run(url=triton.http, cases=[{"model": "simple"} | case])["msg"]


def test_streams_and_sequences_are_written_as_options(run, triton):
    triton.load("count", "sum")
    one = {"inputs": [{"data": [1]}], "outputs": [{"data": [1]}]}
    stream = {"model": "count", "stream": True, "inputs": [{"data": [2]}], "responses": [{"outputs": [{"data": [0]}]}, {"outputs": [{"data": [1]}]}]}
    result = run(url=triton.http, grpc_url=triton.grpc, cases=[stream, {"model": "sum", "steps": [one, {**one, "outputs": [{"data": [2]}]}]}])
    assert result["ok"] and [(entry["model"], entry["protocol"]) for entry in result["targets"][0]["inferences"]] == [
        ("sum", "http"),
        ("count", "grpc"),
        ("sum", "grpc"),
    ]


def test_headers_and_the_key_are_sent_to_an_address(run, triton):
    result = run(url=triton.http, grpc_url=triton.grpc, headers={"X-Api-Key": 7}, restricted_key={"name": "Admin", "value": "secret"})
    assert result["ok"] and triton.headers["http"]["x-api-key"] == triton.headers["grpc"]["x-api-key"] == "7"
    assert triton.headers["http"]["admin"] == triton.headers["grpc"]["triton-grpc-protocol-admin"] == "secret"


def test_headers_are_not_sent_to_replicas_but_the_key_is(run, cluster, triton):
    assert run(release="demo", headers={"X-Api-Key": "x"}, restricted_key={"name": "admin", "value": "k"})["ok"]
    assert triton.headers["http"]["admin"] == "k" and "x-api-key" not in triton.headers["http"] | triton.headers["grpc"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"headers": {"X Key": "1"}}, "headers has 'X Key', whose name or value no request can carry"),
        ({"headers": {"X-Key": "a\nb"}}, "headers has 'X-Key'"),
        ({"restricted_key": {"name": "k", "value": "é"}}, "restricted_key has 'k'"),
        ({"ca_file": "/none/ca.pem"}, "ca_file is /none/ca.pem, which cannot be read"),
    ],
)
def test_what_no_request_can_carry_is_named(run, triton, options, words):
    assert words in run(url=triton.http, **options)["msg"]


def test_a_certificate_is_trusted_only_if_its_authority_is_given(run, tmp_path):
    key, certificate = make_certificate(tmp_path)
    with FakeTriton((key, certificate)) as server:
        assert run(url=server.http, grpc_url=server.grpc, ca_file=certificate)["ok"]
        message = run(url=server.http, grpc_url=server.grpc, timeout=30)["msg"]
    assert "HTTP: TLS failed: self" in message and "GRPC: TLS failed: self" in message and "in ca_file" in message


def test_an_address_that_is_none_is_told(run):
    assert "http://x:port: HTTP: x:port is no host:port" in run(url="http://x:port")["msg"]


def test_versions_that_are_asked_for_must_be_loaded(run, triton):
    assert run(url=triton.http, protocols=["http"], versions={"simple": 1})["ok"]
    assert "model simple has version 1 loaded, expected 2 too" in run(url=triton.http, protocols=["http"], versions={"simple": [1, 2]})["msg"]
