# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod's object says about it, as pure functions. PRIVATE to the collection.

A pod is the dict that the API returns, with its camelCase keys.
"""

from __future__ import annotations


def is_leaving(pod: dict) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_replica(pod: dict) -> bool:
    """Whether it counts as a replica: not on its way out, and not an evicted or finished leftover."""
    return not is_leaving(pod) and pod["status"].get("phase") not in ("Succeeded", "Failed")


def condition(thing: dict, kind: str) -> dict:
    """Return the condition of that type of a pod, Deployment or ReplicaSet; an empty dict if it has none."""
    return next((entry for entry in thing.get("status", {}).get("conditions") or [] if entry["type"] == kind), {})


def is_ready(pod: dict) -> bool:
    return condition(pod, "Ready").get("status") == "True"


def statuses(pod: dict) -> list[dict]:
    """Return the status of each container, init containers first."""
    return (pod["status"].get("initContainerStatuses") or []) + (pod["status"].get("containerStatuses") or [])


def row(pod: dict) -> dict:
    """Return what a person wants to know about a pod: name, node, phase, ready, restarts, reason, message."""
    reason, message = "", ""
    for status in statuses(pod):
        state = status.get("state") or {}
        found = state.get("waiting") or state.get("terminated") or {}
        if found.get("reason") not in (None, "Completed", "PodInitializing"):
            reason, message = found["reason"], found.get("message") or ""
            break
    if not reason:
        scheduled = condition(pod, "PodScheduled")
        if scheduled.get("status") == "False":
            reason, message = scheduled.get("reason") or "", scheduled.get("message") or ""
        else:
            reason, message = pod["status"].get("reason") or "", pod["status"].get("message") or ""
    return {
        "name": pod["metadata"]["name"],
        "node": pod["spec"].get("nodeName") or "",
        "phase": "Terminating" if is_leaving(pod) else pod["status"].get("phase") or "Unknown",
        "ready": is_ready(pod),
        "restarts": sum(status.get("restartCount") or 0 for status in statuses(pod)),
        "reason": reason,
        "message": message,
    }


def has_failed(seen: dict) -> bool:
    """Whether a row of :func:`row` is of a pod that ran on a node, or tried to, and failed."""
    tried = seen["node"] and not seen["ready"] and seen["phase"] != "Terminating"
    return bool(tried and (seen["restarts"] or seen["reason"] not in ("", "ContainerCreating")))


def words(seen: dict) -> str:
    """Return a row of :func:`row` as a sentence's part: "pod x on node y: Running, not ready, 2 restarts, CrashLoopBackOff"."""
    node = f" on node {seen['node']}" if seen["node"] else ""
    parts = [seen["phase"], "ready" if seen["ready"] else "not ready"]
    if seen["restarts"]:
        parts.append(f"{seen['restarts']} restart{'s' * (seen['restarts'] > 1)}")
    if seen["reason"]:
        parts.append(seen["reason"] + (f" ({seen['message']})" if seen["message"] else ""))
    return f"pod {seen['name']}{node}: {', '.join(parts)}"


def serving(pod: dict) -> str:
    """Return the name of the container that has a port named http, else of the first one."""
    containers = pod["spec"].get("containers") or [{}]
    named = [entry for entry in containers if any(port.get("name") == "http" for port in entry.get("ports") or [])]
    return (named or containers)[0].get("name") or ""


def port(pod: dict, name: str, default: int) -> int:
    """Return the number of the container port with that name, such as http or grpc."""
    for container in pod["spec"].get("containers") or []:
        for entry in container.get("ports") or []:
            if entry.get("name") == name:
                return entry["containerPort"]
    return default
