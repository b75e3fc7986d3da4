# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes a release's objects away, waits until they are gone, and says what holds those that stay. PRIVATE to the collection."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _kube
from ansible_collections.mlserving.triton.plugins.module_utils._secret import INSTANCE, MANAGED_BY, OWNER

#: Who else may have taken an object over, by the annotation or label that says so.
TAKEN_BY = {
    "meta.helm.sh/release-name": "Helm, as release",
    "argocd.argoproj.io/tracking-id": "Argo CD, as",
    "kustomize.toolkit.fluxcd.io/name": "Flux, as kustomization",
    "helm.toolkit.fluxcd.io/name": "Flux, as Helm release",
}
#: What running pods may still need goes after the pods.
LATER = ("ConfigMap", "Secret", "ServiceAccount")
PARALLEL = 32
#: Seconds of one watch, after which the object is looked at again.
LOOK = 10
#: Seconds that an address may go on answering once its Service is gone, and that one attempt to reach it takes.
ADDRESS_SECONDS, CONNECT_SECONDS = 30, 1


def text(entry: dict) -> str:
    """Return an object in words, such as "Deployment triton/example"."""
    return f"{entry['kind']} {entry['namespace'] + '/' if entry['namespace'] else ''}{entry['name']}"


def sort(entries: list[dict], release: str, gone: Iterable[str] = ()) -> tuple[list[dict], dict[str, str], list[dict]]:
    """Return (what is to go, what of the release stays, as text -> why, what else there is and nothing among it owns).

    :param entries: of _objects.everything
    :param gone: uids of objects that were there a moment ago; what they own is about to go
    """
    own = {entry["metadata"].get("uid") for entry in entries if is_ours(entry, release)}
    there = {*gone, *(entry["metadata"].get("uid") for entry in entries)}
    ours, left, others = [], {}, []
    for entry in entries:
        owners = entry["metadata"].get("ownerReferences") or []
        if is_ours(entry, release):
            foreign = [owner for owner in owners if owner.get("uid") not in own]
            why = f"{foreign[0]['kind']} {foreign[0]['name']} owns it" if foreign else taken_by(entry)
            if why:
                left[text(entry)] = why
            elif not owners:
                ours.append(entry)
        elif was_ours(entry, release):
            left[text(entry)] = f"its labels were changed: {MANAGED_BY} is {entry['labels'].get(MANAGED_BY, 'not there')!r}"
        # What something outside the namespace owns goes with that only; what is on its way out goes by itself.
        elif not entry["metadata"].get("deletionTimestamp") and not any(owner.get("uid") in there for owner in owners):
            others.append(entry)
    return ours, left, others


def is_ours(entry: dict, release: str) -> bool:
    return bool(release) and entry["labels"].get(MANAGED_BY) == OWNER and entry["labels"].get(INSTANCE) == release


def was_ours(entry: dict, release: str) -> bool:
    """Whether this collection wrote an object of the release whose labels no longer say so."""
    labels = entry["labels"]
    if labels.get(MANAGED_BY) == OWNER or release not in (labels.get(INSTANCE), labels.get("release")):
        return False
    return any(written["manager"] == OWNER for written in entry["metadata"].get("managedFields") or [])


def taken_by(entry: dict) -> str:
    """Return who has taken an object over; nothing if nobody has."""
    said = {**(entry["metadata"].get("annotations") or {}), **entry["labels"]}
    return next((f"{who} {said[key]}, manages it" for key, who in TAKEN_BY.items() if key in said), "")


def edited(entries: list[dict]) -> dict[str, str]:
    """Return {object: program} of those objects that a person has edited."""
    found = {}
    for entry in entries:
        for written in entry["metadata"].get("managedFields") or []:
            if written["manager"].startswith("kubectl"):
                found[text(entry)] = written["manager"]
    return found


def remove(api, entries: list[dict], deadline: float) -> dict[str, str]:
    """Delete the objects all at once, and what pods may need after them; return {object: what holds it} of those that are not gone in time.

    :param deadline: on the monotonic clock
    :raises _kube.RequestError: the cluster refuses or does not answer
    """
    held = {}
    for part in ([entry for entry in entries if entry["kind"] not in LATER], [entry for entry in entries if entry["kind"] in LATER]):
        with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
            # A list: all are asked for before the first is waited for.
            found = list(pool.map(lambda entry: _remove(api, entry, deadline), part))
        held |= {text(entry): why for entry, why in zip(part, found) if why}
    return held


def _remove(api, entry: dict, deadline: float) -> str:
    addresses = _addresses(api, entry) if entry["kind"] == "Service" else []
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground", "preconditions": {"uid": entry["metadata"]["uid"]}}
    try:
        _kube.send(api, "DELETE", f"{entry['path']}/{entry['name']}", options)
    except _kube.RequestError as error:
        # Somebody else deletes it, too, or has made another one of this name.
        if error.status != 409:
            raise
    return wait(api, entry, deadline) or _wait_for_address(api, addresses, min(deadline, time.monotonic() + ADDRESS_SECONDS))


