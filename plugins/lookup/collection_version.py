# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: collection_version
short_description: Says which version of a collection is installed
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Returns the version from the collection's manifest; an empty text where it has none, such as in a checkout.
options:
  _terms:
    description: Names of collections.
    required: true
"""

EXAMPLES = r"""
- name: Say which version is used
  ansible.builtin.debug:
    msg: "{{ lookup('mlserving.triton.collection_version', 'kubernetes.core') }}"
"""

RETURN = r"""
_raw:
  description: The versions.
  type: list
  elements: str
  sample: [6.2.0]
"""

import importlib
import json
import pathlib

from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        versions = []
        for name in terms:
            folder = next(iter(importlib.import_module(f"ansible_collections.{name}").__path__))
            manifest = pathlib.Path(folder) / "MANIFEST.json"
            versions.append(json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"] if manifest.is_file() else "")
        return versions
