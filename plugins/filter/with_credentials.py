# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: with_credentials
short_description: A pod template's fields with other credentials
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Takes out of a Deployment's pod template what told Triton of its credentials, and puts other ones in. All else stays.
  - Returns whole fields, so that a merge patch replaces them.
positional: _input
options:
  _input:
    description: The pod template as the cluster has it.
    type: dict
    required: true
  pod:
    description: What the filter P(mlserving.triton.credential_pod#filter) returns.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Point a Deployment at other credentials
  kubernetes.core.k8s:
    state: patched
    merge_type: [merge]
    api_version: apps/v1
    kind: Deployment
    namespace: triton
    name: example-triton-inference-server
    definition:
      spec:
        template: "{{ deployment.spec.template | mlserving.triton.with_credentials(pod=pod) }}"
"""

RETURN = r"""
_value:
  description: The fields C(metadata) and C(spec) of a pod template that differ by credentials.
  type: dict
  sample:
    spec: {containers: [{name: triton-inference-server, envFrom: [{secretRef: {name: example-aws-654c379cda}}]}], volumes: []}
"""

from ansible_collections.mlserving.triton.plugins.module_utils import _credential_source


def with_credentials(template: dict, pod: dict) -> dict:
    return _credential_source.applied(template, pod)


class FilterModule:
    def filters(self) -> dict:
        return {"with_credentials": with_credentials}
