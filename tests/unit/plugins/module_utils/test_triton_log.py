# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib

import pytest
import yaml

from ansible_collections.mlserving.triton.plugins.module_utils import _triton_log

LOGS = yaml.safe_load((pathlib.Path(__file__).parent / "fixtures" / "triton_logs.yml").read_text())
#: log -> cause, whether trying again is pointless, what the reason and the advice must say
EXPECTED = {
    "backend_missing": ("model_load", True, "model 'onnx'", "no backend onnxruntime"),
    "python_package_missing": ("model_load", True, "model 'simple'", "no Python package numpy"),
    "version_missing": ("model_load", True, "model 'nover'", "folder named by a number"),
    "config_invalid": ("model_load", True, "model 'parse'", "config.pbtxt is not valid"),
    "name_differs": ("model_load", True, "model 'other'", "same text"),
    "model_raises": ("model_load", True, "RuntimeError: weights.bin is truncated", "publish it again"),
    "gpu_missing": ("model_load", True, "model 'gpu'", "Request a GPU"),
    "folder_missing": ("repository_path", True, "does not exist", "Check bucket and prefix"),
    "s3_prefix_missing": ("repository_path", True, "holds nothing", "Check bucket and prefix"),
    "s3_refused": ("s3_access", False, "refused access", "a bucket that does not exist"),
    "s3_unreachable": ("s3_access", True, "no connection", "host, port and scheme"),
    "s3_unresolved": ("s3_access", True, "cannot be resolved", "NAME.NAMESPACE.svc"),
    "option_unknown": ("config", True, "--no-such-flag=1", "Remove the argument"),
    "port_taken": ("port", True, "is taken", "different ports"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_log_is_explained(name):
    cause, certain, why, todo = EXPECTED[name]
    found = _triton_log.explain(LOGS[name])
    assert (found.cause, found.certain) == (cause, certain)
    assert why in found.why and todo in found.todo


@pytest.mark.parametrize("name", ["serving", "s3_silent"])
def test_a_log_without_a_failure_explains_nothing(name):
    assert _triton_log.explain(LOGS[name]) is None


def test_older_servers_write_the_same_without_quotes():
    line = "E0101 10:00:00.1 1 model_lifecycle.cc:621] failed to load 'x' version 3: Internal: out of memory\n"
    assert _triton_log.model_failures(line) == {"x": "Internal: out of memory"}


def test_a_server_stopped_while_starting_is_explained_by_what_it_had_not_done():
    assert "had not got past opening the model repository" in _triton_log.explain_silence(LOGS["s3_silent"]).why
    unfinished = LOGS["serving"].split("successfully loaded")[0].rsplit("\n", 1)[0]
    assert "had not finished loading simple" in _triton_log.explain_silence(unfinished).why
    assert _triton_log.explain_silence(LOGS["serving"]) is None


@pytest.mark.parametrize(
    ("name", "line"),
    [("option_unknown", "tritonserver: unrecognized option '--no-such-flag=1'"), ("s3_prefix_missing", "error: creating server: Invalid argument")],
)
def test_the_telling_line_is_shown(name, line):
    shown = _triton_log.relevant(LOGS[name], 5)
    assert any(entry.startswith(line) for entry in shown)
    assert not any("NVML" in entry or entry.startswith(("|", " ")) for entry in shown)


def test_only_so_many_lines_are_shown():
    assert len(_triton_log.relevant(LOGS["model_raises"], 2)) == 2
    assert _triton_log.relevant(LOGS["model_raises"], 0) == []


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("key AKIAIOSFODNN7EXAMPLE was refused", "AKIAIOSFODNN7EXAMPLE"),
        ("GET /b?X-Amz-Signature=abcdef0123&x=1", "abcdef0123"),
        ("GET /b?X-Amz-Credential=ME%2F2026&X-Amz-Security-Token=tok123", "tok123"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI"),
        ('{"secret_key": "wJalrXUtnFEMI"}', "wJalrXUtnFEMI"),
        ("http://me:hunter2@proxy:3128/", "hunter2"),
        ("Authorization: Bearer abc.def", "abc.def"),
    ],
)
def test_credentials_are_redacted(text, secret):
    shown = _triton_log.redact(text)
    assert secret not in shown and "(redacted)" in shown
    assert _triton_log.relevant(text, 5) == [shown]


def test_a_model_that_was_loaded_later_is_no_failure():
    log = "E0101 1 x] \"failed to load 'x' version 1: Internal: half a file\"\nI0101 1 x] \"successfully loaded 'x'\"\n"
    assert _triton_log.model_failures(log) == {} and _triton_log.explain_models(log) is None


def test_a_python_backend_that_cannot_start_is_seen_while_triton_waits():
    stub = "/opt/tritonserver/backends/python/triton_python_backend_stub: error while loading shared libraries: libpython3.12.so.1.0: cannot open\n"
    assert "libpython3.12.so.1.0: cannot open" in _triton_log.explain_hanging(stub).why
    assert _triton_log.explain_hanging(LOGS["model_raises"]) is None


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("There is nothing at s3://b/p: publish the models first.", "repository_path"),
        ("The store refuses with the given credentials: they are expired or unknown (ExpiredToken).", "s3_access"),
        ("The store at s3:1 does not answer as it should, after 8 tries: TimeoutError: timed out.", "s3_access"),
        ("No space left on device: /cache/x", "model_cache"),
    ],
)
def test_the_last_error_of_the_model_cache_is_the_reason(said, cause):
    found = _triton_log.explain_fetching(f"error: an earlier one\nlooking again\nerror: {said}\n")
    assert (found.cause, found.why) == (cause, said.rstrip("."))
    assert _triton_log.explain_fetching("Killed\n") is None
