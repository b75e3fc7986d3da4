#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_image_archive
short_description: Writes container images to an archive without a container engine
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Puts files and root file systems together as container images, in the archive format that C(docker load) and C(ctr images import) read.
  - The lab uses it where no image registry is in reach.
attributes:
  check_mode:
    description: Can run in check mode and tell whether it would change something.
    support: full
  diff_mode:
    description: Returns what has changed.
    support: none
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
    details: An archive that exists is kept; put a digest of what goes into it in its name.
options:
  dest:
    description: Path of the archive.
    type: path
    required: true
  images:
    description: The images in the archive.
    type: list
    elements: dict
    required: true
    suboptions:
      tags:
        description: Names of the image, each with a tag.
        type: list
        elements: str
        required: true
      layers:
        description:
          - The layers, lowest first. Each has either C(tar), the path of a layer that exists, or C(entries), a list.
          - An entry has C(dest), one of C(src) (file or folder), C(content), C(link) or C(directory), and optionally C(mode) (octal text)
            and C(owner) (user and group id).
        type: list
        elements: dict
        required: true
      entrypoint:
        description: The command that a container always starts with.
        type: list
        elements: str
      cmd:
        description: The arguments unless others are given.
        type: list
        elements: str
      env:
        description: Environment variables.
        type: dict
      labels:
        description: Labels of the image.
        type: dict
      user:
        description: User that the container runs as.
        type: str
      workdir:
        description: Working directory.
        type: str
      stop_signal:
        description: Signal that ends the container.
        type: str
"""

EXAMPLES = r"""
- name: Put a static program into an image
  mlserving.triton.lab_image_archive:
    dest: /tmp/pause.tar
    images:
      - tags: ["registry.k8s.io/pause:3.10.1"]
        entrypoint: [/pause]
        layers:
          - entries:
              - {src: /tmp/pause, dest: /pause, mode: "755"}
"""

RETURN = r"""
dest:
  description: Path of the archive.
  returned: always
  type: str
  sample: /tmp/pause.tar
size:
  description: Size of the archive in bytes; 0 in check mode when it does not exist yet.
  returned: always
  type: int
  sample: 1556480
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _image_archive


def main():
    texts = {"type": "list", "elements": "str"}
    image = {
        "tags": {"type": "list", "elements": "str", "required": True},
        "layers": {"type": "list", "elements": "dict", "required": True},
        "entrypoint": texts,
        "cmd": texts,
        "env": {"type": "dict"},
        "labels": {"type": "dict"},
        "user": {"type": "str"},
        "workdir": {"type": "str"},
        "stop_signal": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "images": {"type": "list", "elements": "dict", "required": True, "options": image},
        },
        supports_check_mode=True,
    )
    dest = module.params["dest"]
    exists = os.path.exists(dest)
    if exists or module.check_mode:
        module.exit_json(changed=not exists, dest=dest, size=os.path.getsize(dest) if exists else 0)
    try:
        size = _image_archive.write(dest, module.params["images"])
    except (_image_archive.ArchiveError, OSError) as error:
        module.fail_json(msg=f"The image archive {dest} was not written: {error}")
    module.exit_json(changed=True, dest=dest, size=size)


if __name__ == "__main__":
    main()
