# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib

import pytest
import yaml

from ansible_collections.mlserving.triton.plugins.module_utils import _gpu_plan

VARS = pathlib.Path(__file__).parents[4] / "roles" / "gpu_node" / "vars" / "main"
DEBIAN = {"id": "debian", "version": "12", "name": "Debian GNU/Linux 12 (bookworm)", "like": []}
UBUNTU = {"id": "ubuntu", "version": "24.04", "name": "Ubuntu 24.04.3 LTS", "like": ["debian"]}
ROCKY = {"id": "rocky", "version": "9.6", "name": "Rocky Linux 9.6 (Blue Onyx)", "like": ["rhel", "centos", "fedora"]}
AMAZON = {"id": "amzn", "version": "2023", "name": "Amazon Linux 2023.9.20251014", "like": ["fedora"]}
WISHES = {
    "driver_manage": True,
    "driver_branch": "580",
    "driver_version": "",
    "driver_flavour": "auto",
    "driver_packages": [],
    "driver_replace": False,
    "secure_boot_signed": False,
    "fabric_manager": "auto",
    "mig_layout": "",
    "runtime": "auto",
    "repository_url": "https://mirror.example.com/repos",
    "repository_key": "",
}


def load(name):
    return yaml.safe_load((VARS / f"{name}.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tables():
    found = {**load("architectures"), **load("branches"), **load("distributions")}
    names = ("architectures", "newer", "branches", "last_numbered_branch", "distributions", "repository_keys")
    return {name: found[f"__gpu_node_{name}"] for name in names}


def node(*devices, distribution=None, driver=None, smi=None, **more):
    return {
        "distribution": distribution or DEBIAN,
        "machine": "x86_64",
        "kernel": {"release": "6.1.0-37-amd64", "package": "kernel", "headers": "available", "moving": []},
        "gpus": [{"address": f"0000:{number:02x}:00.0", "device": device, "driver": ""} for number, device in enumerate(devices, 1)],
        "switches": 0,
        "secure_boot": False,
        "nouveau": {"loaded": False, "blacklisted": True},
        "driver": {"loaded": "", "open": None, "installed_by": "none", "packages": {}, "stream": "", **(driver or {})},
        "toolkit": "",
        "runtimes": {"containerd": "1.7.27"},
        "smi": {"state": "absent", "message": "nvidia-smi is not installed", "driver": "", "cuda": "", "gpus": [], **(smi or {})},
        **more,
    }


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("1db4", "Volta"),
        ("1eb8", "Turing"),
        ("20b0", "Ampere"),
        ("2236", "Ampere"),
        ("2330", "Hopper"),
        ("26b9", "Ada Lovelace"),
        ("27b8", "Ada Lovelace"),
    ]
    + [("2901", "Blackwell"), ("2bb5", "Blackwell"), ("3182", "Blackwell"), ("1b38", "Pascal"), ("4000", "unknown newer"), ("2a00", "unknown newer")],
)
def test_a_devices_architecture_is_known_by_its_id(tables, device, name):
    assert _gpu_plan.architecture(device, tables["architectures"], tables["newer"])["name"] == name


def test_a_device_older_than_the_table_is_refused(tables):
    assert "older than Maxwell" in _gpu_plan.plan(node("102d"), WISHES, tables)["refusals"][0]


@pytest.mark.parametrize(
    ("distribution", "repository", "packages", "stream"),
    [
        (DEBIAN, "debian12", ["nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced"], ""),
        (UBUNTU, "ubuntu2404", ["libnvidia-compute-580", "nvidia-utils-580", "nvidia-compute-utils-580", "nvidia-dkms-580-open"], ""),
        (ROCKY, "rhel9", ["nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-persistenced"], "580-open"),
        (AMAZON, "amzn2023", ["nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-persistenced"], "580-open"),
    ],
    ids=lambda value: value["id"] if isinstance(value, dict) else None,
)
def test_each_distribution_has_its_packages(tables, distribution, repository, packages, stream):
    plan = _gpu_plan.plan(node("2330", distribution=distribution), WISHES, tables)
    assert plan["refusals"] == [] and plan["manage"] and plan["flavour"] == "open"
    assert plan["packages"] == packages and plan["stream"] == stream
    assert plan["repository"] == f"https://mirror.example.com/repos/{repository}/x86_64/"
    assert plan["headers"][0].endswith("6.1.0-37-amd64")


