# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to one Triton server over HTTP or gRPC. PRIVATE to the collection.

Both clients have the same verbs, and every failure is a :class:`TritonError` whose text stands in a sentence.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import time
import traceback
from http.client import HTTPException

try:
    import tritonclient.grpc
    import tritonclient.http
    from geventhttpclient.response import HTTPConnectionClosed
    from tritonclient.utils import InferenceServerException

    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

REQUIREMENT = "tritonclient[http,grpc]>=2.60 numpy"
#: Seconds for opening one HTTP connection; a client that retries notices soon that an address does not answer yet.
CONNECT_TIMEOUT = 5.0
#: gRPC's own limit of 4 MiB per message is too small for images; -1 means none. The HTTP client has none either.
#: A proxy that the environment names never leads to a loopback address or a load balancer inside the network.
GRPC_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
]


class TritonError(Exception):
    """A request failed. ``connection`` says that no server answered, so that the same request may work later."""

    def __init__(self, text: str, connection: bool = False):
        super().__init__(text)
        self.connection = connection


@contextlib.contextmanager
def _translated():
    """Turn what the client libraries raise into a TritonError."""
    try:
        yield
    except InferenceServerException as error:
        status = str(error.status() or "").replace("StatusCode.", "")
        text = " ".join(str(error.message()).split())
        if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "502", "503", "504"):
            raise TritonError(f"no answer ({_short(text)})", connection=True) from None
        raise TritonError(f"the server refused: {text}" + (f" ({status})" if status else "")) from None
    except HTTPConnectionClosed:
        raise TritonError("no answer (connection closed)", connection=True) from None
    except ssl.SSLError as error:
        raise TritonError(f"TLS failed: {error.reason or error}") from None
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise TritonError(f"no answer ({_short(reason)})", connection=True) from None
    except (ValueError, KeyError, HTTPException) as error:
        raise TritonError(f"the answer is not Triton's ({type(error).__name__}): does this address lead to a Triton server's port?") from None


def _short(text: str) -> str:
    """Return gRPC's chain of wrapped connection errors as its last, telling part."""
    found = re.search(
        r"(Connection refused|No route to host|Connection reset by peer|Socket closed|Deadline Exceeded|Domain name not found)", text, re.I
    )
    return found.group(1).lower() if found else text


class _Client:
    """What both protocols share. Times are in seconds on the monotonic clock."""

    protocol = ""

    def __init__(self, address: str, deadline: float):
        self.address = address
        self.deadline = deadline

    def _left(self) -> float:
        """Return the seconds left for one request.

        :raises TritonError: none are left
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TritonError("no answer (the time was up before the request was sent)", connection=True)
        return left

    def __enter__(self):
        return self

    def __exit__(self, *_exception) -> None:
        self._client.close()

    def infer(self, model: str, version: str, inputs: dict, outputs: dict[str, int], binary: bool = True) -> dict:
        """Run one inference.

        :param inputs: name -> (Triton data type, numpy array)
        :param outputs: name -> how many classes to return of it, 0 for its values; empty for all outputs
        :param binary: whether tensors go as bytes; over HTTP they can also be JSON
        :returns: name -> (Triton data type, numpy array)
        :raises TritonError: the server refused it or did not answer
        """
        tensors = [self._input(name, datatype, _native(datatype, array), binary) for name, (datatype, array) in inputs.items()]
        wanted = [self._output(name, classes, binary) for name, classes in outputs.items()] or None
        with _translated():
            result = self._infer(model, version, tensors, wanted)
            return {entry["name"]: (entry["datatype"], result.as_numpy(entry["name"])) for entry in self._response(result)["outputs"]}


class HttpClient(_Client):
    """HTTP to ``address``: host:port with an optional path, or a URL."""

    protocol = "http"

    def __init__(self, address: str, deadline: float):
        super().__init__(address, deadline)
        secure = address.startswith("https://")
        left = self._left()
        with _translated():
            self._client = tritonclient.http.InferenceServerClient(
                re.sub(r"^https?://", "", address).rstrip("/"),
                connection_timeout=min(CONNECT_TIMEOUT, left),
                network_timeout=left,
                ssl=secure,
                ssl_context_factory=ssl.create_default_context if secure else None,
            )

    def live(self) -> bool:
        with _translated():
            return self._client.is_server_live()

    def ready(self) -> bool:
        with _translated():
            return self._client.is_server_ready()

    def metadata(self) -> dict:
        """Return the server's name, version and extensions."""
        with _translated():
            return self._client.get_server_metadata()

    def index(self) -> list[dict]:
        """Return name, version, state and reason of every model version in the repository."""
        with _translated():
            return [_index_entry(entry) for entry in self._client.get_model_repository_index()]

    def model_metadata(self, model: str, version: str = "") -> dict:
        """Return a model's inputs and outputs, each name, datatype and shape."""
        with _translated():
            return self._client.get_model_metadata(model, version)

    def _input(self, name, datatype, array, binary):
        tensor = tritonclient.http.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        return tensor

    def _output(self, name, classes, binary):
        return tritonclient.http.InferRequestedOutput(name, binary_data=binary, class_count=classes)

    def _infer(self, model, version, tensors, wanted):
        return self._client.infer(model, tensors, model_version=version, outputs=wanted)

    def _response(self, result) -> dict:
        return result.get_response()


