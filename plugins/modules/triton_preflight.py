#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_preflight
short_description: Checks a deployment's cluster and inputs before anything changes
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Finds the one cluster that is named, asks for its version and for the rights that a deployment needs, and checks every input.
  - All problems are reported at once. Nothing is changed.
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
  - mlserving.triton._cluster
options:
  origin:
    description: In words, where the options that name the cluster come from. It appears in messages.
    type: str
    default: the module's options
  inputs:
    description:
      - The role's variables without their prefix, as they came in. Numbers may be text.
    type: dict
    required: true
    suboptions:
      release:
        description: Name of the release.
        type: str
        required: true
      namespace:
        description: Namespace of the release.
        type: str
        required: true
      replicas:
        description: Number of replicas, a whole number from 0 upwards.
        type: raw
        required: true
      gpus:
        description: GPUs of each replica, a whole number from 0 upwards.
        type: raw
        required: true
      image:
        description: Image of the server.
        type: str
        required: true
      image_pull_policy:
        description: When the image is pulled.
        type: str
        required: true
      service_type:
        description: Type of the Service.
        type: str
        required: true
      name_override:
        description: Replaces the chart's name in labels and names.
        type: str
      fullname_override:
        description: Replaces the whole name of the objects.
        type: str
  model_repository:
    description:
      - URL of the model repository to check, by the rules of Triton's own parser. Only C(s3://) URLs are checked.
    type: str
    default: ""
  chart_values:
    description:
      - Values given under the public chart's keys, by role variable. One that differs from O(inputs) was given twice and is an error.
    type: dict
    default: {}
  credentials:
    description:
      - Credentials to check, with the options of M(mlserving.triton.triton_secret) of the same names.
    type: dict
    suboptions:
      access_key_id:
        description: Access key id.
        type: str
      secret_access_key:
        description: Secret access key.
        type: str
      session_token:
        description: Session token.
        type: str
      region:
        description: Region.
        type: str
      encoding:
        description: Whether the values are plain or base64.
        type: str
        choices: [plain, base64]
        default: plain
seealso:
  - module: mlserving.triton.triton_secret
"""

EXAMPLES = r"""
- name: Check the cluster and the inputs
  mlserving.triton.triton_preflight:
    kubeconfig: .lab/kubeconfig
    origin: the lab's inventory
    inputs:
      release: example
      namespace: triton
      replicas: 4
      gpus: 0
      image: nvcr.io/nvidia/tritonserver:26.07-py3
      image_pull_policy: IfNotPresent
      service_type: LoadBalancer
"""

RETURN = r"""
cluster:
  description: The cluster that is acted on, and in words where its name came from.
  returned: always
  type: dict
  sample:
    server: https://127.0.0.1:34567
    context: kind-triton-lab
    kubeconfig: .lab/kubeconfig
    host: null
    ca_cert: null
    validate_certs: null
    source: the lab's inventory
    version: v1.35.4
inputs:
  description: The inputs as they came in.
  returned: always
  type: dict
  sample: {"release": "example", "namespace": "triton", "replicas": "4", "gpus": 0}
deployed:
  description: Whether this collection's Deployment of the release is there.
  returned: always
  type: bool
  sample: true
names:
  description: Names of the release's objects, as the public chart makes them.
  returned: always
  type: dict
  sample:
    app: triton-inference-server
    fullname: example-triton-inference-server
    metrics_app: triton-inference-server-metrics
    metrics: example-triton-inference-server-metrics
    chart: triton-inference-server-1.0.0
namespace_exists:
  description: Whether the namespace is there already.
  returned: always
  type: bool
  sample: true
replicas:
  description: The number of replicas as an integer.
  returned: always
  type: int
  sample: 4
gpus:
  description: The GPUs of each replica as an integer.
  returned: always
  type: int
  sample: 0
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _credentials, _inputs, _names, _rights, _s3_errors, _s3_url, _secret

CREDENTIALS = {
    "access_key_id": {"type": "str"},
    "secret_access_key": {"type": "str", "no_log": True},
    "session_token": {"type": "str", "no_log": True},
    "region": {"type": "str"},
    "encoding": {"type": "str", "choices": ["plain", "base64"], "default": "plain"},
}


def main():
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            **_cluster.ARGUMENT_SPEC,
            "origin": {"type": "str", "default": "the module's options"},
            "inputs": {
                "type": "dict",
                "required": True,
                "options": {
                    "release": text,
                    "namespace": text,
                    "replicas": {"type": "raw", "required": True},
                    "gpus": {"type": "raw", "required": True},
                    "image": text,
                    "image_pull_policy": text,
                    "service_type": text,
                    "name_override": {"type": "str"},
                    "fullname_override": {"type": "str"},
                },
            },
            "model_repository": {"type": "str", "default": ""},
            "chart_values": {"type": "dict", "default": {}},
            "credentials": {"type": "dict", "options": CREDENTIALS},
        },
        supports_check_mode=True,
    )
    inputs = module.params["inputs"]
    problems = _inputs.problems(inputs, module.params["chart_values"])
    if module.params["model_repository"].startswith("s3:"):
        try:
            _s3_url.parse(module.params["model_repository"])
        except _s3_errors.S3Error as error:
            problems.append(f"{_inputs.shown('model_repository_url')}: {error}")
    credentials = module.params["credentials"] or {}
    try:
        _credentials.credentials(credentials, credentials.get("encoding") or "plain")
    except _credentials.CredentialsError as error:
        problems.append(f"The AWS credentials: {error}")
    if problems:
        module.fail_json(msg="Nothing was changed. " + " ".join(problems), problems=problems)
    names = _names.names(inputs["release"], inputs["name_override"] or "", inputs["fullname_override"] or "")
    api, target = _cluster.from_module(module, module.params["origin"])
    try:
        version = _cluster.version(api, target)
        missing = _rights.missing(api, inputs["namespace"])
        exists = _rights.namespace_exists(api, inputs["namespace"])
        owner = _rights.deployment_owner(api, inputs["namespace"], names["fullname"])
    except _cluster.ClusterError as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    if missing:
        module.fail_json(
            msg=f"Nothing was changed. On {target.server}, named by {target.source}, the credentials lack these rights in namespace {inputs['namespace']}: "
            f"{', '.join(missing)}. Ask the cluster's administrator for them.",
        )
    if owner not in (None, _secret.OWNER):
        module.fail_json(
            msg=f"Nothing was changed. The Deployment {names['fullname']} in namespace {inputs['namespace']} belongs to {owner}, not to this collection. "
            "Choose another triton_release or triton_namespace, or remove it first (helm uninstall, if Helm made it).",
        )
    module.exit_json(
        changed=False,
        cluster={**target.public(), "version": version},
        inputs=inputs,
        names=names,
        deployed=owner == _secret.OWNER,
        namespace_exists=exists,
        replicas=int(inputs["replicas"]),
        gpus=int(inputs["gpus"]),
    )


if __name__ == "__main__":
    main()
