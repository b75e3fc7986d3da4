# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP port of a pod, reached through the API server's proxy, as an address on the loopback interface. PRIVATE to the collection.

It needs the right to get and create pods/proxy where a tunnel needs pods/portforward, and carries HTTP only.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster

try:
    from urllib3.exceptions import HTTPError
    from urllib3.util import Timeout
except ImportError:
    HTTPError = OSError  # The modules report it through _cluster.from_module before a proxy is made.

#: Headers of one connection only, and those that the API server wants for itself.
NOT_PASSED_ON = frozenset(("host", "connection", "authorization", "content-length", "transfer-encoding", "accept-encoding", "keep-alive"))


class ApiProxy:
    """A listener on 127.0.0.1 that hands each request to ``port`` of the pod; a context manager, which returns "127.0.0.1:PORT".

    ``problem`` holds in words why the API server did not pass the last request on, or nothing; ``forbidden``: the account may not.
    """

    def __init__(self, api, namespace: str, pod: str, port: int):
        self.problem, self.forbidden = "", False
        self._api = api
        self._base = f"{api.configuration.host}/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy"

    def __enter__(self) -> str:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads, self._server.block_on_close, self._server.proxy = True, False, self
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="API proxy", daemon=True).start()
        return "127.0.0.1:%d" % self._server.server_port

    def __exit__(self, *_exception) -> None:
        self._server.shutdown()
        self._server.server_close()

    def pass_on(self, method: str, path: str, headers: dict, body: bytes):
        """Return the answer (urllib3) of the pod, or None if the API server did not pass the request on."""
        connect, read = _cluster.REQUEST_TIMEOUT
        limits = Timeout(connect=connect, read=read)
        token = self._api.configuration.auth_settings().get("BearerToken")
        headers = headers | ({token["key"]: token["value"]} if token else {})
        try:
            answer = self._api.rest_client.pool_manager.request(
                method, self._base + path, headers=headers, body=body, retries=False, redirect=False, timeout=limits
            )
        except HTTPError as error:
            self.problem = f"the API server does not answer ({type(error).__name__})"
            return None
        self.problem = ""
        status = _status(answer)
        if status:
            self.problem = f"the API server's proxy: {status.get('message') or status.get('reason')}"
            self.forbidden = answer.status == 403
            return None
        return answer


def _status(answer) -> dict:
    """Return the API server's own object Status; nothing if the answer is the pod's."""
    with contextlib.suppress(ValueError):
        content = json.loads(answer.data) if "json" in answer.headers.get("Content-Type", "") else {}
        if isinstance(content, dict) and content.get("kind") == "Status":
            return content
    return {}


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address) -> None:
        """Print nothing: a client that does not wait for its answer is no fault."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_args) -> None:
        """Print nothing: a module's output is its result."""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_PASSED_ON}
        answer = self.server.proxy.pass_on(self.command, self.path, headers, body)
        if answer is None:
            # As if there were no server: the reason stands in ``problem``.
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in NOT_PASSED_ON:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.data)))
        self.end_headers()
        self.wfile.write(answer.data)

    do_GET = do_POST = _pass_on
