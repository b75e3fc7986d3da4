# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole verifications of a server in this process: streams, sequences, ways through a cluster, and faults that take time."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

import gevent.socket
import kubernetes.client
import kubernetes.stream
import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _triton_client, _verify, _verify_server, _verify_target
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_triton import ENDLESS, FakeApiServer, FakeTriton

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")

SIMPLE = {
    "model": "simple",
    "inputs": [{"name": f"INPUT{number}", "datatype": "INT32", "shape": [4], "data": [1]} for number in (0, 1)],
    "outputs": [{"name": "OUTPUT0", "data": [2, 2, 2, 2]}],
}
BOTH = ("http", "grpc")
#: Seconds for what does not pass, and for what first has to get somewhere.
SHORT, LONGER = 0.5, 1.0
#: The library loads this on first use, which takes longer than most of the tests here.
CORE = kubernetes.client.CoreV1Api


@pytest.fixture(autouse=True)
def quick_and_quiet(monkeypatch, capfd):
    monkeypatch.setattr(_verify_server, "PAUSE", 0.05)
    yield
    assert "Traceback" not in capfd.readouterr().err


@pytest.fixture
def triton():
    with FakeTriton() as server:
        yield server


def ask(target, *cases, seconds=5.0, **wanted):
    """Return the report on a target, or on a server over both protocols, after so many seconds at most."""
    if isinstance(target, FakeTriton):
        target = _verify_target.url_target(target.http, target.grpc, BOTH)
    started = time.monotonic()
    report = _verify_server.verify_all([target], _verify.Wanted(_verify.prepare([("", case) for case in cases]), **wanted), started + seconds, 1)[0]
    assert time.monotonic() - started < seconds + 1
    return report


def at(listener, protocols=("http",)):
    address = "127.0.0.1:%d" % listener.getsockname()[1]
    return _verify_target.url_target(f"http://{address}", address, protocols)


def step(value, *expected, **more):
    outputs = [{"name": "OUT", "data": list(expected)}] if expected else []
    return {"inputs": [{"name": "IN", "datatype": "INT32", "shape": [1], "data": [value]}], "outputs": outputs, **more}


def count(to, **more):
    return {"model": "count", "stream": True, **step(to), **more}


def response(value):
    return {"outputs": [{"name": "OUT", "data": [value]}]}


# Streams


def test_each_response_of_a_stream_is_compared_over_grpc_only(triton):
    triton.load("count")
    report = ask(triton, count(3, outputs=None, responses=[response(0), response(1), response(2)]))
    assert report["problems"] == [] and [(entry["protocol"], entry["outputs"]) for entry in report["inferences"]] == [("grpc", "OUT[0:1]=2")]


def test_what_holds_for_all_responses_is_written_once(triton):
    triton.load("count")
    report = ask(triton, count(2, outputs=[{"datatype": "INT32", "shape": [1]}]), count(2, outputs=[{"name": "OUT", "data": [0]}]))
    assert report["problems"] == ["GRPC inference of count: response 2 of 2: OUT[0] is 1, expected 0 (tolerance 0); 1 of 1 values differ"]


def test_a_stream_that_ends_early_or_late_is_told(triton):
    triton.load("count")
    report = ask(triton, count(2, outputs=None, responses=[response(0)]), count(0))
    assert [entry["message"] for entry in report["inferences"]] == ["the stream had 2 responses, expected 1", "the stream ended without a response"]


def test_an_error_in_a_stream_is_told_in_the_servers_words(triton):
    triton.load("count")
    assert ask(triton, count(-1))["problems"] == ["GRPC inference of count: the server refused: the model lost count"]


def test_a_stream_that_never_ends_is_left_at_the_deadline(triton):
    triton.load("count")
    report = ask(triton, count(ENDLESS), seconds=SHORT)
    assert (
        report["problems"][0].startswith("GRPC inference of count: no answer (the stream did not end in time; it had ")
        and not report["inferences"][0]["ok"]
    )


def test_a_stream_is_skipped_where_grpc_is_not_asked(triton):
    triton.load("count")
    report = ask(_verify_target.url_target(triton.http, None, BOTH), count(1))
    assert report["problems"] == [] and report["inferences"][0]["skipped"] == _verify_server.STREAM_NEEDS_GRPC


def test_a_stream_of_a_model_that_does_not_stream_is_refused(triton):
    report = ask(triton, {**SIMPLE, "stream": True})
    assert "GRPC inference of simple: the server refused" in report["problems"][0]


# Sequences


def test_the_steps_of_a_sequence_share_the_models_state_over_each_protocol(triton):
    triton.load("sum")
    report = ask(triton, {"model": "sum", "steps": [step(1, 1), step(2, 3), step(3, 6)]})
    assert report["problems"] == [] and [entry["outputs"] for entry in report["inferences"]] == ["OUT[0:1]=6"] * 2
    assert triton.answered == 6 and triton.sequences == {}


