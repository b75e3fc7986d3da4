# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a rollout is, in a line for people. PRIVATE to the collection."""

from __future__ import annotations

import time

from ansible_collections.mlserving.triton.plugins.module_utils import _pods

#: Seconds between two lines at least, and at most.
SHORTEST, HEARTBEAT = 2, 30
#: So many pods are named one by one.
NAMED = 3


def doing(pod: dict, events: list[dict]) -> str:
    """Return what a pod that is not ready does or waits for, in words.

    :param events: of that pod, the oldest first
    """
    if not pod["spec"].get("nodeName"):
        return "waiting for a node"
    reasons = [event.get("reason") for event in events]
    for status in _pods.statuses(pod):
        state, init = status.get("state") or {}, any(status["name"] == entry["name"] for entry in pod["spec"].get("initContainers") or [])
        waiting = (state.get("waiting") or {}).get("reason") or ""
        if waiting not in ("", "ContainerCreating", "PodInitializing"):
            return waiting
        if "running" in state and init:
            return f"init container {status['name']} runs"
        if "running" in state and not status.get("ready"):
            return "started, not ready yet" if status.get("started") else "starting, models are loaded"
        if "terminated" in state and not (init and state["terminated"].get("exitCode") == 0):
            return f"{status['name']} ended with exit code {state['terminated'].get('exitCode')}"
    latest = next((reason for reason in reversed(reasons) if reason in ("Pulling", "Pulled", "FailedMount", "FailedAttachVolume")), "")
    return {"Pulling": "pulling image", "FailedMount": "waiting for a volume", "FailedAttachVolume": "waiting for a volume"}.get(
        latest, "being set up"
    )


class Progress:
    """Appends lines to a file: one when something has changed, but not more often than each SHORTEST seconds, and one each HEARTBEAT seconds.

    ``path``: of the file; with none nothing is told.
    """

    def __init__(self, path: str | None, clock=time.monotonic):
        self._path, self._clock = path, clock
        self._since: dict = {}
        self._told, self._at = "", clock() - HEARTBEAT

    def tell(self, wanted: int, pods: list[dict], events: list[dict], old: int) -> None:
        """
        :param wanted: number of replicas
        :param pods: of the newest ReplicaSet
        :param events: of those that are not ready, the oldest first
        :param old: number of replicas of other revisions
        """
        if not self._path:
            return
        now = self._clock()
        words = {}
        for pod in pods:
            if not _pods.is_ready(pod):
                name = pod["metadata"]["name"]
                words[name] = doing(pod, [event for event in events if event["involvedObject"].get("name") == name])
        self._since = {(name, word): self._since.get((name, word), now) for name, word in words.items()}
        head = (
            f"{sum(map(_pods.is_ready, pods))} of {wanted} replicas ready" if wanted != 1 else f"{sum(map(_pods.is_ready, pods))} of 1 replica ready"
        )
        tail = [f"{old} of an earlier revision still there"] if old else []
        key = str((head, tail, sorted(words.items())))
        due = now - self._at
        if due < SHORTEST or (key == self._told and due < HEARTBEAT):
            return
        self._told, self._at = key, now
        with open(self._path, "a", encoding="utf-8") as file:
            file.write("; ".join([head, *self._of_pods(now), *tail]) + "\n")

    def _of_pods(self, now: float) -> list[str]:
        if len(self._since) <= NAMED:
            return [f"pod {name}: {word} ({now - since:.0f} s)" for (name, word), since in self._since.items()]
        grouped: dict = {}
        for (_name, word), since in self._since.items():
            grouped.setdefault(word, []).append(now - since)
        return [f"{len(ages)} pod{'s' * (len(ages) > 1)}: {word} ({max(ages):.0f} s)" for word, ages in grouped.items()]
