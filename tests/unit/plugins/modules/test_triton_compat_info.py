# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module, with nodes that are given and with those of an API server in this process."""

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster
from ansible_collections.mlserving.triton.plugins.modules import triton_compat_info
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster

IMAGE = "nvcr.io/nvidia/tritonserver:26.07-py3"
T4 = {"name": "t4", "driver": "580.95.05", "compute_capability": "7.5", "product": "Tesla T4"}
V100 = {"name": "v100", "driver": "580.95.05", "compute_capability": "7.0", "product": "Tesla V100-SXM2-16GB"}
LABELS = {
    "nvidia.com/gpu.present": "true",
    "nvidia.com/cuda.driver-version.full": "580.95.05",
    "nvidia.com/gpu.compute.major": "7",
    "nvidia.com/gpu.compute.minor": "5",
    "nvidia.com/gpu.product": "Tesla-T4",
}


@pytest.fixture(autouse=True)
def no_cluster_around(monkeypatch):
    for name in (*_cluster.ENVIRONMENT.values(), "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)


def node(name, labels, gpus=0):
    return {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": {"nvidia.com/gpu": str(gpus)} if gpus else {}}}


@pytest.mark.parametrize("check", [False, True])
def test_a_fit(run_module, check):
    result = run_module(triton_compat_info, {"image": IMAGE, "nodes": [T4], "enforce": "fail"}, check)
    assert (result["verdict"], result["nearest"], result["below_floor"], result["warnings"]) == ("fits", "", False, [])
    assert result["release"]["server"] == "2.71.0" and result["nodes"][0]["verdict"] == "fits" and not result["changed"]


def test_what_does_not_fit_fails_with_the_reason_and_the_nearest_tag(run_module):
    result = run_module(triton_compat_info, {"image": IMAGE, "nodes": [T4, V100], "enforce": "fail"})
    assert result["failed"] and result["nearest"] == "25.02" and result["verdict"] == "does_not_fit"
    assert result["msg"].startswith("Nothing was changed. tritonserver:26.07-py3 (Triton 2.71.0, CUDA 13.3) does not fit node v100: its Tesla V100")
    assert "Use the tag 25.02, the nearest that fits (below the security floor 26.07), or select the nodes that fit" in result["msg"]


@pytest.mark.parametrize(("enforce", "told"), [("warn", 1), ("off", 0)])
def test_it_only_warns_or_says_nothing(run_module, enforce, told):
    result = run_module(triton_compat_info, {"image": IMAGE, "nodes": [V100], "enforce": enforce})
    assert not result.get("failed") and result["verdict"] == "does_not_fit" and len(result["warnings"]) == told


def test_forward_compatibility_is_a_warning(run_module):
    result = run_module(triton_compat_info, {"image": IMAGE, "nodes": [{**T4, "driver": "550.54.15"}], "enforce": "fail"})
    assert result["verdict"] == "fits_with_forward_compatibility" and "cuda-compat" in result["warnings"][0]


def test_a_tag_below_the_floor_is_a_warning(run_module):
    result = run_module(triton_compat_info, {"image": "mlserving-lab/tritonserver:2.51.0", "nodes": [T4], "enforce": "fail"})
    assert result["verdict"] == "fits" and result["below_floor"]
    assert len(result["warnings"]) == 1 and "below the security floor 26.07" in result["warnings"][0]


def test_a_tag_that_says_nothing_is_a_warning(run_module):
    result = run_module(triton_compat_info, {"image": "mine:latest", "nodes": [T4], "enforce": "fail"})
    assert (result["verdict"], result["release"]) == ("unknown", {}) and "mine:latest cannot be judged" in result["warnings"][0]


def test_a_newer_tag_is_said_to_be_extrapolated(run_module):
    result = run_module(triton_compat_info, {"image": "tritonserver:27.03-py3", "nodes": [T4]})
    assert result["verdict"] == "fits" and "extrapolated: newer than the table" in result["reason"]


def test_a_driver_that_is_no_version(run_module):
    result = run_module(triton_compat_info, {"image": IMAGE, "nodes": [{**T4, "driver": "new"}]})
    assert result["failed"] and "'new' is not a version" in result["msg"]


def test_the_nodes_of_a_cluster(run_module):
    with FakeCluster() as cluster:
        cluster.answers["/api/v1/nodes"] = {"items": [node("cpu", {}), node("bare", {}, 2), node("t4", LABELS, 1), node("joining", LABELS)]}
        result = run_module(triton_compat_info, {"host": cluster.url, "image": IMAGE, "enforce": "fail"})
        assert [each["name"] for each in result["nodes"]] == ["bare", "t4", "joining"] and result["verdict"] == "unknown"
        assert "cannot be judged for bare (its driver is not known; feature discovery" in result["warnings"][0]
        selector = {"nvidia.com/gpu.product": "Tesla-T4"}
        result = run_module(triton_compat_info, {"host": cluster.url, "image": IMAGE, "node_selector": selector})
        assert result["verdict"] == "fits" and [each["name"] for each in result["nodes"]] == ["t4", "joining"]
        cluster.answers["/api/v1/nodes"] = {"items": [node("cpu", {})]}
        result = run_module(triton_compat_info, {"host": cluster.url, "image": IMAGE, "enforce": "fail"})
        assert result["verdict"] == "unknown" and result["warnings"] == [] and "none has GPUs" in result["reason"]
