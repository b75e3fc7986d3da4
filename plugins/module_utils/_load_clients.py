# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends one prepared request over HTTP or gRPC, with as little work around it as there can be. PRIVATE to the collection."""

from __future__ import annotations

import errno
import re
import select
import socket
import ssl
import time

from ansible_collections.mlserving.triton.plugins.module_utils._load_job import Failure, Job, OwnLimit

try:
    import grpc
except ImportError:
    grpc = None  # The modules report it through _triton_client.IMPORT_ERROR before a load begins.

METHOD = "/inference.GRPCInferenceService/ModelInfer"
PIECE = 2**18
#: A server that was asked to close a connection has so many seconds for it, so that the port it used waits at its end and not at ours.
CLOSE_SECONDS = 1.0
OWN_LIMITS = {
    errno.EADDRNOTAVAIL: "no free local port",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.ENOBUFS: "no buffer space",
}
KINDS = {errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.EPIPE: "reset", errno.ECONNABORTED: "reset"}
KINDS |= {errno.EHOSTUNREACH: "unreachable", errno.ENETUNREACH: "unreachable", errno.ETIMEDOUT: "timed out"}
#: What gRPC says of a connection -> the same kinds.
GRPC_KINDS = (
    ("cannot assign requested address", None),
    ("too many open files", None),
    ("connection refused", "refused"),
    ("connection reset|broken pipe", "reset"),
    ("socket closed|goaway|connection closed|transport closed", "closed early"),
    ("no route to host|network is unreachable", "unreachable"),
    ("dns resolution failed|domain name not found|name or service not known", "name not found"),
)
#: Every client has a connection of its own, which is tried again soon; messages have no limit.
CHANNEL = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # It bounds the opening of a connection, too: a server that is busy takes its time.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 500),
]


