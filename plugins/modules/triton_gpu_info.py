#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_gpu_info
short_description: Says which nodes have GPUs, what they offer, and why not more
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Finds the nodes that NVIDIA's device plugin is to run on, the device plugins that run already, and what is wrong with how the plugin is to be set up.
  - With O(wait_timeout) it watches until every such node offers the GPUs that feature discovery finds in it, and says for each that does not why.
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
  - mlserving.triton._cluster
options:
  namespace:
    description: Namespace of the device plugin.
    type: str
    default: nvidia-device-plugin
  daemonset:
    description: Name of the device plugin's DaemonSet.
    type: str
    default: nvidia-device-plugin
  nodes:
    description: Names of nodes that have GPUs. Nodes with C(nvidia.com/gpu.present=true) or C(feature.node.kubernetes.io/pci-10de.present=true) count too.
    type: list
    elements: str
    default: []
  node_selector:
    description: Labels of further nodes that have GPUs.
    type: dict
    default: {}
  mig_strategy:
    description: How the plugin offers MIG devices.
    type: str
    choices: [none, single, mixed]
    default: none
  configs:
    description: Configurations of the plugin by name, as it reads them.
    type: dict
    default: {}
  default_config:
    description: The configuration of nodes without the label C(nvidia.com/device-plugin.config).
    type: str
    default: ""
  node_configs:
    description: Node name to configuration name, where the label is to be set.
    type: dict
    default: {}
  labels_from:
    description:
      - Where it is told how many GPUs a node has. V(log) reads what feature discovery writes into its log, V(node) the node's labels. With V(none) any
        number above 0 is right.
    type: str
    choices: [log, node, none]
    default: node
  wait_timeout:
    description: Seconds to wait until every node offers what it has; 0 only looks. When they are over the module fails.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Look which nodes have GPUs
  mlserving.triton.triton_gpu_info:
    kubeconfig: .lab/kubeconfig
    nodes: [triton-lab-worker]
"""

RETURN = r"""
nodes:
  description: The nodes that the plugin is to run on, with what each has by feature discovery and what it offers, and why that differs.
  returned: always
  type: list
  elements: dict
  sample:
    - name: triton-lab-worker
      has: {nvidia.com/gpu: 2}
      offers: {nvidia.com/gpu: 1}
      ready: false
      reason: it has 2 of nvidia.com/gpu and offers 1 of nvidia.com/gpu
labels:
  description: With O(labels_from=log), the labels that feature discovery found for each node.
  returned: always
  type: dict
  sample: {triton-lab-worker: {nvidia.com/gpu.count: "2", nvidia.com/gpu.product: Tesla-T4}}
plugins:
  description: The DaemonSets that offer NVIDIA's GPUs.
  returned: always
  type: list
  elements: dict
  sample: [{namespace: kube-system, name: nvidia-device-plugin-daemonset, image: "nvcr.io/nvidia/k8s-device-plugin:v0.17.4"}]
labelled:
  description: The labels of the role device_plugin, by the field manager that wrote them and by the node that has them.
  returned: always
  type: dict
  sample:
    mlserving.triton-nodes: {triton-lab-worker: {nvidia.com/gpu.present: "true"}}
    mlserving.triton-features: {triton-lab-worker: {nvidia.com/gpu.count: "2", nvidia.com/gpu.product: Tesla-T4}}
node_feature_discovery:
  description: Whether the cluster has node feature discovery, which turns what is found into labels by itself.
  returned: always
  type: bool
  sample: false
problems:
  description: What is wrong with the choice of nodes and with the configurations.
  returned: always
  type: list
  elements: str
  sample: ["device_plugin_nodes names gpu-7, which the cluster has not. It has: triton-lab-control-plane, triton-lab-worker."]
ready:
  description: Whether every node offers what it has.
  returned: always
  type: bool
  sample: false
namespace_ours:
  description: Whether the namespace is there and this collection made it.
  returned: always
  type: bool
  sample: true
namespace_exists:
  description: Whether the namespace is there.
  returned: always
  type: bool
  sample: true
runtime_classes:
  description: The RuntimeClasses of the cluster, each with whether this collection made it.
  returned: always
  type: dict
  sample: {nvidia: true}
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _gpu_nodes, _kube, _pods, _rights, _secret, _serving_cluster

try:
    import kubernetes.client
except ImportError:
    # _cluster.from_module reports it.
    kubernetes = None

