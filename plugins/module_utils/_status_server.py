# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking the Triton of one pod how it is, by plain HTTP requests. PRIVATE to the collection.

Its HTTP port speaks no TLS, whatever stands before it. NVIDIA's client is not used: importing it takes longer than all the answers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import re
import time

from ansible_collections.mlserving.triton.plugins.module_utils import _api_proxy, _pods, _tunnel

HTTP_PORT, METRICS_PORT = 8000, 8002
#: The option with which a server is given the key of a restricted API: APIS:HEADER=VALUE.
RESTRICTED = re.compile(r"--http-restricted-api[= ](?P<apis>[^:\s]+):(?P<header>[^=\s]+)=(?P<value>\S+)")
#: A value that the kubelet takes from the environment.
VARIABLE = re.compile(r"\$\((?P<name>[^)]+)\)")


class ServerError(Exception):
    """Nobody answered; the text says why."""


@dataclasses.dataclass(frozen=True)
class Key:
    """A header that a restricted API wants: with ``value``, or with what ``secret`` has under ``field``."""

    header: str
    value: str = ""
    secret: str = ""
    field: str = ""


def keys(pod: dict) -> list[Key]:
    """Return the keys of the restricted APIs, as the pod's own specification tells them."""
    name, found = _pods.serving(pod), []
    container = next(entry for entry in pod["spec"]["containers"] if entry["name"] == name)
    variables = {entry["name"]: entry for entry in container.get("env") or []}
    for option in RESTRICTED.finditer(" ".join((container.get("command") or []) + (container.get("args") or []))):
        variable = VARIABLE.fullmatch(option["value"])
        entry = variables.get(variable["name"], {}) if variable else {"value": option["value"]}
        reference = (entry.get("valueFrom") or {}).get("secretKeyRef") or {}
        found.append(Key(option["header"], entry.get("value") or "", reference.get("name") or "", reference.get("key") or ""))
    return found


def ask(api, pod: dict, port: int, questions: list[tuple[str, str]], headers: dict, deadline: float) -> list[tuple[int, str]]:
    """Return (status, text) of the answer to each question, which is (method, path), over one connection.

    Through a port-forward, or the API server's proxy where the account may not forward ports.

    :param headers: name -> value, sent with each question
    :param deadline: on the monotonic clock, for all of them together
    :raises ServerError: no answer
    """
    where = (pod["metadata"]["namespace"], pod["metadata"]["name"], port)
    tunnel = _tunnel.Tunnel(api, *where)
    try:
        return _ask(tunnel, questions, headers, deadline)
    except ServerError:
        if not tunnel.forbidden:
            raise
    return _ask(_api_proxy.ApiProxy(api, *where), questions, headers, deadline)


def _ask(way, questions: list[tuple[str, str]], headers: dict, deadline: float) -> list[tuple[int, str]]:
    answers = []
    try:
        with way as address, contextlib.closing(http.client.HTTPConnection(address)) as connection:
            for method, path in questions:
                connection.timeout = max(0.1, deadline - time.monotonic())
                if connection.sock:
                    connection.sock.settimeout(connection.timeout)
                connection.request(method, path, headers=headers)
                answer = connection.getresponse()
                answers.append((answer.status, answer.read().decode("utf-8", "replace")))
    except TimeoutError:
        raise ServerError("no answer in time") from None
    except (OSError, http.client.HTTPException) as error:
        raise ServerError(way.problem or f"no answer ({getattr(error, 'strerror', None) or type(error).__name__})") from None
    return answers


STATE = [("GET", "/v2"), ("POST", "/v2/repository/index"), ("GET", "/v2/models/stats")]


def state(api, pod: dict, headers: dict, deadline: float) -> dict:
    """Return how a server is: version, models (name, version, state, reason), requests (see :func:`counted`) and problem.

    What it did not tell is None, and ``problem`` says in words why; it is empty if all went well.
    """
    found = {"version": "", "models": None, "requests": None, "problem": ""}
    try:
        metadata, index, statistics = ask(api, pod, _pods.port(pod, "http", HTTP_PORT), STATE, headers, deadline)
        found["version"] = (_content(metadata, "server metadata") if metadata[0] == 200 else {}).get("version", "")
        found["models"] = [
            {key: str(entry.get(key, "")) for key in ("name", "version", "state", "reason")} for entry in _content(index, "repository index")
        ]
        found["requests"] = counted(_content(statistics, "statistics"))
    except ServerError as error:
        found["problem"] = str(error)
    return found


def _content(answer: tuple[int, str], what: str):
    status, text = answer
    try:
        content = json.loads(text)
        if status == 200:
            return content
        reason = " ".join(str(content["error"]).split())
    except (ValueError, KeyError, TypeError):
        reason = "the answer is not Triton's"
    raise ServerError(f"it refused its {what} ({status}): {reason}")


def counted(statistics: dict) -> dict:
    """Return what a server has answered since it started: success, failed (requests), average_ms, queue_ms (of the successful ones; None without one).

    ``models``: the same for each model version.
    """
    rows = [
        {"name": entry["name"], "version": str(entry.get("version", "")), **_row([entry.get("inference_stats") or {}])}
        for entry in statistics.get("model_stats") or []
    ]
    return {**_row([entry.get("inference_stats") or {} for entry in statistics.get("model_stats") or []]), "models": rows}


def _row(stats: list[dict]) -> dict:
    def total(kind: str, what: str) -> int:
        return sum(int((entry.get(kind) or {}).get(what) or 0) for entry in stats)

    def average(kind: str) -> float | None:
        return round(total(kind, "ns") / total(kind, "count") / 1e6, 2) if total(kind, "count") else None

    return {"success": total("success", "count"), "failed": total("fail", "count"), "average_ms": average("success"), "queue_ms": average("queue")}
