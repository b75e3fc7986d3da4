# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes have GPUs, what they offer, and the words about it."""

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _gpu_nodes

# The second round's labels came before the line that begins it: they are of another stream.
LOG = """2026-11-25T22:40:33.100000001Z I1125 main.go:180]
2026-11-25T22:40:33.100000001Z Running with config:
2026-11-25T22:40:33.200000001Z I1125 main.go:250] Creating Labels
2026-11-25T22:40:33.300000001Z nvidia.com/gpu.count=4
2026-11-25T22:40:33.300000001Z nvidia.com/old=1
2026-11-25T22:40:33.400000001Z I1125 main.go:260] Sleeping for 60000000000
2026-11-25T22:41:33.999000001Z nvidia.com/gpu.count=2
2026-11-25T22:41:33.999000001Z nvidia.com/gpu.product=Tesla-T4
2026-11-25T22:41:34.000000001Z I1125 main.go:250] Creating Labels
2026-11-25T22:41:34.100000001Z I1125 main.go:260] Sleeping for 60000000000
"""
SHARED = {"sharing": {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}}}


def node(name="gpu-1", labels=None, taints=(), **allocatable):
    amounts = {key.replace("_", "/", 1).replace("nvidia/", "nvidia.com/"): str(value) for key, value in allocatable.items()}
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": {"taints": list(taints)}, "status": {"allocatable": amounts}}


def daemonset(image="nvcr.io/nvidia/k8s-device-plugin:v0.17.4", path="/var/lib/kubelet/device-plugins"):
    spec = {"containers": [{"image": image}], "volumes": [{"hostPath": {"path": path}}, {"emptyDir": {}}]}
    return {"metadata": {"namespace": "kube-system", "name": "plugin"}, "spec": {"template": {"spec": spec}}}


def test_a_device_plugin_is_told_from_what_shares_its_image():
    assert [each["name"] for each in _gpu_nodes.plugins([daemonset(), daemonset(path="/sys"), daemonset(image="rdma-device-plugin")])] == ["plugin"]


def test_nodes_are_chosen_by_name_label_and_selector():
    nodes = [node("a"), node("b", {"nvidia.com/gpu.present": "true"}), node("c", {_gpu_nodes.PCI: "true"}), node("d", {"pool": "gpu"}), node("e")]
    assert _gpu_nodes.chosen(nodes, ["a"], {"pool": "gpu"}) == ["a", "b", "c", "d"]
    assert _gpu_nodes.chosen(nodes[:1], [], {}) == []


def test_the_last_labels_of_the_log_count():
    assert _gpu_nodes.discovered(LOG) == {"nvidia.com/gpu.count": "2", "nvidia.com/gpu.product": "Tesla-T4"}
    assert _gpu_nodes.discovered("") == {}


def test_a_round_without_labels_has_none():
    assert _gpu_nodes.discovered(LOG + "2026-11-25T22:42:34.100000001Z I1125 main.go:250] Creating Labels\n") == {}


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        ({}, {}),
        ({"nvidia.com/gpu.count": "2", "nvidia.com/gpu.replicas": "1"}, {"nvidia.com/gpu": 2}),
        ({"nvidia.com/gpu.count": "2", "nvidia.com/gpu.replicas": "4"}, {"nvidia.com/gpu": 8}),
        ({"nvidia.com/gpu.count": "2", "nvidia.com/mig-1g.10gb.count": "7", "nvidia.com/mig-1g.10gb.replicas": "1"}, {"nvidia.com/mig-1g.10gb": 7}),
    ],
)
def test_what_a_node_has(known, wanted):
    assert _gpu_nodes.has(known) == wanted


def test_a_shared_gpu_under_its_other_name_is_offered_as_one():
    found = {"metadata": {"name": "x"}, "status": {"allocatable": {"nvidia.com/gpu": "0", "nvidia.com/gpu.shared": "8", "cpu": "4"}}}
    assert _gpu_nodes.offers(found) == {"nvidia.com/gpu": 8}


@pytest.mark.parametrize(("config", "slices"), [({}, 1), (SHARED, 4), ({"sharing": {"mps": SHARED["sharing"]["timeSlicing"]}}, 4)])
def test_into_how_many_a_gpu_is_cut(config, slices):
    assert _gpu_nodes.replicas(config) == slices


def test_configurations_that_cannot_be():
    both = {"sharing": {"timeSlicing": {}, "mps": {}}}
    found = _gpu_nodes.config_problems({"a": both}, "b", {"gpu-1": "c"}, [node("gpu-2", {_gpu_nodes.CONFIG: "d"})])
    assert [
        words in text for words, text in zip(("'b', which is not in", "both timeSlicing and mps", "gives gpu-1 'c'", "has the label"), found)
    ] == [True] * 4
    assert _gpu_nodes.config_problems({"a": SHARED}, "a", {"gpu-1": "a"}, [node()]) == []


def test_a_plugin_that_would_run_nowhere():
    assert "names gpu-9, which the cluster has not. It has: gpu-1" in _gpu_nodes.choice_problems([node()], ["gpu-9"], {})[0]
    assert "on none of the 1 nodes" in (text := _gpu_nodes.choice_problems([node()], [], {"pool": "gpu"})[0]) and "(pool=gpu)" in text
    assert _gpu_nodes.choice_problems([node()], ["gpu-1"], {}) == []


@pytest.mark.parametrize(
    ("known", "refused"),
    [
        ({"nvidia.com/gpu.product": "Tesla-T4"}, True),
        ({"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}, False),
        ({"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB", "nvidia.com/mig.capable": "true"}, False),
        ({}, False),
    ],
)
def test_mig_on_cards_without_it(known, refused):
    assert bool(_gpu_nodes.mig_problems("single", {"gpu-1": known})) == refused
    assert _gpu_nodes.mig_problems("none", {"gpu-1": known}) == []


def test_why_no_pod_has_come():
    taint = {"key": "dedicated", "value": "training", "effect": "NoSchedule"}
    template = {"spec": {"containers": [{"name": "x"}]}}
    assert "has the taint dedicated=training:NoSchedule" in _gpu_nodes.why(node(taints=[taint], pods=10), None, template, "")
    assert _gpu_nodes.why(node(pods=10), None, template, "") == "no pod of the device plugin has come to it"


def test_why_a_pod_is_not_ready():
    status = {"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}}]}
    pod = {"metadata": {"name": "plugin-1"}, "spec": {"nodeName": "gpu-1"}, "status": status}
    text = _gpu_nodes.why(node(), pod, {}, "first\nfailed to initialize NVML: Driver Not Loaded\n")
    assert "plugin-1 is not ready (CrashLoopBackOff: back-off 10s; it last wrote: failed to initialize NVML: Driver Not Loaded)" in text
    status["conditions"] = [{"type": "Ready", "status": "True"}]
    assert _gpu_nodes.why(node(), pod, {}, "") == ""


def test_less_than_there_is_and_the_fault():
    wanted, offered = {"nvidia.com/gpu": 2}, {"nvidia.com/gpu": 1}
    assert _gpu_nodes.short(wanted, wanted, "") == ""
    text = _gpu_nodes.short(wanted, offered, "x\nXidCriticalError: Xid=48 on Device=GPU-1\ny")
    assert text.startswith("it has 2 of nvidia.com/gpu and offers 1 of nvidia.com/gpu; the plugin wrote: XidCriticalError: Xid=48 on Device=GPU-1.")
