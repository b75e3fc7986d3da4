# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides what a GPU node needs, from facts and wishes, and refuses what cannot be. PRIVATE to the collection."""

from __future__ import annotations

PROCESSORS = {"x86_64": "x86_64", "aarch64": "sbsa"}
DEBIAN_PROCESSORS = {"x86_64": "amd64", "aarch64": "arm64"}
RHEL_LIKE = ("rhel", "rocky", "almalinux", "centos", "ol")


def distribution_key(distribution: dict) -> str:
    """Return the name that the table of distributions has for one, such as debian12, ubuntu24.04 or rhel9."""
    name, version = distribution["id"], distribution["version"]
    if name in RHEL_LIKE:
        return f"rhel{version.split('.')[0]}"
    return name + (version.split(".")[0] if name == "debian" else version)


def within(device: str, ranges: list[str]) -> bool:
    """Return whether a hexadecimal id lies in one of the ranges FIRST-LAST."""
    pairs = (entry.split("-") for entry in ranges)
    return any(int(first, 16) <= int(device, 16) <= int(last, 16) for first, last in pairs)


def architecture(device: str, table: list[dict], newer: dict) -> dict | None:
    """Return the entry of a device id, the one for newer devices above the table, or None for an older one."""
    for entry in table:
        if within(device, entry["ranges"]):
            return entry
    last = max(int(item.split("-")[1], 16) for entry in table[:-1] for item in entry["ranges"])
    return newer if int(device, 16) > last else None


def flavour(kinds: list[dict], wish: str) -> tuple[str, list[str]]:
    """Return open or proprietary for the GPUs' architectures and a wish (auto, open, proprietary), and why not."""
    only_open = sorted({kind["name"] for kind in kinds if kind["modules"] == "open"})
    only_proprietary = sorted({kind["name"] for kind in kinds if kind["modules"] == "proprietary"})
    if only_open and only_proprietary:
        return "open", [
            f"this machine has GPUs of {', '.join(only_proprietary)}, which the open kernel modules do not drive, and of {', '.join(only_open)}, which only "
            "they drive: no driver serves both; take one kind out."
        ]
    if wish == "open" and only_proprietary:
        return wish, [
            f"gpu_node_driver_flavour is open, but {', '.join(only_proprietary)} GPUs need the proprietary kernel modules: leave it at auto."
        ]
    if wish == "proprietary" and only_open:
        return wish, [f"gpu_node_driver_flavour is proprietary, but {', '.join(only_open)} GPUs need the open kernel modules: leave it at auto."]
    return (wish if wish != "auto" else "proprietary" if only_proprietary else "open"), []


def packages(names: list[str], branch: str, kernel: dict, last_numbered: int) -> list[str]:
    """Return the packages' names with branch and kernel filled in."""
    suffix = f"-{branch}" if int(branch) <= last_numbered else ""
    return [name.format(branch=branch, suffix=suffix, kernel=kernel["release"], kernel_package=kernel["package"]) for name in names]


def leave_alone(facts: dict, wishes: dict, names: list[str]) -> str:
    """Return why the driver that is there stays as it is, empty if this role is to see to it; ``names`` are the packages that it would install."""
    driver, smi = facts["driver"], facts["smi"]
    if not wishes["driver_manage"]:
        return "gpu_node_driver_manage is false"
    if wishes["driver_replace"] or smi["state"] != "ok" or driver["installed_by"] in ("none", "operator"):
        return ""
    wanted = wishes["driver_version"] or f"{wishes['driver_branch']}."
    came = {"runfile": "NVIDIA's runfile installer", "image": "the machine's image", "package": "a package of another version than asked for"}
    if driver["installed_by"] == "package" and (smi["driver"].startswith(wanted) or wishes["driver_packages"]):
        lacking = [name for name in names if name not in driver["packages"]]
        if wishes["driver_packages"] or not lacking:
            return ""
        came["package"] = f"other packages than the ones of this role ({', '.join(lacking)} would be new)"
    return f"driver {smi['driver']} works; it came with {came[driver['installed_by']]}, and gpu_node_driver_replace is false"


def device_refusals(facts: dict, wishes: dict, tables: dict) -> tuple[list[dict], list[str]]:
    """Return the architectures of the GPUs, and what speaks against them."""
    kinds, refusals = [], []
    branch = wishes["driver_branch"]
    for gpu in facts["gpus"]:
        kind = architecture(gpu["device"], tables["architectures"], tables["newer"])
        if kind is None:
            refusals.append(f"GPU 10de:{gpu['device']} at {gpu['address']} is older than Maxwell: no driver of today supports it.")
            continue
        kinds.append(kind)
        if branch.isdigit() and int(branch) > kind.get("last_branch", 9999):
            refusals.append(
                f"GPU 10de:{gpu['device']} at {gpu['address']} ({kind['name']}) is supported up to driver branch {kind['last_branch']}; "
                f"gpu_node_driver_branch is {branch}: set it to {kind['last_branch']}."
            )
    without = [gpu for gpu, kind in zip(facts["gpus"], kinds) if not within(gpu["device"], kind["mig"])] if len(kinds) == len(facts["gpus"]) else []
    if wishes["mig_layout"] and without:
        named = ", ".join(f"10de:{gpu['device']} at {gpu['address']}" for gpu in without)
        refusals.append(
            f"gpu_node_mig_layout is {wishes['mig_layout']}, but {named} cannot be split: MIG is in A30, A100, H100 and newer data-centre GPUs."
        )
    return kinds, refusals


