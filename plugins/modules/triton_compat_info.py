#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_compat_info
short_description: Says whether an image of Triton fits the driver and the GPUs of the nodes
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Knows what each monthly image of Triton was built with, which driver and GPU that needs, and below which tag there are known security holes.
  - Compares that with the nodes, before an image of many gigabytes is pulled for a server that cannot start.
  - A tag newer than the table is judged by rule, and said to be extrapolated.
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
  - mlserving.triton._cluster
options:
  image:
    description: The image, such as C(nvcr.io/nvidia/tritonserver:26.07-py3). Its tag is a month, or the server's version.
    type: str
    default: ""
  image_labels:
    description: The image's labels. C(com.nvidia.tritonserver.version) wins over the tag.
    type: dict
    default: {}
  server_metadata:
    description: What a running server answers at C(/v2). Its version wins over the tag and the labels.
    type: dict
    default: {}
  nodes:
    description:
      - The nodes, by what C(nvidia-smi) says of them. Without it the nodes of the cluster that have GPUs are judged by the labels that feature discovery
        gave them.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the node.
        type: str
        required: true
      driver:
        description: Version of the driver.
        type: str
        default: ""
      compute_capability:
        description: Compute capability of its GPUs.
        type: str
        default: ""
      product:
        description: Name of its GPUs.
        type: str
        default: ""
  node_selector:
    description: Only nodes of the cluster with these labels are judged.
    type: dict
    default: {}
  gpu_resource:
    description: Nodes of the cluster that have some of this resource are judged, and those with the label C(nvidia.com/gpu.present).
    type: str
    default: nvidia.com/gpu
  enforce:
    description:
      - What becomes of an image that does not fit. With V(fail) the module fails, with V(warn) it warns, with V(off) it only returns the verdict.
      - A tag below the security floor and nodes of which nothing is known are warned about, with V(fail) too.
    type: str
    choices: [fail, warn, "off"]
    default: "off"
seealso:
  - name: Release compatibility matrix of Triton
    description: Where the module's table comes from, with the other pages that RV(sources) names.
    link: https://github.com/triton-inference-server/server/blob/main/docs/introduction/compatibility.md
"""

EXAMPLES = r"""
- name: Judge the nodes of the cluster
  mlserving.triton.triton_compat_info:
    kubeconfig: .lab/kubeconfig
    image: nvcr.io/nvidia/tritonserver:26.07-py3
    enforce: warn

- name: Judge a machine by what nvidia-smi says of it
  mlserving.triton.triton_compat_info:
    image: nvcr.io/nvidia/tritonserver:26.07-py3
    nodes:
      - {name: p3-worker, driver: 535.309.01, compute_capability: "7.0", product: Tesla V100-SXM2-16GB}
  register: compat
"""

RETURN = r"""
verdict:
  description:
    - What holds for the worst of the nodes, V(fits), V(fits_with_forward_compatibility), V(unknown) or V(does_not_fit).
  returned: always
  type: str
  sample: does_not_fit
reason:
  description: The verdict in a sentence, with what to do.
  returned: always
  type: str
  sample: >-
    tritonserver:26.07-py3 (Triton 2.71.0, CUDA 13.3) does not fit node p3-worker: its Tesla V100-SXM2-16GB has compute capability 7.0, and the images since
    25.03 have code for 7.5 and newer only. Use the tag 25.02, the nearest that fits (below the security floor 26.07).
release:
  description: What is in the image; empty if neither tag, labels nor metadata tell. Driver branches are numbers.
  returned: always
  type: dict
  sample: {tag: "26.07", server: 2.71.0, cuda: "13.3", minimum_driver: 580, minimum_forward_driver: 535, minimum_compute_capability: "7.5", extrapolated: false}
nodes:
  description: The nodes that were judged, each with its verdict and the reason.
  returned: always
  type: list
  elements: dict
  sample:
    - {name: p3-worker, driver: 535.309.01, compute_capability: "7.0", product: Tesla V100-SXM2-16GB, verdict: does_not_fit,
       reason: "its Tesla V100-SXM2-16GB has compute capability 7.0, and the images since 25.03 have code for 7.5 and newer only"}
nearest:
  description: The tag next to the image's in time that fits every node; empty if the image fits, or if none does.
  returned: always
  type: str
  sample: "25.02"
security_floor:
  description: The oldest tag without security holes that are known.
  returned: always
  type: str
  sample: "26.07"
below_floor:
  description: Whether the image is older.
  returned: always
  type: bool
  sample: false
sources:
  description: Where the table comes from.
  returned: always
  type: list
  elements: str
  sample: ["https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html (data centre GPUs only)"]
date:
  description: When the table was brought up to date.
  returned: always
  type: str
  sample: "2026-11-25"
