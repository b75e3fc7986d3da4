# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads against a Triton in this process, and against a server that does what it should not."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import pathlib
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _load, _load_clients, _load_request, _load_tally, _load_worker, _verify
from ansible_collections.mlserving.triton.plugins.module_utils._load_job import Failure, Job, OwnLimit
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_triton import FakeTriton

ROOT = pathlib.Path(__file__).parents[4]
CASE = {
    "model": "simple",
    "inputs": [
        {"name": "INPUT0", "datatype": "INT32", "shape": [4], "data": [0, 1, 2, 3]},
        {"name": "INPUT1", "datatype": "INT32", "shape": [4], "data": [1]},
    ],
    "outputs": [{"name": "OUTPUT0", "data": [1, 2, 3, 4]}, {"name": "OUTPUT1", "data": [-1, 0, 1, 2]}],
}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"


class Scripted(socketserver.ThreadingTCPServer):
    """Answers the requests with what ``answers`` holds, one after the other: bytes, or a function of the connection; after the last again the first."""

    daemon_threads, allow_reuse_address = True, True

    def __init__(self, *answers):
        super().__init__(("127.0.0.1", 0), _Script)
        self.answers, self.connections = itertools.cycle(answers), 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class _Script(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.server.connections += 1
        while self.request.recv(2**16):
            answer = next(self.server.answers)
            if callable(answer):
                answer(self.request)
                return
            self.request.sendall(answer)
            if b"Connection: close" in answer:
                return


def reset(connection) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def half(connection) -> None:
    connection.sendall(OK[:20])


def sleep(_connection) -> None:
    time.sleep(1)


def job(port: int, **more) -> Job:
    return Job(
        "http", "127.0.0.1", port, b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", **{"clients": 1, "count": 4, "seconds": 10, "timeout": 0.2} | more
    )


def run_here(wanted: Job) -> dict:
    """Run a load in this process."""
    crew = _load_worker.Crew(wanted, time.monotonic())
    return crew.run().report(_load.datetime.datetime.now(_load.datetime.timezone.utc)) | {"waits": dict(crew.tally.waits)}


def prepared(triton: FakeTriton, protocol: str, case: dict | None = None, **more) -> Job:
    return _load_request.job(_verify.prepare([("", case or CASE)])[0], protocol, getattr(triton, protocol), time.monotonic() + 5, **more)


@pytest.fixture
def triton():
    with FakeTriton() as server:
        yield server


@pytest.mark.parametrize(
    ("answers", "failed"),
    [
        ((OK,), {}),
        ((CHUNKS,), {}),
        ((UNAVAILABLE, OK), {"HTTP 503": 2}),
        ((reset,), {"reset": 4}),
        ((half, OK), {"closed early": 2}),
        ((sleep,), {"timed out": 4}),
        ((b"SSH-2.0-OpenSSH_9.2\r\n\r\n",), {"no HTTP answer": 4}),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",), {"no HTTP answer": 4}),
    ],
    ids=["ok", "chunks", "503", "reset", "half an answer", "slow", "another protocol", "no length"],
)
def test_each_fault_is_counted_as_what_it_is(answers, failed):
    with Scripted(*answers) as server:
        report = run_here(job(server.server_address[1]))
    assert report["failed"] == failed and report["sent"] == 4 and report["ok"] == 4 - sum(failed.values()) == 4 - report["lost"]
    assert [entry["kind"] for entry in report["first"]] == [kind for kind, count in failed.items() for _number in range(count)]
    assert sum(entry["failed"] for entry in report["timeline"]) == report["lost"]


def test_nobody_listens_and_no_such_name():
    # It does not listen, and nobody else takes its port.
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        assert run_here(job(port))["failed"] == {"refused": 4}
    assert run_here(dataclasses.replace(job(port), host="no-such-host.invalid", count=1))["failed"] == {"name not found": 1}


def test_a_connection_that_the_server_ends_between_two_requests_loses_none():
    def end_soon(connection):
        connection.sendall(OK)
        connection.shutdown(socket.SHUT_WR)

    with Scripted(LAST, end_soon) as server:
        report = run_here(job(server.server_address[1], pause=0.05))
        assert report["ok"] == 4 and report["opened"] == server.connections == 4


def test_what_this_machine_lacks_is_no_failure_of_the_server(monkeypatch):
    lacking, connect = iter([errno.EADDRNOTAVAIL, errno.EMFILE]), socket.create_connection

    def create(*arguments):
        number = next(lacking, None)
        if number:
            raise OSError(number, os.strerror(number))
        return connect(*arguments)

    monkeypatch.setattr(socket, "create_connection", create)
    with Scripted(OK) as server:
        report = run_here(job(server.server_address[1]))
    assert report["lost"] == 0 and report["ok"] == 4 and report["waits"] == {"no free local port": 1, "too many open files": 1}


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", "timed out"),
        ("UNAVAILABLE", "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: connect: Connection refused (111)", "refused"),
        ("UNAVAILABLE", "recvmsg:Connection reset by peer", "reset"),
        ("UNAVAILABLE", "Socket closed", "closed early"),
        ("UNAVAILABLE", "Server is stopping, therefore not accepting new requests", "gRPC UNAVAILABLE"),
        ("NOT_FOUND", "Request for unknown model", "gRPC NOT_FOUND"),
    ],
)
def test_what_grpc_says_is_counted_as_over_http(code, details, kind):
    failure = _load_clients._grpc_failure(code, details)
    assert isinstance(failure, Failure) and failure.kind == kind


def test_grpc_without_a_local_port_is_no_failure():
    assert isinstance(_load_clients._grpc_failure("UNAVAILABLE", "connect: Cannot assign requested address (99)"), OwnLimit)


