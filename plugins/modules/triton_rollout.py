#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_rollout
version_added: "0.1.0"
short_description: Wait for the rollout of a Triton Deployment and explain why it fails
description:
  - Watches a Deployment until every replica is of its newest revision and available.
  - Ends early, with the reason and what to do about it in words, as soon as the rollout cannot complete - an image that
    cannot be pulled, a missing Secret, a model that Triton cannot load, storage that refuses access, a killed container,
    no node with a free GPU, a used-up quota, a refused security context. U(https://github.com/mlserving/triton/blob/main/docs/troubleshooting.md)
    lists all of them.
  - Only pods of the newest revision are judged. What is certain is reported within 10 seconds of Kubernetes' first sign; a state that may pass
    by itself must last for 30 seconds before it counts.
  - Where the account may list nodes and pods of all namespaces, a pod that no node takes is explained by what each node has free, and one that
    no node could ever take is reported at once if nothing here looks like an autoscaler. Otherwise the scheduler's words are given.
  - When the time is up, the message says what was seen last.
  - While it waits, lines on the progress are shown on stderr - how many replicas are ready, what each other pod does, and for how long. There is one when
    something changes, at most every 2 seconds, and one every 30 seconds otherwise.
author:
  - The mlserving.triton authors (@mlserving)
extends_documentation_fragment:
  - mlserving.triton._cluster
attributes:
  action:
    support: full
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    details:
      - The action plugin shows the progress, with the connection local and without become, async and C(no_log). The stdout callbacks json and
        jsonl show none of it.
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying target.
    details:
      - Returns at once in check mode, since nothing was applied that could roll out.
  diff_mode:
    support: none
    description: Returns details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    details:
      - There is nothing that could differ.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    details:
      - The module changes nothing, except with O(renew_failed=true) while there are failed pods.
options:
  namespace:
    description:
      - Namespace of the Deployment.
    type: str
    default: default
  deployment:
    description:
      - Name of the Deployment.
    type: str
    required: true
  timeout:
    description:
      - Seconds to wait.
    type: int
    default: 600
  log_lines:
    description:
      - How many relevant lines of a failed container's log to show at most. Credentials in them are redacted.
    type: int
    default: 20
  renew_failed:
    description:
      - First delete the pods that had failed before, so that new ones start at once with what was corrected since. Left alone they
        would start again only after a back-off of up to 5 minutes, and their old failure would be taken for a new one.
    type: bool
    default: false
seealso:
  - module: mlserving.triton.triton_verify
"""

EXAMPLES = r"""
- name: Wait until the new revision serves
  mlserving.triton.triton_rollout:
    namespace: inference
    deployment: example-triton-inference-server
    timeout: 900

- name: Go on after a failure, and tell the kind of it
  block:
    - name: Wait
      mlserving.triton.triton_rollout:
        namespace: inference
        deployment: example-triton-inference-server
      register: rollout
  rescue:
    - name: Say what it was
      ansible.builtin.debug:
        msg: "{{ ansible_failed_result.cause }}: {{ ansible_failed_result.msg }}"
"""

RETURN = r"""
replicas:
  description: How many replicas there are.
  returned: success, not in check mode
  type: int
  sample: 4
renewed:
  description: Names of the pods that were deleted because they had failed before.
  returned: success, not in check mode
  type: list
  elements: str
  sample: []
revision:
  description: The Deployment's revision.
  returned: success, not in check mode
  type: int
  sample: 2
seconds:
  description: How long it took.
  returned: success, not in check mode
  type: float
  sample: 3.5
pods:
  description: The pods of the newest revision.
  returned: always, except in check mode
  type: list
  elements: dict
  contains:
    name:
      description: Name of the pod.
      returned: always
      type: str
      sample: example-triton-inference-server-5d8c7bd7f4-2xkzp
    node:
      description: Name of its node; empty if it has none.
      returned: always
      type: str
      sample: triton-lab-control-plane
    phase:
      description: Its phase, or V(Terminating).
      returned: always
      type: str
      sample: Running
    ready:
      description: Whether it is ready.
      returned: always
      type: bool
      sample: true
    restarts:
      description: How often its containers were restarted.
      returned: always
      type: int
      sample: 0
    reason:
      description: Why it waits, if it does.
      returned: always
      type: str
      sample: ""
    message:
      description: The kubelet's or the scheduler's words on that.
      returned: always
      type: str
      sample: ""
cause:
  description:
    - The kind of failure. One of V(image_pull), V(config), V(volume), V(container_start), V(model_load), V(model_cache), V(s3_access),
      V(repository_path), V(out_of_memory), V(evicted), V(unschedulable), V(node_lost), V(probe), V(crash), V(exited), V(front), V(gpu_driver),
      V(quota), V(limit_range), V(pod_security), V(admission), V(pod_creation), V(port), V(permission), V(image), V(server_start), V(paused),
      V(progress_deadline), V(cluster), V(timeout).
  returned: failure
  type: str
  sample: model_load
log:
  description: The last relevant lines of the failed container's log.
  returned: failure
  type: list
  elements: str
  sample:
    - "error: creating server: Internal - failed to load all models"
msg:
  description: In check mode, why nothing was waited for. On failure, what failed, what to do, and the last relevant log lines.
  returned: failure, and in check mode
  type: str
  sample: check mode applies nothing, so there is no rollout to wait for
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _rollout_watch

ARGUMENT_SPEC = {
    "namespace": {"type": "str", "default": "default"},
    "deployment": {"type": "str", "required": True},
    "timeout": {"type": "int", "default": 600},
    "log_lines": {"type": "int", "default": 20},
    "renew_failed": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC | _cluster.ARGUMENT_SPEC, supports_check_mode=True)
    api = _cluster.from_module(module)[0]
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg="check mode applies nothing, so there is no rollout to wait for")
    given = {key: module.params[key] for key in ("namespace", "log_lines")}
    # The action plugin's file for lines on the progress.
    progress = os.environ.get("TRITON_ROLLOUT_PROGRESS")
    rollout = _rollout_watch.Rollout(api, name=module.params["deployment"], progress=progress, **given)
    try:
        renewed = rollout.renew_failed() if module.params["renew_failed"] else []
        result = rollout.wait(module.params["timeout"])
    except _rollout_watch.RolloutError as error:
        module.fail_json(msg=str(error), cause=error.cause, pods=error.pods, log=error.log)
    except _cluster.ClusterError as error:
        module.fail_json(msg=str(error), cause="cluster", pods=[], log=[])
    module.exit_json(changed=bool(renewed), renewed=renewed, **result)


if __name__ == "__main__":
    main()
