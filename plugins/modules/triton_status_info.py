#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_status_info
short_description: Tells how a release of Triton is, on one screen
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Looks at all objects of a release and asks each replica which models it has and what it has answered, all in parallel, and sums up what is wrong.
  - A replica that does not answer is a row with its reason. The module fails only if the cluster does not answer or refuses to show the Deployment.
  - Replicas are asked over HTTP through the API server. Of Secrets only the metadata is read, except for the key of the server's restricted APIs,
    which is taken from where the pod's own specification has it.
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
  - mlserving.triton._cluster
  - mlserving.triton._release
seealso:
  - module: mlserving.triton.triton_bundle
  - module: mlserving.triton.triton_verify
"""

EXAMPLES = r"""
- name: Look at a release
  mlserving.triton.triton_status_info:
    kubeconfig: .lab/kubeconfig
    namespace: triton
    release: example
  register: status

- name: Show the screen
  ansible.builtin.debug:
    msg: "{{ status.text }}"
"""

RETURN = r"""
found:
  description: Whether the release's Deployment is there. What is returned only then says so.
  returned: always
  type: bool
  sample: true
healthy:
  description: Whether it is there and nothing is wrong with it.
  returned: always
  type: bool
  sample: true
text:
  description: All of it as a screen of plain text.
  returned: always
  type: str
  sample: "example in namespace triton on https://127.0.0.1:36359: 4 of 4 replicas ready, all is well"
problems:
  description: What is wrong, what weighs most first, and what to do.
  returned: always
  type: list
  elements: dict
  contains:
    what:
      description: What is wrong, in words.
      returned: always
      type: str
      sample: "Model simple version 1 is ready on 3 of 4 replicas only: not loaded on example-triton-inference-server-758dbddbbb-2658w."
    todo:
      description: What to do about it.
      returned: always
      type: str
      sample: Read its log (kubectl logs), or collect everything in one file with triton_bundle=FILE.tar.gz.
hints:
  description: What there is in place of a Deployment that is not there, in words.
  returned: always
  type: list
  elements: str
  sample: []
release:
  description: Name of the release.
  returned: always
  type: str
  sample: example
namespace:
  description: Its namespace.
  returned: always
  type: str
  sample: triton
deployment:
  description: Name of its Deployment.
  returned: always
  type: str
  sample: example-triton-inference-server
