# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against an API server in this process."""

from __future__ import annotations

import base64
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
CREDENTIALS = {
    "aws_access_key_id": "ASIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key": KEY,
    "aws_session_token": TOKEN,
    "aws_region": "us-east-1",
}
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
        credentials={**CREDENTIALS, "aws_secret_access_key": KEY + "\n"},
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
        "The credentials: secret_access_key",
    ):
        assert expected in result["msg"]
    assert len(result["problems"]) == 8


def test_no_secret_is_in_any_answer(run, cluster):
    results = [
        run(),
        run(credentials={**CREDENTIALS, "aws_secret_access_key": KEY + "\n"}),
        run(credentials={**CREDENTIALS, "aws_access_key_id": KEY}),
        run(credentials={**CREDENTIALS, "aws_encoding": "base64"}),
        run(credentials={**CREDENTIALS, "aws_session_token": f'"{TOKEN}"'}),
        run(api_key=TOKEN),
    ]
    assert [result.get("failed", False) for result in results] == [False, True, True, True, True, False]
    for result in results:
        assert KEY not in json.dumps(result) and TOKEN not in json.dumps(result)


def test_rights_that_are_missing_are_named(run, cluster):
    cluster.denied = {("create", "secrets"), ("create", "pods/portforward"), ("create", "pods/proxy"), ("get", "nodes")}
    message = run()["msg"]
    assert f"On {cluster.url}, named by the inventory, the credentials lack these rights in namespace triton: " in message
    assert ": create secrets, create pods/portforward." in message
    assert message.startswith("Nothing was changed.") and "administrator" in message


def test_the_api_servers_proxy_stands_in_for_forwarded_ports(run, cluster):
    cluster.denied = {("create", "pods/portforward")}
    assert "failed" not in run()


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


SECRET = f"{NAMESPACE}/secrets/team"


def secret(**data):
    return {
        "metadata": {"name": "team", "namespace": "triton"},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


def test_an_existing_secret_is_looked_into_and_its_digest_returned(run, cluster):
    cluster.answers[SECRET] = secret(AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE", AWS_SECRET_ACCESS_KEY=KEY)
    found = run(credentials={"credentials_secret": "team"})["credentials"]
    assert (found["source"], found["secret"], found["keys"]) == ("existing", "team", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
    cluster.answers[SECRET] = secret(AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE", AWS_SECRET_ACCESS_KEY=KEY[::-1])
    assert run(credentials={"credentials_secret": "team"})["credentials"]["digest"] != found["digest"]


@pytest.mark.parametrize(
    ("content", "elsewhere", "expected"),
    [
        (404, [], "There is no Secret team in namespace triton (triton_credentials_secret). Make it first"),
        (404, ["vault"], "There is one in vault, but a pod can only use Secrets of its own namespace: copy it."),
        (secret(password="x"), [], "lacks AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY. It has the keys password."),
        (
            secret(AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE", AWS_SECRET_ACCESS_KEY=KEY + "\n"),
            [],
            "secret_access_key has white space or a line break at its end",
        ),
    ],
)
def test_an_existing_secret_that_cannot_serve_is_explained(run, cluster, content, elsewhere, expected):
    cluster.answers[SECRET] = content
    cluster.answers["/api/v1/secrets"] = {"items": [{"metadata": {"name": "team", "namespace": name}} for name in elsewhere]}
    message = run(credentials={"credentials_secret": "team"})["msg"]
    assert message.startswith("Nothing was changed. ") and expected in message and KEY not in message


def test_two_sources_are_named_before_the_cluster_is_asked(run, cluster):
    message = run(credentials={**CREDENTIALS, "credentials_secret": "team"})["msg"]
    assert "triton_credentials_secret are given. Leave out one of the two." in message and not cluster.requests


def test_a_service_account_has_to_be_there_unless_it_is_to_be_made(run, cluster):
    assert "There is no service account team in namespace triton" in run(credentials={"service_account": "team"})["msg"]
    made = run(credentials={"service_account_annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}})["credentials"]
    assert made["account"] == "example-triton-inference-server" and made["source"] == "service_account"
    cluster.answers[f"{NAMESPACE}/serviceaccounts/team"] = {"metadata": {"name": "team"}}
    assert run(credentials={"service_account": "team"})["credentials"]["account"] == "team"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"source": "environment"}, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set where the module runs"),
        ({"aws_profile": "nobody"}, "there is no profile 'nobody'"),
        ({"cloud_credentials": {"s3": {"": {"key": "x"}}}}, "cloud_credentials.s3"),
        ({**CREDENTIALS, "aws_expires": "2020-01-01T00:00:00Z"}, "expired at 2020-01-01T00:00:00Z"),
        ({**CREDENTIALS, "aws_region": ""}, "region is empty"),
    ],
)
def test_every_source_is_looked_at_beforehand(run, cluster, monkeypatch, tmp_path, given, expected):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    message = run(credentials=given)["msg"]
    assert "The credentials: " in message and expected in message and KEY not in message and not cluster.requests
