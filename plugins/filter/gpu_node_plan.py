# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: gpu_node_plan
short_description: What a GPU node needs, and what speaks against it
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Decides from what M(mlserving.triton.gpu_node_info) returned and from the variables of the role C(gpu_node) which driver a machine gets, from
    where, whether it must be restarted, and what is wrong with it.
positional: _input
options:
  _input:
    description: What M(mlserving.triton.gpu_node_info) returned.
    type: dict
    required: true
  wishes:
    description: The role's variables without the prefix C(gpu_node_), as its C(vars/main/main.yml) collects them.
    type: dict
    required: true
  tables:
    description: The tables in the role's C(vars/main), by C(architectures), C(newer), C(branches), C(last_numbered_branch), C(distributions)
      and C(repository_keys).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse what cannot be
  ansible.builtin.assert:
    that: plan.refusals | length == 0
  vars:
    plan: "{{ node | mlserving.triton.gpu_node_plan(wishes=wishes, tables=tables) }}"
"""

RETURN = r"""
_value:
  description:
    - C(refusals), C(reboot_reasons) and C(problems) are sentences; with C(settling) the fabric manager is still at work on the GPUs.
    - C(manage) says whether the role sees to the driver, C(left) why it does not.
    - The packages and the repository are returned without refusals only.
  type: dict
  sample:
    refusals: []
    distribution: debian12
    architectures: [Hopper]
    unknown: []
    manage: true
    left: ""
    flavour: open
    fabric_manager: false
    reboot_reasons: []
    problems: ["nvidia-smi does not work: nvidia-smi is not installed"]
    settling: false
    runtimes: [containerd]
    manager: apt
    headers: [linux-headers-6.1.0-37-amd64]
    packages: [nvidia-driver-cuda, nvidia-kernel-open-dkms, nvidia-persistenced]
    stream: ""
    repository: https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/
    repository_key: https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/3bf863cc.pub
    debian_architecture: amd64
"""

from ansible_collections.mlserving.triton.plugins.module_utils import _gpu_plan


class FilterModule:
    def filters(self) -> dict:
        return {"gpu_node_plan": _gpu_plan.plan}