def driver_refusals(facts: dict, wishes: dict) -> list[str]:
    """Return what speaks against installing a driver on this machine."""
    refusals = []
    installed_by, kernel = facts["driver"]["installed_by"], facts["kernel"]
    if installed_by == "operator":
        refusals.append(
            "the GPU operator's driver container runs here (/run/nvidia/driver): two drivers do not go together. Take this host out of gpu_nodes, or set "
            "driver.enabled=false in the operator and restart the node."
        )
    if installed_by == "runfile":
        refusals.append(
            "the driver here came with NVIDIA's runfile installer, whose files packages would overwrite: run nvidia-uninstall first, or leave the driver to "
            "yourself with gpu_node_driver_manage=false."
        )
    if installed_by == "image" and not wishes["driver_replace"]:
        refusals.append(
            f"a driver that belongs to no package is here and does not work ({facts['smi']['message'] or 'no nvidia-smi'}): repair the image, or set "
            "gpu_node_driver_replace=true to install over it."
        )
    if facts["secure_boot"] and not wishes["secure_boot_signed"]:
        refusals.append(
            "Secure Boot is on, so the kernel refuses modules that are built here: turn it off, or enrol a key that signs them (mokutil --import; DKMS signs "
            "with /var/lib/dkms/mok.key) and set gpu_node_secure_boot_signed=true."
        )
    if kernel["headers"] == "missing" and not wishes["driver_packages"]:
        refusals.append(
            f"the headers of the running kernel {kernel['release']} are neither installed nor offered by the package sources: the driver's modules cannot be "
            "built. Start a kernel whose headers are offered (mostly the newest), or add the source that has them."
        )
    return refusals


def machine_refusals(facts: dict, supported: dict) -> list[str]:
    """Return what speaks against this machine, whatever is wished."""
    refusals = []
    key = distribution_key(facts["distribution"])
    if key not in supported:
        refusals.append(
            f"{facts['distribution']['name'] or 'this system'} ({key}) is not supported: {', '.join(sorted(supported))} are (rhel9 is Rocky, AlmaLinux and "
            "CentOS Stream too)."
        )
    if facts["machine"] not in PROCESSORS:
        refusals.append(f"NVIDIA has no driver packages for {facts['machine']} processors; it has them for {' and '.join(PROCESSORS)}.")
    if not facts["gpus"]:
        refusals.append(
            "there is no NVIDIA GPU on the PCI bus (vendor 10de, classes 0300 and 0302): take this host out of gpu_nodes, or check the machine."
        )
    return refusals


def branch_refusals(wishes: dict, branches: dict) -> list[str]:
    """Return what is wrong with the branch and the version that are wished."""
    refusals, branch = [], wishes["driver_branch"]
    if branch not in branches:
        offered = ", ".join(f"{name} ({entry['kind']}, until {entry['end_of_life']})" for name, entry in branches.items())
        refusals.append(f"gpu_node_driver_branch is {branch}, which is no supported data-centre branch: take {offered}.")
    if wishes["driver_version"] and not wishes["driver_version"].startswith(f"{branch}."):
        refusals.append(
            f"gpu_node_driver_version {wishes['driver_version']} is not of branch {branch}: set gpu_node_driver_branch to its first number."
        )
    return refusals


def installed_versions(facts: dict) -> set[str]:
    """Return the driver's versions that packages are of, such as 580.95.05."""
    return {version.split(":")[-1].split("-")[0] for version in facts["driver"]["packages"].values()}


def fabric_manager_packages(names: list[str], facts: dict, wishes: dict, manager: str) -> list[str]:
    """Return the fabric manager's packages; beside a driver that is there, of its version: it does not start with another one."""
    versions = installed_versions(facts)
    version = versions.pop() if len(versions) == 1 else ""
    if wishes["driver_version"] or not version.startswith(f"{wishes['driver_branch']}."):
        return names
    return [name + {"apt": f"={version}*", "dnf": f"-{version}"}[manager] for name in names]


