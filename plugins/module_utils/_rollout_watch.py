# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watching a rollout through the API server until it is complete or cannot become so. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import time

from ansible_collections.mlserving.triton.plugins.module_utils import (
    _kube,
    _model_cache,
    _pods,
    _rollout,
    _rollout_finding,
    _rollout_pod,
    _rollout_progress,
    _scheduling,
    _triton_log,
)

try:
    import kubernetes.client
except ImportError:
    # The modules report it through _cluster.from_module before anything here is called.
    kubernetes = None

#: Seconds after which the state is looked at again although nothing was heard.
LOOK_AGAIN = 2
#: Seconds between two looks at least, so that a burst of events is one look.
BURST = 0.2
#: Seconds between two attempts while the cluster does not answer.
RETRY = 1
#: Seconds that the cluster may fail to answer before its first answer.
UNREACHED = 30
#: How many lines of a log are searched for signatures, and of how many pods the events are read.
LOG_TAIL = 1000
EVENT_PODS = 5
#: Seconds for which a listing of all nodes and pods is good.
VIEW_AGE = 5


class RolloutError(Exception):
    """The rollout failed. ``cause``: machine word, ``pods``: rows of _pods.row, ``log``: list of redacted lines."""

    def __init__(self, text: str, cause: str, pods: list, log: list):
        super().__init__(text)
        self.cause, self.pods, self.log = cause, pods, log


@dataclasses.dataclass
class _State:
    """One look at the cluster."""

    deployment: dict
    replicaset: dict | None
    pods: list
    events: list
    version: str
    view: _scheduling.View | None
    left: list
    leaving: bool

    def rows(self) -> list[dict]:
        return [_pods.row(pod) for pod in self.pods]


