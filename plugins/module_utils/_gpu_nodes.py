# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes have GPUs, what they offer the cluster and why not more: pure functions. PRIVATE to the collection.

Node, pod and DaemonSet are the dicts that the API returns, with their camelCase keys. Labels are those of NVIDIA's feature discovery.
"""

from __future__ import annotations

import datetime
import re

from ansible_collections.mlserving.triton.plugins.module_utils import _compat, _compat_matrix, _pods, _scheduling

PRESENT = "nvidia.com/gpu.present"
PCI = "feature.node.kubernetes.io/pci-10de.present"
CONFIG = "nvidia.com/device-plugin.config"
GPU = "nvidia.com/gpu"
IMAGES = re.compile(r"k8s-device-plugin|nvidia-gpu-device-plugin|nvidia-device-plugin")
SOCKETS = "/device-plugins"
DISCOVERED = re.compile(r"^(nvidia\.com/[\w./-]+)=(\S*)$")
BATCH = "Creating Labels"
#: A round of labels is written within so many seconds; rounds are a minute apart.
AROUND = 2
#: Length of a time to the second, such as 2026-11-25T22:42:33.
SECONDS = 19
#: Field managers of the role device_plugin: what it is told of nodes, and what feature discovery found.
DISCOVERY_MANAGER = "mlserving.triton-features"
MANAGERS = ("mlserving.triton-nodes", DISCOVERY_MANAGER)
#: What a plugin writes about a GPU that it no longer offers.
UNHEALTHY = re.compile(r"Xid|unhealthy|GPU is lost", re.IGNORECASE)


def labels(thing: dict) -> dict:
    return thing["metadata"].get("labels") or {}


def is_of(pod: dict, daemonset: str) -> bool:
    """Whether the pod is one of a DaemonSet."""
    return any((owner["kind"], owner["name"]) == ("DaemonSet", daemonset) for owner in pod["metadata"].get("ownerReferences") or [])


def plugins(daemonsets: list[dict]) -> list[dict]:
    """Return the DaemonSets that offer NVIDIA's GPUs to the kubelet, as dicts of namespace, name and image."""
    found = []
    for daemonset in daemonsets:
        spec = daemonset["spec"]["template"]["spec"]
        paths = [(volume.get("hostPath") or {}).get("path", "").rstrip("/") for volume in spec.get("volumes") or []]
        image = next((each["image"] for each in spec["containers"] if IMAGES.search(each.get("image", ""))), "")
        if image and any(path.endswith(SOCKETS) for path in paths):
            found.append({"namespace": daemonset["metadata"]["namespace"], "name": daemonset["metadata"]["name"], "image": image})
    return found


def chosen(nodes: list[dict], names: list[str], selector: dict) -> list[str]:
    """Return the names of the nodes that the plugin is to run on: named, selected, or known to have GPUs by a label."""
    return [
        node["metadata"]["name"]
        for node in nodes
        if node["metadata"]["name"] in names
        or labels(node).get(PRESENT) == "true"
        or labels(node).get(PCI) == "true"
        or (selector and all(labels(node).get(key) == str(value) for key, value in selector.items()))
    ]


def labelled(nodes: list[dict], manager: str) -> dict[str, dict]:
    """Return node -> its labels of a field manager, of the nodes that have any."""
    found = {node["metadata"]["name"]: _owned_labels(node, manager) for node in nodes}
    return {name: owned for name, owned in found.items() if owned}


