# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers to verify, and the ways to them. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable

from ansible_collections.mlserving.triton.plugins.module_utils import _api_proxy, _kube, _pods, _triton_client, _tunnel

try:
    import kubernetes.client
except ImportError:
    # The modules report it through _cluster.from_module before a cluster is asked.
    kubernetes = None

#: How many of a server's last lines of log stand in a report.
LOG_LINES = 10
#: Seconds for which a Service may still lead to a pod that leaves: until the nodes have heard of it, or a load balancer outside.
LEAVING = 10
HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002


@dataclasses.dataclass(frozen=True)
class Target:
    """One server. ``openers``: protocol -> function that makes a context manager, which returns the address, or None if there is no way for it.

    ``patient`` says whether a server that does not answer is asked again until the deadline, ``leaving`` for how many seconds one may still answer there
    that has another protocol or certificate. ``fault`` is a problem that stands whatever the server says, ``obstacle`` one for which it need not be
    asked at all. ``metrics`` opens the way to its metrics, if they are to be looked at. ``log`` returns the lines that it wrote in so many last seconds.
    ``reach``: how its pod is reached, None for an address.
    """

    name: str
    kind: str
    openers: dict
    node: str = ""
    patient: bool = True
    leaving: int = 0
    fault: str = ""
    obstacle: str = ""
    metrics: Callable | None = None
    log: Callable | None = None
    reach: Reach | None = None
    access: _triton_client.Access = _triton_client.NOTHING


class _Address(contextlib.nullcontext):
    """An address that needs no tunnel."""

    problem, forbidden = "", False


class Reach:
    """The way to the pods of a cluster: port-forwards or, once the account turned out not to have that right, the API server's proxy.

    ``refusal``: in words, why no port is forwarded; nothing as long as they are.
    """

    def __init__(self, api):
        self._api = api
        self.refusal = ""

    def open(self, namespace: str, pod: str, protocol: str, port: int):
        """Return a context manager with the address of a pod's port; None for gRPC, which the proxy does not carry."""
        if not self.refusal:
            return _tunnel.Tunnel(self._api, namespace, pod, port)
        return None if protocol == "grpc" else _api_proxy.ApiProxy(self._api, namespace, pod, port)

    def log(self, namespace: str, pod: str, container: str, seconds: float) -> list[str]:
        """Return the last lines that the container wrote in so many last seconds, by its node's clock; the reason if they cannot be read."""
        core = kubernetes.client.CoreV1Api(self._api)
        options = {"container": container, "since_seconds": max(1, math.ceil(seconds)), "tail_lines": LOG_LINES}
        try:
            text = _kube.call("reading the log", core.read_namespaced_pod_log, pod, namespace, **options)
        except _kube.RequestError as error:
            return [str(error)]
        return [line for line in str(text).splitlines() if line.strip()]


def url_target(url: str, grpc_url: str | None, protocols: list[str], **more) -> Target:
    openers = {"http": lambda: _Address(url)} if url else {}
    if grpc_url:
        openers["grpc"] = lambda: _Address(grpc_url)
    return Target(url or grpc_url, "url", {protocol: openers[protocol] for protocol in protocols if protocol in openers}, **more)


def replicas(api, namespace: str, selector: str) -> list[dict]:
    """Return the pods that count as replicas, as the API returns them, in the order of their names.

    :raises _kube.RequestError: the cluster refused or did not answer
    """
    what = f"listing the pods with the labels {selector} in namespace {namespace}"
    core = kubernetes.client.CoreV1Api(api)
    pods = _kube.call(what, core.list_namespaced_pod, namespace, label_selector=selector)["items"]
    return sorted((pod for pod in pods if _pods.is_replica(pod)), key=lambda pod: pod["metadata"]["name"])


def count_problems(pods: list[dict], replicas: int | None, selector: str, namespace: str) -> list[str]:
    """Return what is wrong with the number of replicas, in words."""
    if not pods and replicas != 0:
        return [f"no pod has the labels {selector} in namespace {namespace}"]
    ready = sum(_pods.is_ready(pod) for pod in pods)
    if replicas is not None and ready < replicas:
        return [f"{ready} of {replicas} replicas are ready (labels {selector}, namespace {namespace})"]
    return []


def pod_target(api, pod: dict, protocols: list[str], metrics: bool = False, reach: Reach | None = None, **more) -> Target:
    """Return a replica as a target.

    :param api: ``kubernetes.client.ApiClient``
    :param pod: as the API returns it
    :param metrics: whether to look at its metrics
    :param reach: shared by the replicas of one cluster
    :param more: further fields of the target
    """
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    container = _pods.serving(pod)
    ports = {
        "http": _pods.port(pod, "http", HTTP_PORT),
        "grpc": _pods.port(pod, "grpc", GRPC_PORT),
        "metrics": _pods.port(pod, "metrics", METRICS_PORT),
    }
    reach = reach or Reach(api)

    def opener(protocol):
        return lambda: reach.open(namespace, name, protocol, ports[protocol])

    ready = _pods.is_ready(pod)
    running = pod["status"].get("phase") == "Running"
    return Target(
        name=name,
        kind="replica",
        openers={protocol: opener(protocol) for protocol in protocols},
        node=pod["spec"].get("nodeName") or "",
        patient=ready,
        fault="" if ready else _pods.words(_pods.row(pod)),
        obstacle="" if running else _pods.words(_pods.row(pod)),
        metrics=opener("metrics") if metrics else None,
        log=lambda seconds: reach.log(namespace, name, container, seconds),
        reach=reach,
        **more,
    )
