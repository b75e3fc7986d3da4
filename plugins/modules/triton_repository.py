#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_repository
version_added: "0.1.0"
short_description: Check a tree of models, bring it to an S3 bucket, or take it back
description:
  - Checks a local tree of models as Triton would read it, before a byte moves, compares it by content with the bucket and
    transfers what is missing or different, several objects at a time.
  - Each object's content is verified by the store. What was transferred when a run is cut off is not transferred again,
    the parts of a large file included.
  - Files beside the model directories, C(verify.yml) beside a C(config.pbtxt), names that begin with a dot, C(__pycache__)
    and C(*.pyc) are not part of the repository. An empty version directory of an ensemble is kept alive by a marker C(.keep).
author:
  - The mlserving.triton authors (@mlserving)
extends_documentation_fragment:
  - mlserving.triton._repository
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
      - A file counts as unchanged if its checksum is the ETag that the listing shows, or else if its SHA-256 is the one that
        this module left in the object's metadata.
options:
  url:
    required: true
  state:
    description:
      - With V(present) the bucket holds every file of O(source).
      - With V(absent) the objects of the models in O(source) and all releases are deleted; without O(source) everything below
        the prefix, and if the URL has no prefix only in a bucket that this collection made.
    type: str
    choices: [present, absent]
    default: present
  create_bucket:
    description:
      - Create the bucket if it does not exist, and tag it C(mlserving.triton/managed-by=model_repository).
      - The tags of an existing bucket are not touched.
    type: bool
    default: true
  delete_bucket:
    description:
      - With O(state=absent), delete the bucket as well, with old versions and unfinished uploads, if it carries the tag that
        O(create_bucket) leaves and nothing else is in it.
      - Else it is kept and RV(kept) says why.
    type: bool
    default: false
seealso:
  - module: mlserving.triton.triton_repository_info
"""

EXAMPLES = r"""
- name: Upload the models to AWS
  mlserving.triton.triton_repository:
    url: s3://triton-models-of-my-team/production
    region: eu-west-1
    source: models

- name: Upload them to a store in the cluster that the controller reaches at another address
  mlserving.triton.triton_repository:
    url: s3://http://s3.storage.svc:8333/models/demo
    endpoint_url: http://172.18.255.200:8333
    access_key_id: "{{ s3_access_key_id }}"
    secret_access_key: "{{ s3_secret_access_key }}"
    source: "{{ playbook_dir }}/../examples/models"

- name: Publish them as a release that is whole or not there at all, and keep the two before it
  mlserving.triton.triton_repository:
    url: s3://http://s3.storage.svc:8333/models/demo
    endpoint_url: http://172.18.255.200:8333
    source: "{{ playbook_dir }}/../examples/models"
    layout: release
    keep: 3
  register: published  # published.url is what Triton is pointed at

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
  description: The repository to point Triton at. O(url) without slashes at its end, or with O(layout=release) the release's folder below it.
  returned: success
  type: str
  sample: s3://http://s3.storage.svc:8333/models/demo/releases/39e2ca48ac4cc25a
release:
  description: Name of the release, made from names and contents of its files; empty with O(layout=in_place).
  returned: success
  type: str
  sample: 39e2ca48ac4cc25a
replaced:
  description: Those of RV(uploaded) and RV(copied) that were there with another content.
  returned: success
  type: list
  elements: str
  sample: []
uploaded:
  description: Keys that were written, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [demo/simple/1/model.py, demo/simple/config.pbtxt]
copied:
  description: Keys that were written as copies of objects in the bucket with the same content, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: []
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
  sample: 1068
requests:
  description: How many requests were sent to the store.
  returned: success
  type: int
  sample: 5
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
findings:
  description: What the lint of O(source) found.
  returned: with O(source) and O(state=present), on failure too
  type: list
  elements: dict
  sample: []
table:
  description: RV(findings) as a plain-text table.
  returned: with O(source) and O(state=present), on failure too
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _model_lint, _model_tree, _repository_options, _s3, _s3_url
from ansible_collections.mlserving.triton.plugins.module_utils._repository import Repository
from ansible_collections.mlserving.triton.plugins.module_utils._s3_errors import S3Error

