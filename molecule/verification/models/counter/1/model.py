"""The sum of all numbers of a sequence so far."""

import numpy
import triton_python_backend_utils as pb_utils


def value(request, name):
    return int(pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0])


class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            sequence = value(request, "CORRID")
            if value(request, "START"):
                self.sums[sequence] = 0
            self.sums[sequence] += value(request, "NUMBER")
            total = self.sums.pop(sequence) if value(request, "END") else self.sums[sequence]
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("SUM", numpy.array([[total]], numpy.int32))]))
        return responses
