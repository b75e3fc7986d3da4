# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is alerted of a release. Each alert has its section in docs/alerts.md. PRIVATE to the collection."""

from __future__ import annotations

import datetime
import typing as t
from string import Template

from ansible_collections.mlserving.triton.plugins.module_utils import _monitoring_records as _records

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Alert(t.NamedTuple):
    """One rule. Metrics of kube-state-metrics (kube_*) and cert-manager only add to what the rest of an expression finds, never are needed for it."""

    name: str
    severity: str
    #: How long it must hold.
    lasts: str
    expression: str
    summary: str
    #: What to do first.
    runbook: str


#: $s selects the release; $deployment, $pods and $autoscaler select its objects in kube-state-metrics' series.
_ALERTS = (
    Alert(
        "TritonNoReadyReplica",
        "critical",
        "2m",
        # Both have the same labels, so that only one is left where both hold: Prometheus refuses a rule that finds an alert twice.
        "(max by (namespace) (up{$s}) == 0)"
        " or (max by (namespace) (kube_deployment_status_replicas_ready{$deployment}) == 0 and on (namespace) kube_deployment_spec_replicas{$deployment} > 0)",
        "No replica of $release can answer.",
        "Run playbooks/status.yml: it says why the replicas are not ready. If a release was just rolled out, go back with playbooks/rollback.yml.",
    ),
    Alert(
        "TritonReplicasDisagree",
        "warning",
        "10m",
        "count by (namespace, release, model, version) (count by (namespace, release, pod, model, version) (nv_inference_request_success{$s}))"
        " < on (namespace, release) group_left () count by (namespace, release) (up{$s} == 1)",
        "Version {{ $$labels.version }} of model {{ $$labels.model }} is on {{ $$value }} replicas of $release only.",
        "Run playbooks/status.yml: it names the replicas. Load the model there with playbooks/model.yml, or restart the pod.",
    ),
    Alert(
        "TritonFailureRatio",
        "critical",
        "5m",
        'sum by (namespace, release, model) (triton:failures:ratio{$s,reason!="CANCELED"}) > $failure_ratio',
        "{{ $$value | humanizePercentage }} of the requests to model {{ $$labels.model }} of $release fail.",
        "triton:failures:rate has the reason: BACKEND is the model's own error (read the pod's log), REJECTED a full queue, OTHER mostly bad requests.",
    ),
    Alert(
        "TritonQueueGrowing",
        "warning",
        "5m",
        "triton:pending_requests:sum{$s} > $pending_requests and deriv(triton:pending_requests:sum{$s}[$trend]) > 0",
        "{{ $$value }} requests wait for model {{ $$labels.model }} of $release, and more come than leave.",
        "Add replicas with playbooks/scale.yml or raise the autoscaler's bound; look whether batching or more instances of the model help.",
    ),
    Alert(
        "TritonModelLoadFailed",
        "critical",
        "5m",
        # That it waits after a crash is told only between two attempts. What is not ready now is asked for too: a pod that is gone no longer crashes.
        "$missing_models"
        '(max by (namespace, pod) (kube_pod_status_ready{$pods,condition="true"}) == 0 and on (namespace, pod) up{$s} == 1)'
        ' or (max by (namespace, pod) (max_over_time(kube_pod_container_status_waiting_reason{$pods,reason="CrashLoopBackOff"}[10m])) > 0'
        ' and on (namespace, pod) kube_pod_status_ready{$pods,condition="true"} == 0)',
        "{{ with $$labels.model }}Model {{ . }} is not on{{ else }}Not every model is ready on{{ end }} pod {{ $$labels.pod }} of $release.",
        "Run playbooks/status.yml: it shows what Triton says about the model. Check the repository with the module triton_repository_info.",
    ),
    Alert(
        "TritonScrapeMissing",
        "warning",
        "5m",
        "up{$s} == 0 or (absent(up{$s}) unless on () kube_deployment_spec_replicas{$deployment} == 0)",
        "Prometheus has no metrics of {{ with $$labels.pod }}pod {{ . }} of {{ end }}$release.",
        "Look at the target's error in Prometheus (Status, Targets): the pod may be gone or loading, a NetworkPolicy may forbid the scrape,"
        " or no monitor selects it.",
    ),
    Alert(
        "TritonAutoscalerAtLimit",
        "warning",
        "15m",
        "max by (namespace, horizontalpodautoscaler) (kube_horizontalpodautoscaler_status_current_replicas{$autoscaler})"
        " >= max by (namespace, horizontalpodautoscaler) (kube_horizontalpodautoscaler_spec_max_replicas{$autoscaler})",
        "The autoscaler of $release has been at its limit of {{ $$value }} replicas.",
        "Raise the bound if there are GPUs for it, or accept the latency: it will not add more.",
    ),
    Alert(
        "TritonAutoscalerBlind",
        "warning",
        "5m",
        "max by (namespace, horizontalpodautoscaler)"
        ' (kube_horizontalpodautoscaler_status_condition{$autoscaler,condition="ScalingActive",status="true"}) == 0'
        # Of a target that is scaled to zero, the autoscaler says the same.
        " unless on (namespace) kube_deployment_spec_replicas{$deployment} == 0",
        "The autoscaler of $release cannot read its metric.",
        "Follow the metric from target to rule, adapter and HPA with playbooks/status.yml.",
    ),
    Alert(
        "TritonGpuMemoryNearFull",
        "warning",
        "10m",
        "triton:gpu_memory:ratio{$s} > $gpu_memory_ratio",
        "{{ $$value | humanizePercentage }} of the memory of GPU {{ $$labels.gpu }} of pod {{ $$labels.pod }} of $release is in use.",
        "Serve fewer models or instances on it, or smaller batches: the next allocation may fail.",
    ),
)
LATENCY = "TritonLatencyObjective"
_LATENCY = Alert(
    LATENCY,
    "critical",
    "0s",
    "",
    "Model {{ $$labels.model }} of $release uses up its latency budget {{ $$value | printf `%.1f` }} times too fast.",
    "See whether the time is queueing (add replicas) or computing (model, batch size, GPU) in the dashboard's row Latency.",
)
_EXPIRY = Alert(
    "TritonExpiresSoon",
    "warning",
    "0s",
    "",
    "The {{ $$labels.kind }} {{ $$labels.subject }} of $release ends in {{ $$value | humanizeDuration }}.",
    "Renew it: playbooks/credentials.yml for keys and tokens, a new Secret and playbooks/deploy.yml for a certificate.",
)
#: Every alert that there can be.
NAMES = sorted(alert.name for alert in (*_ALERTS, _LATENCY, _EXPIRY))


