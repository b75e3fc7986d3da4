#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_model_info
version_added: "0.1.0"
short_description: List the models of every replica, and where replicas differ
description:
  - Asks every replica of a Deployment for its repository index, and tells which one has something else than most of the others, and which
    models new replicas load that most have not.
author:
  - The mlserving.triton authors (@mlserving)
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
  - mlserving.triton._cluster
  - mlserving.triton._replicas
seealso:
  - module: mlserving.triton.triton_model
"""

EXAMPLES = r"""
- name: List what every replica has
  mlserving.triton.triton_model_info:
    namespace: inference
    deployment: example-triton-inference-server
  register: models

- name: Show the table
  ansible.builtin.debug:
    var: models.table
"""

RETURN = r"""
replicas:
  description: What each replica has.
  returned: always
  type: list
  elements: dict
  contains:
    replica:
      description: Name of the pod.
      returned: always
      type: str
      sample: example-triton-inference-server-5d8c7bd7f4-2xkzp
    node:
      description: Name of the pod's node.
      returned: always
      type: str
      sample: triton-lab-worker
    waiting:
      description: Why it was not asked, as it has not started or does not answer; empty for all others.
      returned: always
      type: str
      sample: ""
    models:
      description: Every model version in its repository index, with Triton's state and reason.
      returned: always
      type: list
      elements: dict
      sample: [{name: simple, version: "1", state: READY, reason: ""}]
set:
  description: Names of the models that a new replica loads; null where the Deployment has no such set. V(*) is all.
  returned: always
  type: list
  elements: str
  sample: [simple]
differs:
  description: Where a replica has something else than most of the others, and which models new ones load that most have not, a sentence each.
  returned: always
  type: list
  elements: str
  sample: ["example-triton-inference-server-5d8c7bd7f4-2xkzp: model simple is not loaded, most replicas: has version 1"]
table:
  description: A plain-text table of models and replicas.
  returned: always
  type: list
  elements: str
  sample:
    - "MODEL   2xkzp  9wq4d  NEW REPLICAS"
    - "simple  1      1      load"
"""

import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _model_control, _model_set, _triton_client


def main() -> None:
    module = AnsibleModule(argument_spec=_model_control.ARGUMENT_SPEC | _cluster.ARGUMENT_SPEC, supports_check_mode=True)
    if _triton_client.IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib(_triton_client.REQUIREMENT), exception=_triton_client.IMPORT_ERROR)
    api = _cluster.from_module(module)[0]
    try:
        release = _model_control.from_options(api, module.params, time.monotonic() + module.params["timeout"])
        stored, replicas = release.stored(), [replica.row() for replica in release.replicas()]
    except (_cluster.ClusterError, _model_control.ControlError) as error:
        module.fail_json(msg=str(error))
    names = _model_set.of_config_map(stored)
    shown = [{name: row[name] for name in ("replica", "node", "waiting", "models")} for row in replicas]
    differs, table = _model_set.differences(replicas, names), _model_set.table(replicas, names)
    module.exit_json(changed=False, replicas=shown, set=names, differs=differs, table=table)


if __name__ == "__main__":
    main()
