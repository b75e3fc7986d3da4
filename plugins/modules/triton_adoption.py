#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_adoption
short_description: Moves a Helm release of the public chart to this collection, step by step
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - The steps of the playbook C(adopt.yml) that manifests alone cannot express. Each may be repeated, also after a run that was broken off.
  - The Deployment and the Services stay the objects that they are, so the address of the load balancer stays. New pods come up beside those of the chart,
    which end only when the Service has led to the new ones for a while.
extends_documentation_fragment:
  - mlserving.triton._cluster
attributes:
  check_mode:
    support: full
    description: Can run in check mode and tell whether it would change something.
    details: Every step counts as a change.
  diff_mode:
    support: none
    description: Returns what has changed.
    details: The steps are about who owns what, and in which order.
  idempotent:
    support: partial
    description: A second run with the same options changes nothing.
    details: After V(step=finish) there is no Helm release any more, which is an error.
options:
  namespace:
    description: Namespace of the release.
    type: str
    required: true
  release:
    description: Name of the release.
    type: str
    required: true
  name:
    description: Name of the Deployment and of the Service.
    type: str
    required: true
  step:
    description:
      - V(begin) makes what Helm owns in the Deployment and the Services ours, and returns the manifests to apply first.
      - V(wait) waits until every new pod is ready, beside those of the chart.
      - V(switch) has the Service lead to the new pods only, and waits for O(drain).
      - V(open) has it lead to all pods of the release again.
      - V(finish) takes over the chart's further objects, and removes its credentials, unless something uses them, and Helm's record.
      - V(put_back) gives all back to Helm, as its record has it.
    type: str
    choices: [begin, wait, switch, open, finish, put_back]
    required: true
  manifests:
    description: For V(step=begin), what is to be applied in the end.
    type: list
    elements: dict
    default: []
  pods:
    description: For V(step=switch), the RV(pods) of V(step=wait).
    type: str
  drain:
    description: For V(step=switch), seconds for which the chart's pods go on answering on connections that are open already.
    type: int
    default: 15
  labels:
    description: For V(step=finish), the labels of the objects that are taken over.
    type: dict
    default: {}
  timeout:
    description: For V(step=wait), how many seconds.
    type: int
    default: 900
"""

EXAMPLES = r"""
- name: Have the Service lead to the new pods only
  mlserving.triton.triton_adoption:
    kubeconfig: .lab/kubeconfig
    namespace: triton
    release: example
    name: example-triton-inference-server
    step: switch
    pods: 6c9f7d5b8
"""

RETURN = r"""
held:
  description: The manifests to apply first, with a Deployment that ends none of its former pods.
  returned: with step=begin
  type: list
  elements: dict
  sample: [{apiVersion: apps/v1, kind: Deployment, metadata: {name: example-triton-inference-server}, spec: {minReadySeconds: 86400}}]
pods:
  description: What tells the new pods from others, the value of their label pod-template-hash.
  returned: with step=wait
  type: str
  sample: 6c9f7d5b8
replicas:
  description: How many new pods there are.
  returned: with step=wait
  type: int
  sample: 2
removed:
  description: What is gone.
  returned: with step=finish
  type: list
  elements: str
  sample: [Secret aws-credentials, Helm's record of release example (1 Secrets)]
left:
  description: What of the chart stays, and why.
  returned: with step=finish
  type: dict
  sample: {Secret aws-credentials: something still uses it}
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _adoption, _cluster, _helm_record, _secret

ARGUMENT_SPEC = {
    "namespace": {"type": "str", "required": True},
    "release": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "step": {"type": "str", "required": True, "choices": ["begin", "wait", "switch", "open", "finish", "put_back"]},
    "manifests": {"type": "list", "elements": "dict", "default": []},
    "pods": {"type": "str"},
    "drain": {"type": "int", "default": 15},
    "labels": {"type": "dict", "default": {}},
    "timeout": {"type": "int", "default": 900},
}


def take(step: str, adoption: _adoption.Adoption, params: dict) -> dict:
    """Take a step and return the module's result."""
    if step == "begin":
        adoption.begin()
        return {"changed": True, "held": _adoption.held(params["manifests"])}
    if step == "wait":
        pods, replicas = adoption.wait(params["timeout"])
        return {"changed": False, "pods": pods, "replicas": replicas}
    if step == "switch":
        changed = adoption.lead_to(params["pods"])
        time.sleep(params["drain"] if changed else 0)
        return {"changed": changed}
    if step == "open":
        return {"changed": adoption.lead_to(None)}
    if step == "finish":
        removed, left = adoption.finish(params["labels"])
        return {"changed": True, "removed": removed, "left": left}
    adoption.put_back()
    return {"changed": True}


def main() -> None:
    module = AnsibleModule(ARGUMENT_SPEC | _cluster.ARGUMENT_SPEC, supports_check_mode=True, required_if=[("step", "switch", ["pods"])])
    params = module.params
    if module.check_mode:
        module.exit_json(changed=True)
    api, target = _cluster.from_module(module)
    try:
        record = _helm_record.find(api, params["namespace"], params["release"])
        if not record:
            raise _cluster.ClusterError(f"Helm has no release {params['release']} of the public chart in namespace {params['namespace']}.")
        result = take(params["step"], _adoption.Adoption(api, target.server, params["namespace"], params["name"], record), params)
    except (_cluster.ClusterError, _secret.SecretError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
