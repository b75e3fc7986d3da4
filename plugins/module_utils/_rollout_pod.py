# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a pod cannot become ready, or did not last, from what Kubernetes says of it: pure functions. PRIVATE to the collection.

Pod and Event are the dicts that the API returns, with their camelCase keys.
"""

from __future__ import annotations

import re

from ansible_collections.mlserving.triton.plugins.module_utils import _pods, _rollout_finding, _scheduling
from ansible_collections.mlserving.triton.plugins.module_utils._rollout_finding import SOON, Finding


def findings(pod: dict, events: list[dict], view: _scheduling.View | None) -> list[Finding]:
    """Return what keeps a pod that is not ready from becoming so.

    :param events: of pods and of their PersistentVolumeClaims, the oldest first
    :param view: of all nodes and pods, None if they may not be listed or are not needed
    """
    name = pod["metadata"]["name"]
    own = [event for event in events if event["involvedObject"].get("name") == name and event["involvedObject"].get("kind", "Pod") == "Pod"]
    found = _unschedulable(pod, own, events, view) + _unmountable(pod, own) + _node(pod, own, view) + _sandbox(pod, own)
    for status in _pods.statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        found += _image(pod, status, waiting, own) + _container_config(pod, waiting) + _crash(pod, status, own) + _not_ready(pod, status, own)
    return found


def leftovers(pods: list[dict]) -> list[Finding]:
    """Return why pods ended that the controller has replaced meanwhile: evicted ones, and those that their node refused."""
    found = []
    for pod in pods:
        reason, message = pod["status"].get("reason") or "", " ".join((pod["status"].get("message") or "").split())
        subject = f"pod {pod['metadata']['name']}"
        if reason == "Evicted":
            todo, patience = "The node runs short of it: free some, request what the pods need, or use a larger node.", _rollout_finding.PATIENCE
            if "exceed" in message:
                todo, patience = (
                    "Raise that limit (ephemeral-storage, or the volume's sizeLimit), or write less there: models of a store are copied to /tmp.",
                    0,
                )
            found.append(Finding("evicted", subject, f"it was evicted: {message}", todo, patience))
        elif reason:
            todo = "Correct what the message says; of a device, look at the log of its device plugin on that node."
            found.append(Finding("unschedulable", subject, f"its node refused it: {reason}: {message}", todo, _rollout_finding.PATIENCE))
    return found


#: Message of the kubelet -> (whether it is conclusive at once, what to do)
IMAGE_CURES = (
    (r"no space left on device", True, "The node's disk is full: free some or use a node with a larger one; the image needs about 20 GB."),
    (
        r"no such host|no route to host|network is unreachable|i/o timeout|connection refused|connection reset"
        r"|TLS handshake timeout|server misbehaving|EOF|\b50[0-4]\b",
        False,
        "The node does not reach the registry: check its network, DNS and proxy, or load the image onto the nodes.",
    ),
    (r"x509|certificate", True, "The node does not trust the registry's certificate: add its certificate authority to the container runtime."),
    (r"toomanyrequests|rate limit", False, "The registry limits the pulls: log in, use a mirror, or wait."),
    (
        r"denied|unauthorized|authentication|forbidden|insufficient_scope",
        True,
        "The registry wants credentials, or the image does not exist: check the name, and give the pods a pull secret with a valid key.",
    ),
    (r"no match for platform", True, "The image does not exist for the node's architecture: use another tag or node."),
    (r"not found|manifest unknown|does not exist", True, "Check the image's name and tag."),
    (r"invalid|couldn't parse", True, "Correct the image's name: REGISTRY/NAME:TAG."),
)
IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable")


def _image(pod: dict, status: dict, waiting: dict, events: list[dict]) -> list[Finding]:
    reason = waiting.get("reason")
    if reason not in IMAGE_REASONS:
        return []
    said, message = _pull_words(waiting, events)
    conclusive, todo = True, "Check the image's name and tag, and that the node reaches the registry."
    for pattern, at_once, cure in IMAGE_CURES:
        if re.search(pattern, message, re.I):
            conclusive, todo = at_once, cure
            break
    else:
        conclusive = False
    if reason == "ErrImageNeverPull":
        todo = "The pull policy is Never and the image is not on the node: load it there, or use IfNotPresent."
    # The kubelet backs off after the first try already.
    tries = sum(event.get("count") or 1 for event in events if event.get("reason") == "Failed" and "Failed to pull image" in event.get("message", ""))
    if reason in ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable") and not conclusive and tries < 2:
        return []
    return [Finding("image_pull", f"pod {pod['metadata']['name']}", f"the image {status['image']} cannot be pulled: {said}: {message}", todo)]


def _pull_words(waiting: dict, events: list[dict]) -> tuple[str, str]:
    """Return reason and message of the last try, whether it has just failed or the next one is waited for.

    Of the latter, newer kubelets say "Back-off pulling image "NAME": REASON: MESSAGE"; older ones leave reason and message to the events.
    """
    reason, message = waiting["reason"], " ".join((waiting.get("message") or "").split())
    if reason == "ImagePullBackOff":
        tried = re.match(r'Back-off pulling image "[^"]*": (\w+): (.*)', message)
        if tried:
            return tried[1], tried[2]
        told = [event["message"] for event in events if event.get("reason") == "Failed" and "Failed to pull image" in event.get("message", "")]
        message = " ".join(told[-1].split()) if told else message
    return reason, message


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
        certain = re.search(r"no command specified|executable file not found|no such file|not a directory|permission denied|invalid", message)
        why = f"the container cannot be started: {message}"
        return [Finding("container_start", subject, why, _start_todo(message), SOON if certain else _rollout_finding.PATIENCE)]
    return []


def _start_todo(message: str) -> str:
    if re.search(r"nvidia|cuda", message, re.I):
        return "The node's NVIDIA driver or container runtime does not fit the image: see the release notes of the image for the drivers it needs."
    if "executable file not found" in message or "no such file" in message:
        return "The image has no such program: check image and command."
    if "exec format error" in message:
        return "The image is for another kind of processor than the node's: use a tag for this one, or another node."
    return "Correct what the message says."


#: Part of the scheduler's message -> what to do, the most telling first.
SCHEDULING_CURES = (
    (
        "Insufficient nvidia.com/gpu",
        "No GPU is free: check that the device plugin runs, scale down, add a GPU node, or let the rollout replace pods in place (maxSurge 0).",
    ),
    ("Insufficient", "No node has that much left: request less, scale down, or add a node."),
    ("anti-affinity", "The pods may not share a node: add nodes, or relax the anti-affinity."),
    ("node affinity/selector", "No node has the labels that the pods ask for: label a node or correct the node selector."),
    ("taint", "The nodes are tainted: give the pods the matching toleration, or untaint a node."),
    ("free ports", "The host ports that the pods want are taken on every node: use a Service in place of host ports, or fewer replicas than nodes."),
    ("topology spread", "The topology spread constraints leave no node: relax them, or add nodes."),
    ("unschedulable", "The nodes are cordoned: run kubectl uncordon."),
    ("olume", "Check the PersistentVolumeClaim."),
)


def _unschedulable(pod: dict, own: list[dict], events: list[dict], view: _scheduling.View | None) -> list[Finding]:
    scheduled = _pods.condition(pod, "PodScheduled")
    if scheduled.get("status") != "False" or scheduled.get("reason") not in ("Unschedulable", "SchedulerError"):
        return []
    # A node is on its way: cluster-autoscaler and Karpenter say so on the pod, and only of some replicas, which are all alike, the events are read.
    refused = any(event.get("reason") == "NotTriggerScaleUp" for event in own)
    if any(event.get("reason") in ("TriggeredScaleUp", "Nominated") for event in (own if refused else events)):
        return []
    subject, message = f"pod {pod['metadata']['name']}", scheduled.get("message") or ""
    missing = re.search(r'persistentvolumeclaim "([^"]+)" not found', message)
    if missing:
        todo = "Create it in the pod's namespace, or correct the volume's claimName."
        return [Finding("volume", subject, f"the PersistentVolumeClaim {missing[1]} does not exist", todo)]
    unbound = _unbound(pod, events) if "PersistentVolumeClaim" in message or scheduled["reason"] == "SchedulerError" else []
    if unbound:
        return unbound
    words, never = _scheduling.explain(pod, view) if view else ("", False)
    helpless = not (view and view.autoscaler) or refused
    todo = next((todo for sign, todo in SCHEDULING_CURES if sign in message), "Correct what the message says.")
    if never and "Insufficient" in message:
        todo = "No node is large enough even when it is empty: request less, or add a larger node."
        if "which no node has" in words:
            todo = "No node offers that resource: check that its device plugin runs on the nodes and finds the devices, or add a node that has them."
    return [
        Finding("unschedulable", subject, f"no node can take it: {words or message}", todo, 0 if never and helpless else _rollout_finding.PATIENCE)
    ]


def claims(pod: dict) -> list[str]:
    """Return the names of the PersistentVolumeClaims that it mounts."""
    return [volume["persistentVolumeClaim"]["claimName"] for volume in pod["spec"].get("volumes") or [] if volume.get("persistentVolumeClaim")]


def _unbound(pod: dict, events: list[dict]) -> list[Finding]:
    for event in reversed(events):
        about = event["involvedObject"]
        if (
            about.get("kind") != "PersistentVolumeClaim"
            or about.get("name") not in claims(pod)
            or event.get("reason") not in ("FailedBinding", "ProvisioningFailed")
        ):
            continue
        message, patience, todo = event.get("message") or "", _rollout_finding.PATIENCE, "Look at the StorageClass and at the log of its provisioner."
        if "storageclass" in message and "not found" in message:
            patience, todo = 0, "Name a StorageClass that exists (kubectl get storageclass), or leave it out for the default one."
        elif "no storage class is set" in message:
            patience, todo = 0, "Name a StorageClass, make one the default, or create a PersistentVolume that fits."
        return [
            Finding("volume", f"pod {pod['metadata']['name']}", f"the PersistentVolumeClaim {about['name']} is not bound: {message}", todo, patience)
        ]
    return []


#: Message of the kubelet on a volume -> cause, whether it is certain, what to do; what else it says may pass by itself.
MOUNT_CURES = (
    (r"references non-existent (?:secret|config) key", "config", True, "Write that key into the Secret or ConfigMap, or correct the volume's items."),
    (r"(?:secret|configmap) \"[^\"]+\" not found", "config", True, "Create what is missing in the pod's namespace."),
    (r"hostPath type check failed", "volume", True, "Make that path on the node what the volume's type says, or correct path and type."),
    (
        r"not found in the list of registered CSI drivers",
        "volume",
        False,
        "Install the volume's CSI driver on that node, or check that its pod there runs.",
    ),
    (
        r"Multi-Attach",
        "volume",
        False,
        "The volume is attached to another node: end the pods there, or use one that many nodes can mount (ReadWriteMany).",
    ),
    (
        r"mount failed|MountDevice failed|AttachVolume|exit status",
        "volume",
        False,
        "Check the volume's server and options: the node's own mount command fails.",
    ),
)


def _last(pod: dict, events: list[dict], *reasons: str) -> str:
    """Return the last message of such an event of a pod's beginning; nothing once the kubelet has got further."""
    if any(status.get("containerID") for status in _pods.statuses(pod)):
        return ""
    for event in reversed(events):
        if event.get("reason") in ("Pulling", "Pulled", "Created", "Started"):
            break
        if event.get("reason") in reasons:
            return " ".join(event.get("message", "").split())
    return ""


