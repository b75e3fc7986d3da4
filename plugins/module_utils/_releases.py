# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases of Triton that were verified, each kept in the cluster as one ConfigMap. PRIVATE to the collection.

A release is its manifests without the number of replicas, and what it was verified with. Credentials are in it by their Secrets' names only.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import gzip
import hashlib
import json
import urllib.parse

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _kube, _model_set, _secret_references
from ansible_collections.mlserving.triton.plugins.module_utils._secret import COMPONENT, INSTANCE, MANAGED_BY, OWNER

try:
    import kubernetes.client
except ImportError:
    # The modules report it through _cluster.from_module before anything here is called.
    kubernetes = None

RELEASE = "release"
#: Annotations: those of every release, and the prefix of what a caller adds.
PREFIX = "mlserving.triton/"
NUMBER, DIGEST, SECRETS, CONTENT = f"{PREFIX}release", f"{PREFIX}digest", f"{PREFIX}secrets", f"{PREFIX}content"
OWN = (NUMBER, DIGEST, SECRETS, CONTENT)
#: The API server takes 1 MiB of data in a ConfigMap.
LARGEST = 2**20 - 2**14
NAME_LENGTH = 52


class ReleaseError(_cluster.ClusterError):
    """A release cannot be kept or found; the text says what to do."""


@dataclasses.dataclass(frozen=True)
class Release:
    """``number`` counts from 1; ``about`` holds the other annotations without their prefix; ``secrets`` are names.

    ``content`` is the SHA-256 of all that is kept.
    """

    number: int
    name: str
    digest: str
    secrets: tuple[str, ...]
    about: dict
    content: str = ""


def without_replicas(manifests: list[dict]) -> list[dict]:
    """Return the manifests, Deployments without their number of replicas: changing that is no release."""
    kept = copy.deepcopy(manifests)
    for manifest in kept:
        if manifest["kind"] == "Deployment":
            manifest["spec"].pop("replicas", None)
    return kept


def with_replicas(manifests: list[dict], replicas: int | None) -> list[dict]:
    """Return the manifests with that number of replicas; None leaves it to whoever owns it."""
    complete = without_replicas(manifests)
    for manifest in complete:
        if manifest["kind"] == "Deployment" and replicas is not None:
            manifest["spec"]["replicas"] = replicas
    return complete


def with_model_set(manifests: list[dict], names: list[str] | None) -> list[dict]:
    """Return the manifests with these names as the set of models that all replicas have loaded; None leaves them as they are."""
    complete = copy.deepcopy(manifests)
    for manifest in complete if names is not None else []:
        annotations = manifest["metadata"].get("annotations") or {}
        if manifest["kind"] == "ConfigMap" and _model_set.AGREED in annotations:
            annotations[_model_set.AGREED], manifest["data"] = "true", {_model_set.KEY: _model_set.text(names)}
    return complete


def digest(manifests: list[dict]) -> str:
    """Return the SHA-256 of the manifests, in any order and without the number of replicas, in hex."""
    texts = sorted(json.dumps(manifest, sort_keys=True, separators=(",", ":")) for manifest in without_replicas(manifests))
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def secrets_in(manifests: list[dict]) -> list[str]:
    return sorted({name for manifest in manifests if manifest["kind"] == "Deployment" for name in _secret_references.names_in(manifest["spec"])})


def packed(manifests: list[dict], verification: dict, outline: dict) -> tuple[bytes, bool]:
    """Return (what is kept, whether the golden cases are in it): these are left out where all would be too large.

    :raises ReleaseError: it is too large without them, too
    """
    # In any order, they are the same release.
    ordered = sorted(without_replicas(manifests), key=lambda manifest: json.dumps(manifest, sort_keys=True))
    for models in (outline, {}):
        content = {"manifests": ordered, "verification": verification, "models": models}
        data = gzip.compress(json.dumps(content, sort_keys=True).encode(), mtime=0)
        if len(data) <= LARGEST:
            return data, models == outline
    raise ReleaseError(f"its manifests take {len(data)} bytes, and a ConfigMap {LARGEST} at most.")


