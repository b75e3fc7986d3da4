# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lists come from an API server in this process."""

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _objects
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster

ALL = ["create", "delete", "get", "list"]


def resource(name, kind, namespaced=True, verbs=None):
    return {"name": name, "kind": kind, "namespaced": namespaced, "verbs": verbs or ALL}


def item(name, namespace="triton", **metadata):
    return {"metadata": {"name": name, **({"namespace": namespace} if namespace else {}), **metadata}}


@pytest.fixture
def cluster():
    with FakeCluster() as server:
        core = [
            resource("configmaps", "ConfigMap"),
            resource("events", "Event"),
            resource("namespaces", "Namespace", namespaced=False),
            resource("pods/log", "Pod", verbs=["get"]),
            resource("bindings", "Binding", verbs=["create"]),
        ]
        server.answers |= {
            "/api/v1": {"resources": core},
            "/apis": {"groups": [group("apps", "v1", "v1beta9")]},
            "/apis/apps/v1": {"resources": [resource("deployments", "Deployment"), resource("replicasets", "ReplicaSet")]},
        }
        replicasets, deployments = [item("demo-1", ownerReferences=[{"uid": "1"}])], [item("demo", labels={"a": "b"})]
        put(server, "triton", {"/api/v1": {"configmaps": [item("settings"), item("kube-root-ca.crt")], "events": [item("noise")]}})
        put(server, "triton", {"/apis/apps/v1": {"replicasets": replicasets, "deployments": deployments}})
        yield server


def group(name, *versions):
    """Return an API group as discovery has it; its first version is the preferred one."""
    named = [{"groupVersion": f"{name}/{version}"} for version in versions]
    return {"name": name, "versions": named, "preferredVersion": named[0]}


def put(server, namespace, lists):
    """Put items at the paths of a namespace and of the whole cluster."""
    for prefix, resources in lists.items():
        for name, items in resources.items():
            server.answers[f"{prefix}/namespaces/{namespace}/{name}"] = {"items": items}
            server.answers[f"{prefix}/{name}"] = {"items": items}


def everything(server, namespace="triton"):
    return _objects.everything(_cluster.connect(_cluster.resolve({"host": server.url}, {})), namespace)


def names(found):
    return [f"{entry['apiVersion']} {entry['kind']} {entry['namespace']}/{entry['name']}" for entry in found]


def test_a_namespace_has_every_kind_that_can_be_deleted(cluster):
    found = everything(cluster)
    assert names(found) == ["v1 ConfigMap triton/settings", "apps/v1 Deployment triton/demo", "apps/v1 ReplicaSet triton/demo-1"]
    assert [(entry["labels"], entry["owned"]) for entry in found] == [({}, False), ({"a": "b"}, False), ({}, True)]
    assert not any("/namespaces/triton" not in path for path, _accept in cluster.requests if path.count("/") > 4)


def test_the_whole_cluster_has_also_what_is_in_no_namespace(cluster):
    put(cluster, "triton", {"/api/v1": {"namespaces": [item("triton", None)]}})
    assert "v1 Namespace None/triton" in names(everything(cluster, None))


def test_only_metadata_is_asked_for(cluster):
    everything(cluster)
    lists = [accept for path, accept in cluster.requests if "/namespaces/triton/" in path]
    assert len(lists) == 3 and all("as=PartialObjectMetadataList" in accept for accept in lists)


def test_a_custom_resource_is_seen(cluster):
    cluster.answers["/apis"]["groups"].append(group("example.com", "v2"))
    cluster.answers["/apis/example.com/v2"] = {"resources": [resource("things", "Thing")]}
    put(cluster, "triton", {"/apis/example.com/v2": {"things": [item("mine")]}})
    assert "example.com/v2 Thing triton/mine" in names(everything(cluster))


def test_a_kind_of_another_version_than_the_preferred_one_is_seen_and_one_of_both_only_once(cluster):
    cluster.answers["/apis"]["groups"].append(group("example.com", "v1", "v1alpha1"))
    both = resource("things", "Thing")
    cluster.answers |= {
        "/apis/example.com/v1": {"resources": [both]},
        "/apis/example.com/v1alpha1": {"resources": [both, resource("filters", "Filter")]},
    }
    put(cluster, "triton", {"/apis/example.com/v1": {"things": [item("mine")]}, "/apis/example.com/v1alpha1": {"filters": [item("theirs")]}})
    found = [each for each in names(everything(cluster)) if "example.com" in each]
    assert found == ["example.com/v1alpha1 Filter triton/theirs", "example.com/v1 Thing triton/mine"]


def test_a_kind_that_may_not_be_listed_counts_as_something(cluster):
    cluster.answers["/api/v1/namespaces/triton/configmaps"] = 403
    assert names(everything(cluster)) == ["v1 ConfigMap triton/*", "apps/v1 Deployment triton/demo", "apps/v1 ReplicaSet triton/demo-1"]


@pytest.mark.parametrize("status", [404, 405, 503])
def test_a_kind_that_cannot_be_listed_does_not_hide_the_others(cluster, status):
    cluster.answers["/api/v1/namespaces/triton/configmaps"] = status
    cluster.answers["/apis"]["groups"].append(group("gone", "v1"))
    cluster.answers["/apis/gone/v1"] = status
    assert names(everything(cluster)) == ["apps/v1 Deployment triton/demo", "apps/v1 ReplicaSet triton/demo-1"]


@pytest.mark.parametrize(("path", "status"), [("/apis", 403), ("/api/v1", 401), ("/api/v1/namespaces/triton/configmaps", 500)])
def test_a_list_that_is_not_whole_is_an_error(cluster, path, status):
    cluster.answers[path] = status
    with pytest.raises(_cluster.ClusterError, match=f"the cluster refused GET {path}: {status}"):
        everything(cluster)


@pytest.mark.parametrize("path", ["/apis/apps/v1", "/api/v1/namespaces/triton/configmaps"])
def test_a_connection_that_breaks_is_an_error_in_words(cluster, path):
    cluster.answers[path] = None
    with pytest.raises(_cluster.ClusterError, match=f"listing {path}: the cluster does not answer"):
        everything(cluster)
