# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options in module_utils/_model_control.py. PRIVATE to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
requirements:
  - tritonclient[http,grpc] >= 2.60
  - numpy
options:
  namespace:
    description:
      - Namespace of the Deployment.
    type: str
    default: default
  deployment:
    description:
      - Name of the Deployment. Its selector tells which pods are the replicas, and each is asked at Triton's own HTTP port, through the API server.
      - Pods that are being deleted, and those that were evicted or have finished, are left out.
    type: str
    required: true
  restricted_key:
    description:
      - Key of the server's restricted APIs (Triton's C(--http-restricted-api)).
      - A Deployment of the role C(triton) tells where its key lies, which is then read from its Secret; for others, give it here.
    type: dict
    suboptions:
      name:
        description: Its name.
        type: str
        required: true
      value:
        description: Its value.
        type: str
        required: true
  timeout:
    description:
      - Seconds for everything together.
    type: int
    default: 600
  parallel:
    description:
      - How many replicas are asked at a time.
    type: int
    default: 8
"""
