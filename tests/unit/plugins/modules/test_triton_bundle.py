# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against an API server and a Triton in this process; the pods' ports are reached without a tunnel here."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import tarfile

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _bundle_clean, _cluster, _tunnel, _version
from ansible_collections.mlserving.triton.plugins.modules import triton_bundle
from ansible_collections.mlserving.triton.tests.unit.plugins import fake_release
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_triton import FakeTriton

IN_SECRET, IN_VARIABLE, IN_ANNOTATION, IN_LOG = "pl4nted/in+the=Secret", "pl4nted-in-a-variable", "pl4nted-in-an-annotation", "pl4nted-in-a-log"
POD = f"{fake_release.NAME}-abc-a"


def secret(name, **data):
    return {
        "metadata": fake_release.metadata(name),
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


@pytest.fixture
def cluster(monkeypatch):
    for name in (*_cluster.ENVIRONMENT.values(), "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    pod = fake_release.pod("a", restartCount=1)
    variable = {"name": "DB_PASSWORD", "value": IN_VARIABLE}
    pod["spec"]["containers"][0]["env"].append(variable)
    pod["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"x": IN_ANNOTATION})}
    pod["metadata"]["managedFields"] = [{"manager": "x"}]
    config = {"metadata": fake_release.metadata("demo-conf"), "data": {"conf": f"key of {IN_SECRET}"}}
    with FakeTriton() as triton, FakeCluster() as server:
        monkeypatch.setattr(_tunnel, "Tunnel", lambda *_where: contextlib.nullcontext(triton.http.removeprefix("http://")))
        server.answers |= fake_release.answers(
            [pod], secrets=[secret("demo-aws-1", AWS_SECRET_ACCESS_KEY=IN_SECRET), secret("of-others", x="not-ours-1")]
        )
        server.answers |= {
            f"{fake_release.CORE}/configmaps": {"items": [config]},
            f"{fake_release.CORE}/events": {"items": [fake_release.event(POD, f"said {IN_SECRET}", fake_release.NOW)]},
            "/api/v1/nodes/node-1": {
                "metadata": {"name": "node-1"},
                "spec": {},
                "status": {"conditions": [{"type": "Ready"}], "allocatable": {"cpu": "2"}},
            },
            f"{fake_release.CORE}/pods/{POD}/log": " ".join(
                [f"aws_secret_access_key={IN_LOG}", IN_SECRET, IN_VARIABLE, base64.b64encode(IN_SECRET.encode()).decode(), "end"]
            ),
        }
        yield server


@pytest.fixture
def run(cluster, run_module, tmp_path):
    def call(check=False, **options):
        base = {"host": cluster.url, "namespace": "triton", "release": "demo", "path": str(tmp_path / "demo.tar.gz")}
        return run_module(triton_bundle, base | options, check)

    return call


def read(path):
    with tarfile.open(path) as archive:
        return {entry.name.partition("/")[2]: archive.extractfile(entry).read().decode() for entry in archive}


def test_a_bundle_has_everything_and_no_secret(run):
    result = run()
    assert result["changed"] and result["size"] == os.path.getsize(result["path"])
    files = read(result["path"])
    assert (
        sorted(files)
        == result["files"]
        == [
            "README.txt",
            "findings.txt",
            f"logs/{POD}/triton.log",
            f"logs/{POD}/triton.previous.log",
            "nodes/node-1.yaml",
            "objects/ConfigMap-demo-conf.yaml",
            f"objects/Deployment-{fake_release.NAME}.yaml",
            f"objects/Pod-{POD}.yaml",
            f"objects/PodDisruptionBudget-{fake_release.NAME}.yaml",
            f"objects/ReplicaSet-{fake_release.NAME}-abc.yaml",
            f"objects/Service-{fake_release.NAME}.yaml",
            "objects/events.yaml",
            "secrets.txt",
            "status.json",
            "status.txt",
            f"triton/{POD}/config/simple.json",
            f"triton/{POD}/index.json",
            f"triton/{POD}/metadata.json",
            f"triton/{POD}/metrics.txt",
            f"triton/{POD}/stats.json",
            "versions.json",
        ]
    )
    whole = "\n".join(files.values())
    for value in (IN_SECRET, IN_VARIABLE, IN_ANNOTATION, IN_LOG):
        assert [form for form in _bundle_clean.forms(value) if form in whole] == []
    assert "managedFields" not in whole and "not-ours" not in whole and "of-others" not in whole
    assert files[f"logs/{POD}/triton.log"].endswith(" end")
    assert "AWS_SECRET_ACCESS_KEY (21)" in files["secrets.txt"] and "DB_PASSWORD" in files[f"objects/Pod-{POD}.yaml"]
    assert "nv_inference_request_success" in files[f"triton/{POD}/metrics.txt"] and "allocatable" in files["nodes/node-1.yaml"]
    assert json.loads(files["versions.json"])["mlserving.triton"] == _version.VERSION
    assert "status.txt" in files["README.txt"] and "1 of 1 replicas ready" in files["status.txt"]


def test_a_planted_value_would_be_found(run, monkeypatch):
    monkeypatch.setattr(_bundle_clean.Cleaner, "text", lambda self, text: text)
    assert IN_SECRET in "\n".join(read(run()["path"]).values())


def test_check_mode_writes_nothing(run, tmp_path):
    assert run(check=True)["changed"] and os.listdir(tmp_path) == []


def test_what_is_there_is_left_before_anything_is_asked(run, cluster, tmp_path):
    (tmp_path / "demo.tar.gz").write_text("mine")
    assert "Nothing was overwritten" in run()["msg"] and cluster.requests == []


def test_without_the_right_to_see_things_they_are_noted(run, cluster):
    cluster.answers |= {f"{fake_release.CORE}/secrets": 403, "/api/v1/nodes/node-1": 403}
    result = run()
    assert "Nodes: the account may not see them" in result["notes"] and "Secrets: the account may not see them" in result["notes"]
    assert "Without the Secrets' values" in read(result["path"])["README.txt"]


def test_of_what_is_not_there_the_rest_is_still_told(run, cluster):
    cluster.answers[fake_release.DEPLOYMENT] = 404
    files = read(run()["path"])
    assert "there is nothing" in files["status.txt"] and f"objects/Service-{fake_release.NAME}.yaml" in files
