# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking servers whether they serve, in parallel and within one deadline. PRIVATE to the collection."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import secrets
import time

from ansible_collections.mlserving.triton.plugins.module_utils import _triton_client, _triton_metrics, _verify
from ansible_collections.mlserving.triton.plugins.module_utils._tensors import CaseError
from ansible_collections.mlserving.triton.plugins.module_utils._verify_target import Target

#: Seconds between two attempts at a server that does not answer yet.
PAUSE = 0.5
STREAM_NEEDS_GRPC = "its model streams, which Triton does over gRPC only"


def verify_all(targets: list[Target], wanted: _verify.Wanted, deadline: float, parallel: int) -> list[dict]:
    """Return one report per target, in the same order.

    :param deadline: on the monotonic clock, for all of them together
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, parallel)) as pool:
        reports = list(pool.map(lambda target: verify(target, wanted, deadline), targets))
    _verify.judge_agreement(reports, wanted.cases)
    for report in reports:
        report["latency"] = _verify.latency(report["inferences"])
    return reports


def verify(target: Target, wanted: _verify.Wanted, deadline: float) -> dict:
    """Return the report on one target; asks again while it does not answer or is still loading, until the deadline."""
    if target.obstacle:
        report = _verify.new_report(target.name, target.kind, target.node)
        report["problems"].append(f"the pod cannot be asked: {target.obstacle}")
        return report
    started, earlier = time.monotonic(), None
    while True:
        since = time.monotonic() - started
        attempt = _Attempt(target, wanted, deadline, since < wanted.settle, since < target.leaving)
        report = attempt.run()
        # A wrong answer stays wrong: only what may pass by itself is tried again.
        if not (report["problems"] and attempt.transient and target.patient):
            report["problems"] += [target.fault] if target.fault else []
            break
        if time.monotonic() + PAUSE >= deadline:
            if earlier and time.monotonic() >= deadline:
                # The time ran out in the middle of this attempt, so the one before it tells more.
                report = earlier
            report["problems"].append(f"this was seen last, after {time.monotonic() - started:.0f} s of asking")
            break
        earlier = report
        time.sleep(PAUSE)
    if report["problems"] and target.log:
        report["log"] = target.log(time.monotonic() - attempt.started)
    return report


class _Attempt:
    """One round of questions to one server.

    ``report``: what came of it; ``transient``: whether all of its problems may pass by themselves.

    :param settling: whether a model that is missing may still come
    :param leaving: whether a server that has another protocol or certificate may still leave
    """

    def __init__(self, target: Target, wanted: _verify.Wanted, deadline: float, settling: bool, leaving: bool):
        self.report = _verify.new_report(target.name, target.kind, target.node)
        self.started = time.monotonic()
        self.transient = True
        self._target, self._wanted, self._deadline, self._settling = target, wanted, deadline, settling
        self._leaving = leaving
        self._metadata: dict = {}
        # What is being asked, as a problem names it.
        self._at = ""
        # Models of which another version may answer in a moment.
        self._changing: set = set()

    def run(self) -> dict:
        with contextlib.ExitStack() as stack:
            metrics = _Counters(stack, self._target, self._deadline) if self._target.metrics else None
            for protocol in self._target.openers:
                self._ask(protocol)
            if not (self.report["version"] or self.report["problems"]):
                self._problem("; ".join(self.report["notes"]))
            if metrics and not self.report["problems"]:
                self.report["metrics"] = metrics.judged(self.report["inferences"])
                # What is not counted yet may be in a moment.
                self.report["problems"] += [] if self.report["metrics"]["ok"] else [self.report["metrics"]["message"]]
        return self.report

    def _problem(self, text: str, transient: bool = False) -> None:
        self.report["problems"].append(text)
        self.transient = self.transient and transient

    def _ask(self, protocol: str) -> None:
        """Add what the server says over one protocol to the report."""
        reach = self._target.reach
        refusal = reach.refusal if reach else ""
        self._at = ""
        way = self._target.openers[protocol]()
        if way is None:
            self._skip_all(protocol, f"no gRPC goes through the API server's proxy, and {reach.refusal}")
            return
        if refusal:
            self.report["notes"].append(f"asked over {protocol.upper()} through the API server's proxy, since {refusal}")
        try:
            with way as address, _triton_client.CLIENTS[protocol](address, self._deadline, self._target.access) as client:
                self._ask_client(client)
        except _triton_client.TritonError as error:
            if way.forbidden and reach and not refusal:
                # Others may have found out in the meantime.
                reach.refusal = reach.refusal or way.problem
                self._ask(protocol)
                return
            detail = f"; {way.problem}" if way.problem else ""
            passing = error.connection or (error.stranger and self._leaving)
            self._problem(f"{protocol.upper()}{self._at}: {error}{detail}", passing and not way.forbidden)

    def _ask_client(self, client) -> None:
        if not self.report["version"]:
            self._ask_health(client)
        elif not client.ready():
            self._problem(f"the server says over {client.protocol} that it is not ready", True)
        loaded = {entry["name"] for entry in self.report["models"] if entry["state"] == "READY"}
        for case in self._wanted.cases:
            if case.model not in loaded:
                continue
            if not case.stream or client.protocol == "grpc":
                self._ask_case(client, case)
            elif "grpc" not in self._target.openers:
                self._skip(case, client.protocol, STREAM_NEEDS_GRPC)

    def _ask_health(self, client) -> None:
        report, wanted = self.report, self._wanted
        report["live"], report["ready"] = client.live(), client.ready()
        if not report["live"]:
            self._problem("the server says that it is not live", True)
        elif not report["ready"]:
            self._problem("the server says that it is not ready", True)
        report["version"] = client.metadata().get("version", "")
        index = self._index(client)
        report["models"], problems = _verify.judge_models(index, wanted)
        self._changing = {entry["name"] for entry in index if entry["state"] in ("LOADING", "UNLOADING")}
        moving = bool(self._changing)
        if self._settling:
            ready = {(entry["name"], entry["version"]) for entry in index if entry["state"] == "READY"}
            self._changing |= {model for model, versions in wanted.versions.items() if not all((model, version) in ready for version in versions)}
        for problem in problems:
            self._problem(problem, moving)
        for problem in _verify.missing(index, wanted):
            self._problem(problem, moving or self._settling)
        loaded = {entry["name"] for entry in report["models"] if entry["state"] == "READY"}
        for model, tensors in wanted.tensors.items():
            if model in loaded:
                for problem in _verify.judge_metadata(model, tensors, self._metadata_of(client, model, "")):
                    self._problem(problem, self._settling)

    def _index(self, client) -> list[dict]:
        """Return the repository index; where an address does not offer it to everybody, that of the expected models, asked one by one."""
        try:
            return client.index()
        except _triton_client.TritonError as error:
            if error.connection or self._target.kind != "url":
                raise
            self.report["notes"].append(f"the repository index is not public there ({error}): the expected models were asked one by one")
        wanted = self._wanted
        names = {case.model for case in wanted.cases} | set(wanted.models) | set(wanted.versions)
        return [entry for name in sorted(names) for entry in client.versions(name)]

    def _metadata_of(self, client, model: str, version: str) -> dict:
        if (model, version) not in self._metadata:
            self._metadata[model, version] = client.model_metadata(model, version)
        return self._metadata[model, version]

    def _skip_all(self, protocol: str, why: str) -> None:
        self.report["notes"].append(f"{protocol.upper()} was not asked: {why}")
        for case in self._wanted.cases:
            self._skip(case, protocol, why)

    def _skip(self, case: _verify.Case, protocol: str, why: str) -> None:
        self.report["inferences"].append(_outcome(case, protocol) | {"ok": True, "skipped": why})

    def _ask_case(self, client, case: _verify.Case) -> None:
        """Run one case and note its outcome.

        :raises TritonError: the server does not answer at all
        """
        outcome = _outcome(case, client.protocol)
        self.report["inferences"].append(outcome)
        sequence, steps, where = secrets.randbits(63) | 1, case.steps or (case,), ""
        self._at = f" inference of {case.model}"
        try:
            for number, step in enumerate(steps, 1):
                where = f"step {number} of {len(steps)}: " if case.steps else ""
                place = _triton_client.Place(sequence, number == 1, number == len(steps)) if case.steps else None
                milliseconds = outcome["milliseconds"]
                self._infer(client, step, place, outcome)
                outcome["milliseconds"] += milliseconds
                if outcome["message"]:
                    outcome["message"] = where + outcome["message"]
                    break
        except CaseError as error:
            outcome["message"] = where + str(error)
        except _triton_client.TritonError as error:
            if error.connection:
                outcome["message"] = str(error)
                raise
            outcome["message"] = where + str(error)
        outcome["ok"] = not outcome["message"]
        if outcome["message"]:
            self._problem(f"{client.protocol.upper()}{self._at}: {outcome['message']}", case.model in self._changing)

    def _infer(self, client, case: _verify.Case, place: _triton_client.Place | None, outcome: dict) -> None:
        """Send one request of a case and add to the outcome what came back.

        :raises TritonError: the server refused it or does not answer
        :raises CaseError: the case does not fit the model
        """
        metadata = self._metadata_of(client, case.model, case.version) if case.needs_metadata else None
        case, inputs = self._wanted.completed(case, metadata)
        started = time.monotonic()
        try:
            if case.stream:
                answers = client.stream(case.model, case.version, inputs, case.wanted)
            else:
                answers = [client.infer(case.model, case.version, inputs, case.wanted, not case.json, place)]
        finally:
            outcome["milliseconds"] = round((time.monotonic() - started) * 1000)
        outcome |= _verify.outcome(case, answers, outcome["milliseconds"], self._wanted.slowest)


class _Counters:
    """What a server counted before and after it was asked. The way to its metrics stays open until the stack is closed."""

    def __init__(self, stack: contextlib.ExitStack, target: Target, deadline: float):
        self._before, self._problem = {}, ""
        self._open(stack, target, deadline)

    def _open(self, stack: contextlib.ExitStack, target: Target, deadline: float) -> None:
        refusal = target.reach.refusal
        self._way = target.metrics()
        try:
            self._metrics = stack.enter_context(contextlib.closing(_triton_metrics.Metrics(stack.enter_context(self._way), deadline)))
            self._before = self._metrics.answered()
        except _triton_client.TritonError as error:
            if self._way.forbidden and not refusal:
                target.reach.refusal = target.reach.refusal or self._way.problem
                self._open(stack, target, deadline)
            else:
                self._problem = self._words(error)

    def judged(self, inferences: list[dict]) -> dict:
        """Return ok and message: whether the counters grew by the inferences that were answered."""
        if self._problem:
            return {"ok": False, "message": self._problem}
        try:
            after = self._metrics.answered()
        except _triton_client.TritonError as error:
            return {"ok": False, "message": self._words(error)}
        sent = collections.Counter(entry["model"] for entry in inferences if entry["ok"] and not entry["skipped"])
        grown = {model: after.get(model, 0) - self._before.get(model, 0) for model in sent}
        missing = [f"{model} by {grown[model]:g} of {count}" for model, count in sent.items() if grown[model] < count]
        return {"ok": not missing, "message": f"metrics: the counters of answered requests grew too little: {', '.join(missing)}" if missing else ""}

    def _words(self, error: Exception) -> str:
        return f"metrics: {error}" + (f"; {self._way.problem}" if self._way.problem else "")


def _outcome(case: _verify.Case, protocol: str) -> dict:
    return {"model": case.model, "protocol": protocol, "ok": False, "milliseconds": 0, "outputs": "", "message": "", "skipped": ""}
