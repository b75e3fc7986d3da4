#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_secret
version_added: "0.1.0"
short_description: Write the credentials for Triton's S3 access into a Secret
description:
  - Checks AWS credentials, or those of an S3-compatible store, and writes them into an Opaque Secret whose keys are the
    environment variables that Triton reads.
  - By default the Secret is immutable and its name ends in a digest of its content. A pod template that names it then
    names exactly what it runs with, so that new credentials roll the pods and a rollback brings the old ones back.
  - Each value is looked at before anything is sent. The usual slips have a message of their own, which never holds a value.
author:
  - The mlserving.triton authors (@mlserving)
extends_documentation_fragment:
  - mlserving.triton._cluster
attributes:
  check_mode:
    description: Can run in check mode and predict what a real run does.
    support: full
    details:
      - The request is sent as a dry run. If the namespace does not exist yet, the Secret is reported as one to be created.
  diff_mode:
    description: Returns what changed, or would change.
    support: partial
    details:
      - Shows the name, the keys and a short digest, never a value.
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
options:
  namespace:
    description:
      - Namespace of the Secret. It must exist for O(state=present).
    type: str
    required: true
  release:
    description:
      - Name of the Triton release that the credentials belong to.
    type: str
    required: true
  state:
    description:
      - With V(present) the Secret exists.
      - With V(absent) the credentials of O(release) are deleted, all of them, or only the one that O(name) names. A Secret without this
        collection's labels is left with a warning.
    type: str
    choices: [present, absent]
    default: present
  name:
    description:
      - Fixed name of the Secret, such as V(aws-credentials) for manifests of the public chart.
      - A Secret with a fixed name is not immutable and is updated in place. Pods do not see that until they are restarted.
      - A Secret of that name that is immutable, or that this collection did not make for this release, is refused.
    type: str
  access_key_id:
    description:
      - Id of the access key. Required with O(state=present).
    type: str
  secret_access_key:
    description:
      - The access key. Required with O(state=present).
    type: str
  session_token:
    description:
      - Token of temporary credentials.
    type: str
  region:
    description:
      - Region of the bucket. Required with O(state=present). S3-compatible stores mostly take V(us-east-1).
    type: str
  encoding:
    description:
      - How O(access_key_id), O(secret_access_key), O(session_token) and O(region) are given. With V(base64) all of them are decoded.
      - It is never guessed. A value that is plainly of the other kind is an error.
    type: str
    choices: [plain, base64]
    default: plain
  strip:
    description:
      - Remove white space around the values in place of failing on it.
    type: bool
    default: false
  labels:
    description:
      - Further labels of the Secret.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Write the credentials
  mlserving.triton.triton_secret:
    namespace: triton
    release: demo
    access_key_id: "{{ lookup('ansible.builtin.env', 'AWS_ACCESS_KEY_ID') }}"
    secret_access_key: "{{ lookup('ansible.builtin.env', 'AWS_SECRET_ACCESS_KEY') }}"
    region: eu-central-1
  register: credentials

- name: Write the values that a config.yaml of the public chart holds, under the name that the chart uses
  mlserving.triton.triton_secret:
    namespace: triton
    release: demo
    name: aws-credentials
    encoding: base64
    access_key_id: "{{ secret.id }}"
    secret_access_key: "{{ secret.key }}"
    region: "{{ secret.region }}"

- name: Remove every credential of the release
  mlserving.triton.triton_secret:
    namespace: triton
    release: demo
    state: absent
"""

RETURN = r"""
name:
  description: Name of the Secret, to be put into the pod template.
  returned: O(state=present)
  type: str
  sample: demo-aws-654c379cda
namespace:
  description: Namespace of the Secret.
  returned: success
  type: str
  sample: triton
data_keys:
  description: Keys of the Secret, each the name of an environment variable.
  returned: O(state=present)
  type: list
  elements: str
  sample: [AWS_ACCESS_KEY_ID, AWS_DEFAULT_REGION, AWS_SECRET_ACCESS_KEY]
digest:
  description: First 10 hex digits of the SHA-256 over the content.
  returned: O(state=present)
  type: str
  sample: 654c379cda
names:
  description: Names of the Secrets that were deleted, or would be in check mode.
  returned: O(state=absent)
  type: list
  elements: str
  sample: [demo-aws-654c379cda]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _credentials, _secret

ARGUMENT_SPEC = {
    **_cluster.ARGUMENT_SPEC,
    "namespace": {"type": "str", "required": True},
    "release": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "name": {"type": "str"},
    # An id is no secret, but until it is checked it may be the key in the wrong place.
    "access_key_id": {"type": "str", "no_log": True},
    "secret_access_key": {"type": "str", "no_log": True},
    "session_token": {"type": "str", "no_log": True},
    "region": {"type": "str"},
    "encoding": {"type": "str", "choices": ["plain", "base64"], "default": "plain"},
    "strip": {"type": "bool", "default": False},
    "labels": {"type": "dict", "default": {}},
}


def present(module: AnsibleModule, secrets: _secret.Secrets) -> dict:
    params = module.params
    values = _credentials.credentials(params, params["encoding"], params["strip"])
    module.no_log_values.update(values[option] for option in ("secret_access_key", "session_token") if option in values)
    # Checked now. A short id left there would be masked in every name returned that happens to hold it.
    module.no_log_values.discard(params["access_key_id"])
    desired = _secret.manifest(values, params["namespace"], params["release"], params["name"], params["labels"])
    outcome = _secret.ensure_present(secrets, desired, module.check_mode)
    return {"changed": outcome.changed, "diff": {"before": outcome.before, "after": outcome.after}, **_secret.public(desired)}


def absent(module: AnsibleModule, secrets: _secret.Secrets) -> dict:
    outcome = _secret.ensure_absent(secrets, module.params["release"], module.params["name"], module.check_mode)
    for text in outcome.warnings:
        module.warn(text)
    return {"changed": outcome.changed, "diff": {"before": outcome.before, "after": outcome.after}, **outcome.before}


def main() -> None:
    module = AnsibleModule(
        ARGUMENT_SPEC,
        supports_check_mode=True,
        required_if=[("state", "present", ("access_key_id", "secret_access_key", "region"))],
    )
    api, target = _cluster.from_module(module)
    secrets = _secret.Secrets(api, module.params["namespace"], target.server)
    try:
        result = (present if module.params["state"] == "present" else absent)(module, secrets)
    except (_credentials.CredentialsError, _secret.SecretError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(namespace=module.params["namespace"], **result)


if __name__ == "__main__":
    main()
