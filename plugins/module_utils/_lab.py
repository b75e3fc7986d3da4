# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at this machine and at the lab on it; changes nothing. PRIVATE to the collection."""

from __future__ import annotations

import hashlib
import http.client
import io
import ipaddress
import json
import os
import platform
import shutil
import subprocess
import tarfile
import urllib.error

from ansible.module_utils.urls import open_url

GIB = 1 << 30
LEAST_DISK = 10 * GIB
LEAST_MEMORY = 4 * GIB
CAP_SYS_RESOURCE = 24
PID_FILES = ("/var/run/docker.pid", "/var/run/docker/containerd/containerd.pid")
#: The label that kind puts on a node's container.
KIND_LABEL = "io.x-k8s.kind.cluster"
#: In the control plane's container: what it was made from, and the S3 credentials.
RECORD = "/kind/lab.json"


def host(cache: str) -> dict:
    """Return what the machine is and has; sizes are in bytes, ``go`` is the version of the Go toolchain or empty."""
    with open("/proc/self/status", encoding="utf-8") as stream:
        effective = next((int(line.split()[1], 16) for line in stream if line.startswith("CapEff:")), 0)
    with open("/proc/1/comm", encoding="utf-8") as stream:
        init = stream.read().strip()
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "root": os.geteuid() == 0,
        "apt": shutil.which("apt-get") is not None,
        "init": init,
        "sys_resource": bool(effective >> CAP_SYS_RESOURCE & 1),
        "cgroup": 2 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "go": _run(["go", "env", "GOVERSION"])[1].removeprefix("go"),
        "disk_free": shutil.disk_usage(_existing(cache)).free,
    }


def refusals(machine: dict, docker_answers: bool, complete: bool) -> list[str]:
    """Return why the lab cannot run here, in words; empty if it can.

    :param complete: everything is built and running, so that free disk is no longer needed
    """
    reasons = []
    if machine["system"] != "Linux":
        reasons.append(f"this is {machine['system']}; the lab runs on Linux (a Linux virtual machine will do).")
    if machine["machine"] != "x86_64":
        reasons.append(f"this processor is {machine['machine']}; the lab's Triton is built for x86_64.")
    if not docker_answers and not machine["root"]:
        reasons.append("Docker does not answer, and installing it needs root: start Docker, or run this as root.")
    if not docker_answers and machine["root"] and not machine["apt"] and not shutil.which("dockerd"):
        reasons.append("Docker is not installed, and there is no apt-get to install it with: install Docker.")
    if not complete and machine["disk_free"] < LEAST_DISK:
        reasons.append(f"{machine['disk_free'] / GIB:.1f} GiB of disk are free where the cache is; the lab needs {LEAST_DISK // GIB} GiB.")
    if machine["memory"] < LEAST_MEMORY:
        reasons.append(f"this machine has {machine['memory'] / GIB:.1f} GiB of memory; the lab needs {LEAST_MEMORY // GIB} GiB.")
    return reasons


def docker() -> dict:
    """Return whether a Docker engine answers, and which of its pid files name no such process (they would stop its start)."""
    program = shutil.which("docker")
    result = {"installed": program is not None and shutil.which("dockerd") is not None, "answers": False, "message": "", "stale_pid_files": []}
    if program:
        code, output, message = _run([program, "version", "--format", "{{.Server.Version}}"])
        result |= {"answers": code == 0 and bool(output), "version": output, "message": message}
    if not result["answers"]:
        result["stale_pid_files"] = [path for path in PID_FILES if _is_stale(path)]
    return result


def _is_stale(path: str) -> bool:
    try:
        with open(path, encoding="utf-8") as stream:
            pid = int(stream.read().strip() or 0)
        with open(f"/proc/{pid}/comm", encoding="utf-8") as stream:
            return stream.read().strip() not in ("dockerd", "containerd")
    except FileNotFoundError:
        return os.path.exists(path)
    except PermissionError:
        # Only root may look, and only root starts Docker.
        return False
    except ValueError:
        return True


def cluster(name: str, node_image: str) -> dict:
    """Return what stands of the kind cluster.

    ``nodes`` is a list of name, state, role and image; ``running`` whether all run; ``ours`` whether the role made it, as
    the node image or the record in the control plane says; ``digest`` what it was made from, empty if it was never finished.
    """
    code, output, message = _run(
        ["docker", "ps", "-a", "--filter", f"label={KIND_LABEL}={name}", "--format", '{{.Names}}\t{{.State}}\t{{.Label "io.x-k8s.kind.role"}}\t{{.Image}}']
    )
    nodes = []
    if code == 0:
        keys = ("name", "state", "role", "image")
        nodes = sorted((dict(zip(keys, line.split("\t"))) for line in output.splitlines()), key=lambda node: node["name"])
    made_from = next((_recorded_digest(node["name"]) for node in nodes if node["role"] == "control-plane"), "")
    return {
        "exists": bool(nodes),
        "running": bool(nodes) and all(node["state"] == "running" for node in nodes),
        "ours": bool(made_from) or any(node["image"] == node_image or node["image"].startswith("mlserving-lab/node:") for node in nodes),
        "digest": made_from,
        "nodes": nodes,
    }


def _recorded_digest(container: str) -> str:
    """Return the digest in the control plane's record; its credentials stay there."""
    try:
        done = subprocess.run(["docker", "cp", f"{container}:{RECORD}", "-"], capture_output=True, timeout=20, check=False)
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            return json.load(archive.extractfile(archive.next()))["digest"]
    except (tarfile.ReadError, subprocess.TimeoutExpired):
        return ""


def network() -> dict:
    """Return the addresses that load balancers may take in Docker's kind network: ``pool`` (a range) and its ``first``; empty without the network."""
    code, output, message = _run(["docker", "network", "inspect", "kind", "--format", "{{range .IPAM.Config}}{{.Subnet}} {{end}}"])
    subnets = [ipaddress.ip_network(text) for text in output.split()] if code == 0 else []
    for subnet in subnets:
        if subnet.version == 4:
            last = subnet.broadcast_address
            return {"pool": f"{last - 55}-{last - 5}", "first": str(last - 55)}
    return {}


def images(names: list[str]) -> dict[str, bool]:
    """Return for each image name whether the Docker engine has it."""
    return {name: _run(["docker", "image", "inspect", "--format", "{{.Id}}", name])[0] == 0 for name in names}


def digest(folder: str, recipe: dict) -> str:
    """Return ten hex digits over what a build is made from: ``files`` (paths below folder) and ``data`` (anything JSON can say)."""
    total = hashlib.sha256(json.dumps(recipe.get("data"), sort_keys=True, default=str).encode())
    for name in recipe.get("files", []):
        path = os.path.join(folder, name)
        members = [path] if os.path.isfile(path) else sorted(os.path.join(where, file) for where, _folders, files in os.walk(path) for file in files)
        if not members:
            raise FileNotFoundError(path)
        for member in members:
            total.update(os.path.relpath(member, folder).encode())
            with open(member, "rb") as stream:
                total.update(stream.read())
    return total.hexdigest()[:10]


def answers(url: str, timeout: float = 2) -> bool:
    """Whether a server answers at the URL, with whatever status below 500. Its certificate does not matter."""
    try:
        open_url(url, timeout=timeout, validate_certs=False, use_proxy=False).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return False
    return True


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _run(command: list[str]) -> tuple[int, str, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return 124, "", f"{command[0]} did not answer within 20 s"
    except FileNotFoundError:
        return 127, "", f"{command[0]} is not installed"
    return done.returncode, done.stdout.strip(), done.stderr.strip()
