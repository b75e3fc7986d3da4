# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Triton server in this process: HTTP and gRPC with binary or JSON tensors, and a few models.

"simple" adds and subtracts two INT32[4]; "texts" gives its BYTES back; "sum" is stateful and adds up what the requests of a sequence bring;
"count" is decoupled: it answers 0, 1, ... up to its input, of a negative one with an error after the first answer, of 99 without an end.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import http.server
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time

import grpc
import kubernetes.client
import numpy
import pytest
from tritonclient import utils
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as service

NUMBERS = {"datatype": "INT32", "shape": [1]}
TENSORS = {kind: [{"name": f"{kind[:-1].upper()}{number}", "datatype": "INT32", "shape": [4]} for number in (0, 1)] for kind in ("inputs", "outputs")}
MODELS = {
    "simple": TENSORS,
    "texts": {kind: [{"name": name, "datatype": "BYTES", "shape": [-1]}] for kind, name in (("inputs", "IN"), ("outputs", "OUT"))},
    "sum": {"inputs": [{"name": "IN", **NUMBERS}], "outputs": [{"name": "OUT", **NUMBERS}]},
    "count": {"inputs": [{"name": "IN", **NUMBERS}], "outputs": [{"name": "OUT", **NUMBERS}]},
}
ENDLESS = 99


class Refusal(Exception):
    """The server's answer is an error, with that text."""

    def __init__(self, text: str, missing: bool = False):
        super().__init__(text)
        self.status = (404, grpc.StatusCode.NOT_FOUND) if missing else (400, grpc.StatusCode.INVALID_ARGUMENT)


def make_certificate(folder) -> tuple[str, str]:
    """Return the files of a key and of a certificate that signed itself, for 127.0.0.1 and the name triton.test."""
    key, certificate = str(folder / "key.pem"), str(folder / "certificate.pem")
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("there is no openssl")
    names = ["-subj", "/CN=triton.test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:triton.test"]
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run([openssl, *new, "-keyout", key, "-out", certificate, *names], check=True, capture_output=True)
    return key, certificate


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # A connection that does not fit in the queue is tried again after a second.
    request_queue_size = 64


