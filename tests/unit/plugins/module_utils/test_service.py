# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Service is one of an API server in this process."""

from __future__ import annotations

import time

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _service
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster

PATH = "/api/v1/namespaces/triton/services/demo"


def service(*ingress, kind="LoadBalancer"):
    ports = [
        {"name": "http-inference-server", "port": 8000},
        {"name": "grpc-inference-server", "port": 8001},
        {"name": "metrics-inference-server", "port": 8002},
    ]
    return {
        "metadata": {"name": "demo", "resourceVersion": "7"},
        "spec": {"type": kind, "ports": ports},
        "status": {"loadBalancer": {"ingress": list(ingress)} if ingress else {}},
    }


@pytest.fixture
def cluster():
    with FakeCluster() as server:
        yield server


def address(cluster, seconds=5):
    return _service.address(_cluster.connect(_cluster.resolve({"host": cluster.url}, {})), "triton", "demo", time.monotonic() + seconds)


def refusal(cluster, seconds=5):
    with pytest.raises(_cluster.ClusterError) as raised:
        address(cluster, seconds)
    return str(raised.value)


@pytest.mark.parametrize(
    ("ingress", "host"),
    [({"ip": "192.0.2.7"}, "192.0.2.7"), ({"hostname": "lb.example.com"}, "lb.example.com"), ({"ip": "2001:db8::7"}, "[2001:db8::7]")],
)
def test_the_address_that_a_load_balancer_gave(cluster, ingress, host):
    cluster.answers[PATH] = service(ingress)
    assert address(cluster) == (f"http://{host}:8000", f"{host}:8001")


def test_a_port_that_the_service_does_not_have_has_no_address(cluster):
    cluster.answers[PATH] = service({"ip": "192.0.2.7"})
    del cluster.answers[PATH]["spec"]["ports"][1]
    assert address(cluster) == ("http://192.0.2.7:8000", "")


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_other_types_have_none(cluster, kind):
    cluster.answers[PATH] = service(kind=kind)
    assert address(cluster) is None


def test_an_address_that_comes_later_is_waited_for(cluster):
    cluster.answers[PATH] = service()

    def give():
        cluster.answers[PATH] = service({"ip": "192.0.2.7"})
        return {"type": "MODIFIED", "object": cluster.answers[PATH]}

    cluster.on_watch = give
    assert address(cluster) == ("http://192.0.2.7:8000", "192.0.2.7:8001")


def test_no_address_in_time_says_what_gives_one(cluster):
    cluster.answers[PATH] = service()
    message = refusal(cluster, 0.5)
    assert "the Service triton/demo is of type LoadBalancer and was given no address in time" in message
    assert "MetalLB" in message and "triton_service_type (the chart's service.type)" in message


def test_a_service_that_is_not_there_or_may_not_be_watched(cluster):
    assert "reading the Service triton/demo" in refusal(cluster)
    cluster.answers[PATH], cluster.on_watch = service(), lambda: 403
    message = refusal(cluster)
    assert "reading the Service triton/demo: forbidden: not for you (403)" in message