def _unmountable(pod: dict, events: list[dict]) -> list[Finding]:
    message = _last(pod, events, "FailedMount", "FailedAttachVolume")
    for pattern, cause, certain, todo in MOUNT_CURES:
        if re.search(pattern, message):
            why = f"a volume cannot be mounted: {message}"
            return [Finding(cause, f"pod {pod['metadata']['name']}", why, todo, SOON if certain else _rollout_finding.PATIENCE)]
    return []


def _node(pod: dict, events: list[dict], view: _scheduling.View | None) -> list[Finding]:
    if not any(event.get("reason") == "NodeNotReady" for event in events):
        return []
    node = pod["spec"].get("nodeName")
    found = next((each for each in view.nodes if each["metadata"]["name"] == node), None) if view else None
    if found and _pods.is_ready(found):
        return []
    why = f"its node {node} is not ready: the kubelet there does not report any more"
    todo = f"Look at the node (kubectl describe node {node}). After 5 minutes Kubernetes starts the pod on another one."
    return [Finding("node_lost", f"pod {pod['metadata']['name']}", why, todo, _rollout_finding.PATIENCE)]


def _sandbox(pod: dict, events: list[dict]) -> list[Finding]:
    message = _last(pod, events, "FailedCreatePodSandBox")
    if not message:
        return []
    runtime = re.search(r'no runtime for "([^"]+)" is configured', message)
    if runtime:
        why = f"the node's container runtime does not know the runtime {runtime[1]}, which the pod's runtimeClassName stands for"
        todo = "Install the NVIDIA container toolkit on the node and have it configure the runtime, or leave the runtime class out."
        return [Finding("container_start", f"pod {pod['metadata']['name']}", why, todo)]
    why = f"the pod's sandbox cannot be made: {message}"
    return [
        Finding(
            "container_start",
            f"pod {pod['metadata']['name']}",
            why,
            "Look at the node's network plugin and container runtime.",
            _rollout_finding.PATIENCE,
        )
    ]


