# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the option case, which is one of the cases in _cases.py. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.mlserving.triton.plugins.doc_fragments import _cases

OPTION = """
options:
  case:
    description:
      - The inference to send. Its outputs, if it has any, are compared.
      - It has to be one request with one answer, neither a stream nor a sequence.
    type: dict
    suboptions:
"""


class ModuleDocFragment:
    # Annotated, since the linter of documentation takes plain assignments for plain texts.
    DOCUMENTATION: str = OPTION + _cases.ModuleDocFragment.DOCUMENTATION.partition("    suboptions:\n")[2].replace("O(cases[].", "O(case.")
