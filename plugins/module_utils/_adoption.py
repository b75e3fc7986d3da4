# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves a Helm release of the public chart over to this collection, in steps that each may be repeated. PRIVATE to the collection.

Both have the same names and selectors, so the Deployment and the Services stay the objects that they are, with their addresses. New pods come up
beside the chart's, which are held until the Service leads to the new ones only: the chart's pods lose requests when they are told to end.
"""

from __future__ import annotations

import copy
import time

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _helm_record, _kube, _secret, _secret_references

MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
HASH = "pod-template-hash"
HELM = "helm"
HELM_NAME, HELM_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"
#: Longer than any adoption: nothing is available, so nothing of the chart's ends.
HOLD = {"minReadySeconds": 86400, "progressDeadlineSeconds": 90000}
ALL_AT_ONCE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}}
LOOK = 5
#: Of replacing an object that others write, too.
ATTEMPTS = 10


def held(manifests: list[dict]) -> list[dict]:
    """Return the manifests, with a Deployment that starts all its pods at once and ends none of the former ones."""
    changed = copy.deepcopy(manifests)
    for manifest in changed:
        if manifest["kind"] == "Deployment":
            manifest["spec"] |= {**HOLD, "strategy": ALL_AT_ONCE}
    return changed


def owned_by(written: list[dict], manager: str, operation: str) -> list[dict]:
    """Return an object's managedFields with what Helm and this collection own as the manager's, whose next write takes away what it does not have."""
    fields, rest, version = {}, [], "v1"
    for entry in written:
        if entry.get("subresource") or entry["manager"] not in (HELM, _secret.OWNER):
            rest.append(entry)
        else:
            fields, version = merged(fields, entry["fieldsV1"]), entry["apiVersion"]
    if not fields:
        return written
    return [*rest, {"manager": manager, "operation": operation, "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": fields}]


def merged(left: dict, right: dict) -> dict:
    """Return the union of two trees."""
    return {key: merged(left.get(key, {}), right.get(key, {})) for key in {**left, **right}}


class Adoption:
    """The steps for one release.

    :raises _cluster.ClusterError: from every method, when the cluster refuses, does not answer, or is not as it has to be
    """

    def __init__(self, api, server: str, namespace: str, fullname: str, record: _helm_record.Record):
        self._api, self._server, self._namespace, self._fullname, self._record = api, server, namespace, fullname, record
        self._deployment, self._service = self._path("Deployment", fullname), self._path("Service", fullname)

    def _path(self, kind: str, name: str, version: str = "") -> str:
        known = {"Deployment": "/apis/apps/v1", "Service": "/api/v1", "Secret": "/api/v1"}
        plural = f"{kind.lower()}s"
        prefix = known.get(kind)
        if not prefix:
            prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
            resources = (_kube.get(self._api, prefix, absent_is_empty=True) or {}).get("resources") or []
            plural = next((each["name"] for each in resources if each["kind"] == kind and "/" not in each["name"]), plural)
        return f"{prefix}/namespaces/{self._namespace}/{plural}/{name}"

    def begin(self) -> None:
        """Make Helm's fields of the Deployment and the Services ours."""
        for manifest in self._record.manifests:
            if manifest["kind"] in ("Deployment", "Service"):
                self._again(self._own, self._path(manifest["kind"], manifest["metadata"]["name"]))

    def _own(self, path: str) -> None:
        found = _kube.get(self._api, path, absent_is_empty=True) or {"metadata": {}}
        written = found["metadata"].get("managedFields") or []
        fields = owned_by(written, _secret.OWNER, "Apply")
        if fields != written:
            version = {"op": "replace", "path": "/metadata/resourceVersion", "value": found["metadata"]["resourceVersion"]}
            _kube.send(self._api, "PATCH", path, [version, {"op": "replace", "path": "/metadata/managedFields", "value": fields}], JSON_PATCH)

    def _again(self, change, *args) -> None:
        """Make a change to an object; again if it was changed meanwhile, as controllers do to its status."""
        for attempt in range(ATTEMPTS):
            try:
                change(*args)
                return
            except _kube.RequestError as error:
                if error.status != 409 or attempt == ATTEMPTS - 1:
                    raise

    def wait(self, timeout: float) -> tuple[str, int]:
        """Wait until every pod of the newest revision is ready, and return (its hash, how many they are).

        :raises _cluster.ClusterError: they are not in time
        """
        deadline = time.monotonic() + timeout
        while True:
            found = _kube.get(self._api, self._deployment)
            wanted = found["spec"]["replicas"]
            newest = self._newest(found)
            ready = ((newest or {}).get("status") or {}).get("readyReplicas", 0)
            if newest and ready >= wanted:
                return newest["metadata"]["labels"][HASH], wanted
            left = deadline - time.monotonic()
            if left < 1:
                raise _cluster.ClusterError(
                    f"{ready} of {wanted} new replicas were ready after {timeout:.0f} seconds. {self._states(newest)}".rstrip()
                )
            path, name = self._deployment.rpartition("/")[::2]
            _kube.wait_for_change(self._api, path, name, found["metadata"]["resourceVersion"], min(left, LOOK))

    def _newest(self, deployment: dict) -> dict | None:
        """Return the ReplicaSet of the Deployment's present revision; None if it is not there yet."""
        if (deployment.get("status") or {}).get("observedGeneration") != deployment["metadata"]["generation"]:
            return None
        revision = (deployment["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision")
        for each in _kube.get(self._api, f"/apis/apps/v1/namespaces/{self._namespace}/replicasets")["items"]:
            owners = {owner["uid"] for owner in each["metadata"].get("ownerReferences") or []}
            mine = deployment["metadata"]["uid"] in owners
            if mine and (each["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision") == revision:
                return each
        return None

    def _states(self, newest: dict | None) -> str:
        """Return in words what the pods of a ReplicaSet wait for."""
        said = []
        for pod in _kube.get(self._api, f"/api/v1/namespaces/{self._namespace}/pods")["items"] if newest else []:
            if (pod["metadata"].get("labels") or {}).get(HASH) != newest["metadata"]["labels"][HASH]:
                continue
            status = pod.get("status") or {}
            reasons = [(each.get("state") or {}).get("waiting", {}).get("message") for each in status.get("containerStatuses") or []]
            reasons += [each.get("message") for each in status.get("conditions") or [] if each["status"] == "False"]
            said.append(f"{pod['metadata']['name']}: {next(filter(None, reasons), status.get('phase', 'unknown'))}.")
        return " ".join(said)

    def lead_to(self, pods: str | None) -> bool:
        """Have the Service lead to the pods of that hash only, or to all of the release; return whether that is a change."""
        found = _kube.get(self._api, self._service, absent_is_empty=True)
        if not found or found["spec"]["selector"].get(HASH) == pods:
            return False
        _kube.send(self._api, "PATCH", self._service, {"spec": {"selector": {HASH: pods}}}, MERGE)
        return True

    def finish(self, labels: dict) -> tuple[list[str], dict[str, str]]:
        """Take over what else the chart made, and remove its credentials and Helm's record; return (what was removed, what stays and why).

        What is removed goes last: until then the chart's pods could be put back.
        """
        secrets = _secret.Secrets(self._api, self._namespace, self._server)
        later, unseen = _secret_references.to_come(secrets)
        used, unused, left = _secret_references.in_use(secrets) | later, [], {}
        for manifest in self._record.manifests:
            kind, name = manifest["kind"], manifest["metadata"]["name"]
            if kind == "Secret" and name not in used and not unseen:
                unused.append(name)
                continue
            if kind == "Secret":
                left[f"Secret {name}"] = "something still uses it" if name in used else f"{', '.join(unseen)} may use it, which may not be listed"
            marks = {_secret.MANAGED_BY: None} if kind == "Secret" else {**labels, "heritage": "Ansible"}
            self._disown(self._path(kind, name, manifest["apiVersion"]), marks)
        for name in [*unused, *self._record.secrets]:
            secrets.delete(name, dry_run=False)
        removed = [f"Secret {name}" for name in unused]
        return [*removed, f"Helm's record of release {self._record.name} ({len(self._record.secrets)} Secrets)"], left

    def _disown(self, path: str, labels: dict) -> None:
        """Take Helm's marks from an object, if it is there."""
        change = {"labels": labels, "annotations": {HELM_NAME: None, HELM_NAMESPACE: None}}
        try:
            _kube.send(self._api, "PATCH", path, {"metadata": change}, MERGE)
        except _kube.RequestError as error:
            if error.status != 404:
                raise

    def put_back(self) -> None:
        """Give the Deployment and the Services back to Helm, as its record has them. Pods of the chart that still run stay, ours end as they should."""
        self.lead_to(None)
        for manifest in self._record.manifests:
            if manifest["kind"] in ("Deployment", "Service"):
                self._again(self._replace, manifest)

    def _replace(self, manifest: dict) -> None:
        """Replace an object that is there by what Helm has."""
        path = self._path(manifest["kind"], manifest["metadata"]["name"])
        found = _kube.get(self._api, path, absent_is_empty=True)
        if found:
            _kube.send(self._api, "PUT", f"{path}?fieldManager={HELM}", as_helm_has_it(manifest, found, self._record.name))


def as_helm_has_it(manifest: dict, found: dict, release: str) -> dict:
    """Return the manifest fit to replace the object that is there: with its number of replicas, and what the cluster gave a Service."""
    body = copy.deepcopy(manifest)
    said = body["metadata"]
    said["namespace"], said["resourceVersion"] = found["metadata"]["namespace"], found["metadata"]["resourceVersion"]
    said["labels"] = {**(said.get("labels") or {}), _secret.MANAGED_BY: "Helm"}
    kept = {key: value for key, value in (found["metadata"].get("annotations") or {}).items() if key.startswith("deployment.kubernetes.io/")}
    said["annotations"] = {**kept, **(said.get("annotations") or {}), HELM_NAME: release, HELM_NAMESPACE: said["namespace"]}
    said["managedFields"] = owned_by(found["metadata"].get("managedFields") or [], HELM, "Update")
    if body["kind"] == "Deployment":
        body["spec"]["replicas"] = found["spec"]["replicas"]
    else:
        nodes = {port["port"]: port["nodePort"] for port in found["spec"]["ports"] if port.get("nodePort")}
        given = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort", "loadBalancerClass")
        body["spec"] |= {field: found["spec"][field] for field in given if field in found["spec"]}
        for port in body["spec"]["ports"]:
            if port["port"] in nodes:
                port.setdefault("nodePort", nodes[port["port"]])
    return body
