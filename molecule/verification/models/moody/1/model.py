"""Right or wrong in the way that it is asked for."""

import math
import os
import socket
import time

import numpy
import triton_python_backend_utils as pb_utils

RIGHT = [0.1, 0.6, 0.2, 0.1]
SCORES = {"wrong": [0.1, 0.6, 9, 0.1], "nan": [0.1, math.nan, 0.2, 0.1], "infinite": [0.1, 0.6, 0.2, -math.inf], "shape": [0.1, 0.6, 0.2]}


def answer(mode, version):
    if mode == "dies":
        # The process that the server has for this model's code.
        os._exit(7)
    if mode == "error":
        raise pb_utils.TritonModelException("no mood for this today")
    if mode == "slow":
        time.sleep(2)
    if mode == "hangs":
        time.sleep(6)
    if mode == "logs":
        pb_utils.Logger.log_warn("moody: the third score is made up")
    host = {"host": socket.gethostname()[-5:], "version": version}.get(mode, "any")
    scores = SCORES.get("wrong" if mode == "logs" else mode, RIGHT)
    return [pb_utils.Tensor("SCORES", numpy.array(scores, numpy.float32)), pb_utils.Tensor("HOST", numpy.array([host.encode()], dtype=object))]


class TritonPythonModel:
    def initialize(self, args):
        self.version = args["model_version"]

    def execute(self, requests):
        responses = []
        for request in requests:
            mode = pb_utils.get_input_tensor_by_name(request, "MODE").as_numpy()[0].decode()
            try:
                responses.append(pb_utils.InferenceResponse(answer(mode, self.version)))
            except pb_utils.TritonModelException as error:
                responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))))
        return responses
