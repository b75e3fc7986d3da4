# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import concurrent.futures
import http.server
import pathlib
import queue
import socket
import ssl
import threading
import time

import grpc
import numpy
import pytest
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as service
from tritonclient.utils import InferenceServerException

from ansible_collections.mlserving.triton.plugins.module_utils import _triton_client
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_triton import FakeTriton, make_certificate

ONES = numpy.ones(4, "int32")
#: What Triton 2.51.0 answered about and for the model simple of the role's example: each .http is all that came over the connection, asked with
#: "Connection: close", only that its head's lines end without a carriage return; each .pb is the gRPC message, serialized. infer and stream were
#: asked with INPUT0 = 0 to 15 and INPUT1 = 1.
RECORDED = pathlib.Path(__file__).parent / "fixtures" / "triton-2.51"
INPUTS = {"INPUT0": ("INT32", ONES), "INPUT1": ("INT32", ONES)}


@pytest.fixture
def triton():
    with FakeTriton() as server:
        yield server


@pytest.fixture(params=["http", "grpc"])
def connect(request):
    def open_client(address, seconds=5.0):
        chosen = address if isinstance(address, str) else getattr(address, request.param)
        return _triton_client.CLIENTS[request.param](chosen, time.monotonic() + seconds)

    return open_client


def test_both_protocols_tell_the_same(triton, connect):
    with connect(triton) as client:
        assert client.live() and client.ready()
        assert client.metadata()["version"] == "2.51.0"
        assert client.index() == [{"name": "simple", "version": "1", "state": "READY", "reason": ""}]
        answer = client.infer("simple", "", INPUTS, {})
    assert {name: (kind, array.tolist()) for name, (kind, array) in answer.items()} == {
        "OUTPUT0": ("INT32", [2, 2, 2, 2]),
        "OUTPUT1": ("INT32", [0, 0, 0, 0]),
    }


def test_a_refusal_is_told_in_the_servers_words(triton, connect):
    with connect(triton) as client, pytest.raises(
        _triton_client.TritonError, match="refused: Request for unknown model: 'nope' is not found"
    ) as caught:
        client.infer("nope", "", INPUTS, {})
    assert not caught.value.connection


def test_a_closed_port_may_answer_later(connect):
    # Bound, so that nobody else takes the port meanwhile, but not listening.
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % bound.getsockname()[1]
        with connect(address) as client, pytest.raises(_triton_client.TritonError, match=r"no answer \(connection refused\)") as caught:
            client.live()
    assert caught.value.connection


def test_a_connection_that_is_closed_at_once_may_be_answered_later(connect):
    def hang_up(listener):
        listener.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, args=(listener,), daemon=True).start()
        with connect("127.0.0.1:%d" % listener.getsockname()[1], 1.0) as client, pytest.raises(
            _triton_client.TritonError, match="no answer"
        ) as caught:
            client.live()
    assert caught.value.connection


def test_a_silent_server_ends_with_the_deadline(connect):
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with connect("127.0.0.1:%d" % listener.getsockname()[1], 0.4) as client, pytest.raises(_triton_client.TritonError) as caught:
            client.live()
    assert caught.value.connection and time.monotonic() - started < 5


def test_no_time_left_sends_nothing(triton, connect):
    with pytest.raises(_triton_client.TritonError, match="time was up"), connect(triton, -1) as client:
        client.live()


def test_another_kind_of_server_is_recognised(triton, monkeypatch):
    monkeypatch.setattr(triton._http.RequestHandlerClass, "do_GET", lambda self: self.answer(200, b"<html>"))
    with _triton_client.HttpClient(triton.http, time.monotonic() + 5) as client, pytest.raises(_triton_client.TritonError, match="not Triton's"):
        client.metadata()


@pytest.mark.parametrize("body", [b"[]", b"[1]", b"null", b"{}", b'"x"', b"[" * 5000, b"\xff", b""])
def test_an_answer_of_another_shape_is_no_traceback(triton, monkeypatch, body):
    monkeypatch.setattr(triton._http.RequestHandlerClass, "do_GET", lambda self: self.answer(200, body))
    with _triton_client.HttpClient(triton.http, time.monotonic() + 5) as client, pytest.raises(_triton_client.TritonError, match="not Triton's"):
        client.metadata()