def unpacked(data: bytes) -> dict:
    """Return manifests, verification and models (an outline) of what was kept.

    :raises ReleaseError: it is damaged
    """
    try:
        return json.loads(gzip.decompress(data))
    except (OSError, EOFError, ValueError) as error:
        raise ReleaseError(f"it is damaged ({error}). Choose another one.") from None


class Releases:
    """The kept releases of one Helm-like release name in a namespace.

    :raises _cluster.ClusterError: from every method, when the API server refuses or does not answer
    """

    def __init__(self, api, namespace: str, release: str):
        self._core, self._namespace, self._release = kubernetes.client.CoreV1Api(api), namespace, release
        self._api = api

    def all(self) -> list[Release]:
        """Return the kept releases, the newest first."""
        query = urllib.parse.urlencode({"labelSelector": selector(self._release)})
        accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
        found = _kube.get(self._api, f"/api/v1/namespaces/{self._namespace}/configmaps?{query}", accept=accept)
        return in_order(found["items"] or [])

    def content(self, release: Release) -> dict:
        """Return manifests, verification and models (an outline)."""
        found = _kube.call(f"reading release {release.number}", self._core.read_namespaced_config_map, release.name, self._namespace)
        return unpacked(base64.b64decode(found["binaryData"]["release"]))

    def write(self, name: str, number: int, data: bytes, labels: dict, annotations: dict) -> None:
        annotations = {**annotations, NUMBER: str(number), CONTENT: hashlib.sha256(data).hexdigest()}
        body = {
            "metadata": {
                "name": f"{name[:NAME_LENGTH]}-release-{number}",
                "labels": {**labels, MANAGED_BY: OWNER, INSTANCE: self._release, COMPONENT: RELEASE},
                "annotations": annotations,
            },
            "immutable": True,
            "binaryData": {"release": base64.b64encode(data).decode()},
        }
        _kube.call(f"keeping release {number}", self._core.create_namespaced_config_map, self._namespace, body)

    def delete(self, release: Release) -> None:
        try:
            _kube.call(f"removing release {release.number}", self._core.delete_namespaced_config_map, release.name, self._namespace)
        except _kube.RequestError as error:
            if error.status != 404:
                raise

    def missing_secrets(self, names: list[str]) -> list[str]:
        """Return which of these Secrets are gone."""
        path = f"/api/v1/namespaces/{self._namespace}/secrets/"
        accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
        return [name for name in names if _kube.get(self._api, path + name, absent_is_empty=True, accept=accept) is None]


def selector(release: str) -> str:
    """Return the selector of labels that finds the ConfigMaps of a release."""
    return f"{MANAGED_BY}={OWNER},{INSTANCE}={release},{COMPONENT}={RELEASE}"


def in_order(items: list[dict]) -> list[Release]:
    """Return the releases of ConfigMaps, of which the metadata is enough, the newest first."""
    return sorted((_of(item["metadata"]) for item in items), key=lambda release: -release.number)


def _of(metadata: dict) -> Release:
    annotations = metadata.get("annotations") or {}
    about = {key.removeprefix(PREFIX): value for key, value in annotations.items() if key.startswith(PREFIX) and key not in OWN}
    secrets = tuple(filter(None, annotations.get(SECRETS, "").split(",")))
    return Release(int(annotations.get(NUMBER) or 0), metadata["name"], annotations.get(DIGEST, ""), secrets, about, annotations.get(CONTENT, ""))


def chosen(releases: list[Release], wanted: str) -> Release:
    """Return one of the releases, the newest of which stands first: its number, "last" or "previous".

    :raises ReleaseError: there is no such release
    """
    kept = ", ".join(str(release.number) for release in releases) or "none"
    if wanted in ("last", "previous"):
        place = ("last", "previous").index(wanted)
        if len(releases) <= place:
            raise ReleaseError(f"there is no {wanted} release; kept are: {kept}. A release is kept once it was verified.")
        return releases[place]
    for release in releases:
        if str(release.number) == wanted:
            return release
    raise ReleaseError(f"there is no release {wanted}; kept are: {kept}. Choose one of them, or {'previous' if len(releases) > 1 else 'deploy one'}.")
