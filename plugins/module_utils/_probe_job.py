# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Can Triton open its model repository? Asked in the cluster, by Triton itself in a short Job. PRIVATE to the collection.

The server is told to load a model that does not exist. It opens the repository, looks for the model and ends: with "not found" if it
could look, with its reason otherwise.
"""

from __future__ import annotations

import dataclasses
import time
import uuid

from ansible_collections.mlserving.triton.plugins.module_utils import _kube, _pod_security, _pods, _secret, _triton_log

try:
    from kubernetes import client
except ImportError:
    client = None  # _cluster.from_module has ended the module with the pip line

NO_MODEL = "mlserving-triton-probe"
OPENED = f"model '{NO_MODEL}': model not found in any model repository"
#: Seconds between two looks, if no event is heard.
LOOK_AGAIN = 5
#: Seconds for which the Job is kept by the cluster if this machine cannot take it away.
KEPT = 60


@dataclasses.dataclass(frozen=True)
class Verdict:
    """``opened``: True or False as Triton said, None if it did not come to say; ``text`` says why, in a sentence or two."""

    opened: bool | None
    text: str = ""


def manifest(namespace: str, release: str, url: str, image: str, pull_policy: str, pod: dict, seconds: int) -> dict:
    """Return the Job.

    :param pod: what _credential_source.pod returns
    """
    labels = {_secret.MANAGED_BY: _secret.OWNER, _secret.INSTANCE: release, _secret.COMPONENT: "credentials-probe"}
    container = {
        "name": "triton",
        "image": image,
        "imagePullPolicy": pull_policy,
        "args": ["tritonserver", f"--model-store={url}", "--model-control-mode=explicit", f"--load-model={NO_MODEL}", "--exit-timeout-secs=0"],
        "securityContext": _pod_security.CONTAINER,
        **pod["container"],
    }
    spec = {"restartPolicy": "Never", "securityContext": _pod_security.POD, **pod["spec"], "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{release}-probe-{uuid.uuid4().hex[:8]}", "namespace": namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": seconds,
            "ttlSecondsAfterFinished": KEPT,
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def run(api: "client.ApiClient", job: dict, seconds: int) -> Verdict:
    """Run the Job, return what Triton said, and take the Job away.

    :param seconds: after which nothing is waited for any more
    :raises _kube.RequestError: the cluster refuses a request
    """
    batch, name, namespace = client.BatchV1Api(api), job["metadata"]["name"], job["metadata"]["namespace"]
    _kube.call(f"creating the Job {namespace}/{name}", batch.create_namespaced_job, namespace, job)
    try:
        return _wait(client.CoreV1Api(api), namespace, name, time.monotonic() + seconds)
    finally:
        _kube.call(f"deleting the Job {namespace}/{name}", batch.delete_namespaced_job, name, namespace, propagation_policy="Background")


def _wait(core: "client.CoreV1Api", namespace: str, name: str, deadline: float) -> Verdict:
    selector, seen = {"label_selector": f"job-name={name}"}, "no pod was made"
    while time.monotonic() < deadline:
        found = _kube.call("watching the probe's pod", core.list_namespaced_pod, namespace, **selector)
        for pod in found["items"]:
            row = _pods.row(pod)
            if row["phase"] in ("Succeeded", "Failed") and _pods.statuses(pod):
                log = _kube.call("reading the probe's log", core.read_namespaced_pod_log, row["name"], namespace)
                return verdict(log)
            seen = _pods.words(row)
        rest = min(LOOK_AGAIN, deadline - time.monotonic())
        if rest > 0:
            _kube.wait_for_event(
                "watching the probe's pod",
                core.list_namespaced_pod,
                namespace,
                seconds=rest,
                resource_version=found["metadata"]["resourceVersion"],
                **selector,
            )
    return Verdict(None, f"The Job came to no end in time: {seen}.")


def verdict(log: str) -> Verdict:
    """Return what a finished probe's log says."""
    if OPENED in log:
        return Verdict(True)
    known = _triton_log.explain(log)
    if known:
        return Verdict(False, f"{known.why[0].upper()}{known.why[1:]}. {known.todo}")
    return Verdict(False, f"Triton ended without opening it. It said: {' / '.join(_triton_log.relevant(log, 3)) or 'nothing'}")
