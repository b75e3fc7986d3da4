#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_secret
version_added: "0.1.0"
short_description: Write the credentials for Triton's model repository into a Secret
description:
  - Checks AWS credentials, or those of an S3-compatible store, and writes them into an Opaque Secret whose keys are the
    environment variables that Triton reads. Further keys and Triton's file of credentials for several stores may stand beside them.
  - By default the Secret is immutable and its name ends in a digest of its content. A pod template that names it then
    names exactly what it runs with, so that new credentials roll the pods and a rollback brings the old ones back.
  - Each value is looked at before anything is sent. The usual slips have a message of their own, which never holds a value.
author:
  - The mlserving.triton authors (@mlserving)
requirements:
  - boto3 >= 1.38, only for O(values_from=profile)
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
      - Shows the name, the keys, a short digest and when the credentials expire, never a value.
  idempotent:
    description: A second run with the same options changes nothing.
    support: partial
    details:
      - With O(values_from=profile) and a profile whose credentials are issued anew, each issue is a new Secret.
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
      - A Secret with a fixed name is not immutable and is updated in place. Pods do not go by that until they are restarted.
      - A Secret of that name that is immutable, or that this collection did not make for this release, is refused. O(adopt) takes over the latter.
      - By default C(RELEASE-aws-DIGEST) if it holds AWS keys, else C(RELEASE-credentials-DIGEST).
    type: str
  adopt:
    description:
      - Take over an existing Secret O(name) that lacks this collection's labels or belongs to another release, such as one of the public
        chart or one made by hand. It gets the labels, and its data is replaced.
      - A Secret that is immutable or of another type than Opaque is refused all the same.
      - A chart that still contains the Secret writes its own values at its next upgrade and deletes the Secret when it is uninstalled. Take
        it out of the chart.
    type: bool
    default: false
  prune:
    description:
      - With O(state=present), delete afterwards the other credentials of O(release) that no live object in O(namespace) refers to.
      - With O(state=absent), delete only those that no live object refers to.
      - Live are Deployments, ReplicaSets that have or want pods, and pods that are neither finished nor being deleted. A rollback to a ReplicaSet without pods
        does not find the Secret it had any more.
    type: bool
    default: false
  values_from:
    description:
      - Where the AWS credentials are taken from.
      - V(options) takes O(access_key_id), O(secret_access_key), O(session_token) and O(region).
      - V(environment) takes E(AWS_ACCESS_KEY_ID), E(AWS_SECRET_ACCESS_KEY), E(AWS_SESSION_TOKEN) or E(AWS_SECURITY_TOKEN),
        E(AWS_DEFAULT_REGION) or E(AWS_REGION), and E(AWS_CREDENTIAL_EXPIRATION) from the environment that the module runs in, as an
        AWS credential of an automation controller sets them.
      - V(profile) takes them from O(profile). O(region) wins over the region found there or in the environment.
    type: str
    choices: [options, environment, profile]
    default: options
  profile:
    description:
      - Profile of the AWS configuration files, where the module runs. Needed with O(values_from=profile), and of no use without.
    type: str
  access_key_id:
    description:
      - Id of the access key.
      - O(access_key_id), O(secret_access_key) and O(region) are needed with O(state=present) and O(values_from=options), unless
        O(data) or O(cloud_credentials) is given.
    type: str
  secret_access_key:
    description:
      - The access key. Needed as O(access_key_id) is.
    type: str
  session_token:
    description:
      - Token of temporary credentials.
    type: str
  region:
    description:
      - Region of the bucket. Needed as O(access_key_id) is. S3-compatible stores mostly take V(us-east-1).
    type: str
  expires:
    description:
      - When the credentials end, in ISO 8601 such as V(2026-01-31T12:00:00Z); in UTC if it names no zone.
      - A O(session_token) that is a JWT and a O(profile) whose credentials are issued anew tell it themselves. The earliest time counts.
      - It is kept as the annotation C(mlserving.triton/expires) of the Secret. The name does not depend on it.
      - If it is over, nothing is sent and the module fails. If it is less than an hour away, the module warns.
    type: str
  data:
    description:
      - Further keys of the Secret and their values, which are texts. They are taken as they are, without the checks and O(strip).
    type: dict
  cloud_credentials:
    description:
      - Credentials for several stores, in the form of the file that Triton's E(TRITON_CLOUD_CREDENTIAL_PATH) names. It becomes the key
        C(credentials.json) of the Secret.
      - It may have the keys C(s3), C(gs) and C(as). Each maps V("") or a prefix such as V(s3://bucket) to credentials. The longest prefix
        that fits counts.
      - An entry of C(s3) may have C(key_id), C(secret_key), C(session_token), C(region) and C(profile). It is checked as the options are.
      - An entry of C(gs) is the path of a file in Triton's container. An entry of C(as) may have C(account_str), C(account_key), and for
        versions of Triton that know them C(auth_type) and C(client_id).
    type: dict
  encoding:
    description:
      - How O(access_key_id), O(secret_access_key), O(session_token), O(region) and the values of O(data) are given. With V(base64) all of
        them are decoded; those of O(data) may then be other bytes than text.
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

- name: Write the credentials that an automation controller put into the environment
  mlserving.triton.triton_secret:
    namespace: triton
    release: demo
    values_from: environment
    region: eu-central-1

- name: Write those of a profile, and remove the ones that nothing uses any more
  mlserving.triton.triton_secret:
    namespace: triton
    release: demo
    values_from: profile
    profile: models-reader
    prune: true

- name: Write the values that a config.yaml of the public chart holds, into the Secret that the chart made
  mlserving.triton.triton_secret:
    namespace: triton
    release: demo
    name: aws-credentials
    adopt: true
    encoding: base64
    access_key_id: "{{ secret.id }}"
    secret_access_key: "{{ secret.key }}"
    region: "{{ secret.region }}"

- name: Write temporary credentials that say when they end
  mlserving.triton.triton_secret:
    namespace: triton
    release: demo
    access_key_id: "{{ issued.credentials.access_key }}"
    secret_access_key: "{{ issued.credentials.secret_key }}"
    session_token: "{{ issued.credentials.session_token }}"
    expires: "{{ issued.credentials.expiration }}"
    region: eu-central-1

- name: Write credentials for two stores as the file that Triton reads
  mlserving.triton.triton_secret:
    namespace: triton
    release: demo
    name: demo-credentials
    cloud_credentials:
      s3:
        "":
          key_id: "{{ reader.id }}"
          secret_key: "{{ reader.key }}"
          region: eu-central-1
        s3://http://store.storage.svc:9000/models:
          key_id: "{{ store.id }}"
          secret_key: "{{ store.key }}"
          region: us-east-1

- name: Write a key file of a Google service account
  mlserving.triton.triton_secret:
    namespace: triton
    release: demo
    data:
      credentials.json: "{{ lookup('ansible.builtin.file', 'service-account.json') }}"

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
  description: Keys of the Secret; those of AWS credentials are names of environment variables.
  returned: O(state=present)
  type: list
  elements: str
  sample: [AWS_ACCESS_KEY_ID, AWS_DEFAULT_REGION, AWS_SECRET_ACCESS_KEY]
digest:
  description: First 10 hex digits of the SHA-256 over the content.
  returned: O(state=present)
  type: str
  sample: 654c379cda
expires:
  description: When the credentials end, in UTC.
  returned: O(state=present), if it is known
  type: str
  sample: "2026-01-31T12:00:00Z"
pruned:
  description: Names of the Secrets that were deleted because nothing uses them, or would be in check mode.
  returned: O(prune=true) and O(state=present)
  type: list
  elements: str
  sample: [demo-aws-3409085357]
names:
  description: Names of the Secrets that were deleted, or would be in check mode.
  returned: O(state=absent)
  type: list
  elements: str
  sample: [demo-aws-654c379cda]
"""

import base64
import datetime

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _aws_sources, _cluster, _credentials, _secret, _secret_references
from ansible_collections.mlserving.triton.plugins.module_utils._credentials import CredentialsError

ARGUMENT_SPEC = {
    **_cluster.ARGUMENT_SPEC,
    "namespace": {"type": "str", "required": True},
    "release": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "name": {"type": "str"},
    "adopt": {"type": "bool", "default": False},
    "prune": {"type": "bool", "default": False},
    "values_from": {"type": "str", "choices": ["options", "environment", "profile"], "default": "options"},
    "profile": {"type": "str"},
    # An id is no secret, but until it is checked it may be the key in the wrong place.
    "access_key_id": {"type": "str", "no_log": True},
    "secret_access_key": {"type": "str", "no_log": True},
    "session_token": {"type": "str", "no_log": True},
    "region": {"type": "str"},
    "expires": {"type": "str"},
    "data": {"type": "dict", "no_log": True},
    "cloud_credentials": {"type": "dict", "no_log": True},
    "encoding": {"type": "str", "choices": ["plain", "base64"], "default": "plain"},
    "strip": {"type": "bool", "default": False},
    "labels": {"type": "dict", "default": {}},
}
HIDDEN = ("access_key_id", "secret_access_key", "session_token", "data", "cloud_credentials")
#: Seconds that credentials should still have to live.
SOON = 3600


def hide(module: AnsibleModule) -> dict:
    """Return the options, and take the values out of those that the module returns as its invocation."""
    params = dict(module.params)
    module.params.update({option: "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" for option in HIDDEN if params[option] is not None})
    return params


def mask(module: AnsibleModule, *texts: str) -> None:
    """Add values to those that Ansible keeps out of whatever the module returns."""
    module.no_log_values.update(text for text in texts if text)


def texts(part):
    """Yield every text in a file of credentials."""
    if isinstance(part, str):
        yield part
    else:
        for each in part.values():
            yield from texts(each)


def unmask(module: AnsibleModule, params: dict, result: dict) -> None:
    """Keep what is returned whole: a short value, such as an id, may by chance be a part of it."""
    shown = [params["namespace"], *(result.get(key) or "" for key in ("name", "digest", "expires"))]
    shown += [text for key in ("data_keys", "names", "pruned") for text in result.get(key, ())]
    module.no_log_values -= {value for value in module.no_log_values if any(value in text for text in shown)} - {params["api_key"]}


def read(module: AnsibleModule, params: dict) -> tuple[dict[str, bytes], datetime.datetime | None]:
    """Return (content of the Secret, when the credentials in it end), after masking every value.

    :raises CredentialsError: something is missing or cannot be right
    """
    found = _aws_sources.read(params)
    # A region is public, and stands in the names of servers.
    mask(module, *(value for option, value in found.values.items() if option != "region"))
    file = _credentials.cloud_credentials(params["cloud_credentials"], params["strip"]) if params["cloud_credentials"] else {}
    token_name = found.names.get("session_token", "session_token")
    ends = _credentials.first_expiry(found.values.get("session_token"), found.told, file, token_name, found.told_name)
    content = _credentials.content(found.values, params["data"] or {}, file, params["encoding"])
    hidden = [value for key, value in content.items() if key != _credentials.KEYS["region"]]
    mask(module, *texts(file))
    mask(module, *(value.decode("utf-8", "replace") for value in hidden), *(base64.b64encode(value).decode("ascii") for value in hidden))
    return content, ends


def present(module: AnsibleModule, params: dict, secrets: _secret.Secrets) -> dict:
    content, ends = read(module, params)
    desired = _secret.manifest(content, params["namespace"], params["release"], params["name"], params["labels"], ends and _credentials.utc(ends))
    outcome = _secret.ensure_present(secrets, desired, module.check_mode, params["adopt"] and bool(params["name"]))
    left = ends and ends - datetime.datetime.now(datetime.timezone.utc)
    if left and left.total_seconds() < SOON:
        module.warn(f"the credentials expire at {_credentials.utc(ends)}, in {_credentials.span(left)}. Get new ones before then.")
    result = {"changed": outcome.changed, "diff": {"before": outcome.before, "after": outcome.after}, **outcome.after}
    return prune(module, params, secrets, result) if params["prune"] else result


def prune(module: AnsibleModule, params: dict, secrets: _secret.Secrets, result: dict) -> dict:
    """Delete the release's Secrets that nothing uses, and return ``result`` completed by them."""
    try:
        pruned = _secret_references.unused(secrets, params["release"], result["name"])
        for name in pruned:
            secrets.delete(name, module.check_mode)
    except _secret.SecretError as error:
        raise _secret.SecretError(f"the Secret {result['name']} is as it should be, but unused ones could not be removed: {error}") from None
    diff = {"before": {**result["diff"]["before"], "unused": pruned}, "after": {**result["diff"]["after"], "unused": []}}
    return {**result, "changed": result["changed"] or bool(pruned), "diff": diff, "pruned": pruned}


def absent(module: AnsibleModule, params: dict, secrets: _secret.Secrets) -> dict:
    only = _secret_references.unused(secrets, params["release"]) if params["prune"] else None
    outcome = _secret.ensure_absent(secrets, params["release"], params["name"], module.check_mode, only)
    for text in outcome.warnings:
        module.warn(text)
    return {"changed": outcome.changed, "diff": {"before": outcome.before, "after": outcome.after}, **outcome.before}


def main() -> None:
    module = AnsibleModule(ARGUMENT_SPEC, supports_check_mode=True)
    params = hide(module)
    api, target = _cluster.from_module(module)
    secrets = _secret.Secrets(api, params["namespace"], target.server)
    try:
        result = (present if params["state"] == "present" else absent)(module, params, secrets)
    except (CredentialsError, _secret.SecretError) as error:
        module.fail_json(msg=str(error))
    unmask(module, params, result)
    module.exit_json(namespace=params["namespace"], **result)


if __name__ == "__main__":
    main()
