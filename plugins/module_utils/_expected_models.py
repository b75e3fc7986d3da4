# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a folder of models says must be served: names, versions, and the tensors that the configurations declare. PRIVATE to the collection."""

from __future__ import annotations

import os
import re

from ansible_collections.mlserving.triton.plugins.module_utils import _model_config, _model_tree

#: The configuration's names of data types -> those of the protocol, where they differ.
NAMES = {"STRING": "BYTES"}
#: Triton passes over folders with leading zeros.
VERSION = re.compile("0|[1-9][0-9]*")


def of_source(source: str) -> tuple[tuple[str, ...], dict, dict]:
    """Return (names of the models, model -> {"inputs": {name: data type}, "outputs": ...}, model -> versions that are loaded) of a folder.

    A configuration that is not there or does not parse says nothing; the lint judges it before it is published.

    :raises TreeError: there is no such folder, or no model in it
    """
    names = _model_tree.model_names(source)
    messages = {name: _message(os.path.join(source, name, _model_tree.CONFIG)) for name in names}
    tensors = {name: found for name, message in messages.items() if message and (found := _tensors(message))}
    versions = {name: found for name, message in messages.items() if message and (found := _versions(os.path.join(source, name), message))}
    return tuple(names), tensors, versions


def metadata(folder: str) -> dict:
    """Return a model's inputs and outputs as a server would tell them, from its configuration; empty lists if that does not tell.

    :param folder: of the model
    """
    message = _message(os.path.join(folder, _model_tree.CONFIG))
    if message is None:
        return {"inputs": [], "outputs": []}
    types, batch = _tensors(message), [-1] if message.max_batch_size else []
    kinds = (("inputs", message.input), ("outputs", message.output))
    return {
        kind: [{"name": entry.name, "datatype": types[kind][entry.name], "shape": batch + list(entry.dims)} for entry in entries if entry.data_type]
        for kind, entries in kinds
    }


def _message(path: str):
    try:
        with open(path, "rb") as stream:
            return _model_config.parse(stream.read()).message
    except (OSError, _model_config.ConfigError):
        return None


def _versions(folder: str, message) -> list[str]:
    """Return which of a model's version folders its version_policy has loaded: by default the one with the highest number."""
    names = [entry for entry in os.listdir(folder) if VERSION.fullmatch(entry) and os.path.isdir(os.path.join(folder, entry))]
    there = sorted(map(int, names), reverse=True)
    policy = message.version_policy
    if policy.HasField("specific"):
        chosen = [version for version in there if version in policy.specific.versions]
    else:
        chosen = there if policy.HasField("all") else there[: policy.latest.num_versions or 1]
    return [str(version) for version in sorted(chosen)]


def _tensors(message) -> dict:
    types = _model_config.model_config_pb2.DataType
    found = {}
    for kind, entries in (("inputs", message.input), ("outputs", message.output)):
        named = {entry.name: types.Name(entry.data_type).removeprefix("TYPE_") for entry in entries if entry.data_type}
        found[kind] = {name: NAMES.get(datatype, datatype) for name, datatype in named.items()}
    return {kind: named for kind, named in found.items() if named}
