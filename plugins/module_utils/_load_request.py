# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the request of a load out of a case, and proves it by one inference before the load begins. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import os
import time
import urllib.parse

from ansible_collections.mlserving.triton.plugins.module_utils import _load_answers, _load_clients, _load_job, _triton_client, _verify, _verify_cases
from ansible_collections.mlserving.triton.plugins.module_utils._tensors import CaseError

try:
    import tritonclient.utils
    from tritonclient.grpc import service_pb2
except ImportError:
    service_pb2 = None  # The modules report it through _triton_client.IMPORT_ERROR before a request is made.

PORTS = {"http": 80, "https": 443}
#: Seconds between two attempts to reach a server that does not answer yet.
AGAIN = 0.5


class LoadError(Exception):
    """The load cannot be made; the text says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a server is: ``path`` is what stands before /v2, over HTTP."""

    host: str
    port: int
    secure: bool
    path: str = ""

    @property
    def name(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def address(protocol: str, text: str) -> Address:
    """Return what a URL, or host:port, says.

    :raises LoadError: it is none
    """
    example = "http://172.18.255.201:8000" if protocol == "http" else "172.18.255.201:8001, with grpcs:// before it for TLS"
    found, secure = urllib.parse.urlsplit(text if "://" in text else f"//{text}"), ("https",) if protocol == "http" else ("https", "grpcs")
    allowed = ("", "http", *secure) if protocol == "http" else ("", "grpc", *secure)
    try:
        port = found.port or (PORTS.get(found.scheme or "http") if protocol == "http" else None)
    except ValueError:
        port = None
    if found.scheme not in allowed or not found.hostname or not port:
        raise LoadError(f"The {protocol} address is {text!r}; it must be like {example}.")
    return Address(found.hostname, port, found.scheme in secure, found.path.rstrip("/"))


def case_of(model: str, source: str) -> tuple[_verify.Case, str]:
    """Return (the case to send to a model, what it is in words): the first plain one beside the model in the folder ``source``, or else random inputs.

    :raises _verify_cases.CasesError: a case in the folder cannot be used
    """
    beside = [case for case in _verify_cases.prepared(source, []) if case.model == model and not case.stream and not case.steps] if source else []
    if beside:
        return beside[0], f"the first case of {os.path.join(source, model, 'verify.yml')}"
    return _verify.Case(model, "", tensors=[], outputs=[], inputs={}), "random values"


def expect_plain(case: _verify.Case) -> None:
    """See that a load can be made of the case.

    :raises LoadError: it is no single request
    """
    if case.stream or case.steps:
        raise LoadError(f"The case of model {case.model} is a {'stream' if case.stream else 'sequence'}; a load needs one request with one answer.")


def job(
    case: _verify.Case, protocol: str, text: str, deadline: float, access: _triton_client.Access = _triton_client.NOTHING, **more
) -> _load_job.Job:
    """Return the load that sends the case to a server, after it answered the case once as expected.

    :param text: the server's URL, or host:port
    :param deadline: on the monotonic clock; a server that does not answer is asked again until then
    :param more: fields of the job, such as clients and seconds
    :raises LoadError: the case is no single request, or the server does not answer as expected
    """
    expect_plain(case)
    place = address(protocol, text)
    try:
        case, inputs = completed(case, protocol, text, deadline, access)
    except (CaseError, _triton_client.TritonError) as error:
        raise LoadError(f"{text}: {error}. Correct the address, the model or the case.") from None
    fresh = more.get("fresh", False)
    if protocol == "http":
        request, metadata = http_request(case, inputs, place, access.headers_for("http"), fresh), ()
    else:
        request, metadata = grpc_request(case, inputs), tuple(access.headers_for("grpc").items())
    made = _load_job.Job(
        protocol=protocol,
        host=place.host,
        port=place.port,
        request=request,
        secure=place.secure,
        ca=access.ca,
        metadata=metadata,
        outputs=tuple(case.outputs),
        **more,
    )
    return dataclasses.replace(made, known=frozenset([_first_answer(made, text, deadline)]))


def completed(case: _verify.Case, protocol: str, text: str, deadline: float, access: _triton_client.Access) -> tuple[_verify.Case, dict]:
    """Return (the case with all names, its inputs: name -> (data type, array)), those of a case without any at random.

    :raises CaseError: a tensor does not fit the model
    :raises TritonError: the server refused it or did not answer in time
    """
    if case.tensors and not case.needs_metadata:
        return case, case.complete(None)
    while True:
        try:
            with _triton_client.CLIENTS[protocol](text, deadline, access) as client:
                metadata = client.model_metadata(case.model, case.version)
            break
        except _triton_client.TritonError as error:
            if not error.connection or time.monotonic() + AGAIN > deadline:
                raise
            time.sleep(AGAIN)
    if not case.tensors:
        fills = [{"name": entry["name"], "fill": "random", "seed": seed} for seed, entry in enumerate(metadata["inputs"])]
        case = dataclasses.replace(case, tensors=fills)
    named = case.named(metadata)
    return named, named.complete(metadata)


def http_request(case: _verify.Case, inputs: dict, place: Address, headers: dict, fresh: bool) -> bytes:
    """Return the whole request, head and body."""
    body, length = _triton_client.request_body(inputs, case.wanted, not case.json)
    version = f"/versions/{urllib.parse.quote(case.version)}" if case.version else ""
    lines = [f"POST {place.path}/v2/models/{urllib.parse.quote(case.model)}{version}/infer HTTP/1.1"]
    lines += [f"Host: {place.name}", f"Content-Length: {len(body)}"]
    lines += [f"Content-Type: {'application/octet-stream' if length else 'application/json'}"]
    lines += [f"Inference-Header-Content-Length: {length}"] if length else []
    lines += ["Connection: close"] if fresh else []
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def grpc_request(case: _verify.Case, inputs: dict) -> bytes:
    """Return the serialized ModelInferRequest."""
    message = service_pb2.ModelInferRequest(model_name=case.model, model_version=case.version)
    for name, (datatype, array) in inputs.items():
        message.inputs.add(name=name, datatype=datatype, shape=array.shape)
        message.raw_input_contents.append(raw(datatype, array))
    for name, classes in case.wanted.items():
        output = message.outputs.add(name=name)
        if classes:
            output.parameters["classification"].int64_param = classes
    return message.SerializeToString()


def raw(datatype: str, array) -> bytes:
    """Return the tensor's bytes as the protocol has them."""
    if datatype == "BYTES":
        return tritonclient.utils.serialize_byte_tensor(array).item() if array.size else b""
    if datatype == "BF16":
        # Its bytes are the upper halves of those of float32.
        return array.astype("<f4").view("<u2")[..., 1::2].tobytes()
    return array.tobytes()


def _first_answer(made: _load_job.Job, text: str, deadline: float) -> bytes:
    """Return the answer to the request, found right."""
    link, judge = _load_clients.LINKS[made.protocol](made), _load_answers.Judge(made)
    while True:
        try:
            answer = link.ask()
            problem = judge.problem(answer, link.header)
            if not problem:
                return answer
        except _load_job.Failure as failure:
            problem = str(failure)
            if not failure.kind.startswith(("HTTP 4", "gRPC NOT_FOUND", "gRPC INVALID", "TLS")) and time.monotonic() + AGAIN < deadline:
                time.sleep(AGAIN)
                continue
        except _load_job.OwnLimit as limit:
            problem = f"this machine has {limit}"
        finally:
            link.close()
        raise LoadError(f"{text}: no load was sent, as one inference before it failed: {problem}. Correct the address, the model or the case.")