def _owned_labels(node: dict, manager: str) -> dict:
    entries = [entry for entry in node["metadata"].get("managedFields") or [] if entry["manager"] == manager]
    owned = {field for entry in entries for field in ((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:labels") or {}}
    return {key: value for key, value in labels(node).items() if f"f:{key}" in owned}


def discovered(log: str) -> dict:
    """Return the labels that feature discovery wrote last into its log.

    It begins a round of labels with a line on its standard error and writes them on its standard output: which of the two comes first in the
    log is a matter of chance, but not when each was written.

    :param log: lines that begin with the time of writing (RFC 3339, UTC)
    """
    lines = [(line[:SECONDS], line.partition(" ")[2].strip()) for line in log.splitlines()]
    begun = [_second(written) for written, text in lines if BATCH in text]
    labels = [(written, match) for written, text in lines if (match := DISCOVERED.match(text))]
    return {match[1]: match[2] for written, match in labels if begun and _second(written) >= begun[-1] - AROUND}


def _second(written: str) -> float:
    return datetime.datetime.fromisoformat(written).timestamp()


def has(known: dict) -> dict[str, int]:
    """Return resource -> how many a node with these labels is to offer, slices of shared GPUs counted one by one."""
    mig = {key: known[key] for key in known if re.fullmatch(r"nvidia\.com/mig-[\w.]+\.count", key)}
    wanted = {key.removesuffix(".count"): int(value) * int(known.get(key.replace(".count", ".replicas")) or 1) for key, value in mig.items()}
    if not wanted and known.get(f"{GPU}.count"):
        wanted[GPU] = int(known[f"{GPU}.count"]) * max(int(known.get(f"{GPU}.replicas") or 1), 1)
    return wanted


def offers(node: dict) -> dict[str, int]:
    """Return resource -> how many the node offers; a shared GPU under its other name counts as a GPU."""
    found: dict[str, int] = {}
    for resource, amount in (node["status"].get("allocatable") or {}).items():
        if resource.startswith(("nvidia.com/gpu", "nvidia.com/mig-")):
            name = resource.removesuffix(".shared")
            found[name] = found.get(name, 0) + int(amount)
    return found


def replicas(config: dict) -> int:
    """Return into how many slices a configuration of the plugin cuts a GPU; 1 if it does not share it."""
    sharing = config.get("sharing") or {}
    for kind in ("timeSlicing", "mps"):
        for resource in (sharing.get(kind) or {}).get("resources") or []:
            if resource.get("name") in (GPU, "gpu", "*"):
                return int(resource["replicas"])
    return 1


def config_problems(configs: dict, default: str, by_node: dict, nodes: list[dict]) -> list[str]:
    """Return what is wrong with the plugin's configurations and with which node gets which."""
    found, names = [], ", ".join(sorted(configs)) or "none"
    if configs and default not in configs:
        found.append(f"device_plugin_default_config is {default!r}, which is not in device_plugin_configs ({names}).")
    for name, config in configs.items():
        sharing = (config or {}).get("sharing") or {}
        if "timeSlicing" in sharing and "mps" in sharing:
            found.append(f"device_plugin_configs.{name} has both timeSlicing and mps. The plugin takes one of them for a node.")
    for node, config in by_node.items():
        if config not in configs:
            found.append(f"device_plugin_node_configs gives {node} {config!r}, which is not in device_plugin_configs ({names}).")
    for node in nodes:
        config = labels(node).get(CONFIG)
        if configs and config and config not in configs and node["metadata"]["name"] not in by_node:
            found.append(f"Node {node['metadata']['name']} has the label {CONFIG}={config}, which is not in device_plugin_configs ({names}).")
    return found


def choice_problems(nodes: list[dict], names: list[str], selector: dict) -> list[str]:
    """Return why the plugin would run nowhere, or not where it is told to."""
    there = [node["metadata"]["name"] for node in nodes]
    missing = [name for name in names if name not in there]
    if missing:
        return [f"device_plugin_nodes names {', '.join(missing)}, which the cluster has not. It has: {', '.join(there)}."]
    if chosen(nodes, names, selector):
        return []
    selected = (
        f", and none matches device_plugin_node_selector ({', '.join(f'{key}={value}' for key, value in selector.items())})" if selector else ""
    )
    return [
        f"The device plugin would run on none of the {len(nodes)} nodes: none has the label {PRESENT}=true or {PCI}=true{selected}. "
        "Name the nodes with GPUs in device_plugin_nodes (the inventory's group gpu_nodes does), or select them with device_plugin_node_selector."
    ]


def mig_problems(strategy: str, known: dict[str, dict]) -> list[str]:
    """Return on which nodes MIG is asked for that their cards do not have.

    :param known: node -> the labels that are known of it
    """
    if strategy == "none":
        return []
    lacking = []
    for node, seen in known.items():
        product = _compat.of_labels(node, seen)["product"]
        capable = seen.get("nvidia.com/mig.capable") or (
            "true" if not product or re.search(_compat_matrix.MIG, re.sub(r"[-_]", " ", product)) else "false"
        )
        if capable != "true":
            lacking.append(f"{node} ({product or 'unknown product'})")
    if not lacking:
        return []
    return [
        f"device_plugin_mig_strategy is {strategy}, but these nodes have cards without MIG: {', '.join(lacking)}. Set it to none, or leave these nodes out."
    ]


def sharing_words(count: dict[str, int]) -> str:
    return ", ".join(f"{amount} of {resource}" for resource, amount in sorted(count.items())) or f"0 of {GPU}"


def why(node: dict, pod: dict | None, template: dict, log: str) -> str:
    """Return why the plugin does not run on a node; empty if it does.

    :param pod: the plugin's pod on it, or None
    :param template: the DaemonSet's pod template
    :param log: the last lines of the pod's log
    """
    if pod is None:
        # A DaemonSet's pods tolerate a node that is cordoned or under pressure; what is left speaks for itself.
        words, always = _scheduling.explain({"metadata": {}, "spec": template["spec"], "status": {}}, _scheduling.View([node], []))
        return f"no pod of the device plugin has come to it{': ' + words if words and always else ''}"
    if _pods.is_ready(pod):
        return ""
    row = _pods.row(pod)
    said = ": ".join(filter(None, (row["reason"], row["message"]))) or row["phase"]
    last = log.strip().splitlines()[-1:] or [""]
    return f"the device plugin's pod {row['name']} is not ready ({said}{'; it last wrote: ' + last[0].strip() if last[0] else ''})"


def short(wanted: dict[str, int], offered: dict[str, int], log: str) -> str:
    """Return how the node offers other amounts than it has; empty if it does not."""
    if all(offered.get(resource, 0) == amount for resource, amount in wanted.items()):
        return ""
    text = f"it has {sharing_words(wanted)} and offers {sharing_words({name: offered.get(name, 0) for name in wanted})}"
    fault = [line.strip() for line in log.splitlines() if UNHEALTHY.search(line)]
    if fault:
        return f"{text}; the plugin wrote: {fault[-1]}. Once the fault is gone, delete the plugin's pod: it takes no GPU back by itself"
    return text