#: Number of a signal -> what it says of a server.
SIGNALS = {
    4: "illegal instruction: the image was built for a newer processor",
    6: "aborted",
    7: "bus error, as when /dev/shm is full",
    9: "killed",
    11: "segmentation fault",
    15: "terminated",
}


def _crash(pod: dict, status: dict, events: list[dict]) -> list[Finding]:
    """Return what is known of a container that ended, without its log."""
    state, last = status.get("state") or {}, (status.get("lastState") or {}).get("terminated")
    ended = state.get("terminated") or last
    restarts = status.get("restartCount") or 0
    init = any(entry["name"] == status["name"] for entry in pod["spec"].get("initContainers") or [])
    done = (state.get("terminated") or {}).get("exitCode") == 0
    if not ended or (done and (init or not restarts)):
        return []
    what = f"{'init ' * init}container {status['name']}"
    common = {
        "subject": f"pod {pod['metadata']['name']}",
        "container": status["name"],
        "running": "running" in state,
        "attempts": restarts + ("terminated" in state),
    }
    times = _times(common["attempts"])
    back_off = (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff"
    repeated, code = restarts >= 2 or back_off, ended.get("exitCode") or 0
    memory = _memory(pod, status["name"], ended, repeated and not any(event.get("reason") == "Killing" for event in events))
    if memory:
        todo = "Raise the memory limit, or serve fewer models or instances in a pod."
        return [Finding("out_of_memory", why=f"{what} was killed ({times}): {memory}", todo=todo, **common)]
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        message = " ".join((ended.get("message") or "").split())
        return [Finding("container_start", why=f"the container cannot be started: {message}", todo=_start_todo(message), **common)]
    probe = next((event["message"] for event in reversed(events) if event.get("reason") == "Killing" and "probe" in event.get("message", "")), "")
    if probe and restarts:
        said = _unhealthy(status, events)
        why = f"{what} was stopped before it was ready: {probe.split(',')[0]}" + (f" ({said})" if said else "")
        todo = "If it only needs more time to load its models, give the start-up probe more; otherwise look at the log."
        return [Finding("probe", why=why, todo=todo, **common)]
    if code == 0:
        todo = "A server's container has to keep running: check image, command and arguments."
        return [Finding("exited", why=f"{what} ended by itself without an error, exit code 0 ({times})", todo=todo, **common)]
    signal = SIGNALS.get(code - 128)
    why = f"{what} ended with exit code {code}{f', {signal}' if signal else ''} ({times})"
    todo = "The log below is all that is known: correct what it says."
    return [Finding("crash", why=why, todo=todo, log_decides=not repeated, **common)]


def _memory(pod: dict, container: str, ended: dict, guess: bool) -> str:
    """Return which memory was used up, or nothing.

    :param guess: whether to go by the exit code: a container runtime may miss the kernel's word on a process that dies at once
    """
    limit = _memory_limit(pod, container)
    if ended.get("reason") == "OOMKilled":
        return f"it used more memory than its limit ({limit})" if limit else "the node ran out of memory"
    return f"most likely it used more memory than its limit ({limit})" if limit and guess and ended.get("exitCode") == 137 else ""


def _not_ready(pod: dict, status: dict, events: list[dict]) -> list[Finding]:
    """Return what is known of a container that runs and is not ready: what its probe says, and that its log may tell."""
    if "running" not in (status.get("state") or {}) or status.get("ready"):
        return []
    said, name = _unhealthy(status, events), status["name"]
    common = {"subject": f"pod {pod['metadata']['name']}", "container": name}
    inference = re.search(r"the inference of (\S+) was answered with (.+)", said)
    if inference and not status.get("started"):
        why = f"container {name} runs, but its start-up probe fails: the inference of model {inference[1]} was answered with {inference[2]}"
        return [Finding("probe", why=why, todo="Correct the model, or its golden case, and deploy again.", patience=SOON, **common)]
    if "HTTP probe failed with statuscode: 4" in said:
        return [Finding("not_ready", why=f"container {name} runs, but says that it is not ready", todo="", patience=SOON, log_decides=True, **common)]
    return [Finding("stuck", why=f"container {name} runs, but does not get ready", todo="", patience=SOON, log_decides=True, **common)]


def _unhealthy(status: dict, events: list[dict]) -> str:
    """Return the newest words of that container's probes."""
    told = [event for event in events if event.get("reason") == "Unhealthy"]
    own = [
        event for event in told if (event["involvedObject"].get("fieldPath") or status["name"]).endswith((f"{{{status['name']}}}", status["name"]))
    ]
    message = " ".join(own[-1]["message"].split()) if own else ""
    return re.sub(r"^(?:Startup|Readiness|Liveness) probe failed: ", "", message)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _memory_limit(pod: dict, container: str) -> str:
    for entry in (pod["spec"].get("initContainers") or []) + pod["spec"]["containers"]:
        if entry["name"] == container:
            return ((entry.get("resources") or {}).get("limits") or {}).get("memory") or ""
    return ""
