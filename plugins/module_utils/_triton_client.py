# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to one Triton server over HTTP or gRPC. PRIVATE to the collection.

Both clients have the same verbs, but for those that control models, which HTTP has alone. Every failure is a
:class:`TritonError` whose text stands in a sentence.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import json
import queue
import re
import socket
import ssl
import time
import traceback
import urllib.parse
from http.client import HTTPConnection, HTTPException

try:
    import gevent
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
#: How many responses one request to a decoupled model may have.
MOST_RESPONSES = 10_000
#: Before the name of a restricted API's key, over gRPC.
GRPC_KEY_PREFIX = "triton-grpc-protocol-"
EMPTY_MODEL = b"class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
#: gRPC's own limit of 4 MiB per message is too small for images; -1 means none. The HTTP client has none either.
#: A proxy that the environment names never leads to a loopback address or a load balancer inside the network.
GRPC_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
]


class TritonError(Exception):
    """A request failed. ``connection`` says that no server answered, so that the same request may work later; ``stranger`` that what answered has another
    protocol or certificate, as a pod that leaves may have had.
    """

    def __init__(self, text: str, connection: bool = False, stranger: bool = False):
        super().__init__(text)
        self.connection, self.stranger = connection, stranger


@dataclasses.dataclass(frozen=True)
class Access:
    """What a server wants to see before it answers.

    ``ca``: file of certificates (PEM) to trust in place of the system's; ``headers``: name -> value; ``key``: (name, value) of the key of a restricted
    API, or nothing; ``name``: what the certificate has to be made out to, whatever the address; ``grpc_tls``: TLS over gRPC, whatever the address says.
    """

    ca: str = ""
    headers: dict = dataclasses.field(default_factory=dict)
    key: tuple = ()
    name: str = ""
    grpc_tls: bool = False

    def headers_for(self, protocol: str) -> dict:
        """Return the headers of each request; gRPC takes lower-case names only."""
        if protocol == "http":
            return self.headers | dict([self.key] if self.key else [])
        named = {name.lower(): value for name, value in self.headers.items()}
        return named | ({GRPC_KEY_PREFIX + self.key[0].lower(): self.key[1]} if self.key else {})


NOTHING = Access()


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of a request in a sequence: the sequence's number, 1 to 2**64 - 1, and whether it is its first and its last."""

    sequence: int
    first: bool
    last: bool

    @property
    def options(self) -> dict:
        return {"sequence_id": self.sequence, "sequence_start": self.first, "sequence_end": self.last}


@contextlib.contextmanager
def _translated():
    """Turn what the client libraries raise into a TritonError."""
    try:
        yield
    except InferenceServerException as error:
        status = str(error.status() or "").replace("StatusCode.", "")
        text = " ".join(str(error.message()).split())
        if status == "UNAVAILABLE" and (reason := _tls_reason(text)):
            raise TritonError(f"TLS failed: {reason}", stranger=True) from None
        if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "502", "503", "504"):
            raise TritonError(f"no answer ({_short(text)})", connection=True) from None
        if "while decoding the response" in text:
            raise _not_tritons(f"status {status}") from None
        raise TritonError(f"the server refused: {text}" + (f" ({status})" if status else "")) from None
    except HTTPConnectionClosed:
        raise TritonError("no answer (connection closed)", connection=True) from None
    except ssl.SSLError as error:
        # What hangs up during the handshake, such as a load balancer without a server behind it, may not do so later.
        reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
        hung_up = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
        raise TritonError(f"TLS failed: {_plain(reason)}", connection=hung_up, stranger=not hung_up) from None
    except socket.gaierror as error:
        # The record of a new load balancer takes minutes to appear.
        raise TritonError(f"no answer (its name is not in the DNS, or not yet: {error.strerror})", connection=True) from None
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise TritonError(f"no answer ({_short(reason)})", connection=True) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, HTTPException) as error:
        # What another kind of server answers leads the libraries, and what reads their results here, to any of these.
        raise _not_tritons(type(error).__name__) from None


def _not_tritons(how: str) -> TritonError:
    return TritonError(f"the answer is not Triton's ({how}): does this address lead to a Triton server's port?", stranger=True)


def _tls_reason(text: str) -> str:
    """Return why gRPC's connection failed in TLS; nothing if it did not, or may pass by itself."""
    if "Hostname Verification Check failed" in text:
        return "the certificate is not valid for this address"
    found = re.search(r"OPENSSL_internal:(?:CERTIFICATE_VERIFY_FAILED: )?(\w[\w -]*)", text)
    return _plain(found.group(1)) if found else ""


def _plain(reason: str) -> str:
    return f"the server does not speak TLS there ({reason})" if "WRONG_VERSION_NUMBER" in reason else reason


