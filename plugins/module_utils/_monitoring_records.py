# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus records of a release: rates first, so that every average is a rate over a rate. PRIVATE to the collection."""

from __future__ import annotations

from string import Template

#: Seconds. A rate over fewer than four scrapes has holes as soon as one is late.
SHORTEST_WINDOW, SCRAPES = 60, 4
_SAMPLE = "namespace, release, pod, model, version"
_MODEL = "namespace, release, model"

#: counter of Triton -> what its rate is recorded as, for each pod, model and version; durations in microseconds a second.
RATES = {
    "nv_inference_request_success": "triton:requests:rate",
    "nv_inference_count": "triton:inferences:rate",
    "nv_inference_exec_count": "triton:executions:rate",
    "nv_inference_request_duration_us": "triton:request_us:rate",
    "nv_inference_queue_duration_us": "triton:queue_us:rate",
    "nv_inference_compute_input_duration_us": "triton:compute_input_us:rate",
    "nv_inference_compute_infer_duration_us": "triton:compute_infer_us:rate",
    "nv_inference_compute_output_duration_us": "triton:compute_output_us:rate",
    "nv_cache_num_hits_per_model": "triton:cache_hits:rate",
    "nv_cache_num_misses_per_model": "triton:cache_misses:rate",
}
#: Parts of a request's time that Triton counts.
PARTS = ("request", "queue", "compute_input", "compute_infer", "compute_output")

#: $s selects the release, $w is the window, $pods stands for the release's pods as a join partner (value 1), $objective for microseconds.
_RECORDS = (
    ("triton:failures:rate", f"sum by ({_SAMPLE}, reason) (rate(nv_inference_request_failure{{$s}}[$w]))"),
    (
        "triton:failures:ratio",
        f"sum by ({_MODEL}, reason) (triton:failures:rate{{$s}}) / on ({_MODEL}) group_left ()"
        f" ((sum by ({_MODEL}) (triton:requests:rate{{$s}}) + sum by ({_MODEL}) (triton:failures:rate{{$s}})) > 0)",
    ),
    ("triton:inferences:per_execution", f"sum by ({_MODEL}) (triton:inferences:rate{{$s}}) / (sum by ({_MODEL}) (triton:executions:rate{{$s}}) > 0)"),
    (
        "triton:cache_hits:ratio",
        f"sum by ({_MODEL}) (triton:cache_hits:rate{{$s}})"
        f" / ((sum by ({_MODEL}) (triton:cache_hits:rate{{$s}}) + sum by ({_MODEL}) (triton:cache_misses:rate{{$s}})) > 0)",
    ),
    ("triton:pending_requests:sum", f"sum by ({_MODEL}) (nv_inference_pending_request_count{{$s}})"),
    ("triton:model_load_seconds:max", f"max by ({_MODEL}, version) (nv_model_load_duration_secs{{$s}})"),
    # Quantiles of replicas cannot be averaged: the slowest replica's is kept. Idle ones say NaN, which is left out.
    *((f"triton:{part}_us:quantile", f"max by ({_MODEL}, quantile) (nv_inference_{part}_summary_us{{$s}} >= 0)") for part in PARTS),
    (
        "triton:first_response_ms:p95",
        f"histogram_quantile(0.95, sum by ({_MODEL}, le) (rate(nv_inference_first_response_histogram_ms_bucket{{$s}}[$w]))) >= 0",
    ),
    # For an autoscaler: for each pod, and 0 rather than nothing when it is idle.
    (
        "triton:queue_us_per_request:avg",
        "sum by (namespace, release, pod) (triton:queue_us:rate{$s}) / (sum by (namespace, release, pod) (triton:requests:rate{$s}) > 0)"
        " or sum by (namespace, release, pod) (triton:requests:rate{$s}) * 0",
    ),
    (
        "triton:queue_compute:ratio",
        "sum by (namespace, release, pod) (triton:queue_us:rate{$s}) / (sum by (namespace, release, pod) (triton:compute_infer_us:rate{$s}) > 0)"
        " or sum by (namespace, release, pod) (triton:requests:rate{$s}) * 0",
    ),
    # Triton's own figures of the GPU, or those of NVIDIA's exporter, which also knows slices of a GPU. The exporter has the workload's
    # namespace and pod as exported_*, unless the scrape honours its labels.
    ("triton:gpu_utilization:ratio", "max by (namespace, release, pod, gpu) ($own_gpu_utilization) or ($dcgm_utilization)"),
    ("triton:gpu_memory:ratio", "max by (namespace, release, pod, gpu) ($own_gpu_memory) or ($dcgm_memory)"),
    ("triton:gpu_power:watts", "max by (namespace, release, pod, gpu) ($own_gpu_power) or ($dcgm_power)"),
    # Triton's are those of the whole node; the containers' are the kubelet's.
    ("triton:node_cpu:ratio", "max by (namespace, release, pod) (nv_cpu_utilization{$s})"),
    (
        "triton:node_memory:ratio",
        "max by (namespace, release, pod) (nv_cpu_memory_used_bytes{$s}) / max by (namespace, release, pod) (nv_cpu_memory_total_bytes{$s})",
    ),
    (
        "triton:pod_cpu:cores",
        'sum by (namespace, pod) (rate(container_cpu_usage_seconds_total{namespace="$namespace",container!="",container!="POD"}[$w]))'
        " * on (namespace, pod) group_left (release) $pods",
    ),
    (
        "triton:pod_memory:bytes",
        'sum by (namespace, pod) (container_memory_working_set_bytes{namespace="$namespace",container!="",container!="POD"})'
        " * on (namespace, pod) group_left (release) $pods",
    ),
    ("triton:autoscaler:replicas", "$autoscaler"),
)


