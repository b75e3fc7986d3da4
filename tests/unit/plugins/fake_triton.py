# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Triton server in this process: HTTP and gRPC with binary tensors, one model that adds and subtracts two INT32[4]."""

from __future__ import annotations

import concurrent.futures
import http.server
import json
import threading

import grpc
import numpy
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as service


TENSORS = {kind: [{"name": f"{kind[:-1].upper()}{number}", "datatype": "INT32", "shape": [4]} for number in (0, 1)] for kind in ("inputs", "outputs")}


class FakeTriton:
    """``index`` is the repository index, ``off`` is added to every sum, ``refusals`` is how many requests get a 503 first.

    ``answered`` counts the inferences, as its metrics (at the HTTP port) do, unless they are ``frozen``.
    """

    def __init__(self):
        self.index = [{"name": "simple", "version": "1", "state": "READY"}]
        self.ready, self.off, self.refusals, self.answered, self.frozen = True, 0, 0, 0, False
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.triton = self
        self._grpc = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
        service.add_GRPCInferenceServiceServicer_to_server(_Servicer(self), self._grpc)
        self.grpc = f"127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        self.http = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> FakeTriton:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self._grpc.start()
        return self

    def __exit__(self, *_exception) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(None)

    def compute(self, model: str, raw: list[bytes]) -> list[tuple[str, bytes]]:
        """Return (name, bytes) of the outputs.

        :raises LookupError: there is no such model
        """
        if model != "simple":
            raise LookupError(f"Request for unknown model: '{model}' is not found")
        self.answered += 1
        first, second = (numpy.frombuffer(part, "int32") for part in raw)
        return [("OUTPUT0", (first + second + self.off).tobytes()), ("OUTPUT1", (first - second).tobytes())]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Keep the test's output clean."""

    def answer(self, status: int, body: bytes = b"", **headers) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": len(body)}).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        triton = self.server.triton
        if triton.refusals:
            triton.refusals -= 1
            self.answer(503, b'{"error": "Server exiting"}')
        elif self.path.endswith("/health/ready"):
            self.answer(200 if triton.ready else 400)
        elif self.path.endswith("/health/live"):
            self.answer(200)
        elif self.path == "/metrics":
            self.answer(200, f'nv_inference_request_success{{model="simple",version="1"}} {0 if triton.frozen else triton.answered}\n'.encode())
        elif self.path.startswith("/v2/models/"):
            self.answer(200, json.dumps({"name": "simple", **TENSORS}).encode())
        else:
            self.answer(200, b'{"name": "triton", "version": "2.51.0", "extensions": []}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.endswith("/repository/index"):
            self.answer(200, json.dumps(self.server.triton.index).encode())
            return
        size = int(self.headers["Inference-Header-Content-Length"])
        request, rest, raw = json.loads(body[:size]), body[size:], []
        for tensor in request["inputs"]:
            length = tensor["parameters"]["binary_data_size"]
            raw, rest = [*raw, rest[:length]], rest[length:]
        try:
            outputs = self.server.triton.compute(self.path.split("/")[3], raw)
        except LookupError as error:
            self.answer(404, json.dumps({"error": error.args[0]}).encode())
            return
        wanted = [entry["name"] for entry in request.get("outputs", [])]
        outputs = [(name, data) for name, data in outputs if not wanted or name in wanted]
        described = [{"name": name, "datatype": "INT32", "shape": [4], "parameters": {"binary_data_size": len(data)}} for name, data in outputs]
        head = json.dumps({"model_name": "simple", "model_version": "1", "outputs": described}).encode()
        self.answer(200, head + b"".join(data for _name, data in outputs), Inference_Header_Content_Length=len(head))


class _Servicer(service.GRPCInferenceServiceServicer):
    def __init__(self, triton: FakeTriton):
        self._triton = triton

    def ServerLive(self, request, context):
        return messages.ServerLiveResponse(live=True)

    def ServerReady(self, request, context):
        return messages.ServerReadyResponse(ready=self._triton.ready)

    def ServerMetadata(self, request, context):
        return messages.ServerMetadataResponse(name="triton", version="2.51.0")

    def ModelMetadata(self, request, context):
        return messages.ModelMetadataResponse(name="simple", **TENSORS)

    def RepositoryIndex(self, request, context):
        models = [messages.RepositoryIndexResponse.ModelIndex(**entry) for entry in self._triton.index]
        return messages.RepositoryIndexResponse(models=models)

    def ModelInfer(self, request, context):
        try:
            outputs = self._triton.compute(request.model_name, list(request.raw_input_contents))
        except LookupError as error:
            context.abort(grpc.StatusCode.NOT_FOUND, error.args[0])
        answer = messages.ModelInferResponse(model_name="simple", model_version="1")
        for name, data in outputs:
            answer.outputs.add(name=name, datatype="INT32", shape=[4])
            answer.raw_output_contents.append(data)
        return answer