def _short(text: str) -> str:
    """Return gRPC's chain of wrapped connection errors as its last, telling part."""
    if re.search(r"Domain name not found|DNS resolution failed|Name or service not known", text, re.I):
        return "its name is not in the DNS, or not yet"
    found = re.search(r"(Connection refused|No route to host|Connection reset by peer|Socket closed|Deadline Exceeded)", text, re.I)
    return found.group(1).lower() if found else text


class _Client:
    """What both protocols share. Times are in seconds on the monotonic clock."""

    protocol = ""

    def __init__(self, address: str, deadline: float, access: Access):
        self.address = address
        self.deadline = deadline
        self._headers = access.headers_for(self.protocol) or None

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

    def infer(self, model: str, version: str, inputs: dict, outputs: dict[str, int], binary: bool = True, place: Place | None = None) -> dict:
        """Run one inference.

        :param inputs: name -> (Triton data type, numpy array)
        :param outputs: name -> how many classes to return of it, 0 for its values; empty for all outputs
        :param binary: whether tensors go as bytes; over HTTP they can also be JSON
        :param place: in a sequence, for a stateful model
        :returns: name -> (Triton data type, numpy array)
        :raises TritonError: the server refused it or did not answer
        """
        tensors, wanted = self._tensors(inputs, outputs, binary)
        with self._asking():
            return self._answer(self._infer(model, version, tensors, wanted, place.options if place else {}))

    def versions(self, model: str) -> list[dict]:
        """Return what the index would say of one model that is loaded; nothing of one that is not.

        :raises TritonError: the server did not answer
        """
        try:
            versions = self.model_metadata(model).get("versions") or []
        except TritonError as error:
            if error.connection:
                raise
            return []
        return [{"name": model, "version": str(version), "state": "READY", "reason": ""} for version in versions]

    def _tensors(self, inputs: dict, outputs: dict[str, int], binary: bool) -> tuple[list, list | None]:
        try:
            tensors = [self._input(name, datatype, _native(datatype, array), binary) for name, (datatype, array) in inputs.items()]
        except InferenceServerException as error:
            # Not all that bytes can hold can be written as JSON.
            raise TritonError(f"the inputs cannot be sent: {error.message()}") from None
        return tensors, [self._output(name, classes, binary) for name, classes in outputs.items()] or None

    def _answer(self, result) -> dict:
        found = {name: (datatype, result.as_numpy(name)) for name, datatype in self._outputs(result)}
        return {name: (datatype, _encoded(array) if datatype == "BYTES" else array) for name, (datatype, array) in found.items()}

    def _asking(self):
        """Return a context for one request."""
        return _translated()


class HttpClient(_Client):
    """HTTP to ``address``: host:port with an optional path, or a URL."""

    protocol = "http"

    def __init__(self, address: str, deadline: float, access: Access = NOTHING):
        super().__init__(address, deadline, access)
        secure = address.startswith("https://")
        left = self._left()
        place = re.sub(r"^https?://", "", address).rstrip("/")
        _expect_port(place)
        context = _trusted(access) if secure else None
        with _translated():
            self._client = tritonclient.http.InferenceServerClient(
                place,
                connection_timeout=min(CONNECT_TIMEOUT, left),
                network_timeout=left,
                ssl=secure,
                ssl_context_factory=functools.partial(_with_roots, context, access) if secure else None,
                ssl_options={"server_hostname": access.name} if secure and access.name else None,
            )
        _send_at_once(self._client)

    @contextlib.contextmanager
    def _asking(self):
        # The library's own limit is one of each piece of an answer.
        with _translated(), gevent.Timeout(self._left(), TimeoutError("timed out")):
            yield

    def live(self) -> bool:
        with self._asking():
            return self._client.is_server_live(headers=self._headers)

    def ready(self) -> bool:
        with self._asking():
            return self._client.is_server_ready(headers=self._headers)

    def metadata(self) -> dict:
        """Return the server's name, version and extensions."""
        with self._asking():
            return _server_entry(self._client.get_server_metadata(headers=self._headers))

    def index(self) -> list[dict]:
        """Return name, version, state and reason of every model version in the repository."""
        with self._asking():
            return [_index_entry(entry) for entry in self._client.get_model_repository_index(headers=self._headers)]

    def model_metadata(self, model: str, version: str = "") -> dict:
        """Return a model's inputs and outputs, each name, datatype and shape."""
        with self._asking():
            return _model_entry(self._client.get_model_metadata(model, version, headers=self._headers))

    def parts(self, model: str) -> list[str]:
        """Return the models that an ensemble, which is loaded, is made of; nothing of any other model."""
        with self._asking():
            config = self._client.get_model_config(model, headers=self._headers)
            return [step["model_name"] for step in (config.get("ensemble_scheduling") or {}).get("step") or []]

    def load(self, model: str) -> None:
        """Load a model and wait until that is done, or load it anew.

        :raises TritonError: it does not load, or the server did not answer
        """
        with self._asking():
            self._client.load_model(model, headers=self._headers)

    def stand_in(self, model: str, versions: list[str]) -> None:
        """Load an empty model of the Python backend in place of the repository's.

        :raises TritonError: it does not load, or the server did not answer
        """
        tensor = {"data_type": "TYPE_INT32", "dims": [1]}
        config = {"name": model, "backend": "python", "input": [{"name": "IN", **tensor}], "output": [{"name": "OUT", **tensor}]}
        config |= {"instance_group": [{"kind": "KIND_CPU"}], "version_policy": {"all": {}}}
        files = {f"file:{version}/model.py": base64.b64encode(EMPTY_MODEL).decode() for version in versions}
        body = json.dumps({"parameters": {"config": json.dumps(config), **files}})
        # The library's own call cannot send files.
        with self._asking(), contextlib.closing(HTTPConnection(re.sub("^http://", "", self.address), timeout=self._left())) as connection:
            connection.request("POST", f"/v2/repository/models/{urllib.parse.quote(model)}/load", body, self._headers or {})
            answer = connection.getresponse()
            content = answer.read()
        if answer.status != 200:
            raise TritonError(f"the server refused: {' '.join(str(json.loads(content)['error']).split())} ({answer.status})")

    def unload(self, model: str) -> None:
        """Begin to unload a model; its last requests are answered.

        :raises TritonError: the server refused it or did not answer
        """
        with self._asking():
            self._client.unload_model(model, headers=self._headers)

    def _input(self, name, datatype, array, binary):
        tensor = tritonclient.http.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        return tensor

    def _output(self, name, classes, binary):
        return tritonclient.http.InferRequestedOutput(name, binary_data=binary, class_count=classes)

    def _infer(self, model, version, tensors, wanted, place):
        return self._client.infer(model, tensors, model_version=version, outputs=wanted, headers=self._headers, **place)

    def _outputs(self, result) -> list[tuple[str, str]]:
        return [(entry["name"], entry["datatype"]) for entry in result.get_response().get("outputs", [])]


