"""Returns what it gets, a quarter of a second later: with a dozen clients its queue grows."""

import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()) for request in requests]

    def answer(self, value):
        time.sleep(0.25)
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("OUTPUT", value)])
