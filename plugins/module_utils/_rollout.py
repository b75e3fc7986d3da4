# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a rollout complete, and if it cannot become so, why: pure functions. PRIVATE to the collection.

Deployment, ReplicaSet, Pod and Event are the dicts that the API returns, with their camelCase keys.
"""

from __future__ import annotations

import dataclasses
import re

from ansible_collections.mlserving.triton.plugins.module_utils import _pods

REVISION = "deployment.kubernetes.io/revision"
#: Seconds that a state must last which may pass by itself: no node is free, a quota is used up.
PATIENCE = 30


@dataclasses.dataclass(frozen=True)
class Finding:
    """Why the rollout cannot complete.

    ``cause``: one machine word. ``subject``: the pod or object. ``why`` and ``todo``: sentences. ``patience``: seconds that
    it must last before it counts. ``container``: whose log tells more; ``running``: that container runs again, so that its
    previous log is meant; ``log_decides``: only a known signature in that log makes it certain. ``attempts``: how often
    the container has ended.
    """

    cause: str
    subject: str
    why: str
    todo: str
    patience: int = 0
    container: str = ""
    running: bool = False
    log_decides: bool = False
    attempts: int = 0


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
    return [
        pod
        for pod in pods
        if _pods.is_replica(pod) and any(owner.get("uid") == uid for owner in pod["metadata"].get("ownerReferences") or [])
    ]


def findings(deployment: dict, replicaset: dict | None, pods: list[dict], events: list[dict]) -> list[Finding]:
    """Return everything that stands in the way, the most certain first.

    :param pods: those of the newest ReplicaSet
    :param events: of these pods, the oldest first
    """
    found = [finding for pod in pods if not _pods.is_ready(pod) for finding in _of_pod(pod, events)]
    found += _of_creation(deployment, replicaset) + _of_deployment(deployment)
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
        return [Finding("progress_deadline", name, why, todo, patience=PATIENCE)]
    return []


def _of_creation(deployment: dict, replicaset: dict | None) -> list[Finding]:
    """Return why the controller cannot create pods at all."""
    failed = _pods.condition(replicaset or {}, "ReplicaFailure") or _pods.condition(deployment, "ReplicaFailure")
    if failed.get("status") != "True" or replicaset is None:
        return []
    message = failed.get("message") or failed.get("reason") or ""
    subject = f"replicaset {replicaset['metadata']['name']}"
    for sign, cause, todo, patience in (
        ("exceeded quota", "quota", "Free some of the namespace's quota, or have it raised.", PATIENCE),
        ("violates PodSecurity", "pod_security", "Change the pods' security settings as the message says, or the namespace's level.", 0),
        ("serviceaccount", "config", "Create the service account, or name another one.", PATIENCE),
    ):
        if sign in message:
            return [Finding(cause, subject, f"no pod can be created: {message}", todo, patience)]
    return [Finding("pod_creation", subject, f"no pod can be created: {message}", "Correct what the message says.", PATIENCE)]


def _of_pod(pod: dict, events: list[dict]) -> list[Finding]:
    name = pod["metadata"]["name"]
    own = [event for event in events if event["involvedObject"].get("name") == name]
    found = _unschedulable(pod, own) + _unmountable(pod, own)
    for status in _pods.statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        found += _image(pod, status, waiting, own) + _container_config(pod, waiting) + _crash(pod, status, own)
    return found


#: Message of the kubelet -> (whether it is conclusive at once, what to do)
IMAGE_CURES = (
    (r"no space left on device", True, "The node's disk is full: free some or use a node with a larger one; the image needs about 20 GB."),
    (r"no such host|i/o timeout|connection refused|connection reset|TLS handshake timeout|server misbehaving|EOF|\b50[0-4]\b", False,
     "The node does not reach the registry: check its network, DNS and proxy, or load the image onto the nodes."),
    (r"x509|certificate", True, "The node does not trust the registry's certificate: add its certificate authority to the container runtime."),
    (r"toomanyrequests|rate limit", False, "The registry limits the pulls: log in, use a mirror, or wait."),
    (r"denied|unauthorized|authentication|forbidden|insufficient_scope", True,
     "The registry wants credentials, or the image does not exist: check the name, and give the pods a pull secret with a valid key."),
    (r"no match for platform", True, "The image does not exist for the node's architecture: use another tag or node."),
    (r"not found|manifest unknown|does not exist", True, "Check the image's name and tag."),
    (r"invalid|couldn't parse", True, "Correct the image's name: REGISTRY/NAME:TAG."),
)
IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable")


def _image(pod: dict, status: dict, waiting: dict, events: list[dict]) -> list[Finding]:
    reason = waiting.get("reason")
    if reason not in IMAGE_REASONS:
        return []
    message = _pull_message(waiting, events)
    conclusive, todo = True, "Check the image's name and tag, and that the node reaches the registry."
    for pattern, at_once, cure in IMAGE_CURES:
        if re.search(pattern, message, re.I):
            conclusive, todo = at_once, cure
            break
    else:
        conclusive = False
    if reason == "ErrImageNeverPull":
        todo = "The pull policy is Never and the image is not on the node: load it there, or use IfNotPresent."
    if reason in ("ErrImagePull", "RegistryUnavailable") and not conclusive:
        return []
    return [Finding("image_pull", f"pod {pod['metadata']['name']}", f"the image {status['image']} cannot be pulled: {reason}: {message}", todo)]


def _pull_message(waiting: dict, events: list[dict]) -> str:
    """Return the registry's words; older kubelets say only "Back-off pulling image" and leave them to the events."""
    message = waiting.get("message") or ""
    if message.startswith("Back-off") and "Err" not in message:
        told = [event["message"] for event in events if event.get("reason") == "Failed" and "Failed to pull image" in event.get("message", "")]
        message = told[-1] if told else message
    return " ".join(message.split())


