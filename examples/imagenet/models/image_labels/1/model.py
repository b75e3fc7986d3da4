"""The names of the classes with the highest scores; how many is the parameter `top` in config.pbtxt."""

import json
import os

import numpy
import triton_python_backend_utils as pb_utils


def top(scores, count):
    """Return the columns of the highest scores in each row, best first, and those scores. Of equal ones the first wins."""
    columns = numpy.argsort(-scores, axis=1, kind="stable")[:, :count]
    return columns, numpy.take_along_axis(scores, columns, axis=1)


class TritonPythonModel:
    def initialize(self, args):
        self.count = int(json.loads(args["model_config"])["parameters"]["top"]["string_value"])
        with open(os.path.join(args["model_repository"], "labels.txt"), encoding="utf-8") as stream:
            self.labels = numpy.array(stream.read().splitlines(), dtype=object)

    def execute(self, requests):
        responses = []
        for request in requests:
            columns, scores = top(pb_utils.get_input_tensor_by_name(request, "SCORES").as_numpy(), self.count)
            outputs = [pb_utils.Tensor("LABEL", self.labels[columns]), pb_utils.Tensor("SCORE", scores)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