@pytest.mark.parametrize("address", ["http://x:port", "http://", "http://127.0.0.1:99999", "http://[::1"])
def test_an_address_that_is_none_is_told(address):
    with pytest.raises(_triton_client.TritonError, match="is no host:port") as caught, _triton_client.HttpClient(address, time.monotonic() + 1):
        pass
    assert not caught.value.connection


def test_an_answer_that_comes_in_drops_ends_with_the_deadline():
    def drip(listener):
        with listener.accept()[0] as connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while time.monotonic() < started + 2:
                connection.sendall(b"x")
                time.sleep(0.05)

    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_quietly, args=(drip, listener), daemon=True).start()
        with _triton_client.HttpClient("127.0.0.1:%d" % listener.getsockname()[1], started + 0.4) as client, pytest.raises(
            _triton_client.TritonError, match="timed out"
        ) as caught:
            client.live()
    assert caught.value.connection and time.monotonic() - started < 5


def _quietly(function, *args):
    try:
        function(*args)
    except OSError:
        pass


def test_each_request_has_only_what_is_left_of_the_time(triton):
    triton.on_request = lambda path: time.sleep(0.2)
    started = time.monotonic()
    with _triton_client.HttpClient(triton.http, started + 0.5) as client, pytest.raises(_triton_client.TritonError) as caught:
        for _each in range(9):
            client.live()
    assert caught.value.connection and time.monotonic() - started < 5


@pytest.mark.parametrize("binary", [True, False])
def test_texts_are_bytes_however_they_were_sent(triton, connect, binary):
    array = numpy.array(["é".encode(), b""], object)
    with connect(triton) as client:
        answer = client.infer("texts", "", {"IN": ("BYTES", array)}, {"OUT": 0}, binary)
    assert answer["OUT"][1].tolist() == array.tolist()


def test_bytes_that_are_no_text_pass_as_bytes(triton, connect):
    array = numpy.array([b"\xff\0\xfe"], object)
    with connect(triton) as client:
        assert client.infer("texts", "", {"IN": ("BYTES", array)}, {})["OUT"][1].tolist() == array.tolist()


@pytest.mark.parametrize(("datatype", "array"), [("BYTES", numpy.array([b"\xff"], object)), ("BF16", numpy.array([1.5], "float32"))])
def test_what_json_cannot_hold_is_told(triton, datatype, array):
    with _triton_client.HttpClient(triton.http, time.monotonic() + 5) as client, pytest.raises(
        _triton_client.TritonError, match="the inputs cannot be sent: "
    ) as caught:
        client.infer("texts", "", {"IN": (datatype, array)}, {}, binary=False)
    assert not caught.value.connection


def test_headers_and_the_key_reach_the_server(triton):
    access = _triton_client.Access(headers={"X-Api-Key": "one"}, key=("Admin-Key", "two"))
    for protocol, expected in (
        ("http", {"x-api-key": "one", "admin-key": "two"}),
        ("grpc", {"x-api-key": "one", "triton-grpc-protocol-admin-key": "two"}),
    ):
        with _triton_client.CLIENTS[protocol](getattr(triton, protocol), time.monotonic() + 5, access) as client:
            client.live()
            assert expected.items() <= triton.headers[protocol].items()
            client.infer("simple", "", INPUTS, {})
            assert expected.items() <= triton.headers[protocol].items()


def test_headers_reach_a_stream_too(triton):
    access = _triton_client.Access(key=("admin", "two"))
    with _triton_client.GrpcClient(triton.grpc, time.monotonic() + 5, access) as client:
        client.stream("count", "", {"IN": ("INT32", numpy.array([1], "int32"))}, {})
    assert triton.headers["grpc"]["triton-grpc-protocol-admin"] == "two"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Return the server's pair of files, and a certificate of somebody else."""
    return make_certificate(tmp_path_factory.mktemp("server")), make_certificate(tmp_path_factory.mktemp("other"))[1]


@pytest.fixture(scope="module")
def secure(certificates):
    with FakeTriton(certificates[0]) as server:
        yield server


@pytest.fixture(params=["http", "grpc"])
def connect_securely(request, secure):
    def open_client(address="", **access):
        return _triton_client.CLIENTS[request.param](address or getattr(secure, request.param), time.monotonic() + 5, _triton_client.Access(**access))

    return open_client


