# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The autoscaler of a release: what it goes by, its object, and the checks of its variables. PRIVATE to the collection.

The options are those of _serving; ``options["autoscaling"]`` holds the role's variables without triton_autoscaling_, and is empty where there is none.
"""

from __future__ import annotations

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Metric:
    """``name``: in the custom metrics API; ``series``: in Prometheus, for each pod; ``source``: Triton's own series that it comes from.

    ``target``: the default, in ``unit``; ``factor``: what turns that unit into the metric's own. Only ``cpu`` has no names: Kubernetes measures it.
    """

    name: str
    series: str
    source: str
    target: int
    unit: str
    factor: float = 1.0


METRICS = {
    "queue_time": Metric(
        "triton_queue_us_per_request",
        "triton:queue_us_per_request:avg",
        "nv_inference_queue_duration_us",
        10000,
        "microseconds in the queue for each request",
    ),
    "queue_ratio": Metric(
        "triton_queue_compute_ratio",
        "triton:queue_compute:ratio",
        "nv_inference_queue_duration_us",
        1,
        "time in the queue for each time of computing",
    ),
    "gpu": Metric("triton_gpu_utilization", "nv_gpu_utilization", "nv_gpu_utilization", 80, "percent of the GPUs", 0.01),
    "cpu": Metric("", "", "", 80, "percent of the CPU that the server requests"),
}
#: Method -> (apiVersion, kind, plural) of its object.
OBJECTS = {
    "hpa": ("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    "keda": ("keda.sh/v1alpha1", "ScaledObject", "scaledobjects"),
}
#: Method and metric -> group of the aggregated API that the HorizontalPodAutoscaler asks.
RESOURCE_API, CUSTOM_API, EXTERNAL_API = "metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io"
GREATEST = 10000


def problems(options: dict) -> list[str]:
    """Return what is wrong with the variables of the autoscaler, a sentence each."""
    given = options["autoscaling"]
    if not given:
        return []
    found = [
        f"triton_autoscaling_{name} is {given[name]!r}; allowed is one of {', '.join(allowed)}."
        for name, allowed in (("method", OBJECTS), ("metric", METRICS))
        if given[name] not in allowed
    ]
    found += [
        f"triton_autoscaling_{name} is {given[name]!r}; allowed is a whole number from {least} to {GREATEST}."
        for name, least in (("min_replicas", 0), ("max_replicas", 1), ("idle_seconds", 0))
        if isinstance(given[name], bool) or not re.fullmatch(r"[0-9]{1,6}", str(given[name])) or not least <= int(given[name]) <= GREATEST
    ]
    if given["target"] not in ("", None) and (isinstance(given["target"], bool) or not _positive(given["target"])):
        found.append(f"triton_autoscaling_target is {given['target']!r}; allowed is a number above 0, or nothing, which takes the metric's own.")
    behavior = given["behavior"]
    if not isinstance(behavior, dict) or set(behavior) - {"scaleUp", "scaleDown"}:
        found.append(f"triton_autoscaling_behavior is {behavior!r}; allowed is a dictionary of scaleUp and scaleDown, as autoscaling/v2 has them.")
    return found or [*_bounds(given), *_metric(options)]


def _positive(value: object) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", str(value))) and float(value) > 0


def _bounds(given: dict) -> list[str]:
    least, most, method = int(given["min_replicas"]), int(given["max_replicas"]), given["method"]
    found = []
    if least > most:
        found.append(
            f"triton_autoscaling_min_replicas is {least}, more than triton_autoscaling_max_replicas, which is {most}. Lower the one or raise the other."
        )
    if method == "hpa" and least == 0:
        found.append(
            "triton_autoscaling_min_replicas is 0; a HorizontalPodAutoscaler keeps 1 at least. Set triton_autoscaling_method to keda for none."
        )
    if method == "hpa" and given["triggers"]:
        found.append("triton_autoscaling_triggers is given, but triton_autoscaling_method is hpa. Set it to keda, or leave the triggers out.")
    if method == "keda" and least == 0 and not given["triggers"]:
        found.append(
            "triton_autoscaling_min_replicas is 0, but nothing would wake the release: a server that does not run has no queue. "
            "Give triton_autoscaling_triggers one that is not Triton's, such as cron or a message queue, or keep 1 replica."
        )
    return found


def _metric(options: dict) -> list[str]:
    metric, container = options["autoscaling"]["metric"], options["resources"]
    if metric == "gpu" and not int(options["gpus"]):
        return ["triton_autoscaling_metric is gpu, but triton_gpus (the chart's image.numGpus) is 0. Choose queue_time or cpu."]
    if metric == "cpu" and not any((container.get(kind) or {}).get("cpu") for kind in ("requests", "limits")):
        return [
            "triton_autoscaling_metric is cpu, which is measured by what the server requests: give triton_resources, such as {requests: {cpu: 2}}."
        ]
    return []


def kind(options: dict) -> tuple[str, str] | None:
    """Return (API group, resource) of the object that is made; None if there is no autoscaler."""
    if not options.get("autoscaling"):
        return None
    version, _kind, plural = OBJECTS[options["autoscaling"]["method"]]
    return version.partition("/")[0], plural


def metrics_api(options: dict) -> str:
    """Return the group of the aggregated API that has to be there before; KEDA registers its own."""
    given = options["autoscaling"]
    if given["metric"] == "cpu":
        return RESOURCE_API
    return CUSTOM_API if given["method"] == "hpa" else ""


def target(given: dict) -> float:
    """Return the target in the metric's own unit."""
    metric = METRICS[given["metric"]]
    return float(given["target"] or metric.target) * metric.factor


