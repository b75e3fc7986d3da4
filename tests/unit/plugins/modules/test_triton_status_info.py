# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against an API server and a Triton in this process; the pods' ports are reached without a tunnel here."""

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _api_proxy, _cluster, _tunnel
from ansible_collections.mlserving.triton.plugins.modules import triton_status_info
from ansible_collections.mlserving.triton.tests.unit.plugins import fake_release
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_triton import FakeTriton


@pytest.fixture
def triton():
    with FakeTriton() as server:
        yield server


@pytest.fixture
def cluster(monkeypatch, triton):
    """An API server; ``silent`` holds the pods at whose ports nobody listens, ``no_tunnel`` whether the account may not forward ports."""
    for name in (*_cluster.ENVIRONMENT.values(), "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)

    class Way(contextlib.nullcontext):
        def __init__(self, _api, _namespace, name, _port, forbidden=False):
            self.forbidden, self.problem = forbidden, "the account may not forward ports" if forbidden else ""
            nobody = forbidden or any(name.endswith(f"-{letter}") for letter in server.silent)
            super().__init__("127.0.0.1:1" if nobody else triton.http.removeprefix("http://"))

    monkeypatch.setattr(_tunnel, "Tunnel", lambda *where: Way(*where, forbidden=server.no_tunnel))
    monkeypatch.setattr(_api_proxy, "ApiProxy", Way)
    with FakeCluster() as server:
        server.silent, server.no_tunnel = "", False
        server.answers |= fake_release.answers([fake_release.pod("a"), fake_release.pod("b")])
        yield server


@pytest.fixture
def run(cluster, run_module):
    def call(**options):
        return run_module(triton_status_info, {"host": cluster.url, "namespace": "triton", "release": "demo"} | options)

    return call


def test_a_healthy_release_fits_on_one_screen(run):
    result = run()
    assert (result["found"], result["healthy"], result["problems"], result["changed"]) == (True, True, [], False)
    assert result["image"] == {"name": "tritonserver:1", "digests": ["sha256:" + 64 * "a"]}
    assert result["repository"] == {"url": fake_release.URL, "release": "a6289209f94be40b"}
    assert [(row["name"][-1], row["ready"], row["version"], row["problem"]) for row in result["replicas"]] == [
        ("a", True, "2.51.0", ""),
        ("b", True, "2.51.0", ""),
    ]
    assert result["replicas"][0]["requests"] | {"models": []} == {"success": 4, "failed": 1, "average_ms": 2.5, "queue_ms": 0.25, "models": []}
    assert result["models"] == [{"name": "simple", "version": "1", "ready": 2, "others": {}}]
    assert result["service"] == {"name": fake_release.NAME, "type": "LoadBalancer", "http": "http://192.0.2.1:8000", "grpc": "192.0.2.1:8001"}
    assert "demo in namespace triton on http://127.0.0.1:" in result["text"] and "2 of 2 replicas ready" in result["text"]
    assert max(map(len, result["text"].splitlines())) <= 100


def test_the_key_of_restricted_apis_comes_from_the_pods_secret_and_shows_nowhere(run, triton):
    result = run()
    assert triton.headers["http"]["triton-key"] == "open-sesame-1"
    assert "open-sesame" not in str(result)


def test_of_other_secrets_only_the_metadata_is_read(run, cluster):
    run()
    asked = {path: accept for path, accept in cluster.requests if "/secrets" in path}
    assert asked.keys() == {f"{fake_release.CORE}/secrets", f"{fake_release.CORE}/secrets/demo-key"}
    assert "PartialObjectMetadataList" in asked[f"{fake_release.CORE}/secrets"]


def test_a_key_that_may_not_be_read_is_a_row_with_its_reason(run, cluster, triton):
    cluster.answers[f"{fake_release.CORE}/secrets/demo-key"] = 403
    assert run()["found"]
    assert triton.headers["http"]["triton-key"] == ""


def test_a_replica_that_does_not_answer_is_a_row_with_its_reason(run, cluster):
    cluster.silent = "b"
    result = run()
    assert not result.get("failed") and not result["healthy"]
    assert [row["problem"] for row in result["replicas"]] == ["", "no answer (Connection refused)"]
    assert [problem["what"] for problem in result["problems"]] == [
        f"Replica {fake_release.NAME}-abc-b does not say how it is: no answer (Connection refused)."
    ]
    assert "no answer" in result["text"].partition("REPLICA")[2]


def test_the_api_servers_proxy_is_the_way_where_ports_may_not_be_forwarded(run, cluster):
    cluster.no_tunnel = True
    assert run()["healthy"]


def test_models_that_differ_are_named(run, cluster, triton):
    indexes = iter(
        [[{"name": "simple", "version": "1", "state": "READY"}], [{"name": "simple", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}]]
    )
    triton.on_request = lambda path: setattr(triton, "index", next(indexes)) if path.endswith("/index") else None
    result = run()
    (problem,) = result["problems"]
    assert problem["what"].startswith("Model simple version 1 is ready on 1 of 2 replicas only: not loaded on demo-")
    assert "1 of 2" in result["text"] and "abc-" in result["text"]


def test_the_reason_of_a_failing_pod_is_in_the_log(run, cluster):
    crashed = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": "2026-11-25T09:59:00Z"}}
    bad = fake_release.pod("b", ready=False, state=crashed, lastState=ended, restartCount=3)
    cluster.answers |= fake_release.answers([fake_release.pod("a"), bad])
    cluster.answers[f"{fake_release.CORE}/pods/{bad['metadata']['name']}/log"] = (
        "E1125 1 x.cc:1] failed to load 'simple' version 1: Internal: No module named 'nosuch', aws_secret_access_key=planted-1234"
    )
    result = run()
    (problem,) = result["problems"]
    assert problem["what"].startswith(
        "1 of 2 replicas is not ready: pod demo-triton-inference-server-abc-b: container triton ended with exit code 1 (3 times): model 'simple'"
    )
    assert problem["todo"] == "The image has no Python package nosuch: add it to the image, or give the model an EXECUTION_ENV_PATH."
    assert "planted" not in str(result)
    assert result["replicas"][1]["last_end"]["exit_code"] == 1 and "CrashLoopBackOff" in result["text"]


def test_a_release_that_is_not_there_is_said_so(run, cluster):
    cluster.answers["/apis/apps/v1/deployments"] = {
        "items": [{"metadata": {"name": "x", "namespace": "other", "labels": {"app.kubernetes.io/instance": "mine"}}}]
    }
    result = run(release="nosuch", namespace="nowhere")
    assert not result["found"] and not result["healthy"] and "there is nothing" in result["text"]
    assert "There is no namespace nowhere." in result["text"] and "other/mine" in result["text"]


def test_what_may_not_be_listed_is_said(run, cluster):
    cluster.answers[f"{fake_release.CORE}/events"] = 403
    result = run()
    assert [problem["what"] for problem in result["problems"]] == ["The account may not list events, so they are not shown."]


def test_a_cluster_that_refuses_the_deployment_is_a_failure(run, cluster):
    cluster.answers[fake_release.DEPLOYMENT] = 403
    assert "(403)" in run()["msg"] or "403" in run()["msg"]


@pytest.mark.parametrize("option, value", [("release", "Bad Name"), ("namespace", "x/y"), ("fullname_override", "-")])
def test_a_name_that_kubernetes_has_not_is_refused(run, option, value):
    assert f"triton_{option}" in run(**{option: value})["msg"]


def test_the_last_verified_release_is_the_newest_record(run, cluster):
    labels = {"app.kubernetes.io/instance": "demo", "app.kubernetes.io/component": "release"}
    records = []
    for number, image in ((9, "tritonserver:0"), (10, "tritonserver:1")):
        annotations = {
            "mlserving.triton/release": str(number),
            "mlserving.triton/verified-at": "2026-11-25T09:00:00Z",
            "mlserving.triton/image": image,
        }
        records.append(
            {
                "metadata": fake_release.metadata(
                    f"demo-release-{number}", labels=labels, annotations=annotations, creationTimestamp=f"2026-11-25T08:00:{number:02}Z"
                )
            }
        )
    cluster.answers |= fake_release.answers([fake_release.pod("a")], configmaps=records)
    result = run()
    assert result["verified"] == {"name": "demo-release-10", "release": 10, "at": "2026-11-25T09:00:00Z", "by": "", "image": "tritonserver:1"}
    assert "release 10 at 2026-11-25T09:00:00Z" in result["text"]


def test_expired_credentials_are_a_problem(run, cluster):
    expired = fake_release.metadata("demo-aws-1", annotations={"mlserving.triton/expires": "2026-01-01T00:00:00Z"})
    cluster.answers |= fake_release.answers([fake_release.pod("a")], secrets=[{"metadata": expired}])
    (problem,) = run()["problems"]
    assert "demo-aws-1 have expired at 2026-01-01" in problem["what"] and "credentials.yml" in problem["todo"]
