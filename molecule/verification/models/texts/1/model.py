"""Answers each text with a JSON object, as a chat does."""

import json

import numpy
import triton_python_backend_utils as pb_utils


def reply(prompt):
    choices = [{"index": 0, "text": prompt.upper()}, {"index": 1, "text": prompt[::-1]}]
    return json.dumps({"choices": choices, "usage": {"characters": len(prompt), "share": len(prompt) / 3}}, ensure_ascii=False).encode()


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            prompts = pb_utils.get_input_tensor_by_name(request, "PROMPT").as_numpy()
            replies = numpy.array([reply(prompt.decode()) for prompt in prompts], dtype=object)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("REPLY", replies)]))
        return responses
