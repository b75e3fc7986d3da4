# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Secret that holds the credentials for Triton's access to its model repository.

PRIVATE to the collection. No message of this file ever holds a value, only the name of the option that it came from.
Requests are sent as plain JSON: the client's own models quote rejected values in their errors.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from urllib.parse import quote

from ansible_collections.mlserving.triton.plugins.module_utils._cluster import REQUEST_TIMEOUT
from ansible_collections.mlserving.triton.plugins.module_utils._credentials import KEYS

MANAGED_BY = "app.kubernetes.io/managed-by"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
OWNER = "mlserving.triton"
#: Annotation that holds when the credentials end. It is no part of the digest.
EXPIRES = "mlserving.triton/expires"
#: Annotations that are no longer true of new data; kubectl's holds the old data itself.
ABOUT_THE_DATA = (EXPIRES, "kubectl.kubernetes.io/last-applied-configuration")


class SecretError(Exception):
    """The Secret cannot be written. The text says what to do."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run did, or would do. ``before`` and ``after`` are fit to be shown."""

    changed: bool
    before: dict
    after: dict
    warnings: tuple = ()


def digest(data: dict) -> str:
    """Return the first 10 hex digits of the SHA-256 over {key: plain text}: too few to find a value from."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()[:10]


def manifest(
    content: dict[str, bytes], namespace: str, release: str, name: str | None = None, labels: dict | None = None, expires: str | None = None
) -> dict:
    """Return the Secret for ``content``: immutable and named by its content, or mutable with a fixed ``name``."""
    data = {key: base64.b64encode(value).decode("ascii") for key, value in content.items()}
    kind = "aws" if KEYS["access_key_id"] in content else "credentials"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name or f"{release}-{kind}-{digest(_plain(data))}",
            "namespace": namespace,
            "labels": {**{key: str(value) for key, value in (labels or {}).items()}, MANAGED_BY: OWNER, INSTANCE: release, COMPONENT: "credentials"},
        },
        "type": "Opaque",
        "data": data,
    }
    if expires:
        secret["metadata"]["annotations"] = {EXPIRES: expires}
    if not name:
        secret["immutable"] = True
    return secret


def _plain(data: dict) -> dict:
    # Bytes that are no text become what no text holds, so that two values never look the same.
    return {key: base64.b64decode(value).decode("utf-8", "surrogateescape") for key, value in data.items()}


def public(secret: dict | None) -> dict:
    """Return what may be shown of a Secret: name, keys, digest and, if known, when it expires; nothing of none."""
    if not secret:
        return {}
    data = secret.get("data") or {}
    shown = {"name": secret["metadata"]["name"], "data_keys": sorted(data), "digest": digest(_plain(data))}
    expires = (secret["metadata"].get("annotations") or {}).get(EXPIRES)
    return {**shown, "expires": expires} if expires else shown


class Secrets:
    """The Secrets of one namespace, and the list of what else is there.

    :raises SecretError: from every method, when the API server refuses or does not answer
    """

    def __init__(self, api, namespace: str, server: str):
        self._api, self._namespace, self._server = api, namespace, server
        self._path = f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets"

    def _of(self, name: str) -> str:
        return f"{self._path}/{quote(name, safe='')}"

    def find(self, name: str) -> dict | None:
        return self._request("GET", self._of(name), missing=None)

    def of_release(self, release: str) -> list[dict]:
        selector = f"{MANAGED_BY}={OWNER},{INSTANCE}={release},{COMPONENT}=credentials"
        return self._request("GET", self._path, [("labelSelector", selector)])["items"] or []

    def others(self, group: str, resource: str) -> list[dict]:
        """Return the namespace's objects of another kind, such as ("/apis/apps/v1", "deployments")."""
        return self._request("GET", f"{group}/namespaces/{quote(self._namespace, safe='')}/{resource}")["items"] or []

    def create(self, secret: dict, dry_run: bool) -> None:
        """Write a new Secret. In a dry run a namespace that is still to be created is no error."""
        missing = SecretError(f"the namespace {self._namespace} does not exist on {self._server}. Create it first, then run again.")
        answer = self._request("POST", self._path, _dry(dry_run), secret, missing=missing)
        if answer is missing and not dry_run:
            raise missing

    def replace(self, secret: dict, dry_run: bool) -> None:
        self._request("PUT", self._of(secret["metadata"]["name"]), _dry(dry_run), secret)

    def delete(self, name: str, dry_run: bool) -> None:
        self._request("DELETE", self._of(name), _dry(dry_run), missing=None)

    _RAISE = object()

    def _request(self, method: str, path: str, query: list | None = None, body: dict | None = None, missing=_RAISE):
        """Return the decoded answer; ``missing`` is returned for 404 if given."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        try:
            request = self._api.param_serialize(
                method, path, query_params=query or [], header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            response = self._api.call_api(*request, _request_timeout=REQUEST_TIMEOUT)
            content = response.read()
        except (HTTPError, ApiException) as error:
            reason = getattr(error, "reason", None)
            kind = type(reason if isinstance(reason, Exception) else error).__name__
            raise SecretError(
                f"the API server {self._server} does not answer ({kind}). Check that it runs and that this machine reaches it."
            ) from None
        if response.status == 404 and missing is not self._RAISE:
            return missing
        if response.status >= 300:
            raise SecretError(self._refusal(method, path, response.status, content))
        return json.loads(content)

    def _refusal(self, method: str, path: str, status: int, content: bytes) -> str:
        if status == 403 and _is_terminating(content):
            return (
                f"the namespace {self._namespace} on {self._server} is being deleted, so nothing can be made in it. "
                f"Wait until it is gone (kubectl wait --for=delete namespace/{self._namespace}), then run again."
            )
        verb = {"GET": "read", "POST": "create", "PUT": "update", "DELETE": "delete"}[method]
        try:
            said = " ".join(str(json.loads(content)["message"]).split())
        except (ValueError, KeyError, TypeError):
            said = "no reason given"
        mine = path.startswith(self._path)
        hint = {
            401: "Check the credentials in the kubeconfig.",
            403: (
                "Ask for the right to get, list, create, update and delete secrets in that namespace."
                if mine
                else f"Ask for the right to list {path.rpartition('/')[2]} in that namespace, or leave prune out."
            ),
            409: "Something else changed it at the same time: run again.",
        }.get(status, "")
        return f"the API server {self._server} refused to {verb} {path} ({status}): {said}. {hint}".rstrip()


def _dry(dry_run: bool) -> list:
    return [("dryRun", "All")] if dry_run else []


def _is_terminating(content: bytes) -> bool:
    try:
        answer = json.loads(content)
        causes = (answer.get("details") or {}).get("causes") or []
        return "because it is being terminated" in answer.get("message", "") or any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
    except (ValueError, AttributeError, TypeError):
        return False


def ensure_present(secrets: Secrets, desired: dict, dry_run: bool, adopt: bool = False) -> Outcome:
    """Create or update the Secret ``desired`` (see manifest).

    :param adopt: take over one that is not ours yet, or of another release
    :raises SecretError: one of that name exists and is not ours to write
    """
    current = secrets.find(desired["metadata"]["name"])
    if current is None:
        secrets.create(desired, dry_run)
        return Outcome(True, {}, public(desired))
    _refuse_foreign(current, desired, adopt)
    same = current.get("data") == desired["data"] and bool(current.get("immutable")) == bool(desired.get("immutable"))
    metadata = _merged(current["metadata"], desired["metadata"], same)
    if same and metadata == current["metadata"]:
        return Outcome(False, public(current), public(current))
    # A write in between is refused by the resourceVersion in its metadata.
    final = {**desired, "metadata": metadata}
    secrets.replace(final, dry_run)
    return Outcome(True, public(current), public(final))


def _merged(current: dict, desired: dict, same: bool) -> dict:
    """Return the metadata to write: what others put there stays, but for what is about data that is replaced."""
    annotations = {key: value for key, value in (current.get("annotations") or {}).items() if same or key not in ABOUT_THE_DATA}
    annotations.update(desired.get("annotations") or {})
    merged = {**current, "labels": {**(current.get("labels") or {}), **desired["labels"]}}
    if annotations or current.get("annotations"):
        merged["annotations"] = annotations
    return merged


def _refuse_foreign(current: dict, desired: dict, adopt: bool) -> None:
    name = f"the Secret {desired['metadata']['name']} in the namespace {desired['metadata']['namespace']}"
    labels = current["metadata"].get("labels") or {}
    wanted = desired["metadata"]["labels"]
    way_out = "Give another name, or remove that Secret yourself."
    taking_over = "Give another name, remove that Secret yourself, or set adopt: true together with its name to take it over."
    if not adopt and labels.get(MANAGED_BY) != OWNER:
        raise SecretError(f"{name} exists and does not carry the label {MANAGED_BY}={OWNER}, so it is not ours to change. {taking_over}")
    if not adopt and labels.get(INSTANCE) != wanted[INSTANCE]:
        raise SecretError(f"{name} belongs to the release {labels.get(INSTANCE)!r}, not to {wanted[INSTANCE]!r}. {taking_over}")
    if current.get("type") != desired["type"]:
        raise SecretError(f"{name} is of type {current.get('type')}, which cannot be changed to {desired['type']}. {way_out}")
    if current.get("immutable") and (not desired.get("immutable") or current.get("data") != desired["data"]):
        raise SecretError(f"{name} is immutable, so its data cannot be changed in place. {way_out}")


def ensure_absent(secrets: Secrets, release: str, name: str | None, dry_run: bool, only: list[str] | None = None) -> Outcome:
    """Delete the release's Secrets, or only the one named, or those in ``only``; ``before`` and ``after`` hold ``names``."""
    warnings = []
    if name:
        found = [secret for secret in [secrets.find(name)] if secret]
        for secret in found:
            labels = secret["metadata"].get("labels") or {}
            if labels.get(MANAGED_BY) != OWNER or labels.get(INSTANCE) != release:
                warnings.append(f"the Secret {name} was left: its labels do not say that it belongs to the release {release} of {OWNER}.")
        found = [] if warnings else found
    else:
        found = [secret for secret in secrets.of_release(release) if only is None or secret["metadata"]["name"] in only]
    names = sorted(secret["metadata"]["name"] for secret in found)
    for each in names:
        secrets.delete(each, dry_run)
    return Outcome(bool(names), {"names": names}, {"names": []}, tuple(warnings))