def window(options: dict) -> str:
    """Return what rates are taken over, as Prometheus writes it: what is asked for, or four scrapes and at least a minute."""
    return options.get("rate_window") or f"{max(SHORTEST_WINDOW, SCRAPES * int(options['scrape_seconds']))}s"


def selector(options: dict) -> str:
    return f'namespace="{options["namespace"]}",release="{options["release"]}"'


def records(options: dict) -> list[dict]:
    """Return the recording rules of a release, in the order in which they must be evaluated.

    :param options: namespace, release, fullname, scrape_seconds; rate_window, latency_ms, latency_ms_by_model, latency_quantile
    """
    words = _words(options)
    rules = [(name, f"sum by ({_SAMPLE}) (rate({counter}{{$s}}[$w]))") for counter, name in RATES.items()]
    rules += [
        (f"triton:{part}_us:per_request", f"sum by ({_MODEL}) (triton:{part}_us:rate{{$s}}) / (sum by ({_MODEL}) (triton:requests:rate{{$s}}) > 0)")
        for part in PARTS
    ]
    rules += _RECORDS
    rules += [
        ("triton:model_requests:rate", f"sum by ({_MODEL}) (triton:requests:rate{{$s}})"),
        ("triton:slow_requests:rate", f"triton:model_requests:rate{{$s}} * on ({_MODEL}) ({_slow(options)})"),
    ]
    return [{"record": name, "expr": Template(expression).substitute(words)} for name, expression in rules]


def _words(options: dict) -> dict[str, str]:
    chosen = selector(options)
    words = {
        "s": chosen,
        "w": window(options),
        "namespace": options["namespace"],
        "pods": f"count by (namespace, release, pod) (up{{{chosen}}}) ^ 0",
        "autoscaler": _autoscaler(options),
    }
    for name, own, dcgm in (
        ("utilization", "nv_gpu_utilization{%s}", "DCGM_FI_DEV_GPU_UTIL{%s} / 100"),
        (
            "memory",
            "nv_gpu_memory_used_bytes{%s} / (nv_gpu_memory_total_bytes{%s} > 0)",
            "DCGM_FI_DEV_FB_USED{%s} / (DCGM_FI_DEV_FB_USED{%s} + DCGM_FI_DEV_FB_FREE{%s} > 0)",
        ),
        ("power", "nv_gpu_power_usage{%s}", "DCGM_FI_DEV_POWER_USAGE{%s}"),
    ):
        words[f"own_gpu_{name}"] = f'label_replace({own.replace("%s", chosen)}, "gpu", "$1", "gpu_uuid", "(.*)")'
        words[f"dcgm_{name}"] = _dcgm(dcgm, options["namespace"], words["pods"])
    return words


def _dcgm(expression: str, namespace: str, pods: str) -> str:
    """Return NVIDIA's exporter's figures of the release's pods, under the labels that the other rules have."""
    foreign = expression.replace("%s", f'exported_namespace="{namespace}"')
    honoured = expression.replace("%s", f'namespace="{namespace}",exported_namespace=""')
    renamed = f'label_replace(label_replace({foreign}, "pod", "$1", "exported_pod", "(.+)"), "namespace", "$1", "exported_namespace", "(.+)")'
    named = f'label_replace({renamed} or {honoured}, "gpu", "$1", "UUID", "(.*)")'
    return f"max by (namespace, pod, gpu) ({named}) * on (namespace, pod) group_left (release) {pods}"


def _autoscaler(options: dict) -> str:
    """Return how many replicas there are, are wanted and may be, as the label is says; of kube-state-metrics, which knows no releases."""
    chosen = f'namespace="{options["namespace"]}",horizontalpodautoscaler="{options["fullname"]}"'
    parts = []
    for name in ("status_current", "status_desired", "spec_min", "spec_max"):
        replicas = f"max by (namespace) (kube_horizontalpodautoscaler_{name}_replicas{{{chosen}}})"
        parts.append(
            f'label_replace(label_replace({replicas}, "is", "{name[-3:] if "spec" in name else name[7:]}", "", ""), "release", "{options["release"]}", "", "")'
        )
    return " or ".join(parts)


def _slow(options: dict) -> str:
    """Return 1 for a model that answers slower than its objective, else 0. A model without a quantile of its own is held by its average."""
    quantile = options.get("latency_quantile")
    measured = "triton:request_us:per_request{%s}"
    if quantile:
        measured = f'sum without (quantile) (triton:request_us:quantile{{%s,quantile="{quantile}"}}) or triton:request_us:per_request{{%s}}'
    own = options.get("latency_ms_by_model") or {}
    parts = [(f'model="{model}"', milliseconds) for model, milliseconds in own.items()]
    others = [f'model!="{model}"' for model in own]
    parts.append((",".join(others), options["latency_ms"]))
    chosen = selector(options)
    return " or ".join(
        f"(({measured.replace('%s', ','.join(filter(None, (chosen, model))))}) > bool {float(milliseconds) * 1000:g})"
        for model, milliseconds in parts
    )
