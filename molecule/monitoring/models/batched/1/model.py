"""Returns what it gets, and fails for what is negative."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()) for request in requests]

    def answer(self, value):
        if (value < 0).any():
            raise ValueError("negative")  # An error in a response would count as a success.
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("OUTPUT", value)])
