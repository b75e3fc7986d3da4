# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against an API server in this process that plays one scene after another."""

from __future__ import annotations

import http.server
import json
import threading
from urllib.parse import parse_qs, urlsplit

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _rollout_finding, _rollout_watch
from ansible_collections.mlserving.triton.plugins.modules import triton_rollout
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_rollout import deployment, events, pod, replicaset

DONE = {"deployment": deployment((1, 1, 1)), "pods": [pod("ready")]}
BAD_MODEL = (
    "I1123 15:00:00.1 1 model_lifecycle.cc:472] \"loading: resnet:1\"\n"
    "E1123 15:00:01.1 1 model_lifecycle.cc:642] \"failed to load 'resnet' version 1: Internal: weights of AKIAIOSFODNN7EXAMPLE\\n\\nAt:\\n\"\n"
    "error: creating server: Internal - failed to load all models\n"
)
S3 = "error: creating server: Internal - Unable to create S3 filesystem client. Check account credentials. Exception: '' Message: 'No response body.'\n"


def scene(state, log="", **more):
    return {"deployment": deployment((1, 1, 0)), "pods": [pod(state)], "events": events(state), "log": log, **more}


class ApiServer(http.server.ThreadingHTTPServer):
    """Each reading of the Deployment is the next scene; the last one stays."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.scenes, self.looks, self.logs = [], 0, []


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        url, server = urlsplit(self.path), self.server
        query = parse_qs(url.query)
        kind = url.path.rsplit("/", 1)[-1]
        if kind == "demo":
            server.looks += 1
        now = server.scenes[min(max(server.looks, 1), len(server.scenes)) - 1]
        if now.get("status"):
            self.answer(now["status"], {"message": "the server is busy"})
        elif "watch" in query:
            self.answer(200, {"type": "MODIFIED", "object": {"metadata": {"name": "x", "resourceVersion": "8"}}})
        elif kind == "demo":
            self.answer(200, now["deployment"])
        elif kind == "log":
            server.logs.append(query.get("previous", ["false"])[0].lower())
            self.answer(200, now.get("log", ""))
        else:
            items = {"replicasets": now.get("replicasets", [replicaset()]), "pods": now["pods"], "events": now.get("events", [])}[kind]
            self.answer(200, {"metadata": {"resourceVersion": "7"}, "items": items})

    def answer(self, status: int, content) -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    for name in (*_cluster.ENVIRONMENT.values(), "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_rollout_watch, "BURST", 0.01)
    with ApiServer() as api:
        threading.Thread(target=api.serve_forever, args=(0.02,), daemon=True).start()
        yield api
        api.shutdown()


@pytest.fixture
def play(server, run_module):
    def call(*scenes, check=False, **options):
        server.scenes, server.looks = scenes, 0
        base = {"host": f"http://127.0.0.1:{server.server_port}", "namespace": "triton", "deployment": "demo", "timeout": 5}
        return run_module(triton_rollout, base | options, check)

    return call


def test_waits_until_complete(play, server):
    old = {"deployment": deployment((1, 0, 1), observed=2), "pods": [pod("ready", owner="r-1")]}
    result = play(old, scene("starting"), {**scene("ready")}, DONE)
    assert not result["changed"] and not result.get("failed")
    assert (result["replicas"], result["revision"], server.looks) == (1, 2, 4)
    assert [(row["name"], row["ready"]) for row in result["pods"]] == [("demo-2-a", True)]


def test_check_mode_waits_for_nothing(play, server):
    result = play(scene("crash_loop"), check=True)
    assert result["skipped"] and "nothing" in result["msg"] and server.looks == 0


def test_a_model_that_cannot_be_loaded_ends_the_wait_at_the_first_crash(play, server):
    result = play(scene("starting"), scene("ended_once", BAD_MODEL))
    assert result["failed"] and result["cause"] == "model_load" and server.looks == 2
    assert "deployment demo in namespace triton failed: pod demo-2-a" in result["msg"]
    assert "model 'resnet' could not be loaded: Internal: weights of" in result["msg"] and "What to do: " in result["msg"]
    assert result["log"][-1] == "error: creating server: Internal - failed to load all models" and result["log"][-1] in result["msg"]
    assert "AKIAIOSFODNN7EXAMPLE" not in json.dumps(result)
    assert result["pods"][0]["ready"] is False


def test_storage_that_refuses_once_may_still_come(play, server):
    result = play(scene("ended_once", S3), scene("starting"), DONE)
    assert not result.get("failed")
    result = play(scene("ended_once", S3), scene("crash_loop", S3))
    assert result["cause"] == "s3_access" and "a bucket that does not exist" in result["msg"] and server.looks == 2


def test_the_previous_log_is_read_when_the_container_runs_again(play, server):
    assert play(scene("ended_and_running_again", BAD_MODEL))["cause"] == "model_load"
    assert server.logs == ["true"]


def test_a_log_that_is_gone_is_no_log(play):
    result = play(scene("crash_loop", "unable to retrieve container logs for containerd://ca9e"))
    assert result["cause"] == "crash" and "unable to retrieve" not in result["msg"]


def test_an_unknown_crash_is_given_a_second_chance(play):
    assert not play(scene("ended_once", "strange\n"), DONE).get("failed")
    result = play(scene("crash_loop", "something strange\n"))
    assert result["cause"] == "crash" and "exit code 1" in result["msg"] and "  something strange" in result["msg"]


def test_a_probe_that_kills_a_loading_server_says_what_it_was_doing(play):
    result = play(scene("killed_by_probe", 'I1123 15:00:00.1 1 model_lifecycle.cc:472] "loading: resnet:1"\n'))
    assert result["cause"] == "model_load" and "failed startup probe: it had not finished loading resnet" in result["msg"]


def test_what_may_pass_must_last(play, server, monkeypatch):
    assert not play(scene("no_gpu"), scene("no_gpu"), DONE).get("failed")
    monkeypatch.setattr(_rollout_finding, "PATIENCE", 0.05)
    result = play(scene("no_gpu"))
    assert result["cause"] == "unschedulable" and "Insufficient nvidia.com/gpu" in result["msg"] and server.looks > 1


def test_a_timeout_says_what_was_seen_last(play):
    result = play(scene("starting", "error: something\n"), timeout=0)
    assert result["cause"] == "timeout"
    assert "was not complete after 0 s. Seen last:\nreplicas: 1 wanted, 1 updated, 0 available, 1 in all\npod demo-2-a on node node-1: Running" in result["msg"]
    assert "  error: something" in result["msg"]


def test_an_api_server_that_is_busy_is_asked_again_and_a_refusal_is_told(play, monkeypatch):
    monkeypatch.setattr(_rollout_watch, "RETRY", 0.01)
    assert not play({"status": 503}, DONE).get("failed")
    assert not play({"status": 503}, DONE, renew_failed=True).get("failed")
    result = play({"status": 403})
    assert result["failed"] and "reading deployment demo in namespace triton: the server is busy (403)" in result["msg"]
    assert "Check the name" in play({"status": 404})["msg"]


def test_no_cluster_is_an_error(run_module, server):
    assert "no cluster is named" in run_module(triton_rollout, {"deployment": "demo"})["msg"]
