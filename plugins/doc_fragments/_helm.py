# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options in module_utils/_helm.py. PRIVATE to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  chart:
    description:
      - The chart.
    type: dict
    suboptions:
      ref:
        description: Its name in O(chart.repository), a folder, a C(.tgz) file or an C(oci://) URL.
        type: str
        required: true
      repository:
        description: URL of its repository.
        type: str
        default: ""
      version:
        description: Its version. A folder or a file has to be of that version.
        type: str
        default: ""
      prefix:
        description: What the variables that these values come from begin with, after C(monitoring_). It appears in messages.
        type: str
        default: chart
  helm_binary:
    description:
      - Name or path of the program C(helm).
    type: str
    default: helm
"""
