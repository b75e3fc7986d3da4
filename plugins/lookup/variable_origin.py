# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: variable_origin
short_description: Says whether a variable came from the command line or from the inventory
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Returns words for messages, such as "the extra variable triton_kubeconfig". The first of the names that is set counts.
options:
  _terms:
    description: Names of variables.
    required: true
"""

EXAMPLES = r"""
- name: Say where the cluster's name came from
  ansible.builtin.debug:
    msg: "{{ lookup('mlserving.triton.variable_origin', 'triton_kubeconfig', 'triton_context') }}"
"""

RETURN = r"""
_raw:
  description: Where the variable came from, in words.
  type: list
  elements: str
  sample: ["the extra variable triton_kubeconfig"]
"""

from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        extra = load_extra_vars(self._loader)
        for name in terms:
            if extra.get(name):
                return [f"the extra variable {name}"]
        for name in terms:
            if variables.get(name):
                return [f"the inventory variable {name} of host {variables['inventory_hostname']}"]
        return ["the environment"]
