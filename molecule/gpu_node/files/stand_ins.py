#!/usr/bin/env python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes package repositories whose packages have the true names and a stand-in's content. Runs in the scenario's container.

The kernel module is a service that waits for the next start and then does to /sys/module what the module would, if modprobe's configuration
lets it; nvidia-smi answers from a report of a real one. nvidia-ctk is the real program.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

LAB = pathlib.Path("/lab")
KERNEL = os.uname().release
SMI = """#!/bin/sh
loaded=$(cat /sys/module/nvidia/version 2>/dev/null)
if [ -z "$loaded" ]; then
  echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
  exit 9
fi
if [ "$loaded" != {upstream} ]; then
  echo "Failed to initialize NVML: Driver/library version mismatch"
  exit 18
fi
sed "s|<driver_version>.*</driver_version>|<driver_version>$loaded</driver_version>|" /lab/nvidia-smi.xml
"""
MODULE = """#!/bin/sh
modprobe --showconfig | grep -q '^blacklist nouveau' || exit 0
rm -rf /sys/module/nouveau
mkdir -p /sys/module/nvidia
echo {upstream} > /sys/module/nvidia/version
"""
UNIT = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={command}\n[Install]\nWantedBy=multi-user.target\n"


def build(folder: pathlib.Path, name: str, version: str, files: dict, depends: str = "") -> None:
    """Make one package; ``files`` holds texts or paths of files by the path that they get."""
    root = LAB / "build" / f"{name}_{version}"
    for path, content in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pathlib.Path):
            shutil.copy(content, target)
        else:
            target.write_text(content)
        target.chmod(0o755 if "bin/" in path or "libexec/" in path else 0o644)
    control = root / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    fields = {"Package": name, "Version": version, "Architecture": "amd64", "Maintainer": "nobody <nobody@example.com>", "Depends": depends}
    control.write_text("".join(f"{key}: {value}\n" for key, value in fields.items() if value) + f"Description: stand-in for {name}\n")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg-deb", "-Znone", "--root-owner-group", "--build", str(root), str(folder)], check=True, stdout=subprocess.DEVNULL)


def index(folder: pathlib.Path) -> None:
    """Write Packages and Release of a flat repository."""
    text = ""
    for path in sorted(folder.glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "--field", str(path)], check=True, capture_output=True, text=True).stdout
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        text += f"{control}Filename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n\n"
    (folder / "Packages").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "Release").write_text(
        f"Origin: NVIDIA\nLabel: stand-ins\nDate: Wed, 01 Jan 2025 00:00:00 UTC\nSHA256:\n {digest} {len(text)} Packages\n"
    )


def main() -> None:
    driver, toolkit, system = (LAB / "repositories" / name for name in ("driver/debian12/x86_64", "toolkit/deb/amd64", "system"))
    for upstream in ("580.82.07", "580.95.05", "595.71.05"):
        version = f"{upstream}-1"
        build(driver, "nvidia-driver-cuda", version, {"/usr/share/nvidia/driver": upstream}, f"nvidia-smi (= {version})")
        build(driver, "nvidia-smi", version, {"/usr/bin/nvidia-smi": SMI.format(upstream=upstream)})
        unit = UNIT.format(command="/usr/libexec/nvidia-stand-in")
        module = {
            "/usr/libexec/nvidia-stand-in": MODULE.format(upstream=upstream),
            "/usr/lib/systemd/system/nvidia-stand-in.service": unit,
            "/usr/lib/systemd/system/multi-user.target.d/nvidia-stand-in.conf": "[Unit]\nWants=nvidia-stand-in.service\n",
        }
        for name in ("nvidia-kernel-open-dkms", "nvidia-kernel-dkms"):
            build(driver, name, version, module)
        build(driver, "nvidia-persistenced", version, {"/usr/lib/systemd/system/nvidia-persistenced.service": UNIT.format(command="/bin/true")})
        build(driver, "nvidia-fabricmanager", version, {"/usr/lib/systemd/system/nvidia-fabricmanager.service": UNIT.format(command="/bin/true")})
    build(toolkit, "nvidia-container-toolkit-base", "1.20.1-1", {"/usr/bin/nvidia-ctk": LAB / "nvidia-ctk"})
    for name in ("nvidia-container-toolkit", "libnvidia-container-tools", "libnvidia-container1"):
        build(toolkit, name, "1.20.1-1", {f"/usr/share/{name}": ""}, "nvidia-container-toolkit-base" if name == "nvidia-container-toolkit" else "")
    build(system, f"linux-headers-{KERNEL}", "1", {"/usr/share/headers": ""})
    for folder in (driver, toolkit, system):
        index(folder)
    shutil.rmtree(LAB / "build")


if __name__ == "__main__":
    sys.exit(main())
