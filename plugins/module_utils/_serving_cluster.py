# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster has that a release has to fit in with: GPUs, autoscalers, Secrets, other releases. PRIVATE to the collection.

What the account may not see is taken for as it should be: the API server judges in the end.
"""

from __future__ import annotations

import base64
import datetime
import json
import re

from ansible_collections.mlserving.triton.plugins.module_utils import (
    _autoscaling,
    _autoscaling_diagnosis,
    _kube,
    _monitoring,
    _pod_security,
    _pods,
    _releases,
    _s3_url,
    _secret,
)

try:
    from cryptography import x509
except ImportError:
    x509 = None  # Then the certificate's end is not looked at; ansible-core itself brings the package.

#: A release in the URL of a model repository.
IN_STORE = re.compile(rf"/{_s3_url.RELEASES}/({_s3_url.RELEASE.pattern})\b")
ENFORCED = "pod-security.kubernetes.io/enforce"
#: Kinds that a release has only with certain options: (path, apiVersion, kind).
OPTIONAL = (
    ("/api/v1/namespaces/{}/services", "v1", "Service"),
    ("/api/v1/namespaces/{}/configmaps", "v1", "ConfigMap"),
    ("/apis/policy/v1/namespaces/{}/poddisruptionbudgets", "policy/v1", "PodDisruptionBudget"),
    ("/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies", "networking.k8s.io/v1", "NetworkPolicy"),
    ("/apis/networking.k8s.io/v1/namespaces/{}/ingresses", "networking.k8s.io/v1", "Ingress"),
    ("/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes", "gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("/apis/gateway.networking.k8s.io/v1/namespaces/{}/grpcroutes", "gateway.networking.k8s.io/v1", "GRPCRoute"),
    *((f"/apis/{version}/namespaces/{{}}/{plural}", version, kind) for version, kind, plural in _autoscaling.OBJECTS.values()),
)
METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"


def items(api, path: str, accept: str = "application/json") -> list[dict]:
    """Return the objects at a path of the API server; none where there is no such kind or they may not be seen.

    :raises _kube.RequestError: the cluster does not answer
    """
    try:
        return (_kube.get(api, path, absent_is_empty=True, accept=accept) or {}).get("items") or []
    except _kube.RequestError as error:
        if error.status == 403:
            return []
        raise


def gpu_problem(api, resource: str, count: int) -> str:
    """Return why no replica with so many GPUs can be placed; nothing if one can, or if the cluster adds nodes by itself."""
    nodes = items(api, "/api/v1/nodes")
    if not nodes or not count:
        return ""
    found = {node["metadata"]["name"]: int((node["status"].get("allocatable") or {}).get(resource, 0)) for node in nodes}
    largest = max(found.values())
    where = ", ".join(f"{name} {has}" for name, has in found.items() if has) or "none on any"
    if largest >= count or _adds_nodes(api):
        return ""
    return (
        f"triton_gpus (the chart's image.numGpus) is {count}, but of the {len(nodes)} nodes none has as many of {resource}; the most is {largest} ({where}). "
        "Install the driver and the device plugin, ask for fewer, set triton_gpus to 0 for CPU only, or triton_gpu_check to false."
    )


def _adds_nodes(api) -> bool:
    """Whether Karpenter, GKE's node auto-provisioning or the cluster autoscaler are there."""
    groups = {group["name"] for group in (_kube.get(api, "/apis") or {}).get("groups", [])}
    if "karpenter.sh" in groups:
        return True
    for name in ("cluster-autoscaler-status", "cluster-autoscaler-priority-expander"):
        try:
            if _kube.get(api, f"/api/v1/namespaces/kube-system/configmaps/{name}", absent_is_empty=True):
                return True
        except _kube.RequestError as error:
            if error.status != 403:
                raise
    return False


def gateway_problem(api) -> str:
    """Return why there can be no routes; nothing if the cluster has the Gateway API."""
    groups = {group["name"] for group in (_kube.get(api, "/apis") or {}).get("groups", [])}
    if "gateway.networking.k8s.io" in groups:
        return ""
    return "triton_gateway is given, but the cluster has no Gateway API (gateway.networking.k8s.io). Install its CRDs and a controller, or use triton_ingress."


