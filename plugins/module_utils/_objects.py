# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists every object of a cluster or of one namespace, whatever its kind. PRIVATE to the collection."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ansible_collections.mlserving.triton.plugins.module_utils import _kube

#: Kinds that the cluster itself writes all the time or derives from other objects.
DERIVED = frozenset(
    (
        "Event",
        "Lease",
        "Endpoints",
        "EndpointSlice",
        "PodMetrics",
        "NodeMetrics",
        "ControllerRevision",
        # Those that are settled go by themselves after an hour.
        "CertificateSigningRequest",
        "IPAddress",
        "ServiceBGPStatus",
        "ServiceL2Status",
    )
)
#: Objects that every namespace is given, as (kind, name).
GIVEN = frozenset((("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")))
PARALLEL = 16


def everything(api: "kubernetes.client.ApiClient", namespace: str | None) -> list[dict]:
    """Return the objects as apiVersion, kind, namespace (None outside one), name, labels, owned (has an owner), path and metadata, sorted.

    Derived objects and those that every namespace is given are left out. A kind that may not be listed stands there as one
    object named "*", so that nobody takes what is not seen for nothing.

    :param namespace: only this one; None means the whole cluster
    :raises _cluster.ClusterError: the API server refuses to list what its credentials should see
    """
    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        lists = pool.map(lambda kind: _objects(api, kind, namespace), _kinds(api, namespaced_only=namespace is not None))
        found = [entry for part in lists for entry in part]
    return sorted(found, key=lambda entry: (entry["kind"], entry["namespace"] or "", entry["name"]))


def is_given(entry: dict) -> bool:
    """Whether the cluster made the object by itself."""
    return (entry["kind"], entry["name"]) in GIVEN


def _kinds(api: "kubernetes.client.ApiClient", namespaced_only: bool) -> list[tuple[str, str, dict]]:
    """Return (URL prefix, apiVersion, resource) of each kind that can be listed and deleted, in its preferred version if it is served in that."""
    versions = [("", "/api/v1", "v1")]
    for group in _kube.get(api, "/apis")["groups"]:
        preferred = group["preferredVersion"]["groupVersion"]
        named = [preferred, *(each["groupVersion"] for each in group["versions"] if each["groupVersion"] != preferred)]
        versions += [(group["name"], f"/apis/{version}", version) for version in named]
    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        served = list(pool.map(lambda each: _kube.get(api, each[1], absent_is_empty=True) or {}, versions))
    kinds: dict[tuple[str, str], tuple[str, str, dict]] = {}
    for (group, prefix, version), found in zip(versions, served):
        for resource in found.get("resources") or []:
            listable = {"list", "delete"} <= set(resource["verbs"])
            if listable and resource["kind"] not in DERIVED and (resource["namespaced"] or not namespaced_only):
                kinds.setdefault((group, resource["name"]), (prefix, version, resource))
    return list(kinds.values())


def _objects(api: "kubernetes.client.ApiClient", kind: tuple[str, str, dict], namespace: str | None) -> list[dict]:
    prefix, version, resource = kind
    path = f"{prefix}/namespaces/{namespace}/{resource['name']}" if namespace else f"{prefix}/{resource['name']}"
    # Only the metadata: the content of a Secret never leaves the API server.
    try:
        content = _kube.get(api, path, absent_is_empty=True, accept="application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io") or {}
    except _kube.RequestError as error:
        if error.status != 403:
            raise
        content = {"items": [{"metadata": {"name": "*", "namespace": namespace}}]}
    objects = []
    for item in content.get("items") or []:
        metadata = item["metadata"]
        entry = {
            "apiVersion": version,
            "kind": resource["kind"],
            "namespace": metadata.get("namespace"),
            "name": metadata["name"],
            "labels": metadata.get("labels") or {},
            "owned": bool(metadata.get("ownerReferences")),
            # Where the list of its kind is, and what tells whose it is and what holds it.
            "path": (
                f"{prefix}/namespaces/{metadata['namespace']}/{resource['name']}" if metadata.get("namespace") else f"{prefix}/{resource['name']}"
            ),
            "metadata": metadata,
        }
        if not is_given(entry):
            objects.append(entry)
    return objects
