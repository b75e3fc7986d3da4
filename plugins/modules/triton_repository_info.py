#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_repository_info
version_added: "0.1.0"
short_description: Check a tree of models, and tell what a repository holds
description:
  - Checks a local tree of models as M(mlserving.triton.triton_repository) does, if O(source) is given.
  - Lists what lies in the bucket, if O(url) is given, and with both what publishing would do.
  - Changes nothing, and findings are no failure.
author:
  - The mlserving.triton authors (@mlserving)
extends_documentation_fragment:
  - mlserving.triton._repository
  - mlserving.triton._attributes.read_only
seealso:
  - module: mlserving.triton.triton_repository
"""

EXAMPLES = r"""
- name: Check a tree without any store
  mlserving.triton.triton_repository_info:
    source: examples/models
  register: checked

- name: Show what was found
  ansible.builtin.debug:
    var: checked.table

- name: List what Triton would find
  mlserving.triton.triton_repository_info:
    url: s3://http://s3.storage.svc:8333/models/demo
    endpoint_url: http://172.18.255.200:8333
"""

RETURN = r"""
models:
  description: Names of the models in O(source).
  returned: with O(source)
  type: list
  elements: str
  sample: [simple]
findings:
  description: What the lint found, by file and line.
  returned: with O(source)
  type: list
  elements: dict
  contains:
    file:
      description: Path below O(source).
      type: str
      sample: resnet/config.pbtxt
    line:
      description: Line in the file, if there is one to name.
      type: int
      sample: 3
    column:
      description: Column in the line, if there is one to name.
      type: int
      sample: 8
    rule:
      description: Name of the rule.
      type: str
      sample: config-name
    severity:
      description: V(error), V(warning) or V(info).
      type: str
      sample: error
    message:
      description: What is there, and what Triton makes of it.
      type: str
      sample: the name is "resnet50" but the directory is "resnet".
    cure:
      description: What to do.
      type: str
      sample: Give both the same name.
table:
  description: RV(findings) as a plain-text table.
  returned: with O(source)
  type: list
  elements: str
  sample: []
failing:
  description: How many of the findings keep M(mlserving.triton.triton_repository) from transferring anything, with this O(strict).
  returned: with O(source)
  type: int
  sample: 0
repository:
  description: What lies in the bucket.
  returned: with O(url)
  type: dict
  sample:
    url: s3://http://s3.storage.svc:8333/models/demo
    bucket: models
    endpoint: http://172.18.255.200:8333
    exists: true
    ours: true
    objects: 2
    bytes: 1068
    models: [{name: simple, versions: [1], config: true, files: 2}]
    releases: [{name: 39e2ca48ac4cc25a, url: "s3://http://s3.storage.svc:8333/models/demo/releases/39e2ca48ac4cc25a", published: "2026-11-24T20:05:11+00:00"}]
plan:
  description: What publishing would do.
  returned: with O(source) and O(url), unless the lint found errors
  type: dict
  sample: {url: "s3://http://s3.storage.svc:8333/models/demo", uploads: 0, copies: 0, unchanged: 2, deletes: 0, bytes: 0}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _bucket, _model_lint, _model_tree, _repository, _repository_options, _s3, _s3_url
from ansible_collections.mlserving.triton.plugins.module_utils._repository_plan import OF_RELEASES


def contents(store: _s3.Store, location: _s3_url.Location, repository: _repository.Repository) -> dict:
    objects = repository.objects()
    releases = repository.releases() if objects is not None else []
    in_place = [name for name in map(location.name, objects or {}) if not OF_RELEASES.fullmatch(name)]
    return {
        "url": location.url,
        "bucket": location.bucket,
        "endpoint": store.endpoint or "",
        "exists": objects is not None,
        "ours": objects is not None and _bucket.is_ours(store),
        "objects": len(objects or {}),
        "bytes": sum(found.size for found in (objects or {}).values()),
        "models": _repository.models(in_place),
        "releases": [
            {
                "name": release.name,
                "url": location.below(f"releases/{release.name}").url,
                "published": release.published.isoformat() if release.published else None,
            }
            for release in releases
        ],
    }


def plan(module: AnsibleModule, tree: _model_tree.Tree, repository: _repository.Repository) -> dict:
    publication = _repository_options.plan(module, tree, repository)
    return {
        "url": publication.url,
        "uploads": len(publication.uploads),
        "copies": len(publication.plan.copies),
        "unchanged": publication.plan.unchanged,
        "deletes": len(publication.deleted),
        "bytes": publication.bytes,
    }


def main() -> None:
    module = AnsibleModule(
        _repository_options.ARGUMENT_SPEC,
        supports_check_mode=True,
        required_one_of=[("source", "url")],
        **_repository_options.CONSTRAINTS,
    )
    _repository_options.check(module)
    result, tree, digests = {"changed": False}, None, None
    try:
        if module.params["source"]:
            tree, findings, shown = _repository_options.lint(module)
            result.update(shown, failing=len(_model_lint.failing(findings, module.params["strict"])))
        if module.params["url"]:
            location = _s3_url.parse(module.params["url"])
            store, repository, digests = _repository_options.connect(module, location)
            result["repository"] = contents(store, location, repository)
            if tree and not result["failing"]:
                result["plan"] = plan(module, tree, repository)
    except _repository_options.ERRORS as error:
        module.fail_json(msg=str(error), **result)
    finally:
        if digests:
            digests.save()
    module.exit_json(**result)


if __name__ == "__main__":
    main()
