# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _autoscaling_diagnosis, _kube

METRIC = {"type": "Pods", "pods": {"metric": {"name": "triton_queue_us_per_request"}}}
SERVICE = {"metadata": {"namespace": "monitoring", "name": "prometheus-operated"}, "spec": {"ports": [{"name": "web", "port": 9090}]}}
QUERY = "/api/v1/namespaces/monitoring/services/prometheus-operated:web/proxy/api/v1/query"
VALUES = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/models/pods/*/triton_queue_us_per_request"


def scaler(metric=None, reason="FailedGetPodsMetric", status="False"):
    condition = {"type": "ScalingActive", "status": status, "reason": reason, "message": "unable to get metric"}
    return {
        "metadata": {"name": "demo", "namespace": "models"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "demo"}, "metrics": [metric or METRIC]},
        "status": {"conditions": [condition]},
    }


def api_service(available="True", group="custom.metrics.k8s.io"):
    condition = {"type": "Available", "status": available, "message": "no response from https://10.0.0.1:443"}
    service = {"namespace": "monitoring", "name": "adapter"}
    return {"spec": {"group": group, "version": "v1beta1", "versionPriority": 100, "service": service}, "status": {"conditions": [condition]}}


def cluster(**changed):
    """Return a fetch function for a cluster where all is well, except for what is changed."""
    has = {"services": [SERVICE], "up": ["1"], "series": ["0"], "rule": ["0"], "api": [api_service()], "values": [{"value": "1"}]} | changed

    def rows(values):
        return {"data": {"result": [{"metric": {"pod": f"demo-{number}"}, "value": [0, value]} for number, value in enumerate(values)]}}

    def fetch(path, query=None):
        if path == "/api/v1/services":
            answer = {"items": has["services"]} if query["labelSelector"] == "operated-prometheus=true" else {"items": []}
        elif path == QUERY:
            asked = {"up{": "up", "nv_": "series", "tri": "rule"}[query["query"][:3]]
            answer = has[asked] if isinstance(has[asked], int) else rows(has[asked])
        elif path == _autoscaling_diagnosis.API_SERVICES:
            answer = has["api"] if isinstance(has["api"], int) else {"items": has["api"]}
        else:
            assert path == VALUES
            answer = {"items": has["values"]}
        if isinstance(answer, int):
            raise _kube.RequestError("refused.", answer)
        return answer

    return fetch


@pytest.mark.parametrize(
    "changed, step, told",
    [
        ({"up": []}, "target", "has no target of a pod of demo"),
        ({"up": ["0"]}, "target", "demo-0 are down"),
        ({"series": []}, "series", "0 series nv_inference_queue_duration_us"),
        ({"rule": []}, "rule", "0 series triton:queue_us_per_request:avg of the release"),
        ({"api": []}, "adapter", "the cluster has no API custom.metrics.k8s.io"),
        ({"api": [api_service("False")]}, "adapter", "no response from https://10.0.0.1:443"),
        ({"values": []}, "metric", "of 0 pods in namespace models"),
        ({}, "hpa", "the autoscaler says: unable to get metric"),
    ],
)
def test_the_first_step_that_fails_is_the_last_one_told(changed, step, told):
    found = _autoscaling_diagnosis.steps(cluster(**changed), scaler(), "demo")
    assert [part["ok"] for part in found] == [True] * (len(found) - 1) + [False]
    assert found[-1]["step"] == step and told in found[-1]["told"] and found[-1]["todo"]


@pytest.mark.parametrize("changed", [{"services": []}, {"up": 403}, {"up": 503}])
def test_without_prometheus_the_rest_is_looked_at(changed):
    found = _autoscaling_diagnosis.steps(cluster(api=[], **changed), scaler(), "demo")
    assert [(part["step"], part["ok"]) for part in found] == [("target", None), ("adapter", False)]


def test_what_may_not_be_seen_is_not_taken_for_wrong():
    found = _autoscaling_diagnosis.steps(cluster(api=403), scaler(), "demo")
    assert [(part["step"], part["ok"]) for part in found][3:] == [("adapter", None), ("metric", None), ("hpa", False)]


def test_a_prometheus_that_stops_to_answer_ends_the_steps():
    found = _autoscaling_diagnosis.steps(cluster(series=500), scaler(), "demo")
    assert [(part["step"], part["ok"]) for part in found] == [("target", True), ("next", None)]


def test_the_cpu_comes_from_the_metrics_server():
    found = _autoscaling_diagnosis.steps(cluster(), scaler({"type": "ContainerResource"}), "demo")
    assert _autoscaling_diagnosis.sentence(found) == "adapter FAILED: the cluster has no API metrics.k8s.io"
    assert found[0]["todo"] == "Install metrics-server."


@pytest.mark.parametrize(
    "reason, status, ails", [("FailedGetPodsMetric", "False", True), ("ScalingDisabled", "False", False), ("ValidMetricFound", "True", False)]
)
def test_a_release_at_0_does_not_ail(reason, status, ails):
    assert _autoscaling_diagnosis.ails(scaler(reason=reason, status=status)) == ails
    assert not _autoscaling_diagnosis.ails({"metadata": {}, "spec": {}})
