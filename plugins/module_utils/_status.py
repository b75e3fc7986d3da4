# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects what there is to know of a release: its objects, and what each replica says. PRIVATE to the collection."""

from __future__ import annotations

import base64
import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlencode

from ansible_collections.mlserving.triton.plugins.module_utils import (
    _autoscaling_diagnosis,
    _cluster,
    _kube,
    _pods,
    _releases,
    _rollout,
    _status_server,
    _triton_log,
)

try:
    import kubernetes.client
except ImportError:
    # The modules report it through _cluster.from_module before anything here is called.
    kubernetes = None

PARALLEL = 16
#: Of a Secret only this is read: its content never leaves the API server.
METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
#: How many lines of a log are searched for a reason, and of how many pods.
LOG_TAIL, LOG_PODS = 1000, 5


@dataclasses.dataclass
class Seen:
    """One look at a release. Objects are dicts as the API returns them.

    ``deployment``: None if there is none. ``pods``: the replicas by name; ``leftovers``: pods that leave, were evicted or have finished.
    ``secrets``: metadata of all in the namespace. ``releases``: metadata of those that are kept as verified. ``events``: the warnings of the release's
    objects. ``servers``: pod -> answer of _status_server.state. ``logs``: pod -> text, of those that failed.
    ``scaling``: the steps of _autoscaling_diagnosis, if the autoscaler gets no metric. ``unseen``: what the account may not list.
    ``elsewhere``: (namespace, name) of this collection's Deployments, if there is none here.
    """

    version: str = ""
    namespace: dict | None = None
    deployment: dict | None = None
    replicasets: list = dataclasses.field(default_factory=list)
    pods: list = dataclasses.field(default_factory=list)
    leftovers: list = dataclasses.field(default_factory=list)
    services: list = dataclasses.field(default_factory=list)
    autoscalers: list = dataclasses.field(default_factory=list)
    budgets: list = dataclasses.field(default_factory=list)
    secrets: list = dataclasses.field(default_factory=list)
    releases: list = dataclasses.field(default_factory=list)
    events: list = dataclasses.field(default_factory=list)
    servers: dict = dataclasses.field(default_factory=dict)
    logs: dict = dataclasses.field(default_factory=dict)
    scaling: list = dataclasses.field(default_factory=list)
    unseen: list = dataclasses.field(default_factory=list)
    elsewhere: list = dataclasses.field(default_factory=list)

    @property
    def newest(self) -> dict | None:
        """The ReplicaSet that the Deployment rolls out."""
        return _rollout.newest(self.deployment, self.replicasets) if self.deployment else None

    def findings(self) -> list[_rollout.Finding]:
        """What stands in the way of the rollout."""
        newest = self.newest
        if not self.deployment:
            return []
        leaving = any(map(_pods.is_leaving, self.leftovers))
        return _rollout.findings(self.deployment, newest, _rollout.pods_of(newest, self.pods), self.events, leaving=leaving)


def collect(api, target: _cluster.Target, namespace: str, release: str, names: dict, timeout: float) -> Seen:
    """Look at a release.

    :param names: as _names.names returns them
    :param timeout: seconds for the replicas' answers, all together
    :raises _cluster.ClusterError: the cluster does not answer, or refuses to show the Deployment
    """
    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        seen = _objects(api, target, namespace, release, names, pool)
        if seen.deployment is None:
            seen.elsewhere = _elsewhere(api)
            return seen
        deadline = time.monotonic() + timeout
        headers = headers_of(api, namespace, seen.pods)
        running = [pod for pod in seen.pods if pod["status"].get("phase") == "Running"]
        states = {pod["metadata"]["name"]: pool.submit(_status_server.state, api, pod, headers[pod["metadata"]["name"]], deadline) for pod in running}
        logs = {pod["metadata"]["name"]: pool.submit(_log, api, pod) for pod in _failing(seen)}
        ailing = [
            pool.submit(_autoscaling_diagnosis.steps, partial(get, api), scaler, release)
            for scaler in seen.autoscalers[:1]
            if _autoscaling_diagnosis.ails(scaler)
        ]
        seen.servers = {name: future.result() for name, future in states.items()}
        seen.logs = {name: future.result() for name, future in logs.items()}
        seen.scaling = [step for future in ailing for step in future.result()]
    return seen


def _objects(api, target: _cluster.Target, namespace: str, release: str, names: dict, pool: ThreadPoolExecutor) -> Seen:
    within, labels = f"namespaces/{namespace}", {"labelSelector": f"app={names['app']},release={release}"}
    paths = {
        "namespace": (f"/api/v1/{within}", {}),
        "deployment": (f"/apis/apps/v1/{within}/deployments/{names['fullname']}", {}),
        "replicasets": (f"/apis/apps/v1/{within}/replicasets", labels),
        "pods": (f"/api/v1/{within}/pods", labels),
        "services": (f"/api/v1/{within}/services", {"labelSelector": f"release={release}"}),
        "autoscalers": (f"/apis/autoscaling/v2/{within}/horizontalpodautoscalers", {}),
        "budgets": (f"/apis/policy/v1/{within}/poddisruptionbudgets", {}),
        "secrets": (f"/api/v1/{within}/secrets", {}),
        "releases": (f"/api/v1/{within}/configmaps", {"labelSelector": _releases.selector(release)}),
        "events": (f"/api/v1/{within}/events", {"fieldSelector": "type=Warning"}),
    }
    version = pool.submit(_cluster.version, api, target)
    futures = {
        kind: pool.submit(get, api, path, query, METADATA if kind in ("secrets", "releases") else "application/json")
        for kind, (path, query) in paths.items()
    }
    seen = Seen(version=version.result())
    for kind, future in futures.items():
        try:
            content = future.result()
        except _kube.RequestError as error:
            if error.status != 403 or kind == "deployment":
                raise
            seen.unseen.append(kind)
            continue
        if content:
            setattr(seen, kind, content if kind in ("namespace", "deployment") else content.get("items") or [])
    seen.leftovers = [pod for pod in seen.pods if not _pods.is_replica(pod)]
    seen.pods = sorted((pod for pod in seen.pods if _pods.is_replica(pod)), key=lambda pod: pod["metadata"]["name"])
    _keep_own(seen, names["fullname"])
    return seen


