# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import gzip
import json

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _adoption, _cluster, _helm_record, _kube, _rights, _secret
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster

MANIFEST = "kind: Service\nmetadata: {name: a}\n---\n---\nkind: Secret\nmetadata: {name: aws-credentials}\ndata: {key: aGlkZGVu}\n"


def record(chart="triton-inference-server", version="1"):
    content = {"chart": {"metadata": {"name": chart, "version": "1.0.0"}}, "manifest": MANIFEST}
    data = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(content).encode()))).decode()
    labels = {"version": version, "status": "deployed" if version == "10" else "superseded"}
    return {"metadata": {"name": f"sh.helm.release.v1.example.v{version}", "labels": labels}, "data": {"release": data}}


@pytest.fixture
def find():
    with FakeCluster() as server:

        def call(*secrets):
            server.answers["/api/v1/namespaces/triton/secrets"] = {"items": list(secrets)}
            return _helm_record.find(_cluster.connect(_cluster.resolve({"host": server.url}, {})), "triton", "example")

        yield call


def test_the_newest_revision_counts_and_nothing_secret_is_shown(find):
    found = find(record(version="9"), record(version="10"))
    assert (found.revision, found.status, found.chart, len(found.secrets)) == (10, "deployed", "triton-inference-server-1.0.0", 2)
    assert found.public()["objects"] == ["Service a", "Secret aws-credentials"]
    assert "aGlkZGVu" not in repr(found) + json.dumps(found.public())


def test_no_release_or_another_chart_is_none(find):
    assert find() is None and find(record(chart="other")) is None


def test_a_record_that_cannot_be_read_is_named_without_its_content(find):
    broken = record()
    broken["data"]["release"] = "aGlkZGVu"
    with pytest.raises(_cluster.ClusterError, match="sh.helm.release.v1.example.v1 .* cannot be read") as caught:
        find(broken)
    assert "aGlkZGVu" not in str(caught.value)


def test_what_helm_owns_becomes_ours_and_what_others_own_stays():
    helm = {"manager": "helm", "operation": "Update", "apiVersion": "apps/v1", "fieldsV1": {"f:spec": {"f:a": {}}}}
    ours = {"manager": "mlserving.triton", "operation": "Apply", "apiVersion": "apps/v1", "fieldsV1": {"f:spec": {"f:b": {}}}}
    status = {**helm, "subresource": "status"}
    rest, one = _adoption.owned_by([helm, status, ours], "mlserving.triton", "Apply")
    assert rest == status and (one["manager"], one["operation"]) == ("mlserving.triton", "Apply")
    assert one["fieldsV1"] == {"f:spec": {"f:a": {}, "f:b": {}}}
    assert _adoption.owned_by([status], "mlserving.triton", "Apply") == [status]


def test_the_deployment_is_held_and_what_was_given_is_not_touched():
    given = [{"kind": "Service", "spec": {}}, {"kind": "Deployment", "spec": {"minReadySeconds": 0, "strategy": {"type": "Recreate"}}}]
    service, deployment = _adoption.held(given)
    assert service == given[0] and given[1]["spec"]["minReadySeconds"] == 0
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": "100%", "maxUnavailable": 0}
    assert deployment["spec"]["progressDeadlineSeconds"] > deployment["spec"]["minReadySeconds"] > 3600