cluster:
  description: The cluster that was asked, and in words where its name came from.
  returned: always
  type: dict
  sample: {server: "https://127.0.0.1:36359", context: kind-triton-lab, kubeconfig: .lab/kubeconfig, host: null, ca_cert: null, validate_certs: null,
    source: the module's options, version: v1.35.4}
image:
  description: The image's name, and the digests of what the replicas run.
  returned: when it is there
  type: dict
  sample: {name: "docker.io/mlserving-lab/tritonserver:2.51.0", digests: ["sha256:7f54c985d8e4d7542e7536ec29fb955541b07fc4278ca9db83c7883617ab0cdc"]}
repository:
  description: URL of the model repository, and the digest of the models' release if it is one.
  returned: when it is there
  type: dict
  sample: {url: "s3://http://s3.storage.svc:8333/models/demo/releases/a6289209f94be40b", release: a6289209f94be40b}
rollout:
  description:
    - The revision, whether it was rolled out whole (even if a replica has failed since), and how many replicas are wanted, updated, ready and available.
    - C(age) is the Deployment's, C(progress_age) the time since the rollout's last progress, both in seconds.
  returned: when it is there
  type: dict
  sample: {complete: true, revision: 1, progress_age: 222, age: 227, wanted: 4, updated: 4, ready: 4, available: 4}
replicas:
  description: The replicas, by name.
  returned: when it is there
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
      sample: triton-lab-worker
    phase:
      description: Its phase.
      returned: always
      type: str
      sample: Running
    ready:
      description: Whether it is ready.
      returned: always
      type: bool
      sample: true
    age:
      description: Seconds since it was made.
      returned: always
      type: int
      sample: 227
    restarts:
      description: How often its containers were restarted.
      returned: always
      type: int
      sample: 1
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
    last_end:
      description: The latest end of a container that was started again, with the seconds since; null if none was.
      returned: always
      type: dict
      sample: {container: triton-inference-server, reason: Completed, exit_code: 0, age: 15}
    version:
      description: Version of the server; empty if it did not answer.
      returned: always
      type: str
      sample: 2.51.0
    models:
      description: Its repository index; null if it did not tell.
      returned: always
      type: list
      elements: dict
      sample: [{name: simple, version: "1", state: READY, reason: ""}]
    requests:
      description:
        - How many requests it has answered since it started and how many failed, with the average milliseconds that one took and that it waited in the
          queue (null before the first). C(models) has the same for each model version. Null if it did not tell.
      returned: always
      type: dict
      sample: {success: 3, failed: 0, average_ms: 9.8, queue_ms: 0.16,
        models: [{name: simple, version: "1", success: 3, failed: 0, average_ms: 9.8, queue_ms: 0.16}]}
    problem:
      description: Why it did not tell how it is; empty if it did.
      returned: always
      type: str
      sample: ""
models:
  description: Every model version that a replica knows, on how many of those that answered it is ready, and its state on the others.
  returned: when it is there
  type: list
  elements: dict
  sample: [{name: simple, version: "1", ready: 3, others: {example-triton-inference-server-5d8c7bd7f4-2xkzp: not loaded}}]
service:
  description: The Service's type and addresses, which are empty where there is none yet; null without a Service.
  returned: when it is there
  type: dict
  sample: {name: example-triton-inference-server, type: LoadBalancer, http: "http://172.18.255.201:8000", grpc: "172.18.255.201:8001"}
autoscaler:
  description:
    - The HorizontalPodAutoscaler, with those of its conditions that are not as they should be; null without one.
    - If it gets no metric, C(steps) holds what was looked at in turn, from the replicas to itself, up to the first that failed.
  returned: when it is there
  type: dict
  sample: {name: example, min: 1, max: 4, current: 1, desired: 0,
    troubles: ["ScalingActive is False: the HPA was unable to compute the replica count: unable to get metric triton_queue_us_per_request"],
    steps: [{step: target, ok: false, told: "Prometheus (prometheus-operated:web in namespace monitoring) has no target of a pod of example",
      todo: "Run the role monitoring for the release, and see that the labels of its ServiceMonitor are what the Prometheus object selects."}]}
disruption_budget:
  description: The PodDisruptionBudget, with how many replicas may be evicted now; null without one.
  returned: when it is there
  type: dict
  sample: {name: example-triton-inference-server, allowed: 1, healthy: 4, wanted: 3}
secrets:
  description: The Secrets that the pods refer to, with their ages and, if known, when their content expires and in how many seconds.
  returned: when it is there
  type: list
  elements: dict
  sample: [{name: example-aws-c0a46d599d, exists: true, age: 230, expires: "", expires_in: null}]
verified:
  description: The newest verified release that is kept; null if there is none.
  returned: when it is there
  type: dict
  sample: {name: example-release-3, release: 3, at: "2026-11-25T15:44:40Z", by: ops, image: "docker.io/mlserving-lab/tritonserver:2.51.0"}
events:
  description: The latest 10 warnings about the release's objects, the newest first. Equal ones, of several pods too, are one. C(age) is in seconds.
  returned: when it is there
  type: list
  elements: dict
  sample: [{object: 4 Pods, reason: Unhealthy, message: "Startup probe failed: bash: connect: Connection refused", count: 12, age: 222}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _status_report


def main() -> None:
    module = AnsibleModule(argument_spec=_status_report.ARGUMENT_SPEC | _cluster.ARGUMENT_SPEC, supports_check_mode=True)
    api, target = _status_report.connect(module)
    try:
        status = _status_report.status(api, target, module.params)[0]
    except _cluster.ClusterError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **status)


if __name__ == "__main__":
    main()
