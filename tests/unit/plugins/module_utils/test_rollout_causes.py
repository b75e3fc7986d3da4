# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The causes that the lab cannot have, and the page that lists all of them."""

from __future__ import annotations

import importlib.util
import pathlib

import pytest
import yaml

from ansible_collections.mlserving.triton.plugins.module_utils import _rollout, _rollout_watch, _scheduling
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_rollout import deployment, pod, replicaset

SCENARIO = pathlib.Path(__file__).parents[4] / "molecule" / "causes"
RECORDED = {case["cause"]: case for case in yaml.safe_load((SCENARIO / "vars" / "recorded.yml").read_text(encoding="utf-8"))["cases"]}


def view(nodes):
    found = [
        {
            "metadata": {"name": node["name"]},
            "spec": {"taints": node.get("taints", [])},
            "status": {"allocatable": node["allocatable"] | {"pods": "9"}},
        }
        for node in nodes
    ]
    used = [
        {
            "metadata": {"name": f"on-{node['name']}"},
            "spec": {"nodeName": node["name"], "containers": [{"resources": {"requests": node["used"]}}]},
            "status": {"phase": "Running"},
        }
        for node in nodes
        if "used" in node
    ]
    return _scheduling.View(found, used)


def explain(case):
    """Return (cause, why, todo), as the module says it."""
    left, conditions, pods = [], [], []
    if "left" in case:
        left = [{"metadata": {"name": "demo-2-b"}, "status": case["left"]}]
    elif "creation" in case:
        conditions = [{"type": "ReplicaFailure", "status": "True", "message": case["creation"]}]
    else:
        pods = [pod("starting")]
        pods[0]["status"] = case["status"]
        pods[0]["spec"]["containers"][0]["resources"] = case.get("resources", {})
    events = [{"metadata": {}, "involvedObject": {"name": "demo-2-a"}, **event} for event in case.get("events", [])]
    found = _rollout.findings(
        deployment((1, 1, 0)), replicaset(conditions=conditions), pods, events, view(case["nodes"]) if "nodes" in case else None, left
    )[0]
    return _rollout_watch.words(found, _rollout_watch.explain(found, case.get("log", "")))


@pytest.mark.parametrize("cause", RECORDED)
def test_a_cause_that_the_lab_cannot_have_is_explained_word_by_word(cause):
    case = RECORDED[cause]
    assert explain(case) == (case["kind"], case["message"], case["todo"])


def test_the_page_says_what_the_module_says():
    spec = importlib.util.spec_from_file_location("table", SCENARIO / "table.py")
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    text = table.PAGE.read_text(encoding="utf-8")
    assert table.page(text) == text, "run molecule/causes/table.py"
    assert text.count("\n| ") > len(RECORDED)