@pytest.mark.parametrize(
    ("distribution", "kernel", "headers"),
    [
        (DEBIAN, {}, ["linux-headers-6.1.0-37-amd64", "linux-headers-amd64"]),
        (DEBIAN, {"headers": "unread"}, ["linux-headers-6.1.0-37-amd64", "linux-headers-amd64"]),
        (DEBIAN, {"headers": "installed"}, ["linux-headers-amd64"]),
        (ROCKY, {"release": "5.14", "moving": []}, ["kernel-devel-5.14", "kernel-devel", "kernel-headers"]),
        (
            AMAZON,
            {"release": "6.12", "package": "kernel6.12", "moving": []},
            ["kernel6.12-devel-6.12", "kernel6.12-devel", "kernel6.12-modules-extra-6.12"],
        ),
    ],
    ids=lambda value: value["id"] if isinstance(value, dict) and "id" in value else None,
)
def test_the_next_kernel_has_headers_too(tables, distribution, kernel, headers):
    machine = node("2330", distribution=distribution)
    machine["kernel"] = {**machine["kernel"], "moving": ["linux-headers-amd64"], **kernel}
    plan = _gpu_plan.plan(machine, WISHES, tables)
    assert plan["refusals"] == [] and plan["headers"] == headers


def test_ubuntus_packages_carry_no_number_after_580(tables):
    plan = _gpu_plan.plan(node("2330", distribution=UBUNTU), {**WISHES, "driver_branch": "595"}, tables)
    assert plan["packages"] == ["libnvidia-compute", "nvidia-utils", "nvidia-compute-utils", "nvidia-dkms-open"]


def test_a_server_with_arm_processors_has_its_own_repository(tables):
    plan = _gpu_plan.plan(node("2342", machine="aarch64"), WISHES, tables)
    assert plan["repository"].endswith("/debian12/sbsa/") and plan["debian_architecture"] == "arm64"


@pytest.mark.parametrize(
    ("devices", "wish", "flavour"),
    [
        (["1db4"], "auto", "proprietary"),
        (["1eb8", "1db4"], "auto", "proprietary"),
        (["1eb8"], "proprietary", "proprietary"),
        (["4000"], "auto", "open"),
    ],
)
def test_the_flavour_is_what_every_gpu_can_have(tables, devices, wish, flavour):
    plan = _gpu_plan.plan(node(*devices), {**WISHES, "driver_flavour": wish}, tables)
    assert plan["refusals"] == [] and plan["flavour"] == flavour


@pytest.mark.parametrize(
    ("machine", "wishes", "words"),
    [
        (node("2330", distribution={**DEBIAN, "version": "11"}), {}, "(debian11) is not supported: amzn2023, debian12"),
        (node("2330", machine="ppc64le"), {}, "no driver packages for ppc64le"),
        (node(), {}, "there is no NVIDIA GPU"),
        (node("2330"), {"driver_branch": "515"}, "gpu_node_driver_branch is 515, which is no supported data-centre branch: take 580"),
        (node("2330"), {"driver_version": "595.71.05"}, "is not of branch 580"),
        (
            node("2330", kernel={"release": "6.1.0-9-amd64", "package": "kernel", "headers": "missing", "moving": []}),
            {},
            "headers of the running kernel 6.1.0-9-amd64",
        ),
        (node("2330", secure_boot=True), {}, "Secure Boot is on"),
        (node("1eb8"), {"mig_layout": "all-1g.10gb"}, "10de:1eb8 at 0000:01:00.0 cannot be split"),
        (node("1db4"), {"driver_flavour": "open"}, "Volta GPUs need the proprietary"),
        (node("2901"), {"driver_flavour": "proprietary"}, "Blackwell GPUs need the open"),
        (node("1db4", "2901"), {}, "no driver serves both"),
        (node("1db4"), {"driver_branch": "595"}, "is supported up to driver branch 580"),
        (node("2330", driver={"installed_by": "operator"}), {}, "GPU operator's driver container runs here"),
        (node("2330", driver={"installed_by": "runfile"}), {"driver_replace": True}, "run nvidia-uninstall first"),
        (node("2330", driver={"installed_by": "image"}), {}, "belongs to no package"),
        (node("2330"), {"runtime": "crio"}, "gpu_node_runtime is crio, which is not installed here; found: containerd"),
    ],
)
def test_what_cannot_be_is_refused(tables, machine, wishes, words):
    refusals = _gpu_plan.plan(machine, {**WISHES, **wishes}, tables)["refusals"]
    assert len(refusals) == 1 and words in refusals[0]


