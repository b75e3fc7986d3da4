# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a graph as an ONNX file."""

from __future__ import annotations

import numpy
import onnx
from network import CLASSES, SIZE, Graph
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
#: Given, since onnx writes its own newest otherwise: runtimes refuse what is newer than they are.
IR_VERSION = 8


def encode(graph: Graph) -> bytes:
    """Return the file's bytes, the same with every version of onnx."""
    nodes = [helper.make_node(node.operation, node.inputs, [node.output], name=node.name, **node.attributes) for node in graph.nodes]
    # Not ascontiguousarray, which would make vectors of the two scalars.
    constants = [numpy_helper.from_array(numpy.asarray(array, order="C"), name) for name, array in graph.constants.items()]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", CLASSES])]
    model = helper.make_model(
        helper.make_graph(nodes, "efficientnet-lite0", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="",
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)
