#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_repository
version_added: "0.1.0"
short_description: Bring a tree of models to an S3 bucket, or take it back
description:
  - Looks at a local tree of models, compares it with the bucket and uploads what is missing or different, several files at a time.
  - A model's C(config.pbtxt) is written after all its other files, so that a Triton that polls never sees a configuration without its versions.
  - Files beside the model directories, C(verify.yml) beside a C(config.pbtxt), names that begin with a dot, C(__pycache__)
    and C(*.pyc) are not part of the repository.
  - Objects in the bucket that the tree does not have are left alone.
author:
  - The mlserving.triton authors (@mlserving)
requirements:
  - boto3 >= 1.38
notes:
  - The module runs on the controller (connection V(local)), where the tree lies.
attributes:
  check_mode:
    description: Can run in check mode and predict what a real run does.
    support: full
  diff_mode:
    description: Returns what changed, or would change.
    support: partial
    details:
      - Shows the keys below the prefix, never the content of an object.
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
    details:
      - A file counts as unchanged if its size and MD5 are those that the listing shows, or else if its SHA-256 is the one that this
        module left in the object's metadata.
options:
  url:
    description:
      - The repository as Triton reads it. One of C(s3://BUCKET/PREFIX), C(s3://HOST:PORT/BUCKET/PREFIX),
        C(s3://http://HOST:PORT/BUCKET/PREFIX) and C(s3://https://HOST:PORT/BUCKET/PREFIX).
      - Checked by Triton's own rules, since Triton takes a URL that it cannot read for another bucket.
    type: str
    required: true
  endpoint_url:
    description:
      - The same store as the controller reaches it, if that is another address than the one in O(url).
      - By default the one in O(url), over plain HTTP for C(s3://HOST:PORT/BUCKET/PREFIX), or AWS. Environment variables such as
        E(AWS_ENDPOINT_URL) are not read.
    type: str
  region:
    description:
      - Region of the bucket. By default what the SDK finds in the environment or the profile, else V(us-east-1).
    type: str
  access_key_id:
    description:
      - Id of the access key. Without it the SDK looks for credentials (environment, profile, role of the machine).
    type: str
  secret_access_key:
    description:
      - The access key.
    type: str
  session_token:
    description:
      - Token of temporary credentials.
    type: str
  source:
    description:
      - Directory on the controller that holds the model directories. Required with O(state=present).
      - With O(state=absent) only the names of its models count.
    type: path
  state:
    description:
      - With V(present) the bucket holds every file of O(source).
      - With V(absent) the objects of the models in O(source) are deleted; without O(source) everything below the prefix, and if the URL has
        no prefix only in a bucket that this module created.
    type: str
    choices: [present, absent]
    default: present
  create_bucket:
    description:
      - Create the bucket if it does not exist, and tag it C(managed-by=mlserving.triton).
      - The tags of an existing bucket are not touched.
    type: bool
    default: true
  delete_bucket:
    description:
      - With O(state=absent), delete the bucket as well, if it carries the tag that O(create_bucket) leaves and nothing else is in it.
      - Else it is kept and RV(kept) says why.
    type: bool
    default: false
  parallel:
    description:
      - How many files are read and how many requests run at a time.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Upload the models to AWS
  mlserving.triton.triton_repository:
    url: s3://triton-models-of-my-team/production
    source: models

- name: Upload them to a store in the cluster that the controller reaches at another address
  mlserving.triton.triton_repository:
    url: s3://http://s3.storage.svc:8333/models/demo
    endpoint_url: http://172.18.255.200:8333
    access_key_id: "{{ s3_access_key_id }}"
    secret_access_key: "{{ s3_secret_access_key }}"
    source: "{{ playbook_dir }}/../examples/models"

- name: Take the models back, and the bucket if it was made for them
  mlserving.triton.triton_repository:
    url: s3://triton-models-of-my-team/production
    source: models
    state: absent
    delete_bucket: true
"""

RETURN = r"""
bucket:
  description: The bucket's name.
  returned: success
  type: str
  sample: models
prefix:
  description: The repository's path in the bucket, empty for its root.
  returned: success
  type: str
  sample: demo
url:
  description: O(url) without slashes at its end, to be given to Triton.
  returned: success
  type: str
  sample: s3://http://127.0.0.1:18333/models/demo
uploaded:
  description: Keys that were written, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [demo/simple/1/model.py, demo/simple/config.pbtxt]
unchanged:
  description: How many files were there already, with the same content.
  returned: success
  type: int
  sample: 0
deleted:
  description: Keys that were deleted, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: []
bytes:
  description: Size of RV(uploaded) in bytes.
  returned: success
  type: int
  sample: 19
bucket_created:
  description: Whether the bucket was created, or would be in check mode.
  returned: success
  type: bool
  sample: true
bucket_deleted:
  description: Whether the bucket was deleted, or would be in check mode.
  returned: success
  type: bool
  sample: false
kept:
  description: Why the bucket was kept although O(delete_bucket=true).
  returned: success
  type: list
  elements: str
  sample: ["the bucket models at http://127.0.0.1:18333 holds other objects, such as other/file."]
models:
  description: Names of the models in O(source); empty without O(source).
  returned: success
  type: list
  elements: str
  sample: [simple]
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlserving.triton.plugins.module_utils import _model_tree, _repository, _s3, _secret

ARGUMENT_SPEC = {
    "url": {"type": "str", "required": True},
    "endpoint_url": {"type": "str"},
    "region": {"type": "str"},
    # An id is no secret, but until it is checked it may be the key in the wrong place.
    "access_key_id": {"type": "str", "no_log": True},
    "secret_access_key": {"type": "str", "no_log": True},
    "session_token": {"type": "str", "no_log": True},
    "source": {"type": "path"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "create_bucket": {"type": "bool", "default": True},
    "delete_bucket": {"type": "bool", "default": False},
    "parallel": {"type": "int", "default": 8},
}
CREDENTIALS = ("access_key_id", "secret_access_key", "session_token")


def connect(module: AnsibleModule, location: _s3.Location) -> _s3.Store:
    params = module.params
    credentials = _secret.credentials({option: params[option] for option in CREDENTIALS})
    # Checked now. A short id left there would be masked in every key returned that happens to hold it.
    module.no_log_values.discard(params["access_key_id"])
    return _s3.Store(location, credentials, params["endpoint_url"], params["region"], params["parallel"])


def present(module: AnsibleModule, store: _s3.Store, location: _s3.Location) -> dict:
    params = module.params
    tree = _model_tree.read(params["source"])
    for text in tree.warnings:
        module.warn(text)
    plan = _repository.plan_upload(store, location, tree.files, params["parallel"])
    if plan.existing is None and not params["create_bucket"]:
        raise _s3.S3Error(f"{store.where} does not exist and create_bucket is false. Create it, or set create_bucket: true.")
    if not module.check_mode:
        if plan.existing is None:
            for text in _repository.create_bucket(store):
                module.warn(text)
        _repository.transfer(store, location, plan.files, params["parallel"])
    uploaded = sorted(location.key(file.name) for file in plan.files)
    return {
        "uploaded": uploaded,
        "unchanged": plan.unchanged,
        "bytes": plan.bytes,
        "bucket_created": plan.existing is None,
        "models": [model.name for model in tree.models],
        "diff": diff(location, plan.existing or (), uploaded=uploaded),
    }


def absent(module: AnsibleModule, store: _s3.Store, location: _s3.Location) -> dict:
    params = module.params
    models = _model_tree.model_names(params["source"]) if params["source"] else None
    plan = _repository.plan_removal(store, location, models, params["delete_bucket"])
    kept, bucket_deleted = list(plan.kept), plan.bucket
    if not module.check_mode:
        _repository.delete(store, plan.keys)
        if plan.bucket:
            kept += _repository.delete_bucket(store)
            bucket_deleted = not kept
    return {
        "deleted": list(plan.keys),
        "bucket_deleted": bucket_deleted,
        "kept": kept,
        "models": models or [],
        "diff": diff(location, plan.existing or (), deleted=plan.keys),
    }


def diff(location: _s3.Location, existing: tuple, uploaded: list = (), deleted: tuple = ()) -> dict:
    """Return the keys below the prefix before and after, a line each."""
    after = {key: key for key in existing if key not in set(deleted)}
    after |= {key: f"{key} (new content)" if key in after else key for key in uploaded}
    return {
        "before_header": location.url,
        "after_header": location.url,
        "before": "".join(f"{key}\n" for key in existing),
        "after": "".join(f"{after[key]}\n" for key in sorted(after)),
    }


def main() -> None:
    module = AnsibleModule(
        ARGUMENT_SPEC,
        supports_check_mode=True,
        required_if=[("state", "present", ("source",))],
        required_together=[("access_key_id", "secret_access_key")],
        required_by={"session_token": ("access_key_id",)},
    )
    if _s3.IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib(_s3.REQUIREMENT), exception=_s3.IMPORT_ERROR)
    if module.params["parallel"] < 1:
        module.fail_json(msg=f"parallel is {module.params['parallel']}. Expected 1 or more.")
    result = {"uploaded": [], "unchanged": 0, "deleted": [], "bytes": 0, "bucket_created": False, "bucket_deleted": False, "kept": []}
    try:
        location = _s3.parse(module.params["url"])
        result.update(bucket=location.bucket, prefix=location.prefix, url=location.url)
        store = connect(module, location)
        result.update((present if module.params["state"] == "present" else absent)(module, store, location))
    except (_s3.S3Error, _secret.SecretError, _model_tree.TreeError) as error:
        module.fail_json(msg=str(error))
    changed = any(result[key] for key in ("uploaded", "deleted", "bucket_created", "bucket_deleted"))
    module.exit_json(changed=changed, **result)


if __name__ == "__main__":
    main()