DISCOVERY = "gpu-feature-discovery"
#: Parts of the names of containers that only hand the configuration on.
HELPERS = ("config-manager", "sidecar")
#: Seconds after which the logs are read again if no node changed.
LOOK_AGAIN = 2
#: Seconds after which other labels than the nodes have are read again: feature discovery writes them line by line, and may be at it.
SETTLE = 1
LINES = 400
ARGUMENT_SPEC = {
    **_cluster.ARGUMENT_SPEC,
    "namespace": {"type": "str", "default": "nvidia-device-plugin"},
    "daemonset": {"type": "str", "default": "nvidia-device-plugin"},
    "nodes": {"type": "list", "elements": "str", "default": []},
    "node_selector": {"type": "dict", "default": {}},
    "mig_strategy": {"type": "str", "choices": ["none", "single", "mixed"], "default": "none"},
    "configs": {"type": "dict", "default": {}},
    "default_config": {"type": "str", "default": ""},
    "node_configs": {"type": "dict", "default": {}},
    "labels_from": {"type": "str", "choices": ["log", "node", "none"], "default": "node"},
    "wait_timeout": {"type": "int", "default": 0},
}


class Look:
    """One look at the cluster after another."""

    def __init__(self, api, params: dict):
        self.api, self.params = api, params
        self.namespace = params["namespace"]
        self.core = kubernetes.client.CoreV1Api(api)
        self.nodes, self.version = [], ""

    def list_nodes(self) -> None:
        found = _kube.get(self.api, "/api/v1/nodes")
        self.nodes, self.version = found["items"], found["metadata"].get("resourceVersion", "")

    def log(self, pod: dict | None, timestamps: bool = False) -> str:
        """Return the last lines of a pod's main container; empty while it has none."""
        if not pod:
            return ""
        container = next(each["name"] for each in pod["spec"]["containers"] if not any(part in each["name"] for part in HELPERS))
        options = {"container": container, "tail_lines": LINES, "timestamps": timestamps}
        try:
            return str(_kube.call("reading a log", self.core.read_namespaced_pod_log, pod["metadata"]["name"], self.namespace, **options))
        except _kube.RequestError as error:
            if error.status in (400, 404):
                return ""
            raise

    def pods(self, name: str) -> dict[str, dict]:
        """Return node -> the pod of a DaemonSet on it."""
        found = _serving_cluster.items(self.api, f"/api/v1/namespaces/{self.namespace}/pods")
        return {pod["spec"].get("nodeName", ""): pod for pod in found if _pods.is_replica(pod) and _gpu_nodes.is_of(pod, name)}

    def template(self) -> dict | None:
        """Return the plugin's pod template; None while the DaemonSet's pods are of an older one, or there is none."""
        found = _kube.get(self.api, f"/apis/apps/v1/namespaces/{self.namespace}/daemonsets/{self.params['daemonset']}", absent_is_empty=True)
        if not found or found["status"].get("observedGeneration") != found["metadata"]["generation"]:
            return None
        if found["status"].get("updatedNumberScheduled", 0) != found["status"].get("desiredNumberScheduled", 0):
            return None
        return found["spec"]["template"]

    def judge(self) -> tuple[list[dict], dict]:
        """Return (row of each node, node -> labels that were discovered)."""
        names = _gpu_nodes.chosen(self.nodes, self.params["nodes"], self.params["node_selector"])
        template, plugin, discovery = self.template(), self.pods(self.params["daemonset"]), {}
        if self.params["labels_from"] == "log":
            discovery = self.pods(DISCOVERY)
        rows, labels = [], {}
        for node in self.nodes:
            name = node["metadata"]["name"]
            if name not in names:
                continue
            known = _gpu_nodes.labels(node)
            if self.params["labels_from"] == "log":
                known = _gpu_nodes.discovered(self.log(discovery.get(name), timestamps=True))
                labels[name] = known
            rows.append(self.row(node, known, plugin.get(name), template, discovery.get(name)))
        return rows, labels

    def until_ready(self, deadline: float) -> tuple[list[dict], dict]:
        """Return what was judged last: every node is ready and its labels will stay, or the time is over."""
        self.list_nodes()
        rows, labels = self.judge()
        seen = None
        while time.monotonic() < deadline:
            if not all(row["ready"] for row in rows):
                seconds = min(LOOK_AGAIN, max(deadline - time.monotonic(), 1))
                _kube.wait_for_event("watching the nodes", self.core.list_node, seconds=seconds, resource_version=self.version)
            elif labels == seen or self.has_written(labels):
                break
            else:
                seen = labels
                time.sleep(SETTLE)
            self.list_nodes()
            rows, labels = self.judge()
        return rows, labels

    def has_written(self, labels: dict[str, dict]) -> bool:
        """Return whether what feature discovery found is on the nodes already."""
        written = _gpu_nodes.labelled(self.nodes, _gpu_nodes.DISCOVERY_MANAGER)
        return all(written.get(name) == found for name, found in labels.items())

    def row(self, node: dict, known: dict, pod: dict | None, template: dict | None, discovery: dict | None) -> dict:
        wanted, offered = _gpu_nodes.has(known), _gpu_nodes.offers(node)
        log = "" if all(offered.get(name, 0) == amount for name, amount in wanted.items()) and wanted else self.log(pod)
        if template is None:
            reason = "the device plugin's DaemonSet is being rolled out, or is not there"
        else:
            reason = _gpu_nodes.why(node, pod, template, log)
        if not reason and self.params["labels_from"] == "none":
            reason = "" if sum(offered.values()) else "it offers no GPU"
        elif not reason and not wanted:
            last = (self.log(discovery).strip().splitlines() or ["no pod of it has written anything"])[-1]
            reason = f"feature discovery found no GPU in it: {last.strip()}"
        elif not reason:
            reason = _gpu_nodes.short(wanted, offered, log) or self.other_sharing(node, known)
        return {"name": node["metadata"]["name"], "has": wanted, "offers": offered, "ready": not reason, "reason": reason}

    def other_sharing(self, node: dict, known: dict) -> str:
        """Return that the node is not yet shared as its configuration says."""
        name = (
            self.params["node_configs"].get(node["metadata"]["name"])
            or _gpu_nodes.labels(node).get(_gpu_nodes.CONFIG)
            or self.params["default_config"]
        )
        config = self.params["configs"].get(name)
        now = max(int(known.get(f"{_gpu_nodes.GPU}.replicas") or 1), 1)
        if config is None or _gpu_nodes.replicas(config) == now:
            return ""
        return f"its GPUs are cut into {now} and not into {_gpu_nodes.replicas(config)}, as the configuration {name} says"