OURS = dict.fromkeys(("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced"), "580.95.05-1")


@pytest.mark.parametrize(
    ("driver", "version", "wishes", "managed"),
    [
        ({"installed_by": "image"}, "570.86.15", {}, False),
        ({"installed_by": "runfile"}, "580.95.05", {}, False),
        ({"installed_by": "package"}, "550.90.07", {}, False),
        ({"installed_by": "package"}, "550.90.07", {"driver_replace": True}, True),
        ({"installed_by": "package", "packages": OURS}, "580.95.05", {}, True),
        ({"installed_by": "package", "packages": {"nvidia-open": "580.95.05-1"}}, "580.95.05", {}, False),
        ({"installed_by": "package", "packages": {"nvidia-open": "580.95.05-1"}}, "580.95.05", {"driver_packages": ["nvidia-open"]}, True),
        ({"installed_by": "package", "packages": OURS}, "580.95.05", {"driver_flavour": "proprietary"}, False),
        ({"installed_by": "package", "packages": OURS}, "580.95.05", {"fabric_manager": "on"}, True),
        ({"installed_by": "package"}, "580.95.05", {"driver_manage": False}, False),
    ],
)
def test_a_driver_that_works_is_left_alone_unless_told(tables, driver, version, wishes, managed):
    plan = _gpu_plan.plan(node("2330", driver=driver, smi={"state": "ok", "driver": version}), {**WISHES, **wishes}, tables)
    assert plan["refusals"] == [] and plan["manage"] is managed and bool(plan["left"]) is not managed


def test_the_operators_driver_is_no_hindrance_to_the_toolkit_alone(tables):
    assert _gpu_plan.plan(node("2330", driver={"installed_by": "operator"}), {**WISHES, "driver_manage": False}, tables)["refusals"] == []


@pytest.mark.parametrize(("wish", "switches", "runs"), [("auto", 4, True), ("auto", 0, False), ("on", 0, True), ("off", 4, False)])
def test_the_fabric_manager_runs_where_there_are_switches(tables, wish, switches, runs):
    plan = _gpu_plan.plan(node("2330", switches=switches), {**WISHES, "fabric_manager": wish}, tables)
    assert plan["fabric_manager"] is runs and ("nvidia-fabricmanager" in plan["packages"]) is runs


@pytest.mark.parametrize("distribution", [ROCKY, AMAZON], ids=lambda value: value["id"])
def test_the_fabric_managers_package_has_its_name_of_today(tables, distribution):
    assert _gpu_plan.plan(node("2330", distribution=distribution, switches=4), WISHES, tables)["packages"][-1] == "nvidia-fabricmanager"


