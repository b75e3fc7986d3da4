# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus itself says of the rules: that it can read them, what they come to, and when each alert fires and when it does not.

promtool is looked for in $PROMTOOL, in the lab's cache and in $PATH; without it, nothing here runs. The scenario monitoring always has it.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess

import pytest
import yaml
from ansible_collections.mlserving.triton.plugins.module_utils import _monitoring_alerts, _monitoring_rules

ROOT = pathlib.Path(__file__).parents[4]
CACHE = pathlib.Path.home() / ".cache" / "mlserving-triton" / "go"
PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool", path=f"{CACHE}:{os.environ['PATH']}")
NAME = "example-triton-inference-server"
#: Labels that a scrape gives.
POD = f'namespace="triton",release="example",pod="{NAME}-7d9f-aaaaa"'
OTHER = f'namespace="triton",release="example",pod="{NAME}-7d9f-bbbbb"'
EXPORTED = POD.replace('release="example",', "").replace("namespace=", "exported_namespace=").replace("pod=", "exported_pod=")
#: kube-state-metrics knows no releases.
READY = f'kube_pod_status_ready{{{POD},condition="true"}}'.replace('release="example",', "")
CRASHES = f'kube_pod_container_status_waiting_reason{{{POD},reason="CrashLoopBackOff"}}'.replace('release="example",', "")
DEPLOYMENT = f'namespace="triton",deployment="{NAME}"'
CERTIFICATES = "certmanager_certificate_expiration_timestamp_seconds"
AUTOSCALER = f'namespace="triton",horizontalpodautoscaler="{NAME}"'

pytestmark = pytest.mark.skipif(not PROMTOOL, reason="there is no promtool")


def options(**more) -> dict:
    defaults = yaml.safe_load((ROOT / "roles" / "monitoring" / "defaults" / "main.yml").read_text(encoding="utf-8"))
    release = {"namespace": "triton", "release": "example", "fullname": NAME, "scrape_seconds": 15}
    return {**{name.removeprefix("monitoring_"): value for name, value in defaults.items()}, **release, **more}


def model(pod: str, name: str = "simple") -> str:
    return f'{pod},model="{name}",version="1"'


def serving(pod: str = POD, name: str = "simple", success: str = "0+150x480", **counters: str) -> dict:
    """Return the series of a model that answers 10 requests a second, 1 ms each unless told otherwise."""
    durations = {f"nv_inference_{part}_duration_us": f"0+{us}x480" for part, us in (("request", 150000), ("queue", 30000), ("compute_infer", 90000))}
    return {
        f"up{{{pod}}}": "1x480",
        f"nv_inference_request_success{{{model(pod, name)}}}": success,
        **{f"{counter}{{{model(pod, name)}}}": values for counter, values in {**durations, **counters}.items()},
    }


def failing(values: str, reason: str = "BACKEND") -> dict:
    return {f'nv_inference_request_failure{{{model(POD)},reason="{reason}"}}': values}


