#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_summary
short_description: Shows what a playbook did, as text or as JSON
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - The last task of this collection's playbooks. By default it shows the O(text).
  - With the variable C(triton_output=json) it prints the summary as one line of JSON on the standard output, and nothing else on that line.
  - With the variable C(triton_output_file) it writes that line into a file in addition. With several hosts in the play each has a file of its own, with its
    name before the ending.
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
attributes:
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
    details: All of it runs on the controller.
options:
  text:
    description:
      - The summary for people. The commands from the line that begins with C(Next) to the end are returned as what to run next.
    type: str
    required: true
  facts:
    description:
      - The same facts for machines.
    type: dict
    default: {}
seealso:
  - module: mlserving.triton.triton_arguments
"""

EXAMPLES = r"""
- name: Sum up
  mlserving.triton.triton_summary:
    text: |
      example in namespace triton: 4 replicas
      Next  ansible-playbook playbooks/verify.yml
    facts: {release: example, namespace: triton, replicas: 4}
"""

RETURN = r"""
msg:
  description: The text.
  returned: unless C(triton_output=json)
  type: str
  sample: "example in namespace triton: 4 replicas\nNext  ansible-playbook playbooks/verify.yml"
summary:
  description: The summary, as C(docs/summary.schema.json) describes it.
  returned: with C(triton_output=json)
  type: dict
  sample:
    playbook: verify
    host: lab
    check_mode: false
    facts: {release: example, namespace: triton, replicas: 4}
    assumed: {}
    next: [ansible-playbook playbooks/verify.yml]
    text: ["example in namespace triton: 4 replicas", "Next  ansible-playbook playbooks/verify.yml"]
"""
