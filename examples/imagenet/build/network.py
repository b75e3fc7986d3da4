# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EfficientNet-Lite0 as a table, and the graph that follows from it."""

from __future__ import annotations

import dataclasses

import numpy

SIZE = 224
CLASSES = 1000
#: Batch normalisation's, as the network was trained.
EPSILON = 1e-3


@dataclasses.dataclass(frozen=True)
class Stage:
    """``repeat`` inverted residual blocks; only the first has the stride and changes the number of channels."""

    repeat: int
    kernel: int
    stride: int
    expand: int
    channels_in: int
    channels_out: int


STAGES = (
    Stage(1, 3, 1, 1, 32, 16),
    Stage(2, 3, 2, 6, 16, 24),
    Stage(2, 5, 2, 6, 24, 40),
    Stage(3, 3, 2, 6, 40, 80),
    Stage(3, 5, 1, 6, 80, 112),
    Stage(4, 5, 2, 6, 112, 192),
    Stage(1, 3, 1, 6, 192, 320),
)


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation, in ONNX's words. It is named after ``name``, its only output after ``output``."""

    operation: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict


def padding(size: int, kernel: int, stride: int) -> list[int]:
    """Return top, left, bottom, right so that the output is size / stride, rounded up; an odd rest goes to the end."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return [total // 2, total // 2, total - total // 2, total - total // 2]


class Graph:
    """Grows node by node from the input; ``last`` is the name of the newest output, ``size`` its height and width in pixels.

    :param weights: the trained tensors by name
    """

    def __init__(self, weights):
        self.weights = weights
        self.nodes: list[Node] = []
        self.constants: dict[str, numpy.ndarray] = {"relu6_min": numpy.float32(0), "relu6_max": numpy.float32(6)}
        self.last = "input"
        self.size = SIZE

    def add(self, operation: str, name: str, inputs, output: str, **attributes) -> None:
        self.nodes.append(Node(operation, name, tuple(inputs), output, attributes))
        self.last = output

    def convolve(self, name: str, weight: str, norm: str, kernel: int = 1, stride: int = 1, groups: int = 1, activate: bool = True) -> None:
        """Add a convolution with the batch normalisation folded in, and a ReLU6 after it."""
        self.constants[f"{name}.w"], self.constants[f"{name}.b"] = self._folded(weight, norm)
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": padding(self.size, kernel, stride), "group": groups}
        self.add("Conv", f"{name}.conv", [self.last, f"{name}.w", f"{name}.b"], name, **attributes)
        self.size = -(-self.size // stride)
        if activate:
            self.add("Clip", f"{name}.clip", [name, "relu6_min", "relu6_max"], f"{name}.relu6")

    def _folded(self, weight: str, norm: str):
        """Return the convolution's weight and bias. In double precision, so that they are the same on every machine."""
        parts = ("weight", "bias", "running_mean", "running_var")
        gain, shift, mean, variance = (self.weights[f"{norm}.{part}"].astype(numpy.float64) for part in parts)
        scale = gain / numpy.sqrt(variance + EPSILON)
        kernels = self.weights[f"{weight}.weight"].astype(numpy.float64) * scale[:, None, None, None]
        return kernels.astype(numpy.float32), (shift - mean * scale).astype(numpy.float32)

    def block(self, number: int, stage: Stage, first: bool) -> None:
        """Add an inverted residual block: expand, filter each channel, project, and add the block's input where it fits."""
        key, name, entry = f"_blocks.{number}", f"b{number}", self.last
        channels = stage.channels_in if first else stage.channels_out
        stride = stage.stride if first else 1
        if stage.expand > 1:
            self.convolve(f"{name}.expand", f"{key}._expand_conv", f"{key}._bn0")
        self.convolve(f"{name}.dw", f"{key}._depthwise_conv", f"{key}._bn1", stage.kernel, stride, groups=channels * stage.expand)
        self.convolve(f"{name}.project", f"{key}._project_conv", f"{key}._bn2", activate=False)
        if stride == 1 and channels == stage.channels_out:
            self.add("Add", f"{name}.add", [self.last, entry], f"{name}.add")

    def classify(self) -> None:
        self.constants |= {"fc.w": self.weights["_fc.weight"], "fc.b": self.weights["_fc.bias"]}
        self.add("GlobalAveragePool", "pool", [self.last], "pool")
        self.add("Flatten", "flat", ["pool"], "flat", axis=1)
        self.add("Gemm", "fc", ["flat", "fc.w", "fc.b"], "logits", transB=1)
        self.add("Softmax", "softmax", ["logits"], "output", axis=1)


def build(weights) -> Graph:
    """Return the whole network; its input is ``input`` (float, N x 3 x 224 x 224), its output ``output`` (float, N x 1000, adds up to 1)."""
    graph = Graph(weights)
    graph.convolve("stem", "_conv_stem", "_bn0", kernel=3, stride=2)
    number = 0
    for stage in STAGES:
        for repetition in range(stage.repeat):
            graph.block(number, stage, first=repetition == 0)
            number += 1
    graph.convolve("head", "_conv_head", "_bn1")
    graph.classify()
    return graph
