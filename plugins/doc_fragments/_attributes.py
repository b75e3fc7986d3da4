# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attributes that modules have in common. PRIVATE to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    # The attributes of a module that only looks.
    READ_ONLY = r"""
attributes:
  check_mode:
    description: Can run in check mode and tell whether it would change something.
    support: full
    details: The module changes nothing.
  diff_mode:
    description: Returns what has changed.
    support: none
    details: There is nothing that could differ.
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
    details: The module changes nothing.
"""
