#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_access_info
version_added: "0.1.0"
short_description: Try credentials on a model repository before pods start
description:
  - Finds out whether Triton will be able to read its model repository on S3 with the credentials that its pods are given, so that wrong ones
    are a message within seconds and not a crash loop.
  - From the controller, the repository is listed and an object in it opened, with the keys in the Secret.
  - In the cluster, a short Job runs Triton itself and lets it open the repository, with the pods' own environment, service account and
    network. The Job is taken away again.
author:
  - The mlserving.triton authors (@mlserving)
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
  - mlserving.triton._cluster
options:
  namespace:
    description: Namespace of the Secret and of the pods.
    type: str
    required: true
  release:
    description: Name of the release, for the Job's name and labels.
    type: str
    default: triton
  url:
    description: The repository as Triton reads it. Only C(s3://) URLs can be tried.
    type: str
    required: true
  endpoint_url:
    description: The same store as the controller reaches it, if that is another address than the one in O(url).
    type: str
  secret:
    description:
      - Name of the Secret with the credentials.
      - Without it the pods' own identity is tried, which only a Job can.
    type: str
  method:
    description:
      - With V(auto) the controller asks if there is O(secret) and the store answers here, else a Job.
    type: str
    choices: [auto, controller, cluster]
    default: auto
  image:
    description: Triton's image. Needed for a Job.
    type: str
  image_pull_policy:
    description: When it is pulled.
    type: str
    default: IfNotPresent
  pod:
    description: What the filter P(mlserving.triton.credential_pod#filter) returns. Needed for a Job.
    type: dict
  timeout:
    description:
      - Seconds that the Job may take, the pull of the image included. One that has not come to an end is a warning and no failure.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Try the credentials in a Secret from here
  mlserving.triton.triton_access_info:
    kubeconfig: .lab/kubeconfig
    namespace: triton
    url: s3://http://s3.storage.svc:8333/models/demo
    endpoint_url: http://172.18.255.200:8333
    secret: example-aws-654c379cda

- name: Try the identity of a service account, in the cluster
  mlserving.triton.triton_access_info:
    kubeconfig: .lab/kubeconfig
    namespace: triton
    url: s3://models-of-my-team/production
    method: cluster
    image: nvcr.io/nvidia/tritonserver:26.07-py3
    pod:
      spec: {serviceAccountName: triton}
      container: {env: [{name: AWS_DEFAULT_REGION, value: eu-west-1}]}
"""

RETURN = r"""
proven:
  description: Whether the repository was opened. False only with a warning that says why nothing can be said; a refusal is a failure.
  returned: success
  type: bool
  sample: true
method:
  description: How it was tried, V(controller) or V(cluster).
  returned: success
  type: str
  sample: controller
key:
  description: The object that was opened, if the controller asked.
  returned: success
  type: str
  sample: demo/simple/1/model.py
seconds:
  description: How long it took.
  returned: success
  type: float
  sample: 0.1
"""

import base64
import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlserving.triton.plugins.module_utils import _access, _cluster, _kube, _probe_job, _s3, _s3_errors, _s3_url

try:
    from kubernetes import client
except ImportError:
    client = None  # _cluster.from_module ends the module with the pip line

ARGUMENT_SPEC = {
    **_cluster.ARGUMENT_SPEC,
    "namespace": {"type": "str", "required": True},
    "release": {"type": "str", "default": "triton"},
    "url": {"type": "str", "required": True},
    "endpoint_url": {"type": "str"},
    "secret": {"type": "str", "no_log": False},
    "method": {"type": "str", "choices": ["auto", "controller", "cluster"], "default": "auto"},
    "image": {"type": "str"},
    "image_pull_policy": {"type": "str", "default": "IfNotPresent"},
    "pod": {"type": "dict"},
    "timeout": {"type": "int", "default": 120},
}


def secret_data(module: AnsibleModule, api: "client.ApiClient") -> dict[str, str]:
    """Return the Secret's plain data; none of it can appear in what the module returns."""
    namespace, name = module.params["namespace"], module.params["secret"]
    secret = _kube.call(f"reading the Secret {namespace}/{name}", client.CoreV1Api(api).read_namespaced_secret, name, namespace)
    data = {key: base64.b64decode(value).decode("utf-8", "replace") for key, value in (secret.get("data") or {}).items()}
    hidden = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    module.no_log_values.update(value for key, value in data.items() if key in hidden and value)
    return data


def from_controller(module: AnsibleModule, location: _s3_url.Location, data: dict[str, str]) -> dict:
    """Ask the store from here.

    :raises S3Error: it refuses or does not answer
    """
    if _s3.IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib(_s3.REQUIREMENT), exception=_s3.IMPORT_ERROR)
    found = _access.of_secret(data, module.params["url"])
    if "access_key_id" not in found:
        # Without keys the SDK would look for some here, and those are not the pods'.
        raise _s3_errors.NoAnswerError("it holds no keys that could be tried from here. Set method: cluster.")
    store = _s3.Store(location, found, endpoint_url=module.params["endpoint_url"], region=found.get("region"), retry_seconds=0)
    return {"proven": True, "method": "controller", "key": _access.read(store, location)}


def in_cluster(module: AnsibleModule, api: "client.ApiClient") -> dict:
    """Let Triton ask, in a Job."""
    params = module.params
    if not params["image"] or params["pod"] is None:
        module.fail_json(msg="A Job is needed to try these credentials, and that needs image and pod. Give both, or set method: controller.")
    pod = {"spec": {}, "container": {}, **params["pod"]}
    job = _probe_job.manifest(
        params["namespace"], params["release"], params["url"], params["image"], params["image_pull_policy"], pod, params["timeout"]
    )
    found = _probe_job.run(api, job, params["timeout"])
    if found.opened is False:
        module.fail_json(msg=f"Triton cannot open {params['url']} with {whose(params)}: {found.text}")
    if found.opened is None:
        module.warn(f"Whether Triton can open {params['url']} is not known yet. {found.text}")
    return {"proven": bool(found.opened), "method": "cluster", "key": ""}


def of_secret(module: AnsibleModule, api: "client.ApiClient", location: _s3_url.Location) -> dict:
    """Ask from here, or in the cluster if the store does not answer here."""
    try:
        return from_controller(module, location, secret_data(module, api))
    except _s3_errors.NoAnswerError:
        if module.params["method"] == "controller":
            raise
        return in_cluster(module, api)


def whose(params: dict) -> str:
    return f"the credentials in the Secret {params['secret']}" if params["secret"] else "its pods' own identity"


def main() -> None:
    module = AnsibleModule(ARGUMENT_SPEC, supports_check_mode=True)
    params, started = module.params, time.monotonic()
    api, _target = _cluster.from_module(module)
    try:
        location = _s3_url.parse(params["url"])
        if params["method"] == "controller" and not params["secret"]:
            module.warn(f"Whether Triton can open {params['url']} is not known: its pods' own identity can only be tried with method: cluster.")
            result = {"proven": False, "method": "controller", "key": ""}
        elif params["method"] == "cluster" or not params["secret"]:
            result = in_cluster(module, api)
        else:
            result = of_secret(module, api, location)
    except _s3_errors.S3Error as error:
        module.fail_json(msg=f"Triton cannot open {params['url']} with {whose(params)}: {error}")
    except _cluster.ClusterError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, seconds=round(time.monotonic() - started, 1), **result)


if __name__ == "__main__":
    main()
