# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _gpu_node

REPORT = (pathlib.Path(__file__).parent / "fixtures" / "nvidia-smi" / "h100.xml").read_text(encoding="utf-8")


def put(root, path, text):
    target = pathlib.Path(root, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(text if isinstance(text, bytes) else text.encode())


def test_gpus_and_switches_are_told_from_other_devices(tmp_path):
    devices = [("0000:3b:00.0", "0x10de", "0x2330", "0x030200"), ("0000:86:00.0", "0x10de", "0x22a3", "0x068000")]
    devices += [("0000:00:02.0", "0x8086", "0x4680", "0x030000"), ("0000:01:00.1", "0x10de", "0x10f8", "0x040300")]
    for address, vendor, device, kind in devices:
        for name, text in (("vendor", vendor), ("device", device), ("class", kind)):
            put(tmp_path, f"sys/bus/pci/devices/{address}/{name}", text + "\n")
    assert _gpu_node.pci_devices(str(tmp_path)) == ([{"address": "0000:3b:00.0", "device": "2330", "driver": ""}], 1)


def test_a_machine_without_a_bus_has_no_gpus(tmp_path):
    assert _gpu_node.pci_devices(str(tmp_path)) == ([], 0)


@pytest.mark.parametrize(("content", "on"), [(b"\x06\x00\x00\x00\x01", True), (b"\x06\x00\x00\x00\x00", False), (None, False)])
def test_secure_boot_is_what_the_firmware_says(tmp_path, content, on):
    if content is not None:
        put(tmp_path, _gpu_node.SECURE_BOOT, content)
    assert _gpu_node.secure_boot(str(tmp_path)) is on


@pytest.mark.parametrize(
    ("text", "kept"),
    [("blacklist nouveau\n", True), ("install nouveau /bin/false\n", True), ("# blacklist nouveau\n", False), ("blacklist nouveau_x\n", False)],
)
def test_nouveau_is_kept_out_by_a_line_that_counts(tmp_path, text, kept):
    put(tmp_path, "etc/modprobe.d/x.conf", text)
    assert _gpu_node.nouveau(str(tmp_path)) == {"loaded": False, "blacklisted": kept}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (root@host)\n", {"loaded": "580.95.05", "open": True}),
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8\nGCC version:  gcc version 12\n",
            {"loaded": "550.163.01", "open": False},
        ),
    ],
)
def test_the_loaded_module_says_version_and_flavour(tmp_path, words, found):
    put(tmp_path, "proc/driver/nvidia/version", words)
    assert _gpu_node.loaded_module(str(tmp_path)) == found


@pytest.mark.parametrize(
    ("path", "smi", "owner", "packages", "came"),
    [
        ("", "", "", {}, "none"),
        ("", "/usr/bin/nvidia-smi", "nvidia-smi", {}, "package"),
        ("", "/usr/bin/nvidia-smi", "", {}, "image"),
        ("sys/module/nvidia/version", "", "", {}, "image"),
        ("usr/bin/nvidia-uninstall", "/usr/bin/nvidia-smi", "", {}, "runfile"),
        ("run/nvidia/driver/usr/bin/nvidia-smi", "", "", {"nvidia-smi": "1"}, "operator"),
    ],
)
def test_where_a_driver_came_from(tmp_path, path, smi, owner, packages, came):
    if path:
        put(tmp_path, path, "")
    assert _gpu_node.installed_by(str(tmp_path), smi, owner, packages) == came


def test_a_report_is_read():
    found = _gpu_node.parse_smi(REPORT)
    assert (found["driver"], found["cuda"]) == ("580.95.05", "13.0")
    gpu = found["gpus"][0]
    assert (gpu["name"], gpu["memory_mib"], gpu["ecc"], gpu["ecc_uncorrected"], gpu["mig"]) == (
        "NVIDIA H100 80GB HBM3",
        81559,
        "Enabled",
        0,
        "Disabled",
    )


