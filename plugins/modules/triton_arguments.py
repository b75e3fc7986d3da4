#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_arguments
short_description: Compares all variables with what the running playbook takes
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Fails on variables that this collection's running playbook would not understand, before anything changes. With each stands the nearest right name.
  - These are unknown names with a prefix of this collection's roles, names from the command line that are like a key of the public chart or a variable of the
    playbook, nested keys that the chart does not have, values of a wrong type, and variables that are missing.
  - An unknown name in an inventory that is like none of this collection's only gives a warning. A name that another variable's template uses is no mistake.
  - What a playbook takes stands in C(playbooks/vars/arguments.yml) and in the roles' argument specs.
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
attributes:
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
    details: All of it runs on the controller, since only there all variables are known.
notes:
  - Only for the playbooks of this collection. The playbook is that of the task's play.
seealso:
  - module: mlserving.triton.triton_summary
"""

EXAMPLES = r"""
- name: Check what was given
  mlserving.triton.triton_arguments:
  register: triton_arguments
"""

RETURN = r"""
assumed:
  description: Those variables that the playbook tells about and that have their defaults.
  returned: success
  type: dict
  sample: {triton_namespace: triton, triton_replicas: 1, triton_service_type: LoadBalancer}
inventory:
  description: Those variables that the playbook tells about and that the inventory sets.
  returned: success
  type: dict
  sample: {triton_gpus: 0, triton_image: "docker.io/mlserving-lab/tritonserver:2.51.0"}
"""
