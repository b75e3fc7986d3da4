# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Secret with credentials that somebody else made: is it there, and does Triton find in it what it needs? PRIVATE to the collection.

No message of this file ever holds a value.
"""

from __future__ import annotations

import base64

from ansible_collections.mlserving.triton.plugins.module_utils import _credentials, _kube, _secret

try:
    from kubernetes import client
except ImportError:
    client = None  # _cluster.from_module has ended the module with the pip line


def look(api: "client.ApiClient", namespace: str, name: str, url: str) -> tuple[dict, list[str]]:
    """Return ({keys, digest}, what is wrong).

    :param url: of the model repository, which decides what is needed
    :raises _cluster.ClusterError: the cluster refuses or does not answer
    """
    try:
        secret = _kube.call(f"reading the Secret {namespace}/{name}", client.CoreV1Api(api).read_namespaced_secret, name, namespace)
    except _kube.RequestError as error:
        if error.status == 404:
            return {"keys": [], "digest": ""}, [_missing(api, namespace, name)]
        raise
    data = secret.get("data") or {}
    where = f"The Secret {name} in namespace {namespace} (triton_credentials_secret)"
    return {"keys": sorted(data), "digest": _secret.public(secret)["digest"]}, _problems(where, data, url)


def _missing(api: "client.ApiClient", namespace: str, name: str) -> str:
    text = f"There is no Secret {name} in namespace {namespace} (triton_credentials_secret)."
    try:
        found = _kube.call("looking for it", client.CoreV1Api(api).list_secret_for_all_namespaces, field_selector=f"metadata.name={name}")["items"]
    except _kube.RequestError:
        # Few may list the Secrets of all namespaces, and it is only for the message.
        found = []
    if found:
        others = ", ".join(sorted(secret["metadata"]["namespace"] for secret in found))
        return f"{text} There is one in {others}, but a pod can only use Secrets of its own namespace: copy it."
    return f"{text} Make it first, or leave triton_credentials_secret out and give the credentials themselves."


def _problems(where: str, data: dict, url: str) -> list[str]:
    names = {key: option for option, key in _credentials.KEYS.items()}
    needed = [_credentials.CLOUD_FILE] if url.startswith("gs://") else [_credentials.KEYS["access_key_id"], _credentials.KEYS["secret_access_key"]]
    if _credentials.CLOUD_FILE not in data and not set(needed) <= set(data):
        lacking = ", ".join(key for key in needed if key not in data)
        return [f"{where} lacks {lacking}. It has the keys {', '.join(sorted(data)) or '(none)'}."]
    values = {}
    for key in data.keys() & names.keys():
        try:
            values[names[key]] = base64.b64decode(data[key]).decode("utf-8")
        except UnicodeDecodeError:
            return [f"{where}: {key} holds bytes that are no text."]
    try:
        _credentials.credentials(values)
    except _credentials.CredentialsError as error:
        return [f"{where}: {error}"]
    return []
