# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address at which a Service is reached from outside its cluster. PRIVATE to the collection."""

from __future__ import annotations

import time

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _kube

try:
    from kubernetes import client
except ImportError:
    client = None  # _cluster.from_module has ended the module with the pip line

HTTP_PORT, GRPC_PORT = "http-inference-server", "grpc-inference-server"


def address(api: "client.ApiClient", namespace: str, name: str, deadline: float) -> tuple[str, str] | None:
    """Return (HTTP base URL, gRPC host:port) of a Service of type LoadBalancer, waiting for its address; None for other types.

    One is empty where the Service has no such port.

    :param deadline: on the monotonic clock
    :raises _cluster.ClusterError: there is no such Service, or it has no address in time
    """
    core = client.CoreV1Api(api)
    what = f"reading the Service {namespace}/{name}"
    service = _kube.call(what, core.read_namespaced_service, name, namespace)
    if service["spec"]["type"] != "LoadBalancer":
        return None
    while not _ingress(service):
        left = deadline - time.monotonic()
        if left < 1:
            raise _cluster.ClusterError(
                f"the Service {namespace}/{name} is of type LoadBalancer and was given no address in time. "
                "See that a load balancer controller runs in the cluster (the cloud's, or MetalLB), "
                "or choose another type with triton_service_type (the chart's service.type)."
            )
        only = {"field_selector": f"metadata.name={name}", "resource_version": service["metadata"]["resourceVersion"]}
        _kube.wait_for_event(what, core.list_namespaced_service, namespace, seconds=left, **only)
        service = _kube.call(what, core.read_namespaced_service, name, namespace)
    host = _ingress(service)[0].get("ip") or _ingress(service)[0]["hostname"]
    host = f"[{host}]" if ":" in host else host
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    http, grpc = ports.get(HTTP_PORT), ports.get(GRPC_PORT)
    return f"http://{host}:{http}" if http else "", f"{host}:{grpc}" if grpc else ""


def _ingress(service: dict) -> list[dict]:
    return (service.get("status", {}).get("loadBalancer") or {}).get("ingress") or []
