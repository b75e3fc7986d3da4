# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks that a verification's reports consist of, one by one, as files show them. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import re

#: What neither XML 1.0 nor HTML may contain; the surrogates cannot even be encoded.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was checked on one target.

    ``outcome``: passed, failed, error (it could not be checked) or skipped. ``subject`` and ``group`` are coarser names than
    ``name``, for a picture without room for each check. ``told``: the report's problems that say the same.
    """

    name: str
    subject: str
    group: str
    outcome: str
    message: str = ""
    protocol: str = ""
    model: str = ""
    seconds: float = 0.0
    got: str = ""
    told: tuple = ()

    @property
    def bad(self) -> bool:
        return self.outcome in ("failed", "error")


def clean(text: str) -> str:
    return FORBIDDEN.sub("\ufffd", text)


def full_name(result: dict) -> str:
    """Return "NAMESPACE/RELEASE", the namespace alone having no release to name."""
    return f"{result.get('namespace') or 'default'}/{result['release']}" if result.get("release") else ""


def checked_targets(result: dict) -> list[tuple[dict, list[Check]]]:
    """Return each report with its checks."""
    return [(report, _checks(report)) for report in result["targets"]]


def general_problems(result: dict) -> list[str]:
    """Return the problems that are no target's; never nothing for a result that is not ok and names no problem."""
    known = {f"{report['target']}: {problem}" for report in result["targets"] for problem in report["problems"]}
    if not result["ok"] and not result["problems"] and not known:
        return ["the verification did not pass, but its result names no problem"]
    return [problem for problem in result["problems"] if problem not in known]


def _checks(report: dict) -> list[Check]:
    """Return the checks of one target; every problem of the report is the message of one that failed."""
    checks = [_model_check(entry) for entry in report["models"]] + [_inference_check(entry) for entry in report["inferences"]]
    if report.get("metrics"):
        metrics = report["metrics"]
        message = metrics["message"] if metrics["ok"] else metrics["message"] or "the metrics are not as they should be"
        checks.append(Check("metrics", "metrics", "metrics", "passed" if metrics["ok"] else "failed", message, told=(message,)))
    told = {text for check in checks if check.bad for text in check.told}
    left = [problem for problem in report["problems"] if problem not in told]
    left = [problem for problem in left if not any(text in problem for text in told)]
    server, left = _server_check(report, left)
    if left:
        checks.append(Check("target", "target", "target", "failed", "; ".join(left)))
    return [server, *checks]


def _server_check(report: dict, problems: list[str]) -> tuple[Check, list[str]]:
    """Return (the check, the problems that are not its own); all are its own if the server never answered."""
    words = ("server live and ready", "server", "server")
    own = [problem for problem in problems if problem.startswith("the server says")]
    others = [problem for problem in problems if problem not in own]
    if not (report["version"] or report["live"] or own):
        return Check(*words, "error", "; ".join(others) or "the server did not answer"), []
    if own or not (report["live"] and report["ready"]):
        return Check(*words, "failed", "; ".join(own) or f"the server is not {'ready' if report['live'] else 'live'}"), others
    return Check(*words, "passed"), others


def _model_check(entry: dict) -> Check:
    words = (f"model {entry['name']} version {entry['version']}", "models", "models")
    if entry["state"] == "READY":
        return Check(*words, "passed", model=entry["name"])
    if entry.get("note") == "not loaded":
        return Check(*words, "skipped", "not loaded", model=entry["name"])
    message = (entry["state"] or "no state") + (f": {entry['reason']}" if entry["reason"] else "")
    return Check(*words, "failed", message, model=entry["name"], told=(f"{words[0]} is {message}",))


def _inference_check(entry: dict) -> Check:
    model, protocol = entry["model"], entry["protocol"]
    name = f"{model} over {protocol}"
    message = entry.get("skipped") or "" if entry["ok"] else entry["message"] or "the inference did not finish"
    return Check(
        name=name,
        subject=name,
        group=protocol,
        outcome=("skipped" if entry.get("skipped") else "passed") if entry["ok"] else "failed",
        message=message,
        protocol=protocol,
        model=model,
        seconds=entry["milliseconds"] / 1000,
        got=entry["outputs"],
        told=(f"{protocol.upper()} inference of {model}: {message}",),
    )
