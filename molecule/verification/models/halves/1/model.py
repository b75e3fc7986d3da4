"""Half of each number, in half precision, and their sum over each row of the batch."""

import numpy
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            numbers = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            sums = numbers.astype(numpy.float32).sum(axis=1, keepdims=True)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("HALF", numbers / numpy.float16(2)), pb_utils.Tensor("SUM", sums)]))
        return responses