NOTHING = {
    "release": "",
    "replaced": [],
    "uploaded": [],
    "copied": [],
    "unchanged": 0,
    "deleted": [],
    "bytes": 0,
    "bucket_created": False,
    "bucket_deleted": False,
    "kept": [],
    "models": [],
}


def read_tree(module: AnsibleModule, result: dict) -> _model_tree.Tree:
    """Return the tree, checked; ends the module if Triton could not serve it."""
    tree, findings, shown = _repository_options.lint(module)
    result.update(shown)
    failing = _model_lint.failing(findings, module.params["strict"])
    if failing:
        listed = "; ".join(f"{finding.place}: {finding.message}" for finding in failing[:20])
        more = f"; and {len(failing) - 20} more" if len(failing) > 20 else ""
        module.fail_json(msg=f"Nothing was transferred, since Triton could not serve {module.params['source']}: {listed}{more}", **result)
    for finding in findings:
        if finding.severity == "warning":
            module.warn(f"{finding.place}: {finding.message} {finding.cure}")
    return tree


def present(module: AnsibleModule, tree: _model_tree.Tree, store: _s3.Store, repository: Repository, result: dict) -> None:
    publication = _repository_options.plan(module, tree, repository)
    plan = publication.plan
    if not publication.bucket and not module.params["create_bucket"]:
        raise S3Error(f"{store.where} does not exist and create_bucket is false. Create it, or set create_bucket: true.")
    if not module.check_mode:
        for text in repository.publish(publication):
            module.warn(text)
    result.update(
        changed=publication.changed,
        url=publication.url,
        release=publication.release,
        uploaded=sorted(step.key for step in publication.uploads),
        copied=sorted(step.key for step in plan.copies),
        replaced=sorted({step.key for step in (*publication.uploads, *plan.copies)} & set(plan.existing or ())) if not publication.release else [],
        unchanged=plan.unchanged,
        deleted=publication.deleted,
        bytes=publication.bytes,
        bucket_created=not publication.bucket,
    )
    existing = {*(plan.existing or ()), *publication.obsolete_keys[0], *publication.obsolete_keys[1]}
    result["diff"] = diff(publication.url, existing, {step.key for step in (*plan.steps, *publication.uploads)}, set(publication.deleted))


def absent(module: AnsibleModule, repository: Repository, result: dict) -> None:
    params = module.params
    models = _model_tree.model_names(params["source"]) if params["source"] else None
    removal = repository.plan_removal(models, params["delete_bucket"])
    kept, bucket_deleted = list(removal.kept), removal.bucket
    if not module.check_mode:
        kept += repository.remove(removal)
        bucket_deleted = removal.bucket and not kept
    result.update(
        changed=bool(removal.keys or bucket_deleted),
        deleted=sorted(removal.keys),
        bucket_deleted=bucket_deleted,
        kept=kept,
        models=models or [],
        diff=diff(params["url"], set(removal.existing), set(), set(removal.keys)),
    )


def diff(header: str, existing: set[str], written: set[str], deleted: set[str]) -> dict:
    """Return the keys below the prefix before and after, a line each."""
    after = {key: key for key in existing - deleted} | {key: f"{key} (new content)" if key in existing else key for key in written}
    return {
        "before_header": header,
        "after_header": header,
        "before": "".join(f"{key}\n" for key in sorted(existing)),
        "after": "".join(f"{after[key]}\n" for key in sorted(after)),
    }


def main() -> None:
    module = AnsibleModule(
        _repository_options.ARGUMENT_SPEC
        | {
            "url": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "create_bucket": {"type": "bool", "default": True},
            "delete_bucket": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
        required_if=[("state", "present", ("source",))],
        **_repository_options.CONSTRAINTS,
    )
    _repository_options.check(module)
    result, store, digests = {"changed": False, **NOTHING}, None, None
    try:
        location = _s3_url.parse(module.params["url"])
        result.update(bucket=location.bucket, prefix=location.prefix, url=location.url)
        tree = read_tree(module, result) if module.params["state"] == "present" else None
        store, repository, digests = _repository_options.connect(module, location)
        if tree:
            present(module, tree, store, repository, result)
        else:
            absent(module, repository, result)
    except _repository_options.ERRORS as error:
        module.fail_json(msg=str(error), **{**result, "changed": False})
    finally:
        if digests:
            digests.save()
    module.exit_json(**result, requests=store.requests)


if __name__ == "__main__":
    main()