class Rollout:
    """One Deployment's rollout."""

    def __init__(self, api, namespace: str, name: str, log_lines: int, progress: str | None = None):
        self._core, self._apps = kubernetes.client.CoreV1Api(api), kubernetes.client.AppsV1Api(api)
        self._namespace, self._name = namespace, name
        self._log_lines = log_lines
        self._since: dict = {}
        self._view, self._view_at = None, None
        self._old: set | None = None
        self._progress = _rollout_progress.Progress(progress)
        self._where = f"deployment {name} in namespace {namespace}"

    def wait(self, timeout: float) -> dict:
        """Return replicas, revision, seconds and pods once the rollout is complete.

        :param timeout: seconds
        :raises RolloutError: it failed, or the time is up
        :raises _kube.RequestError: the cluster refused a request
        """
        started, state, trouble = time.monotonic(), None, None
        while True:
            try:
                state, trouble = self._look(), None
                if _rollout.is_complete(state.deployment):
                    return {
                        "replicas": _rollout.wanted_replicas(state.deployment),
                        "revision": _rollout.revision_of(state.deployment),
                        "seconds": round(time.monotonic() - started, 1),
                        "pods": state.rows(),
                    }
                self._raise_if_failed(state)
                self._tell(state)
            except _kube.RequestError as error:
                # A cluster that was never reached is most likely named wrongly; one that answered before may come back.
                if not error.transient or (state is None and time.monotonic() - started > UNREACHED):
                    raise
                trouble = error
            left = timeout - (time.monotonic() - started)
            if left <= 0:
                raise self._timeout_error(timeout, state, trouble)
            self._pause(None if trouble else state, min(left, LOOK_AGAIN))

    def renew_failed(self) -> list[str]:
        """Delete the pods that had failed before, so that new ones start at once with what was corrected since. Return their names.

        Left alone, they would start again only after a back-off of up to 5 minutes, and their old failure would be taken for a new one.

        :raises _kube.RequestError: the cluster refused a request
        """
        state = self._first_look()
        # A pod whose volume could not be mounted is tried again by its kubelet after up to 2 minutes only.
        unmounted = {finding.subject for finding in self._findings(state) if finding.cause in ("config", "volume")}
        failed = [row["name"] for row in state.rows() if _pods.has_failed(row) or (row["node"] and f"pod {row['name']}" in unmounted)]
        for pod in failed:
            try:
                _kube.call(f"deleting the failed pod {pod}", self._core.delete_namespaced_pod, pod, self._namespace)
            except _kube.RequestError as error:
                if error.status != 404:
                    raise
        return failed

    def _first_look(self) -> _State:
        started = time.monotonic()
        while True:
            try:
                return self._look()
            except _kube.RequestError as error:
                # One that does not answer at all is most likely named wrongly.
                if not error.transient or not error.status or time.monotonic() - started > UNREACHED:
                    raise
            time.sleep(RETRY)

    def _look(self) -> _State:
        what = f"reading {self._where}"
        deployment = _kube.call(what, self._apps.read_namespaced_deployment, self._name, self._namespace)
        labels = deployment["spec"]["selector"].get("matchLabels") or {}
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        replicasets = _kube.call(what, self._apps.list_namespaced_replica_set, self._namespace, label_selector=selector)["items"]
        replicaset = _rollout.newest(deployment, replicasets)
        listed = _kube.call(what, self._core.list_namespaced_pod, self._namespace, label_selector=selector)
        pods = _rollout.pods_of(replicaset, listed["items"])
        left = _rollout.left_by(replicaset, listed["items"])
        if self._old is None:
            # What failed before is not of this rollout.
            self._old = {pod["metadata"]["name"] for pod in left}
        left = [pod for pod in left if pod["metadata"]["name"] not in self._old]
        leaving = any(map(_pods.is_leaving, listed["items"]))
        events = self._events(pods)
        return _State(deployment, replicaset, pods, events, listed["metadata"]["resourceVersion"], self._nodes(pods, events), left, leaving)

    def _nodes(self, pods: list[dict], events: list[dict]) -> _scheduling.View | None:
        """Return all nodes and pods if a pod waits for a node or its node was lost; None if none does, or this account may not list them."""
        if all(pod["spec"].get("nodeName") for pod in pods) and not any(event.get("reason") == "NodeNotReady" for event in events):
            return None
        if self._view_at is None or time.monotonic() - self._view_at > VIEW_AGE:
            self._view, self._view_at = self._list_nodes(), time.monotonic()
        return self._view

    def _list_nodes(self) -> _scheduling.View | None:
        try:
            nodes = _kube.call("listing the nodes", self._core.list_node)["items"]
            living = {"field_selector": "status.phase!=Succeeded,status.phase!=Failed"}
            pods = _kube.call("listing the pods of all namespaces", self._core.list_pod_for_all_namespaces, **living)["items"]
        except _kube.RequestError as error:
            if error.status != 403:
                raise
            return None
        return _scheduling.View(nodes, pods, _scheduling.is_autoscaled(nodes, pods) or self._has_autoscaler_status())

    def _has_autoscaler_status(self) -> bool:
        try:
            _kube.call("looking for a cluster autoscaler", self._core.read_namespaced_config_map, "cluster-autoscaler-status", "kube-system")
        except _kube.RequestError as error:
            if error.status not in (403, 404):
                raise
            return error.status == 403
        return True

    def _events(self, pods: list[dict]) -> list[dict]:
        """Return the events of the first pods that are not ready, and of the claims of those that have no node, the oldest first."""
        events, waiting = [], [pod for pod in pods if not _pods.is_ready(pod)][:EVENT_PODS]
        selectors = {f"involvedObject.uid={pod['metadata']['uid']}": f"pod {pod['metadata']['name']}" for pod in waiting}
        for claim in [claim for pod in waiting if not pod["spec"].get("nodeName") for claim in _rollout_pod.claims(pod)]:
            selectors[f"involvedObject.kind=PersistentVolumeClaim,involvedObject.name={claim}"] = f"PersistentVolumeClaim {claim}"
        for fields, whose in selectors.items():
            events += _kube.call(f"reading the events of {whose}", self._core.list_namespaced_event, self._namespace, field_selector=fields)["items"]
        return sorted(
            events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""
        )

    def _findings(self, state: _State) -> list[_rollout_finding.Finding]:
        return _rollout.findings(state.deployment, state.replicaset, state.pods, state.events, state.view, state.left, state.leaving)

    def _tell(self, state: _State) -> None:
        status, wanted = state.deployment.get("status", {}), _rollout.wanted_replicas(state.deployment)
        self._progress.tell(wanted, state.pods, state.events, (status.get("replicas") or 0) - (status.get("updatedReplicas") or 0))

    def _raise_if_failed(self, state: _State) -> None:
        found = self._findings(state)
        now = time.monotonic()
        # Our own clock: the cluster's may differ.
        keys = {(finding.subject, finding.cause): finding for finding in found}
        self._since = {key: self._since.get(key, now) for key in keys}
        for finding in found:
            if now - self._since[finding.subject, finding.cause] < finding.patience:
                continue
            # What could not be started has no log.
            log, note = self._log(finding) if finding.container and finding.cause != "container_start" else ("", "")
            known = explain(finding, log)
            if finding.log_decides and not (known and (known.certain or finding.attempts >= 2)):
                continue
            if finding.cause == "probe":
                known = known or _triton_log.explain_silence(log)
            raise self._error(state, finding, known, log, note)

    def _error(self, state, finding, known, log, note) -> RolloutError:
        cause, why, todo = words(finding, known)
        lines = _triton_log.relevant(log, self._log_lines)
        text = [f"The rollout of {self._where} failed: {finding.subject}: {why}", f"What to do: {todo}"]
        if note:
            text.append(note)
        if lines:
            text.append(f"Last relevant lines of the log of container {finding.container}:")
            text += [f"  {line}" for line in lines]
        if finding.cause == "progress_deadline":
            text += _rollout.last_seen(state.deployment, state.replicaset, state.pods, state.events)
        return RolloutError(_triton_log.redact("\n".join(text)), cause, state.rows(), lines)

    def _timeout_error(self, timeout: float, state: _State | None, trouble) -> RolloutError:
        text = [f"The rollout of {self._where} was not complete after {timeout:g} s. Seen last:"]
        if trouble:
            text.append(str(trouble))
            text.append("Before that:")
        lines = []
        if state:
            text += _rollout.last_seen(state.deployment, state.replicaset, state.pods, state.events)
            lines = self._running_log(state, text)
        text.append("What to do: if the models only need longer to load, raise the timeout; otherwise correct what is named above.")
        return RolloutError(_triton_log.redact("\n".join(text)), "timeout", state.rows() if state else [], lines)

    def _running_log(self, state: _State, text: list[str]) -> list[str]:
        """Add to ``text`` what the first pod that runs but is not ready says; return the lines of its log."""
        for pod in state.pods:
            status = next((entry for entry in _pods.statuses(pod) if "running" in (entry.get("state") or {}) and not entry.get("ready")), None)
            if status:
                subject = f"pod {pod['metadata']['name']}"
                # A run that ended says more than one that has only begun.
                ended = "terminated" in (status.get("lastState") or {})
                log, note = self._log(_rollout_finding.Finding("timeout", subject, "", "", container=status["name"], running=ended))
                known = _triton_log.explain(log) or _triton_log.explain_silence(log)
                lines = _triton_log.relevant(log, self._log_lines)
                text += [f"{subject}: {known.why}. {known.todo}"] if known else []
                text += [note] if note else []
                text += [f"Last relevant lines of the log of {subject}:", *(f"  {line}" for line in lines)] if lines else []
                return lines
        return []

    def _log(self, finding: _rollout_finding.Finding) -> tuple[str, str]:
        """Return (log of the container's last run that ended, a note if it cannot be read)."""
        pod = finding.subject.removeprefix("pod ")
        what = f"reading the log of container {finding.container} of {finding.subject}"
        arguments = {"container": finding.container, "tail_lines": LOG_TAIL}
        try:
            text = _kube.call(what, self._core.read_namespaced_pod_log, pod, self._namespace, previous=finding.running, **arguments)
        except _kube.RequestError as error:
            # The kubelet answers 400 for a container that has just been replaced or removed.
            return "", f"{error}"
        return "" if _triton_log.is_missing(text) else text, ""

    def _pause(self, state: _State | None, seconds: float) -> None:
        """Wait until something changes, at most that many seconds."""
        time.sleep(min(BURST, seconds))
        if state is None:
            time.sleep(min(RETRY, seconds))
            return
        wanted = _rollout.wanted_replicas(state.deployment)
        if len(state.pods) == wanted and all(_pods.is_ready(pod) for pod in state.pods):
            # Nothing is expected of the pods any more, but of the Deployment's status.
            function, only = self._apps.list_namespaced_deployment, {"field_selector": f"metadata.name={self._name}"}
            version = state.deployment["metadata"]["resourceVersion"]
        else:
            labels = state.deployment["spec"]["selector"].get("matchLabels") or {}
            function, only = self._core.list_namespaced_pod, {"label_selector": ",".join(f"{key}={value}" for key, value in labels.items())}
            version = state.version
        try:
            _kube.wait_for_event(f"watching {self._where}", function, self._namespace, seconds=seconds, resource_version=version, **only)
        except _kube.RequestError as error:
            # The next look tells what is the matter, if anything still is; a version that has expired is nothing.
            if not error.transient:
                raise
            time.sleep(min(BURST, seconds))


def explain(finding: _rollout_finding.Finding, log: str) -> _triton_log.Explanation | None:
    """Return what the container's log says about the finding."""
    if finding.cause == "stuck":
        return _triton_log.explain_hanging(log)
    if finding.cause == "not_ready":
        return _triton_log.explain_models(log)
    if finding.container == _model_cache.CONTAINER:
        return _triton_log.explain_fetching(log)
    return _triton_log.explain(log)


def words(finding: _rollout_finding.Finding, known: _triton_log.Explanation | None) -> tuple[str, str, str]:
    """Return cause, why and what to do, with what the log says about it."""
    if known and finding.cause in ("crash", "probe", "not_ready", "stuck"):
        return known.cause, f"{finding.why}: {known.why}", known.todo
    return finding.cause, finding.why, finding.todo