SLOW = "0+300000000x480"
#: alert, series (a value every 15 s), after how long, labels of each that fires
CASES = {
    "every target is down": ("TritonNoReadyReplica", {f"up{{{POD}}}": "0x40", f"up{{{OTHER}}}": "0x40"}, "5m", [{}]),
    "the Deployment has none": (
        "TritonNoReadyReplica",
        {
            f"up{{{POD}}}": "1x40",
            f"kube_deployment_status_replicas_ready{{{DEPLOYMENT}}}": "0x40",
            f"kube_deployment_spec_replicas{{{DEPLOYMENT}}}": "2x40",
        },
        "5m",
        [{}],
    ),
    "every target is down, and the Deployment has none": (
        "TritonNoReadyReplica",
        {
            f"up{{{POD}}}": "0x40",
            f"kube_deployment_status_replicas_ready{{{DEPLOYMENT}}}": "0x40",
            f"kube_deployment_spec_replicas{{{DEPLOYMENT}}}": "2x40",
        },
        "5m",
        [{}],
    ),
    "one of two is down": ("TritonNoReadyReplica", {f"up{{{POD}}}": "0x40", f"up{{{OTHER}}}": "1x40"}, "5m", []),
    "down for a moment": ("TritonNoReadyReplica", {f"up{{{POD}}}": "0x4 1x40"}, "5m", []),
    "scaled to zero on purpose": (
        "TritonNoReadyReplica",
        {f"kube_deployment_status_replicas_ready{{{DEPLOYMENT}}}": "0x40", f"kube_deployment_spec_replicas{{{DEPLOYMENT}}}": "0x40"},
        "5m",
        [],
    ),
    "another release is down": ("TritonNoReadyReplica", {'up{namespace="triton",release="other",pod="x"}': "0x40", f"up{{{POD}}}": "1x40"}, "5m", []),
    "a model on one replica only": (
        "TritonReplicasDisagree",
        {**serving(), **serving(OTHER), **serving(POD, "second")},
        "20m",
        [{"model": "second", "version": "1"}],
    ),
    "all models on all replicas": ("TritonReplicasDisagree", {**serving(), **serving(OTHER)}, "20m", []),
    "a replica that is still loading": ("TritonReplicasDisagree", {**serving(), f"up{{{OTHER}}}": "0x480"}, "20m", []),
    "one of eleven fails": ("TritonFailureRatio", {**serving(), **failing("0+15x480")}, "10m", [{"model": "simple"}]),
    "all fail": ("TritonFailureRatio", {**serving(success="0x480"), **failing("0+15x480")}, "10m", [{"model": "simple"}]),
    "one of a thousand fails": ("TritonFailureRatio", {**serving(success="0+999x480"), **failing("0+1x480")}, "10m", []),
    "clients that went away": ("TritonFailureRatio", {**serving(), **failing("0+15x480", "CANCELED")}, "10m", []),
    "nobody asks": ("TritonFailureRatio", {**serving(success="0x480"), **failing("0x480")}, "10m", []),
    "a queue that grows": (
        "TritonQueueGrowing",
        {**serving(), f"nv_inference_pending_request_count{{{model(POD)}}}": "0+10x480"},
        "20m",
        [{"model": "simple"}],
    ),
    "a queue that shrinks": ("TritonQueueGrowing", {**serving(), f"nv_inference_pending_request_count{{{model(POD)}}}": "5000-10x480"}, "20m", []),
    "a short queue": ("TritonQueueGrowing", {**serving(), f"nv_inference_pending_request_count{{{model(POD)}}}": "0+0.1x480"}, "20m", []),
    "slow for long": (
        "TritonLatencyObjective",
        serving(nv_inference_request_duration_us=SLOW),
        "2h",
        [{"model": "simple", "severity": "critical"}, {"model": "simple", "severity": "warning"}],
    ),
    "slow once, quick again": ("TritonLatencyObjective", serving(nv_inference_request_duration_us="0+300000000x60 18000000000+150000x420"), "2h", []),
    "quick": ("TritonLatencyObjective", serving(), "2h", []),
    "quick, but this model has to be quicker": (
        "TritonLatencyObjective",
        serving(name="urgent"),
        "2h",
        [{"model": "urgent", "severity": "critical"}, {"model": "urgent", "severity": "warning"}],
    ),
    "an expected model is missing": (
        "TritonModelLoadFailed",
        {**serving(), **serving(POD, "second")},
        "10m",
        [{"pod": POD.split('"')[5], "model": "urgent"}],
    ),
    "it answers but is not ready": (
        "TritonModelLoadFailed",
        {**serving(), **serving(POD, "urgent"), READY: "0x480"},
        "10m",
        [{"pod": POD.split('"')[5]}],
    ),
    "it crashes while it loads": (
        "TritonModelLoadFailed",
        {CRASHES: "1x480", READY: "0x480"},
        "10m",
        [{"pod": POD.split('"')[5]}],
    ),
    # Prometheus marks a series that is no longer exposed as stale.
    "it crashes, and loads for minutes before it does": (
        "TritonModelLoadFailed",
        {CRASHES: " ".join(["1x7 stale _x15"] * 20), READY: "0x480"},
        "29m",
        [{"pod": POD.split('"')[5]}],
    ),
    "it crashed, and then all went well": ("TritonModelLoadFailed", {CRASHES: "1x40 stale", READY: "0x44 1x436"}, "13m", []),
    "it crashed, and its pod was removed": ("TritonModelLoadFailed", {CRASHES: "1x40 stale", READY: "0x40 stale"}, "13m", []),
    "every expected model is there": (
        "TritonModelLoadFailed",
        {**serving(), **serving(POD, "urgent"), READY: "1x480"},
        "10m",
        [],
    ),
    "no target at all": ("TritonScrapeMissing", {'up{namespace="triton",release="other"}': "1x480"}, "10m", [{}]),
    "one target is down": ("TritonScrapeMissing", {f"up{{{POD}}}": "0x480", f"up{{{OTHER}}}": "1x480"}, "10m", [{"pod": POD.split('"')[5]}]),
    "no target, and none wanted": ("TritonScrapeMissing", {f"kube_deployment_spec_replicas{{{DEPLOYMENT}}}": "0x480"}, "10m", []),
    "every target is up": ("TritonScrapeMissing", serving(), "10m", []),
    "the autoscaler can add no more": (
        "TritonAutoscalerAtLimit",
        {f"kube_horizontalpodautoscaler_{name}{{{AUTOSCALER}}}": "3x480" for name in ("status_current_replicas", "spec_max_replicas")},
        "20m",
        [{"horizontalpodautoscaler": NAME}],
    ),
    "the autoscaler could add one": (
        "TritonAutoscalerAtLimit",
        {
            f"kube_horizontalpodautoscaler_status_current_replicas{{{AUTOSCALER}}}": "2x480",
            f"kube_horizontalpodautoscaler_spec_max_replicas{{{AUTOSCALER}}}": "3x480",
        },
        "20m",
        [],
    ),
    "the autoscaler has no metric": (
        "TritonAutoscalerBlind",
        {f'kube_horizontalpodautoscaler_status_condition{{{AUTOSCALER},condition="ScalingActive",status="true"}}': "0x480"},
        "10m",
        [{"horizontalpodautoscaler": NAME}],
    ),
    "the autoscaler has its metric": (
        "TritonAutoscalerBlind",
        {f'kube_horizontalpodautoscaler_status_condition{{{AUTOSCALER},condition="ScalingActive",status="true"}}': "1x480"},
        "10m",
        [],
    ),
    "the autoscaler has nothing to scale": (
        "TritonAutoscalerBlind",
        {
            f'kube_horizontalpodautoscaler_status_condition{{{AUTOSCALER},condition="ScalingActive",status="true"}}': "0x480",
            f"kube_deployment_spec_replicas{{{DEPLOYMENT}}}": "0x480",
        },
        "10m",
        [],
    ),
    "the autoscaler of running replicas has no metric": (
        "TritonAutoscalerBlind",
        {
            f'kube_horizontalpodautoscaler_status_condition{{{AUTOSCALER},condition="ScalingActive",status="true"}}': "0x480",
            f"kube_deployment_spec_replicas{{{DEPLOYMENT}}}": "2x480",
        },
        "10m",
        [{"horizontalpodautoscaler": NAME}],
    ),
    # promtool's clock begins in 1970.
    "a token ends in half an hour, a certificate in a week": (
        "TritonExpiresSoon",
        {f'{CERTIFICATES}{{namespace="triton",name="front"}}': "605400x480"},
        "10m",
        [
            {"kind": "token", "subject": "s3"},
            {
                "kind": "certificate",
                "subject": "front",
                "name": "front",
            },
        ],
    ),
    "a certificate ends in a week, and two scrapes have it that do not honour its labels": (
        "TritonExpiresSoon",
        {f'{CERTIFICATES}{{namespace="cert-manager",exported_namespace="triton",name="front",job="{job}"}}': "605400x480" for job in ("one", "two")},
        "4m",
        [{"kind": "certificate", "subject": "front", "name": "front"}],
    ),
    "a certificate of another namespace, of a cert-manager in the release's": (
        "TritonExpiresSoon",
        {f'{CERTIFICATES}{{namespace="triton",exported_namespace="other",name="front"}}': "605400x480"},
        "4m",
        [],
    ),
    "a certificate ends in a month, the token is not near its end": (
        "TritonExpiresSoon",
        {f'{CERTIFICATES}{{namespace="triton",name="front"}}': "2592000x480"},
        "0m",
        [],
    ),
    "Triton's GPU is full": (
        "TritonGpuMemoryNearFull",
        {f'nv_gpu_memory_used_bytes{{{POD},gpu_uuid="GPU-1"}}': "99x480", f'nv_gpu_memory_total_bytes{{{POD},gpu_uuid="GPU-1"}}': "100x480"},
        "20m",
        [{"pod": POD.split('"')[5], "gpu": "GPU-1"}],
    ),
    "NVIDIA's exporter says that the GPU is full": (
        "TritonGpuMemoryNearFull",
        {
            **serving(),
            **{
                f'DCGM_FI_DEV_FB_{name}{{namespace="gpu-operator",pod="dcgm",{EXPORTED},UUID="GPU-1"}}': values
                for name, values in (("USED", "99x480"), ("FREE", "1x480"))
            },
        },
        "20m",
        [{"pod": POD.split('"')[5], "gpu": "GPU-1"}],
    ),
    "somebody else's GPU is full": (
        "TritonGpuMemoryNearFull",
        {
            **serving(),
            **{
                f'DCGM_FI_DEV_FB_{name}{{namespace="triton",pod="somebody",UUID="GPU-1"}}': values
                for name, values in (("USED", "99x480"), ("FREE", "1x480"))
            },
        },
        "20m",
        [],
    ),
    "the GPU is half full": (
        "TritonGpuMemoryNearFull",
        {f'nv_gpu_memory_used_bytes{{{POD},gpu_uuid="GPU-1"}}': "50x480", f'nv_gpu_memory_total_bytes{{{POD},gpu_uuid="GPU-1"}}': "100x480"},
        "20m",
        [],
    ),
}
#: query at 10 minutes -> value, of two replicas with traffic
VALUES = {
    "sum(triton:requests:rate)": 20,
    "triton:request_us:per_request": 1000,
    "triton:queue_us:per_request": 200,
    "triton:inferences:per_execution": 4,
    'triton:failures:ratio{reason="BACKEND"}': 0.2,
    "triton:cache_hits:ratio": 0.75,
    f'triton:queue_us_per_request:avg{{pod="{NAME}-7d9f-aaaaa"}}': 200,
    'triton:queue_us_per_request:avg{pod="idle"}': 0,
    f'triton:queue_compute:ratio{{pod="{NAME}-7d9f-aaaaa"}}': 1 / 3,
    'triton:request_us:quantile{quantile="0.99"}': 900,
    f'triton:pod_cpu:cores{{pod="{NAME}-7d9f-aaaaa"}}': 0.5,
    "triton:model_load_seconds:max": 4,
}


