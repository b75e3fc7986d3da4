# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a folder of models says must be served: names, and the tensors that the configurations declare. PRIVATE to the collection."""

from __future__ import annotations

import os

from ansible_collections.mlserving.triton.plugins.module_utils import _model_config, _model_tree

#: The configuration's names of data types -> those of the protocol, where they differ.
NAMES = {"STRING": "BYTES"}


def of_source(source: str) -> tuple[tuple[str, ...], dict]:
    """Return (names of the models, model -> {"inputs": {name: data type}, "outputs": ...}) of a folder.

    A configuration that is not there or does not parse says nothing; the lint judges it before it is published.

    :raises TreeError: there is no such folder, or no model in it
    """
    names = _model_tree.model_names(source)
    return tuple(names), {name: found for name in names if (found := _tensors(os.path.join(source, name, _model_tree.CONFIG)))}


def _tensors(path: str) -> dict:
    try:
        with open(path, "rb") as stream:
            message = _model_config.parse(stream.read()).message
    except (OSError, _model_config.ConfigError):
        return {}
    types = _model_config.model_config_pb2.DataType
    found = {}
    for kind, entries in (("inputs", message.input), ("outputs", message.output)):
        named = {entry.name: types.Name(entry.data_type).removeprefix("TYPE_") for entry in entries if entry.data_type}
        found[kind] = {name: NAMES.get(datatype, datatype) for name, datatype in named.items()}
    return {kind: named for kind, named in found.items() if named}
