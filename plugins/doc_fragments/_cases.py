# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options in module_utils/_case_options.py. PRIVATE to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  cases:
    description:
      - Inferences that every target must answer, over each protocol.
      - Of a model without a case only the state is checked, and the report says V(no case).
    type: list
    elements: dict
    default: []
    suboptions:
      model:
        description:
          - Name of the model.
        type: str
        required: true
      version:
        description:
          - Version of the model; by default the server's choice.
        type: str
      json:
        description:
          - Send and ask for tensors as JSON in place of bytes, over HTTP.
        type: bool
        default: false
      agree:
        description:
          - Every replica must answer the same values, whatever they are.
        type: bool
        default: false
      stream:
        description:
          - The model answers any number of times (it is decoupled). Such a case is asked over gRPC only.
          - O(cases[].outputs) then hold for each of its responses, unless O(cases[].responses) tell them apart.
        type: bool
        default: false
      inputs:
        description:
          - The input tensors. Each has one of O(cases[].inputs[].data), O(cases[].inputs[].file) and O(cases[].inputs[].fill).
          - Give these, or O(cases[].steps).
        type: list
        elements: dict
        suboptions: &inputs
          name:
            description:
              - Name of the tensor. By default the model's only input.
            type: str
          datatype:
            description:
              - Its data type, in Triton's words. By default as the server tells it.
            type: str
            choices: &datatypes [BOOL, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FP16, FP32, FP64, BF16, BYTES]
          shape:
            description:
              - Its shape, with the batch dimension if the model has one. By default as the server tells it, with 1 or the file's own size
                where that is open.
            type: list
            elements: int
          data:
            description:
              - The values in row-major order; lists may be nested. One single value fills the whole tensor.
              - For V(BYTES), texts that are sent as UTF-8.
            type: list
            elements: raw
          file:
            description:
              - File with the values, C(.npy), C(.json), C(.txt), C(.bin) or C(.raw), or a picture, C(.png), C(.jpg) or C(.jpeg).
              - A picture is sent as it is to an input of V(BYTES), else as pixels of the size that the input has.
            type: path
          fill:
            description:
              - Values that are made here.
            type: str
            choices: [zeros, ones, random]
          seed:
            description:
              - What V(random) begins with; the same seed makes the same values.
            type: int
            default: 0
          scaling:
            description:
              - What is done to the pixels of a picture, as Triton's image client does it.
            type: str
            choices: [NONE, INCEPTION, VGG]
            default: NONE
      outputs:
        description:
          - The expected output tensors. Only what is written here is compared.
        type: list
        elements: dict
        suboptions: &outputs
          name:
            description:
              - Name of the tensor; it must be in the answer. By default the model's only output.
            type: str
          data:
            description:
              - The expected values in row-major order; lists may be nested.
            type: list
            elements: raw
          file:
            description:
              - File with the expected values, C(.npy) or C(.json), or another kind that inputs take, with datatype and shape.
            type: path
          shape:
            description:
              - The expected shape.
            type: list
            elements: int
          datatype:
            description:
              - The expected data type.
            type: str
            choices: *datatypes
          tolerance:
            description:
              - By how much a number may differ from the expected one.
            type: float
            default: 0.0
          relative:
            description:
              - By which part of the expected number a number may differ, in addition.
            type: float
            default: 0.0
          finite:
            description:
              - Whether every number must be one, neither NaN nor infinite.
            type: bool
            default: false
          pattern:
            description:
              - Regular expression that must be found in each text of a V(BYTES) output.
            type: str
          contains:
            description:
              - What the JSON in each text of a V(BYTES) output must hold. Of an object, keys that are not written here may be there too; a list must have
                the same length; numbers may differ by the tolerance.
            type: raw
          top:
            description:
              - Ask for so many classes, the best first, in place of values. They are returned.
            type: int
          classes:
            description:
              - The expected classes, the best first. What is left out of one is not compared; its value may differ by the tolerance.
            type: list
            elements: dict
            suboptions:
              index:
                description: Number of the class.
                type: int
              label:
                description: Its label.
                type: str
              value:
                description: Its value.
                type: float
      responses:
        description:
          - What each response of a stream must be, in their order; there must be as many.
        type: list
        elements: dict
        suboptions:
          outputs:
            description: As O(cases[].outputs).
            type: list
            elements: dict
            suboptions: *outputs
      steps:
        description:
          - Requests that are sent one after the other as one sequence, to a stateful model.
        type: list
        elements: dict
        suboptions:
          inputs:
            description: As O(cases[].inputs).
            type: list
            elements: dict
            required: true
            suboptions: *inputs
          outputs:
            description: As O(cases[].outputs).
            type: list
            elements: dict
            suboptions: *outputs
"""
