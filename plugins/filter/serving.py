# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: serving
short_description: What the role's variables come to in a Deployment
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Turns the variables of the role C(triton) into the server's arguments, probes, resources and volumes, and into the times of the way out, which
    depend on each other.
positional: _input
options:
  _input:
    description: The role's variables without the prefix C(triton_), as its C(vars/main.yml) collects them.
    type: dict
    required: true
  credentials:
    description: What the filter P(mlserving.triton.credential_pod#filter) returns.
    type: dict
    required: true
  labels:
    description: Labels that the release's pods are found by.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show how long a pod takes to leave
  ansible.builtin.debug:
    msg: "{{ (options | mlserving.triton.serving(credentials=pod, labels=labels)).pod.terminationGracePeriodSeconds }}"
"""

RETURN = r"""
_value:
  description: C(pod) and C(container) with fields as Kubernetes has them, C(sidecars), C(strategy), and the pods' C(annotations) and C(labels).
  type: dict
  sample:
    pod: {terminationGracePeriodSeconds: 40, automountServiceAccountToken: false}
    container: {args: [tritonserver, "--model-store=s3://models/demo", "--model-control-mode=none", "--exit-timeout-secs=30"]}
    sidecars: []
    strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
    annotations: {}
    labels: {app: triton-inference-server, release: example}
"""

from ansible_collections.mlserving.triton.plugins.module_utils import _serving


class FilterModule:
    def filters(self) -> dict:
        return {"serving": _serving.deployment}
