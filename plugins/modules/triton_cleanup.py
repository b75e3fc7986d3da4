#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_cleanup
short_description: Removes a release and waits until it is gone
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Removes every object that this collection made for a release, of whatever kind, all at once, and waits until they are gone - pods have ended,
    finalizers are removed, and the load balancer's address no longer answers. ConfigMaps, Secrets and service accounts go after the pods.
  - Removes the namespace, if this collection made it and nothing else is in it.
  - Objects of the release that somebody else has taken over stay, with the reason, and so does everything else.
  - What does not go in time is named with what holds it, such as a finalizer or an API whose server is gone. Nothing is forced.
  - Runs beside each other do not fail each other, and what one run has left the next one removes. What Secrets hold is not read.
extends_documentation_fragment:
  - mlserving.triton._cluster
attributes:
  check_mode:
    support: full
    description: Can run in check mode and tell whether it would change something.
    details: Lists exactly what would go and what would stay.
  diff_mode:
    support: none
    description: Returns what has changed.
    details: RV(removed) and RV(left) say it.
  idempotent:
    support: full
    description: A second run with the same options changes nothing.
    details: There is nothing left to remove, unless somebody else's objects went away meanwhile, which held the namespace.
options:
  namespace:
    description: Namespace of the release.
    type: str
    required: true
  release:
    description: Name of the release.
    type: str
    required: true
  claims:
    description:
      - Names of PersistentVolumeClaims in O(namespace) to remove, too, with the data that they hold. None goes that is not named here.
      - One that a pod of something else uses stays.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait until everything is gone.
    type: int
    default: 300
"""

EXAMPLES = r"""
- name: Remove a release
  mlserving.triton.triton_cleanup:
    kubeconfig: .lab/kubeconfig
    namespace: triton
    release: example
"""

RETURN = r"""
removed:
  description: The objects that are gone, or would be in check mode, the namespace included.
  returned: always
  type: list
  elements: str
  sample: ["Deployment triton/example-triton-inference-server", "Namespace triton"]
left:
  description: What of the release stays, and the namespace, with the reason.
  returned: always
  type: dict
  sample: {"Namespace triton": "it holds ConfigMap triton/settings"}
edited:
  description: Removed objects that a person had edited, and with which program.
  returned: always
  type: dict
  sample: {"Deployment triton/example-triton-inference-server": "kubectl-edit"}
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _objects, _removal, _rights, _secret

ARGUMENT_SPEC = {
    "namespace": {"type": "str", "required": True},
    "release": {"type": "str", "required": True},
    "claims": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 300},
}


def goes(namespace: dict, others: list[dict], left: dict[str, str]) -> str:
    """Return why the namespace stays; nothing if it goes."""
    if namespace["labels"].get(_secret.MANAGED_BY) != _secret.OWNER:
        return "deploy did not make it"
    holding = [*left, *map(_removal.text, others)]
    return f"it holds {', '.join(holding)}" if holding else ""


def fail(module: AnsibleModule, held: dict[str, str], **result) -> None:
    waiting = "; ".join(f"{name}: {why}" for name, why in held.items())
    module.fail_json(msg=f"Not everything is gone after {module.params['timeout']} seconds. {waiting}. Then run the cleanup again.", **result)


def main() -> None:
    module = AnsibleModule(ARGUMENT_SPEC | _cluster.ARGUMENT_SPEC, supports_check_mode=True)
    name, release = module.params["namespace"], module.params["release"]
    deadline = time.monotonic() + module.params["timeout"]
    api, target = _cluster.from_module(module)
    try:
        _cluster.version(api, target)
        namespace = _removal.namespace_entry(api, name)
        found = _objects.everything(api, name)
        ours, left, others = _removal.sort(found, release)
        claims, kept = _removal.claims(api, name, module.params["claims"], release)
        ours += claims
        others = [entry for entry in others if _removal.text(entry) not in {*map(_removal.text, claims), *kept}]
        left |= kept
        rights = {("delete", *kind_of(entry)) for entry in ours}
        refused = _rights.refused(api, name, sorted(rights))
        if refused:
            module.fail_json(
                msg=f"Nothing was changed. On {target.server} the credentials lack these rights in namespace {name}: {', '.join(refused)}."
            )
        result = {"changed": bool(ours), "removed": [_removal.text(entry) for entry in ours], "left": left, "edited": _removal.edited(ours)}
        if not module.check_mode:
            held = _removal.remove(api, ours, deadline)
            if held:
                fail(module, held, **{**result, "removed": [each for each in result["removed"] if each not in held]})
            if result["changed"]:
                gone = [entry["metadata"].get("uid") for entry in found]
                ours, left, others = _removal.sort(_objects.everything(api, name), release, gone)
            result["left"] = left | kept
            if ours:
                fail(module, {_removal.text(entry): "it came up meanwhile" for entry in ours}, **result)
        why = goes(namespace, others, result["left"]) if namespace else ""
        if why:
            result["left"][_removal.text(namespace)] = why
        elif namespace:
            result["changed"] = True
            result["removed"].append(_removal.text(namespace))
            if not module.check_mode and _removal.remove(api, [namespace], deadline):
                fail(module, {_removal.text(namespace): _removal.why_namespace_stays(api, name, _objects.everything(api, name))}, **result)
    except _cluster.ClusterError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def kind_of(entry: dict) -> tuple[str, str]:
    """Return (API group, resource) of an object."""
    group = entry["apiVersion"].rpartition("/")[0]
    return group, entry["path"].rpartition("/")[2]


if __name__ == "__main__":
    main()
