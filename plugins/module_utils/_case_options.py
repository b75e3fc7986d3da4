# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of an inference and of what is expected of it, as modules take them. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.mlserving.triton.plugins.module_utils import _tensors, _verify_inputs

TENSOR = {
    "name": {"type": "str"},
    "datatype": {"type": "str", "choices": [*(name for name in _tensors.DATATYPES if name != "BYTES"), "BF16", "BYTES"]},
    "shape": {"type": "list", "elements": "int"},
    "data": {"type": "list", "elements": "raw"},
}
INPUT = TENSOR | {
    "file": {"type": "path"},
    "fill": {"type": "str", "choices": list(_verify_inputs.FILLS)},
    "seed": {"type": "int", "default": 0},
    "scaling": {"type": "str", "choices": list(_verify_inputs.SCALINGS), "default": "NONE"},
}
OUTPUT = TENSOR | {
    "file": {"type": "path"},
    "tolerance": {"type": "float", "default": 0.0},
    "relative": {"type": "float", "default": 0.0},
    "finite": {"type": "bool", "default": False},
    "pattern": {"type": "str"},
    "contains": {"type": "raw"},
    "top": {"type": "int"},
    "classes": {
        "type": "list",
        "elements": "dict",
        "options": {"index": {"type": "int"}, "label": {"type": "str"}, "value": {"type": "float"}},
    },
}
INPUTS = {
    "type": "list",
    "elements": "dict",
    "options": INPUT,
    "required_one_of": [("data", "file", "fill")],
    "mutually_exclusive": [("data", "file", "fill")],
}
OUTPUTS = {"type": "list", "elements": "dict", "options": OUTPUT, "mutually_exclusive": [("data", "file", "classes")]}
CASE = {
    "model": {"type": "str", "required": True},
    "version": {"type": "str"},
    "json": {"type": "bool", "default": False},
    "agree": {"type": "bool", "default": False},
    "stream": {"type": "bool", "default": False},
    "inputs": INPUTS,
    "outputs": OUTPUTS,
    "responses": {"type": "list", "elements": "dict", "options": {"outputs": OUTPUTS}},
    "steps": {
        "type": "list",
        "elements": "dict",
        "options": {"inputs": INPUTS | {"required": True}, "outputs": OUTPUTS},
    },
}
CASES = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": CASE,
    "required_one_of": [("inputs", "steps")],
    "mutually_exclusive": [("inputs", "steps"), ("outputs", "steps"), ("outputs", "responses")],
}