class HttpLink:
    """One client over HTTP/1.1.

    ``opened`` counts its connections; ``header`` is the length of the last answer's JSON, 0 if it is all JSON; ``ended`` is when the last request's outcome
    was there, on the monotonic clock.
    """

    def __init__(self, job: Job):
        self._job, self._socket, self.opened, self.header, self.ended = job, None, 0, 0, 0.0
        self._tls = ssl.create_default_context(cafile=job.ca or None) if job.secure else None

    def ask(self) -> bytes:
        """Send the request; return the answer's body.

        :raises Failure: the server refused it or did not answer
        :raises OwnLimit: it could not be sent
        """
        if self._socket and self._is_closed():
            self.close()
        try:
            if not self._socket:
                self._connect()
            self._socket.sendall(self._job.request)
            try:
                status, body, keep = self._receive()
                self.ended = time.monotonic()
            except ValueError as error:
                raise Failure("no HTTP answer", str(error)) from None
            if self._job.fresh or not keep:
                self._part()
        except (OSError, Failure) as error:
            self.ended = time.monotonic()
            self.close()
            raise _failure(error) if isinstance(error, OSError) else error from None
        if status != 200:
            raise Failure(f"HTTP {status}", body[:200].decode("utf-8", "replace"))
        return body

    def close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        connected = socket.create_connection((self._job.host, self._job.port), self._job.timeout)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self.opened += 1
        if self._tls:
            self._socket = self._tls.wrap_socket(connected, server_hostname=self._job.host)

    def _is_closed(self) -> bool:
        """Whether the server ended the connection while nothing was asked, which loses no request."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        return bool(waiting.poll(0))

    def _part(self) -> None:
        """Let the server close first."""
        self._socket.settimeout(CLOSE_SECONDS)
        try:
            while self._socket.recv(PIECE):
                pass
        except OSError:
            pass
        self.close()

    def _more(self, data: bytearray) -> None:
        piece = self._socket.recv(PIECE)
        if not piece:
            raise Failure("closed early", f"after {len(data)} bytes of the answer")
        data += piece

    def _receive(self) -> tuple[int, bytes, bool]:
        """Return (status, body, whether the connection stays open)."""
        data = bytearray()
        while (end := data.find(b"\r\n\r\n")) < 0:
            self._more(data)
        first, *lines = bytes(data[:end]).split(b"\r\n")
        if not re.match(rb"HTTP/1\.[01] \d{3}", first):
            raise Failure("no HTTP answer", first[:80].decode("utf-8", "replace"))
        headers = {name.strip().lower(): value.strip() for name, _colon, value in (line.partition(b":") for line in lines)}
        del data[: end + 4]
        self.header = int(headers.get(b"inference-header-content-length", 0))
        keep = headers.get(b"connection", b"").lower() != b"close" and first.startswith(b"HTTP/1.1")
        if b"chunked" in headers.get(b"transfer-encoding", b"").lower():
            return int(first[9:12]), self._chunks(data), keep
        length = int(headers.get(b"content-length", 0))
        while len(data) < length:
            self._more(data)
        return int(first[9:12]), bytes(data), keep

    def _chunks(self, data: bytearray) -> bytes:
        body = bytearray()
        while True:
            while (end := data.find(b"\r\n")) < 0:
                self._more(data)
            size = int(bytes(data[:end]).partition(b";")[0], 16)
            while len(data) < end + size + 4:
                self._more(data)
            body += data[end + 2 : end + 2 + size]
            del data[: end + size + 4]
            if not size:
                return bytes(body)


class GrpcLink:
    """One client over gRPC, as :class:`HttpLink`."""

    header = 0

    def __init__(self, job: Job):
        self._job, self._channel, self._call, self.opened, self.ended = job, None, None, 0, 0.0
        self._credentials = None
        if job.secure:
            self._credentials = grpc.ssl_channel_credentials(_content(job.ca) if job.ca else None)

    def ask(self) -> bytes:
        """Send the request; return the serialized answer.

        :raises Failure: the server refused it or did not answer
        :raises OwnLimit: it could not be sent
        """
        if not self._channel:
            address = f"[{self._job.host}]:{self._job.port}" if ":" in self._job.host else f"{self._job.host}:{self._job.port}"
            self._channel = grpc.secure_channel(address, self._credentials, CHANNEL) if self._credentials else grpc.insecure_channel(address, CHANNEL)
            self._call = self._channel.unary_unary(METHOD)
            self.opened += 1
        try:
            return self._call(self._job.request, timeout=self._job.timeout, metadata=self._job.metadata)
        except grpc.RpcError as error:
            raise _grpc_failure(error.code().name, error.details() or "") from None
        finally:
            self.ended = time.monotonic()
            if self._job.fresh:
                self.close()

    def close(self) -> None:
        if self._channel:
            self._channel.close()
            self._channel = None


LINKS = {"http": HttpLink, "grpc": GrpcLink}


def _content(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def _failure(error: OSError) -> Exception:
    if error.errno in OWN_LIMITS:
        return OwnLimit(OWN_LIMITS[error.errno])
    if isinstance(error, TimeoutError):
        return Failure("timed out")
    if isinstance(error, ssl.SSLEOFError):
        return Failure("closed early", "during the TLS handshake or the answer")
    if isinstance(error, ssl.SSLError):
        return Failure("TLS failed", getattr(error, "verify_message", "") or error.reason or str(error))
    if isinstance(error, socket.gaierror):
        return Failure("name not found", error.strerror or "")
    return Failure(KINDS.get(error.errno, "connection failed"), error.strerror or str(error))


def _grpc_failure(code: str, details: str) -> Exception:
    details = " ".join(details.split())
    if code == "DEADLINE_EXCEEDED":
        return Failure("timed out")
    if code == "UNAVAILABLE":
        for pattern, kind in GRPC_KINDS:
            if re.search(pattern, details, re.I):
                limit = "no free local port" if "address" in pattern else pattern
                return Failure(kind, details[-200:]) if kind else OwnLimit(limit)
    return Failure(f"gRPC {code}", details[:200])
