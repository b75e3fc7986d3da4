# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import datetime

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _serving_cluster
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster

NODES, HPAS = "/api/v1/nodes", "/apis/autoscaling/v2/namespaces/triton/horizontalpodautoscalers"
DEPLOYMENTS, SECRET = "/apis/apps/v1/namespaces/triton/deployments", "/api/v1/namespaces/triton/secrets/tls"


@pytest.fixture
def cluster():
    with FakeCluster() as server:
        server.answers["/apis"] = {"groups": []}
        yield server


@pytest.fixture
def api(cluster):
    return _cluster.connect(_cluster.resolve({"host": cluster.url}, {}))


def node(**allocatable):
    return {"metadata": {"name": "n"}, "status": {"allocatable": allocatable}}


def test_gpus_that_no_node_has_are_named(cluster, api):
    cluster.answers[NODES] = {"items": [node(), node(**{"nvidia.com/gpu": "1"})]}
    assert "of the 2 nodes none has as many of nvidia.com/gpu; the most is 1" in _serving_cluster.gpu_problem(api, "nvidia.com/gpu", 2)
    assert _serving_cluster.gpu_problem(api, "nvidia.com/gpu", 1) == _serving_cluster.gpu_problem(api, "nvidia.com/gpu", 0) == ""


def test_a_cluster_that_adds_nodes_by_itself_may_have_none_yet(cluster, api):
    cluster.answers |= {NODES: {"items": [node()]}, "/apis": {"groups": [{"name": "karpenter.sh"}]}}
    assert _serving_cluster.gpu_problem(api, "nvidia.com/gpu", 1) == ""


def test_nodes_that_may_not_be_seen_are_taken_for_right(cluster, api):
    cluster.answers[NODES] = 403
    assert _serving_cluster.gpu_problem(api, "nvidia.com/gpu", 1) == ""


