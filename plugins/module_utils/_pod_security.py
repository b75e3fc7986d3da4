# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the level "restricted" of Kubernetes' Pod Security Standards finds wrong with a pod. PRIVATE to the collection.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/ (as of Kubernetes 1.35).
"""

from __future__ import annotations

#: Kinds of volumes that the level allows.
VOLUMES = ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret")


#: Security contexts that the level accepts, of a pod and of each of its containers.
POD = {"runAsUser": 1000, "runAsNonRoot": True, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def violations(pod: dict) -> list[str]:
    """Return what is wrong, in words; empty if the level accepts the pod.

    :param pod: the spec of the pod
    """
    found = [f"volume {volume['name']} is {kind}" for volume in pod.get("volumes") or [] for kind in volume if kind != "name" and kind not in VOLUMES]
    found += [f"{field} is true" for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    for container in (pod.get("initContainers") or []) + (pod.get("containers") or []):
        found += [f"container {container.get('name')} {text}" for text in _container(container, pod.get("securityContext") or {})]
    return found


def _container(container: dict, of_pod: dict) -> list[str]:
    own = container.get("securityContext") or {}
    both = of_pod | own
    capabilities = own.get("capabilities") or {}
    found = []
    if own.get("privileged"):
        found.append("is privileged")
    if own.get("allowPrivilegeEscalation") is not False:
        found.append("does not set allowPrivilegeEscalation to false")
    if "ALL" not in (capabilities.get("drop") or []):
        found.append("does not drop ALL capabilities")
    if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        found.append(f"adds the capabilities {', '.join(capabilities['add'])}")
    if not both.get("runAsNonRoot"):
        found.append("does not set runAsNonRoot to true")
    if both.get("runAsUser") == 0:
        found.append("runs as user 0")
    if (both.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        found.append("has no seccomp profile")
    found += [f"uses host port {port['hostPort']}" for port in container.get("ports") or [] if port.get("hostPort")]
    return found
