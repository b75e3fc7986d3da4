# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options in module_utils/_cluster.py. PRIVATE to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
requirements:
  - kubernetes >= 37.0
  - PyYAML >= 6.0
options:
  kubeconfig:
    description:
      - Path of the kubeconfig that names the cluster.
      - Without O(kubeconfig), O(context) and O(host), the environment variables E(K8S_AUTH_KUBECONFIG), E(K8S_AUTH_HOST) or
        E(KUBECONFIG) name it. The service account of a pod that this module happens to run in is never used.
      - An option and an environment variable that name different API servers are an error.
    type: path
  context:
    description:
      - Name of the context in the kubeconfig; by default its current context.
    type: str
  host:
    description:
      - URL of the API server, in place of a kubeconfig.
    type: str
  api_key:
    description:
      - Bearer token for O(host).
    type: str
  validate_certs:
    description:
      - Whether to verify the API server's certificate; by default what the kubeconfig says.
    type: bool
    aliases: [verify_ssl]
  ca_cert:
    description:
      - Path of the certificate authority's file for the API server.
    type: path
    aliases: [ssl_ca_cert]
notes:
  - The module runs on the controller (connection V(local)) and talks to the cluster through its API server.
"""