def plan(facts: dict, wishes: dict, tables: dict) -> dict:
    """Return what to do on a machine.

    :param facts: what the module gpu_node_info returned
    :param wishes: the role's options without their prefix
    :param tables: architectures, newer, branches, last_numbered_branch, distributions, repository_keys
    :return: ``refusals`` in words; ``manage``: whether to install the driver, ``left`` why not; flavour, architectures, names of packages,
        repository, whether the machine needs a fabric manager or a restart, what is wrong with its GPUs, and whether the fabric manager still takes them in
    """
    branch = wishes["driver_branch"]
    key = distribution_key(facts["distribution"])
    known = tables["distributions"].get(key)
    kinds, of_devices = device_refusals(facts, wishes, tables)
    refusals = machine_refusals(facts, tables["distributions"]) + of_devices + branch_refusals(wishes, tables["branches"])
    modules, of_flavour = flavour(kinds, wishes["driver_flavour"])
    fabric_manager = wishes["fabric_manager"] == "on" or (wishes["fabric_manager"] == "auto" and facts["switches"] > 0)
    last = tables["last_numbered_branch"]
    ours = packages(known[modules], branch, facts["kernel"], last) if known and branch in tables["branches"] else []
    left = leave_alone(facts, wishes, ours)
    if not left:
        refusals += of_flavour + driver_refusals(facts, wishes)
    if wishes["runtime"] not in ("auto", "none") and wishes["runtime"] not in facts["runtimes"]:
        refusals.append(f"gpu_node_runtime is {wishes['runtime']}, which is not installed here; found: {', '.join(facts['runtimes']) or 'none'}.")
    result = {
        "refusals": refusals,
        "distribution": key,
        "architectures": sorted({kind["name"] for kind in kinds}),
        "unknown": [gpu["device"] for gpu, kind in zip(facts["gpus"], kinds) if kind is tables["newer"] or kind["name"] == tables["newer"]["name"]],
        "manage": not left,
        "left": left,
        "flavour": modules,
        "fabric_manager": fabric_manager,
        "reboot_reasons": reboot_reasons(facts),
        "problems": health(facts, fabric_manager),
        "settling": fabric_manager and any(gpu["fabric"] in ("Not Started", "In Progress") for gpu in facts["smi"]["gpus"]),
        "runtimes": [] if wishes["runtime"] == "none" else list(facts["runtimes"]) if wishes["runtime"] == "auto" else [wishes["runtime"]],
    }
    if refusals or known is None:
        return result
    names = wishes["driver_packages"] or ours
    if fabric_manager and not wishes["driver_packages"]:
        names = names + fabric_manager_packages(packages(known["fabric_manager"], branch, facts["kernel"], last), facts, wishes, known["manager"])
    base = f"{wishes['repository_url'].rstrip('/')}/{known['repository']}/{PROCESSORS[facts['machine']]}"
    return {
        **result,
        "manager": known["manager"],
        # Where none are to be had, the packages that are named are taken not to need them.
        "headers": ([] if facts["kernel"]["headers"] in ("installed", "missing") else packages(known["headers"], branch, facts["kernel"], last))
        + facts["kernel"]["moving"],
        "packages": names,
        "stream": known.get("stream", {}).get(modules, "").format(branch=branch),
        "repository": f"{base}/",
        "repository_key": wishes["repository_key"] or f"{base}/{tables['repository_keys'][known['manager']]}",
        "debian_architecture": DEBIAN_PROCESSORS[facts["machine"]],
    }


def reboot_reasons(facts: dict) -> list[str]:
    """Return why a machine must be restarted before its driver works; empty if it need not be, or if there are no packages of one."""
    loaded, smi = facts["driver"]["loaded"], facts["smi"]
    if facts["nouveau"]["loaded"]:
        return ["the kernel module nouveau holds the GPUs"]
    if not facts["driver"]["packages"]:
        return []
    versions = installed_versions(facts)
    if loaded and loaded not in versions:
        return [f"kernel module {loaded} is loaded, packages of {', '.join(sorted(versions))} are installed"]
    if not loaded:
        return ["the driver's kernel module is not loaded"]
    return [] if smi["state"] == "ok" else [f"nvidia-smi does not work: {smi['message']}"]


def health(facts: dict, fabric_manager: bool) -> list[str]:
    """Return what is wrong with a node's GPUs, in words; empty if all of them work."""
    smi = facts["smi"]
    if smi["state"] != "ok":
        return [f"nvidia-smi does not work: {smi['message']}"]
    problems = []
    if len(smi["gpus"]) != len(facts["gpus"]):
        problems.append(f"the driver shows {len(smi['gpus'])} of {len(facts['gpus'])} GPUs on the PCI bus")
    for gpu in smi["gpus"]:
        if gpu["ecc_uncorrected"]:
            problems.append(f"{gpu['uuid']} ({gpu['name']}) counts {gpu['ecc_uncorrected']} uncorrected memory errors")
        if gpu["mig"] != gpu["mig_pending"]:
            problems.append(f"{gpu['uuid']} waits for a reset to turn MIG from {gpu['mig']} to {gpu['mig_pending']}")
        if (facts["switches"] or fabric_manager) and gpu["fabric"] not in ("", "Completed"):
            problems.append(
                f"{gpu['uuid']} is not in the NVSwitches' fabric ({gpu['fabric']}): no program can use it; see the service nvidia-fabricmanager"
            )
    return problems
