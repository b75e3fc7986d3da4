# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A port of a pod, reached through the API server, as an address on the loopback interface.

PRIVATE to the collection. Any client that takes host:port can then talk to any pod of a cluster whose API server is
reachable, without an ingress and without a route to the pod network.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading

try:
    import kubernetes.client
    import kubernetes.stream
except ImportError:
    # The modules report it through _cluster.from_module before a tunnel is made.
    kubernetes = None

CHUNK = 256 * 1024


class Tunnel:
    """A listener on 127.0.0.1 that carries each connection to ``port`` of the pod; a context manager.

    Entering it returns "127.0.0.1:PORT". Nothing is sent to the API server before the first connection. Several
    connections may be open at a time. ``problem`` holds in words why the last connection failed, or an empty text; ``forbidden``: the account
    may not forward ports.

    :param api: a ``kubernetes.client.ApiClient``; only its configuration is used
    :param local_port: the listener's port; 0 takes one that is free
    :raises OSError: the port is not free, or none is, on the loopback interface
    """

    def __init__(self, api, namespace: str, pod: str, port: int, local_port: int = 0):
        self._configuration = api.configuration
        self._where, self._local_port = (namespace, pod, port), local_port
        self._lock = threading.Lock()
        self._open: set = set()
        self._closed = False
        self._refusal = ""
        self._forward = None
        self.forbidden = False

    @property
    def problem(self) -> str:
        """Why the last connection failed."""
        _namespace, pod, port = self._where
        told = self._forward.error(port) if self._forward else None
        return forward_reason(told, pod, port) if told else self._refusal

    def __enter__(self) -> str:
        self._listener = socket.create_server(("127.0.0.1", self._local_port))
        threading.Thread(target=self._accept, name="tunnel listener", daemon=True).start()
        return "127.0.0.1:%d" % self._listener.getsockname()[1]

    def __exit__(self, *_exception) -> None:
        with self._lock:
            self._closed = True
            ends = [self._listener, *self._open]
        for end in ends:
            _close(end)

    def _accept(self) -> None:
        while True:
            try:
                local = self._listener.accept()[0]
            except OSError:
                # The listener was closed, which is how a tunnel ends.
                return
            threading.Thread(target=self._carry, args=(local,), name="tunnel connection", daemon=True).start()

    def _carry(self, local: socket.socket) -> None:
        """Connect to the pod and pump bytes both ways until either side ends."""
        namespace, pod, port = self._where
        # An answer arrives in pieces; without this each one but the first waits 40 ms for an acknowledgement.
        local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # portforward() replaces a method of the ApiClient that it is given, so each connection has its own.
        core = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(self._configuration))
        try:
            forward = kubernetes.stream.portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
        except kubernetes.client.ApiException as error:
            self.forbidden = "Handshake status 403" in str(error.reason)
            self._refusal = f"the API server did not open port {port} of pod {pod}: {handshake_reason(error)}"
            _close(local)
            return
        self._forward, remote = forward, forward.socket(port)
        with self._lock:
            self._open |= {local, remote}
            closed = self._closed
        if not closed:
            # Two threads: a single loop would block in one direction while the library waits for the other one.
            back = threading.Thread(target=_pump, args=(remote, local), name="tunnel pump", daemon=True)
            back.start()
            _pump(local, remote)
            back.join()
        for end in (local, remote):
            _close(end)
        with self._lock:
            self._open -= {local, remote}


def _pump(source, sink) -> None:
    """Copy bytes until either end closes, then wake the pump of the other direction."""
    # Either end may be closed by its owner, the tunnel's exit included: that is the end of the copy, not a fault.
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _close(end) -> None:
    # shutdown() wakes a thread that waits in accept() or recv(), close() alone does not.
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def handshake_reason(error) -> str:
    """Return in one line why the API server refused the port-forward.

    The library reports "Handshake status 404 Not Found -+-+- HEADERS -+-+- BODY"; the body is a Status object.
    """
    text = str(error.reason)
    found = re.search(r"\{.*\}", text.rsplit("-+-+-", 1)[-1])
    if found:
        with contextlib.suppress(ValueError, KeyError):
            return json.loads(found.group().replace('\\\\"', '\\"').replace("\\n", ""))["message"]
    return text.split(" -+-+-", 1)[0]


def forward_reason(text: str, pod: str, port: int) -> str:
    """Return in one line what the kubelet wrote on the error channel."""
    if "connection refused" in text:
        return f"nothing listens on port {port} of pod {pod} (connection refused)"
    return f"port {port} of pod {pod}: {' '.join(text.split())}"
