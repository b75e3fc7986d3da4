"""Scores of the 1000 ImageNet classes, by model.onnx beside this file."""

import os

import numpy
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        # One run for all requests that Triton has gathered.
        batches = [pb_utils.get_input_tensor_by_name(request, "input").as_numpy() for request in requests]
        (scores,) = self.session.run(["output"], {"input": numpy.concatenate(batches)})
        ends = numpy.cumsum([len(batch) for batch in batches])[:-1]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("output", part)]) for part in numpy.split(scores, ends)]
