# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine has of NVIDIA GPUs, driver and container runtimes; changes nothing. PRIVATE to the collection.

Runs on the node, with the node's Python (3.9 and newer). Every path is below a ``root``, so that a recorded machine can be read.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
from xml.etree import ElementTree

NVIDIA = "0x10de"
#: The PCI classes of VGA and 3D controllers, and of NVSwitches.
GPU_CLASSES = ("0300", "0302")
SWITCH_CLASS = "0680"
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
#: nvidia-smi's exit status when it cannot talk to the driver.
NO_DRIVER = 9
BLACKLIST = re.compile(r"^\s*(?:blacklist\s+nouveau|install\s+nouveau\s+/bin/(?:false|true))\s*$", re.MULTILINE)


def read(root: str, path: str) -> str:
    """Return a file's text without surrounding white space; empty if it cannot be read."""
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def run(*command: str) -> tuple[int, str, str]:
    """Run a program and return its exit status (127: not there), output and complaint."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment, timeout=120)
    except FileNotFoundError:
        return 127, "", f"{command[0]} is not installed"
    except subprocess.TimeoutExpired:
        return 124, "", f"{' '.join(command)} did not end within 120 s"
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def pci_devices(root: str) -> tuple[list[dict], int]:
    """Return NVIDIA's GPUs, in the order of their addresses, and the number of NVSwitches."""
    folder = os.path.join(root, "sys/bus/pci/devices")
    gpus, switches = [], 0
    for address in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        entry = os.path.join("sys/bus/pci/devices", address)
        if read(root, f"{entry}/vendor") != NVIDIA:
            continue
        kind = read(root, f"{entry}/class")[2:6]
        driver = os.path.join(root, entry, "driver")
        if kind in GPU_CLASSES:
            bound = os.path.basename(os.path.realpath(driver)) if os.path.exists(driver) else ""
            gpus.append({"address": address, "device": read(root, f"{entry}/device")[2:].lower(), "driver": bound})
        switches += kind == SWITCH_CLASS
    return gpus, switches


def distribution(root: str) -> dict:
    """Return the name, version and words of /etc/os-release; ``like`` are the distributions it names as its models."""
    pairs = dict(line.split("=", 1) for line in read(root, "etc/os-release").splitlines() if "=" in line)
    values = {name: value.strip("\"'") for name, value in pairs.items()}
    return {
        "id": values.get("ID", ""),
        "version": values.get("VERSION_ID", ""),
        "name": values.get("PRETTY_NAME", ""),
        "like": values.get("ID_LIKE", "").split(),
    }


def secure_boot(root: str) -> bool:
    """Return whether the firmware checks signatures; no, where there is no such variable (BIOS, most virtual machines)."""
    try:
        with open(os.path.join(root, SECURE_BOOT), "rb") as stream:
            return stream.read()[-1:] == b"\x01"
    except OSError:
        return False


def nouveau(root: str) -> dict:
    """Return whether the module nouveau is loaded, and whether something keeps it from being loaded."""
    texts = []
    for folder in ("etc/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d", "run/modprobe.d"):
        path = os.path.join(root, folder)
        texts += (
            [read(root, os.path.join(folder, name)) for name in sorted(os.listdir(path)) if name.endswith(".conf")] if os.path.isdir(path) else []
        )
    return {"loaded": os.path.isdir(os.path.join(root, "sys/module/nouveau")), "blacklisted": any(BLACKLIST.search(text) for text in texts)}


def loaded_module(root: str) -> dict:
    """Return the version of the loaded kernel module (empty: none) and whether it is the open one (null: it does not say)."""
    words = read(root, "proc/driver/nvidia/version")
    found = re.search(r"NVRM version:.*?\s(\d{3}\.\d+(?:\.\d+)?)\s", words)
    version = found.group(1) if found else read(root, "sys/module/nvidia/version")
    return {"loaded": version, "open": "Open Kernel Module" in words if words else None}


