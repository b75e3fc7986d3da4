# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import http.server
import threading
import time

import pytest
from ansible_collections.mlserving.triton.plugins.module_utils import _triton_metrics
from ansible_collections.mlserving.triton.plugins.module_utils._triton_client import TritonError

TEXT = """# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="simple",version="1"} 3
nv_inference_request_success{model="simple",version="2"} 4
nv_inference_request_success{gpu_uuid="GPU-1",model="other",version="1"} 1e2
nv_inference_request_failure{model="simple",reason="OTHER",version="1"} 9
nv_inference_request_success_rate{model="simple"} 1
"""


def test_requests_are_counted_by_model():
    assert _triton_metrics.count(TEXT) == {"simple": 7, "other": 100}


@pytest.fixture
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            """Keep the test's output clean."""

        def do_GET(self) -> None:
            self.send_response(self.server.status)
            self.end_headers()
            self.wfile.write(self.server.text.encode())

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.status, found.text = 200, TEXT
        threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
        yield found
        found.shutdown()


def answered(port):
    return _triton_metrics.Metrics(f"127.0.0.1:{port}", time.monotonic() + 5).answered()


def test_they_are_read_over_http(server):
    assert answered(server.server_port) == {"simple": 7, "other": 100}


@pytest.mark.parametrize(("status", "text"), [(404, TEXT), (200, "go_goroutines 7")])
def test_what_is_no_triton_is_told(server, status, text):
    server.status, server.text = status, text
    with pytest.raises(TritonError, match="the metrics are not Triton's"):
        answered(server.server_port)


def test_nobody_there_may_pass():
    with pytest.raises(TritonError, match="no answer") as caught:
        answered(9)
    assert caught.value.connection
