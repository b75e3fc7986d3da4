# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from decimal import Decimal

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _rollout, _scheduling
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_rollout import deployment, pod, replicaset


def node(name, labels=None, taints=(), **allocatable):
    has = {"cpu": "4", "memory": "8Gi", "pods": "110", **allocatable}
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": {"taints": list(taints)}, "status": {"allocatable": has}}


def wants(requests=None, on="", phase="Running", **spec):
    container = {"name": "triton", "resources": {"requests": requests or {}}}
    return {"metadata": {"name": "p"}, "spec": {"containers": [container], **({"nodeName": on} if on else {}), **spec}, "status": {"phase": phase}}


def explain(asking, *nodes, pods=()):
    return _scheduling.explain(asking, _scheduling.View(list(nodes), list(pods)))


@pytest.mark.parametrize(
    ("text", "value"), [("100m", "0.1"), ("2", "2"), ("1Gi", str(1024**3)), ("5M", "5000000"), ("1e3", "1000"), ("1E", str(10**18)), (3, "3")]
)
def test_quantities_are_read(text, value):
    assert _scheduling.amount(text) == Decimal(value)


@pytest.mark.parametrize(
    ("resource", "text", "words"),
    [("cpu", "1150m", "1.15"), ("cpu", "0", "0"), ("memory", "1536Mi", "1.5Gi"), ("memory", "100Mi", "100Mi"), ("x/gpu", "40", "40")],
)
def test_amounts_are_shown_as_people_write_them(resource, text, words):
    assert _scheduling.shown(resource, _scheduling.amount(text)) == words


def test_a_pod_requests_what_its_containers_or_its_largest_init_container_need():
    asking = wants({"cpu": "1"}, overhead={"cpu": "250m"})
    asking["spec"]["containers"].append({"resources": {"limits": {"cpu": "500m"}}})
    asking["spec"]["initContainers"] = [{"resources": {"requests": {"cpu": "3", "memory": "1Gi"}}}]
    assert _scheduling.requests(asking) == {"cpu": Decimal("3.25"), "memory": Decimal(1024**3), "pods": 1}


def test_what_is_free_is_told_without_pods_that_have_ended():
    pods = [wants({"cpu": "3"}, on="a"), wants({"cpu": "1"}, on="a", phase="Succeeded"), wants({"cpu": "4"}, on="b")]
    words, never = explain(wants({"cpu": "2"}), node("a"), node("b"), pods=pods)
    assert (words, never) == ("it requests 2 of cpu; node a has 1 free of 4, node b has 0 free of 4", False)
    assert explain(wants({"cpu": "8"}), node("a"), node("b"), pods=pods)[1]


def test_many_nodes_are_one_group():
    words, never = explain(wants({"cpu": "9"}), *(node(f"n{number}", cpu=str(number)) for number in range(1, 8)))
    assert (words, never) == ("it requests 9 of cpu; of the 7 nodes that have any n7 has the most: 7 free of 7", True)
    words = explain(wants(nodeSelector={"disk": "nvme"}), *(node(f"n{number}") for number in range(7)))[0]
    assert words == "7 nodes (n0, n1, n2, ...) lack the label disk=nvme, which it selects"


def test_each_kind_of_refusal_has_its_nodes():
    tainted = node("t", taints=[{"key": "dedicated", "value": "x", "effect": "NoSchedule"}])
    words, never = explain(wants({"cpu": "5"}, nodeSelector={"gpu": "a100"}), tainted, node("a", {"gpu": "a100"}), node("b"))
    assert words == "it requests 5 of cpu; node a has 4 free of 4; nodes t and b lack the label gpu=a100, which it selects" and never


def test_a_state_that_passes_is_not_for_ever():
    lost = node("a", taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}])
    assert explain(wants(), lost) == ("node a has the taint node.kubernetes.io/unreachable:NoSchedule, which it does not tolerate", False)


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations(toleration, tolerated):
    taints = [{"key": "k", "value": "v", "effect": "NoSchedule"}, {"key": "soft", "effect": "PreferNoSchedule"}]
    assert (explain(wants(tolerations=[toleration]), node("a", taints=taints)) == ("", False)) == tolerated


@pytest.mark.parametrize(
    ("operator", "values", "holds"),
    [
        ("In", ["8", "9"], True),
        ("In", ["9"], False),
        ("NotIn", ["9"], True),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
        ("Gt", ["7"], True),
        ("Lt", ["7"], False),
    ],
)
def test_affinity(operator, values, holds):
    expression = {"key": "n", "operator": operator, **({"values": values} if values else {})}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    asking = wants(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})
    assert (explain(asking, node("a", {"n": "8"})) == ("", False)) == holds


def test_an_autoscaler_is_seen_by_its_traces():
    assert not _scheduling.is_autoscaled([node("a", {"disk": "ssd"})], [wants()])
    assert _scheduling.is_autoscaled([node("a", {"karpenter.sh/nodepool": "x"})], [])
    assert _scheduling.is_autoscaled([], [{"metadata": {"name": "cluster-autoscaler-7f9"}}])


@pytest.mark.parametrize(
    ("autoscaler", "events", "patience"),
    [(False, [], 0), (True, [], 30), (True, ["NotTriggerScaleUp"], 0), (True, ["TriggeredScaleUp"], None)],
)
def test_only_what_no_node_will_ever_have_is_certain_at_once(autoscaler, events, patience):
    waiting = pod("no_gpu")
    waiting["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    told = [{"metadata": {}, "reason": reason, "involvedObject": {"name": "demo-2-a"}} for reason in events]
    found = _rollout.findings(deployment((1, 1, 0)), replicaset(), [waiting], told, _scheduling.View([node("a")], [], autoscaler))
    assert [each.patience for each in found] == ([] if patience is None else [patience])


def test_of_replicas_that_are_alike_one_tells_that_a_node_is_on_its_way():
    told = [{"metadata": {}, "reason": "TriggeredScaleUp", "involvedObject": {"name": "demo-2-b"}}]
    assert _rollout.findings(deployment((1, 1, 0)), replicaset(), [pod("no_gpu")], told, _scheduling.View([node("a")], [], True)) == []


@pytest.mark.parametrize(("ready", "found"), [("True", []), ("Unknown", ["node_lost"])])
def test_a_node_that_is_back_is_not_lost(ready, found):
    there = {**node("a"), "status": {**node("a")["status"], "conditions": [{"type": "Ready", "status": ready}]}}
    waiting = pod("starting")
    waiting["spec"]["nodeName"] = "a"
    told = [{"metadata": {}, "reason": "NodeNotReady", "involvedObject": {"name": "demo-2-a"}}]
    causes = [each.cause for each in _rollout.findings(deployment((1, 1, 0)), replicaset(), [waiting], told, _scheduling.View([there], []))]
    assert [cause for cause in causes if cause == "node_lost"] == found


def test_without_the_right_to_list_nodes_the_schedulers_words_stand():
    found = _rollout.findings(deployment((1, 1, 0)), replicaset(), [pod("no_gpu")], [], None)[0]
    assert (found.why, found.patience) == ("no node can take it: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", 30)
