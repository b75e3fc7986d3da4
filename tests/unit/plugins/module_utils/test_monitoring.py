# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64

import pytest

from ansible_collections.mlserving.triton.plugins.filter.not_among import not_among
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _dashboards, _kube, _monitoring
from ansible_collections.mlserving.triton.plugins.modules import triton_crds, triton_monitoring_info
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster

MONITORS, PROMETHEUSES = (f"/apis/monitoring.coreos.com/v1/{kind}" for kind in ("servicemonitors", "prometheuses"))


@pytest.fixture
def cluster(monkeypatch):
    for name in (*_cluster.ENVIRONMENT.values(), "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    with FakeCluster() as server:
        yield server


@pytest.fixture
def api(cluster):
    return _cluster.connect(_cluster.resolve({"host": cluster.url}, {}))


def monitor(release, namespace):
    labels = {"app.kubernetes.io/instance": release, "mlserving.triton/namespace": namespace}
    return {"metadata": {"name": f"{release}-triton", "namespace": namespace, "labels": labels}}


@pytest.mark.parametrize("everywhere", [True, False])
def test_objects_are_found_in_the_whole_cluster_or_where_one_may_look(cluster, api, everywhere):
    cluster.answers[MONITORS] = {"items": [monitor("a", "one"), monitor("b", "two")]} if everywhere else 403
    cluster.answers["/apis/monitoring.coreos.com/v1/namespaces/one/servicemonitors"] = {"items": [monitor("a", "one")]}
    found = [(entry["release"], entry["release_namespace"]) for entry in _monitoring.objects(api, ["one", ""])]
    assert found == [("a", "one"), ("b", "two")][: 2 if everywhere else 1]


def definition(name, version, **labels):
    return {"metadata": {"name": name, "annotations": {"operator.prometheus.io/version": version}, "labels": labels}}


def test_definitions_are_made_replaced_or_kept_by_their_versions():
    wanted = [definition(name, "0.91.0") for name in ("new", "older", "same", "newer")]
    versions = {"older": "0.9.0", "same": "0.91.0", "newer": "0.100.0"}
    there = {name: definition(name, version)["metadata"] for name, version in versions.items()}
    make, replace, kept = triton_crds.to_apply(wanted, there)
    assert [entry["metadata"]["name"] for entry in make + replace] == ["new", "older"] and len(make) == 1
    assert kept == ["newer: the cluster's is newer than the chart's (0.100.0)"]


def test_definitions_stay_while_somebody_has_objects(run_module, cluster):
    crd = "servicemonitors.monitoring.coreos.com"
    ours = definition(crd, "0.91.0", **{"app.kubernetes.io/managed-by": "mlserving.triton"})
    cluster.answers |= {triton_crds.PATH: {"items": [ours]}, MONITORS: {"items": [monitor("x", "team")]}}
    result = run_module(triton_crds, {"host": cluster.url, "state": "absent"}, check=True)
    assert not result["changed"] and "servicemonitors team/x-triton" in result["kept"][0]
    cluster.answers[MONITORS] = {"items": []}
    assert run_module(triton_crds, {"host": cluster.url, "state": "absent"}, check=True)["deleted"] == [crd]
    cluster.answers[triton_crds.PATH] = {"items": [definition(crd, "0.91.0")]}
    assert run_module(triton_crds, {"host": cluster.url, "state": "absent"}, check=True)["deleted"] == []


def test_in_check_mode_objects_that_a_real_run_has_removed_by_then_do_not_count(run_module, cluster):
    crd = "servicemonitors.monitoring.coreos.com"
    own, others, chart = monitor("example", "triton"), monitor("x", "team"), monitor("stack", "monitoring")
    chart["metadata"]["annotations"] = {"meta.helm.sh/release-name": "stack", "meta.helm.sh/release-namespace": "monitoring"}
    cluster.answers[triton_crds.PATH] = {"items": [definition(crd, "0.91.0", **{"app.kubernetes.io/managed-by": "mlserving.triton"})]}
    going = {"going_objects": [{"kind": "ServiceMonitor", **own}], "going_releases": ["monitoring/stack"]}
    options = {"host": cluster.url, "state": "absent", **going}
    cluster.answers[MONITORS] = {"items": [own, chart]}
    assert run_module(triton_crds, options, check=True)["deleted"] == [crd]
    assert not run_module(triton_crds, options)["deleted"], "they are there"
    cluster.answers[MONITORS] = {"items": [own, chart, others]}
    assert run_module(triton_crds, options, check=True)["kept"][0].endswith("of these kinds: servicemonitors team/x-triton")


@pytest.fixture
def run(run_module, cluster):
    kinds = [{"name": name} for name in _monitoring.CRDS]
    cluster.answers |= {"/apis/monitoring.coreos.com/v1": {"resources": kinds}, PROMETHEUSES: {"items": []}}

    def call(**options):
        return run_module(triton_monitoring_info, {"host": cluster.url, "release": "example", "release_namespace": "triton", **options})

    return call


def prometheus(name, **spec):
    return {"metadata": {"name": name, "namespace": "monitoring"}, "spec": spec}


def test_the_first_prometheus_that_can_take_the_release_up_does(run, cluster):
    everything = {"serviceMonitorNamespaceSelector": {}, "ruleNamespaceSelector": {}}
    stack = {"matchLabels": {"release": "stack"}}
    cluster.answers[PROMETHEUSES] = {
        "items": [prometheus("stack", serviceMonitorSelector=stack, ruleSelector=stack, **everything), prometheus("narrow", **everything)]
    }
    found = run()
    assert found["prometheus"] == {"name": "stack", "namespace": "monitoring"}
    assert found["labels"] == {kind: {"release": "stack"} for kind in ("ServiceMonitor", "PrometheusRule")}
    assert found["passed_over"][0].startswith("monitoring/narrow: serviceMonitorSelector is not set")
    message = run(prometheus="monitoring/narrow")["msg"]
    assert message.startswith("Nothing was changed. No Prometheus can take up the objects of example in namespace triton. monitoring/narrow: ")
    assert "monitoring_labels" in message and "monitoring_objects_namespace" in message
    assert "the Prometheus objects are: monitoring/narrow, monitoring/stack" in run(prometheus="x/y")["msg"]


def test_what_existing_lacks_is_told(run, cluster):
    assert "but no Prometheus object" in run()["msg"]
    cluster.answers["/apis/monitoring.coreos.com/v1"] = 404
    assert "kinds prometheuses, prometheusrules, servicemonitors" in run()["msg"]


@pytest.mark.parametrize(("asked", "others", "goes"), [("auto", [], True), ("auto", ["b"], False), ("always", ["b"], True), ("never", [], False)])
def test_a_stack_goes_with_the_last_release(run, cluster, tmp_path, asked, others, goes):
    helm = tmp_path / "helm"
    helm.write_text("#!/bin/sh\necho v3.20.1\n")
    helm.chmod(0o755)
    cluster.answers[f"/api/v1/namespaces/monitoring/configmaps/{_monitoring.RECORD}"] = {"data": {"helm_release": "stack", "adapter": ""}}
    cluster.answers[MONITORS] = {"items": [monitor(name, "triton") for name in ["example", *others]]}
    found = run(state="absent", remove_stack=asked, helm_binary=str(helm))
    assert found["remove_stack"] == goes and [entry["metadata"]["name"] for entry in found["objects"]] == ["example-triton"]
    assert ("stack-kubelet" in [entry["metadata"]["name"] for entry in found["leftovers"]]) == goes


def test_a_stack_stays_where_not_all_releases_may_be_seen(run, cluster):
    cluster.answers["/api/v1/namespaces/monitoring/configmaps/mlserving-triton-monitoring"] = {"data": {"helm_release": "kube-prometheus-stack"}}
    cluster.answers["/apis/monitoring.coreos.com/v1/prometheusrules"] = 403
    result = run(state="absent", remove_stack="auto")
    assert not result["remove_stack"] and result["others"] == ["releases of namespaces that this account may not look into"]


def test_an_account_of_one_namespace_can_clean_up(run, cluster):
    """It may list the ConfigMaps of its namespace, and nothing else."""
    own = monitor("example", "triton")
    for prefix, plural, _version, _kind in _monitoring.KINDS:
        cluster.answers |= {f"{prefix}/{plural}": 403, f"{prefix}/namespaces/triton/{plural}": 403, f"{prefix}/namespaces/monitoring/{plural}": 403}
    cluster.answers |= {
        "/api/v1/namespaces/triton/configmaps": {"items": [own]},
        f"/api/v1/namespaces/monitoring/configmaps/{_monitoring.RECORD}": 403,
        "/api/v1/namespaces/monitoring/secrets/kube-prometheus-stack-grafana-admin": 403,
        "/api/v1/namespaces/monitoring": 403,
        "/api/v1/namespaces/triton": 403,
    }
    found = run(state="absent")
    assert [entry["kind"] for entry in found["objects"]] == ["ConfigMap"]
    assert (found["record"], found["remove_stack"], found["leftovers"], found["others"]) == ({}, False, [], [])


def test_prometheus_objects_that_may_not_be_seen_are_an_error(run, cluster):
    cluster.answers |= {PROMETHEUSES: 403, "/apis/monitoring.coreos.com/v1/namespaces/monitoring/prometheuses": 403}
    assert "403" in run()["msg"]


def test_the_claims_of_a_stack_with_a_long_name_are_found(cluster, api):
    """The chart's names are cut to 26 characters, and Helm's label has the whole name."""
    asked = []
    claims = "/api/v1/namespaces/monitoring/persistentvolumeclaims"
    cluster.answers[claims] = {"items": [{"metadata": {"name": "grafana"}}]}
    original = _kube.get
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_kube, "get", lambda api, path, **more: asked.append(path) or original(api, path, **more))
        found = _monitoring.leftovers(api, "monitoring", "kube-prometheus-stack-of-team-a", True)
    assert any("app.kubernetes.io/instance%3Dkube-prometheus-stack-of-team-a,app.kubernetes.io/name%3Dgrafana" in path for path in asked)
    assert found[0]["metadata"]["name"] == "kube-prometheus-stack-of-t-kubelet" and found[-1]["metadata"]["name"] == "grafana"


