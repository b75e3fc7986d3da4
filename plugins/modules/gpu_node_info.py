#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_node_info
short_description: Tells what a machine has of NVIDIA GPUs, driver and container runtimes
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Looks for GPUs on the PCI bus, so that no driver is needed, and for everything that decides how a driver can be installed.
  - Changes nothing. The role P(mlserving.triton.gpu_node#role) decides from the answer what to do.
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
options:
  driver_packages:
    description: Patterns of the names of the driver's packages.
    type: list
    elements: str
    default: ["nvidia-driver*", "nvidia-dkms*", "nvidia-kernel*", "nvidia-utils*", "kmod-nvidia*", "libnvidia-compute*"]
  root:
    description: Folder that C(/proc), C(/sys), C(/etc) and C(/run) are read below.
    type: path
    default: /
requirements:
  - Python >= 3.9 on the machine
"""

EXAMPLES = r"""
- name: Look at the machine
  mlserving.triton.gpu_node_info:
  register: node

- name: Show its GPUs
  ansible.builtin.debug:
    var: node.gpus
"""

RETURN = r"""
distribution:
  description: Name and version from C(/etc/os-release).
  returned: always
  type: dict
  sample: {"id": "debian", "version": "12", "name": "Debian GNU/Linux 12 (bookworm)", "like": []}
machine:
  description: The processor's architecture.
  returned: always
  type: str
  sample: x86_64
kernel:
  description:
    - The running kernel, its package, and whether its headers are V(installed), V(available), V(missing) or V(unread) (apt has read no source yet).
    - C(moving) are packages that are not installed and bring the headers of each next kernel.
  returned: always
  type: dict
  sample: {"release": "6.1.0-37-amd64", "package": "kernel", "headers": "available", "moving": ["linux-headers-amd64"]}
gpus:
  description: NVIDIA's GPUs by PCI address, with the device id in hexadecimal and the kernel driver bound to each.
  returned: always
  type: list
  elements: dict
  sample: [{"address": "0000:3b:00.0", "device": "2330", "driver": "nvidia"}]
switches:
  description: Number of NVSwitches.
  returned: always
  type: int
  sample: 0
secure_boot:
  description: Whether the firmware checks signatures of kernel modules.
  returned: always
  type: bool
  sample: false
nouveau:
  description: Whether the module nouveau is loaded, and whether it is kept from being loaded.
  returned: always
  type: dict
  sample: {"loaded": false, "blacklisted": true}
driver:
  description:
    - The version of the loaded kernel module and whether it is the open one, how the driver was installed, its packages with their versions, and
      the enabled stream of dnf's module.
    - C(installed_by) is V(none), V(package), V(runfile), V(image) (there, and of no package) or V(operator) (the GPU operator's container).
  returned: always
  type: dict
  sample: {"loaded": "580.95.05", "open": true, "installed_by": "package", "packages": {"nvidia-driver-cuda": "580.95.05-1"}, "stream": ""}
toolkit:
  description: Version of the package nvidia-container-toolkit, empty if it is not installed.
  returned: always
  type: str
  sample: 1.20.1-1
runtimes:
  description: The container runtimes on this machine with their versions.
  returned: always
  type: dict
  sample: {"containerd": "1.6.20"}
smi:
  description:
    - What C(nvidia-smi) says. C(state) is V(absent), V(ok), V(no-driver) (it cannot talk to the kernel module) or V(failed).
  returned: always
  type: dict
  sample:
    state: ok
    message: ""
    driver: 580.95.05
    cuda: "13.0"
    gpus:
      - {uuid: GPU-0a1b, address: "00000000:3B:00.0", name: NVIDIA H100 80GB HBM3, architecture: Hopper, memory_mib: 81559, persistence: true,
         ecc: Enabled, ecc_uncorrected: 0, mig: Disabled, mig_pending: Disabled, mig_devices: 0, fabric: Completed}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _gpu_node

PATTERNS = ["nvidia-driver*", "nvidia-dkms*", "nvidia-kernel*", "nvidia-utils*", "kmod-nvidia*", "libnvidia-compute*"]


def main():
    module = AnsibleModule(
        argument_spec={
            "driver_packages": {"type": "list", "elements": "str", "default": PATTERNS},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **_gpu_node.look(module.params["root"], module.params["driver_packages"]))


if __name__ == "__main__":
    main()
