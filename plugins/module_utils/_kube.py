# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request to the API server, answered with plain dicts, its failures in words. PRIVATE to the collection."""

from __future__ import annotations

import json

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster

try:
    import kubernetes.client
    from urllib3.exceptions import HTTPError
except ImportError:
    # The modules report it through _cluster.from_module before anything here is called.
    kubernetes = None


#: Only the metadata of an object, so that what a Secret holds never leaves the API server.
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"
#: Seconds by which a busy API server may end a watch later than it was asked to.
LATE = 10


class RequestError(_cluster.ClusterError):
    """A request failed. ``status`` is the HTTP status, 0 when there was no answer; ``transient``: it may work later."""

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status
        self.transient = status in (0, 408, 410, 429) or status >= 500


def call(what: str, function, *args, **kwargs):
    """Call a method of the client library and return its answer as dicts with the API's camelCase keys, or as text.

    :param what: the request in words, such as "listing the pods in namespace x"
    :raises RequestError: it failed
    """
    kwargs.setdefault("_request_timeout", _cluster.REQUEST_TIMEOUT)
    try:
        # The library's own models cost a second to import, and refuse objects that lack a field they call required.
        answer = function(*args, _preload_content=False, **kwargs)
        content = answer.data.decode("utf-8", "replace")
    except (kubernetes.client.ApiException, HTTPError) as error:
        raise explain(what, error) from None
    return json.loads(content) if "json" in answer.headers.get("Content-Type", "") else content


def get(api: "kubernetes.client.ApiClient", path: str, absent_is_empty: bool = False, accept: str = "application/json") -> dict | None:
    """Return what the API server has at a path, such as /api/v1/nodes; None if it has no such thing and that is no fault.

    :raises RequestError: it failed
    """
    request = api.param_serialize("GET", path, header_params={"Accept": accept}, auth_settings=["BearerToken"])
    try:
        response = api.call_api(*request, _request_timeout=_cluster.REQUEST_TIMEOUT)
        content = response.read()
    except HTTPError as error:
        raise explain(f"listing {path}", error) from None
    if response.status < 300:
        return json.loads(content)
    # 405: a kind that cannot be listed here; 404 and 503: an API whose server is gone.
    if absent_is_empty and response.status in (404, 405, 503):
        return None
    raise RequestError(f"the cluster refused GET {path}: {response.status} {response.reason}.", response.status)


def send(api: "kubernetes.client.ApiClient", method: str, path: str, body: dict | list | None = None, content: str = "application/json") -> dict | None:
    """Return the answer to a request that changes something; None where there is no such object, or the answer is no JSON.

    :param content: the media type of ``body``, such as application/merge-patch+json
    :raises RequestError: it failed
    """
    headers = {"Accept": "application/json", "Content-Type": content}
    request = api.param_serialize(method, path, header_params=headers, body=body, auth_settings=["BearerToken"])
    try:
        response = api.call_api(*request, _request_timeout=_cluster.REQUEST_TIMEOUT)
        answer = response.read()
    except HTTPError as error:
        raise explain(f"{method} {path}", error) from None
    if response.status == 404:
        return None
    if response.status >= 300:
        try:
            reason = json.loads(answer)["message"]
        except (ValueError, KeyError, TypeError):
            reason = response.reason
        raise RequestError(f"the cluster refused {method} {path}: {reason} ({response.status}).", response.status)
    return json.loads(answer) if answer else None


def wait_for_change(api: "kubernetes.client.ApiClient", path: str, name: str, version: str, seconds: float) -> None:
    """Return when the object of a list, such as that at /api/v1/pods, is no longer of that version, or after that many seconds.

    :raises RequestError: the watch failed
    """
    query = [("watch", "1"), ("fieldSelector", f"metadata.name={name}"), ("resourceVersion", version), ("timeoutSeconds", str(max(1, round(seconds))))]
    request = api.param_serialize("GET", path, query_params=query, header_params={"Accept": METADATA}, auth_settings=["BearerToken"])
    try:
        response = api.call_api(*request, _request_timeout=(_cluster.REQUEST_TIMEOUT[0], seconds + LATE))
        if response.status >= 300:
            raise RequestError(f"the cluster refused to watch {path}: {response.status} {response.reason}.", response.status)
        _until_first_byte(response.response)
    except HTTPError as error:
        raise explain(f"watching {path}", error) from None


def wait_for_event(what: str, function, *args, seconds: float, **kwargs) -> None:
    """Return at the first event of a watch, whatever it is, or after that many seconds.

    :param function: a list method of the client library
    :raises RequestError: the watch failed
    """
    limits = {"timeout_seconds": max(1, round(seconds)), "_request_timeout": (_cluster.REQUEST_TIMEOUT[0], seconds + LATE)}
    try:
        _until_first_byte(function(*args, watch=True, _preload_content=False, **limits, **kwargs))
    except (kubernetes.client.ApiException, HTTPError) as error:
        raise explain(what, error) from None


def _until_first_byte(answer) -> None:
    """Return when a watch tells of anything, or has ended.

    kubernetes.watch parses every event into the library's models; here any byte tells that something changed.
    """
    try:
        next(answer.stream(amt=None), None)
    finally:
        answer.close()


def explain(what: str, error: Exception) -> RequestError:
    """Return the failure of a request in words."""
    if not isinstance(error, kubernetes.client.ApiException):
        reason = getattr(error, "reason", None) or error
        return RequestError(f"{what}: the cluster does not answer ({type(reason).__name__}). Check that this machine reaches it.", 0)
    try:
        reason = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        reason = str(error.reason)
    advice = {
        401: " Check the credentials in the kubeconfig.",
        404: " Check the name and the namespace.",
        403: " Give this account that right, or use another one.",
    }.get(error.status, "")
    return RequestError(f"{what}: {reason} ({error.status}).{advice}", error.status or 0)