def test_what_is_put_back_has_its_address_and_number_of_replicas():
    found = {"metadata": {"namespace": "triton", "resourceVersion": "7", "annotations": {"deployment.kubernetes.io/revision": "3", "ours": "x"}}}
    spec = {"clusterIP": "10.0.0.1", "ports": [{"port": 8000, "nodePort": 30000}], "selector": {"pod-template-hash": "new"}}
    service = {"kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 8000}, {"port": 8002}], "selector": {"app": "x"}}}
    body = _adoption.as_helm_has_it(service, {**found, "spec": spec}, "example")
    assert body["spec"] == {"clusterIP": "10.0.0.1", "ports": [{"port": 8000, "nodePort": 30000}, {"port": 8002}], "selector": {"app": "x"}}
    assert (
        body["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        and body["metadata"]["annotations"]["meta.helm.sh/release-name"] == "example"
    )
    deployment = {"kind": "Deployment", "metadata": {"name": "a", "labels": {"app": "x"}}, "spec": {"replicas": 4}}
    body = _adoption.as_helm_has_it(deployment, {**found, "spec": {"replicas": 6}}, "example")
    assert body["spec"]["replicas"] == 6 and "ours" not in body["metadata"]["annotations"] and deployment["spec"]["replicas"] == 4


@pytest.fixture
def adoption(monkeypatch):
    """Return the adoption of a release in a cluster; its ``sent`` are the requests that change something, its ``refuse`` the status of each path, once."""
    sent, refuse = [], {}

    def send(_api, verb, path, *_rest):
        sent.append((verb, path))
        if path in refuse:
            raise _kube.RequestError("refused", refuse.pop(path))

    monkeypatch.setattr(_kube, "send", send)
    monkeypatch.setattr(_secret.Secrets, "delete", lambda _self, name, dry_run: sent.append(("DELETE", name)))
    manifests = [
        {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "aws-credentials"}},
        {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": {"ports": []}},
    ]
    with FakeCluster() as cluster:
        lists = [f"/apis/apps/v1/namespaces/triton/{kind}" for kind in ("deployments", "replicasets", "statefulsets", "daemonsets")]
        lists += [f"/apis/batch/v1/namespaces/triton/{kind}" for kind in ("jobs", "cronjobs")]
        cluster.answers |= {path: {"items": []} for path in (*lists, "/api/v1/namespaces/triton/pods")}
        found = {"metadata": {"namespace": "triton", "resourceVersion": "7"}, "spec": {"selector": {}, "ports": []}}
        cluster.answers["/api/v1/namespaces/triton/services/a"] = found
        record = _helm_record.Record("example", 1, "deployed", "c", ("sh.helm.release.v1.example.v1",), tuple(manifests))
        one = _adoption.Adoption(_cluster.connect(_cluster.resolve({"host": cluster.url}, {})), cluster.url, "triton", "a", record)
        one.sent, one.refuse, one.cluster = sent, refuse, cluster
        yield one


SERVICE = "/api/v1/namespaces/triton/services/a"


def test_what_is_removed_goes_last(adoption):
    removed, left = adoption.finish({})
    assert [verb for verb, _path in adoption.sent] == ["PATCH", "DELETE", "DELETE"] and left == {}
    assert removed[0] == "Secret aws-credentials"


def test_nothing_is_removed_when_the_rest_is_refused(adoption):
    adoption.refuse[SERVICE] = 403
    with pytest.raises(_kube.RequestError):
        adoption.finish({})
    assert [verb for verb, _path in adoption.sent] == ["PATCH"]


def test_what_is_gone_needs_no_settling(adoption):
    adoption.refuse[SERVICE] = 404
    assert adoption.finish({})[0]


@pytest.mark.parametrize(("answer", "why"), [(None, "something still uses it"), (403, "cronjobs may use it")])
def test_credentials_stay_that_something_uses_which_does_not_run_now(adoption, answer, why):
    spec = {"containers": [{"envFrom": [{"secretRef": {"name": "aws-credentials"}}]}]}
    job = {"spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}}
    adoption.cluster.answers["/apis/batch/v1/namespaces/triton/cronjobs"] = answer or {"items": [job]}
    removed, left = adoption.finish({})
    assert why in left["Secret aws-credentials"] and len(removed) == 1


def test_what_changed_meanwhile_is_put_back_all_the_same(adoption):
    adoption.refuse[f"{SERVICE}?fieldManager=helm"] = 409
    adoption.put_back()
    assert [verb for verb, _path in adoption.sent] == ["PUT", "PUT"]


def test_what_changed_meanwhile_is_taken_over_all_the_same(adoption):
    helm = {"manager": "helm", "operation": "Update", "apiVersion": "v1", "fieldsV1": {"f:spec": {}}}
    adoption.cluster.answers[SERVICE]["metadata"]["managedFields"] = [helm]
    adoption.refuse[SERVICE] = 409
    adoption.begin()
    assert adoption.sent == [("PATCH", SERVICE)] * 2


def test_the_rights_that_an_adoption_takes():
    manifests = [
        {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor"},
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"},
    ]
    needed = _rights.for_adoption([*manifests, {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress"}])
    assert needed[:2] == [("update", "apps", "deployments"), ("update", "", "services")]
    assert [(verb, kind) for verb, _group, kind in needed[2:]] == [("patch", "servicemonitors"), ("patch", "ingresses"), ("patch", "networkpolicies")]
