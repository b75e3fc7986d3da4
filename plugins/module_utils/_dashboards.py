# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Grafana, Prometheus and Alertmanager are found in a cluster. PRIVATE to the collection."""

from __future__ import annotations

import base64

from ansible_collections.mlserving.triton.plugins.module_utils import _kube, _monitoring

#: What is looked for, the value of app.kubernetes.io/name of its pods, and the port on this machine that is forwarded to it.
PROGRAMS = (("Grafana", "grafana", 3000), ("Prometheus", "prometheus", 9090), ("Alertmanager", "alertmanager", 9093))
NAME = "app.kubernetes.io/name"
PASSWORD, USER = "GF_SECURITY_ADMIN_PASSWORD", "GF_SECURITY_ADMIN_USER"


def find(api, namespaces: list[str]) -> list[dict]:
    """Return every program that is found: what, namespace, service, port, addresses, local_port, user and secret.

    :raises _kube.RequestError: the cluster does not answer
    """
    full = {"accept": "application/json"}
    services = _monitoring.items(api, "/api/v1", "services", namespaces, **full)
    ingresses = _monitoring.items(api, "/apis/networking.k8s.io/v1", "ingresses", namespaces, **full)
    node = _node_address(api)
    found = []
    for what, name, local_port in PROGRAMS:
        fitting = [entry for entry in services if (entry["spec"].get("selector") or {}).get(NAME) == name]
        # The operator's own Service is headless; a chart's is for people.
        with_address = {entry["metadata"]["namespace"] for entry in fitting if entry["spec"].get("clusterIP") != "None"}
        for service in fitting:
            metadata, spec = service["metadata"], service["spec"]
            if spec.get("clusterIP") == "None" and metadata["namespace"] in with_address:
                continue
            entry = {
                "what": what,
                "namespace": metadata["namespace"],
                "service": metadata["name"],
                "port": spec["ports"][0]["port"],
                "local_port": local_port,
                "addresses": addresses(service, ingresses, node),
                "user": "",
                "secret": {},
            }
            found.append({**entry, **(_password(api, metadata["namespace"], spec["selector"]) if what == "Grafana" else {})})
    return found


def addresses(service: dict, ingresses: list[dict], node: str) -> list[str]:
    """Return the URLs by which a Service is reached from outside."""
    metadata, spec = service["metadata"], service["spec"]
    port, urls = spec["ports"][0], []
    for ingress in ingresses:
        if ingress["metadata"]["namespace"] != metadata["namespace"]:
            continue
        secure = {host for entry in ingress["spec"].get("tls") or [] for host in entry.get("hosts") or []}
        for rule in ingress["spec"].get("rules") or []:
            for path in (rule.get("http") or {}).get("paths") or []:
                if (path["backend"].get("service") or {}).get("name") == metadata["name"] and rule.get("host"):
                    urls.append(f"{'https' if rule['host'] in secure else 'http'}://{rule['host']}{path.get('path', '/')}")
    for entry in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []:
        urls.append(f"http://{entry.get('ip') or entry.get('hostname')}:{port['port']}")
    if spec.get("type") == "NodePort" and node:
        urls.append(f"http://{node}:{port['nodePort']}")
    return urls


def _node_address(api) -> str:
    try:
        nodes = _kube.get(api, "/api/v1/nodes")["items"]
    except _kube.RequestError as error:
        if error.status != 403:
            raise
        return ""
    return next(
        (entry["address"] for node in nodes for entry in (node.get("status") or {}).get("addresses") or [] if entry["type"] == "InternalIP"), ""
    )


def _password(api, namespace: str, labels: dict) -> dict:
    """Return user and secret (name and key) of a Grafana; the password itself is not looked at."""
    deployments = _monitoring.items(api, "/apis/apps/v1", f"namespaces/{namespace}/deployments", [], accept="application/json")
    for deployment in deployments:
        pod = deployment["spec"]["template"]
        if not labels.items() <= (pod["metadata"].get("labels") or {}).items():
            continue
        variables = {entry["name"]: entry for container in pod["spec"]["containers"] for entry in container.get("env") or []}
        kept = ((variables.get(PASSWORD) or {}).get("valueFrom") or {}).get("secretKeyRef")
        user = variables.get(USER) or {}
        reference = (user.get("valueFrom") or {}).get("secretKeyRef")
        name = _value(api, namespace, reference) if reference else user.get("value", "admin")
        return {"user": name, "secret": {"name": kept["name"], "key": kept["key"]} if kept else {}}
    return {}


def _value(api, namespace: str, reference: dict) -> str:
    try:
        found = _kube.get(api, f"/api/v1/namespaces/{namespace}/secrets/{reference['name']}", absent_is_empty=True) or {}
    except _kube.RequestError as error:
        if error.status == 403:
            return ""
        raise
    return base64.b64decode((found.get("data") or {}).get(reference["key"], "")).decode()


def pod_behind(api, namespace: str, service: str) -> tuple[str, int] | None:
    """Return (pod, port) of a ready endpoint of a Service; None if there is none."""
    query = _monitoring.selector(**{"kubernetes.io/service-name": service})
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices{query}"
    for entry in _kube.get(api, path)["items"]:
        for endpoint in entry.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready") and (endpoint.get("targetRef") or {}).get("kind") == "Pod":
                return endpoint["targetRef"]["name"], entry["ports"][0]["port"]
    return None
