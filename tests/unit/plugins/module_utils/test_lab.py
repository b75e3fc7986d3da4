# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import http.server
import io
import json
import os
import shutil
import socketserver
import tarfile
import threading

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _lab

FIT = {"system": "Linux", "machine": "x86_64", "root": True, "apt": True, "memory": 8 * _lab.GIB, "disk_free": 20 * _lab.GIB}
NODE = "mlserving-lab/node:0a1b2c3d4e"


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A folder that is the whole PATH; returns a function that puts a program there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name, script):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return add


@pytest.fixture
def docker(path, tmp_path):
    """A docker program: ``ps`` is what it lists, ``record`` the file in the control plane."""

    def install(ps="", record=None, network="", status=0):
        (tmp_path / "ps").write_text(ps)
        (tmp_path / "network").write_text(network)
        with tarfile.open(tmp_path / "cp", "w") as archive:
            if record is not None:
                member = tarfile.TarInfo("lab.json")
                member.size = len(record)
                archive.addfile(member, io.BytesIO(record))
        if record is None:
            (tmp_path / "cp").write_bytes(b"")
        cat = shutil.which("cat", path="/bin:/usr/bin")
        path("docker", f'[ "$1" = image ] && exec /bin/sh -c "[ $5 = {NODE} ]"\n{cat} {tmp_path}/$1 && exit {status}')

    return install


def test_a_machine_that_fits():
    assert _lab.refusals(FIT, docker_answers=True, complete=False) == []
    assert _lab.refusals({**FIT, "root": False, "apt": False}, docker_answers=True, complete=False) == []
    assert _lab.refusals(FIT, docker_answers=False, complete=False) == []


@pytest.mark.parametrize(
    ("change", "docker_answers", "reason"),
    [
        ({"system": "Darwin"}, True, "this is Darwin; the lab runs on Linux (a Linux virtual machine will do)."),
        ({"machine": "aarch64"}, True, "this processor is aarch64; the lab's Triton is built for x86_64."),
        ({"root": False}, False, "Docker does not answer, and installing it needs root: start Docker, or run this as root."),
        ({"apt": False}, False, "Docker is not installed, and there is no apt-get to install it with: install Docker."),
        ({"disk_free": 9.5 * _lab.GIB}, True, "9.5 GiB of disk are free where the cache is; the lab needs 10 GiB."),
        ({"memory": 3.5 * _lab.GIB}, True, "this machine has 3.5 GiB of memory; the lab needs 4 GiB."),
    ],
)
def test_each_refusal_says_what_is_and_what_is_needed(path, change, docker_answers, reason):
    assert _lab.refusals({**FIT, **change}, docker_answers, complete=False) == [reason]


def test_all_refusals_are_told_at_once(path):
    assert len(_lab.refusals({**FIT, "machine": "arm64", "memory": 0, "disk_free": 0}, True, complete=False)) == 3


def test_a_lab_that_stands_needs_no_more_disk():
    assert _lab.refusals({**FIT, "disk_free": 0}, docker_answers=True, complete=True) == []


def test_docker_that_is_installed_and_only_not_running(path):
    path("dockerd", "exit 1")
    assert _lab.refusals({**FIT, "apt": False}, docker_answers=False, complete=False) == []


def test_the_machine_is_looked_at_before_the_cache_is_there(tmp_path):
    machine = _lab.host(str(tmp_path / "not" / "yet"))
    assert machine["system"] == "Linux" and machine["root"] == (os.geteuid() == 0)
    assert machine["memory"] > 1 << 28 and machine["disk_free"] > 0


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "files"
    (folder / "node" / "sub").mkdir(parents=True)
    for name in ("wheels.txt", "node/a", "node/sub/b"):
        (folder / name).write_text(name)
    return folder


def test_a_digest_is_stable_and_short(sources, tmp_path):
    recipe = {"files": ["node", "wheels.txt"], "data": [{"b": 1, "a": 2}]}
    first = _lab.digest(str(sources), recipe)
    copied = shutil.copytree(sources, tmp_path / "elsewhere")
    assert _lab.digest(str(copied), {**recipe, "data": [{"a": 2, "b": 1}], "suffix": ""}) == first
    assert len(first) == 10 and int(first, 16) >= 0


def test_a_digest_changes_with_whatever_it_is_made_from(sources):
    def of(data="x", files=("node", "wheels.txt")):
        return _lab.digest(str(sources), {"files": list(files), "data": data})

    digests = [of(), of(data="y"), of(files=["node"]), _lab.digest(str(sources), {})]
    (sources / "node" / "sub" / "b").write_text("changed")
    digests.append(of())
    (sources / "node" / "sub" / "b").rename(sources / "node" / "sub" / "c")
    digests.append(of())
    (sources / "node" / "new").touch()
    digests.append(of())
    assert len(set(digests)) == len(digests)


def test_a_digest_names_the_source_that_is_missing(sources):
    with pytest.raises(FileNotFoundError, match="go/kind"):
        _lab.digest(str(sources), {"files": ["go/kind"]})


@pytest.mark.parametrize(("content", "stale"), [("of this test", True), ("999999999", True), ("", True), ("nonsense", True), (None, False)])
def test_a_pid_file_that_names_no_engine_is_stale(path, tmp_path, monkeypatch, content, stale):
    pid_file = tmp_path / "docker.pid"
    if content is not None:
        pid_file.write_text(content.replace("of this test", str(os.getpid())))
    monkeypatch.setattr(_lab, "PID_FILES", (str(pid_file),))
    assert _lab.docker() == {"installed": False, "answers": False, "message": "", "stale_pid_files": [str(pid_file)] if stale else []}