def test_a_sequence_of_one_step_starts_and_ends_with_it(triton):
    triton.load("sum")
    assert ask(triton, {"model": "sum", "steps": [step(7, 7)]})["problems"] == [] and triton.sequences == {}


def test_a_step_that_differs_is_told_and_ends_the_sequence(triton):
    triton.load("sum")
    report = ask(triton, {"model": "sum", "steps": [step(1, 1), step(2, 4), step(3, 6)]})
    assert report["problems"][0] == "HTTP inference of sum: step 2 of 3: OUT[0] is 3, expected 4 (tolerance 0); 1 of 1 values differ"
    assert triton.answered == 4


def test_a_step_that_is_refused_is_named(triton):
    report = ask(triton, {"model": "simple", "steps": [{"inputs": SIMPLE["inputs"]}, {"inputs": SIMPLE["inputs"][:1]}]})
    words = "step 2 of 2: the server refused: expected 2 inputs but got 1 inputs for model 'simple'"
    assert [entry["message"].startswith(words) for entry in report["inferences"]] == [True, True]


def test_a_stateful_model_without_steps_is_refused_in_the_servers_words(triton):
    triton.load("sum")
    problems = ask(triton, {"model": "sum", **step(1)})["problems"]
    assert len(problems) == 2 and all("must specify a non-zero or non-empty correlation ID" in problem for problem in problems)


# Texts, over both protocols


@pytest.mark.parametrize("as_json", [False, True])
def test_texts_are_the_same_over_both_protocols_and_as_json(triton, as_json):
    triton.load("texts")
    texts = ["é", '{"a": 1}']
    outputs = [{"name": "OUT", "data": texts}]
    inputs = [{"name": "IN", "datatype": "BYTES", "shape": [2], "data": texts}]
    report = ask(triton, {"model": "texts", "inputs": inputs, "outputs": outputs, "json": as_json, "agree": True})
    assert report["problems"] == [] and len({entry["digest"] for entry in report["inferences"]}) == 1


# Models that are missing


def test_a_model_that_appears_within_the_time_to_settle_passes(triton):
    triton.load("simple")
    threading.Timer(0.2, triton.load, ("simple", "sum")).start()
    assert ask(triton, SIMPLE, models=("sum",), settle=4)["problems"] == []


def test_a_version_that_appears_within_the_time_to_settle_passes(triton):
    def publish():
        triton.index = [*triton.index, {"name": "simple", "version": "2", "state": "READY"}]

    threading.Timer(0.2, publish).start()
    assert ask(triton, SIMPLE, versions={"simple": ["2"]}, settle=4)["problems"] == []


def test_the_answer_of_a_version_that_is_about_to_be_replaced_does_not_count(triton):
    def publish():
        triton.off, triton.index = 0, [{"name": "simple", "version": "2", "state": "READY"}]

    triton.off = 1
    threading.Timer(0.2, publish).start()
    assert ask(triton, SIMPLE, versions={"simple": ["2"]}, settle=4)["problems"] == []


def test_a_wrong_answer_counts_while_another_model_loads(triton):
    triton.off, triton.index = 1, [*triton.index, {"name": "sum", "version": "1", "state": "LOADING"}]
    problems = ask(triton, SIMPLE, seconds=SHORT)["problems"]
    assert any("expected" in problem for problem in problems) and "seen last" not in problems[-1]


@pytest.mark.parametrize("settle", [0, 1])
def test_a_model_that_never_appears_is_told_when_the_time_to_settle_is_over(triton, settle):
    started = time.monotonic()
    problems = ask(triton, models=("sum",), versions={"simple": ["2"]}, settle=settle, seconds=10)["problems"]
    assert "model sum is not in the repository index; it has: simple" in problems
    assert "model simple has version 1 loaded, expected 2 too" in problems
    assert settle <= time.monotonic() - started < settle + 1


# Ways into a cluster


POD = {
    "metadata": {"name": "a", "namespace": "triton"},
    "spec": {"containers": [{"name": "t"}]},
    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
}


@pytest.fixture
def api(triton, monkeypatch):
    """Yield an API server whose proxy leads to the server, and which forwards no ports."""
    monkeypatch.setattr(_verify_target.Reach, "log", lambda *_args: [])
    with FakeApiServer(triton.http, ("portforward",)) as server:
        yield server


def replica(api, protocols=BOTH, **more):
    return _verify_target.pod_target(api.api if isinstance(api, FakeApiServer) else api, POD, protocols, **more)


