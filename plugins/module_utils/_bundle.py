# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects what helps somebody else to see what is wrong with a release, without its secrets. PRIVATE to the collection."""

from __future__ import annotations

import base64
import json
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.mlserving.triton.plugins.module_utils import (
    _bundle_clean,
    _bundle_file,
    _kube,
    _pods,
    _rollout,
    _secret_references,
    _status,
    _status_server,
    _status_text,
    _version,
)

try:
    import kubernetes
    import yaml
except ImportError:
    # The modules report it through _cluster.from_module before anything here is called.
    kubernetes = None

PARALLEL = 16
LOG_LINES = 5000
#: Kinds that are found by the release's label: (path, apiVersion, kind).
KINDS = (
    ("/api/v1/namespaces/{}/configmaps", "v1", "ConfigMap"),
    ("/api/v1/namespaces/{}/serviceaccounts", "v1", "ServiceAccount"),
    ("/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies", "networking.k8s.io/v1", "NetworkPolicy"),
    ("/apis/networking.k8s.io/v1/namespaces/{}/ingresses", "networking.k8s.io/v1", "Ingress"),
    ("/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes", "gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("/apis/gateway.networking.k8s.io/v1/namespaces/{}/grpcroutes", "gateway.networking.k8s.io/v1", "GRPCRoute"),
)
#: What was seen for the status already: field -> (apiVersion, kind).
SEEN = {
    "replicasets": ("apps/v1", "ReplicaSet"),
    "pods": ("v1", "Pod"),
    "leftovers": ("v1", "Pod"),
    "services": ("v1", "Service"),
    "autoscalers": ("autoscaling/v2", "HorizontalPodAutoscaler"),
    "budgets": ("policy/v1", "PodDisruptionBudget"),
}
#: Of a node this is kept.
NODE = ("conditions", "allocatable", "capacity", "nodeInfo")


class Collection:
    """Everything about one release, as files: name -> text, the most telling first. ``notes``: what could not be had, in words.

    :param seen: what the status was made of
    :param status: what the module triton_status_info returns
    :param timeout: seconds for the replicas' answers, all together
    """

    def __init__(self, api, seen: _status.Seen, status: dict, timeout: float):
        self._api, self._seen, self._status, self._timeout = api, seen, status, timeout
        self._namespace = status["namespace"]
        self.notes: list[str] = []

    def files(self, ansible_version: str) -> dict[str, str]:
        """Return the files, without secrets.

        :raises _kube.RequestError: the cluster does not answer
        """
        pods = self._seen.pods + self._seen.leftovers
        with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
            secrets, objects = pool.submit(self._secrets), pool.submit(self._objects)
            nodes, events = pool.submit(self._nodes), pool.submit(self._events)
            headers = _status.headers_of(self._api, self._namespace, self._seen.pods)
            deadline = time.monotonic() + self._timeout
            answers = [pool.submit(self._server, pod, headers[pod["metadata"]["name"]], deadline) for pod in self._running()]
            logs = [pool.submit(self._log, pod, name, previous) for pod in pods for name, previous in _containers(pod)]
            secrets, objects = secrets.result(), objects.result()
            values = [value for secret in secrets for value in _bundle_clean.values_of_secret(secret)] + list(_bundle_clean.values_in(objects))
            cleaner = _bundle_clean.Cleaner(values)
            status = {key: value for key, value in self._status.items() if key != "text"}
            files = {
                "status.txt": self._status["text"] + "\n",
                "status.json": _json(cleaner.object(status)),
                "findings.txt": self._findings(),
                "versions.json": _json(self._versions(ansible_version)),
                "secrets.txt": _secrets_text(secrets),
            }
            files |= {f"objects/{entry['kind']}-{entry['metadata']['name']}.yaml": _yaml(cleaner.object(entry)) for entry in objects}
            files["objects/events.yaml"] = _yaml(cleaner.object(events.result()))
            files |= {f"nodes/{node['metadata']['name']}.yaml": _yaml(cleaner.object(node)) for node in nodes.result()}
            for future in answers + logs:
                files |= future.result()
        return {cleaner.text(name): cleaner.text(text) for name, text in files.items()}

    def _running(self) -> list[dict]:
        return [pod for pod in self._seen.pods if pod["status"].get("phase") == "Running"]

    def _get(self, what: str, path: str, query: dict | None = None) -> dict:
        """Return what is at a path; nothing, with a note, where the account may not see it."""
        try:
            return _status.get(self._api, path, query) or {}
        except _kube.RequestError as error:
            if error.status != 403:
                raise
            self.notes.append(f"{what}: the account may not see them")
            return {}

    def _secrets(self) -> list[dict]:
        """Return the Secrets that the pods refer to and those of the release, whole, so that their values are known and taken out."""
        referred = set(_secret_references.names_in([entry["spec"] for entry in (self._seen.deployment, *self._seen.pods) if entry]))
        content = self._get("Secrets", f"/api/v1/namespaces/{self._namespace}/secrets")
        release = {"app.kubernetes.io/instance": self._status["release"]}
        mine = [
            secret
            for secret in content.get("items") or []
            if secret["metadata"]["name"] in referred or release.items() <= (secret["metadata"].get("labels") or {}).items()
        ]
        if "items" not in content:
            self.notes.append("Without the Secrets' values, credentials were only taken out where their name or form tells them")
        return mine

    def _objects(self) -> list[dict]:
        found = [{"apiVersion": "apps/v1", "kind": "Deployment", **self._seen.deployment}] if self._seen.deployment else []
        for field, (version, kind) in SEEN.items():
            found += [{"apiVersion": version, "kind": kind, **entry} for entry in getattr(self._seen, field)]
        query = {"labelSelector": f"release={self._status['release']}"}
        for path, version, kind in KINDS:
            listed = self._get(f"{kind}s", path.format(self._namespace), query).get("items") or []
            found += [{"apiVersion": version, "kind": kind, **entry} for entry in listed]
        return found

    def _events(self) -> list[dict]:
        listed = self._get("Events", f"/api/v1/namespaces/{self._namespace}/events").get("items") or []
        return _status.own_events(self._seen, listed, self._status["deployment"])

    def _nodes(self) -> list[dict]:
        names = sorted({pod["spec"]["nodeName"] for pod in self._seen.pods if pod["spec"].get("nodeName")})
        nodes = [node for node in (self._get("Nodes", f"/api/v1/nodes/{name}") for name in names) if node]
        return [
            {
                "metadata": {"name": node["metadata"]["name"], "labels": node["metadata"].get("labels") or {}},
                "taints": node["spec"].get("taints") or [],
                **{key: (node.get("status") or {}).get(key) for key in NODE},
            }
            for node in nodes
        ]

    def _server(self, pod: dict, headers: dict, deadline: float) -> dict[str, str]:
        """Return what a replica's Triton says of itself; what it does not say stands there with the reason."""
        folder = f"triton/{pod['metadata']['name']}"
        port, files = _pods.port(pod, "http", _status_server.HTTP_PORT), {}
        try:
            answers = _status_server.ask(self._api, pod, port, _status_server.STATE, headers, deadline)
            files |= {f"{folder}/{name}.json": _told(answer) for name, answer in zip(("metadata", "index", "stats"), answers)}
            loaded = [entry["name"] for entry in json.loads(answers[1][1]) if entry.get("state") == "READY"] if answers[1][0] == 200 else []
            paths = {name: f"/v2/models/{name}/config" for name in sorted(set(loaded))}
            configs = _status_server.ask(self._api, pod, port, [("GET", path) for path in paths.values()], headers, deadline) if paths else []
            files |= {f"{folder}/config/{name}.json": _told(answer) for name, answer in zip(paths, configs)}
            port = _pods.port(pod, "metrics", _status_server.METRICS_PORT)
            files[f"{folder}/metrics.txt"] = _told(_status_server.ask(self._api, pod, port, [("GET", "/metrics")], headers, deadline)[0])
        except _status_server.ServerError as error:
            files[f"{folder}/problem.txt"] = f"{error}\n"
        return files

    def _log(self, pod: dict, container: str, previous: bool) -> dict[str, str]:
        text = _status.log(self._api, pod, container, previous, LOG_LINES)
        name = f"logs/{pod['metadata']['name']}/{container}{'.previous' if previous else ''}.log"
        return {} if text is None else {name: text}

    def _findings(self) -> str:
        seen = self._seen
        lines = [f"! {problem['what']}\n  What to do: {problem['todo']}" for problem in self._status["problems"]]
        lines += [f"{finding.subject}: {finding.why} ({finding.cause})\n  What to do: {finding.todo}" for finding in seen.findings()]
        if seen.deployment:
            lines += _rollout.last_seen(seen.deployment, seen.newest, seen.pods, seen.events)
        lines += [_pods.words(_pods.row(pod)) for pod in seen.pods + seen.leftovers]
        return "\n".join([*lines, *self._status["hints"]]) + "\n"

    def _versions(self, ansible_version: str) -> dict:
        return {
            "mlserving.triton": _version.VERSION,
            "ansible-core": ansible_version,
            "Kubernetes": self._seen.version,
            "kubernetes (client)": kubernetes.__version__,
            "python": platform.python_version(),
            "platform": sys.platform,
            "servers": {name: server["version"] for name, server in self._seen.servers.items()},
        }


def _containers(pod: dict) -> list[tuple[str, bool]]:
    """Return (container, whether its former run is meant) of each log that there may be."""
    found = []
    for status in _pods.statuses(pod):
        found += [(status["name"], False)] + ([(status["name"], True)] if status.get("restartCount") else [])
    return found


def _told(answer: tuple[int, str]) -> str:
    status, text = answer
    return text if status == 200 else f"refused with status {status}: {text}"


def _secrets_text(secrets: list[dict]) -> str:
    rows = [["SECRET", "TYPE", "MADE", "KEYS (BYTES)"]]
    for secret in secrets:
        sizes = [f"{key} ({len(base64.b64decode(value))})" for key, value in sorted((secret.get("data") or {}).items())]
        rows.append([secret["metadata"]["name"], secret.get("type") or "", secret["metadata"].get("creationTimestamp") or "", ", ".join(sizes)])
    return "\n".join(_status_text.table(rows)) + "\n"


def _json(content) -> str:
    return json.dumps(content, indent=2) + "\n"


def _yaml(content) -> str:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(content, Dumper=dumper, sort_keys=False, allow_unicode=True, width=160)


def readme(status: dict, made: str, files: dict[str, bytes], notes: list[str]) -> str:
    """Return the text that the bundle begins with.

    :param made: when, as text
    """
    lines = [_bundle_file.MARK, "", f"{status['release']} in namespace {status['namespace']} on {status['cluster']['server']}, {made}", ""]
    lines += [
        "Values of Secrets, and of what is called like a secret, are not in it: Secrets are there by name, keys and sizes alone.",
        "Read it before you hand it on.",
    ]
    if notes:
        lines += ["", "Not whole:", *(f"  {note}" for note in sorted(set(notes)))]
    width = max(len(str(len(content))) for content in files.values())
    return "\n".join([*lines, "", "Bytes and name of each file:", *(f"  {len(content):>{width}}  {name}" for name, content in files.items())]) + "\n"