def _expect_port(place: str) -> None:
    """Check a host:port with an optional path, before a library trips over it.

    :raises TritonError: it is none
    """
    try:
        parts = urllib.parse.urlsplit(f"//{place}")
        if not parts.hostname or parts.port == 0:
            raise ValueError("there is no host")
    except ValueError as error:
        raise TritonError(f"{place} is no host:port ({error})") from None


def _trusted(access: Access) -> ssl.SSLContext:
    """Return a context that trusts the certificates that were given, else the system's.

    :raises TritonError: there are none in the file
    """
    try:
        return ssl.create_default_context(cafile=access.ca or None)
    except ssl.SSLError:
        raise TritonError(f"TLS failed: {access.ca} holds no certificate in PEM") from None
    except OSError as error:
        raise TritonError(f"TLS failed: {access.ca} cannot be read ({error.strerror})") from None


def _with_roots(context: ssl.SSLContext, access: Access, cafile: str | None = None) -> ssl.SSLContext:
    """Add the HTTP library's own certificates, ``cafile``, where none were given."""
    if cafile and not access.ca:
        context.load_verify_locations(cafile=cafile)
    return context


def request_body(inputs: dict, outputs: dict[str, int], binary: bool) -> tuple[bytes, int]:
    """Return (body, length of its JSON header or 0) of an HTTP inference with tensors as :meth:`_Client.infer` takes them."""
    tensors = []
    for name, (datatype, array) in inputs.items():
        tensors.append(tritonclient.http.InferInput(name, list(array.shape), datatype))
        tensors[-1].set_data_from_numpy(_native(datatype, array), binary_data=binary)
    wanted = [tritonclient.http.InferRequestedOutput(name, binary_data=binary, class_count=classes) for name, classes in outputs.items()] or None
    body, header = tritonclient.http.InferenceServerClient.generate_request_body(tensors, outputs=wanted)
    return bytes(body), header or 0


def _send_at_once(client) -> None:
    """Have each part of a request sent at once: the second one waits 40 ms for an acknowledgement else.

    The library has no option for it; where its inside is otherwise, requests are slower and nothing else.
    """
    pool = getattr(getattr(client, "_client_stub", None), "_connection_pool", None)
    prepare = getattr(pool, "after_connect", None)

    def prepared(connected) -> None:
        prepare(connected)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    if prepare:
        pool.after_connect = prepared