class FakeTriton:
    """``index`` is the repository index, ``off`` is added to every sum, ``refusals`` is how many requests get a 503 first.

    ``answered`` counts the inferences, as its metrics (at the HTTP port) do, unless they are ``frozen``. ``headers`` is what the last request over a
    protocol had, in lower case; ``on_request`` is called with the path of each HTTP request. ``sequences`` holds the sums that are not finished yet.
    ``orders`` holds (load or unload, model) of model control; ``broken``: model -> reason why it does not load; ``ensembles``: model -> models that it is of.

    :param tls: (file of the key, file of the certificate)
    """

    def __init__(self, tls: tuple = ()):
        self.index = [{"name": "simple", "version": "1", "state": "READY"}]
        self.ready, self.off, self.refusals, self.answered, self.frozen = True, 0, 0, 0, False
        self.headers, self.sequences, self.on_request = {}, {}, lambda path: None
        self.orders, self.broken, self.ensembles = [], {}, {}
        self._grave = None
        self._http = _HttpServer(("127.0.0.1", 0), _Handler)
        self._http.triton, self._http.connections = self, []
        self._grpc = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
        service.add_GRPCInferenceServiceServicer_to_server(_Servicer(self), self._grpc)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls[1], tls[0])
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
            pair = tuple(open(path, "rb").read() for path in tls)
            port = self._grpc.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        else:
            port = self._grpc.add_insecure_port("127.0.0.1:0")
        self.grpc = f"{'grpcs://' if tls else ''}127.0.0.1:{port}"
        self.http = f"http{'s' if tls else ''}://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> FakeTriton:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self._grpc.start()
        return self

    def __exit__(self, *_exception) -> None:
        self._end()
        if self._grave:
            self._grave.close()

    def load(self, *models: str) -> None:
        self.index = [{"name": model, "version": "1", "state": "READY"} for model in models]

    def control(self, model: str, order: str, replaced: bool) -> None:
        """Load or unload a model as Triton does.

        :param replaced: the request brings a model of its own
        :raises Refusal: it does not load
        """
        self.orders.append((order, model))
        entry = next((entry for entry in self.index if entry["name"] == model), None)
        if entry is None:
            raise Refusal(f"failed to {order} '{model}', failed to poll from model repository")
        if order == "load":
            reason = "" if replaced else self.broken.get(model, "")
            entry |= {"version": "1", "state": "UNAVAILABLE" if reason else "READY", "reason": reason}
            if reason:
                raise Refusal(f"load failed for model '{model}': version 1 is at UNAVAILABLE state: {reason};\n")
            for part in self.ensembles.get(model, ()):
                self.control(part, "load", False)
        elif entry.get("state") == "READY":
            # Unloading a model that has failed leaves it as it is.
            entry |= {"state": "UNAVAILABLE", "reason": "unloaded"}

    def die(self) -> None:
        """Stop listening and break what is connected. The port stays taken, so that no other test's server answers in its place."""
        self._end()
        self._grave = socket.socket()
        self._grave.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._grave.bind(self._http.server_address)

    def _end(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        for connection in self._http.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(2)
        self._grpc.stop(None)

    def infer(self, model: str, inputs: list, parameters: dict) -> list[tuple[str, str, numpy.ndarray]]:
        """Return name, data type and array of each output.

        :param inputs: arrays
        :raises Refusal: there is no such model, or the request does not suit it
        """
        if model != "sum":
            return self.compute(model, inputs)
        self.answered += 1
        return [("OUT", "INT32", self._sum(inputs[0], parameters))]

    def compute(self, model: str, inputs: list) -> list[tuple[str, str, numpy.ndarray]]:
        """As :meth:`infer`, of a model without a state."""
        if model not in MODELS:
            raise Refusal(f"Request for unknown model: '{model}' is not found", missing=True)
        if model == "count":
            raise Refusal("ModelInfer RPC doesn't support models with decoupled transaction policy")
        if len(inputs) != len(MODELS[model]["inputs"]):
            raise Refusal(f"expected {len(MODELS[model]['inputs'])} inputs but got {len(inputs)} inputs for model '{model}'")
        self.answered += 1
        if model == "texts":
            return [("OUT", "BYTES", inputs[0])]
        return [("OUTPUT0", "INT32", inputs[0] + inputs[1] + self.off), ("OUTPUT1", "INT32", inputs[0] - inputs[1])]

    def _sum(self, given, parameters: dict):
        number = parameters.get("sequence_id")
        if not number:
            raise Refusal("inference request to model 'sum' must specify a non-zero or non-empty correlation ID")
        if parameters.get("sequence_start"):
            self.sequences[number] = self.off
        elif number not in self.sequences:
            raise Refusal(f"inference request for sequence {number} to model 'sum' must specify the START flag on the first request of the sequence")
        self.sequences[number] += int(given[0])
        total = numpy.array([self.sequences[number]], "int32")
        if parameters.get("sequence_end"):
            del self.sequences[number]
        return total


def _array(datatype: str, shape, raw: bytes):
    found = utils.deserialize_bytes_tensor(raw) if datatype == "BYTES" else numpy.frombuffer(raw, utils.triton_to_np_dtype(datatype))
    return found.reshape(shape)


def _raw(datatype: str, array) -> bytes:
    if datatype == "BYTES":
        return b"".join(len(text).to_bytes(4, "little") + text for text in array.reshape(-1))
    return array.tobytes()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        """Keep the test's output clean."""

    def handle(self) -> None:
        self.server.connections.append(self.connection)
        # A client that trusts nobody, and one that does not wait, hang up.
        with contextlib.suppress(OSError):
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def answer(self, status: int, body: bytes = b"", **headers) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": len(body)}).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def _note(self) -> None:
        self.server.triton.headers["http"] = {name.lower(): value for name, value in self.headers.items()}
        self.server.triton.on_request(self.path)

    def do_GET(self) -> None:
        triton = self.server.triton
        self._note()
        if triton.refusals:
            triton.refusals -= 1
            self.answer(503, b'{"error": "Server exiting"}')
        elif self.path.endswith("/health/ready"):
            self.answer(200 if triton.ready else 400)
        elif self.path.endswith("/health/live"):
            self.answer(200)
        elif self.path == "/metrics":
            self.answer(200, f'nv_inference_request_success{{model="simple",version="1"}} {0 if triton.frozen else triton.answered}\n'.encode())
        elif self.path == "/v2/models/stats":
            counted = {kind: {"count": 4, "ns": nanoseconds} for kind, nanoseconds in (("success", 10_000_000), ("queue", 1_000_000))}
            stats = {"name": "simple", "version": "1", "inference_stats": counted | {"fail": {"count": 1, "ns": 9}}}
            self.answer(200, json.dumps({"model_stats": [stats]}).encode())
        elif self.path.endswith("/config"):
            steps = [{"model_name": part} for part in triton.ensembles.get(self.path.split("/")[3], ())]
            self.answer(200, json.dumps({"ensemble_scheduling": {"step": steps}} if steps else {}).encode())
        elif self.path.startswith("/v2/models/"):
            name = self.path.split("/")[3]
            self.answer(200, json.dumps({"name": name, "versions": ["1"], **MODELS.get(name, TENSORS)}).encode())
        else:
            self.answer(200, b'{"name": "triton", "version": "2.51.0", "extensions": []}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._note()
        if self.path.endswith("/repository/index"):
            self.answer(200, json.dumps(self.server.triton.index).encode())
            return
        if self.path.startswith("/v2/repository/models/"):
            self._control(*self.path.split("/")[4:6], body)
            return
        size = int(self.headers.get("Inference-Header-Content-Length") or len(body))
        request, rest, arrays = json.loads(body[:size]), body[size:], []
        for tensor in request["inputs"]:
            if "data" in tensor:
                values = [text.encode() for text in tensor["data"]] if tensor["datatype"] == "BYTES" else tensor["data"]
                arrays.append(numpy.array(values, utils.triton_to_np_dtype(tensor["datatype"])).reshape(tensor["shape"]))
                continue
            length = tensor["parameters"]["binary_data_size"]
            arrays.append(_array(tensor["datatype"], tensor["shape"], rest[:length]))
            rest = rest[length:]
        try:
            outputs = self.server.triton.infer(self.path.split("/")[3], arrays, request.get("parameters", {}))
        except Refusal as error:
            self.answer(error.status[0], json.dumps({"error": error.args[0]}).encode())
            return
        self._answer_outputs(request, outputs)

    def _control(self, model: str, order: str, body: bytes) -> None:
        try:
            self.server.triton.control(model, order, "config" in json.loads(body or b"{}").get("parameters", {}))
        except Refusal as error:
            self.answer(error.status[0], json.dumps({"error": error.args[0]}).encode())
        else:
            self.answer(200)

    def _answer_outputs(self, request: dict, outputs: list) -> None:
        wanted = {entry["name"]: entry.get("parameters", {}) for entry in request.get("outputs", [])}
        everything, described, tail = request.get("parameters", {}).get("binary_data_output", False), [], b""
        for name, datatype, array in outputs:
            if wanted and name not in wanted:
                continue
            entry = {"name": name, "datatype": datatype, "shape": list(array.shape)}
            if wanted.get(name, {}).get("binary_data", everything):
                raw = _raw(datatype, array)
                entry["parameters"], tail = {"binary_data_size": len(raw)}, tail + raw
            else:
                entry["data"] = [value.decode() if isinstance(value, bytes) else value for value in array.reshape(-1).tolist()]
            described.append(entry)
        head = json.dumps({"model_name": self.path.split("/")[3], "model_version": "1", "outputs": described}).encode()
        self.answer(200, head + tail, **({"Inference_Header_Content_Length": len(head)} if tail else {}))


class _Servicer(service.GRPCInferenceServiceServicer):
    def __init__(self, triton: FakeTriton):
        self._triton = triton

    def _note(self, context) -> None:
        self._triton.headers["grpc"] = dict(context.invocation_metadata())

    def ServerLive(self, request, context):
        self._note(context)
        return messages.ServerLiveResponse(live=True)

    def ServerReady(self, request, context):
        return messages.ServerReadyResponse(ready=self._triton.ready)

    def ServerMetadata(self, request, context):
        return messages.ServerMetadataResponse(name="triton", version="2.51.0")

    def ModelMetadata(self, request, context):
        return messages.ModelMetadataResponse(name=request.name, versions=["1"], **MODELS.get(request.name, TENSORS))

    def RepositoryIndex(self, request, context):
        models = [messages.RepositoryIndexResponse.ModelIndex(**entry) for entry in self._triton.index]
        return messages.RepositoryIndexResponse(models=models)

    def ModelInfer(self, request, context):
        self._note(context)
        parameters = {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in request.parameters.items()}
        try:
            outputs = self._triton.infer(request.model_name, _arrays(request), parameters)
        except Refusal as error:
            context.abort(error.status[1], error.args[0])
        return _response(request.model_name, outputs)

    def ModelStreamInfer(self, requests, context):
        self._note(context)
        for request in requests:
            if request.model_name != "count":
                yield messages.ModelStreamInferResponse(error_message=f"Request for unknown model: '{request.model_name}' is not found")
                return
            count = int(_arrays(request)[0][0])
            for number in range(10**9 if count == ENDLESS else 1 if count < 0 else count):
                if not context.is_active():
                    return
                # Endless is not the same as fast.
                time.sleep(0.02 if count == ENDLESS else 0)
                found = _response("count", [("OUT", "INT32", numpy.array([number], "int32"))])
                yield messages.ModelStreamInferResponse(infer_response=found)
            if count < 0:
                yield messages.ModelStreamInferResponse(error_message="the model lost count")
                return
            last = messages.ModelInferResponse(model_name="count", model_version="1")
            last.parameters["triton_final_response"].bool_param = True
            yield messages.ModelStreamInferResponse(infer_response=last)


def _arrays(request) -> list:
    return [_array(tensor.datatype, list(tensor.shape), raw) for tensor, raw in zip(request.inputs, request.raw_input_contents)]


def _response(model: str, outputs: list):
    answer = messages.ModelInferResponse(model_name=model, model_version="1")
    for name, datatype, array in outputs:
        answer.outputs.add(name=name, datatype=datatype, shape=list(array.shape))
        answer.raw_output_contents.append(_raw(datatype, array))
    return answer


class FakeApiServer(_HttpServer):
    """A Kubernetes API server whose proxy leads to a Triton, whatever the pod and its port.

    ``forbidden`` holds the subresources, portforward or proxy, that the account may not use; ``answer``, if given, is (status, headers, body) in place
    of Triton's; ``seen`` holds (method, path, headers in lower case, body) of each request.
    """

    def __init__(self, triton: str = "", forbidden: tuple = ()):
        super().__init__(("127.0.0.1", 0), _ApiHandler)
        self.triton, self.forbidden, self.answer, self.seen = triton.removeprefix("http://"), forbidden, None, []
        configuration = kubernetes.client.Configuration(host=f"http://127.0.0.1:{self.server_port}")
        configuration.api_key = {"authorization": "Bearer token-1"}
        self.api = kubernetes.client.ApiClient(configuration)

    def __enter__(self) -> FakeApiServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exception) -> None:
        self.shutdown()
        self.server_close()


class _ApiHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Keep the test's output clean."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        place, _slash, rest = self.path.partition("/pods/")[2].partition("/")
        kind = "portforward" if rest.startswith("portforward") else "proxy"
        if kind in self.server.forbidden:
            words = (
                f'pods "{place.split(":")[0]}" is forbidden: User "me" cannot get resource "pods/{kind}" in API group "" in the namespace "triton"'
            )
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": words, "reason": "Forbidden", "code": 403}
            self._send(403, {"Content-Type": "application/json"}, json.dumps(status).encode())
        elif self.server.answer:
            self._send(*self.server.answer)
        else:
            connection = http.client.HTTPConnection(self.server.triton, timeout=5)
            connection.request(self.command, rest.removeprefix("proxy"), body, dict(self.headers.items()))
            answer = connection.getresponse()
            self._send(answer.status, dict(answer.getheaders()), answer.read())
            connection.close()

    def _send(self, status: int, headers: dict, body: bytes) -> None:
        self.send_response(status)
        for name, value in (
            {name: value for name, value in headers.items() if name.lower() != "content-length"} | {"Content-Length": len(body)}
        ).items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _handle
