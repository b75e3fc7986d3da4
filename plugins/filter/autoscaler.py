# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: autoscaler
short_description: The object that scales a release
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Turns the variables C(triton_autoscaling_*) of the role C(triton) into a HorizontalPodAutoscaler or a KEDA ScaledObject, without its metadata.
positional: _input
options:
  _input:
    description: The role's variables without the prefix C(triton_), as its C(vars/main.yml) collects them.
    type: dict
    required: true
  name:
    description: Name of the Deployment.
    type: str
    required: true
  container:
    description: Name of the server's container.
    type: str
    required: true
  namespace:
    description: Namespace of the release.
    type: str
    required: true
  release:
    description: Name of the release.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what scales the release
  ansible.builtin.debug:
    msg: "{{ options | mlserving.triton.autoscaler(name='example', container='triton-inference-server', namespace='triton', release='example') }}"
"""

RETURN = r"""
_value:
  description: C(apiVersion), C(kind) and C(spec).
  type: dict
  sample:
    apiVersion: autoscaling/v2
    kind: HorizontalPodAutoscaler
    spec:
      scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: example}
      minReplicas: 1
      maxReplicas: 4
      metrics:
        - {type: Pods, pods: {metric: {name: triton_queue_us_per_request}, target: {type: AverageValue, averageValue: 10000000m}}}
"""

from ansible_collections.mlserving.triton.plugins.module_utils import _autoscaling


class FilterModule:
    def filters(self) -> dict:
        return {"autoscaler": _autoscaling.manifest}
