# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against an API server in this process."""

from __future__ import annotations

import json

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster
from ansible_collections.mlserving.triton.plugins.modules import triton_preflight
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster

KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "a-session-token-that-is-secret"
INPUTS = {
    "release": "example",
    "namespace": "triton",
    "replicas": "4",
    "gpus": 0,
    "image": "nvcr.io/nvidia/tritonserver:26.07-py3",
    "image_pull_policy": "IfNotPresent",
    "service_type": "LoadBalancer",
}
CREDENTIALS = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": KEY, "session_token": TOKEN, "region": "us-east-1"}
NAMESPACE = "/api/v1/namespaces/triton"
DEPLOYMENT = "/apis/apps/v1/namespaces/triton/deployments/example-triton-inference-server"


@pytest.fixture
def cluster(monkeypatch):
    for name in (*_cluster.ENVIRONMENT.values(), "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    with FakeCluster() as server:
        yield server


@pytest.fixture
def run(cluster, run_module):
    def call(inputs=None, check=False, **options):
        base = {"host": cluster.url, "origin": "the inventory", "credentials": CREDENTIALS, "model_repository": "s3://models/repository"}
        return run_module(triton_preflight, {**base, **options, "inputs": {**INPUTS, **(inputs or {})}}, check)

    return call


def deployed(**labels):
    return {
        "metadata": {"name": "example-triton-inference-server", "labels": labels},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": {"spec": {"containers": [{"name": "x"}]}}},
    }


@pytest.mark.parametrize("check", [False, True])
def test_a_cluster_and_inputs_that_are_fine(run, cluster, check):
    result = run(check=check)
    assert not result["changed"] and (result["replicas"], result["gpus"]) == (4, 0)
    assert result["cluster"]["server"] == cluster.url and result["cluster"]["version"] == "v1.35.4" and result["cluster"]["source"] == "the inventory"
    assert result["names"]["fullname"] == "example-triton-inference-server"
    assert (result["namespace_exists"], result["deployed"]) == (False, False)


def test_everything_that_is_wrong_is_told_at_once_and_before_the_cluster_is_asked(run, cluster):
    result = run(
        {"release": "My_Release", "replicas": "two", "gpus": -1, "image": "Bad Image", "service_type": "External"},
        chart_values={"triton_namespace": "other"},
        model_repository="s3://",
        credentials={**CREDENTIALS, "secret_access_key": KEY + "\n"},
    )
    assert result["failed"] and result["msg"].startswith("Nothing was changed. ") and not cluster.requests
    for expected in (
        "triton_release is 'My_Release'",
        "'two'",
        "-1",
        "'Bad Image'",
        "'External'",
        "give one of the two",
        "model_repository_url",
        "The AWS credentials: secret_access_key",
    ):
        assert expected in result["msg"]
    assert len(result["problems"]) == 8


def test_no_secret_is_in_any_answer(run, cluster):
    results = [
        run(),
        run(credentials={**CREDENTIALS, "secret_access_key": KEY + "\n"}),
        run(credentials={**CREDENTIALS, "access_key_id": KEY}),
        run(credentials={**CREDENTIALS, "encoding": "base64"}),
        run(credentials={**CREDENTIALS, "session_token": f'"{TOKEN}"'}),
        run(api_key=TOKEN),
    ]
    assert [result.get("failed", False) for result in results] == [False, True, True, True, True, False]
    for result in results:
        assert KEY not in json.dumps(result) and TOKEN not in json.dumps(result)


def test_rights_that_are_missing_are_named(run, cluster):
    cluster.denied = {("create", "secrets"), ("create", "pods/portforward"), ("get", "nodes")}
    message = run()["msg"]
    assert f"On {cluster.url}, named by the inventory, the credentials lack these rights in namespace triton: " in message
    assert ": create secrets, create pods/portforward." in message
    assert message.startswith("Nothing was changed.") and "administrator" in message


@pytest.mark.parametrize("verb", ["list", "delete"])
@pytest.mark.parametrize("resource", ["secrets", "services", "deployments"])
def test_an_account_that_could_not_take_a_release_back_is_refused(run, cluster, verb, resource):
    cluster.denied = {(verb, resource)}
    assert f"rights in namespace triton: {verb} {resource}." in run()["msg"]


@pytest.mark.parametrize(
    ("labels", "owner"),
    [
        ({"app.kubernetes.io/managed-by": "Helm"}, "Helm"),
        ({"app": "triton-inference-server", "heritage": "Helm"}, "Helm"),
        ({"app": "other"}, "unknown"),
    ],
)
def test_a_deployment_of_somebody_else_is_refused(run, cluster, labels, owner):
    cluster.answers |= {NAMESPACE: {"metadata": {"name": "triton"}}, DEPLOYMENT: deployed(**labels)}
    message = run()["msg"]
    assert message.startswith("Nothing was changed. The Deployment example-triton-inference-server in namespace triton belongs to ")
    assert f"belongs to {owner}, not to this collection." in message and "helm uninstall" in message and "triton_release" in message


def test_our_own_deployment_is_found(run, cluster):
    cluster.answers |= {NAMESPACE: {"metadata": {"name": "triton"}}, DEPLOYMENT: deployed(**{"app.kubernetes.io/managed-by": "mlserving.triton"})}
    result = run()
    assert result["deployed"] and result["namespace_exists"]


def test_a_namespace_that_may_not_be_read_counts_as_there(run, cluster):
    cluster.answers[NAMESPACE] = 403
    assert run()["namespace_exists"]


@pytest.mark.parametrize("path", [NAMESPACE, DEPLOYMENT])
@pytest.mark.parametrize(("status", "reason"), [(500, "forbidden: not for you (500)"), (None, "the cluster does not answer")])
def test_a_cluster_that_fails_midway_is_an_error_in_words(run, cluster, path, status, reason):
    cluster.answers[path] = status
    message = run()["msg"]
    assert message.startswith("Nothing was changed. reading the ") and reason in message


def test_a_cluster_that_refuses_or_is_not_named_changes_nothing(run, cluster):
    cluster.answers[DEPLOYMENT] = 403
    assert "reading the Deployment triton/example-triton-inference-server: forbidden: not for you (403)" in run()["msg"]
    cluster.answers["/version/"] = 401
    assert run()["msg"].startswith(f"Nothing was changed. the cluster {cluster.url}, named by the inventory, refused the request: 401")
    assert run(host=None)["msg"].startswith("no cluster is named.")
