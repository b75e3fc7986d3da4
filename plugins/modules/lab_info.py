#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_info
short_description: Tells what the lab on this machine has and lacks
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Looks at the machine, at Docker, at what is built already and at the kind cluster, in one call.
  - Changes nothing. The role P(mlserving.triton.lab#role) decides from the answer what to do.
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
options:
  cluster_name:
    description: Name of the kind cluster.
    type: str
    required: true
  workers:
    description: Number of worker nodes that the cluster should have.
    type: int
    default: 0
  cache_dir:
    description: Folder that holds what is built.
    type: path
    required: true
  state_dir:
    description: Folder that holds the lab's facts, C(lab.yml) and the kubeconfig.
    type: path
    required: true
  files_dir:
    description: Folder that the recipes' C(files) are relative to.
    type: path
    required: true
  recipes:
    description:
      - What each build is made from, a mapping of name to C(files), C(data) and C(suffix) (default C(.tar)).
      - One that is C(on_demand) is no part of the cluster, which stays when it changes.
      - The digest of files and data becomes part of the build's name.
    type: dict
    required: true
  node_image:
    description: A node image given by the user, in place of the built one.
    type: str
"""

EXAMPLES = r"""
- name: Look at the lab
  mlserving.triton.lab_info:
    cluster_name: triton-lab
    cache_dir: ~/.cache/mlserving-triton
    state_dir: .lab
    files_dir: roles/lab/files
    recipes:
      node: {files: [node], data: [1.35.4]}
"""

RETURN = r"""
host:
  description: What the machine is and has; sizes in bytes.
  returned: always
  type: dict
  sample:
    system: Linux
    machine: x86_64
    root: true
    apt: true
    init: systemd
    sys_resource: true
    cgroup: 2
    go: 1.26.8
    memory: 25769803776
    disk_free: 85899345920
refusals:
  description: Why the lab cannot run here, in words.
  returned: always
  type: list
  elements: str
  sample: []
docker:
  description: Whether Docker is installed and answers.
  returned: always
  type: dict
  sample: {"installed": true, "answers": true, "version": "20.10.24+dfsg1", "message": "", "stale_pid_files": []}
builds:
  description: For each recipe its digest, the path of its archive and whether that exists.
  returned: always
  type: dict
  sample: {"node": {"digest": "0a1b2c3d4e", "path": "/cache/node-0a1b2c3d4e.tar", "present": true}}
digest:
  description: Digest over all recipes.
  returned: always
  type: str
  sample: 9f8e7d6c5b
node_image:
  description: Name of the node image, and whether Docker has it.
  returned: always
  type: dict
  sample: {"name": "mlserving-lab/node:0a1b2c3d4e", "present": true}
cluster:
  description: The kind cluster's containers.
  returned: always
  type: dict
  sample:
    exists: true
    running: true
    ours: true
    digest: 9f8e7d6c5b
    nodes: [{"name": "triton-lab-control-plane", "state": "running", "role": "control-plane", "image": "mlserving-lab/node:0a1b2c3d4e"}]
network:
  description: The addresses that load balancers may take in Docker's kind network; empty without that network.
  returned: always
  type: dict
  sample: {"pool": "172.18.255.200-172.18.255.250", "first": "172.18.255.200"}
facts:
  description: The lab's facts as they were written when it was last brought up; empty if it never was.
  returned: always
  type: dict
  sample: {"digest": "9f8e7d6c5b", "s3_endpoint": "http://172.18.255.200:8333"}
ready:
  description: Whether everything is in place and answers.
  returned: always
  type: bool
  sample: true
"""

import hashlib
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _lab

try:
    import yaml
except ImportError:
    yaml = None


def read_facts(folder):
    path = os.path.join(folder, "lab.yml")
    if yaml is None or not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as stream:
        return yaml.safe_load(stream) or {}


def main():
    module = AnsibleModule(
        argument_spec={
            "cluster_name": {"type": "str", "required": True},
            "workers": {"type": "int", "default": 0},
            "cache_dir": {"type": "path", "required": True},
            "state_dir": {"type": "path", "required": True},
            "files_dir": {"type": "path", "required": True},
            "recipes": {"type": "dict", "required": True},
            "node_image": {"type": "str"},
        },
        supports_check_mode=True,
    )
    options = module.params
    builds = {}
    for name, recipe in options["recipes"].items():
        key = _lab.digest(options["files_dir"], recipe)
        path = os.path.join(options["cache_dir"], f"{name}-{key}" + recipe.get("suffix", ".tar"))
        builds[name] = {"digest": key, "path": path, "present": os.path.exists(path)}
    in_cluster = (build["digest"] for name, build in builds.items() if not options["recipes"][name].get("on_demand"))
    total = hashlib.sha256("".join(in_cluster).encode()).hexdigest()[:10]
    machine, docker, facts = _lab.host(options["cache_dir"]), _lab.docker(), read_facts(options["state_dir"])
    node_image = options["node_image"] or f"mlserving-lab/node:{builds['node']['digest'] if 'node' in builds else 'none'}"
    has_image = docker["answers"] and _lab.images([node_image])[node_image]
    cluster = {"exists": False, "running": False, "ours": True, "digest": "", "nodes": []}
    if docker["answers"]:
        cluster = _lab.cluster(options["cluster_name"], node_image)
    ready = (
        cluster["running"]
        and len(cluster["nodes"]) == options["workers"] + 1
        and facts.get("digest") == cluster["digest"] == total
        and facts.get("cluster_name") == options["cluster_name"]
        and os.path.exists(facts.get("kubeconfig", ""))
        and os.path.exists(facts.get("credentials_file", ""))
        and _lab.answers(facts["api_server"] + "/readyz")
        and _lab.answers(facts["s3_endpoint"])
    )
    module.exit_json(
        changed=False,
        host=machine,
        docker=docker,
        builds=builds,
        digest=total,
        node_image={"name": node_image, "present": has_image},
        cluster=cluster,
        network=_lab.network() if docker["answers"] else {},
        facts=facts,
        ready=ready,
        refusals=_lab.refusals(machine, docker["answers"], ready),
    )


if __name__ == "__main__":
    main()
