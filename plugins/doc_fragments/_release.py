# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options in module_utils/_status_report.py. PRIVATE to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  namespace:
    description:
      - Namespace of the release.
    type: str
    default: default
  release:
    description:
      - Name of the release. It names the objects as the public chart does.
    type: str
    required: true
  name_override:
    description:
      - Replaces the chart's name in labels and names.
    type: str
    default: ""
  fullname_override:
    description:
      - Replaces the whole name of the objects.
    type: str
    default: ""
  origin:
    description:
      - In words, where the options that name the cluster come from. It appears in messages.
    type: str
    default: the module's options
  timeout:
    description:
      - Seconds for the answers of all replicas together. One that has not answered by then is reported so.
    type: int
    default: 5
"""
