# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests, and the probe's script that sends them, against a server in this process."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _probe_requests, _serving, _verify_cases
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_triton import FakeTriton

TENSOR = '{ name: "%s" data_type: TYPE_INT32 dims: [ 4 ] }'
CONFIG = f'backend: "python" max_batch_size: 0 input [ {TENSOR % "INPUT0"}, {TENSOR % "INPUT1"} ]'
FULL = "- inputs: [{name: INPUT0, datatype: INT32, shape: [4], data: [1]}, {name: INPUT1, datatype: INT32, shape: [4], data: [2]}]\n"
BY_CONFIG = "- inputs: [{name: INPUT0, fill: ones}, {name: INPUT1, data: [2]}]\n"


def source(folder, cases):
    (folder / "simple" / "1").mkdir(parents=True)
    (folder / "simple" / "config.pbtxt").write_text(CONFIG)
    (folder / "simple" / "verify.yml").write_text(cases)
    return str(folder)


def requests(folder):
    return _probe_requests.requests(folder, _verify_cases.prepared(folder, []))


@pytest.mark.parametrize("cases", [FULL, BY_CONFIG])
def test_the_first_plain_case_becomes_a_request(tmp_path, cases):
    found = requests(source(tmp_path, "- {inputs: [{name: INPUT0, fill: ones}], stream: true}\n" + cases))
    head, _end, body = base64.b64decode(found["simple"]).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/models/simple/infer HTTP/1.1\r\n") and f"Content-Length: {len(body)}".encode() in head
    length = int(head.rpartition(b"Inference-Header-Content-Length: ")[2])
    assert [tensor["name"] for tensor in json.loads(body[:length])["inputs"]] == ["INPUT0", "INPUT1"]


def test_a_case_that_takes_a_server_is_left_out(tmp_path):
    assert requests(source(tmp_path, "- inputs: [{name: OTHER, fill: ones}]\n")) == {}


ANSWERED = FULL + "  outputs: [{name: OUTPUT1, tolerance: 1, data: [2]}, {name: OUTPUT0, datatype: INT32, data: [3, 3, 3, 3]}]\n"


def test_only_what_must_be_equal_byte_by_byte_is_compared(tmp_path):
    folder = source(tmp_path, ANSWERED)
    found = _probe_requests.requests(folder, _verify_cases.prepared(folder, []), answers=True)
    assert base64.b64decode(found[".simple"]) == 4 * b"\3\0\0\0"
    body = base64.b64decode(found["simple"]).partition(b"\r\n\r\n")[2]
    assert [entry["name"] for entry in json.JSONDecoder().raw_decode(body.decode("latin-1"))[0]["outputs"]] == ["OUTPUT0"]
    assert ".simple" not in requests(folder)


def test_other_requests_have_another_name():
    names = {_probe_requests.name("release-" + "x" * 60, {"m": content}) for content in ("YQ==", "Yg==")}
    assert len(names) == 2 and all(len(name) <= 63 for name in names)


def script(folder, port):
    """Return the probe's script for files that are mounted there and a server at a port."""
    told = str(folder.parent / "told")
    return _serving.PROBE_SCRIPT.replace(_serving.PROBE, str(folder)).replace(_serving.TOLD, told).replace("/8000", f"/{port}")


def run_script(folder, files, server):
    """Run the probe's script with these files mounted."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    command = ["bash", "-c", script(folder, server.http.rpartition(":")[2])]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(("model", "broken", "passes"), [("simple", False, True), ("gone", False, True), ("simple", True, False)])
def test_the_script_fails_for_a_server_that_fails_only(tmp_path, model, broken, passes):
    content = base64.b64decode(requests(source(tmp_path / "source", FULL))["simple"]).replace(b"/simple/", f"/{model}/".encode())
    with FakeTriton() as server:
        if broken:
            server.compute = lambda *_args: 1 / 0
        done = run_script(tmp_path / "mounted", {"simple": content}, server)
    assert (done.returncode == 0) == passes, done
    assert passes or "the inference of simple was answered with status" in done.stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(("answer", "passes"), [(3, True), (4, False)])
def test_the_script_fails_for_a_wrong_answer(tmp_path, answer, passes):
    folder = source(tmp_path / "source", ANSWERED.replace("[3, 3, 3, 3]", f"[3, 3, 3, {answer}]"))
    found = _probe_requests.requests(folder, _verify_cases.prepared(folder, []), answers=True)
    with FakeTriton() as server:
        done = run_script(tmp_path / "mounted", {name: base64.b64decode(content) for name, content in found.items()}, server)
    assert (done.returncode == 0) == passes, done
    assert passes or "the inference of simple was answered with other values than its golden case expects" in done.stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_the_script_waits_for_the_server(tmp_path):
    folder = tmp_path / "mounted"
    folder.mkdir()
    (folder / "simple").write_bytes(base64.b64decode(requests(source(tmp_path / "source", FULL))["simple"]))
    with FakeTriton() as server:
        # Until the server listens where it is looked for.
        (tmp_path / "port").write_text("1")
        waits = script(folder, "PORT").replace("/PORT", f"/$(cat {tmp_path}/port)")
        with subprocess.Popen(["bash", "-c", waits], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            (tmp_path / "port").write_text(server.http.rpartition(":")[2])
            said = process.communicate(timeout=20)
    assert process.returncode == 0 and said == ("", "")


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_the_script_tells_of_a_wrong_answer_at_once_and_then_takes_its_time(tmp_path):
    content = base64.b64decode(requests(source(tmp_path / "source", FULL))["simple"])
    with FakeTriton() as server:
        server.compute = lambda *_args: 1 / 0
        first = run_script(tmp_path / "mounted", {"simple": content}, server)
        port = server.http.rpartition(":")[2]
        with subprocess.Popen(["bash", "-c", script(tmp_path / "mounted", port)], stdout=subprocess.PIPE, text=True) as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(3)
            second.kill()
    assert first.returncode == 1 and "was answered with status" in first.stdout