def test_http_goes_through_the_proxy_where_no_port_may_be_forwarded_and_grpc_is_skipped(api):
    report = ask(replica(api), SIMPLE)
    assert report["problems"] == [] and report["version"] == "2.51.0"
    assert [(entry["protocol"], entry["ok"], bool(entry["skipped"])) for entry in report["inferences"]] == [
        ("http", True, False),
        ("grpc", True, True),
    ]
    assert report["notes"][0].startswith("asked over HTTP through the API server's proxy, since the API server did not open port 8000 of pod a: ")
    assert (
        report["notes"][1].startswith("GRPC was not asked: no gRPC goes through the API server's proxy") and "pods/portforward" in report["notes"][1]
    )
    assert len(report["notes"]) == 2


def test_metrics_go_through_the_proxy_too(api):
    report = ask(replica(api, metrics=True), SIMPLE)
    assert report["problems"] == [] and report["metrics"] == {"ok": True, "message": ""}
    assert any("/pods/a:8002/proxy/metrics" in path for _method, path, *_rest in api.seen)
    assert report["notes"][0].startswith("asked over HTTP through the API server's proxy")


def test_every_replica_says_that_it_was_asked_through_the_proxy(api):
    reach = _verify_target.Reach(api.api)
    targets = [replica(api, ["http"], reach=reach) for _each in range(6)]
    wanted = _verify.Wanted(_verify.prepare([("", SIMPLE)]))
    reports = _verify_server.verify_all(targets, wanted, time.monotonic() + 5, 6)
    assert [report["problems"] for report in reports] == [[]] * 6 and [len(report["notes"]) for report in reports] == [1] * 6


def test_grpc_alone_names_the_missing_right_at_once(api):
    started = time.monotonic()
    report = ask(replica(api, ["grpc"]), SIMPLE, seconds=10)
    assert time.monotonic() - started < 5 and len(report["problems"]) == 1
    assert 'pods "a" is forbidden: User "me" cannot get resource "pods/portforward"' in report["problems"][0]
    assert "asked over GRPC" not in report["problems"][0] and report["inferences"][0]["skipped"]


def test_without_the_proxys_right_either_both_are_named_at_once(api):
    api.forbidden = ("portforward", "proxy")
    started = time.monotonic()
    report = ask(replica(api, ["http"]), SIMPLE, seconds=10)
    assert time.monotonic() - started < 5
    assert "pods/proxy" in report["problems"][0] and "pods/portforward" in report["notes"][0]


def test_the_key_of_a_restricted_api_reaches_the_pod_through_the_proxy(api, triton):
    report = ask(replica(api, ["http"], access=_triton_client.Access(key=("Admin", "k"))), SIMPLE)
    assert report["problems"] == [] and triton.headers["http"]["admin"] == "k"


class Forward:
    """A port-forward to the server, as the library returns one."""

    def __init__(self, address):
        host, port = address.split(":")
        self._connection = socket.create_connection((host, int(port)))

    def socket(self, _port):
        return self._connection

    def error(self, _port):
        return None

    def cut(self):
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


def test_an_api_server_that_is_gone_in_the_middle_is_told(triton, monkeypatch):
    opened, gone = [], threading.Event()

    def portforward(*_args, **_kwargs):
        if gone.is_set():
            raise kubernetes.client.ApiException(status=0, reason="[Errno 111] Connection refused")
        opened.append(Forward(triton.http.removeprefix("http://")))
        return opened[-1]

    def vanish(path):
        if path.endswith("/infer"):
            gone.set()
            opened[-1].cut()

    monkeypatch.setattr(kubernetes.stream, "portforward", portforward)
    triton.on_request = vanish
    monkeypatch.setattr(_verify_target.Reach, "log", lambda *_args: [])
    api = kubernetes.client.ApiClient(kubernetes.client.Configuration(host="http://127.0.0.1:1"))
    report = ask(replica(api, ["http"]), SIMPLE, seconds=LONGER)
    assert report["problems"][0].startswith(
        "HTTP: no answer (connection closed); the API server did not open port 8000 of pod a: [Errno 111] Connection"
    )
    assert report["problems"][1].startswith("this was seen last, after ")


# Servers at fault


@contextlib.contextmanager
def listening(behave=None):
    """Yield a listener; ``behave`` is called with each connection, which stays open."""
    kept = []

    def accept():
        with contextlib.suppress(OSError):
            while True:
                kept.append(listener.accept()[0])
                if behave:
                    behave(kept[-1])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener
        listener.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("protocol", BOTH)
def test_a_server_that_hangs_is_left_at_the_deadline(protocol):
    with listening() as listener:
        report = ask(at(listener, [protocol]), SIMPLE, seconds=SHORT)
    assert report["problems"][0].startswith(f"{protocol.upper()}: no answer (") and not report["live"]