def test_the_autoscaler_of_the_deployment_is_found(cluster, api):
    def scaler(name, target):
        return {"metadata": {"name": name}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": target}}}

    cluster.answers[HPAS] = {"items": [scaler("other", "other"), scaler("ours", "example")]}
    assert _serving_cluster.autoscaler(api, "triton", "example") == {"name": "ours"} and _serving_cluster.autoscaler(api, "triton", "third") == {}


def test_what_certain_options_made_without_what_goes_already(cluster, api):
    def ingress(name, **metadata):
        return {"metadata": {"name": name, **metadata}}

    records = {"app.kubernetes.io/component": "release"}
    items = [ingress("ours"), ingress("leaves", deletionTimestamp="2026-11-27T12:00:00Z"), ingress("kept", labels=records)]
    cluster.answers["/apis/networking.k8s.io/v1/namespaces/triton/ingresses"] = {"items": items}
    found = _serving_cluster.optional_objects(api, "triton", "mlserving.triton", "example")
    assert found == [{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "ours"}]


@pytest.mark.parametrize(
    "optional, own",
    [([("HorizontalPodAutoscaler", "example")], True), ([("ScaledObject", "example")], True), ([("Service", "example")], False), ([], False)],
)
def test_an_autoscaler_is_the_releases_if_it_or_its_maker_is(optional, own):
    scaler = {"name": "example", "ownerReferences": [{"kind": "ScaledObject", "name": "example"}]}
    assert _serving_cluster.is_own(scaler, [{"kind": kind, "name": name} for kind, name in optional]) == own


BOUNDS = {"method": "hpa", "metric": "queue_time", "min_replicas": "2", "max_replicas": 4}


@pytest.mark.parametrize(
    "scaling, scaler, own, there, expected",
    [
        # Nobody decides.
        ({}, {}, False, None, ("", 3, None)),
        ({}, {}, False, (5, "us"), ("", 3, 5)),
        # A release that is to have an autoscaler starts at its least number, and keeps what it runs with.
        (BOUNDS, {}, False, None, ("example", 2, 2)),
        (BOUNDS, {}, False, (5, "us"), ("example", 5, 5)),
        (BOUNDS, {}, False, (0, "us"), ("example", 2, 2)),
        (BOUNDS, {}, False, (0, "kubectl"), ("example", 2, 2)),
        # Once the autoscaler owns it, it is not sent.
        (BOUNDS, {"name": "example"}, True, (4, "kube-controller-manager"), ("example", None, None)),
        # Its own is no longer wanted: the variables decide again.
        ({}, {"name": "example"}, True, (4, "kube-controller-manager"), ("example", 3, 4)),
        ({}, {"name": "other"}, False, (4, "kube-controller-manager"), ("other", None, None)),
    ],
)
def test_who_decides_on_the_number_of_replicas(cluster, api, scaling, scaler, own, there, expected):
    if there:
        fields = [{"manager": there[1], "fieldsV1": {"f:spec": {"f:replicas": {}}}}]
        found = {"metadata": {"managedFields": fields}, "spec": {"replicas": there[0]}}
        cluster.answers |= {f"{DEPLOYMENTS}/example": found, f"{DEPLOYMENTS}/example/scale": found}
    asked = {"replicas": "3", "ignore": False}
    told = _serving_cluster.number_of_replicas(api, "triton", "example", "us", asked, scaling, {"scaler": scaler, "own": own})
    assert tuple(told[key] for key in ("autoscaler", "send_replicas", "replicas_before")) == expected


def test_an_autoscaler_is_refused_where_there_is_another_one_or_a_number_or_no_api(cluster, api):
    cluster.answers["/apis/apiregistration.k8s.io/v1/apiservices"] = {"items": []}
    told = _serving_cluster.autoscaler_problems(api, BOUNDS, {"scaler": {"name": "other"}, "own": False}, 3, "example")
    assert "replicaCount is 3, but the HorizontalPodAutoscaler other decides" in told[0] and "(triton_autoscaling: false)" in told[0]
    assert "the HorizontalPodAutoscaler other, which is not this release's" in told[1]
    assert told[2].endswith("but the cluster has no API custom.metrics.k8s.io. Install prometheus-adapter.")
    assert not _serving_cluster.autoscaler_problems(api, BOUNDS, {"scaler": {"name": "example"}, "own": True}, None, "example")
    keda = _serving_cluster.autoscaler_problems(api, {**BOUNDS, "method": "keda"}, {"scaler": {}, "own": False}, None, "example")
    assert len(keda) == 1 and "no CRDs of KEDA" in keda[0]
    cluster.answers["/apis/keda.sh"] = {"kind": "APIGroup"}
    assert not _serving_cluster.autoscaler_problems(api, {**BOUNDS, "method": "keda"}, {"scaler": {}, "own": False}, None, "example")


@pytest.mark.parametrize(("manager", "sent"), [("kube-controller-manager", None), ("us", 7)])
def test_replicas_are_left_to_the_autoscaler_once_it_owns_them(cluster, api, manager, sent):
    fields = [{"manager": manager, "fieldsV1": {"f:spec": {"f:replicas": {}}}}]
    cluster.answers[f"{DEPLOYMENTS}/example"] = {"metadata": {"managedFields": fields}, "spec": {"replicas": 7}}
    assert _serving_cluster.replicas_to_send(api, "triton", "example", "us", 1, "ours") == sent
    assert _serving_cluster.replicas_to_send(api, "triton", "example", "us", 1, "") == 1


def test_releases_of_models_are_in_use_that_run_or_could_be_put_back(cluster, api):
    args = ["--model-repository=s3://http://s3:8333/models/demo/releases/0123456789abcdef"]
    cluster.answers[f"{DEPLOYMENTS}/example"] = {"spec": {"template": {"spec": {"containers": [{"args": args}]}}}}
    kept = {"name": "example-release-1", "annotations": {"mlserving.triton/models": "s3://b/releases/fedcba9876543210"}}
    cluster.answers["/api/v1/namespaces/triton/configmaps"] = {"items": [{"metadata": kept}]}
    assert _serving_cluster.releases_in_use(api, "triton", "example", "example") == ["0123456789abcdef", "fedcba9876543210"]
    cluster.answers["/api/v1/namespaces/triton/configmaps"] = 403
    assert _serving_cluster.releases_in_use(api, "triton", "example", "gone") == []


def test_a_second_deployment_with_the_releases_labels_is_named(cluster, api):
    cluster.answers[DEPLOYMENTS] = {"items": [{"metadata": {"name": "other"}}, {"metadata": {"name": "example"}}]}
    assert "The Deployment other in namespace triton has the release's labels" in _serving_cluster.same_release(
        api, "triton", "example", {"release": "x"}
    )


def certificate(days):
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "triton")])
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    built = built.not_valid_before(now - datetime.timedelta(days=60)).not_valid_after(now + datetime.timedelta(days=days))
    return base64.b64encode(built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)).decode()


def test_a_certificate_must_be_there_and_valid(cluster, api):
    def problem():
        return _serving_cluster.tls_problem(api, "triton", "tls", "triton_grpc_tls_secret")

    cluster.answers[SECRET] = 404
    assert "there is no such Secret" in problem()
    cluster.answers[SECRET] = {"data": {"tls.crt": "eA=="}}
    assert "has no tls.key" in problem()
    cluster.answers[SECRET] = {"data": {"tls.crt": "eA==", "tls.key": "eA=="}}
    assert "is no certificate in PEM" in problem()
    cluster.answers[SECRET] = {"data": {"tls.crt": certificate(-1), "tls.key": "eA=="}}
    assert "whose certificate expired on" in problem()
    cluster.answers[SECRET] = {"data": {"tls.crt": certificate(1), "tls.key": "eA=="}}
    assert problem() == ""


def test_a_restricted_namespace_names_what_it_refuses(api):
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    assert 'enforces the level "restricted"' in _serving_cluster.security_problem(api, "triton", {"containers": [{"name": "x"}]}, labels)
    assert _serving_cluster.security_problem(api, "triton", {"containers": [{"name": "x"}]}, {}) == ""
