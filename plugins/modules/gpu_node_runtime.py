#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_node_runtime
short_description: Configures a container runtime for GPUs
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Lets C(nvidia-ctk) work on a copy of the runtime's configuration, has the runtime check the result, and only then puts it in place.
  - For containerd and CRI-O NVIDIA's part goes into a file of its own. Of containerd's own configuration only the line C(imports) is touched; comments and
    foreign content stay (C(nvidia-ctk) itself rewrites the whole file).
  - The runtime is not restarted.
attributes:
  check_mode:
    description: Can run in check mode and tell whether it would change something.
    support: full
    details: Without C(nvidia-ctk), which a first run in check mode does not install, it says that it would change something.
  diff_mode:
    description: Returns what has changed.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
options:
  runtime:
    description: The runtime.
    type: str
    choices: [containerd, docker, crio]
    required: true
  state:
    description: Whether the runtime should know NVIDIA's. Docker's configuration is left as it is by V(absent), since it has one file for everything.
    type: str
    choices: [present, absent]
    default: present
  config:
    description: Path of the runtime's configuration; by default where the runtime looks for it.
    type: path
  drop_in:
    description: Path of NVIDIA's part; by default C(99-nvidia.toml) in the folder that the runtime has for such parts.
    type: path
  set_as_default:
    description: Whether containers that name no runtime get NVIDIA's.
    type: bool
    default: false
  cdi:
    description: Whether to turn the Container Device Interface on in the runtime.
    type: bool
    default: false
  program:
    description: Path or name of C(nvidia-ctk).
    type: str
    default: nvidia-ctk
"""

EXAMPLES = r"""
- name: Let containerd know NVIDIA's runtime
  mlserving.triton.gpu_node_runtime:
    runtime: containerd
  register: runtime

- name: Restart it if that changed something
  ansible.builtin.service:
    name: containerd
    state: restarted
  when: runtime is changed
"""

RETURN = r"""
files:
  description: The files that were written or removed, or would be.
  returned: always
  type: list
  elements: str
  sample: [/etc/containerd/config.toml, /etc/containerd/conf.d/99-nvidia.toml]
"""

import os
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _gpu_runtime


def put(module, path, text):
    """Write a file whole, or remove it where there is no text."""
    if text is None:
        os.remove(path)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    if not os.path.exists(path):
        os.chmod(temporary, 0o644)
    module.atomic_move(temporary, path)


def main():
    module = AnsibleModule(
        argument_spec={
            "runtime": {"type": "str", "choices": list(_gpu_runtime.RUNTIMES), "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "config": {"type": "path"},
            "drop_in": {"type": "path"},
            "set_as_default": {"type": "bool", "default": False},
            "cdi": {"type": "bool", "default": False},
            "program": {"type": "str", "default": "nvidia-ctk"},
        },
        supports_check_mode=True,
    )
    options = module.params
    config, drop_in = _gpu_runtime.RUNTIMES[options["runtime"]][:2]
    config, drop_in = options["config"] or config, options["drop_in"] or drop_in
    if options["state"] == "present" and module.check_mode and not shutil.which(options["program"]):
        module.exit_json(changed=True, files=[path for path in (config, drop_in) if path], msg="nvidia-ctk would be installed first.")
    flags = ["--set-as-default"] * options["set_as_default"] + ["--cdi.enabled"] * options["cdi"]
    try:
        if options["state"] == "present":
            texts = _gpu_runtime.wanted(options["runtime"], options["program"], config, drop_in, flags)
        else:
            texts = _gpu_runtime.without(options["runtime"], config, drop_in)
    except _gpu_runtime.RuntimeConfigError as error:
        module.fail_json(msg=f"{error} Nothing was changed.")
    changes = {path: text for path, text in texts.items() if text != (_gpu_runtime.read(path) if os.path.exists(path) else None)}
    diff = [
        {"before_header": path, "after_header": path, "before": _gpu_runtime.read(path), "after": text or ""}
        for path, text in sorted(changes.items())
    ]
    if not module.check_mode:
        for path, text in sorted(changes.items()):
            put(module, path, text)
    module.exit_json(changed=bool(changes), files=sorted(changes), diff=diff)


if __name__ == "__main__":
    main()