class GrpcClient(_Client):
    """gRPC to ``address``: host:port, with TLS if it begins with grpcs:// or https://."""

    protocol = "grpc"

    def __init__(self, address: str, deadline: float, access: Access = NOTHING):
        super().__init__(address, deadline, access)
        rest, secure = _grpc_address(address, access)
        options = {"ssl": True, "root_certificates": access.ca or None} if secure else {}
        named = [("grpc.ssl_target_name_override", access.name)] if secure and access.name else []
        if secure and access.ca:
            _trusted(access)
        with _translated():
            self._client = tritonclient.grpc.InferenceServerClient(rest, channel_args=GRPC_OPTIONS + named, **options)

    @property
    def _options(self) -> dict:
        """What every request has: its headers and the seconds that it may take.

        :raises TritonError: none are left
        """
        return {"headers": self._headers, "client_timeout": self._left()}

    def stream(self, model: str, version: str, inputs: dict, outputs: dict[str, int]) -> list[dict]:
        """Run one inference of a model that may answer any number of times; return all its responses, each as :meth:`infer` returns one.

        :raises TritonError: the server refused it, did not answer or went on for too long
        """
        tensors, wanted = self._tensors(inputs, outputs, True)
        arrived: queue.SimpleQueue = queue.SimpleQueue()
        found: list[dict] = []
        with _translated():
            self._client.start_stream(lambda result, error: arrived.put((result, error)), stream_timeout=self._left() + 1, headers=self._headers)
            try:
                self._client.async_stream_infer(model, tensors, model_version=version, outputs=wanted, enable_empty_final_response=True)
                while True:
                    result, error = self._next(arrived, len(found))
                    if error:
                        raise error
                    answer = self._answer(result)
                    found += [answer] if answer else []
                    if _is_final(result):
                        return found
                    if len(found) >= MOST_RESPONSES:
                        raise TritonError(f"the model answered {MOST_RESPONSES} times and went on")
            finally:
                self._client.stop_stream(cancel_requests=True)

    def _next(self, arrived: queue.SimpleQueue, count: int):
        left = self.deadline - time.monotonic()
        try:
            if left <= 0:
                # A stream that goes on has always something to take.
                raise queue.Empty
            return arrived.get(timeout=left)
        except queue.Empty:
            raise TritonError(f"no answer (the stream did not end in time; it had {count} responses)", connection=True) from None

    def live(self) -> bool:
        with _translated():
            return self._client.is_server_live(**self._options)

    def ready(self) -> bool:
        with _translated():
            return self._client.is_server_ready(**self._options)

    def metadata(self) -> dict:
        """Return the server's name, version and extensions."""
        with _translated():
            return _server_entry(self._client.get_server_metadata(as_json=True, **self._options))

    def index(self) -> list[dict]:
        """Return name, version, state and reason of every model version in the repository."""
        with _translated():
            answer = self._client.get_model_repository_index(as_json=True, **self._options)
        return [_index_entry(entry) for entry in answer.get("models", [])]

    def model_metadata(self, model: str, version: str = "") -> dict:
        """Return a model's inputs and outputs, each name, datatype and shape."""
        with _translated():
            return _model_entry(self._client.get_model_metadata(model, version, as_json=True, **self._options))

    def _input(self, name, datatype, array, _binary):
        tensor = tritonclient.grpc.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        return tensor

    def _output(self, name, classes, _binary):
        return tritonclient.grpc.InferRequestedOutput(name, class_count=classes)

    def _infer(self, model, version, tensors, wanted, place):
        return self._client.infer(model, tensors, model_version=version, outputs=wanted, **self._options, **place)

    def _outputs(self, result) -> list[tuple[str, str]]:
        return [(entry.name, entry.datatype) for entry in result.get_response().outputs]


CLIENTS = {"http": HttpClient, "grpc": GrpcClient}


def _grpc_address(address: str, access: Access) -> tuple[str, bool]:
    """Return (host:port, whether it speaks TLS)."""
    scheme, found, rest = address.rpartition("://")
    return rest, access.grpc_tls or (bool(found) and scheme in ("grpcs", "https"))


def _is_final(result) -> bool:
    return result.get_response().parameters["triton_final_response"].bool_param


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


def _encoded(array):
    """Return an array of texts, which JSON has as text, as bytes."""
    if array is None or not any(isinstance(value, str) for value in array.flat):
        return array
    encoded = array.astype(object)
    encoded.flat = [value.encode() if isinstance(value, str) else value for value in array.flat]
    return encoded


def _server_entry(answer: dict) -> dict:
    return {**answer, "version": answer["version"]}


def _model_entry(answer: dict) -> dict:
    kinds = {kind: [_tensor_entry(entry) for entry in answer.get(kind) or []] for kind in ("inputs", "outputs")}
    return {**answer, **kinds, "versions": answer.get("versions") or []}


def _tensor_entry(entry: dict) -> dict:
    # JSON of a protobuf message has 64-bit integers as text.
    return {"name": entry["name"], "datatype": entry["datatype"], "shape": [int(size) for size in entry.get("shape") or []]}


def _index_entry(entry: dict) -> dict:
    return {key: entry.get(key, "") for key in ("name", "version", "state", "reason")}