"""

import dataclasses

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _compat, _compat_matrix, _serving_cluster

NODE = {"name": {"type": "str", "required": True}, **{key: {"type": "str", "default": ""} for key in ("driver", "compute_capability", "product")}}
ARGUMENT_SPEC = {
    **_cluster.ARGUMENT_SPEC,
    "image": {"type": "str", "default": ""},
    "image_labels": {"type": "dict", "default": {}},
    "server_metadata": {"type": "dict", "default": {}},
    "nodes": {"type": "list", "elements": "dict", "options": NODE},
    "node_selector": {"type": "dict", "default": {}},
    "gpu_resource": {"type": "str", "default": "nvidia.com/gpu"},
    "enforce": {"type": "str", "choices": ["fail", "warn", "off"], "default": "off"},
}
WORDS = {_compat.FITS: "fits", _compat.FORWARD: "fits with forward compatibility", _compat.UNFIT: "does not fit"}


def nodes_of_cluster(module: AnsibleModule) -> list[dict]:
    """Return the cluster's nodes that have GPUs and that a pod with the selector may come to."""
    api, target = _cluster.from_module(module)
    resource, selector = module.params["gpu_resource"], module.params["node_selector"]
    try:
        found = _serving_cluster.items(api, "/api/v1/nodes")
    except _cluster.ClusterError as error:
        module.fail_json(msg=f"The nodes of {target.server} cannot be judged: {error}")
    chosen = []
    for node in found:
        labels = node["metadata"].get("labels") or {}
        has = int((node["status"].get("allocatable") or {}).get(resource, 0)) or labels.get("nvidia.com/gpu.present") == "true"
        if has and all(labels.get(key) == str(value) for key, value in selector.items()):
            chosen.append(_compat.of_labels(node["metadata"]["name"], labels))
    return chosen


def sentence(name: str, release: _compat.Release, nodes: list[dict], verdicts: dict) -> str:
    """Return the verdict on all nodes in words; only the nodes that are no plain fit are named."""
    what = f"{name} (Triton {release.server}, CUDA {release.cuda}{', extrapolated: newer than the table' if release.extrapolated else ''})"
    if not nodes:
        return f"{what} was compared with no node: none has GPUs."
    parts = []
    for verdict in (_compat.UNFIT, _compat.FORWARD):
        parts += [
            f"{WORDS[verdict]} node {node['name']}: {verdicts[node['name']].reason}" for node in nodes if verdicts[node["name"]].verdict == verdict
        ]
    unknown = [node["name"] for node in nodes if verdicts[node["name"]].verdict == _compat.UNKNOWN]
    if unknown:
        parts.append(
            f"cannot be judged for {', '.join(unknown)} ({verdicts[unknown[0]].reason}; feature discovery tells it in labels, see the role device_plugin)"
        )
    if not parts:
        return f"{what} fits {len(nodes)} node{'s' * (len(nodes) > 1)}: {verdicts[nodes[0]['name']].reason}."
    text = f"{what} {'; it '.join(parts)}."
    return f"{text} {_compat.advice(release, nodes, verdicts)}" if any(each.verdict == _compat.UNFIT for each in verdicts.values()) else text


def main():
    module = AnsibleModule(ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    name = params["image"].rpartition("/")[2] or "the image"
    release = _compat.identify(params["image"], params["image_labels"], params["server_metadata"])
    nodes = nodes_of_cluster(module) if params["nodes"] is None else params["nodes"]
    answer = {"release": {}, "nodes": nodes, "nearest": "", "security_floor": _compat_matrix.FLOOR, "below_floor": False}
    answer |= {"sources": list(_compat_matrix.SOURCES), "date": _compat_matrix.DATE, "verdict": _compat.UNKNOWN}
    if not release:
        answer["reason"] = (
            f"{name} cannot be judged: its tag is neither a month of NVIDIA's from {min(_compat_matrix.RELEASES)} on (26.07-py3) nor a server version (2.71.0)."
        )
        warn(module, answer["reason"])
        module.exit_json(changed=False, **answer)
    try:
        verdicts = {node["name"]: _compat.judge(release, node) for node in nodes}
    except _compat.CompatError as error:
        module.fail_json(msg=f"Nothing was judged. The option nodes: {error}")
    answer |= {
        "release": dataclasses.asdict(release),
        "nodes": [{**node, **dataclasses.asdict(verdicts[node["name"]])} for node in nodes],
        "verdict": _compat.worst([each.verdict for each in verdicts.values()]),
        "reason": sentence(name, release, nodes, verdicts),
        "below_floor": release.below_floor,
    }
    if answer["verdict"] in (_compat.UNFIT, _compat.FORWARD):
        answer["nearest"] = _compat.nearest(release, nodes)
    if release.below_floor:
        warn(
            module, f"{name} is below the security floor {_compat_matrix.FLOOR}: {_compat_matrix.FLOOR_REASON}. Use {_compat_matrix.FLOOR} or newer."
        )
    if answer["verdict"] == _compat.UNFIT and params["enforce"] == "fail":
        module.fail_json(msg=f"Nothing was changed. {answer['reason']} triton_compat_enforce: warn goes on all the same.", **answer)
    if answer["verdict"] != _compat.FITS and nodes:
        warn(module, answer["reason"])
    module.exit_json(changed=False, **answer)


def warn(module: AnsibleModule, text: str) -> None:
    if module.params["enforce"] != "off":
        module.warn(text)


if __name__ == "__main__":
    main()
