# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding the servers to verify and asking each of them, in parallel and within one deadline. PRIVATE to the collection."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import time
from collections.abc import Callable

from ansible_collections.mlserving.triton.plugins.module_utils import _kube, _pods, _triton_client, _triton_metrics, _tunnel, _verify
from ansible_collections.mlserving.triton.plugins.module_utils._tensors import CaseError

try:
    import kubernetes.client
except ImportError:
    # The modules report it through _cluster.from_module before a cluster is asked.
    kubernetes = None

#: Seconds between two attempts at a server that does not answer yet.
PAUSE = 0.5
HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002


@dataclasses.dataclass(frozen=True)
class Target:
    """One server. ``openers``: protocol -> function that makes a context manager, which returns the address.

    ``patient`` says whether a server that does not answer is asked again until the deadline. ``fault`` is a problem that
    stands whatever the server says, ``obstacle`` one for which it need not be asked at all. ``metrics`` opens the way to its metrics, if they are
    to be looked at.
    """

    name: str
    kind: str
    openers: dict
    node: str = ""
    patient: bool = True
    fault: str = ""
    obstacle: str = ""
    metrics: Callable | None = None


class _Address(contextlib.nullcontext):
    """An address that needs no tunnel."""

    problem = ""


def url_target(url: str, grpc_url: str | None, protocols: list[str]) -> Target:
    openers = {"http": lambda: _Address(url)}
    if grpc_url:
        openers["grpc"] = lambda: _Address(grpc_url)
    return Target(url, "url", {protocol: openers[protocol] for protocol in protocols if protocol in openers})


def replicas(api, namespace: str, selector: str) -> list[dict]:
    """Return the pods that count as replicas, as the API returns them, in the order of their names.

    :raises _kube.RequestError: the cluster refused or did not answer
    """
    what = f"listing the pods with the labels {selector} in namespace {namespace}"
    core = kubernetes.client.CoreV1Api(api)
    pods = _kube.call(what, core.list_namespaced_pod, namespace, label_selector=selector)["items"]
    return sorted((pod for pod in pods if _pods.is_replica(pod)), key=lambda pod: pod["metadata"]["name"])


def count_problems(pods: list[dict], replicas: int | None, selector: str, namespace: str) -> list[str]:
    """Return what is wrong with the number of replicas, in words."""
    if not pods and replicas != 0:
        return [f"no pod has the labels {selector} in namespace {namespace}"]
    ready = sum(_pods.is_ready(pod) for pod in pods)
    if replicas is not None and ready < replicas:
        return [f"{ready} of {replicas} replicas are ready (labels {selector}, namespace {namespace})"]
    return []


def pod_target(api, pod: dict, protocols: list[str], metrics: bool = False) -> Target:
    """Return a replica as a target.

    :param api: ``kubernetes.client.ApiClient``
    :param pod: as the API returns it
    :param metrics: whether to look at its metrics
    """
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    ports = {
        "http": _pods.port(pod, "http", HTTP_PORT),
        "grpc": _pods.port(pod, "grpc", GRPC_PORT),
        "metrics": _pods.port(pod, "metrics", METRICS_PORT),
    }

    def opener(protocol):
        return lambda: _tunnel.Tunnel(api, namespace, name, ports[protocol])

    ready = _pods.is_ready(pod)
    running = pod["status"].get("phase") == "Running"
    return Target(
        name=name,
        kind="replica",
        openers={protocol: opener(protocol) for protocol in protocols},
        node=pod["spec"].get("nodeName") or "",
        patient=ready,
        fault="" if ready else _pods.words(_pods.row(pod)),
        obstacle="" if running else _pods.words(_pods.row(pod)),
        metrics=opener("metrics") if metrics else None,
    )


