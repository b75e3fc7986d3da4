# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a container runtime with NVIDIA's runtime in it. PRIVATE to the collection."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile

#: For each runtime its configuration, the file that nvidia-ctk's part goes to (docker has no such place), and the command that checks it.
RUNTIMES = {
    "containerd": ("/etc/containerd/config.toml", "/etc/containerd/conf.d/99-nvidia.toml", ["containerd", "--config", "{path}", "config", "dump"]),
    "docker": ("/etc/docker/daemon.json", "", ["dockerd", "--validate", "--config-file", "{path}"]),
    "crio": ("/etc/crio/crio.conf", "/etc/crio/conf.d/99-nvidia.toml", []),
}
IMPORTS = re.compile(r"^imports\s*=\s*\[([^\]]*)\][^\n]*\n?", re.MULTILINE)


class RuntimeConfigError(Exception):
    """nvidia-ctk or the runtime refuses the configuration. The text says which file and why."""


def read(path: str) -> str:
    """Return a file's text, empty if there is none."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def imports(text: str) -> list[str]:
    """Return the files and patterns that a containerd configuration imports."""
    found = IMPORTS.search(text)
    return re.findall(r"[\"']([^\"']+)[\"']", found.group(1)) if found else []


def with_imports(text: str, entries: list[str]) -> str:
    """Return a containerd configuration with other imports, every other line as it was."""
    line = "imports = [" + ", ".join(f'"{entry}"' for entry in entries) + "]\n" if entries else ""
    return IMPORTS.sub(lambda found: line, text, count=1) if IMPORTS.search(text) else line + text


def execute(command: list[str], what: str) -> None:
    """Run a program.

    :raises RuntimeConfigError: it is not there or fails
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        raise RuntimeConfigError(f"{what}: {command[0]} is not installed.") from None
    if done.returncode:
        raise RuntimeConfigError(f"{what}: {(done.stderr or done.stdout).strip()[-600:]}")


def write(path: str, text: str) -> str:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
    return path


def wanted(runtime: str, program: str, main: str, drop_in: str, options: list[str]) -> dict:
    """Return the text that each file should have, by path, proven by the runtime's own check. Nothing outside a temporary folder is written.

    :param program: nvidia-ctk
    :param main: path of the runtime's configuration
    :param drop_in: path of NVIDIA's part, empty for docker
    :raises RuntimeConfigError: nvidia-ctk cannot read the configuration, or the runtime would not start with the new one
    """
    before = read(main)
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, os.path.basename(main))
        if before:
            write(copy, before)
        part = os.path.join(folder, "conf.d", os.path.basename(drop_in)) if drop_in else ""
        place = [f"--drop-in-config={part}"] if part else []
        execute([program, "runtime", "configure", f"--runtime={runtime}", f"--config={copy}", *place, *options], f"nvidia-ctk cannot use {main}")
        if runtime == "docker":
            texts = {main: read(copy)}
        elif runtime == "crio":
            texts = {drop_in: read(part)}
        else:
            pattern = os.path.join(os.path.dirname(drop_in), "*.toml")
            entries = imports(before)
            # A new configuration has nobody's content yet: nvidia-ctk's own start of it will do.
            base = before or with_imports(read(copy), [])
            texts = {main: with_imports(base, entries if pattern in entries else [*entries, pattern]), drop_in: read(part)}
            write(copy, with_imports(base, [*(entry for entry in entries if entry != pattern), part]))
        check = RUNTIMES[runtime][2]
        if check:
            execute([word.format(path=copy) for word in check], f"{runtime} would not start with the new {main}")
    return texts


def without(runtime: str, main: str, drop_in: str) -> dict:
    """Return the text that each file should have without NVIDIA's part; None for a file that should be gone."""
    before = read(main)
    if runtime == "docker":
        return {}
    texts = {drop_in: None}
    folder = os.path.dirname(drop_in)
    others = [name for name in os.listdir(folder) if name.endswith(".toml") and name != os.path.basename(drop_in)] if os.path.isdir(folder) else []
    pattern = os.path.join(folder, "*.toml")
    if runtime == "containerd" and not others and pattern in imports(before):
        texts[main] = with_imports(before, [entry for entry in imports(before) if entry != pattern])
    return texts
