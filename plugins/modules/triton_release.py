#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_release
version_added: "0.1.0"
short_description: Keep a verified release of Triton in the cluster
description:
  - Keeps the manifests of a release, and what it was verified with, in an immutable ConfigMap, so that it can be put back later without any other store.
  - Nothing is kept anew if the newest release that is kept has the same manifests. The number of replicas is no part of them. If its golden cases are
    others, as when models were published in place, the newest release is replaced by one with the next number.
  - Only the newest O(keep) releases stay. Secrets of the release that none of them names and no object of the namespace uses are removed with the others.
  - Credentials are kept by the names of their Secrets only.
author:
  - The mlserving.triton authors (@mlserving)
extends_documentation_fragment:
  - mlserving.triton._cluster
attributes:
  check_mode:
    support: full
    description: Can run in check mode and tell whether it would change something.
  diff_mode:
    support: none
    description: Returns what has changed.
    details:
      - What is kept is what was applied a moment before, which has a diff of its own.
  idempotent:
    support: full
    description: A second run with the same options changes nothing.
options:
  namespace:
    description: Namespace of the release.
    type: str
    default: default
  release:
    description: Name of the release.
    type: str
    required: true
  name:
    description: What the names of the ConfigMaps begin with, such as the Deployment's name.
    type: str
    required: true
  manifests:
    description: The objects of the release as they were applied.
    type: list
    elements: dict
    required: true
  verification:
    description: Options of M(mlserving.triton.triton_verify) that the release was verified with, without secrets.
    type: dict
    default: {}
  model_set:
    description: The models that every server had loaded when it was verified, in the explicit mode. They are written into the manifests' set of models.
    type: list
    elements: str
  source:
    description: Folder of models that the release was verified with. Configurations and golden cases of it are kept, not the models.
    type: path
  like:
    description: Number of a kept release whose verification and golden cases are taken over, in place of O(verification) and O(source).
    type: int
  about:
    description: What is to be told about the release, as short texts. They become annotations.
    type: dict
    default: {}
  labels:
    description: More labels of the ConfigMap.
    type: dict
    default: {}
  keep:
    description: How many releases stay, the new one included.
    type: int
    default: 10
seealso:
  - module: mlserving.triton.triton_release_info
"""

EXAMPLES = r"""
- name: Keep what was verified
  mlserving.triton.triton_release:
    namespace: inference
    release: example
    name: example-triton-inference-server
    manifests: "{{ lookup('ansible.builtin.file', 'manifests.yml') | from_yaml_all | list }}"
    verification: {service: example-triton-inference-server}
    source: models
    about: {image: "nvcr.io/nvidia/tritonserver:26.07-py3"}
"""

RETURN = r"""
number:
  description: Number of the release, counted from 1.
  returned: always
  type: int
  sample: 7
name:
  description: Name of the ConfigMap.
  returned: always
  type: str
  sample: example-triton-inference-server-release-7
cases_kept:
  description: Whether configurations and golden cases are kept with it. They are left out where all would not fit into a ConfigMap (1 MiB).
  returned: when the release is new, or its golden cases are
  type: bool
  sample: true
pruned:
  description: Numbers of the older releases that were removed.
  returned: always
  type: list
  elements: int
  sample: [1]
pruned_secrets:
  description: Names of the Secrets that were removed, because nothing needs them any more.
  returned: always
  type: list
  elements: str
  sample: [example-aws-654c379cda]
"""

import datetime
import hashlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _models_outline, _releases, _secret, _secret_references

ARGUMENT_SPEC = {
    "namespace": {"type": "str", "default": "default"},
    "release": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "manifests": {"type": "list", "elements": "dict", "required": True},
    "verification": {"type": "dict", "default": {}},
    "model_set": {"type": "list", "elements": "str"},
    "source": {"type": "path"},
    "like": {"type": "int"},
    "about": {"type": "dict", "default": {}},
    "labels": {"type": "dict", "default": {}},
    "keep": {"type": "int", "default": 10},
}


def contents(params: dict, releases: _releases.Releases, like: _releases.Release | None) -> tuple[bytes, bool, bool]:
    """Return (what is to be kept, whether its golden cases are in it, whether it has any)."""
    if like:
        content = releases.content(like)
        verification, outline = content["verification"], content["models"]
    else:
        verification, outline = params["verification"], _models_outline.read(params["source"] or "")
    return (*_releases.packed(params["manifests"], verification, outline), bool(outline))


def write(module: AnsibleModule, releases: _releases.Releases, number: int, data: bytes) -> None:
    params = module.params
    about = {f"{_releases.PREFIX}{name}": str(value) for name, value in params["about"].items() if value not in ("", None)}
    annotations = {
        **about,
        f"{_releases.PREFIX}verified-at": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
        _releases.DIGEST: _releases.digest(params["manifests"]),
        _releases.SECRETS: ",".join(_releases.secrets_in(params["manifests"])),
    }
    releases.write(params["name"], number, data, {name: str(value) for name, value in params["labels"].items()}, annotations)


def prune(module: AnsibleModule, releases: _releases.Releases, old: list, named: set[str], secrets: _secret.Secrets) -> list[str]:
    """Remove old releases and the Secrets that nothing needs without them; return the names of these."""
    for release in old if not module.check_mode else []:
        releases.delete(release)
    names = _secret_references.unused(secrets, module.params["release"], *named)
    for name in names:
        secrets.delete(name, module.check_mode)
    return names


def main() -> None:
    module = AnsibleModule(ARGUMENT_SPEC | _cluster.ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    params["manifests"] = _releases.with_model_set(params["manifests"], params["model_set"])
    if params["keep"] < 1:
        module.fail_json(msg=f"keep is {params['keep']}. Give a number from 1.")
    api, target = _cluster.from_module(module)
    releases = _releases.Releases(api, params["namespace"], params["release"])
    result: dict = {}
    try:
        kept = releases.all()
        new = not kept or kept[0].digest != _releases.digest(params["manifests"])
        # What is like another one has that one's golden cases.
        like = _releases.chosen(kept, str(params["like"])) if new and params["like"] else None
        data, complete, cases = contents(params, releases, like) if new or not params["like"] else (b"", True, False)
        # The same manifests, but other golden cases: models were published in place, and are proven by other answers.
        stale = not new and cases and kept[0].content != hashlib.sha256(data).hexdigest()
        number = (kept[0].number if kept else 0) + (new or stale)
        if new or stale:
            result["cases_kept"] = complete
            if not complete:
                module.warn(
                    f"The golden cases of release {number} do not fit into a ConfigMap and are not kept: put back, it is verified without them."
                )
        if (new or stale) and not module.check_mode:
            write(module, releases, number, data)
        if stale and not module.check_mode:
            # Not before: there is a way back at any time.
            releases.delete(kept[0])
        # Of what stays, the new one is not in the list.
        stay, old = kept[: params["keep"] - new], kept[params["keep"] - new :]
        named = {name for release in stay for name in release.secrets}.union(_releases.secrets_in(params["manifests"]))
        removed = prune(module, releases, old, named, _secret.Secrets(api, params["namespace"], target.server)) if new or old else []
    except (_cluster.ClusterError, _models_outline.OutlineError, _secret.SecretError) as error:
        module.fail_json(msg=f"The release is verified, but it could not be kept for a way back: {error}")
    name = f"{params['name'][: _releases.NAME_LENGTH]}-release-{number}" if new or stale else kept[0].name
    pruned = sorted(release.number for release in old)
    module.exit_json(changed=bool(new or stale or old or removed), number=number, name=name, pruned=pruned, pruned_secrets=removed, **result)


if __name__ == "__main__":
    main()