@pytest.mark.parametrize("fresh", [False, True], ids=["kept", "fresh"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_load_in_processes_of_its_own(triton, protocol, fresh):
    report = _load.run(prepared(triton, protocol, fresh=fresh, clients=3, count=30), processes=2)
    assert report["ok"] == report["sent"] == 30 and report["lost"] == 0 and report["ended"] == "count" and triton.answered == 31
    assert report["opened"] == (30 if fresh else 3) and report["client"]["processes"] == 2
    latency = report["latency"]
    assert 0 < latency["min"] <= latency["p50"] <= latency["p90"] <= latency["p95"] <= latency["p99"] <= latency["max"]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_answer_that_turns_wrong_is_lost(triton, protocol):
    wanted = prepared(triton, protocol, clients=2, count=6)
    triton.off = 1
    report = _load.run(wanted)
    assert report["failed"] == {"wrong answer": 6} and "OUTPUT0[0] is 2, expected 1" in report["first"][0]["detail"] and report["throughput"] == 0


def test_a_model_that_is_not_there_and_a_wrong_answer_begin_no_load(triton):
    with pytest.raises(_load_request.LoadError, match="unknown model"):
        prepared(triton, "http", CASE | {"model": "other"})
    triton.off = 1
    with pytest.raises(_load_request.LoadError, match="no load was sent.*expected 1"):
        prepared(triton, "grpc")
    with pytest.raises(_load_request.LoadError, match="is a stream"):
        prepared(triton, "grpc", CASE | {"stream": True})


def test_the_seconds_the_warm_up_and_the_stop(triton):
    wanted = prepared(triton, "http", clients=2, warm_up=0.3, seconds=0.5)
    report = _load.run(wanted, processes=1)
    assert report["ended"] == "seconds" and 0.4 < report["seconds"] <= 0.5 and report["warm_up"]["ok"] > 0 and report["ok"] > 0
    assert sum(entry["ok"] for entry in report["timeline"]) == report["ok"] == triton.answered - 1 - report["warm_up"]["ok"]
    asked = iter(range(3))
    assert _load.run(dataclasses.replace(wanted, seconds=None), lambda: "" if next(asked, None) is not None else "enough", 1)["ended"] == "enough"


@pytest.mark.parametrize("how", ["file", "signal"])
def test_the_tool_in_the_background(triton, tmp_path, how):
    report, stop = tmp_path / "report.json", tmp_path / "stop"
    command = [
        sys.executable,
        str(ROOT / "benchmarks/load.py"),
        "--url",
        triton.http,
        "--case",
        json.dumps(CASE),
        "--clients",
        "2",
        "--stop-file",
        str(stop),
    ]
    with subprocess.Popen([*command, "--processes", "1", "--report", str(report)], stdout=subprocess.PIPE) as process:
        while triton.answered < 20 and process.poll() is None:
            time.sleep(0.05)
        stop.touch() if how == "file" else process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    found = json.loads(report.read_text())
    assert found["ok"] == found["sent"] == triton.answered - 1 and found["ended"] == {"file": "stop file", "signal": "SIGTERM"}[how]


def test_a_process_that_cannot_begin_is_told(monkeypatch):
    monkeypatch.setattr(_load, "WORKER", "raise SystemExit('no memory')")
    with pytest.raises(_load_request.LoadError, match="no memory"):
        _load.run(job(1))


def test_percentiles_the_gap_and_the_timeline():
    first, second = _load_tally.Tally(3.0), _load_tally.Tally(3.0)
    for number in range(100):
        (first if number % 2 else second).add(0.1, 0.1 + (number + 1) / 1000)
    second.add(-0.5, -0.4)
    second.add(1.0, 1.5, "reset", "by peer")
    second.add(2.0, 2.25)
    first.add(2.9, 4.0)
    first.merge(second)
    report = first.report(_load.datetime.datetime(2026, 11, 25, tzinfo=_load.datetime.timezone.utc))
    assert report["latency"]["p50"] == pytest.approx(51, rel=0.02) and report["latency"]["max"] == 1100 and report["latency"]["min"] == 1
    assert report["timeline"] == [
        {"second": 0, "ok": 100, "failed": 0},
        {"second": 1, "ok": 0, "failed": 1},
        {"second": 2, "ok": 1, "failed": 0},
        {"second": 3, "ok": 0, "failed": 0},
        {"second": 4, "ok": 1, "failed": 0},
    ]
    assert report["longest_gap"] == pytest.approx(1.9) and report["seconds"] == 3 and report["throughput"] == round(101 / 3, 1)
    assert report["first"] == [{"time": "00:00:01.500", "kind": "reset", "detail": "by peer"}] and report["warm_up"] == {"ok": 1, "failed": 0}


@pytest.mark.parametrize(
    ("protocol", "text", "found"),
    [
        ("http", "http://triton:8000", ("triton", 8000, False, "")),
        ("http", "triton:8000", ("triton", 8000, False, "")),
        ("http", "https://triton/gpu/", ("triton", 443, True, "/gpu")),
        ("http", "http://[::1]:8000", ("::1", 8000, False, "")),
        ("grpc", "triton:8001", ("triton", 8001, False, "")),
        ("grpc", "grpcs://triton:443", ("triton", 443, True, "")),
    ],
)
def test_addresses(protocol, text, found):
    assert dataclasses.astuple(_load_request.address(protocol, text)) == found


@pytest.mark.parametrize(
    ("protocol", "text"), [("http", "ftp://triton"), ("http", ""), ("http", "triton:x"), ("grpc", "triton"), ("grpc", "http://triton:8001")]
)
def test_addresses_that_are_none(protocol, text):
    with pytest.raises(_load_request.LoadError, match="must be like"):
        _load_request.address(protocol, text)
