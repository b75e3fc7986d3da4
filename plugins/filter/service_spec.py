# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: service_spec
short_description: The spec of the release's Service
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Turns the variables of the role C(triton) into the fields of a Service, without its selector.
positional: _input
options:
  _input:
    description: The role's variables without the prefix C(triton_), as its C(vars/main.yml) collects them.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the ports
  ansible.builtin.debug:
    msg: "{{ (options | mlserving.triton.service_spec).ports }}"
"""

RETURN = r"""
_value:
  description: Fields of the spec. What would be empty is left out.
  type: dict
  sample:
    type: LoadBalancer
    ports: [{name: http-inference-server, port: 8000, targetPort: http, protocol: TCP}]
"""

from ansible_collections.mlserving.triton.plugins.module_utils import _serving


class FilterModule:
    def filters(self) -> dict:
        return {"service_spec": _serving.service}
