#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_bundle
short_description: Writes a support bundle of a release, without its secrets
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Writes one tar.gz on the controller with what helps somebody else to see what is wrong with a release. C(README.txt) at its start lists the files.
  - "It holds the status as text and JSON, the release's objects and events as YAML, the pods' nodes, the end of all logs (of former runs too), what
    each Triton says of itself (metadata, index, statistics, configurations, metrics), and versions."
  - Secrets are there by name, keys, sizes and age only. What stands in a Secret of the release, or in a variable, header, argument, annotation or
    ConfigMap key that is called like a secret, is taken out wherever it stands, in logs too; values of less than 6 characters are not looked for.
  - At most 5,000 lines of each log, 4 MiB of each file and 64 MiB of all of them are kept; C(README.txt) says what is not whole.
  - Nothing in the cluster is changed. What cannot be had is noted in C(README.txt).
extends_documentation_fragment:
  - mlserving.triton._cluster
  - mlserving.triton._release
attributes:
  check_mode:
    description: Can run in check mode and tell whether it would change something.
    support: full
    details: In check mode the path is checked, and nothing is collected or written.
  diff_mode:
    description: Returns what has changed.
    support: none
    details: The bundle is new each time.
  idempotent:
    description: A second run with the same options changes nothing.
    support: none
    details: Each run writes a new bundle, as the state that it tells of is another one.
options:
  path:
    description:
      - The file to write, which ends in C(.tar.gz) or C(.tgz). Only this user may read it.
      - A bundle of this module's that lies there is replaced. Anything else is left, and the module fails before it collects anything.
    type: path
    required: true
seealso:
  - module: mlserving.triton.triton_status_info
"""

EXAMPLES = r"""
- name: Collect everything about a release in one file
  mlserving.triton.triton_bundle:
    kubeconfig: .lab/kubeconfig
    namespace: triton
    release: example
    path: example.tar.gz
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
  sample: example.tar.gz
size:
  description: Its bytes.
  returned: success, not in check mode
  type: int
  sample: 13998
files:
  description: Names of the files in it, below the folder triton-NAMESPACE-RELEASE.
  returned: success, not in check mode
  type: list
  elements: str
  sample: [README.txt, findings.txt, nodes/triton-lab-worker.yaml, secrets.txt, status.json, status.txt, versions.json]
notes:
  description: What is not whole, in words.
  returned: success, not in check mode
  type: list
  elements: str
  sample: ["Nodes: the account may not see them"]
"""

import datetime

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _bundle, _bundle_file, _cluster, _status_report


def main() -> None:
    spec = {**_status_report.ARGUMENT_SPEC, **_cluster.ARGUMENT_SPEC, "path": {"type": "path", "required": True}}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    params, path = module.params, module.params["path"]
    api, target = _status_report.connect(module)
    try:
        _bundle_file.check(path)
        if module.check_mode:
            module.exit_json(changed=True, path=path)
        status, seen = _status_report.status(api, target, params)
        collection = _bundle.Collection(api, seen, status, params["timeout"])
        files, notes = _bundle_file.fitting(collection.files(module.ansible_version))
        made = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M:%S UTC}"
        notes += collection.notes
        files[_bundle_file.README] = _bundle.readme(status, made, files, notes).encode()
        size = _bundle_file.write(path, f"triton-{params['namespace']}-{params['release']}", files)
    except (_cluster.ClusterError, _bundle_file.BundleError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, path=path, size=size, files=sorted(files), notes=sorted(set(notes)))


if __name__ == "__main__":
    main()
