#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_status_info
short_description: Tells how a release of Triton is, on one screen
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Looks at all objects of a release and asks each replica which models it has and what it has answered, all in parallel, and sums up what is wrong.
  - A replica that does not answer is a row with its reason. The module fails only if the cluster does not answer or refuses to show the Deployment.
  - Replicas are asked over HTTP through the API server. Of Secrets only the metadata is read, except for the key of the server's restricted APIs,
    which is taken from where the pod's own specification has it.
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
  - mlserving.triton._cluster
  - mlserving.triton._release
seealso:
  - module: mlserving.triton.triton_bundle
  - module: mlserving.triton.triton_verify
"""

EXAMPLES = r"""
- name: Look at a release
  mlserving.triton.triton_status_info:
    kubeconfig: .lab/kubeconfig
    namespace: triton
    release: example
  register: status

- name: Show the screen
  ansible.builtin.debug:
    msg: "{{ status.text }}"
"""

RETURN = r"""
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _status_report


def main() -> None:
    module = AnsibleModule(argument_spec=_status_report.ARGUMENT_SPEC | _cluster.ARGUMENT_SPEC, supports_check_mode=True)
    api, target = _status_report.connect(module)
    try:
        status = _status_report.status(api, target, module.params)[0]
    except _cluster.ClusterError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **status)


if __name__ == "__main__":
    main()