def test_a_certificate_that_is_trusted_lets_through(connect_securely, certificates):
    with connect_securely(ca=certificates[0][1]) as client:
        assert client.live() and client.infer("simple", "", INPUTS, {})["OUTPUT0"][1].tolist() == [2, 2, 2, 2]


def refusal(open_client, **access):
    with pytest.raises(_triton_client.TritonError) as caught, open_client(**access) as client:
        client.live()
    return caught.value


def test_a_certificate_that_nobody_trusts_is_told_at_once(connect_securely, certificates):
    for access in ({}, {"ca": certificates[1]}):
        error = refusal(connect_securely, **access)
        assert str(error).replace("-", " ") == "TLS failed: self signed certificate" and not error.connection


def test_a_certificate_for_another_name_is_told_at_once(connect_securely, secure, certificates):
    error = refusal(connect_securely, ca=certificates[0][1], name="other.test")
    assert "TLS failed" in str(error) and "certificate is not valid for" in str(error) and not error.connection
    with connect_securely(ca=certificates[0][1], name="triton.test") as client:
        assert client.live()


@pytest.mark.parametrize(("content", "words"), [("rubbish", "holds no certificate in PEM"), (None, "cannot be read (No such file or directory)")])
def test_a_file_of_certificates_that_cannot_be_used_is_told(connect_securely, tmp_path, content, words):
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    error = refusal(connect_securely, ca=str(path))
    assert str(error) == f"TLS failed: {path} {words}" and not error.connection


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_without_tls_is_told(triton, protocol):
    address = {"http": triton.http.replace("http://", "https://"), "grpc": f"grpcs://{triton.grpc}"}[protocol]
    with _triton_client.CLIENTS[protocol](address, time.monotonic() + 5) as client, pytest.raises(
        _triton_client.TritonError, match="TLS failed: the server does not speak TLS there"
    ) as caught:
        client.live()
    assert not caught.value.connection


@pytest.mark.parametrize(
    ("error", "words", "connection"),
    [
        (ssl.SSLEOFError(8, "UNEXPECTED_EOF_WHILE_READING"), "TLS failed", True),
        (ssl.SSLError(1, "TLSV1_ALERT_UNKNOWN_CA"), "TLS failed", False),
        (socket.gaierror(-2, "Name or service not known"), "not in the DNS, or not yet", True),
        (InferenceServerException("DNS resolution failed for x:8001: Domain name not found", "StatusCode.UNAVAILABLE"), "not in the DNS", True),
        (
            InferenceServerException("ipv4:127.0.0.1:1: Connection reset by peer", "StatusCode.UNAVAILABLE"),
            "no answer (connection reset by peer)",
            True,
        ),
        (InferenceServerException("Ssl handshake failed: OPENSSL_internal:CERTIFICATE_VERIFY_FAILED", "StatusCode.UNAVAILABLE"), "TLS failed", False),
        (InferenceServerException("expecting header k", "StatusCode.PERMISSION_DENIED"), "the server refused: expecting header k", False),
        (InferenceServerException("Server exiting", "503"), "no answer (Server exiting)", True),
        (InferenceServerException("bad gateway", "502"), "no answer", True),
        (InferenceServerException("boom", "500"), "the server refused: boom (500)", False),
    ],
)
def test_what_may_pass_by_itself_is_told_from_what_may_not(error, words, connection):
    with pytest.raises(_triton_client.TritonError) as caught, _triton_client._translated():
        raise error
    assert words in str(caught.value) and caught.value.connection is connection and caught.value.stranger is (words == "TLS failed" and not connection)


class Recorded(http.server.BaseHTTPRequestHandler):
    """Answers with the recorded bytes. ``inference`` is the name of the answer to an inference."""

    inference = "infer"

    def log_message(self, *args):
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        paths = {"/v2": "server", "/v2/models/simple": "model", "/v2/health/live": "live", "/v2/health/ready": "ready"}
        self.replay(paths[self.path])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.replay(self.inference if self.path.endswith("/infer") else "index")

    def replay(self, name: str) -> None:
        head, end, body = (RECORDED / f"{name}.http").read_bytes().partition(b"\n\n")
        self.wfile.write((head + end).replace(b"\n", b"\r\n") + body)