def main():
    module = AnsibleModule(ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    api, target = _cluster.from_module(module)
    try:
        _cluster.version(api, target)
        look = Look(api, params)
        rows, labels = look.until_ready(time.monotonic() + params["wait_timeout"])
        groups = {group["name"] for group in (_kube.get(api, "/apis") or {}).get("groups", [])}
        classes = _serving_cluster.items(api, "/apis/node.k8s.io/v1/runtimeclasses")
        namespace = _rights.namespace_labels(api, params["namespace"])
        phase = _rights.namespace_phase(api, params["namespace"])
        daemonsets = _serving_cluster.items(api, "/apis/apps/v1/daemonsets")
    except _cluster.ClusterError as error:
        module.fail_json(msg=str(error))
    known = {node["metadata"]["name"]: {**_gpu_nodes.labels(node), **labels.get(node["metadata"]["name"], {})} for node in look.nodes}
    names = [row["name"] for row in rows]
    problems = _gpu_nodes.choice_problems(look.nodes, params["nodes"], params["node_selector"])
    problems += _gpu_nodes.config_problems(params["configs"], params["default_config"], params["node_configs"], look.nodes)
    problems += _gpu_nodes.mig_problems(params["mig_strategy"], {name: known[name] for name in names})
    answer = {
        "nodes": rows,
        "labels": labels,
        "plugins": _gpu_nodes.plugins(daemonsets),
        "node_feature_discovery": "nfd.k8s-sigs.io" in groups,
        "problems": problems,
        "labelled": {manager: _gpu_nodes.labelled(look.nodes, manager) for manager in _gpu_nodes.MANAGERS},
        "ready": bool(rows) and all(row["ready"] for row in rows),
        "namespace_exists": bool(phase),
        "namespace_ours": namespace.get(_secret.MANAGED_BY) == _secret.OWNER,
        "runtime_classes": {each["metadata"]["name"]: _gpu_nodes.labels(each).get(_secret.MANAGED_BY) == _secret.OWNER for each in classes},
    }
    if params["wait_timeout"] and not answer["ready"]:
        why = [f"{row['name']}: {row['reason']}" for row in rows if not row["ready"]] or problems
        module.fail_json(msg=f"After {params['wait_timeout']} s not every node offers the GPUs that it has. {'. '.join(why)}.", **answer)
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
