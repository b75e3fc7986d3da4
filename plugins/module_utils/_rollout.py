# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a rollout complete, and if it cannot become so, why: pure functions. PRIVATE to the collection.

Deployment, ReplicaSet, Pod and Event are the dicts that the API returns, with their camelCase keys.
"""

from __future__ import annotations

import re

from ansible_collections.mlserving.triton.plugins.module_utils import _pods, _rollout_finding, _rollout_pod, _scheduling
from ansible_collections.mlserving.triton.plugins.module_utils._rollout_finding import SOON, Finding

REVISION = "deployment.kubernetes.io/revision"


def newest(deployment: dict, replicasets: list[dict]) -> dict | None:
    """Return the ReplicaSet that the Deployment rolls out, or None while the controller has not made it."""
    if not is_observed(deployment):
        return None
    revision = revision_of(deployment)
    uid = deployment["metadata"]["uid"]
    for replicaset in replicasets:
        owners = [owner.get("uid") for owner in replicaset["metadata"].get("ownerReferences") or []]
        if uid in owners and revision_of(replicaset) == revision:
            return replicaset
    return None


def revision_of(thing: dict) -> int:
    return int((thing["metadata"].get("annotations") or {}).get(REVISION) or 0)


def is_observed(deployment: dict) -> bool:
    """Whether the status speaks of the current specification."""
    return (deployment.get("status", {}).get("observedGeneration") or 0) >= deployment["metadata"]["generation"]


def is_complete(deployment: dict) -> bool:
    """Whether every replica is of the newest revision and available, and no other pod is counted."""
    status, wanted = deployment.get("status", {}), wanted_replicas(deployment)
    counts = [status.get(key) or 0 for key in ("replicas", "updatedReplicas", "availableReplicas")]
    return is_observed(deployment) and counts == [wanted] * 3 and not status.get("unavailableReplicas")


def wanted_replicas(deployment: dict) -> int:
    replicas = deployment["spec"].get("replicas")
    return 1 if replicas is None else replicas


def pods_of(replicaset: dict | None, pods: list[dict]) -> list[dict]:
    """Return the pods of that ReplicaSet that count as replicas."""
    if replicaset is None:
        return []
    uid = replicaset["metadata"]["uid"]
    return [pod for pod in pods if _pods.is_replica(pod) and any(owner.get("uid") == uid for owner in pod["metadata"].get("ownerReferences") or [])]


def left_by(replicaset: dict | None, pods: list[dict]) -> list[dict]:
    """Return the pods of that ReplicaSet that failed as a whole, so that it has made others in their place."""
    uid = (replicaset or {}).get("metadata", {}).get("uid")
    owned = [pod for pod in pods if any(owner.get("uid") == uid for owner in pod["metadata"].get("ownerReferences") or [])]
    return [pod for pod in owned if pod["status"].get("phase") == "Failed"]


def findings(
    deployment: dict,
    replicaset: dict | None,
    pods: list[dict],
    events: list[dict],
    view: _scheduling.View | None = None,
    left: list[dict] | None = None,
    leaving: bool = False,
) -> list[Finding]:
    """Return everything that stands in the way, the most certain first.

    :param pods: those of the newest ReplicaSet
    :param events: of these pods and their PersistentVolumeClaims, the oldest first
    :param view: of all nodes and pods, if a pod waits for a node and they may be listed
    :param left: pods of the newest ReplicaSet that have failed as a whole since the wait began
    :param leaving: whether pods of the Deployment are on their way out, whose room others may be waiting for
    """
    found = [finding for pod in pods if not _pods.is_ready(pod) for finding in _rollout_pod.findings(pod, events, view)]
    stuck = [finding for finding in found if finding.cause == "stuck"]
    found = [finding for finding in found if finding not in stuck[1:]]
    found += _rollout_pod.leftovers(left or []) + _of_creation(deployment, replicaset) + _of_deployment(deployment)
    if leaving:
        found = [finding for finding in found if not finding.patience or finding.cause not in ("unschedulable", "quota")]
    return sorted(found, key=lambda finding: (finding.patience, finding.log_decides))


def _of_deployment(deployment: dict) -> list[Finding]:
    name = f"deployment {deployment['metadata']['name']}"
    if deployment["spec"].get("paused"):
        return [Finding("paused", name, "it is paused, so nothing is rolled out", "Run kubectl rollout resume, then wait again.")]
    progressing = _pods.condition(deployment, "Progressing")
    if is_observed(deployment) and progressing.get("reason") == "ProgressDeadlineExceeded":
        why = f"it made no progress within its progressDeadlineSeconds ({deployment['spec'].get('progressDeadlineSeconds', 600)} s)"
        todo = "Look at the pods below; if they only need more time, raise the deadline."
        # The condition of an earlier attempt stays until the first progress of this one.
        return [Finding("progress_deadline", name, why, todo, patience=_rollout_finding.PATIENCE)]
    return []


#: Message of the API server that refuses a pod -> cause, what to do, whether it may pass by itself; the most telling first.
CREATION_CURES = (
    (r"failed quota: .*must specify", "quota", "Give every container what the quota counts, or have a LimitRange set defaults.", False),
    (r"exceeded quota", "quota", "Free some of the namespace's quota, or have it raised.", True),
    (r"violates PodSecurity", "pod_security", "Change the pods' security settings as the message says, or the namespace's level.", False),
    (
        r"failed calling webhook .*service \"[^\"]+\" not found",
        "admission",
        "The cluster's own admission webhook is gone but still registered: have it put back, or its configuration deleted.",
        False,
    ),
    (r"failed calling webhook", "admission", "The cluster's own admission webhook does not answer: have the server behind it looked at.", True),
    (r"admission webhook .* denied|ValidatingAdmissionPolicy .* denied", "admission", "Change the pods as this rule of the cluster demands.", False),
    (r"usage per (?:Container|Pod) is|limit to request ratio", "limit_range", "Keep to the namespace's LimitRange (kubectl get limitrange).", False),
    (r"no PriorityClass with name", "config", "Create that PriorityClass, or name another one.", False),
    (r"RuntimeClass .* not found", "config", "Create that RuntimeClass (the NVIDIA container toolkit's is nvidia), or leave it out.", False),
    (r"service ?account", "config", "Create the service account, or name another one.", None),
)


def _of_creation(deployment: dict, replicaset: dict | None) -> list[Finding]:
    """Return why the controller cannot create pods at all."""
    failed = _pods.condition(replicaset or {}, "ReplicaFailure") or _pods.condition(deployment, "ReplicaFailure")
    if failed.get("status") != "True" or replicaset is None:
        return []
    message = failed.get("message") or failed.get("reason") or ""
    # The pod's name ends in something else with each attempt.
    message = re.sub(r'^pods "[^"]+" is forbidden: ', "", message)
    cause, todo, passes = "pod_creation", "Correct what the message says.", True
    for pattern, *cure in CREATION_CURES:
        if re.search(pattern, message):
            cause, todo, passes = cure
            break
    if cause == "quota" and _beyond_quota(message):
        passes, todo = False, "One pod alone is more than the quota allows: request less, or have the quota raised."
    # A service account may have been made a moment ago.
    patience = SOON if passes is None else _rollout_finding.PATIENCE * passes
    return [Finding(cause, f"replicaset {replicaset['metadata']['name']}", f"no pod can be created: {message}", todo, patience)]


def _beyond_quota(message: str) -> bool:
    """Whether the pod would exceed the quota even if nothing else used it."""
    part = {key: re.search(rf"{key}: ((?:[^,=\s]+=[^,\s]+,?)+)", message) for key in ("requested", "limited")}
    if not all(part.values()):
        return False
    requested, limited = (dict(entry.split("=", 1) for entry in found[1].rstrip(",").split(",")) for found in part.values())
    return any(_scheduling.amount(value) > _scheduling.amount(limited[name]) for name, value in requested.items() if name in limited)


def last_seen(deployment: dict, replicaset: dict | None, pods: list[dict], events: list[dict]) -> list[str]:
    """Return in lines what was seen last: counts, conditions that are not as they should be, pods, latest warnings."""
    status = deployment.get("status", {})
    counts = {"updated": "updatedReplicas", "available": "availableReplicas", "in all": "replicas"}
    lines = [f"replicas: {wanted_replicas(deployment)} wanted, " + ", ".join(f"{status.get(key) or 0} {word}" for word, key in counts.items())]
    if replicaset is None:
        lines.append("the controller has made no ReplicaSet for the current specification yet; is the kube-controller-manager running?")
    for entry in status.get("conditions") or []:
        good = "False" if entry["type"] == "ReplicaFailure" else "True"
        if entry.get("status") != good:
            lines.append(f"condition {entry['type']}={entry['status']}: {entry.get('reason', '')}: {entry.get('message', '')}")
    lines += [_pods.words(_pods.row(pod)) for pod in pods if not _pods.is_ready(pod)]
    warnings = [event for event in events if event.get("type") == "Warning"]
    told = [f"event {event.get('reason')} on {event['involvedObject'].get('name')}: {event.get('message')}" for event in warnings]
    return lines + list(dict.fromkeys(told))[-5:]
