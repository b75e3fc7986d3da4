# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
import yaml

from ansible_collections.mlserving.triton.plugins.module_utils import _autoscaling, _rights, _serving_checks
from ansible_collections.mlserving.triton.tests.unit.plugins.serving_options import ROLE, options

NAMES = ("min_replicas", "max_replicas", "metric", "target", "behavior", "prometheus_url", "triggers", "idle_seconds", "method")
CRON = {"type": "cron", "metadata": {"timezone": "UTC", "start": "0 6 * * *", "end": "0 20 * * *", "desiredReplicas": "1"}}


def scaling(resources=None, gpus=0, **changed):
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    given = {name: defaults[f"triton_autoscaling_{name}"] for name in NAMES}
    return options(autoscaling={**given, **changed}, resources=resources or {}, gpus=gpus)


def manifest(found):
    return _autoscaling.manifest(found, "example", "server", "models", "demo")


def test_the_defaults_are_right():
    assert _serving_checks.problems(scaling()) == _serving_checks.problems(options()) == []


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"min_replicas": 5}, "triton_autoscaling_min_replicas is 5, more than triton_autoscaling_max_replicas, which is 4."),
        ({"min_replicas": 0}, "a HorizontalPodAutoscaler keeps 1 at least"),
        ({"min_replicas": 0, "method": "keda"}, "nothing would wake the release"),
        ({"max_replicas": "many"}, "triton_autoscaling_max_replicas is 'many'; allowed is a whole number from 1 to 10000."),
        ({"max_replicas": 0}, "triton_autoscaling_max_replicas is 0; allowed is a whole number from 1"),
        ({"metric": "latency"}, "triton_autoscaling_metric is 'latency'; allowed is one of queue_time, queue_ratio, gpu, cpu."),
        ({"method": "vpa"}, "triton_autoscaling_method is 'vpa'; allowed is one of hpa, keda."),
        ({"target": "-1"}, "triton_autoscaling_target is '-1'; allowed is a number above 0"),
        ({"target": 0}, "triton_autoscaling_target is 0; allowed is a number above 0"),
        ({"behavior": {"up": {}}}, "allowed is a dictionary of scaleUp and scaleDown"),
        ({"triggers": [CRON]}, "triton_autoscaling_triggers is given, but triton_autoscaling_method is hpa"),
        ({"metric": "gpu"}, "triton_autoscaling_metric is gpu, but triton_gpus (the chart's image.numGpus) is 0"),
        ({"metric": "cpu"}, "give triton_resources, such as {requests: {cpu: 2}}"),
    ],
)
def test_each_mistake_is_named(changed, told):
    assert [told in problem for problem in _serving_checks.problems(scaling(**changed))] == [True]


@pytest.mark.parametrize(
    "more, metric",
    [
        (
            {},
            {
                "type": "Pods",
                "pods": {"metric": {"name": "triton_queue_us_per_request"}, "target": {"type": "AverageValue", "averageValue": "10000000m"}},
            },
        ),
        (
            {"metric": "gpu", "target": "75", "gpus": 1},
            {"type": "Pods", "pods": {"metric": {"name": "triton_gpu_utilization"}, "target": {"type": "AverageValue", "averageValue": "750m"}}},
        ),
        (
            {"metric": "cpu", "resources": {"requests": {"cpu": 2}}},
            {
                "type": "ContainerResource",
                "containerResource": {"name": "cpu", "container": "server", "target": {"type": "Utilization", "averageUtilization": 80}},
            },
        ),
    ],
)
def test_a_horizontal_pod_autoscaler(more, metric):
    found = scaling(**more)
    assert _serving_checks.problems(found) == []
    made = manifest(found)
    assert (made["apiVersion"], made["kind"]) == ("autoscaling/v2", "HorizontalPodAutoscaler")
    assert made["spec"]["metrics"] == [metric] and (made["spec"]["minReplicas"], made["spec"]["maxReplicas"]) == (1, 4)
    assert made["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "example"}


def test_a_scaled_object_asks_prometheus_and_names_its_autoscaler_like_the_deployment():
    made = manifest(scaling(method="keda", min_replicas=0, triggers=[CRON], target=2500))
    first, second = made["spec"]["triggers"]
    assert first["metadata"]["query"] == 'sum(avg by (pod) (triton:queue_us_per_request:avg{namespace="models",release="demo"}))'
    assert (first["metadata"]["threshold"], first["metricType"]) == ("2500", "AverageValue") and second == CRON
    assert made["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["name"] == "example" and made["spec"]["minReplicaCount"] == 0


def test_the_right_to_make_it_is_asked_for(monkeypatch):
    assert _autoscaling.kind(options()) is None and _autoscaling.kind({}) is None
    assert _autoscaling.kind(scaling()) == ("autoscaling", "horizontalpodautoscalers")
    assert _autoscaling.kind(scaling(method="keda")) == ("keda.sh", "scaledobjects")
    asked = []

    class Api:
        def __init__(self, _api):
            pass

        def create_self_subject_access_review(self, review, **_more):
            asked.append((review.spec.resource_attributes.verb, review.spec.resource_attributes.resource))

    monkeypatch.setattr(_rights.client, "AuthorizationV1Api", Api)
    monkeypatch.setattr(_rights._kube, "call", lambda _what, function, *args: function(*args) or {"status": {"allowed": True}})
    assert _rights.missing(None, "models", scaling()) == [] and ("create", "horizontalpodautoscalers") in asked
