# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: credential_pod
short_description: What a pod template needs so that Triton finds its credentials
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Returns environment, volumes and service account for a source of credentials, ready to be printed into a manifest.
positional: _input
options:
  _input:
    description: What M(mlserving.triton.triton_preflight) returns as C(credentials).
    type: dict
    required: true
  secret:
    description: What M(mlserving.triton.triton_secret) returned, if the source has a Secret of this collection's.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show what the pods get
  ansible.builtin.debug:
    msg: "{{ triton_preflight.credentials | mlserving.triton.credential_pod(secret=written) }}"
"""

RETURN = r"""
_value:
  description: C(annotations) of the pod template, fields of its C(spec) and of its C(container). What would be empty is left out.
  type: dict
  sample:
    annotations: {}
    spec: {}
    container: {envFrom: [{secretRef: {name: example-aws-654c379cda}}]}
"""

from ansible_collections.mlserving.triton.plugins.module_utils import _credential_source


def credential_pod(credentials: dict, secret: dict | None = None) -> dict:
    written = secret or {}
    return _credential_source.pod(
        **{**credentials, "secret": written.get("name") or credentials["secret"], "keys": tuple(written.get("data_keys") or credentials["keys"])}
    )


class FilterModule:
    def filters(self) -> dict:
        return {"credential_pod": credential_pod}