def autoscaler(api, namespace: str, deployment: str) -> dict:
    """Return the metadata of the HorizontalPodAutoscaler of a Deployment; empty if it has none."""
    for found in items(api, f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"):
        target = found["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) == ("Deployment", deployment):
            return found["metadata"]
    return {}


def is_own(scaler: dict, optional: list[dict]) -> bool:
    """Whether an autoscaler is the release's, or made by the release's ScaledObject.

    :param scaler: the metadata of a HorizontalPodAutoscaler
    :param optional: as optional_objects returns them
    """
    own = {(entry["kind"], entry["name"]) for entry in optional}
    makers = {(owner["kind"], owner["name"]) for owner in scaler.get("ownerReferences") or []}
    return bool(({("HorizontalPodAutoscaler", scaler.get("name"))} | makers) & own)


def number_of_replicas(api, namespace: str, deployment: str, manager: str, inputs: dict, scaling: dict, found: dict) -> dict:
    """Return ``autoscaler`` (who decides on the number of replicas, or nothing), ``send_replicas`` and ``replicas_before``, as the preflight returns them.

    :param inputs: with ``replicas`` and ``ignore`` (whether the autoscaler is ignored)
    :param scaling: the options of the release's own autoscaler; empty if it is to have none
    :param found: ``scaler``, as autoscaler() returns it, and ``own``: whether it is the release's
    """
    before = replicas_now(api, namespace, deployment)
    decides = "" if inputs["ignore"] else found["scaler"].get("name") or (deployment if scaling else "")
    # One of its own that is no longer wanted goes before anything is applied.
    leave = decides if scaling or not found["own"] else ""
    least = int(scaling["min_replicas"]) if scaling else 0
    sent = replicas_to_send(api, namespace, deployment, manager, least if scaling and leave else int(inputs["replicas"]), leave)
    if leave and least and before == 0:
        # At 0 an autoscaler does nothing.
        sent = least
    return {"autoscaler": decides, "send_replicas": sent, "replicas_before": sent if leave else before}


def autoscaler_problems(api, scaling: dict, found: dict, count: object, deployment: str) -> list[str]:
    """Return why the release's own autoscaler cannot be, a sentence each.

    :param count: the number of replicas that was asked for by name; None if none was
    """
    scaler, problems = found["scaler"], []
    if count is not None:
        problems.append(
            f"replicaCount is {count}, but the HorizontalPodAutoscaler {scaler.get('name') or deployment} decides on the number of replicas. "
            "Leave replicaCount out, set triton_ignore_autoscaler to true, or remove the autoscaler"
            + (" (triton_autoscaling: false)." if scaling else ".")
        )
    if scaling and scaler and not found["own"]:
        problems.append(
            f"triton_autoscaling is true, but the HorizontalPodAutoscaler {scaler['name']}, which is not this release's, scales the Deployment already. "
            "Remove it, or set triton_autoscaling to false."
        )
    # One that is there already keeps nobody from verifying or going back; the status tells what it lacks.
    if scaling and not found["own"]:
        problems += filter(None, (_autoscaling_diagnosis.method_problem(api, scaling),))
    return problems


def replicas_to_send(api, namespace: str, deployment: str, manager: str, wanted: int, scaled_by: str) -> int | None:
    """Return the number of replicas that the applied Deployment has; None leaves the number to whoever owns it.

    :param manager: our field manager
    :param scaled_by: the Deployment's autoscaler, or nothing
    """
    if not scaled_by:
        return wanted
    found = _kube.get(api, f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}", absent_is_empty=True)
    if not found:
        return wanted
    others = [entry for entry in found["metadata"].get("managedFields") or [] if entry["manager"] != manager]
    owned = any("f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {}) for entry in others)
    # A field that only we own would fall back to 1 if it were left out.
    return None if owned else found["spec"]["replicas"]


def replicas_now(api, namespace: str, deployment: str) -> int | None:
    """Return how many replicas the Deployment asks for; None if there is none."""
    found = _kube.get(api, f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}/scale", absent_is_empty=True)
    return found and (found["spec"].get("replicas") or 0)


def same_release(api, namespace: str, deployment: str, labels: dict) -> str:
    """Return what is wrong if another Deployment has the labels that ours, or its pods, are found by."""
    selector = ",".join(f"{name}%3D{value}" for name, value in labels.items())
    others = [
        entry["metadata"]["name"] for entry in items(api, f"/apis/apps/v1/namespaces/{namespace}/deployments?labelSelector={selector}", METADATA)
    ]
    others = [name for name in others if name != deployment]
    if not others:
        return ""
    return (
        f"The Deployment {others[0]} in namespace {namespace} has the release's labels ({', '.join(f'{name}={value}' for name, value in labels.items())}) "
        f"under another name than {deployment}, so that one would be taken for the other. Choose another triton_release, or remove that one first."
    )


def tls_problem(api, namespace: str, name: str, variable: str) -> str:
    """Return what is wrong with the Secret of a certificate; nothing if it can be used or may not be read."""
    try:
        found = _kube.get(api, f"/api/v1/namespaces/{namespace}/secrets/{name}", absent_is_empty=True)
    except _kube.RequestError as error:
        if error.status == 403:
            return ""
        raise
    if not found:
        return f"{variable} is {name}, but there is no such Secret in namespace {namespace}. Make it: kubectl create secret tls."
    data = found.get("data") or {}
    missing = [key for key in ("tls.crt", "tls.key") if not data.get(key)]
    if missing:
        return f"{variable} is {name}, but that Secret has no {' and no '.join(missing)}. It must be of the type kubernetes.io/tls."
    if x509 is None:
        return ""
    try:
        end = x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"])).not_valid_after_utc
    except ValueError:
        return f"{variable} is {name}, but what that Secret has as tls.crt is no certificate in PEM. Make it anew."
    if end <= datetime.datetime.now(datetime.timezone.utc):
        return f"{variable} is {name}, whose certificate expired on {end:%Y-%m-%d %H:%M} UTC. Renew it first."
    return ""


def security_problem(api, namespace: str, pod: dict, labels: dict) -> str:
    """Return what keeps a pod out of a namespace that enforces the level "restricted"; nothing if it does not.

    :param pod: the spec of the pod, containers included
    :param labels: of the namespace
    """
    if labels.get(ENFORCED) != "restricted":
        return ""
    wrong = _pod_security.violations(pod)
    if not wrong:
        return ""
    return f'The namespace {namespace} enforces the level "restricted", which refuses the pods: {"; ".join(wrong)}. Change that, or use another namespace.'


def releases_in_use(api, namespace: str, release: str, deployment: str) -> list[str]:
    """Return the names of the models' releases that the Deployment runs, and of those that the kept releases of Triton run."""
    running = _kube.get(api, f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}", absent_is_empty=True) or {}
    try:
        kept = [each.about.get("models", "") for each in _releases.Releases(api, namespace, release).all()]
    except _kube.RequestError as error:
        if error.status not in (403, 404):
            raise
        kept = []
    return sorted(set(IN_STORE.findall(" ".join([json.dumps(running.get("spec") or {}), *kept]))))


def optional_objects(api, namespace: str, owner: str, release: str) -> list[dict]:
    """Return apiVersion, kind and name of those objects of the release that certain options make, without those that are being deleted."""
    selector = f"app.kubernetes.io/managed-by%3D{owner},app.kubernetes.io/instance%3D{release}"
    found = []
    for path, version, kind in OPTIONAL:
        for entry in items(api, f"{path.format(namespace)}?labelSelector={selector}", METADATA):
            # A kept release is nothing that the variables ask for, and the monitoring is the business of another role.
            ours = (entry["metadata"].get("labels") or {}).get(_secret.COMPONENT) not in (_releases.RELEASE, _monitoring.COMPONENT)
            if ours and not _pods.is_leaving(entry):
                found.append({"apiVersion": version, "kind": kind, "name": entry["metadata"]["name"]})
    return found
