#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_release_info
version_added: "0.1.0"
short_description: List the verified releases of Triton that the cluster keeps, and read one
description:
  - Lists what M(mlserving.triton.triton_release) kept, the newest first.
  - With O(number) it also returns that release's manifests and what it was verified with.
author:
  - The mlserving.triton authors (@mlserving)
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
  - mlserving.triton._cluster
options:
  namespace:
    description: Namespace of the release.
    type: str
    default: default
  release:
    description: Name of the release.
    type: str
    required: true
  number:
    description:
      - The release to read, by its number, V(last), or V(previous), the one before the last.
    type: str
  optional:
    description: Whether it is no failure if there is no such release.
    type: bool
    default: false
  replicas:
    description: The number of replicas that the returned manifests are given; none leaves it to whoever owns it.
    type: int
  compare:
    description: Manifests to compare the release with, without the number of replicas.
    type: list
    elements: dict
    default: []
  source:
    description: Folder to write the configurations and golden cases of the release into, for M(mlserving.triton.triton_verify), if any are kept.
    type: path
seealso:
  - module: mlserving.triton.triton_release
"""

EXAMPLES = r"""
- name: List the releases
  mlserving.triton.triton_release_info:
    namespace: inference
    release: example

- name: Read the one before the last
  mlserving.triton.triton_release_info:
    namespace: inference
    release: example
    number: previous
    replicas: 2
"""

RETURN = r"""
releases:
  description: The kept releases, the newest first.
  returned: always
  type: list
  elements: dict
  contains:
    number:
      description: Its number.
      returned: always
      type: int
      sample: 7
    name:
      description: Name of its ConfigMap.
      returned: always
      type: str
      sample: example-triton-inference-server-release-7
    digest:
      description: SHA-256 of its manifests without the number of replicas.
      returned: always
      type: str
      sample: 7d3d5b0c41f6a3f0b0d1c8a4e9c7b25a0c6a54d0a51b1ef3a1c9e1a4b7f2d6e8
    secrets:
      description: Names of the Secrets that its pods use.
      returned: always
      type: list
      elements: str
      sample: [example-aws-654c379cda]
    about:
      description: What was told about it, and V(verified-at).
      returned: always
      type: dict
      sample: {"image": "nvcr.io/nvidia/tritonserver:26.07-py3", "verified-at": "2026-11-25T15:48:47Z"}
chosen:
  description:
    - The release O(number), as above, with C(manifests), C(verification), C(missing_secrets), C(cases_kept), and C(same), whether O(compare) holds the same.
  returned: when O(number) was given and is there
  type: dict
  sample: {"number": 6, "manifests": [], "verification": {}, "missing_secrets": [], "cases_kept": true, "same": false}
"""

import dataclasses

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _models_outline, _releases

ARGUMENT_SPEC = {
    "namespace": {"type": "str", "default": "default"},
    "release": {"type": "str", "required": True},
    "number": {"type": "str"},
    "optional": {"type": "bool", "default": False},
    "replicas": {"type": "int"},
    "compare": {"type": "list", "elements": "dict", "default": []},
    "source": {"type": "path"},
}


def read(module: AnsibleModule, releases: _releases.Releases, release: _releases.Release) -> dict:
    content = releases.content(release)
    if module.params["source"] and content["models"]:
        _models_outline.write(content["models"], module.params["source"])
    return {
        **dataclasses.asdict(release),
        "manifests": _releases.with_replicas(content["manifests"], module.params["replicas"]),
        "verification": content["verification"],
        "missing_secrets": releases.missing_secrets(list(release.secrets)),
        "cases_kept": bool(content["models"]),
        "same": release.digest == _releases.digest(module.params["compare"]),
    }


def main() -> None:
    module = AnsibleModule(ARGUMENT_SPEC | _cluster.ARGUMENT_SPEC, supports_check_mode=True)
    params, result = module.params, {}
    releases = _releases.Releases(_cluster.from_module(module)[0], params["namespace"], params["release"])
    try:
        kept = releases.all()
        if params["number"] and (kept or not params["optional"]):
            result["chosen"] = read(module, releases, _releases.chosen(kept, params["number"]))
    except _releases.ReleaseError as error:
        module.fail_json(msg=f"Release {params['release']} in namespace {params['namespace']}: {error}")
    except (_cluster.ClusterError, _models_outline.OutlineError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, releases=[dataclasses.asdict(release) for release in kept], **result)


if __name__ == "__main__":
    main()