def test_a_card_without_ecc_and_mig_says_nothing():
    report = REPORT.replace("Disabled</current_mig>", "[N/A]</current_mig>").replace("Enabled</current_ecc>", "N/A</current_ecc>")
    gpu = _gpu_node.parse_smi(report)["gpus"][0]
    assert (gpu["mig"], gpu["ecc"]) == ("", "")


def test_what_is_no_report_is_said_to_be_none():
    with pytest.raises(ValueError, match="cannot be read"):
        _gpu_node.parse_smi("Unable to determine the device handle")


def test_only_installed_packages_count():
    assert _gpu_node.parse_dpkg("a\t1\tinstall ok installed\nb\t2\tdeinstall ok config-files\nc\t3\thold ok installed\n") == {"a": "1", "c": "3"}


def test_the_enabled_stream_is_read(tmp_path):
    put(tmp_path, "etc/dnf/modules.d/nvidia-driver.module", "[nvidia-driver]\nname=nvidia-driver\nstream=580-open\nprofiles=\nstate=enabled\n")
    assert _gpu_node.module_stream(str(tmp_path)) == "580-open"


@pytest.mark.parametrize(
    ("release", "package"),
    [
        ("6.12.46-66.121.amzn2023.x86_64", "kernel6.12"),
        ("6.1.155-176.282.amzn2023.aarch64", "kernel"),
        ("5.14.0-570.12.1.el9_6.x86_64", "kernel"),
    ],
)
def test_a_kernel_has_a_package(release, package):
    assert _gpu_node.kernel_package(release) == package


@pytest.mark.parametrize(
    ("lists", "offered", "found"),
    [
        (["lock", "partial"], "", "unread"),
        (["deb.debian.org_debian_dists_bookworm_main_binary-amd64_Packages.lz4"], "", "missing"),
        (["deb.debian.org_debian_dists_bookworm_main_binary-amd64_Packages.lz4"], "Package: x", "available"),
        ([], "Package: x", "available"),
    ],
)
def test_headers_are_missing_only_where_sources_were_read(tmp_path, monkeypatch, lists, offered, found):
    for name in lists:
        put(tmp_path, f"var/lib/apt/lists/{name}", "")
    monkeypatch.setattr(_gpu_node, "run", lambda *command: (0, offered if command[0] == "apt-cache" else "", ""))
    assert _gpu_node.headers(str(tmp_path), "6.1.0-37-amd64", "apt") == found


def test_amazons_newer_kernels_have_headers_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(_gpu_node, "run", lambda *command: (1, "x" if command[-1].startswith("kernel6.12-devel-6.12.46") else "", ""))
    assert _gpu_node.headers(str(tmp_path), "6.12.46-66.121.amzn2023.x86_64", "dnf") == "available"


@pytest.mark.parametrize(
    ("names", "moving"),
    [
        (["linux-image-amd64", "linux-image-6.1.0-37-amd64"], ["linux-headers-amd64"]),
        (["linux-image-amd64", "linux-headers-amd64"], []),
        (["linux-image-cloud-amd64", "linux-image-cloud-amd64-dbg"], ["linux-headers-cloud-amd64"]),
        (["linux-image-generic-hwe-24.04", "linux-image-unsigned-6.8.0-1-generic"], ["linux-headers-generic-hwe-24.04"]),
        (["linux-image-nobodys"], []),
        (["linux-image-6.1.0-37-amd64"], []),
    ],
)
def test_headers_move_with_the_kernels(tmp_path, monkeypatch, names, moving):
    put(tmp_path, "var/lib/apt/lists/x_Packages", "")
    monkeypatch.setattr(_gpu_node, "run", lambda *command: (0, "" if command[-1].endswith("nobodys") else "Package: x", ""))
    assert _gpu_node.moving_headers(str(tmp_path), "apt", dict.fromkeys(names, "1")) == moving