class RecordedService(service.GRPCInferenceServiceServicer):
    stream = "stream"

    def ServerMetadata(self, request, context):
        return self._read(messages.ServerMetadataResponse, "server")

    def RepositoryIndex(self, request, context):
        return self._read(messages.RepositoryIndexResponse, "index")

    def ModelMetadata(self, request, context):
        return self._read(messages.ModelMetadataResponse, "model")

    def ModelInfer(self, request, context):
        return self._read(messages.ModelInferResponse, "infer")

    def ModelStreamInfer(self, requests, context):
        yield self._read(messages.ModelStreamInferResponse, f"{self.stream}.0")

    def _read(self, kind, name):
        return kind.FromString((RECORDED / f"{name}.pb").read_bytes())


@pytest.fixture
def replay(monkeypatch):
    """Return a function that opens a client to the recorded server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorded)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    rpc = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    service.add_GRPCInferenceServiceServicer_to_server(RecordedService(), rpc)
    addresses = {"http": "127.0.0.1:%d" % server.server_port, "grpc": "127.0.0.1:%d" % rpc.add_insecure_port("127.0.0.1:0")}
    rpc.start()
    yield lambda protocol: _triton_client.CLIENTS[protocol](addresses[protocol], time.monotonic() + 5)
    server.shutdown()
    server.server_close()
    rpc.stop(None)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_recorded_answers_are_understood(replay, protocol):
    with replay(protocol) as client:
        assert client.metadata()["version"] == "2.51.0" and "sequence" in client.metadata()["extensions"]
        assert client.index() == [{"name": "simple", "version": "1", "state": "READY", "reason": ""}]
        found = client.model_metadata("simple")
        assert found["versions"] == ["1"] and found["inputs"][1] == {"name": "INPUT1", "datatype": "INT32", "shape": [16]}
        answer = client.infer("simple", "", INPUTS, {})
    assert (
        answer["OUTPUT0"][0] == "INT32"
        and answer["OUTPUT0"][1].tolist() == list(range(1, 17))
        and answer["OUTPUT1"][1].tolist() == list(range(-1, 15))
    )


def test_a_recorded_server_is_live_and_ready(replay):
    with replay("http") as client:
        assert client.live() and client.ready()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unknown-model", "Request for unknown model: 'nope' is not found (404)"),
        ("unknown-version", "Request for unknown model: 'simple' version 7 is not found (404)"),
        ("wrong-shape", "unexpected shape for input 'INPUT0' for model 'simple'. Expected [16], got [4]. (400)"),
        ("wrong-type", "inference input 'INPUT0' data-type is 'FP32', but model 'simple' expects 'INT32' (400)"),
        ("missing-input", "expected 2 inputs but got 1 inputs for model 'simple'"),
    ],
)
def test_recorded_refusals_are_told(replay, monkeypatch, name, words):
    monkeypatch.setattr(Recorded, "inference", name)
    with replay("http") as client, pytest.raises(_triton_client.TritonError, match="the server refused: ") as caught:
        client.infer("simple", "", INPUTS, {})
    assert words in str(caught.value) and not caught.value.connection


def test_a_recorded_stream_ends_with_its_last_response(replay):
    with replay("grpc") as client:
        found = client.stream("simple", "", INPUTS, {})
    assert [answer["OUTPUT0"][1].tolist() for answer in found] == [list(range(1, 17))]


def test_a_recorded_error_in_a_stream_is_told(replay, monkeypatch):
    monkeypatch.setattr(RecordedService, "stream", "stream-error")
    with replay("grpc") as client, pytest.raises(_triton_client.TritonError, match="refused: Request for unknown model: 'nope' is not found"):
        client.stream("nope", "", INPUTS, {})


def test_a_stream_that_has_more_to_take_ends_with_the_deadline_all_the_same():
    waiting = queue.SimpleQueue()
    waiting.put(("a response", None))
    client = _triton_client.GrpcClient("127.0.0.1:1", time.monotonic() + 5)
    client.deadline = time.monotonic()
    with client, pytest.raises(_triton_client.TritonError, match="the stream did not end in time; it had 7 responses"):
        client._next(waiting, 7)
