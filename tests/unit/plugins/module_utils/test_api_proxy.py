# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import http.client
import json
import socket
import time

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _api_proxy
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_triton import FakeApiServer

BYTES = bytes(range(256))


@pytest.fixture
def server():
    with FakeApiServer() as running:
        running.answer = (200, {"Content-Type": "application/octet-stream", "X-Length": "7"}, BYTES)
        yield running


def ask(address, method="GET", path="/v2/health/live", body=None, **headers):
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def refused(server):
    """Return the proxy after a request that was not passed on."""
    proxy = _api_proxy.ApiProxy(server.api, "triton", "pod-1", 8000)
    with proxy as address, pytest.raises(http.client.RemoteDisconnected):
        ask(address)
    return proxy


def test_a_request_goes_through_the_proxy_of_the_pod_as_it_is(server):
    with _api_proxy.ApiProxy(server.api, "triton", "pod-1", 8000) as address:
        ask(address, "POST", "/v2/models/m/infer?x=1", BYTES, Inference_Header_Content_Length="7", X_Key="k")
    method, path, headers, body = server.seen[0]
    assert (method, path, body) == ("POST", "/api/v1/namespaces/triton/pods/pod-1:8000/proxy/v2/models/m/infer?x=1", BYTES)
    assert headers["inference-header-content-length"] == "7" and headers["x-key"] == "k"


def test_the_answer_comes_back_as_it_is(server):
    server.answer = (404, *server.answer[1:])
    with _api_proxy.ApiProxy(server.api, "triton", "pod-1", 8000) as address:
        status, headers, body = ask(address)
    assert (status, body) == (404, BYTES) and headers["Content-Type"] == "application/octet-stream" and headers["X-Length"] == "7"


def test_the_api_server_gets_the_accounts_token_and_never_the_clients(server):
    with _api_proxy.ApiProxy(server.api, "triton", "pod-1", 8000) as address:
        ask(address, Authorization="Basic c2VjcmV0")
    assert server.seen[0][2]["authorization"] == "Bearer token-1"


def test_an_account_without_a_token_sends_none(server):
    server.api.configuration.api_key = {}
    with _api_proxy.ApiProxy(server.api, "triton", "pod-1", 8000) as address:
        ask(address, Authorization="Basic c2VjcmV0")
    assert "authorization" not in server.seen[0][2]


def test_a_right_that_is_missing_is_told(server):
    server.forbidden = ("proxy",)
    proxy = refused(server)
    assert proxy.forbidden and proxy.problem.startswith('the API server\'s proxy: pods "pod-1" is forbidden') and "pods/proxy" in proxy.problem


def test_a_pod_that_is_out_of_reach_is_told_and_may_pass(server):
    status = {"kind": "Status", "message": "error trying to reach service: dial tcp 10.0.0.9:8000: connection refused", "code": 503}
    server.answer = (503, {"Content-Type": "application/json"}, json.dumps(status).encode())
    proxy = refused(server)
    assert not proxy.forbidden and proxy.problem == f"the API server's proxy: {status['message']}"


def test_json_of_the_pod_is_no_status(server):
    server.answer = (503, {"Content-Type": "application/json"}, b'{"error": "Server exiting"}')
    proxy = _api_proxy.ApiProxy(server.api, "triton", "pod-1", 8000)
    with proxy as address:
        assert ask(address)[0] == 503 and proxy.problem == ""


def test_an_api_server_that_is_gone_is_told(server):
    # Bound, so that nobody else takes the port meanwhile, but not listening.
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server.api.configuration.host = "http://127.0.0.1:%d" % bound.getsockname()[1]
        proxy = refused(server)
    assert not proxy.forbidden and proxy.problem == "the API server does not answer (NewConnectionError)"


def test_a_request_that_is_answered_again_leaves_no_problem(server):
    proxy = _api_proxy.ApiProxy(server.api, "triton", "pod-1", 8000)
    with proxy as address:
        server.forbidden = ("proxy",)
        with pytest.raises(http.client.RemoteDisconnected):
            ask(address)
        server.forbidden = ()
        assert ask(address)[0] == 200 and proxy.problem == ""


def test_a_client_that_hangs_up_is_no_fault(server, capfd):
    server.answer = (200, {}, b"x" * 10**7)
    with _api_proxy.ApiProxy(server.api, "triton", "pod-1", 8000) as address:
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        until = time.monotonic() + 2
        while not server.seen and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
    assert "Traceback" not in capfd.readouterr().err
