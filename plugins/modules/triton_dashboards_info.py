#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_dashboards_info
short_description: Tells where Grafana, Prometheus and Alertmanager are, and where Grafana's password is kept
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Looks for their Services in the whole cluster, or in O(namespaces) where the account may not see it all.
  - Grafana's password is never returned; the name of its Secret is.
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
  - mlserving.triton._cluster
options:
  origin:
    description: In words, where the options that name the cluster come from. It appears in messages.
    type: str
    default: the module's options
  namespaces:
    description: Where to look if the account may not see the whole cluster.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Find the dashboards
  mlserving.triton.triton_dashboards_info:
    kubeconfig: .lab/kubeconfig
"""

RETURN = r"""
found:
  description: Each program with its Service, the addresses by which it is reached from outside, and a port of this machine that suits it.
  returned: always
  type: list
  elements: dict
  sample:
    - what: Grafana
      namespace: monitoring
      service: kube-prometheus-stack-grafana
      port: 80
      local_port: 3000
      addresses: ["http://172.18.255.203:80"]
      user: admin
      secret: {name: kube-prometheus-stack-grafana-admin, key: admin-password}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _dashboards


def main():
    spec = {
        **_cluster.ARGUMENT_SPEC,
        "origin": {"type": "str", "default": "the module's options"},
        "namespaces": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(spec, supports_check_mode=True)
    api, target = _cluster.from_module(module, module.params["origin"])
    try:
        _cluster.version(api, target)
        found = _dashboards.find(api, module.params["namespaces"])
    except _cluster.ClusterError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, found=found)


if __name__ == "__main__":
    main()