@pytest.mark.parametrize("protocol", BOTH)
def test_a_server_that_resets_is_asked_until_the_deadline(protocol):
    with listening(reset) as listener:
        report = ask(at(listener, [protocol]), SIMPLE, seconds=SHORT)
    assert report["problems"][0].startswith(f"{protocol.upper()}: no answer (") and report["problems"][-1].startswith("this was seen last, after ")


def test_a_server_that_answers_slowly_is_left_at_the_deadline(triton):
    triton.on_request = lambda path: time.sleep(0.25)
    report = ask(triton, SIMPLE, seconds=SHORT)
    assert report["problems"][0].startswith("HTTP: no answer (")


def test_an_inference_that_hangs_is_named(triton, monkeypatch):
    monkeypatch.setattr(triton, "compute", lambda *_args: time.sleep(LONGER + 0.5) or [])
    report = ask(_verify_target.url_target(triton.http, None, ["http"]), SIMPLE, seconds=LONGER)
    assert report["live"] and report["inferences"][0]["message"] == "no answer (timed out)" and not report["inferences"][0]["ok"]


@pytest.mark.parametrize("path", ["/v2/repository/index", "/v2/models/simple/infer"])
def test_a_server_that_dies_between_two_questions_is_told(triton, path):
    triton.on_request = lambda asked: triton.die() if asked == path else None
    report = ask(_verify_target.url_target(triton.http, None, ["http"]), SIMPLE, seconds=LONGER)
    assert (
        report["problems"][0].startswith("HTTP")
        and "no answer (connection " in report["problems"][0]
        and report["problems"][-1].startswith("this was seen last, after ")
    )


def test_a_server_that_drains_and_is_replaced_passes(triton):
    triton.refusals = 4
    assert ask(triton, SIMPLE)["problems"] == []


def test_a_server_that_drains_for_good_is_told(triton):
    triton.refusals = 10**6
    problems = ask(_verify_target.url_target(triton.http, None, ["http"]), SIMPLE, seconds=SHORT)["problems"]
    assert problems[:2] == ["the server says that it is not live", "HTTP: no answer (Server exiting)"] and "seen last" in problems[2]


def test_a_name_that_appears_in_the_dns_later_is_waited_for(triton, monkeypatch):
    real, asked = gevent.socket.getaddrinfo, []

    def resolve(host, *args):
        asked.append(host)
        if len(asked) < 4:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real("127.0.0.1" if host == "triton.test" else host, *args)

    monkeypatch.setattr(gevent.socket, "getaddrinfo", resolve)
    target = _verify_target.url_target(triton.http.replace("127.0.0.1", "triton.test"), None, ["http"])
    assert ask(target, SIMPLE)["problems"] == [] and asked[:4] == ["triton.test"] * 4


def test_a_name_that_never_appears_in_the_dns_is_told(monkeypatch):
    def resolve(*_args):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(gevent.socket, "getaddrinfo", resolve)
    problems = ask(_verify_target.url_target("http://triton.test:8000", None, ["http"]), SIMPLE, seconds=SHORT)["problems"]
    assert problems[0] == "HTTP: no answer (its name is not in the DNS, or not yet: Name or service not known)"


def test_a_wrong_answer_is_not_asked_again(triton):
    triton.off = 1
    started = time.monotonic()
    assert len(ask(triton, SIMPLE, seconds=10)["problems"]) == 2 and triton.answered == 2 and time.monotonic() - started < 5


def test_metrics_that_hang_end_with_the_deadline(triton):
    with listening() as listener:
        way = _verify_target._Address("127.0.0.1:%d" % listener.getsockname()[1])
        target = _verify_target.url_target(triton.http, None, ["http"], metrics=lambda: way, reach=_verify_target.Reach(None))
        report = ask(target, SIMPLE, seconds=SHORT)
    assert "no answer (the time was up before the request was sent)" in report["problems"][0]


# What leaves


def leading_elsewhere(triton, times, leaving):
    """Return a target whose address leads to a server without TLS so many times, then to the right one."""
    addresses = [triton.http.replace("http://", "https://")] * times
    openers = {"http": lambda: _verify_target._Address(addresses.pop() if addresses else triton.http)}
    return _verify_target.Target("service", "url", openers, leaving=leaving)


def test_a_service_that_still_leads_to_a_pod_with_another_protocol_is_asked_again(triton):
    assert ask(leading_elsewhere(triton, 3, 10), SIMPLE)["problems"] == []


@pytest.mark.parametrize("leaving", [0, SHORT])
def test_one_that_goes_on_doing_so_is_told(triton, leaving):
    report = ask(leading_elsewhere(triton, 10_000, leaving), SIMPLE)
    assert len(report["problems"]) == 1 and "the server does not speak TLS there" in report["problems"][0]
