# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _removal
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster

OURS = {"app.kubernetes.io/managed-by": "mlserving.triton", "app.kubernetes.io/instance": "example"}
SERVICES = "/api/v1/namespaces/triton/services"


def entry(name="x", labels=None, **metadata):
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "namespace": "triton",
        "name": name,
        "labels": OURS if labels is None else labels,
        "path": SERVICES,
        "metadata": {"uid": f"uid-{name}", "resourceVersion": "1", **metadata},
    }


@pytest.fixture
def cluster():
    with FakeCluster() as server:
        yield server


@pytest.fixture
def api(cluster):
    return _cluster.connect(_cluster.resolve({"host": cluster.url}, {}))


def test_what_is_ours_goes_and_what_it_owns_is_not_asked_for():
    owned = entry("owned", ownerReferences=[{"uid": "uid-x", "kind": "Deployment", "name": "x"}])
    ours, left, others = _removal.sort([entry(), owned, entry("theirs", {}), entry("other", OURS | {"app.kubernetes.io/instance": "b"})], "example")
    assert ([each["name"] for each in ours], left, [each["name"] for each in others]) == (["x"], {}, ["theirs", "other"])


def test_what_something_outside_the_namespace_owns_is_somebody_elses_and_what_is_on_its_way_out_is_not():
    owned = entry("owned", {}, ownerReferences=[{"uid": "elsewhere"}])
    assert _removal.sort([owned, entry("going", {}, deletionTimestamp="now")], "example") == ([], {}, [owned])


@pytest.mark.parametrize(
    ("labels", "metadata", "why"),
    [
        (OURS, {"ownerReferences": [{"uid": "9", "kind": "Fleet", "name": "all"}]}, "Fleet all owns it"),
        (OURS, {"annotations": {"meta.helm.sh/release-name": "theirs"}}, "Helm, as release theirs, manages it"),
        (OURS | {"kustomize.toolkit.fluxcd.io/name": "apps"}, {}, "Flux, as kustomization apps, manages it"),
        ({"release": "example", "app.kubernetes.io/managed-by": "them"}, {"managedFields": [{"manager": "mlserving.triton"}]}, "is 'them'"),
    ],
)
def test_what_others_have_taken_over_stays_and_is_named(labels, metadata, why):
    ours, left, others = _removal.sort([entry(labels=labels, **metadata)], "example")
    assert not ours and not others and why in left["Service triton/x"]


def test_somebody_elses_object_with_a_label_like_ours_is_just_another_one():
    assert _removal.sort([entry(labels={"release": "example"}, managedFields=[{"manager": "helm"}])], "example")[1:] == (
        {},
        [entry(labels={"release": "example"}, managedFields=[{"manager": "helm"}])],
    )


def test_an_edit_by_hand_is_told():
    assert _removal.edited([entry(managedFields=[{"manager": "kubectl-edit"}, {"manager": "mlserving.triton"}])]) == {
        "Service triton/x": "kubectl-edit"
    }


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"finalizers": ["example.com/hold"], "deletionTimestamp": "now"}, "its finalizer example.com/hold has not been removed"),
        ({"finalizers": ["foregroundDeletion"], "deletionTimestamp": "now"}, "what it owns, such as pods"),
        ({"deletionTimestamp": "now"}, "grace period"),
        ({}, "it was not deleted"),
    ],
)
def test_what_does_not_go_in_time_is_explained(cluster, api, metadata, why):
    cluster.answers[f"{SERVICES}/x"] = {"metadata": {"uid": "uid-x", "resourceVersion": "1", **metadata}}
    assert why in _removal.wait(api, entry(), time.monotonic())


def test_an_object_that_another_one_has_replaced_is_gone(cluster, api):
    cluster.answers[f"{SERVICES}/x"] = {"metadata": {"uid": "another", "resourceVersion": "1"}}
    assert _removal.wait(api, entry(), time.monotonic() + 60) == ""


def test_the_wait_ends_with_the_object(cluster, api):
    cluster.answers[f"{SERVICES}/x"] = {"metadata": {"uid": "uid-x", "resourceVersion": "1", "finalizers": ["hold"]}}

    def gone():
        del cluster.answers[f"{SERVICES}/x"]
        return {"type": "DELETED"}

    cluster.on_watch = gone
    assert _removal.wait(api, entry(), time.monotonic() + 60) == ""


def test_an_address_that_still_answers_is_not_released(cluster, api):
    ours = [("127.0.0.1", cluster.server_port)]
    assert "still answers" in _removal._wait_for_address(api, ours, time.monotonic())
    assert _removal._wait_for_address(api, [("127.0.0.1", 1)], time.monotonic()) == ""
    cluster.answers["/api/v1/services"] = {"items": [{"status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}}]}
    assert _removal._wait_for_address(api, ours, time.monotonic()) == ""


def test_a_stuck_namespace_is_explained(cluster, api):
    condition = {"type": "NamespaceFinalizersRemaining", "status": "True", "message": "Some content has finalizers remaining"}
    gone = {"type": "Available", "status": "False", "message": "no endpoints"}
    cluster.answers |= {
        "/api/v1/namespaces/triton": {"metadata": {"name": "triton"}, "status": {"conditions": [condition]}},
        "/apis/apiregistration.k8s.io/v1/apiservices": {"items": [{"metadata": {"name": "v1.metrics"}, "status": {"conditions": [gone]}}]},
    }
    why = _removal.why_namespace_stays(api, "triton", [entry(finalizers=["example.com/hold"])])
    assert "objects with finalizers: Service triton/x (example.com/hold)" in why and "APIService v1.metrics is not available (no endpoints)" in why
    assert condition["message"] in why


def test_a_claim_goes_only_by_name_and_not_while_others_use_it(cluster, api):
    claims, pods = "/api/v1/namespaces/triton/persistentvolumeclaims", "/api/v1/namespaces/triton/pods"
    volume = {"volumes": [{"persistentVolumeClaim": {"claimName": "busy"}}]}
    cluster.answers |= {f"{claims}/{name}": {"metadata": {"uid": name}} for name in ("mine", "busy", "unnamed")}
    cluster.answers[pods] = {"items": [{"metadata": {"name": "theirs"}, "spec": volume}]}
    found, left = _removal.claims(api, "triton", ["mine", "busy", "absent"], "example")
    assert [each["name"] for each in found] == ["mine"] and left == {"PersistentVolumeClaim triton/busy": "the pod theirs uses it"}
    assert _removal.claims(api, "triton", [], "example") == ([], {})
