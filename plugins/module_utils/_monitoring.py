# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster has of a monitoring stack, and what is ours of it. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.mlserving.triton.plugins.module_utils import _kube, _secret

GROUP = "monitoring.coreos.com"
#: The custom resource definitions of the Prometheus operator, and the version in which their objects are listed.
CRDS = {
    "alertmanagerconfigs": "v1alpha1",
    "alertmanagers": "v1",
    "podmonitors": "v1",
    "probes": "v1",
    "prometheusagents": "v1alpha1",
    "prometheuses": "v1",
    "prometheusrules": "v1",
    "scrapeconfigs": "v1alpha1",
    "servicemonitors": "v1",
    "thanosrulers": "v1",
}
#: The label app.kubernetes.io/component of a release's objects.
COMPONENT = "monitoring"
#: The label with the namespace of the release that an object is for.
FOR_NAMESPACE = "mlserving.triton/namespace"
#: The ConfigMap that says that a stack is ours.
RECORD = "mlserving-triton-monitoring"
#: (path, apiVersion, kind) of a release's objects.
KINDS = (
    (f"/apis/{GROUP}/v1", "servicemonitors", f"{GROUP}/v1", "ServiceMonitor"),
    (f"/apis/{GROUP}/v1", "podmonitors", f"{GROUP}/v1", "PodMonitor"),
    (f"/apis/{GROUP}/v1", "prometheusrules", f"{GROUP}/v1", "PrometheusRule"),
    ("/api/v1", "configmaps", "v1", "ConfigMap"),
)
METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
#: Longest name of the chart's objects without their suffix.
LONGEST = 26


def items(
    api, prefix: str, resource: str, namespaces: list[str], query: str = "", accept: str = METADATA, refused_is_empty: bool = False
) -> list[dict]:
    """Return the cluster's objects of a kind; only those of ``namespaces`` where the account may not list them all.

    :param refused_is_empty: leave out those of ``namespaces`` that may not be seen either
    :raises _kube.RequestError: the cluster does not answer, or refuses those as well
    """
    try:
        return (_kube.get(api, f"{prefix}/{resource}{query}", absent_is_empty=True, accept=accept) or {}).get("items") or []
    except _kube.RequestError as error:
        if error.status != 403:
            raise
    found = []
    for namespace in sorted(set(filter(None, namespaces))):
        try:
            listed = _kube.get(api, f"{prefix}/namespaces/{namespace}/{resource}{query}", absent_is_empty=True, accept=accept) or {}
        except _kube.RequestError as error:
            if error.status != 403 or not refused_is_empty:
                raise
            continue
        found += listed.get("items") or []
    return found


def selector(**labels: str) -> str:
    """Return labels as the query of a list."""
    return "?labelSelector=" + ",".join(f"{name}%3D{value}" for name, value in labels.items())


def objects(api, namespaces: list[str]) -> list[dict]:
    """Return the objects of all our releases' monitoring: apiVersion, kind, metadata (name, namespace), release and release_namespace.

    What the account may not see is left out: cleanup.yml runs with rights in the release's namespace only, which need not be monitored.
    """
    query = selector(**{_secret.MANAGED_BY: _secret.OWNER, _secret.COMPONENT: COMPONENT})
    found = []
    for prefix, resource, version, kind in KINDS:
        for entry in items(api, prefix, resource, namespaces, query, refused_is_empty=True):
            metadata, labels = entry["metadata"], entry["metadata"].get("labels") or {}
            found.append(
                {
                    "apiVersion": version,
                    "kind": kind,
                    "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
                    "release": labels.get(_secret.INSTANCE, ""),
                    "release_namespace": labels.get(FOR_NAMESPACE, ""),
                }
            )
    return found


def sees_all(api) -> bool:
    """Whether the account may see the rules, which each monitored release has, of every namespace."""
    try:
        _kube.get(api, f"/apis/{GROUP}/v1/prometheusrules?limit=1", absent_is_empty=True, accept=METADATA)
    except _kube.RequestError as error:
        if error.status == 403:
            return False
        raise
    return True


