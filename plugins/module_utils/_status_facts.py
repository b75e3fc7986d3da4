# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was seen of a release as plain facts: pure functions. PRIVATE to the collection.

Objects are dicts as the API returns them. Ages are in seconds, times in ISO format as the API has them.
"""

from __future__ import annotations

import datetime
import re

from ansible_collections.mlserving.triton.plugins.module_utils import (
    _model_cache,
    _pods,
    _releases,
    _rollout,
    _secret,
    _secret_references,
    _triton_log,
)
from ansible_collections.mlserving.triton.plugins.module_utils._status import Seen, event_time

#: How many warnings are told.
MOST_EVENTS = 10
RELEASE_URL = re.compile(r"/releases/(?P<digest>[0-9a-f]+)/?$")
REPOSITORY = re.compile(r"--(?:model-repository|model-store|url)[= ](?P<url>\S+)")
HTTP_PORT, GRPC_PORT = "http-inference-server", "grpc-inference-server"


def facts(seen: Seen, release: str, now: datetime.datetime) -> dict:
    """Return what is known of a release whose Deployment is there, without a judgement.

    :param now: with a time zone
    """
    deployment = seen.deployment
    template = deployment["spec"]["template"]
    return {
        "image": image(template, _rollout.pods_of(seen.newest, seen.pods)),
        "repository": repository(template["spec"]),
        "rollout": rollout(deployment, seen.pods, now),
        "replicas": [replica(pod, seen, now) for pod in seen.pods],
        "models": models(seen),
        "service": service(seen.services, deployment["metadata"]["name"], template["spec"]),
        "autoscaler": autoscaler(seen.autoscalers[0]) | {"steps": seen.scaling} if seen.autoscalers else None,
        "disruption_budget": budget(seen.budgets[0]) if seen.budgets else None,
        "secrets": [] if "secrets" in seen.unseen else secrets(template["spec"], seen.secrets, now),
        "verified": verified(seen.releases),
        "events": events(seen.events, now),
    }


def age(then: str | None, now: datetime.datetime) -> int | None:
    """Return the seconds since a time, negative for one to come; None if it is no time."""
    try:
        moment = datetime.datetime.fromisoformat((then or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return round((now - (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc))).total_seconds())


def _serving(spec: dict) -> dict:
    name = _pods.serving({"spec": spec})
    return next(entry for entry in spec["containers"] if entry["name"] == name)


def image(template: dict, pods: list[dict]) -> dict:
    """Return name, and digests: what the pods run, without repetition."""
    container = _serving(template["spec"])
    ids = [status.get("imageID") or "" for pod in pods for status in _pods.statuses(pod) if status["name"] == container["name"]]
    return {"name": container["image"], "digests": sorted({text.rpartition("@")[2] for text in ids if text})}


def repository(spec: dict) -> dict:
    """Return url, and release: its digest, if the models are a release of their own."""
    container = _serving(spec)
    fetching = [entry for entry in spec.get("initContainers") or [] if entry["name"] == _model_cache.CONTAINER]
    words = [word for entry in [*fetching, container] for word in (entry.get("command") or []) + (entry.get("args") or [])]
    found = REPOSITORY.search(" ".join(words))
    url = found["url"] if found else ""
    release = RELEASE_URL.search(url)
    return {"url": url, "release": release["digest"] if release else ""}


def rollout(deployment: dict, pods: list[dict], now: datetime.datetime) -> dict:
    """Return revision, age (of the Deployment), progress_age (of the rollout's last progress), and how many replicas are wanted, updated, ready and available.

    ``complete``: the revision was rolled out whole, even if a replica of it has failed since.
    """
    status, progress, wanted = deployment.get("status", {}), _pods.condition(deployment, "Progressing"), _rollout.wanted_replicas(deployment)
    counts = [status.get(key) or 0 for key in ("replicas", "updatedReplicas")]
    was_complete = _rollout.is_observed(deployment) and progress.get("reason") == "NewReplicaSetAvailable" and counts == [wanted] * 2
    return {
        "complete": was_complete or _rollout.is_complete(deployment),
        "revision": _rollout.revision_of(deployment),
        "progress_age": age(progress.get("lastUpdateTime"), now),
        "age": age(deployment["metadata"].get("creationTimestamp"), now),
        "wanted": wanted,
        "updated": counts[1],
        "ready": sum(_pods.is_ready(pod) for pod in pods),
        "available": status.get("availableReplicas") or 0,
    }


def replica(pod: dict, seen: Seen, now: datetime.datetime) -> dict:
    """Return a row of _pods.row with age, last_end (of a container that was restarted) and what its server says."""
    row = _pods.row(pod)
    if pod["metadata"]["name"] not in seen.servers:
        server = {"version": "", "models": None, "requests": None, "problem": "it does not run"}
    else:
        server = seen.servers[pod["metadata"]["name"]]
    return {**row, "age": age(pod["metadata"].get("creationTimestamp"), now), "last_end": last_end(pod, now), **server}


def last_end(pod: dict, now: datetime.datetime) -> dict | None:
    """Return container, reason, exit_code and age of the latest end of a container that was started again; None if none was."""
    ended = [(status["name"], (status.get("lastState") or {}).get("terminated")) for status in _pods.statuses(pod)]
    ended = sorted(((name, how) for name, how in ended if how), key=lambda entry: entry[1].get("finishedAt") or "")
    if not ended:
        return None
    name, how = ended[-1]
    return {"container": name, "reason": how.get("reason") or "", "exit_code": how.get("exitCode"), "age": age(how.get("finishedAt"), now)}


def is_unloaded(entry: dict) -> bool:
    """Whether nobody asked for this model version: never loaded, or unloaded on purpose."""
    return entry["state"] in ("", "UNAVAILABLE") and entry["reason"] in ("", "unloaded")


def models(seen: Seen) -> list[dict]:
    """Return for each model version that a replica knows: name, version, ready (how many replicas), and others: pod -> state and reason in words.

    Only replicas that answered count.
    """
    indexes = {pod: server["models"] for pod, server in seen.servers.items() if server["models"] is not None}
    known = {(entry["name"], entry["version"]): None for index in indexes.values() for entry in index}
    rows = []
    for name, version in sorted(known):
        states = {pod: _state_of(index, name, version) for pod, index in indexes.items()}
        others = {pod: state for pod, state in states.items() if state != "READY"}
        rows.append({"name": name, "version": version, "ready": len(states) - len(others), "others": others})
    return rows


def _state_of(index: list[dict], name: str, version: str) -> str:
    entry = next((entry for entry in index if (entry["name"], entry["version"]) == (name, version)), None)
    if entry is None:
        return "not in its index"
    if is_unloaded(entry):
        return "not loaded"
    return entry["state"] + (f": {entry['reason']}" if entry["reason"] else "")


def service(services: list[dict], name: str, spec: dict) -> dict | None:
    """Return name, type, and the addresses http and grpc, empty where there is none (yet); None without such a Service."""
    found = next((entry for entry in services if entry["metadata"]["name"] == name), None)
    if found is None:
        return None
    kind, ports = found["spec"].get("type") or "ClusterIP", {port.get("name"): port for port in found["spec"].get("ports") or []}
    given = (found.get("status", {}).get("loadBalancer") or {}).get("ingress") or [{}]
    host = {"LoadBalancer": given[0].get("ip") or given[0].get("hostname") or "", "NodePort": "NODE"}.get(
        kind, f"{name}.{found['metadata']['namespace']}.svc"
    )
    number = "nodePort" if kind == "NodePort" else "port"
    # The volume of a front that ends TLS.
    scheme = "https" if any(volume["name"] == "front-tls" for volume in spec.get("volumes") or []) else "http"
    address = {
        protocol: f"{host}:{ports[port][number]}" if host and port in ports else "" for protocol, port in (("http", HTTP_PORT), ("grpc", GRPC_PORT))
    }
    return {"name": name, "type": kind, "http": f"{scheme}://{address['http']}" if address["http"] else "", "grpc": address["grpc"]}


def autoscaler(found: dict) -> dict:
    """Return name, min, max, current, desired, and troubles: its conditions that are not as they should be, in words."""
    spec, status = found["spec"], found.get("status") or {}
    # Disabled: its target is scaled to zero.
    conditions = [entry for entry in status.get("conditions") or [] if entry.get("reason") != "ScalingDisabled"]
    bad = [entry for entry in conditions if entry["status"] != ("False" if entry["type"] == "ScalingLimited" else "True")]
    return {
        "name": found["metadata"]["name"],
        "min": spec.get("minReplicas") or 1,
        "max": spec["maxReplicas"],
        "current": status.get("currentReplicas") or 0,
        "desired": status.get("desiredReplicas") or 0,
        "troubles": [f"{entry['type']} is {entry['status']}: {entry.get('message') or entry.get('reason') or ''}" for entry in bad],
    }


def budget(found: dict) -> dict:
    """Return name, allowed: how many replicas may be evicted now, and healthy and wanted."""
    status = found.get("status") or {}
    counts = {"allowed": "disruptionsAllowed", "healthy": "currentHealthy", "wanted": "desiredHealthy"}
    return {"name": found["metadata"]["name"]} | {name: status.get(key) or 0 for name, key in counts.items()}


def secrets(spec: dict, metadata: list[dict], now: datetime.datetime) -> list[dict]:
    """Return name, exists, age, expires and expires_in (seconds; None if unknown) of each Secret that the pods refer to."""
    known, rows = {entry["metadata"]["name"]: entry["metadata"] for entry in metadata}, []
    for name in sorted(set(_secret_references.names_in(spec))):
        found = known.get(name) or {}
        expires = (found.get("annotations") or {}).get(_secret.EXPIRES) or ""
        left = age(expires, now)
        made = age(found.get("creationTimestamp"), now)
        rows.append({"name": name, "exists": name in known, "age": made, "expires": expires, "expires_in": None if left is None else -left})
    return rows


def verified(configmaps: list[dict]) -> dict | None:
    """Return name, release (number), at, by and image of the last verified release; None if none is kept."""
    kept = _releases.in_order(configmaps)
    if not kept:
        return None
    about = {short: kept[0].about.get(name, "") for short, name in (("at", "verified-at"), ("by", "deployed-by"), ("image", "image"))}
    return {"name": kept[0].name, "release": kept[0].number, **about}


def events(warnings: list[dict], now: datetime.datetime) -> list[dict]:
    """Return the warnings as object, reason, message, count and age, the newest first; equal ones, of several pods too, are one."""
    rows: dict = {}
    for event in sorted(warnings, key=event_time):
        kind, name = event["involvedObject"].get("kind") or "", event["involvedObject"].get("name") or ""
        message = _triton_log.redact(" ".join((event.get("message") or "").split()))
        count = (event.get("series") or {}).get("count") or event.get("count") or 1
        key = (kind, event.get("reason"), message.replace(name, ""))
        before = rows.pop(key, {"count": 0, "names": set()})
        rows[key] = {"count": before["count"] + count, "names": before["names"] | {name}, "message": message, "age": age(event_time(event), now)}
    told = []
    for (kind, reason, _message), row in list(reversed(rows.items()))[:MOST_EVENTS]:
        names = row.pop("names")
        subject = f"{kind} {next(iter(names))}" if len(names) == 1 else f"{len(names)} {kind}s"
        told.append({"object": subject, "reason": reason or "", **row})
    return told