def installed_by(root: str, smi: str, owner: str, packages: dict) -> str:
    """Return how a driver came here: operator, runfile, package, image, or none.

    :param smi: path of nvidia-smi, empty if there is none
    :param owner: the package that nvidia-smi belongs to, empty if none does
    """
    if os.path.isdir(os.path.join(root, "run/nvidia/driver/usr")):
        return "operator"
    if any(os.path.exists(os.path.join(root, "usr/bin", name)) for name in ("nvidia-uninstall", "nvidia-installer")):
        return "runfile"
    if packages or owner:
        return "package"
    return "image" if smi or os.path.isdir(os.path.join(root, "sys/module/nvidia")) else "none"


def among(names: dict, patterns: list[str]) -> dict:
    return {name: version for name, version in sorted(names.items()) if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)}


def parse_dpkg(output: str) -> dict:
    """Return the version of each installed package from dpkg-query's lines NAME VERSION STATUS."""
    rows = (line.split("\t") for line in output.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 3 and row[2].endswith(" installed")}


def parse_smi(text: str) -> dict:
    """Return what ``nvidia-smi -q -x`` says: driver, cuda, and for each GPU its name, memory in MiB, ECC and MIG.

    :raises ValueError: it is no such report
    """
    try:
        log = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"nvidia-smi's report cannot be read: {error}") from None

    def say(node, path: str) -> str:
        words = (node.findtext(path) or "").strip()
        return "" if words in ("N/A", "[N/A]") else words

    def number(node, path: str) -> int | None:
        word = say(node, path).split(" ")[0]
        return int(word) if word.isdigit() else None

    gpus = [
        {
            "uuid": say(gpu, "uuid"),
            "address": gpu.get("id", ""),
            "name": say(gpu, "product_name"),
            "architecture": say(gpu, "product_architecture"),
            "memory_mib": number(gpu, "fb_memory_usage/total"),
            "persistence": say(gpu, "persistence_mode") == "Enabled",
            "ecc": say(gpu, "ecc_mode/current_ecc"),
            "ecc_uncorrected": number(gpu, "ecc_errors/volatile/dram_uncorrectable"),
            "mig": say(gpu, "mig_mode/current_mig"),
            "mig_pending": say(gpu, "mig_mode/pending_mig"),
            "mig_devices": len(gpu.findall("mig_devices/mig_device")),
            "fabric": say(gpu, "fabric/state"),
        }
        for gpu in log.iter("gpu")
    ]
    return {"driver": say(log, "driver_version"), "cuda": say(log, "cuda_version"), "gpus": gpus}


def smi(program: str) -> dict:
    """Return what nvidia-smi says. ``state``: absent, ok, no-driver (it cannot talk to the kernel module), or failed, with its message."""
    empty = {"driver": "", "cuda": "", "gpus": []}
    if not program:
        return {"state": "absent", "message": "nvidia-smi is not installed", **empty}
    code, output, complaint = run(program, "-q", "-x")
    if code == 0:
        try:
            return {"state": "ok", "message": "", **parse_smi(output)}
        except ValueError as error:
            return {"state": "failed", "message": str(error), **empty}
    return {"state": "no-driver" if code == NO_DRIVER else "failed", "message": f"exit status {code}: {(output or complaint)[:400]}", **empty}


def module_stream(root: str) -> str:
    """Return the enabled stream of dnf's module nvidia-driver, empty if none is."""
    text = read(root, "etc/dnf/modules.d/nvidia-driver.module")
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return values.get("stream", "") if values.get("state") == "enabled" else ""


def kernel_package(release: str) -> str:
    """Return the running kernel's package, which Amazon Linux 2023 names after its version from 6.12 on: kernel6.12."""
    found = re.match(r"(\d+\.\d+)\..*\.amzn2023\.", release)
    return f"kernel{found.group(1)}" if found and found.group(1) != "6.1" else "kernel"