@pytest.mark.parametrize(
    ("distribution", "version", "wishes", "package"),
    [
        (DEBIAN, "580.95.05-1", {}, "nvidia-fabricmanager=580.95.05*"),
        (UBUNTU, "580.95.05-0ubuntu1", {}, "nvidia-fabricmanager-580=580.95.05*"),
        (ROCKY, "3:580.95.05-1.el9", {}, "nvidia-fabricmanager-580.95.05"),
        (DEBIAN, "580.95.05-1", {"driver_version": "580.105.08", "driver_replace": True}, "nvidia-fabricmanager"),
        (DEBIAN, "570.86.15-1", {"driver_replace": True}, "nvidia-fabricmanager"),
    ],
)
def test_a_fabric_manager_that_is_added_is_of_the_held_drivers_version(tables, distribution, version, wishes, package):
    names = tables["distributions"][_gpu_plan.distribution_key(distribution)]["open"]
    driver = {"installed_by": "package", "packages": {name.format(suffix="-580"): version for name in names}}
    facts = node("2330", distribution=distribution, driver=driver, smi={"state": "ok", "driver": "580.95.05"}, switches=4)
    assert _gpu_plan.plan(facts, {**WISHES, **wishes}, tables)["packages"][-1] == package


def test_a_fabric_manager_beside_a_driver_of_several_versions_is_of_the_branch(tables):
    driver = {"installed_by": "package", "packages": {**OURS, "nvidia-modprobe": "580.82.07-1"}}
    plan = _gpu_plan.plan(node("2330", driver=driver, switches=4), WISHES, tables)
    assert plan["packages"][-1] == "nvidia-fabricmanager"


PACKAGES = {"nvidia-driver-cuda": "580.95.05-1", "kmod-nvidia-open-dkms": "3:580.95.05-1.el9"}


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (node("2330"), None),
        (node("2330", nouveau={"loaded": True, "blacklisted": True}), "nouveau holds the GPUs"),
        (node("2330", driver={"packages": PACKAGES}), "not loaded"),
        (
            node("2330", driver={"packages": PACKAGES, "loaded": "570.86.15"}),
            "kernel module 570.86.15 is loaded, packages of 580.95.05 are installed",
        ),
        (node("2330", driver={"packages": PACKAGES, "loaded": "580.95.05"}, smi={"state": "ok"}), None),
        (node("2330", driver={"packages": PACKAGES, "loaded": "580.95.05"}, smi={"state": "no-driver", "message": "exit status 9"}), "exit status 9"),
    ],
)
def test_a_restart_is_for_a_reason(machine, words):
    reasons = _gpu_plan.reboot_reasons(machine)
    assert reasons == [] if words is None else words in reasons[0]


def test_gpus_that_do_not_work_are_named():
    gpu = {"uuid": "GPU-1", "name": "H100", "ecc_uncorrected": 3, "mig": "Disabled", "mig_pending": "Enabled", "fabric": "Not Started"}
    problems = _gpu_plan.health(node("2330", "2330", smi={"state": "ok", "gpus": [gpu]}), False)
    assert [words.split(" (", maxsplit=1)[0] for words in problems] == [
        "the driver shows 1 of 2 GPUs on the PCI bus",
        "GPU-1",
        "GPU-1 waits for a reset to turn MIG from Disabled to Enabled",
    ]


@pytest.mark.parametrize(
    ("fabric", "switches", "wish", "works", "settling"),
    [
        ("Completed", 4, "auto", True, False),
        ("", 4, "auto", True, False),
        ("In Progress", 4, "auto", False, True),
        ("Not Started", 4, "off", False, False),
        ("Failure", 4, "auto", False, False),
        ("Not Started", 0, "auto", True, False),
    ],
)
def test_with_nvswitches_a_gpu_works_once_it_is_in_their_fabric(tables, fabric, switches, wish, works, settling):
    gpu = {"uuid": "GPU-1", "name": "H100", "ecc_uncorrected": 0, "mig": "Disabled", "mig_pending": "Disabled", "fabric": fabric}
    plan = _gpu_plan.plan(node("2330", switches=switches, smi={"state": "ok", "gpus": [gpu]}), {**WISHES, "fabric_manager": wish}, tables)
    assert (plan["problems"] == []) is works and plan["settling"] is settling
