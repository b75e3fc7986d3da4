#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_port_forward
short_description: Holds a port of this machine open to a Service, through the API server
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Carries each connection to O(local_port) on the loopback interface to a pod behind the Service, as C(kubectl port-forward) does.
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
  - mlserving.triton._cluster
options:
  namespace:
    description: Namespace of the Service.
    type: str
    required: true
  service:
    description: Name of the Service.
    type: str
    required: true
  local_port:
    description: Port on the loopback interface.
    type: int
    required: true
  seconds:
    description: How long it is held open; 0 means until the process O(while_pid) ends.
    type: int
    default: 0
  while_pid:
    description: A process on this machine; the port is held open as long as it lives.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Reach Prometheus for ten seconds
  mlserving.triton.triton_port_forward:
    kubeconfig: .lab/kubeconfig
    namespace: monitoring
    service: prometheus-operated
    local_port: 9090
    seconds: 10
    while_pid: "{{ lookup('ansible.builtin.pipe', 'echo $PPID') }}"
"""

RETURN = r"""
address:
  description: What was reached.
  returned: always
  type: str
  sample: http://127.0.0.1:9090
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _dashboards, _tunnel


def lives(pid: int) -> bool:
    """Return whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main():
    spec = {
        **_cluster.ARGUMENT_SPEC,
        "namespace": {"type": "str", "required": True},
        "service": {"type": "str", "required": True},
        "local_port": {"type": "int", "required": True},
        "seconds": {"type": "int", "default": 0},
        "while_pid": {"type": "int", "required": True},
    }
    module = AnsibleModule(spec, supports_check_mode=True)
    params = module.params
    api, target = _cluster.from_module(module)
    try:
        _cluster.version(api, target)
        behind = _dashboards.pod_behind(api, params["namespace"], params["service"])
    except _cluster.ClusterError as error:
        module.fail_json(msg=str(error))
    if not behind:
        module.fail_json(msg=f"no ready pod is behind the Service {params['namespace']}/{params['service']}. Look at it: kubectl get endpointslices.")
    end = time.monotonic() + params["seconds"] if params["seconds"] else float("inf")
    if not module.check_mode:
        try:
            with _tunnel.Tunnel(api, params["namespace"], *behind, params["local_port"]):
                while time.monotonic() < end and lives(params["while_pid"]):
                    time.sleep(0.5)
        except OSError as error:
            module.fail_json(msg=f"port {params['local_port']} of this machine cannot be used: {error.strerror}. Choose another one.")
    module.exit_json(changed=False, address=f"http://127.0.0.1:{params['local_port']}")


if __name__ == "__main__":
    main()
