# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tunnel against an API server in this process that speaks the port-forward protocol over websockets."""

from __future__ import annotations

import base64
import hashlib
import http.server
import socket
import struct
import threading
from types import SimpleNamespace

import kubernetes.client
import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _tunnel

REFUSED = "error forwarding port 8000 to pod 1a, uid : failed to connect: dial tcp4 127.0.0.1:8000: connect: connection refused"


class ApiServer(http.server.ThreadingHTTPServer):
    """Forwards to a server that answers with capitals. ``error`` goes to the error channel in place of that."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.error, self.paths = "", []
        self.api = SimpleNamespace(configuration=kubernetes.client.Configuration(host=f"http://127.0.0.1:{self.server_port}"))


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        if "/missing/" in self.path:
            body = b'{"kind": "Status", "message": "pods \\"missing\\" not found", "code": 404}'
            self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        accept = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        self.send_response(101)
        for name, value in {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": base64.b64encode(accept).decode()}.items():
            self.send_header(name, value)
        self.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
        self.end_headers()
        for channel in (0, 1):
            self.write(bytes([channel]) + struct.pack("<H", 8000))
        if self.server.error:
            self.write(b"\x01" + self.server.error.encode())
        while message := self.read():
            self.write(b"\x00" + message[1:].upper())
        self.close_connection = True

    def write(self, payload: bytes) -> None:
        size = struct.pack("!B", len(payload)) if len(payload) < 126 else struct.pack("!BQ", 127, len(payload))
        self.wfile.write(b"\x82" + size + payload)

    def read(self) -> bytes:
        """Return the next binary message, empty at the end."""
        head = self.rfile.read(2)
        if len(head) < 2 or head[0] & 15 != 2:
            return b""
        size = head[1] & 127
        if size > 125:
            size = int.from_bytes(self.rfile.read({126: 2, 127: 8}[size]))
        mask, data = self.rfile.read(4), self.rfile.read(size)
        # XOR of two large numbers is the quick way to unmask.
        key = (mask * (size // 4 + 1))[:size]
        return (int.from_bytes(data) ^ int.from_bytes(key)).to_bytes(size)


@pytest.fixture
def server():
    with ApiServer() as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield running
        running.shutdown()


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (part := connection.recv(65536)):
        data += part
    return data


def test_connections_are_carried_to_the_pod_side_by_side(server):
    with _tunnel.Tunnel(server.api, "triton", "pod-1", 8000) as address:
        connections = [connect(address) for _each in range(3)]
        for number, connection in enumerate(connections):
            connection.sendall(b"hello %d" % number)
        assert [receive(connection, 7) for connection in connections] == [b"HELLO 0", b"HELLO 1", b"HELLO 2"]
        for connection in connections:
            connection.close()
    assert server.paths == ["/api/v1/namespaces/triton/pods/pod-1/portforward?ports=8000"] * 3


def test_a_large_tensor_passes_both_ways_at_once(server):
    tensor = b"abcdefgh" * (1 << 18)
    with _tunnel.Tunnel(server.api, "triton", "pod-1", 8000) as address, connect(address) as connection:
        threading.Thread(target=connection.sendall, args=(tensor,), daemon=True).start()
        assert receive(connection, len(tensor)) == tensor.upper()


def test_leaving_closes_what_is_open(server):
    with _tunnel.Tunnel(server.api, "triton", "pod-1", 8000) as address:
        connection = connect(address)
        connection.sendall(b"x")
        assert receive(connection, 1) == b"X"
    assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(address)


@pytest.mark.parametrize(
    ("pod", "error", "words"),
    [
        ("missing", "", 'the API server did not open port 8000 of pod missing: pods "missing" not found'),
        ("pod-1", REFUSED, "nothing listens on port 8000 of pod pod-1 (connection refused)"),
        ("pod-1", "lost connection\nto pod", "port 8000 of pod pod-1: lost connection to pod"),
    ],
)
def test_a_failure_is_told_in_words(server, pod, error, words):
    server.error = error
    tunnel = _tunnel.Tunnel(server.api, "triton", pod, 8000)
    with tunnel as address, connect(address) as connection:
        assert connection.recv(1) == b""
        assert tunnel.problem == words


def test_an_api_server_that_is_gone_is_told(server):
    server.api.configuration.host = "http://127.0.0.1:1"
    tunnel = _tunnel.Tunnel(server.api, "triton", "pod-1", 8000)
    with tunnel as address, connect(address) as connection:
        assert connection.recv(1) == b""
    assert "did not open port 8000 of pod pod-1" in tunnel.problem and "refused" in tunnel.problem