def _container_config(pod: dict, waiting: dict) -> list[Finding]:
    reason, message = waiting.get("reason"), " ".join((waiting.get("message") or "").split())
    subject = f"pod {pod['metadata']['name']}"
    if reason == "CreateContainerConfigError":
        # "failed to sync ... cache" passes by itself.
        if not re.search(r"not found|couldn't find key|non-root|invalid", message):
            return []
        todo = "Create the Secret or ConfigMap with that key in the pod's namespace, and deploy again."
        if "non-root" in message:
            todo = "Set runAsUser to another user than root, such as 1000, or use an image that names one."
        return [Finding("config", subject, f"the container cannot be configured: {message}", todo)]
    if reason in ("CreateContainerError", "RunContainerError"):
        return [Finding("container_start", subject, f"the container cannot be started: {reason}: {message}", _start_todo(message), patience=PATIENCE)]
    return []


def _start_todo(message: str) -> str:
    if re.search(r"nvidia|cuda", message, re.I):
        return "The node's NVIDIA driver or container runtime does not fit the image: see the release notes of the image for the drivers it needs."
    if "executable file not found" in message or "no such file" in message:
        return "The image has no such program: check image and command."
    return "Correct what the message says."


def _unschedulable(pod: dict, events: list[dict]) -> list[Finding]:
    scheduled = _pods.condition(pod, "PodScheduled")
    if scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return []
    # A node is on its way: cluster-autoscaler and Karpenter say so on the pod.
    if any(event.get("reason") in ("TriggeredScaleUp", "Nominated") for event in events):
        return []
    message = scheduled.get("message") or ""
    for sign, todo in (
        (
            "Insufficient nvidia.com/gpu",
            "No GPU is free: check that the device plugin runs, scale down, add a GPU node, or let the rollout replace pods in place (maxSurge 0).",
        ),
        ("Insufficient", "No node has that much left: request less, scale down, or add a node."),
        ("node affinity/selector", "No node has the labels that the pods ask for: label a node or correct the node selector."),
        ("taint", "The nodes are tainted: give the pods the matching toleration, or untaint a node."),
        ("olume", "Check the PersistentVolumeClaim."),
    ):
        if sign in message:
            break
    else:
        todo = "Correct what the message says."
    why = f"no node can take it: {message}"
    return [Finding("unschedulable", f"pod {pod['metadata']['name']}", why, todo, patience=PATIENCE)]


def _unmountable(pod: dict, events: list[dict]) -> list[Finding]:
    failed = [event for event in events if event.get("reason") == "FailedMount" and "not found" in event.get("message", "")]
    if not failed or any(status.get("containerID") for status in _pods.statuses(pod)):
        return []
    why = f"a volume cannot be mounted: {failed[-1]['message']}"
    return [Finding("config", f"pod {pod['metadata']['name']}", why, "Create what is missing in the pod's namespace.", patience=PATIENCE)]


def _crash(pod: dict, status: dict, events: list[dict]) -> list[Finding]:
    """Return what is known of a container that ended with an error, without its log."""
    state, last = status.get("state") or {}, (status.get("lastState") or {}).get("terminated")
    ended = state.get("terminated") or last
    if not ended or (ended.get("exitCode") == 0 and not status.get("restartCount")):
        return []
    restarts = status.get("restartCount") or 0
    common = {
        "subject": f"pod {pod['metadata']['name']}",
        "container": status["name"],
        "running": "running" in state,
        "attempts": restarts + ("terminated" in state),
    }
    if ended.get("reason") == "OOMKilled":
        limit = _memory_limit(pod, status["name"])
        why = f"container {status['name']} was killed: " + (f"it used more memory than its limit ({limit})" if limit else "the node ran out of memory")
        return [Finding("out_of_memory", why=why, todo="Raise the memory limit, or serve fewer models or instances in a pod.", **common)]
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        message = " ".join((ended.get("message") or "").split())
        return [Finding("container_start", why=f"the container cannot be started: {message}", todo=_start_todo(message), **common)]
    probe = next((event["message"] for event in reversed(events) if event.get("reason") == "Killing" and "probe" in event.get("message", "")), "")
    if probe and restarts:
        why = f"container {status['name']} was stopped before it was ready: {probe.split(',')[0]}"
        todo = "If it only needs more time to load its models, give the start-up probe more; otherwise look at the log."
        return [Finding("probe", why=why, todo=todo, **common)]
    code = ended.get("exitCode")
    why = f"container {status['name']} ended with exit code {code} ({_times(common['attempts'])})"
    todo = "The log below is all that is known: correct what it says."
    repeated = restarts >= 2 or (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff"
    return [Finding("crash", why=why, todo=todo, log_decides=not repeated, **common)]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _memory_limit(pod: dict, container: str) -> str:
    for entry in (pod["spec"].get("initContainers") or []) + pod["spec"]["containers"]:
        if entry["name"] == container:
            return ((entry.get("resources") or {}).get("limits") or {}).get("memory") or ""
    return ""


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