class GrpcClient(_Client):
    """gRPC without TLS to ``address``: host:port."""

    protocol = "grpc"

    def __init__(self, address: str, deadline: float):
        super().__init__(address, deadline)
        self._client = tritonclient.grpc.InferenceServerClient(address, channel_args=GRPC_OPTIONS)

    def live(self) -> bool:
        with _translated():
            return self._client.is_server_live(client_timeout=self._left())

    def ready(self) -> bool:
        with _translated():
            return self._client.is_server_ready(client_timeout=self._left())

    def metadata(self) -> dict:
        """Return the server's name, version and extensions."""
        with _translated():
            return self._client.get_server_metadata(as_json=True, client_timeout=self._left())

    def index(self) -> list[dict]:
        """Return name, version, state and reason of every model version in the repository."""
        with _translated():
            answer = self._client.get_model_repository_index(as_json=True, client_timeout=self._left())
        return [_index_entry(entry) for entry in answer.get("models", [])]

    def model_metadata(self, model: str, version: str = "") -> dict:
        """Return a model's inputs and outputs, each name, datatype and shape."""
        with _translated():
            answer = self._client.get_model_metadata(model, version, as_json=True, client_timeout=self._left())
        return {kind: [_tensor_entry(entry) for entry in answer.get(kind, [])] for kind in ("inputs", "outputs")}

    def _input(self, name, datatype, array, _binary):
        tensor = tritonclient.grpc.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        return tensor

    def _output(self, name, classes, _binary):
        return tritonclient.grpc.InferRequestedOutput(name, class_count=classes)

    def _infer(self, model, version, tensors, wanted):
        return self._client.infer(model, tensors, model_version=version, outputs=wanted, client_timeout=self._left())

    def _response(self, result) -> dict:
        return result.get_response(as_json=True)


CLIENTS = {"http": HttpClient, "grpc": GrpcClient}


def _native(datatype: str, array):
    """Return the array as the library takes it: of BF16, of which numpy knows nothing, in the type of a package of its own."""
    if datatype != "BF16":
        return array
    try:
        import ml_dtypes
    except ImportError:
        # Libraries that come without it take float32.
        return array
    return array.astype(ml_dtypes.bfloat16)


def _tensor_entry(entry: dict) -> dict:
    # JSON of a protobuf message has 64-bit integers as text.
    return {**entry, "shape": [int(size) for size in entry.get("shape", [])]}


def _index_entry(entry: dict) -> dict:
    return {key: entry.get(key, "") for key in ("name", "version", "state", "reason")}
