# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Deployment, its ReplicaSets and its pods as the API returns them, made from module_utils/fixtures/rollout.yml."""

from __future__ import annotations

import copy
import pathlib

import yaml

STATES = yaml.safe_load((pathlib.Path(__file__).parent / "module_utils" / "fixtures" / "rollout.yml").read_text())


def deployment(counts=(1, 1, 1), replicas=1, generation=3, observed=3, conditions=(), **spec):
    """``counts``: replicas, updated, available."""
    return {
        "metadata": {
            "name": "demo",
            "uid": "d-1",
            "generation": generation,
            "resourceVersion": "7",
            "annotations": {"deployment.kubernetes.io/revision": "2"},
        },
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "triton", "release": "demo"}}, **spec},
        "status": {"observedGeneration": observed, "conditions": list(conditions), **dict(zip(("replicas", "updatedReplicas", "availableReplicas"), counts))},
    }


def replicaset(revision=2, owner="d-1", conditions=()):
    return {
        "metadata": {
            "name": f"demo-{revision}",
            "uid": f"r-{revision}",
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": [{"uid": owner}],
        },
        "status": {"conditions": list(conditions)},
    }


def pod(state, name="demo-2-a", owner="r-2", **metadata):
    """Return a pod in a state of the fixtures."""
    limits = {"limits": {"memory": "512Mi"}}
    return {
        "metadata": {"name": name, "uid": f"p-{name}", "ownerReferences": [{"uid": owner}], **metadata},
        "spec": {"nodeName": "node-1", "containers": [{"name": "triton", "resources": limits}]},
        "status": copy.deepcopy(STATES[state]["status"]),
    }


def events(state, name="demo-2-a"):
    return [{"metadata": {}, "involvedObject": {"name": name}, **event} for event in STATES[state].get("events", [])]