def run(tmp_path: pathlib.Path, command: list[str], tests: list[dict] | None = None) -> None:
    soon = {
        "expected_models": ["urgent"],
        "latency_ms_by_model": {"urgent": 0.5},
        "expirations": [{"name": "s3", "kind": "token", "expires": "1970-01-01T01:05:00Z"}],
    }
    (tmp_path / "rules.json").write_text(json.dumps(_monitoring_rules.spec(options(**soon))), encoding="utf-8")
    (tmp_path / "tests.json").write_text(json.dumps({"rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": tests}), encoding="utf-8")
    done = subprocess.run([PROMTOOL, *command], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def series(found: dict) -> list[dict]:
    return [{"series": name, "values": values} for name, values in found.items()]


def test_prometheus_reads_the_rules(tmp_path):
    run(tmp_path, ["check", "rules", "rules.json"])


def test_every_alert_fires_and_does_not():
    fires = {case[0] for case in CASES.values() if case[3]}
    stays = {case[0] for case in CASES.values() if not case[3]}
    assert fires == stays == set(_monitoring_alerts.NAMES)


def test_when_each_alert_fires(tmp_path):
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in _monitoring_rules.spec(options())["groups"][1]["rules"]}
    tests = []
    for name, (alert, given, after, expected) in CASES.items():
        labels = [{"alertname": alert, "severity": severities[alert], "namespace": "triton", "release": "example", **found} for found in expected]
        query = f'count without (alertstate, __name__) (ALERTS{{alertname="{alert}",alertstate="firing"}})'
        samples = [{"labels": "{" + ",".join(f'{key}="{value}"' for key, value in found.items()) + "}", "value": 1} for found in labels]
        wanted = [{"expr": query, "eval_time": after, "exp_samples": samples}]
        tests.append({"name": name, "interval": "15s", "input_series": series(given), "promql_expr_test": wanted})
    run(tmp_path, ["test", "rules", "tests.json"], tests)