def get(api, path: str, query: dict | None = None, accept: str = "application/json") -> dict | None:
    """Return what is at a path of the API server, None if nothing is.

    :raises _kube.RequestError: it failed
    """
    return _kube.get(api, f"{path}?{urlencode(query)}" if query else path, absent_is_empty=True, accept=accept)


def _keep_own(seen: Seen, fullname: str) -> None:
    """Leave out what is in the namespace but not of the release."""
    labels = ((seen.deployment or {}).get("spec") or {}).get("template", {}).get("metadata", {}).get("labels") or {}
    scaled = {entry["metadata"]["name"]: entry["spec"]["scaleTargetRef"] for entry in seen.autoscalers}
    wanted = [name for name, reference in scaled.items() if (reference["kind"], reference["name"]) == ("Deployment", fullname)]
    seen.autoscalers = [entry for entry in seen.autoscalers if entry["metadata"]["name"] in wanted]
    seen.budgets = [entry for entry in seen.budgets if _selects((entry["spec"].get("selector") or {}).get("matchLabels"), labels)]
    seen.events = own_events(seen, seen.events, fullname)


def own_events(seen: Seen, events: list[dict], fullname: str) -> list[dict]:
    """Return the events of the release's objects, the oldest first; those of pods that are gone are among them."""
    own = {
        entry["metadata"]["name"]
        for kind in ("replicasets", "pods", "leftovers", "services", "autoscalers", "budgets")
        for entry in getattr(seen, kind)
    }
    begins = tuple(f"{entry['metadata']['name']}-" for entry in seen.replicasets)
    named = [(event, event["involvedObject"].get("name") or "") for event in events]
    return sorted((event for event, name in named if name in own | {fullname} or (begins and name.startswith(begins))), key=event_time)


def _selects(wanted: dict | None, labels: dict) -> bool:
    return bool(wanted) and wanted.items() <= labels.items()


def event_time(event: dict) -> str:
    """Return when it happened last, in ISO format."""
    series = (event.get("series") or {}).get("lastObservedTime")
    return series or event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""


def _elsewhere(api) -> list[tuple[str, str]]:
    """Return (namespace, release) of this collection's Deployments in the whole cluster, as far as the account may see them."""
    try:
        content = get(api, "/apis/apps/v1/deployments", {"labelSelector": "app.kubernetes.io/managed-by=mlserving.triton"}, METADATA) or {}
    except _kube.RequestError as error:
        if error.status != 403:
            raise
        content = {}
    found = [entry["metadata"] for entry in content.get("items") or []]
    return sorted((entry["namespace"], (entry.get("labels") or {}).get("app.kubernetes.io/instance") or entry["name"]) for entry in found)


def headers_of(api, namespace: str, pods: list[dict]) -> dict[str, dict]:
    """Return pod -> what its server's restricted APIs want to see."""
    secrets: dict = {}

    def value(key: _status_server.Key) -> str:
        if key.value or not key.secret:
            return key.value
        if key.secret not in secrets:
            try:
                secrets[key.secret] = (get(api, f"/api/v1/namespaces/{namespace}/secrets/{key.secret}") or {}).get("data") or {}
            except _kube.RequestError as error:
                if error.status != 403:
                    raise
                # The server's refusal then says what it wanted.
                secrets[key.secret] = {}
        return base64.b64decode(secrets[key.secret].get(key.field) or "").decode("utf-8", "replace").strip()

    return {pod["metadata"]["name"]: {key.header: value(key) for key in _status_server.keys(pod)} for pod in pods}


def _failing(seen: Seen) -> list[dict]:
    """Return the pods whose log may tell why they are not ready, the first few."""
    return [pod for pod in seen.pods if not _pods.is_ready(pod) and any(status.get("containerID") for status in _pods.statuses(pod))][:LOG_PODS]


def _log(api, pod: dict) -> str:
    """Return the end of the log of the container that is not ready, of its last run that ended if one did; nothing if it cannot be read."""
    for status in _pods.statuses(pod):
        state, last = status.get("state") or {}, status.get("lastState") or {}
        if not status.get("ready") and (state.get("terminated") or {}).get("exitCode") != 0:
            return log(api, pod, status["name"], "terminated" in last and "terminated" not in state, LOG_TAIL) or ""
    return ""


def log(api, pod: dict, container: str, previous: bool, lines: int) -> str | None:
    """Return the last lines of a container's log, redacted; None if there is none, or its node's kubelet does not answer."""
    core, place = kubernetes.client.CoreV1Api(api), pod["metadata"]
    what = f"reading the log of container {container} of pod {place['name']}"
    options = {"container": container, "previous": previous, "tail_lines": lines}
    try:
        text = _triton_log.redact(str(_kube.call(what, core.read_namespaced_pod_log, place["name"], place["namespace"], **options)))
        return None if _triton_log.is_missing(text) else text
    except _kube.RequestError:
        # The kubelet answers 400 for a container that has not run, or has just been replaced or removed, and not at all where the node is lost.
        return None
