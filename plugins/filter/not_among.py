# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: not_among
short_description: Objects that are there and no longer wanted
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Returns those objects that the manifests do not hold, each as much of it as it takes to delete it.
positional: _input
options:
  _input:
    description:
      - Objects with C(apiVersion), C(kind) and C(name), as M(mlserving.triton.triton_preflight) returns them as C(optional_objects), or manifests.
    type: list
    elements: dict
    required: true
  objects:
    description: The manifests. The first one's namespace is that of every object that does not tell its own.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what would go
  ansible.builtin.debug:
    msg: "{{ triton_preflight.optional_objects | mlserving.triton.not_among(objects=manifests) }}"
"""

RETURN = r"""
_value:
  description: Manifests of the objects that are not wanted.
  type: list
  elements: dict
  sample: [{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: example-triton-inference-server, namespace: triton}}]
"""


def not_among(found: list[dict], objects: list[dict]) -> list[dict]:
    wanted = {(entry["kind"], entry["metadata"]["name"], entry["metadata"]["namespace"]) for entry in objects}
    default = next((entry["metadata"]["namespace"] for entry in objects), "")
    stale = {}
    for entry in found:
        metadata = entry.get("metadata") or entry
        identity = (entry["kind"], metadata["name"], metadata.get("namespace") or default)
        if identity not in wanted:
            stale[entry["apiVersion"], *identity] = None
    return [{"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}} for version, kind, name, namespace in stale]


class FilterModule:
    def filters(self) -> dict:
        return {"not_among": not_among}
