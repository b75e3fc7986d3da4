# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Secrets are in use by what runs in a namespace. PRIVATE to the collection."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.mlserving.triton.plugins.module_utils._secret import SecretError, Secrets

APPS, BATCH = "/apis/apps/v1", "/apis/batch/v1"


def unused(secrets: Secrets, release: str, *keep: str) -> list[str]:
    """Return the names of the release's Secrets, but for ``keep``, that no live object refers to, sorted.

    :raises SecretError: the API server refuses or does not answer
    """
    names = {secret["metadata"]["name"] for secret in secrets.of_release(release)}.difference(keep)
    # Asked after the Secrets, so that what came up in between is seen.
    return sorted(names - in_use(secrets)) if names else []


def in_use(secrets: Secrets) -> set[str]:
    """Return the names of the Secrets that Deployments, ReplicaSets with pods and unfinished pods refer to."""
    specs = [deployment["spec"]["template"]["spec"] for deployment in secrets.others(APPS, "deployments")]
    specs += [replicas["spec"]["template"]["spec"] for replicas in secrets.others(APPS, "replicasets") if _has_pods(replicas)]
    specs += [pod["spec"] for pod in secrets.others("/api/v1", "pods") if _needs_it(pod)]
    return {name for spec in specs for name in names_in(spec)}


def to_come(secrets: Secrets) -> tuple[set[str], list[str]]:
    """Return (the names of the Secrets that pods would need which need not run now, the kinds that could not be listed).

    Those are of StatefulSets and DaemonSets, of Jobs that have not ended, and of CronJobs.
    """
    specs, unseen = [], []
    for group, resource in ((APPS, "statefulsets"), (APPS, "daemonsets"), (BATCH, "jobs"), (BATCH, "cronjobs")):
        try:
            found = [each["spec"] for each in secrets.others(group, resource) if not _has_ended(each)]
        except SecretError:
            unseen.append(resource)
            continue
        specs += [(spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec)["template"]["spec"] for spec in found]
    return {name for spec in specs for name in names_in(spec)}, unseen


def _has_ended(job: dict) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(each["type"] in ("Complete", "Failed") and each["status"] == "True" for each in conditions)


def _has_pods(replicas: dict) -> bool:
    # The API server sets replicas to 1 where it is left out.
    return replicas["spec"].get("replicas", 1) > 0 or (replicas.get("status") or {}).get("replicas", 0) > 0


def _needs_it(pod: dict) -> bool:
    # One that is on its way out starts no container any more.
    return not pod["metadata"].get("deletionTimestamp") and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def names_in(part) -> Iterator[str]:
    """Yield the names of the Secrets that a pod's spec, or a part of it, refers to, wherever they stand."""
    if isinstance(part, list):
        for each in part:
            yield from names_in(each)
    if not isinstance(part, dict):
        return
    for key, value in part.items():
        if key == "secretName" and value:
            # volumes.secret and the volumes of some drivers
            yield value
        elif key == "imagePullSecrets":
            yield from (each["name"] for each in value or [] if each.get("name"))
        elif isinstance(value, dict) and value.get("name") and (key in ("secret", "secretKeyRef") or key.lower().endswith("secretref")):
            # projected sources, env, envFrom and drivers' own, such as nodePublishSecretRef
            yield value["name"]
        else:
            yield from names_in(value)
