# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against an API server in this process."""

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster
from ansible_collections.mlserving.triton.plugins.modules import triton_gpu_info
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster

SPACE = "/api/v1/namespaces/nvidia-device-plugin"
DAEMONSETS = "/apis/apps/v1/namespaces/nvidia-device-plugin/daemonsets/nvidia-device-plugin"


def node(gpus):
    labels = {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.count": "2", "nvidia.com/gpu.replicas": "1", "nvidia.com/gpu.product": "Tesla-T4"}
    managed = [
        {"manager": manager, "fieldsV1": {"f:metadata": {"f:labels": owned}}}
        for manager, owned in (("mlserving.triton-nodes", {"f:nvidia.com/gpu.present": {}}), ("mlserving.triton-features", {}))
    ]
    return {
        "metadata": {"name": "gpu-1", "labels": labels, "managedFields": managed},
        "spec": {},
        "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}},
    }


@pytest.fixture
def cluster(monkeypatch):
    for name in (*_cluster.ENVIRONMENT.values(), "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(triton_gpu_info, "LOOK_AGAIN", 0.1)
    with FakeCluster() as server:
        owner = {"kind": "DaemonSet", "name": "nvidia-device-plugin"}
        containers = [{"name": "config-manager"}, {"name": "nvidia-device-plugin"}]
        pod = {"metadata": {"name": "plugin-1", "ownerReferences": [owner]}, "spec": {"nodeName": "gpu-1", "containers": containers}}
        pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        server.answers |= {
            "/api/v1/nodes": {"metadata": {"resourceVersion": "1"}, "items": [node(2)]},
            "/apis": {"groups": []},
            f"{SPACE}/pods": {"items": [pod]},
            f"{SPACE}/pods/plugin-1/log": "Xid=48 on Device=GPU-1",
            DAEMONSETS: {
                "metadata": {"generation": 1},
                "spec": {"template": {"spec": {"containers": []}}},
                "status": {"observedGeneration": 1, "updatedNumberScheduled": 1, "desiredNumberScheduled": 1},
            },
        }
        yield server


@pytest.fixture
def run(cluster, run_module):
    return lambda check=False, **options: run_module(triton_gpu_info, {"host": cluster.url, **options}, check)


@pytest.mark.parametrize("check", [False, True])
def test_a_node_that_offers_what_it_has(run, check):
    result = run(check, wait_timeout=5)
    assert result["ready"] and result["nodes"] == [
        {"name": "gpu-1", "has": {"nvidia.com/gpu": 2}, "offers": {"nvidia.com/gpu": 2}, "ready": True, "reason": ""}
    ]
    assert result["labelled"] == {"mlserving.triton-nodes": {"gpu-1": {"nvidia.com/gpu.present": "true"}}, "mlserving.triton-features": {}}
    assert result["problems"] == []


@pytest.fixture
def discovery(cluster):
    """Return what lets feature discovery write labels into its log."""
    owner = {"kind": "DaemonSet", "name": "gpu-feature-discovery"}
    pod = {"metadata": {"name": "discovery-1", "ownerReferences": [owner]}, "status": {"phase": "Running"}}
    cluster.answers[f"{SPACE}/pods"]["items"].append(pod | {"spec": {"nodeName": "gpu-1", "containers": [{"name": "gpu-feature-discovery"}]}})
    path = f"{SPACE}/pods/discovery-1/log"

    def writes(**labels):
        lines = ["I1127 main.go:278] Creating Labels", *(f"nvidia.com/gpu.{key}={value}" for key, value in labels.items())]
        cluster.answers[path] = "\n".join(f"2026-11-27T11:48:03.665927913Z {line}" for line in lines)

    return writes


def test_labels_that_are_being_written_are_read_again(run, discovery, monkeypatch):
    discovery(count=2)
    slept = []
    monkeypatch.setattr(triton_gpu_info.time, "sleep", lambda seconds: slept.append(seconds) or discovery(count=2, product="Tesla-T4"))
    result = run(wait_timeout=60, labels_from="log")
    assert result["labels"] == {"gpu-1": {"nvidia.com/gpu.count": "2", "nvidia.com/gpu.product": "Tesla-T4"}} and result["ready"]
    assert slept == [1, 1]


def test_labels_that_the_node_has_are_believed_at_once(run, cluster, discovery, monkeypatch):
    discovery(count=2)
    monkeypatch.setattr(triton_gpu_info.time, "sleep", lambda seconds: pytest.fail("it waited"))
    cluster.answers["/api/v1/nodes"]["items"][0]["metadata"]["managedFields"][1]["fieldsV1"]["f:metadata"]["f:labels"] = {"f:nvidia.com/gpu.count": {}}
    result = run(wait_timeout=60, labels_from="log")
    assert result["labels"]["gpu-1"] == result["labelled"]["mlserving.triton-features"]["gpu-1"] == {"nvidia.com/gpu.count": "2"}


def test_it_waits_until_the_node_has_changed(run, cluster):
    cluster.answers["/api/v1/nodes"]["items"] = [node(0)]

    def changes():
        cluster.answers["/api/v1/nodes"]["items"] = [node(2)]
        return {}

    cluster.on_watch = changes
    assert run(wait_timeout=10)["ready"]


def test_when_the_time_is_over_it_says_why(run, cluster):
    cluster.answers["/api/v1/nodes"]["items"] = [node(1)]
    cluster.on_watch = dict
    result = run(wait_timeout=1)
    assert result["failed"] and result["msg"].startswith(
        "After 1 s not every node offers the GPUs that it has. gpu-1: it has 2 of nvidia.com/gpu and offers 1"
    )
    assert "Xid=48" in result["msg"]


def test_a_configuration_that_has_not_taken_effect(run):
    shared = {"sharing": {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}}}
    result = run(configs={"shared": shared}, default_config="shared")
    assert result["nodes"][0]["reason"] == "its GPUs are cut into 1 and not into 4, as the configuration shared says"


def test_problems_and_no_daemonset(run, cluster):
    del cluster.answers[DAEMONSETS]
    result = run(mig_strategy="single", nodes=["gpu-9"])
    assert not result["ready"] and result["nodes"][0]["reason"].startswith("the device plugin's DaemonSet is being rolled out")
    assert ["gpu-9" in result["problems"][0], "cards without MIG: gpu-1 (Tesla-T4)" in result["problems"][1]] == [True, True]