def decimal(value: float) -> str:
    """Return a number as Prometheus and KEDA read it, with three places at most."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def manifest(options: dict, name: str, container: str, namespace: str, release: str) -> dict:
    """Return apiVersion, kind and spec of the autoscaler's object.

    :param name: of the Deployment
    :param container: of the server in its pods
    """
    given = options["autoscaling"]
    version, made, _plural = OBJECTS[given["method"]]
    spec = _hpa(given, container) if given["method"] == "hpa" else _keda(given, name, container, namespace, release)
    return {"apiVersion": version, "kind": made, "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}, **spec}}


def _hpa(given: dict, container: str) -> dict:
    if given["metric"] == "cpu":
        # Only the server's container: what stands beside it need not request anything.
        wanted = {"type": "Utilization", "averageUtilization": round(target(given))}
        metric = {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": container, "target": wanted}}
    else:
        wanted = {"type": "AverageValue", "averageValue": f"{round(target(given) * 1000)}m"}
        metric = {"type": "Pods", "pods": {"metric": {"name": METRICS[given["metric"]].name}, "target": wanted}}
    bounds = {"minReplicas": int(given["min_replicas"]), "maxReplicas": int(given["max_replicas"])}
    return {**bounds, "metrics": [metric], **({"behavior": given["behavior"]} if given["behavior"] else {})}


def _keda(given: dict, name: str, container: str, namespace: str, release: str) -> dict:
    if given["metric"] == "cpu":
        trigger = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": str(round(target(given))), "containerName": container}}
    else:
        # KEDA divides the sum by the number of replicas, as an autoscaler does with a metric of pods.
        query = f'sum(avg by (pod) ({METRICS[given["metric"]].series}{{namespace="{namespace}",release="{release}"}}))'
        metadata = {"serverAddress": given["prometheus_url"], "query": query, "threshold": decimal(target(given))}
        trigger = {"type": "prometheus", "metricType": "AverageValue", "metadata": metadata}
    settings = {"name": name, **({"behavior": given["behavior"]} if given["behavior"] else {})}
    return {
        "minReplicaCount": int(given["min_replicas"]),
        "maxReplicaCount": int(given["max_replicas"]),
        "pollingInterval": 15,
        "cooldownPeriod": int(given["idle_seconds"]),
        "advanced": {"horizontalPodAutoscalerConfig": settings},
        "triggers": [trigger, *given["triggers"]],
    }
