# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: hashed_keys
short_description: API keys in the format of htpasswd
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Hashes each key with SHA-1 and a salt of its own, as nginx and others read it.
positional: _input
options:
  _input:
    description: The key of each client, by its name.
    type: dict
    required: true
  salt:
    description: The same keys with the same salt give the same text.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Write keys for a front of your own
  ansible.builtin.copy:
    dest: htpasswd
    mode: "0600"
    content: "{{ keys | mlserving.triton.hashed_keys(salt='production') }}"
"""

RETURN = r"""
_value:
  description: One line for each client.
  type: str
  sample: "vision:{SSHA}R4SdbiJ0GIIThyAfIHuzBXVRbAxpbWFnZXM0Mg=="
"""

from ansible_collections.mlserving.triton.plugins.module_utils import _front


class FilterModule:
    def filters(self) -> dict:
        return {"hashed_keys": _front.hashed}
