#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_objects_info
short_description: Lists every object in a namespace or a cluster, and whose it is
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Lists the objects of all kinds by their metadata only, so that nothing stays unseen in a cleanup. The content of Secrets is not read.
  - Events, leases and other objects that the cluster derives or gives every namespace are left out.
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
  - mlserving.triton._cluster
options:
  namespace:
    description: The namespace to list; without it the whole cluster is listed.
    type: str
  release:
    description: The release whose objects count as ours.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: List what a release has in its namespace
  mlserving.triton.triton_objects_info:
    kubeconfig: .lab/kubeconfig
    namespace: triton
    release: example
"""

RETURN = r"""
ours:
  description: The objects of O(release) that this collection made, fit for the definition of M(kubernetes.core.k8s).
  returned: always
  type: list
  elements: dict
  sample:
    - {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "example-triton-inference-server", "namespace": "triton"}}
others:
  description: The other objects that no object of ours owns, as text.
  returned: always
  type: list
  elements: str
  sample: ["ConfigMap triton/settings"]
namespace_ours:
  description: Whether the namespace is there and this collection made it.
  returned: always
  type: bool
  sample: true
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _objects, _rights, _secret


def main():
    module = AnsibleModule(
        argument_spec={**_cluster.ARGUMENT_SPEC, "namespace": {"type": "str"}, "release": {"type": "str", "default": ""}},
        supports_check_mode=True,
    )
    namespace, release = module.params["namespace"], module.params["release"]
    api, target = _cluster.from_module(module)
    try:
        _cluster.version(api, target)
        objects = _objects.everything(api, namespace)
        namespace_ours = bool(namespace) and _rights.namespace_labels(api, namespace).get(_secret.MANAGED_BY) == _secret.OWNER
    except _cluster.ClusterError as error:
        module.fail_json(msg=str(error))
    ours, others = [], []
    for entry in objects:
        if release and entry["labels"].get(_secret.MANAGED_BY) == _secret.OWNER and entry["labels"].get(_secret.INSTANCE) == release:
            ours.append({"apiVersion": entry["apiVersion"], "kind": entry["kind"], "metadata": {"name": entry["name"], "namespace": entry["namespace"]}})
        elif not entry["owned"]:
            others.append(f"{entry['kind']} {entry['namespace'] + '/' if entry['namespace'] else ''}{entry['name']}")
    module.exit_json(changed=False, ours=ours, others=others, namespace_ours=namespace_ours)


if __name__ == "__main__":
    main()