def verify_all(targets: list[Target], wanted: _verify.Wanted, deadline: float, parallel: int) -> list[dict]:
    """Return one report per target, in the same order.

    :param deadline: on the monotonic clock, for all of them together
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, parallel)) as pool:
        reports = list(pool.map(lambda target: verify(target, wanted, deadline), targets))
    _verify.judge_agreement(reports, wanted.cases)
    return reports


def verify(target: Target, wanted: _verify.Wanted, deadline: float) -> dict:
    """Return the report on one target; asks again while it does not answer or is still loading, until the deadline."""
    report = _verify.new_report(target.name, target.kind, target.node)
    if target.obstacle:
        report["problems"].append(f"the pod cannot be asked: {target.obstacle}")
        return report
    started, earlier = time.monotonic(), None
    while True:
        report = _verify.new_report(target.name, target.kind, target.node)
        before = _answered(target, report, deadline)
        transient = [_ask(report, protocol, opener, wanted, deadline) for protocol, opener in target.openers.items()]
        if target.metrics and not report["problems"]:
            transient.append(_count(target, report, before, deadline))
        # A wrong answer stays wrong: only what may pass by itself is tried again.
        if not (report["problems"] and all(transient) and target.patient):
            report["problems"] += [target.fault] if target.fault else []
            return report
        if time.monotonic() + PAUSE >= deadline:
            if earlier and time.monotonic() >= deadline:
                # The time ran out in the middle of this attempt, so the one before it tells more.
                report = earlier
            report["problems"].append(f"this was seen last, after {time.monotonic() - started:.0f} s of asking")
            return report
        earlier = report
        time.sleep(PAUSE)


def _answered(target: Target, report: dict, deadline: float) -> dict | None:
    """Return model -> requests that the server has answered so far; None if that is not looked at or cannot be."""
    if not target.metrics:
        return None
    tunnel = target.metrics()
    try:
        with tunnel as address:
            return _triton_metrics.answered(address, deadline)
    except _triton_client.TritonError as error:
        detail = f"; {tunnel.problem}" if tunnel.problem else ""
        report["metrics"] = {"ok": False, "message": f"metrics: {error}{detail}"}
        return None


def _count(target: Target, report: dict, before: dict | None, deadline: float) -> bool:
    """Note whether the server counted the inferences that it was sent; return True, since an uncounted one may still be."""
    sent = collections.Counter(entry["model"] for entry in report["inferences"] if entry["ok"])
    after = None if before is None else _answered(target, report, deadline)
    if after is None:
        report["problems"].append(report["metrics"]["message"])
        return True
    grown = {model: after.get(model, 0) - before.get(model, 0) for model in sent}
    missing = [f"{model} by {grown[model]:g} of {count}" for model, count in sent.items() if grown[model] < count]
    report["metrics"] = {"ok": not missing, "message": f"the counters of answered requests grew too little: {', '.join(missing)}" if missing else ""}
    report["problems"] += [f"metrics: {report['metrics']['message']}"] if missing else []
    return True


def _ask(report: dict, protocol: str, opener, wanted: _verify.Wanted, deadline: float) -> bool:
    """Add what the server says over one protocol to the report; return whether its problems, if any, may pass by themselves."""
    before = len(report["problems"])
    tunnel = opener()
    try:
        with tunnel as address, _triton_client.CLIENTS[protocol](address, deadline) as client:
            if not report["version"]:
                _ask_health(report, client, wanted)
            elif not client.ready():
                report["problems"].append(f"the server says over {protocol} that it is not ready")
            loaded = {entry["name"] for entry in report["models"] if entry["state"] == "READY"}
            for case in wanted.cases:
                if case.model in loaded:
                    _ask_case(report, client, case, wanted.slowest)
    except _triton_client.TritonError as error:
        detail = f"; {tunnel.problem}" if tunnel.problem else ""
        report["problems"].append(f"{protocol.upper()}: {error}{detail}")
        return error.connection
    return len(report["problems"]) == before or any(entry["state"] in ("LOADING", "UNLOADING") for entry in report["models"])


def _ask_health(report: dict, client, wanted: _verify.Wanted) -> None:
    report["live"], report["ready"] = client.live(), client.ready()
    report["version"] = client.metadata().get("version", "")
    report["models"], problems = _verify.judge_models(client.index(), wanted)
    loaded = {entry["name"] for entry in report["models"] if entry["state"] == "READY"}
    for model, tensors in wanted.tensors.items():
        if model in loaded:
            problems += _verify.judge_metadata(model, tensors, client.model_metadata(model))
    if not report["live"]:
        problems.insert(0, "the server says that it is not live")
    elif not report["ready"]:
        problems.insert(0, "the server says that it is not ready")
    report["problems"] += problems


def _ask_case(report: dict, client, case: _verify.Case, slowest: int | None) -> None:
    """Run one case and note its outcome.

    :param slowest: milliseconds that the inference may take
    :raises TritonError: the server does not answer at all
    """
    outcome = {"model": case.model, "protocol": client.protocol, "ok": False, "milliseconds": 0, "outputs": "", "message": ""}
    report["inferences"].append(outcome)
    started = time.monotonic()
    try:
        metadata = client.model_metadata(case.model, case.version) if case.needs_metadata else None
        case = case.named(metadata) if metadata else case
        inputs = case.complete(metadata)
        started = time.monotonic()
        answer = client.infer(case.model, case.version, inputs, case.wanted, binary=not case.json)
        outcome["milliseconds"] = round((time.monotonic() - started) * 1000)
        outcome |= _verify.outcome(case, answer, outcome["milliseconds"], slowest)
    except CaseError as error:
        outcome["message"] = str(error)
    except _triton_client.TritonError as error:
        outcome["message"] = str(error)
        if error.connection:
            raise
    finally:
        outcome["milliseconds"] = outcome["milliseconds"] or round((time.monotonic() - started) * 1000)
    outcome["ok"] = not outcome["message"]
    if outcome["message"]:
        report["problems"].append(f"{client.protocol.upper()} inference of {case.model}: {outcome['message']}")