def wait(api, entry: dict, deadline: float) -> str:
    """Wait until an object is gone, or another one has its place; return what holds it if it is not in time.

    :raises _kube.RequestError: the cluster refuses or does not answer
    """
    path = f"{entry['path']}/{entry['name']}"
    while found := _kube.get(api, path, absent_is_empty=True, accept=_kube.METADATA):
        metadata = found["metadata"]
        left = deadline - time.monotonic()
        if metadata["uid"] != entry["metadata"]["uid"]:
            return ""
        if left < 1:
            return finalizers(metadata)
        try:
            _kube.wait_for_change(api, entry["path"], entry["name"], metadata["resourceVersion"], min(left, LOOK))
        except _kube.RequestError as error:
            if error.status == 401:
                raise
            # Without the right to watch, with a version that is too old, or a cluster that is slow to end a watch: look again.
            time.sleep(1)
    return ""


def finalizers(metadata: dict) -> str:
    """Return what an object that is being deleted waits for."""
    names = metadata.get("finalizers") or []
    if names == ["foregroundDeletion"]:
        return "what it owns, such as pods, is not gone yet"
    if names:
        return f"its finalizer {', '.join(names)} has not been removed; the controller that set it does that"
    return "it was not deleted" if not metadata.get("deletionTimestamp") else "its grace period is not over"


def _addresses(api, entry: dict) -> list[tuple[str, int]]:
    """Return (host, port) of those at which a load balancer has the Service, and that answer."""
    found = _kube.get(api, f"{entry['path']}/{entry['name']}", absent_is_empty=True) or {}
    at = ((found.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    ports = [port["port"] for port in (found.get("spec") or {}).get("ports") or []]
    return [(each.get("ip") or each["hostname"], port) for each in at for port in ports[:1]]


def _wait_for_address(api, addresses: list[tuple[str, int]], deadline: float) -> str:
    """Wait until nothing answers at the addresses, or another Service has been given them; return which one still does."""
    for host, port in addresses:
        while _answers(host, port) and not _is_anothers(api, host):
            if time.monotonic() > deadline:
                return f"it is gone, but its address {host}:{port} still answers: its load balancer is not released, or somebody else has it by now"
            time.sleep(0.5)
    return ""


def _is_anothers(api, host: str) -> bool:
    """Whether a Service of the cluster, as far as they may be seen, has the address."""
    try:
        services = (_kube.get(api, "/api/v1/services", absent_is_empty=True) or {}).get("items") or []
    except _kube.RequestError as error:
        if error.status != 403:
            raise
        return False
    given = [each for service in services for each in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []]
    return any(host in (each.get("ip"), each.get("hostname")) for each in given)


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), CONNECT_SECONDS):
            return True
    except OSError:
        return False


def namespace_entry(api, namespace: str) -> dict | None:
    """Return the namespace as _objects.everything has objects; None if it is not there or may not be read."""
    try:
        found = _kube.get(api, f"/api/v1/namespaces/{namespace}", absent_is_empty=True)
    except _kube.RequestError as error:
        if error.status == 403:
            return None
        raise
    if not found:
        return None
    place = {"apiVersion": "v1", "kind": "Namespace", "namespace": None, "name": namespace, "path": "/api/v1/namespaces"}
    return {**place, "labels": found["metadata"].get("labels") or {}, "metadata": found["metadata"], "status": found.get("status") or {}}


def why_namespace_stays(api, namespace: str, entries: list[dict]) -> str:
    """Return what keeps a namespace that is being deleted: the cluster's words, the objects with finalizers, and APIs whose server is gone.

    :param entries: what it still holds, of _objects.everything
    """
    said = [
        condition["message"]
        for condition in (namespace_entry(api, namespace) or {"status": {}})["status"].get("conditions") or []
        if condition["status"] == "True"
    ]
    holding = [f"{text(entry)} ({', '.join(entry['metadata']['finalizers'])})" for entry in entries if entry["metadata"].get("finalizers")]
    reasons = [f"objects with finalizers: {', '.join(holding)}" if holding else "", *_gone_apis(api), *said]
    return "; ".join(filter(None, reasons)) or "the cluster does not say why"


def _gone_apis(api) -> list[str]:
    try:
        services = (_kube.get(api, "/apis/apiregistration.k8s.io/v1/apiservices", absent_is_empty=True) or {}).get("items") or []
    except _cluster.ClusterError:
        return []
    return [
        f"the APIService {service['metadata']['name']} is not available ({condition.get('message') or condition.get('reason')}), so nobody can tell "
        "what is left of its kinds: repair or delete it"
        for service in services
        for condition in (service.get("status") or {}).get("conditions") or []
        if condition["type"] == "Available" and condition["status"] == "False"
    ]


def claims(api, namespace: str, wanted: list[str], release: str) -> tuple[list[dict], dict[str, str]]:
    """Return (the claims of those names, why others stay); one that a pod of somebody else's uses stays.

    :raises _kube.RequestError: the cluster refuses or does not answer
    """
    found, left, path = [], {}, f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    for pod in (_kube.get(api, f"/api/v1/namespaces/{namespace}/pods", absent_is_empty=True) or {}).get("items") or [] if wanted else []:
        if (pod["metadata"].get("labels") or {}).get("release") == release:
            continue
        for volume in pod["spec"].get("volumes") or []:
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim in wanted:
                left[f"PersistentVolumeClaim {namespace}/{claim}"] = f"the pod {pod['metadata']['name']} uses it"
    for name in wanted:
        entry = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name, "path": path}
        there = None if text(entry) in left else _kube.get(api, f"{path}/{name}", absent_is_empty=True, accept=_kube.METADATA)
        if there:
            found.append({**entry, "labels": there["metadata"].get("labels") or {}, "metadata": there["metadata"]})
    return found, left
