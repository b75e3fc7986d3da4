# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The release demo in namespace triton, as the API server that tests ask has it."""

from __future__ import annotations

NAME = "demo-triton-inference-server"
LABELS = {"app": "triton-inference-server", "release": "demo"}
NOW = "2026-11-25T10:00:00Z"
URL = "s3://s3.storage.svc:8333/models/demo/releases/a6289209f94be40b"
#: Its paths on the API server.
CORE, APPS = "/api/v1/namespaces/triton", "/apis/apps/v1/namespaces/triton"
SCALERS, BUDGETS = "/apis/autoscaling/v2/namespaces/triton/horizontalpodautoscalers", "/apis/policy/v1/namespaces/triton/poddisruptionbudgets"
DEPLOYMENT = f"{APPS}/deployments/{NAME}"


def container(**more) -> dict:
    return {
        "name": "triton",
        "image": "tritonserver:1",
        "args": ["tritonserver", f"--model-store={URL}", "--http-restricted-api=statistics,model-repository:triton-key=$(KEY)"],
        "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "demo-key", "key": "key"}}}],
        "envFrom": [{"secretRef": {"name": "demo-aws-1"}}],
        "ports": [{"name": "http", "containerPort": 8000}],
        **more,
    }


def metadata(name: str, **more) -> dict:
    return {"name": name, "namespace": "triton", "uid": f"u-{name}", "creationTimestamp": "2026-11-25T08:00:00Z", "labels": dict(LABELS), **more}


def condition(kind: str, status: str, **more) -> dict:
    return {"type": kind, "status": status, **more}


def pod(letter: str, ready: bool = True, spec: dict | None = None, **status) -> dict:
    """Return a pod of the newest ReplicaSet."""
    state = {
        "name": "triton",
        "ready": ready,
        "restartCount": 0,
        "state": {"running": {}},
        "containerID": "c",
        "imageID": "registry/x@sha256:" + 64 * "a",
    }
    return {
        "metadata": metadata(f"{NAME}-abc-{letter}", ownerReferences=[{"uid": f"u-{NAME}-abc"}]),
        "spec": {"nodeName": "node-1", "containers": [container()], **(spec or {})},
        "status": {"phase": "Running", "conditions": [condition("Ready", str(ready))], "containerStatuses": [state | status]},
    }


def deployment(ready: int, wanted: int, **more) -> dict:
    counts = dict.fromkeys(("replicas", "updatedReplicas"), wanted) | {"availableReplicas": ready, "observedGeneration": 1}
    progress = condition("Progressing", "True", reason="NewReplicaSetAvailable", lastUpdateTime="2026-11-25T09:59:00Z")
    return {
        "metadata": metadata(NAME, generation=1, annotations={"deployment.kubernetes.io/revision": "2"}),
        "spec": {
            "replicas": wanted,
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": {"containers": [container()]}},
            **more,
        },
        "status": counts | {"conditions": [progress]},
    }


def event(name: str, message: str, when: str, kind: str = "Pod", **more) -> dict:
    place = metadata(f"e-{name}-{when}")
    return {
        "metadata": place,
        "type": "Warning",
        "reason": "Failed",
        "involvedObject": {"kind": kind, "name": name},
        "message": message,
        "lastTimestamp": when,
        **more,
    }


def answers(pods: list[dict], **lists) -> dict:
    """Return path -> answer; ``lists`` replaces what is listed of a kind."""
    ready = sum(entry["status"]["conditions"][0]["status"] == "True" for entry in pods)
    service = {
        "metadata": metadata(NAME),
        "spec": {"type": "LoadBalancer", "ports": [{"name": "http-inference-server", "port": 8000}, {"name": "grpc-inference-server", "port": 8001}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    }
    budget = {"metadata": metadata(NAME), "spec": {"selector": {"matchLabels": LABELS}}, "status": {"disruptionsAllowed": 1}}
    expiring = metadata("demo-aws-1", annotations={"mlserving.triton/expires": "2999-01-01T00:00:00Z"})
    found = {
        f"{APPS}/replicasets": [
            {"metadata": metadata(f"{NAME}-abc", annotations={"deployment.kubernetes.io/revision": "2"}, ownerReferences=[{"uid": f"u-{NAME}"}])}
        ],
        f"{CORE}/pods": pods,
        f"{CORE}/services": [service],
        f"{CORE}/secrets": [{"metadata": expiring}, {"metadata": metadata("demo-key")}],
        f"{CORE}/configmaps": [],
        f"{CORE}/events": [],
        SCALERS: [],
        BUDGETS: [budget],
    }
    found |= {path: lists.pop(path.rpartition("/")[2], content) for path, content in found.items()}
    return {path: {"items": content} for path, content in found.items()} | {
        "/api/v1/namespaces/triton": {"metadata": {"name": "triton"}},
        DEPLOYMENT: deployment(ready, len(pods)),
        f"{CORE}/secrets/demo-key": {"data": {"key": "b3Blbi1zZXNhbWUtMQ=="}},
    }