def test_what_is_recorded(tmp_path):
    batches = {"nv_inference_count": "0+600x480", "nv_inference_exec_count": "0+150x480"}
    cache = {"nv_cache_num_hits_per_model": "0+45x480", "nv_cache_num_misses_per_model": "0+15x480"}
    given = {
        **serving(**batches, **cache),
        **serving(OTHER, **batches, **cache),
        f'nv_inference_request_failure{{{model(POD)},reason="BACKEND"}}': "0+75x480",
        'nv_inference_request_success{namespace="triton",release="example",pod="idle",model="idle",version="1"}': "7x480",
        'nv_inference_queue_duration_us{namespace="triton",release="example",pod="idle",model="idle",version="1"}': "7x480",
        f'nv_inference_request_summary_us{{{model(POD)},quantile="0.99"}}': "900x480",
        f'nv_inference_request_summary_us{{{model(OTHER)},quantile="0.99"}}': "100x480",
        f'container_cpu_usage_seconds_total{{namespace="triton",pod="{NAME}-7d9f-aaaaa",container="triton"}}': "0+7.5x480",
        f"nv_model_load_duration_secs{{{model(POD)}}}": "4x480",
        f"nv_model_load_duration_secs{{{model(OTHER)}}}": "3x480",
    }
    wanted = [
        {"expr": f"round(max({query}) * 1000) / 1000", "eval_time": "10m", "exp_samples": [{"labels": "{}", "value": round(value, 3)}]}
        for query, value in VALUES.items()
    ]
    run(tmp_path, ["test", "rules", "tests.json"], [{"interval": "15s", "input_series": series(given), "promql_expr_test": wanted}])
