# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of a release as one screen of plain text. PRIVATE to the collection."""

from __future__ import annotations

import textwrap

WIDTH = 100
LABEL = 13
#: Characters of an event's message.
MESSAGE = 300


def screen(status: dict) -> str:
    """Return the screen.

    :param status: what the module triton_status_info returns
    """
    head = f"{status['release']} in namespace {status['namespace']} on {status['cluster']['server']}"
    if not status["found"]:
        return "\n".join([f"{head}: there is nothing", *(f"  {line}" for line in status["hints"])])
    rollout, count = status["rollout"], len(status["problems"])
    verdict = f"{count} problem{'s' * (count > 1)}" if count else "scaled to 0" if not rollout["wanted"] else "all is well"
    lines = [f"{head}: {rollout['ready']} of {rollout['wanted']} replicas ready, {verdict}"]
    for problem in status["problems"]:
        lines += [*_wrapped(f"! {problem['what']}", "  "), *_wrapped(f"  What to do: {problem['todo']}", "    ")]
    for name, text in _summary(status):
        lines += _wrapped(f"{name:<{LABEL}}{text}", " " * LABEL)
    return "\n".join([*lines, *_replicas(status), *_models(status), *_events(status)])


def _wrapped(text: str, indent: str) -> list[str]:
    """Break a text at spaces; names stay whole."""
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


#: From so many seconds on, an age has these two units, or only the first; as kubectl does.
UNITS = ((8 * 86400, 86400, "d", 0, ""), (48 * 3600, 86400, "d", 3600, "h"), (8 * 3600, 3600, "h", 0, ""), (3 * 3600, 3600, "h", 60, "m"))
UNITS += ((600, 60, "m", 0, ""), (120, 60, "m", 1, "s"), (0, 1, "s", 0, ""))


def duration(seconds: int | None) -> str:
    """Return seconds in words such as 4m10s or 5h."""
    if seconds is None:
        return "?"
    seconds = max(0, seconds)
    _least, size, unit, small, small_unit = next(entry for entry in UNITS if seconds >= entry[0])
    rest = seconds % size // small if small else 0
    return f"{seconds // size}{unit}" + (f"{rest}{small_unit}" if rest else "")


def table(rows: list[list[str]]) -> list[str]:
    """Return the rows with aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _summary(status: dict) -> list[tuple[str, str]]:
    cluster, image, rollout, repository = status["cluster"], status["image"], status["rollout"], status["repository"]
    service, budget = status["service"], status["disruption_budget"]
    state = "rolled out" if rollout["complete"] else "rolling out, last progress"
    since = f", {state} {duration(rollout['progress_age'])} ago" if rollout["progress_age"] is not None else ""
    rows = [("Cluster", f"Kubernetes {cluster['version']}, context {cluster['context'] or 'none'}, named by {cluster['source']}")]
    rows.append(("Deployment", f"{status['deployment']}, {duration(rollout['age'])} old; revision {rollout['revision']}{since}"))
    rows.append(("Image", image["name"] + "".join(f" ({digest})" for digest in image["digests"])))
    if repository["url"]:
        rows.append(("Models from", repository["url"] + (f" (release {repository['release'][:12]})" if repository["release"] else "")))
    if service:
        addresses = ", ".join(filter(None, (service["http"], f"gRPC {service['grpc']}" if service["grpc"] else ""))) or "no address"
        rows.append(("Service", f"{service['type']}, {addresses}"))
    if status["autoscaler"]:
        rows.append(("Autoscaler", _autoscaler(status["autoscaler"])))
    if budget:
        noun = "replica" if budget["allowed"] == 1 else "replicas"
        rows.append(("Disruptions", f"{budget['allowed']} {noun} may be evicted now"))
    rows += [("Secret" if number == 0 else "", _secret(secret)) for number, secret in enumerate(status["secrets"])]
    rows.append(("Verified", _verified(status)))
    return rows


def _autoscaler(found: dict) -> str:
    limits = f"{found['name']}, {found['min']} to {found['max']} replicas, {found['current']} now, {found['desired']} wanted"
    return limits + "".join(f"; {trouble}" for trouble in found["troubles"])


def _secret(found: dict) -> str:
    if not found["exists"]:
        return f"{found['name']}, not there"
    left = found["expires_in"]
    end = "" if left is None else f", expires in {duration(left)}" if left > 0 else ", expired"
    return f"{found['name']}, {duration(found['age'])} old{end}"


def _verified(status: dict) -> str:
    found = status["verified"]
    if not found:
        return "no verified release is kept"
    text = f"release {found['release']} at {found['at'] or '?'}" + (f" by {found['by']}" if found["by"] else "")
    same = not found["image"] or found["image"] == status["image"]["name"]
    return text if same else f"{text}, with another image than the one that runs: {found['image']}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _replicas(status: dict) -> list[str]:
    if not status["replicas"]:
        return []
    states, counts, notes = [["REPLICA", "NODE", "STATE", "AGE", "RESTARTS"]], [["REQUESTS", "FAILED", "MS", "QUEUE"]], []
    for replica in status["replicas"]:
        name, told = short(replica["name"], status), replica["requests"]
        states.append([name, replica["node"] or "-", _state(replica), duration(replica["age"]), str(replica["restarts"])])
        counts.append([str(told["success"]), str(told["failed"]), _number(told["average_ms"]), _number(told["queue_ms"])] if told else ["-"] * 4)
        notes += _notes(name, replica)
    lines = table([[*state, *count] for state, count in zip(states, counts)])
    if max(map(len, lines)) > WIDTH:
        lines = [*table(states), "", *table([[state[0], *count] for state, count in zip(states, counts)])]
    return ["", f"Replicas ({status['deployment']}-...), with the average milliseconds of their requests", *lines, *notes]


def _notes(name: str, replica: dict) -> list[str]:
    notes, end = [], replica["last_end"]
    if end:
        reason = f"{end['reason'] or 'ended'}, exit code {end['exit_code']}"
        notes += _wrapped(f"{name}: container {end['container']} ended {duration(end['age'])} ago ({reason}) and was started again", "  ")
    if replica["problem"] and not replica["ready"] and replica["phase"] == "Running":
        notes += _wrapped(f"{name}: {replica['problem']}", "  ")
    return notes


def _state(replica: dict) -> str:
    if replica["ready"]:
        return "no answer" if replica["problem"] and replica["models"] is None else "ready"
    return replica["reason"] or ("not ready" if replica["phase"] == "Running" else replica["phase"])


def short(pod: str, status: dict) -> str:
    """Return a pod's name without that of the Deployment."""
    return pod.removeprefix(f"{status['deployment']}-")


def _models(status: dict) -> list[str]:
    if not status["models"]:
        return []
    rows = [["MODEL", "VERSION", "READY", "OTHERWISE"]]
    for model in status["models"]:
        others = "; ".join(f"{short(pod, status)}: {state}" for pod, state in model["others"].items())
        rows.append([model["name"], model["version"] or "-", f"{model['ready']} of {model['ready'] + len(model['others'])}", others or "-"])
    return ["", *table(rows)]


def _events(status: dict) -> list[str]:
    if not status["events"]:
        return []
    lines = ["", "Warnings, the newest first"]
    for event in status["events"]:
        message = event["message"] if len(event["message"]) <= MESSAGE else event["message"][:MESSAGE] + "..."
        times = f", {event['count']} times" if event["count"] > 1 else ""
        lines += _wrapped(f"{duration(event['age'])} ago{times}: {event['reason']} on {event['object']}: {message}", "  ")
    return lines
