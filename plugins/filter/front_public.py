# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: front_public
short_description: What is public at the front, as regular expressions
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Turns names of Triton's APIs into the paths and gRPC methods that belong to them.
positional: _input
options:
  _input:
    description: Names of APIs, as the variable C(triton_front_public) of the role C(triton) has them.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show which paths are public
  ansible.builtin.debug:
    msg: "{{ (['inference'] | mlserving.triton.front_public).http }}"
"""

RETURN = r"""
_value:
  description: C(http) for paths, C(grpc) and C(health) for methods, and C(shutdown), the seconds that the front gives its last requests.
  type: dict
  sample:
    http: "^(/v2/logging)$"
    grpc: "^/inference.GRPCInferenceService/(LogSettings)$"
    health: "^/inference.GRPCInferenceService/Server(Live|Ready)$"
    shutdown: "5"
"""

from ansible_collections.mlserving.triton.plugins.module_utils import _front


class FilterModule:
    def filters(self) -> dict:
        return {"front_public": _front.public}