def crds(api) -> dict[str, dict]:
    """Return the metadata of the operator's custom resource definitions that are there, by the plural of their kind."""
    listed = _kube.get(api, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", accept=METADATA).get("items") or []
    names = {f"{plural}.{GROUP}": plural for plural in CRDS}
    return {names[entry["metadata"]["name"]]: entry["metadata"] for entry in listed if entry["metadata"]["name"] in names}


def served(api) -> set[str]:
    """Return the plurals of the operator's kinds that the API server serves; needs no right on custom resource definitions."""
    found = set()
    for version in ("v1", "v1alpha1"):
        answer = _kube.get(api, f"/apis/{GROUP}/{version}", absent_is_empty=True) or {}
        found |= {resource["name"] for resource in answer.get("resources") or []}
    return found & set(CRDS)


def custom_objects(api, but: list[dict] | None = None, but_of: list[str] | None = None) -> list[str]:
    """Return every object of the operator's kinds, as "Kind namespace/name".

    :param but: objects that are left out, as objects() returns them
    :param but_of: Helm releases (NAMESPACE/NAME) whose objects are left out
    """
    found = []
    plurals = {kind: plural for _prefix, plural, _version, kind in KINDS}
    left_out = {(plurals[entry["kind"]], entry["metadata"]["namespace"], entry["metadata"]["name"]) for entry in but or []}
    for plural, version in CRDS.items():
        answer = _kube.get(api, f"/apis/{GROUP}/{version}/{plural}", absent_is_empty=True, accept=METADATA) or {}
        for entry in answer.get("items") or []:
            namespace, name, notes = entry["metadata"]["namespace"], entry["metadata"]["name"], entry["metadata"].get("annotations") or {}
            helm = f"{notes.get('meta.helm.sh/release-namespace')}/{notes.get('meta.helm.sh/release-name')}"
            if (plural, namespace, name) not in left_out and helm not in (but_of or []):
                found.append(f"{plural} {namespace}/{name}")
    return found


def record(api, namespace: str) -> dict:
    """Return what the stack's record says: helm_release and adapter.

    Empty if the stack in that namespace is not ours, or there is none, or the account may not see it and so could not remove it either.
    """
    try:
        found = _kube.get(api, f"/api/v1/namespaces/{namespace}/configmaps/{RECORD}", absent_is_empty=True)
    except _kube.RequestError as error:
        if error.status != 403:
            raise
        return {}
    return (found or {}).get("data") or {}


def helm_release(api, namespace: str, name: str) -> str:
    """Return the status of a Helm release; empty if there is none or its Secrets may not be seen."""
    path = f"/api/v1/namespaces/{namespace}/secrets{selector(owner='helm', name=name)}"
    try:
        found = (_kube.get(api, path, absent_is_empty=True, accept=METADATA) or {}).get("items") or []
    except _kube.RequestError as error:
        if error.status == 403:
            return ""
        raise
    newest = max(found, key=lambda entry: int((entry["metadata"].get("labels") or {}).get("version", 0)), default=None)
    return (newest["metadata"].get("labels") or {}).get("status", "unknown") if newest else ""


def fullname(helm: str) -> str:
    """Return the beginning of the names of the stack's objects."""
    return helm[:LONGEST].rstrip("-")


def leftovers(api, namespace: str, helm: str, volumes: bool) -> list[dict]:
    """Return what `helm uninstall` leaves of the stack but Secrets, fit for kubernetes.core.k8s, whether it is there or not; claims only if they are.

    :param helm: name of the stack's Helm release
    """
    name = fullname(helm)
    rbac = "rbac.authorization.k8s.io/v1"
    admission = f"{name}-admission"
    found = [_definition("v1", "Service", f"{name}-kubelet", "kube-system")]
    found.append(_definition("v1", "ServiceAccount", admission, namespace))
    found += [_definition(rbac, kind, admission, namespace) for kind in ("Role", "RoleBinding")]
    found += [_definition(rbac, kind, admission) for kind in ("ClusterRole", "ClusterRoleBinding")]
    found += [_definition("batch/v1", "Job", f"{admission}-{step}", namespace) for step in ("create", "patch")]
    kinds = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
    found += [_definition("admissionregistration.k8s.io/v1", kind, admission) for kind in kinds]
    if volumes:
        owners = [selector(**{"operator.prometheus.io/name": f"{name}-{part}"}) for part in ("prometheus", "alertmanager")]
        owners += [
            selector(alertmanager=f"{name}-alertmanager"),
            selector(**{"app.kubernetes.io/instance": helm, "app.kubernetes.io/name": "grafana"}),
        ]
        claims = {
            entry["metadata"]["name"]
            for query in owners
            for entry in items(api, "/api/v1", f"namespaces/{namespace}/persistentvolumeclaims", [], query)
        }
        found += [_definition("v1", "PersistentVolumeClaim", claim, namespace) for claim in sorted(claims)]
    return found


def _definition(version: str, kind: str, name: str, namespace: str = "") -> dict:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **({"namespace": namespace} if namespace else {})}}
