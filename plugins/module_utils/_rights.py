# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the cluster's credentials may do. PRIVATE to the collection."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.mlserving.triton.plugins.module_utils import _autoscaling, _kube

try:
    from kubernetes import client
except ImportError:
    client = None  # _cluster.from_module has ended the module with the pip line

#: (verb, API group, resource) that deploy, scale, verify and cleanup need in the release's namespace.
NEEDED = (
    ("get", "", "secrets"),
    ("list", "", "secrets"),
    ("create", "", "secrets"),
    ("delete", "", "secrets"),
    ("get", "", "services"),
    ("list", "", "services"),
    ("watch", "", "services"),
    ("create", "", "services"),
    ("patch", "", "services"),
    ("delete", "", "services"),
    ("get", "apps", "deployments"),
    ("list", "apps", "deployments"),
    ("watch", "apps", "deployments"),
    ("create", "apps", "deployments"),
    ("patch", "apps", "deployments"),
    ("delete", "apps", "deployments"),
    ("list", "apps", "replicasets"),
    ("list", "", "pods"),
    ("watch", "", "pods"),
    ("delete", "", "pods"),
    ("get", "", "pods/log"),
    ("create", "", "pods/portforward"),
    ("list", "", "events"),
)


CONFIG_MAPS = ("", "configmaps")
#: What cleanup needs. The right to delete what else a release turns out to have is asked for when it is found.
FOR_CLEANUP = tuple(
    (verb, group, kind) for group, kind in (("", "secrets"), ("", "services"), CONFIG_MAPS, ("apps", "deployments")) for verb in ("list", "delete")
)
#: Option of the role -> (API group, resource) of the objects that it makes.
OPTIONAL = {
    "startup_inference": CONFIG_MAPS,
    "front": CONFIG_MAPS,
    "model_cache": CONFIG_MAPS,
    "disruption_budget": ("policy", "poddisruptionbudgets"),
    "network_policy": ("networking.k8s.io", "networkpolicies"),
    "ingress": ("networking.k8s.io", "ingresses"),
    "gateway": ("gateway.networking.k8s.io", "httproutes"),
}
#: What stands in for a right: replicas are asked over HTTP through the API server's proxy where ports may not be forwarded.
INSTEAD = {("create", "", "pods/portforward"): (("get", "", "pods/proxy"), ("create", "", "pods/proxy"))}


def missing(api: "client.ApiClient", namespace: str, options: dict | None = None) -> list[str]:
    """Return the rights that are refused, such as "create secrets": those of NEEDED, and those that the role's options take.

    :raises _cluster.ClusterError: the cluster does not say
    """
    options = options or {}
    kinds = {OPTIONAL[option] for option, value in options.items() if value and option in OPTIONAL}
    kinds |= set(filter(None, (_autoscaling.kind(options),)))
    kinds |= {CONFIG_MAPS} if options.get("model_control_mode") == "explicit" else set()
    needed = [*NEEDED, *((verb, *kind) for kind in sorted(kinds) for verb in ("create", "patch", "delete"))]
    needed += [("get", *CONFIG_MAPS)] if options.get("model_control_mode") == "explicit" else []
    return refused(api, namespace, needed)


def for_adoption(manifests: Iterable[dict]) -> list[tuple[str, str, str]]:
    """Return what an adoption takes beside NEEDED: replacing Deployment and Services to go back, and taking Helm's marks from what else the chart made."""
    kinds = {(each["apiVersion"].rpartition("/")[0], each["kind"].lower()) for each in manifests}
    # As Kubernetes itself guesses the plural.
    plurals = {(group, f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}es" if kind.endswith("s") else f"{kind}s") for group, kind in kinds}
    return [("update", "apps", "deployments"), ("update", "", "services"), *(("patch", *kind) for kind in sorted(plurals))]


def refused(api: "client.ApiClient", namespace: str, needed: list[tuple[str, str, str]]) -> list[str]:
    """Return those of the rights (verb, API group, resource) that the credentials lack, such as "create secrets".

    :raises _cluster.ClusterError: the cluster does not say
    """
    review = client.AuthorizationV1Api(api).create_self_subject_access_review

    def allowed(right: tuple[str, str, str]) -> bool:
        verb, group, resource = right
        name, slash, subresource = resource.partition("/")
        attributes = client.V1ResourceAttributes(namespace=namespace, verb=verb, group=group, resource=name, subresource=subresource or None)
        question = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes))
        return _kube.call("asking what the credentials may do", review, question)["status"]["allowed"]

    with ThreadPoolExecutor(max_workers=len(NEEDED)) as pool:
        answers = list(pool.map(allowed, needed))
    lacking = [right for right, answer in zip(needed, answers) if not answer]
    return [f"{verb} {resource}" for verb, group, resource in lacking if not _replaced((verb, group, resource), allowed)]


def _replaced(right: tuple[str, str, str], allowed) -> bool:
    return right in INSTEAD and all(allowed(other) for other in INSTEAD[right])


def namespace_labels(api: "client.ApiClient", namespace: str) -> dict:
    """Return the namespace's labels; empty where it is not there or may not be read."""
    try:
        return _labels(f"reading the namespace {namespace}", client.CoreV1Api(api).read_namespace, namespace)
    except _kube.RequestError as error:
        if error.status in (403, 404):
            return {}
        raise


def namespace_phase(api: "client.ApiClient", namespace: str) -> str:
    """Return Active, Terminating, or "" if it is not there; Active as well where it may not be read, since then it is somebody else's."""
    try:
        found = _kube.call(f"reading the namespace {namespace}", client.CoreV1Api(api).read_namespace, namespace)
    except _kube.RequestError as error:
        if error.status in (403, 404):
            return "Active" if error.status == 403 else ""
        raise
    return (found.get("status") or {}).get("phase") or "Active"


def deployment_owner(api: "client.ApiClient", namespace: str, name: str) -> str | None:
    """Return who manages the Deployment, as its labels say; None if there is none, "unknown" if they do not say."""
    try:
        labels = _labels(f"reading the Deployment {namespace}/{name}", client.AppsV1Api(api).read_namespaced_deployment, name, namespace)
    except _kube.RequestError as error:
        if error.status == 404:
            return None
        raise
    return labels.get("app.kubernetes.io/managed-by") or labels.get("heritage") or "unknown"


def service_account_exists(api: "client.ApiClient", namespace: str, name: str) -> bool:
    """Return whether the service account is there; true as well where it may not be read."""
    try:
        _kube.call(f"reading the service account {namespace}/{name}", client.CoreV1Api(api).read_namespaced_service_account, name, namespace)
    except _kube.RequestError as error:
        if error.status in (403, 404):
            return error.status == 403
        raise
    return True


def _labels(what: str, read, *args: str) -> dict:
    return _kube.call(what, read, *args)["metadata"].get("labels") or {}
