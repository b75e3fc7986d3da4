# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import threading
import time

import numpy
import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _triton_client
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_triton import FakeTriton

ONES = numpy.ones(4, "int32")
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
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "127.0.0.1:%d" % listener.getsockname()[1]
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
    assert caught.value.connection and time.monotonic() - started < 2


def test_no_time_left_sends_nothing(triton, connect):
    with pytest.raises(_triton_client.TritonError, match="time was up"), connect(triton, -1) as client:
        client.live()


def test_another_kind_of_server_is_recognised(triton, monkeypatch):
    monkeypatch.setattr(triton._http.RequestHandlerClass, "do_GET", lambda self: self.answer(200, b"<html>"))
    with _triton_client.HttpClient(triton.http, time.monotonic() + 5) as client, pytest.raises(_triton_client.TritonError, match="not Triton's"):
        client.metadata()
