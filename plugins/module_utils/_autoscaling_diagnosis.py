# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why an autoscaler gets no metric, step by step from the replicas to itself. PRIVATE to the collection.

``fetch(path, query)`` returns what the API server has at a path as a dict, None if there is nothing, and raises _kube.RequestError.
A step is a dict: ``step``, its name; ``ok``, None where it could not be looked at; ``told``, what was seen; ``todo``, empty unless it failed.
"""

from __future__ import annotations

from ansible_collections.mlserving.triton.plugins.module_utils import _autoscaling, _kube

API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
#: Labels that Services of Prometheus carry: the operator's, then those of the chart without an operator.
PROMETHEUS = ("operated-prometheus=true", "app.kubernetes.io/name=prometheus")
#: Aggregated API -> what serves it.
SERVED_BY = {
    _autoscaling.RESOURCE_API: "metrics-server",
    _autoscaling.CUSTOM_API: "prometheus-adapter",
    _autoscaling.EXTERNAL_API: "KEDA",
}


def method_problem(api, scaling: dict) -> str:
    """Return why the cluster cannot have the autoscaler that is asked for; nothing if it can.

    :param scaling: the options of the autoscaler
    :raises _kube.RequestError: the cluster does not answer
    """

    def fetch(path: str, _query: dict | None = None) -> dict | None:
        return _kube.get(api, path, absent_is_empty=True)

    group = _autoscaling.OBJECTS[scaling["method"]][0].partition("/")[0]
    if scaling["method"] == "keda" and fetch(f"/apis/{group}") is None:
        return "triton_autoscaling_method is keda, but the cluster has no CRDs of KEDA (keda.sh). Install KEDA, or set it to hpa."
    group = _autoscaling.metrics_api({"autoscaling": scaling})
    step = api_step(fetch, group)[0] if group else {"ok": True}
    if step["ok"] is not False:
        return ""
    return f"triton_autoscaling_metric is {scaling['metric']}, but {step['told']}. {step['todo']}"


def ails(scaler: dict) -> bool:
    """Whether a HorizontalPodAutoscaler gets no metric, as its own conditions tell."""
    conditions = {entry["type"]: entry for entry in (scaler.get("status") or {}).get("conditions") or []}
    active = conditions.get("ScalingActive") or {}
    return active.get("status") == "False" and active.get("reason") != "ScalingDisabled"


def steps(fetch, scaler: dict, release: str) -> list[dict]:
    """Return the steps up to the first that failed.

    :param scaler: the HorizontalPodAutoscaler
    :param release: name of the release
    """
    found = []
    try:
        for step in _steps(fetch, scaler, release):
            found.append(step)
            if step["ok"] is False:
                break
    except _kube.RequestError as error:
        found.append(_step("next", None, str(error)))
    return found


def _step(name: str, good: bool | None, told: str, todo: str = "") -> dict:
    return {"step": name, "ok": good, "told": told, "todo": "" if good is not False else todo}


def _steps(fetch, scaler: dict, release: str):
    metric = scaler["spec"]["metrics"][0]
    namespace, deployment = scaler["metadata"]["namespace"], scaler["spec"]["scaleTargetRef"]["name"]
    known = _metric_of(fetch, scaler, metric)
    if metric["type"] in ("Pods", "External"):
        yield from _prometheus_steps(fetch, known, namespace, deployment, release)
    group = {"Pods": _autoscaling.CUSTOM_API, "External": _autoscaling.EXTERNAL_API}.get(metric["type"], _autoscaling.RESOURCE_API)
    step, version = api_step(fetch, group)
    yield step
    if metric["type"] == "Pods":
        yield _served(fetch, version, namespace, metric["pods"]["metric"]["name"], known)
    conditions = [entry for entry in scaler["status"]["conditions"] if entry["type"] == "ScalingActive"]
    yield _step(
        "hpa",
        False,
        f"the autoscaler says: {conditions[0].get('message') or conditions[0].get('reason')}",
        f"All before it is as it should be. Give it 30 seconds, then look at it: kubectl -n {namespace} describe hpa {scaler['metadata']['name']}",
    )


def _metric_of(fetch, scaler: dict, metric: dict) -> _autoscaling.Metric | None:
    """Return which of our metrics an autoscaler goes by; None if it is another one."""
    if metric["type"] == "Pods":
        return next((known for known in _autoscaling.METRICS.values() if known.name == metric["pods"]["metric"]["name"]), None)
    owner = next((entry for entry in scaler["metadata"].get("ownerReferences") or [] if entry["kind"] == "ScaledObject"), None)
    if metric["type"] != "External" or owner is None:
        return None
    try:
        found = fetch(f"/apis/keda.sh/v1alpha1/namespaces/{scaler['metadata']['namespace']}/scaledobjects/{owner['name']}", None) or {}
    except _kube.RequestError as error:
        if error.status != 403:
            raise
        return None
    queries = [trigger["metadata"].get("query") or "" for trigger in (found.get("spec") or {}).get("triggers") or []]
    return next((known for known in _autoscaling.METRICS.values() if known.series and any(known.series in query for query in queries)), None)


def _prometheus_steps(fetch, known: _autoscaling.Metric | None, namespace: str, deployment: str, release: str):
    up = f'up{{namespace="{namespace}",pod=~"{deployment}-.+"}}'
    place, targets, trouble = _prometheus(fetch, up)
    if trouble:
        yield _step("target", None, trouble)
        return
    where, rows = f"Prometheus ({place.partition('/')[2]} in namespace {place.partition('/')[0]})", {
        row["metric"].get("pod", ""): row for row in targets
    }
    down = sorted(pod for pod, row in rows.items() if row["value"][1] == "0")
    if not rows:
        yield _step(
            "target",
            False,
            f"{where} has no target of a pod of {deployment}",
            "Run the role monitoring for the release, and see that the labels of its ServiceMonitor are what the Prometheus object selects.",
        )
    elif len(down) == len(rows):
        yield _step(
            "target",
            False,
            f"{where} does not reach its targets: {', '.join(down)} are down",
            "Let Prometheus through to the port metrics (8002), which a network policy may forbid (triton_network_policy_metrics_from).",
        )
    yield _step("target", True, f"{where} reaches {len(rows) - len(down)} of {len(rows)} targets")
    if known is None:
        return
    count = len(_query(fetch, place, f'{known.source}{{namespace="{namespace}",pod=~"{deployment}-.+"}}'))
    todo = "Ask the release something: Triton has no series of a model before it is loaded, and none with --metrics-config or --allow-metrics=false."
    if known.source.startswith("nv_gpu"):
        todo = "See that the replicas have GPUs: Triton has no series of GPUs without DCGM in its image, nor of slices (MIG)."
    yield _step("series", count > 0, f"{count} series {known.source}", todo)
    if known.series == known.source:
        return
    of_release = _query(fetch, place, f'{known.series}{{namespace="{namespace}",release="{release}",pod!=""}}')
    yield _step(
        "rule",
        bool(of_release),
        f"{len(of_release)} series {known.series} of the release",
        "Run the role monitoring for the release: its PrometheusRule records them. New rules take Prometheus a minute; it must select their labels.",
    )


def _prometheus(fetch, up: str) -> tuple[str, list[dict], str]:
    """Return (NAMESPACE/SERVICE:PORT, its targets, why none could be asked) of the Prometheus that has targets, else of any."""
    answered, trouble = "", "no Service of a Prometheus was found, so it was not asked"
    for label in PROMETHEUS:
        try:
            services = (fetch("/api/v1/services", {"labelSelector": label}) or {}).get("items") or []
        except _kube.RequestError as error:
            if error.status != 403:
                raise
            return "", [], "the account may not list Services in all namespaces, so Prometheus was not asked"
        for service in services:
            ports = [port for port in service["spec"].get("ports") or [] if port.get("port") in (80, 9090)]
            for port in ports[:1]:
                place = f"{service['metadata']['namespace']}/{service['metadata']['name']}:{port.get('name') or port['port']}"
                try:
                    rows = _query(fetch, place, up)
                except _kube.RequestError as error:
                    trouble = f"Prometheus was not asked: {error}"
                    continue
                if rows:
                    return place, rows, ""
                answered = answered or place
    return answered, [], "" if answered else trouble


def _query(fetch, place: str, expression: str) -> list[dict]:
    """Return what Prometheus answers to an expression, through the API server.

    :raises _kube.RequestError: it does not answer, or the account may not ask it
    """
    namespace, _slash, service = place.partition("/")
    found = fetch(f"/api/v1/namespaces/{namespace}/services/{service}/proxy/api/v1/query", {"query": expression})
    if found is None:
        raise _kube.RequestError(f"the Service {place} does not answer.", 503)
    return (found.get("data") or {}).get("result") or []


def api_step(fetch, group: str) -> tuple[dict, str]:
    """Return (the step "adapter", version of the API) for an aggregated API."""
    program = SERVED_BY[group]
    try:
        services = [entry for entry in (fetch(API_SERVICES, None) or {}).get("items") or [] if entry["spec"].get("group") == group]
    except _kube.RequestError as error:
        if error.status != 403:
            raise
        return _step("adapter", None, f"the account may not see whether the cluster has the API {group}"), ""
    if not services:
        return _step("adapter", False, f"the cluster has no API {group}", f"Install {program}."), ""
    for entry in sorted(services, key=lambda entry: -entry["spec"].get("versionPriority", 0)):
        conditions = {part["type"]: part for part in (entry.get("status") or {}).get("conditions") or []}
        available = conditions.get("Available") or {}
        if available.get("status") == "True":
            return _step("adapter", True, f"the API {group}/{entry['spec']['version']} is available"), entry["spec"]["version"]
    service = services[0]["spec"].get("service") or {}
    told = f"the API {group} is not available: {available.get('message') or available.get('reason') or 'not looked at yet'}"
    todo = f"See that {program} runs (Service {service.get('namespace')}/{service.get('name')}). "
    todo += "If it does, and the answer is status 404, delete the APIService and create it again: the API server asked before the Service had its address."
    return _step("adapter", False, told, todo), ""


def _served(fetch, version: str, namespace: str, name: str, known: _autoscaling.Metric | None) -> dict:
    """Return the step from Prometheus to the custom metrics API."""
    if not version:
        return _step("metric", None, "the custom metrics API was not asked")
    todo = (
        "Give prometheus-adapter the rule for it (roles/monitoring/files/adapter-values.yml), and see that its --prometheus-url is that Prometheus."
    )
    if known is None:
        todo = "Give prometheus-adapter a rule for it."
    base = f"/apis/{_autoscaling.CUSTOM_API}/{version}"
    try:
        found = fetch(f"{base}/namespaces/{namespace}/pods/*/{name}", None)
    except _kube.RequestError as error:
        if error.status == 403:
            return _step("metric", None, "the account may not read custom metrics")
        return _step("metric", False, f"prometheus-adapter does not tell {name}: {error}", todo)
    count = len((found or {}).get("items") or [])
    return _step("metric", count > 0, f"prometheus-adapter tells {name} of {count} pods in namespace {namespace}", todo)


def sentence(found: list[dict]) -> str:
    """Return the steps in words, in order."""
    marks = {True: "ok", False: "FAILED", None: "not seen"}
    return "; ".join(f"{step['step']} {marks[step['ok']]}: {step['told']}" for step in found)