def alerts(options: dict) -> list[dict]:
    """Return the alerting rules of a release.

    :param options: what _monitoring_records.records takes, and fullname, failure_ratio, pending_requests, latency_target, burn_windows,
        expected_models, expirations, expiry_notice, gpu_memory_ratio, alert_for, alert_labels, alerts_off, runbook_url
    """
    chosen = [*_ALERTS, *_burns(options), _expiry(options)]
    return [_rule(alert, options) for alert in chosen if alert.name not in options["alerts_off"]]


def seconds(duration: str) -> int:
    """Return a duration such as 90s, 5m, 6h or 14d in seconds."""
    return int(duration[:-1]) * _SECONDS[duration[-1]]


def _rule(alert: Alert, options: dict) -> dict:
    namespace, name = options["namespace"], options["fullname"]
    words = {
        "s": _records.selector(options),
        "release": options["release"],
        "deployment": f'namespace="{namespace}",deployment="{name}"',
        "autoscaler": f'namespace="{namespace}",horizontalpodautoscaler="{name}"',
        "pods": f'namespace="{namespace}",pod=~"{name}-[a-z0-9]+-[a-z0-9]+"',
        "failure_ratio": options["failure_ratio"],
        "pending_requests": options["pending_requests"],
        "gpu_memory_ratio": options["gpu_memory_ratio"],
        "trend": f"{5 * seconds(_records.window(options))}s",
        "missing_models": _missing_models(options),
    }
    return {
        "alert": alert.name,
        "expr": Template(alert.expression).substitute(words),
        "for": options["alert_for"].get(alert.name, alert.lasts),
        "labels": {"severity": alert.severity, "namespace": namespace, "release": options["release"], **options["alert_labels"]},
        "annotations": {
            "summary": Template(alert.summary).substitute(release=f"release {options['release']} in namespace {namespace}"),
            "description": alert.runbook,
            "runbook_url": f"{options['runbook_url']}#{alert.name.lower()}",
        },
    }


def _burns(options: dict) -> list[Alert]:
    """Return one rule for each pair of windows: both must use up the budget as many times too fast."""
    return [
        _LATENCY._replace(
            severity=pair["severity"],
            expression=" and ".join(f"{_burn(options, pair[window])} > {pair['factor']}" for window in ("long", "short")),
        )
        for pair in options["burn_windows"]
    ]


def _burn(options: dict, window: str) -> str:
    """Return how many times too fast the budget is used up; nothing without requests."""
    return (
        f"sum_over_time(triton:slow_requests:rate{{$s}}[{window}]) / (sum_over_time(triton:model_requests:rate{{$s}}[{window}]) > 0)"
        f" / {1 - float(options['latency_target']):g}"
    )


def _missing_models(options: dict) -> str:
    """Return where an expected model is not on a replica that answers."""
    return "".join(
        f'(label_replace(up{{$s}} == 1, "model", "{model}", "", "") unless on (namespace, pod) nv_inference_request_success{{$s,model="{model}"}}) or '
        for model in options["expected_models"]
    ).replace("$s", _records.selector(options))


def _expiry(options: dict) -> Alert:
    """Return the rule for what has an end that is known, and for cert-manager's certificates of the namespace."""
    # As with NVIDIA's exporter, the namespace is in exported_namespace unless the scrape honours cert-manager's labels.
    series, namespace = "certmanager_certificate_expiration_timestamp_seconds", options["namespace"]
    managed = f'max by (name) ({series}{{exported_namespace="{namespace}"}} or {series}{{namespace="{namespace}",exported_namespace=""}}) - time()'
    ends = [(f'label_replace({managed}, "subject", "$$1", "name", "(.*)")', "certificate")]
    for item in options["expirations"]:
        end = datetime.datetime.fromisoformat(str(item["expires"])).timestamp()
        ends.append((f'label_replace(vector({end:.0f}) - time(), "subject", "{item["name"]}", "", "")', item["kind"]))
    rows = (f'label_replace({left}, "kind", "{kind}", "", "") < {seconds(options["expiry_notice"][kind])}' for left, kind in ends)
    return _EXPIRY._replace(expression=" or ".join(rows))