def test_a_pid_file_of_an_engine_that_starts_is_not_stale(tmp_path, monkeypatch):
    pid_file = tmp_path / "docker.pid"
    pid_file.write_text(str(os.getpid()))
    with open("/proc/self/comm", encoding="utf-8") as stream:
        name = stream.read()
    try:
        with open("/proc/self/comm", "w", encoding="utf-8") as stream:
            stream.write("dockerd")
        assert not _lab._is_stale(str(pid_file))
    finally:
        with open("/proc/self/comm", "w", encoding="utf-8") as stream:
            stream.write(name)


def test_a_pid_file_that_only_root_may_see_is_left_alone(monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    # Tests may run as root, whom no file refuses.
    monkeypatch.setattr(_lab, "open", refuse, raising=False)
    assert not _lab._is_stale("/var/run/docker/containerd/containerd.pid")


def test_an_engine_that_answers_or_says_why_not(path):
    path("dockerd", "")
    path("docker", "echo 29.1.0")
    assert _lab.docker() == {"installed": True, "answers": True, "version": "29.1.0", "message": "", "stale_pid_files": []}
    path("docker", "echo permission denied >&2; exit 1")
    answer = _lab.docker()
    assert (answer["answers"], answer["message"]) == (False, "permission denied")


def listed(*nodes):
    return "".join("\t".join(node) + "\n" for node in nodes)


def test_a_cluster_of_the_lab(docker):
    docker(
        listed(("lab-worker", "running", "worker", NODE), ("lab-control-plane", "running", "control-plane", NODE)),
        json.dumps({"digest": "9f8e7d6c5b", "secret_access_key": "stays-there"}).encode(),
    )
    found = _lab.cluster("lab", NODE)
    assert found == {
        "exists": True,
        "running": True,
        "ours": True,
        "digest": "9f8e7d6c5b",
        "nodes": [
            {"name": "lab-control-plane", "state": "running", "role": "control-plane", "image": NODE},
            {"name": "lab-worker", "state": "running", "role": "worker", "image": NODE},
        ],
    }


@pytest.mark.parametrize(
    ("image", "record", "ours"),
    [
        (NODE, None, True),
        ("mlserving-lab/node:ofbefore", None, True),
        ("kindest/node:v1.35.0", None, False),
        ("kindest/node:v1.35.0", b'{"digest": "9f8e7d6c5b"}', True),
        ("example.com/mlserving-lab/node:1", None, False),
    ],
)
def test_whose_cluster_it_is(docker, image, record, ours):
    docker(listed(("lab-control-plane", "exited", "control-plane", image)), record)
    found = _lab.cluster("lab", NODE)
    assert (found["ours"], found["exists"], found["running"], found["digest"]) == (ours, True, False, "9f8e7d6c5b" if record else "")


def test_one_node_that_stands_still_is_not_a_running_cluster(docker):
    docker(listed(("lab-control-plane", "running", "control-plane", NODE), ("lab-worker", "exited", "worker", NODE)))
    assert not _lab.cluster("lab", NODE)["running"]


def test_no_cluster(docker):
    docker("")
    assert _lab.cluster("lab", NODE) == {"exists": False, "running": False, "ours": False, "digest": "", "nodes": []}


@pytest.mark.parametrize(
    ("subnets", "pool"),
    [
        ("172.18.0.0/16 ", "172.18.255.200-172.18.255.250"),
        ("fc00:f853:ccd:e793::/64 172.19.0.0/16", "172.19.255.200-172.19.255.250"),
        ("192.168.8.0/24", "192.168.8.200-192.168.8.250"),
    ],
)
def test_the_pool_is_at_the_end_of_the_network(monkeypatch, subnets, pool):
    monkeypatch.setattr(_lab, "_run", lambda command: (0, subnets, ""))
    assert _lab.network() == {"pool": pool, "first": pool.partition("-")[0]}


@pytest.mark.parametrize("answer", [(1, "", "no such network"), (0, "", ""), (0, "fc00:f853:ccd:e793::/64", "")])
def test_no_network_has_no_pool(monkeypatch, answer):
    monkeypatch.setattr(_lab, "_run", lambda command: answer)
    assert _lab.network() == {}


def test_which_images_the_engine_has(docker):
    docker()
    assert _lab.images([NODE, "other:1"]) == {NODE: True, "other:1": False}


def test_a_program_that_is_not_installed(path):
    assert _lab._run(["docker", "ps"]) == (127, "", "docker is not installed")


class Answering(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        """Keep the test's output clean."""

    def do_GET(self):
        self.send_response(int(self.path[1:]))
        self.send_header("Content-Length", "0")
        self.end_headers()


class Babbling(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(1000)
        self.request.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


@pytest.mark.parametrize(
    ("handler", "where", "expected"),
    [
        (Answering, "/200", True),
        (Answering, "/403", True),
        (Answering, "/503", False),
        (Babbling, "/", False),
    ],
)
def test_whether_a_server_answers(handler, where, expected):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        assert _lab.answers(f"http://127.0.0.1:{server.server_port}{where}") is expected
        server.shutdown()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "https://127.0.0.1:9", "http://no-such-host.invalid/", "nonsense"])
def test_where_nothing_is_nothing_answers(url):
    assert _lab.answers(url, timeout=0.5) is False
