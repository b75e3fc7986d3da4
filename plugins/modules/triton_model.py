#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_model
version_added: "0.1.0"
short_description: Load and unload models on every replica
description:
  - Loads or unloads models on every replica of a Deployment whose servers run with C(--model-control-mode=explicit), and waits until each one says so in its
    repository index. A request that is sent to a Service would reach one replica only.
  - A server that loads a model is not ready meanwhile, and one whose model has failed stays so. One replica therefore tries first. The others follow all at
    once if that was quick, else in two halves, so that the Service always has a replica.
  - If a model does not load, the module fails with Triton's reason, and takes back what it had loaded. The failed model is replaced by an empty one and
    unloaded, since its server would not become ready again otherwise; this needs Triton's Python backend.
  - The set that new replicas load, which the role C(triton) keeps in the ConfigMap NAME-models, is changed last. Replicas that started meanwhile are then
    brought to the same.
author:
  - The mlserving.triton authors (@mlserving)
extends_documentation_fragment:
  - mlserving.triton._cluster
  - mlserving.triton._replicas
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying target.
    details:
      - Whether a model loads is not known before. With O(exclusive), what an ensemble that is not loaded yet is made of may be named among what would go.
  diff_mode:
    support: full
    description: Returns details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    details:
      - The loaded models of each replica, and the set of new ones.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    details:
      - A model that is loaded already is not loaded anew.
options:
  models:
    description:
      - Names of models. V(*) alone is all that the repository has.
    type: list
    elements: str
    required: true
  state:
    description:
      - Whether they are to be loaded.
      - With an ensemble, Triton loads the models that it is made of too. Those stay when it is unloaded, unless they are named.
    type: str
    choices: [loaded, unloaded]
    default: loaded
  exclusive:
    description:
      - Whether all other models are unloaded, after O(models) were loaded. What an ensemble among them is made of stays.
      - Only with O(state=loaded).
    type: bool
    default: false
seealso:
  - module: mlserving.triton.triton_model_info
"""

EXAMPLES = r"""
- name: Load a model on every replica
  mlserving.triton.triton_model:
    namespace: inference
    deployment: example-triton-inference-server
    models: [simple]

- name: Have these two and no others
  mlserving.triton.triton_model:
    namespace: inference
    deployment: example-triton-inference-server
    models: [simple, other]
    exclusive: true

- name: Unload one
  mlserving.triton.triton_model:
    namespace: inference
    deployment: example-triton-inference-server
    models: [other]
    state: unloaded
"""

RETURN = r"""
replicas:
  description: What each replica has now; on failure too, once they were asked.
  returned: when the replicas were asked
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
    loaded:
      description: Models that this run loaded.
      returned: always
      type: list
      elements: str
      sample: [other]
    unloaded:
      description: Models that this run unloaded.
      returned: always
      type: list
      elements: str
      sample: []
    restored:
      description: Models that this run had loaded and took back, since another replica or model failed.
      returned: always
      type: list
      elements: str
      sample: []
    problem:
      description: What did not work, in words.
      returned: always
      type: str
      sample: ""
set:
  description: Names of the models that a new replica loads; null where the Deployment has no such set. V(*) is all.
  returned: success
  type: list
  elements: str
  sample: [simple, other]
differs:
  description: Where a replica has something else than most of the others, and which models new ones load that most have not, a sentence each.
  returned: when the replicas were asked
  type: list
  elements: str
  sample: []
table:
  description: A plain-text table of models and replicas.
  returned: when the replicas were asked
  type: list
  elements: str
  sample:
    - "MODEL   2xkzp  9wq4d  NEW REPLICAS"
    - "other   1      1      load"
    - "simple  1      1      load"
"""

import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _model_control, _model_set, _triton_client

ARGUMENT_SPEC = {
    "models": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "choices": ["loaded", "unloaded"], "default": "loaded"},
    "exclusive": {"type": "bool", "default": False},
}


def read_wanted(module: AnsibleModule) -> _model_set.Wanted:
    """Return what is asked for."""
    models, loaded, exclusive = module.params["models"], module.params["state"] == "loaded", module.params["exclusive"]
    problems = [f"models {problem}." for problem in _model_set.problems(models)]
    if exclusive and not loaded:
        problems.append("exclusive is given with state unloaded, but it is about what is loaded. Leave it out, or set state to loaded.")
    if not models and not exclusive:
        problems.append("models is empty. Name at least one, or set exclusive to unload all.")
    if problems:
        module.fail_json(msg=f"Nothing was changed. {' '.join(problems)}")
    return _model_set.Wanted(tuple(models), loaded, exclusive)


def told(replicas: list[_model_control.Replica], names: list | None) -> dict:
    """Return what there is to tell of the replicas."""
    rows = [replica.row() for replica in replicas]
    return {"replicas": rows, "differs": _model_set.differences(rows, names), "table": _model_set.table(rows, names)}


def changed(replicas: list[_model_control.Replica]) -> bool:
    return any(replica.loaded or replica.unloaded for replica in replicas)


def diff(replicas: list[_model_control.Replica], before: list | None, after: list | None) -> dict:
    """Return the models of each replica, and of new ones, before and after."""
    was, is_now = {}, {}
    for replica in replicas:
        index = set(_model_set.loaded(replica.was)), set(replica.loaded), set(replica.unloaded)
        was[replica.target.name], is_now[replica.target.name] = sorted(index[0]), sorted((index[0] | index[1]) - index[2])
    return {"before": {"replicas": was, "new replicas": before}, "after": {"replicas": is_now, "new replicas": after}}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC | _model_control.ARGUMENT_SPEC | _cluster.ARGUMENT_SPEC, supports_check_mode=True)
    if _triton_client.IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib(_triton_client.REQUIREMENT), exception=_triton_client.IMPORT_ERROR)
    wanted = read_wanted(module)
    api = _cluster.from_module(module)[0]
    try:
        release = _model_control.from_options(api, module.params, time.monotonic() + module.params["timeout"])
        result = _model_control.bring(release, wanted, module.check_mode)
    except _model_control.ControlError as error:
        module.fail_json(msg=str(error), changed=changed(error.replicas), **told(error.replicas, None))
    except _cluster.ClusterError as error:
        module.fail_json(msg=str(error))
    replicas, before, after = result["replicas"], result["before"], result["after"]
    module.exit_json(
        changed=before != after or changed(replicas),
        set=after,
        diff=diff(replicas, before, after),
        **told(replicas, before if module.check_mode else after),
    )


if __name__ == "__main__":
    main()
