# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a benchmark: measured, judged and shown as a table. PRIVATE to the collection.

A step is a dict: protocol, concurrency, tool, throughput (right answers a second), latency (milliseconds), sent, lost, failed (kind -> count), cores (that
the load kept busy here; None if it is not known), problem (why it could not be measured, or nothing).
"""

from __future__ import annotations

import dataclasses

from ansible_collections.mlserving.triton.plugins.module_utils import _load, _load_job, _perf_analyzer
from ansible_collections.mlserving.triton.plugins.module_utils._load_request import LoadError

#: From this part of a core on, which each process of the load keeps busy, its own work may be what is measured.
BUSY = 0.8


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What the figures must reach; None for no matter what. ``slowest_p99``: milliseconds; ``most_failures``: requests of each step."""

    least_throughput: float | None = None
    slowest_p99: float | None = None
    most_failures: int | None = 0


def _step(job: _load_job.Job, concurrency: int, tool: str, **found) -> dict:
    empty = {"throughput": 0.0, "latency": {}, "sent": 0, "lost": 0, "failed": {}, "cores": None, "problem": ""}
    return {"protocol": job.protocol, "concurrency": concurrency, "tool": tool, **empty, **found}


def builtin(job: _load_job.Job, concurrency: int) -> tuple[dict, str]:
    """Return (one step, measured by this collection, a note or nothing)."""
    try:
        report = _load.run(dataclasses.replace(job, clients=concurrency))
    except LoadError as error:
        return _step(job, concurrency, "builtin", problem=str(error)), ""
    keys = ("throughput", "latency", "sent", "lost", "failed")
    client, note = report["client"], ""
    where = f"{job.protocol.upper()} with {concurrency} at a time"
    if client["cores"] > BUSY * client["processes"]:
        note = f"{where}: the load kept {client['cores']} cores busy here; a server may be faster than these figures."
    elif client["waits"]:
        waits = ", ".join(f"{kind} ({count} times)" for kind, count in client["waits"].items())
        note = f"{where}: this machine had to wait: {waits}; a server may be faster than these figures."
    return _step(job, concurrency, "builtin", cores=client["cores"], **{key: report[key] for key in keys}), note


def analyzed(runner: _perf_analyzer.Runner, job: _load_job.Job, concurrency: int) -> dict:
    """Return one step, measured by perf_analyzer."""
    try:
        return _step(job, concurrency, _perf_analyzer.NAME, **runner.measure(concurrency, job.seconds))
    except LoadError as error:
        return _step(job, concurrency, _perf_analyzer.NAME, problem=str(error))


def judge(steps: list[dict], wanted: Thresholds) -> list[str]:
    """Return what does not reach the thresholds, a sentence each."""
    problems = []
    for step in steps:
        where = f"{step['protocol'].upper()} with {step['concurrency']} at a time"
        if step["problem"]:
            problems.append(f"{where}: {step['problem']}")
        elif wanted.most_failures is not None and step["lost"] > wanted.most_failures:
            kinds = ", ".join(f"{kind} ({count})" for kind, count in step["failed"].items())
            problems.append(f"{where}: {step['lost']} of {step['sent']} requests failed, at most {wanted.most_failures} may: {kinds}")
    for protocol in dict.fromkeys(step["protocol"] for step in steps):
        measured = [step for step in steps if step["protocol"] == protocol and step["latency"]]
        if measured and not any(_reaches(step, wanted) for step in measured):
            problems.append(f"{protocol.upper()}: no concurrency reaches {_words(wanted)}; {_nearest(measured, wanted)}")
    return problems


def _reaches(step: dict, wanted: Thresholds) -> bool:
    enough = wanted.least_throughput is None or step["throughput"] >= wanted.least_throughput
    return enough and (wanted.slowest_p99 is None or step["latency"]["p99"] <= wanted.slowest_p99)


def _words(wanted: Thresholds) -> str:
    parts = [f"{wanted.least_throughput:g} inferences/s"] if wanted.least_throughput is not None else []
    parts += [f"a p99 of {wanted.slowest_p99:g} ms at most"] if wanted.slowest_p99 is not None else []
    return " with ".join(parts)


def _nearest(measured: list[dict], wanted: Thresholds) -> str:
    """Return the best step in words: the highest throughput with a p99 that will do, if there is one, else the lowest p99."""
    quick = [step for step in measured if wanted.slowest_p99 is None or step["latency"]["p99"] <= wanted.slowest_p99]
    best = max(quick, key=lambda step: step["throughput"]) if quick else min(measured, key=lambda step: step["latency"]["p99"])
    return f"the nearest is {best['throughput']:.0f} inferences/s with a p99 of {best['latency']['p99']:.3g} ms, at concurrency {best['concurrency']}"


def table(steps: list[dict]) -> list[str]:
    """Return one line for each step below a heading."""
    rows = [["PROTOCOL", "CONCURRENCY", "INFERENCES/S", "P50 MS", "P90 MS", "P99 MS", "FAILED"]]
    for step in steps:
        latency = [f"{step['latency'][key]:.3g}" if step["latency"] else "-" for key in ("p50", "p90", "p99")]
        failed = "not measured" if step["problem"] else f"{step['lost']}/{step['sent']}" if step["lost"] else "0"
        rows.append([step["protocol"], str(step["concurrency"]), f"{step['throughput']:.0f}", *latency, failed])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows
    ]


def best(steps: list[dict]) -> dict:
    """Return protocol -> {"throughput", "concurrency", "p99"} of the step with the highest throughput."""
    found = {}
    for step in steps:
        if step["latency"] and step["throughput"] > found.get(step["protocol"], {"throughput": 0})["throughput"]:
            found[step["protocol"]] = {"throughput": step["throughput"], "concurrency": step["concurrency"], "p99": step["latency"]["p99"]}
    return found
