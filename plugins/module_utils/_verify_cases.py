# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cases beside the models and those of an option, checked and ready to be sent. PRIVATE to the collection."""

from __future__ import annotations

import os

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mlserving.triton.plugins.module_utils import _case_options, _cases, _tensors, _verify


class CasesError(Exception):
    """A case cannot be used; the text names it and says what to do."""


def prepared(source: str, given: list[dict], models: list[str] | None = None) -> list[_verify.Case]:
    """Return the cases that were given, and those that lie beside the models in the folder ``source``, which may be empty.

    :param models: of which those of the source are wanted; None is all
    :raises CasesError: one cannot be sent as it is written
    """
    try:
        beside = [(folder, case) for folder, case in (_cases.read(source) if source else []) if models is None or case["model"] in models]
        checked = ArgumentSpecValidator({"cases": _case_options.CASES}).validate({"cases": [case for _folder, case in beside]})
        if checked.error_messages:
            raise CasesError(f"A {_cases.FILE} below {source}: {'; '.join(checked.error_messages)}")
        folders = [folder for folder, _case in beside]
        return _verify.prepare([(os.getcwd(), case) for case in given] + list(zip(folders, checked.validated_parameters["cases"])))
    except (_cases.SourceError, _tensors.CaseError) as error:
        raise CasesError(str(error)) from None