def unread(root: str) -> bool:
    """Return whether apt has read no source yet, as in a fresh image: what is offered is not known then."""
    folder = os.path.join(root, "var/lib/apt/lists")
    return not (os.path.isdir(folder) and any("_Packages" in name for name in os.listdir(folder)))


def moving_headers(root: str, manager: str, names: dict) -> list[str]:
    """Return the packages that bring the headers of each next kernel, for those installed that bring the kernels; without what is installed.

    Those of dnf keep several versions beside each other and are upgraded as the kernel is: one that is installed goes along.
    """
    if manager != "apt":
        return []
    kernels = (re.fullmatch(r"linux-image-(?![\d.]|unsigned-)(.+)(?<!-dbg)(?<!-dbgsym)", name) for name in sorted(names))
    wanted = [f"linux-headers-{found.group(1)}" for found in kernels if found]
    return [name for name in wanted if name not in names and (unread(root) or "Package:" in run("apt-cache", "show", name)[1])]


def headers(root: str, release: str, manager: str) -> str:
    """Return whether the running kernel's headers are installed, available from the package manager's sources, unread or missing."""
    if os.path.exists(os.path.join(root, f"lib/modules/{release}/build")):
        return "installed"
    if manager == "apt":
        if parse_dpkg(run("dpkg-query", "-W", "-f", "${Package}\t${Version}\t${Status}\n", f"linux-headers-{release}")[1]):
            return "installed"
        if "Package:" in run("apt-cache", "show", f"linux-headers-{release}")[1]:
            return "available"
        return "unread" if unread(root) else "missing"
    if manager == "dnf":
        name = f"{kernel_package(release)}-devel-{release}"
        if run("rpm", "-q", name)[0] == 0:
            return "installed"
        return "available" if run("dnf", "-q", "repoquery", name)[1] else "missing"
    return "missing"


def runtimes() -> dict:
    """Return of each container runtime on this machine its version."""
    found = {}
    for name, command in (("containerd", ["containerd", "--version"]), ("docker", ["dockerd", "--version"]), ("crio", ["crio", "--version"])):
        path = shutil.which(command[0], path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        version = re.search(r"\d+\.\d+\.\d+", run(path, *command[1:])[1]) if path else None
        if path:
            found[name] = version.group(0) if version else ""
    return found


def look(root: str, patterns: list[str]) -> dict:
    """Return everything about this machine that the role decides from."""
    manager = "apt" if shutil.which("apt-get") else "dnf" if shutil.which("dnf") else ""
    release = os.uname().release
    program = shutil.which("nvidia-smi", path="/usr/bin:/usr/local/bin:/usr/sbin:/bin") or ""
    owner, names = "", {}
    if manager == "apt":
        names = parse_dpkg(run("dpkg-query", "-W", "-f", "${Package}\t${Version}\t${Status}\n")[1])
        owner = run("dpkg", "-S", program)[1] if program else ""
    elif manager == "dnf":
        lines = run("rpm", "-qa", "--queryformat", "%{NAME}\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\n")[1].splitlines()
        names = dict(line.split("\t") for line in lines if "\t" in line)
        owner = run("rpm", "-qf", program)[1] if program and run("rpm", "-qf", program)[0] == 0 else ""
    packages = among(names, patterns)
    gpus, switches = pci_devices(root)
    return {
        "distribution": distribution(root),
        "machine": os.uname().machine,
        "kernel": {
            "release": release,
            "package": kernel_package(release),
            "headers": headers(root, release, manager),
            "moving": moving_headers(root, manager, names),
        },
        "gpus": gpus,
        "switches": switches,
        "secure_boot": secure_boot(root),
        "nouveau": nouveau(root),
        "driver": {
            **loaded_module(root),
            "installed_by": installed_by(root, program, owner.split(":")[0], packages),
            "packages": packages,
            "stream": module_stream(root),
        },
        "toolkit": names.get("nvidia-container-toolkit", ""),
        "runtimes": runtimes(),
        "smi": smi(program),
    }
