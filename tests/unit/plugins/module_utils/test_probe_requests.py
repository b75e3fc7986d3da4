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


def test_other_requests_have_another_name():
    names = {_probe_requests.name("release-" + "x" * 60, {"m": content}) for content in ("YQ==", "Yg==")}
    assert len(names) == 2 and all(len(name) <= 63 for name in names)


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(("model", "broken", "passes"), [("simple", False, True), ("gone", False, True), ("simple", True, False)])
def test_the_script_fails_for_a_server_that_fails_only(tmp_path, model, broken, passes):
    content = base64.b64decode(requests(source(tmp_path / "source", FULL))["simple"]).replace(b"/simple/", f"/{model}/".encode())
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted" / "simple").write_bytes(content)
    with FakeTriton() as server:
        if broken:
            server.compute = lambda *_args: 1 / 0
        port = server.http.rpartition(":")[2]
        script = _serving.PROBE_SCRIPT.replace(_serving.PROBE, str(tmp_path / "mounted")).replace("/8000", f"/{port}")
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode == 0) == passes, done
    assert passes or "the inference of simple was answered with status" in done.stdout