def test_only_the_kinds_of_the_releases_objects_count_as_served(run, cluster):
    for kinds, monitor_kind, served in (
        (("prometheusrules", "servicemonitors"), "ServiceMonitor", True),
        (("prometheusrules", "servicemonitors"), "PodMonitor", False),
        (("servicemonitors",), "ServiceMonitor", False),
    ):
        cluster.answers["/apis/monitoring.coreos.com/v1"] = {"resources": [{"name": kind} for kind in kinds]}
        assert run(state="absent", monitor=monitor_kind)["kinds_served"] == served


def test_objects_of_another_namespace_are_stale_too():
    found = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": place}} for place in ("x", "y")]
    assert not_among(found, objects=found[:1]) == found[1:]


def test_grafana_is_found_with_its_secret_but_without_its_password(cluster, api):
    labels = {"app.kubernetes.io/name": "grafana"}
    service = {
        "metadata": {"name": "g", "namespace": "m"},
        "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": 80, "nodePort": 30000}]},
    }
    reference = {"GF_SECURITY_ADMIN_USER": "admin-user", "GF_SECURITY_ADMIN_PASSWORD": "admin-password"}
    variables = [{"name": name, "valueFrom": {"secretKeyRef": {"name": "kept", "key": key}}} for name, key in reference.items()]
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"env": variables}]}}
    backend = {"path": "/", "backend": {"service": {"name": "g"}}}
    ingress = {
        "metadata": {"namespace": "m"},
        "spec": {"tls": [{"hosts": ["g.example.com"]}], "rules": [{"host": "g.example.com", "http": {"paths": [backend]}}]},
    }
    secret = {key: base64.b64encode(value).decode() for key, value in (("admin-user", b"root"), ("admin-password", b"hidden-word"))}
    cluster.answers |= {
        "/api/v1/services": {"items": [service]},
        "/api/v1/nodes": {"items": [{"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}]},
        "/apis/networking.k8s.io/v1/ingresses": {"items": [ingress]},
        "/apis/apps/v1/namespaces/m/deployments": {"items": [{"spec": {"template": pod}}]},
        "/api/v1/namespaces/m/secrets/kept": {"data": secret},
    }
    (found,) = _dashboards.find(api, [])
    assert found["addresses"] == ["https://g.example.com/", "http://10.0.0.1:30000"]
    assert (found["user"], found["secret"]) == ("root", {"name": "kept", "key": "admin-password"}) and "hidden-word" not in str(found)
