# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models' golden cases as whole HTTP requests, which a start-up probe sends from inside the pod. PRIVATE to the collection.

Beside the request MODEL there may be .MODEL: the bytes that the answer must end with.
"""

from __future__ import annotations

import base64
import hashlib
import os

from ansible_collections.mlserving.triton.plugins.module_utils import _expected_models, _tensors, _triton_client, _verify
from ansible_collections.mlserving.triton.plugins.module_utils._tensors import CaseError

#: A ConfigMap holds 1 MiB; what is larger is left to the verification.
LARGEST, LARGEST_SUM = 64 * 1024, 512 * 1024
#: Of these, equal values are equal bytes; of real numbers, 0.0 and -0.0 are not.
EXACT = ("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")


def requests(source: str, cases: list[_verify.Case], answers: bool = False) -> dict[str, str]:
    """Return model -> request in base64: of each model the first case that is one plain inference, and can be built without a server.

    :param source: folder of models, whose configurations tell types and shapes
    :param answers: also return what the answers must end with, where that can be told byte by byte
    """
    found, total = {}, 0
    for case in cases:
        if case.model in found or case.stream or case.steps:
            continue
        content, answer = _request(case, _expected_models.metadata(os.path.join(source, case.model)), answers)
        size = len(content) + len(answer)
        if content and size <= LARGEST and total + size <= LARGEST_SUM:
            named = {case.model: content} | ({f".{case.model}": answer} if answer else {})
            found |= {key: base64.b64encode(value).decode() for key, value in named.items()}
            total += size
    return found


def name(fullname: str, contents: dict[str, str]) -> str:
    """Return the name of a ConfigMap with these requests, which is another one for other requests."""
    digest = hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()[:10]
    return f"{fullname[:46].rstrip('-')}-probe-{digest}"


def _request(case: _verify.Case, metadata: dict, answers: bool) -> tuple[bytes, bytes]:
    """Return (request, end of its answer), empty if it takes more than the configuration to tell them."""
    try:
        named = case.named(metadata) if case.needs_metadata else case
        inputs = named.complete(metadata)
        # Of one output only: in which order a backend returns several is its own affair.
        exact = next(filter(None, (_exact(output, metadata) for output in named.outputs if answers and not case.json)), None)
    except CaseError:
        return b"", b""
    body, header = _triton_client.request_body(inputs, {exact[0]: 0} if exact else named.wanted, not case.json)
    version = f"/versions/{case.version}" if case.version else ""
    lines = [f"POST /v2/models/{case.model}{version}/infer HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"Inference-Header-Content-Length: {header}"] if header else []
    return "\r\n".join([*lines, "", ""]).encode() + body, exact[1] if exact else b""


def _exact(output: dict, metadata: dict) -> tuple[str, bytes] | None:
    """Return (name, values as they are sent) of an expected output; None if other bytes would be as good.

    :raises CaseError: a value is not of the output's type
    """
    datatype = output.get("datatype") or next((known["datatype"] for known in metadata["outputs"] if known["name"] == output["name"]), "")
    if datatype not in EXACT or not isinstance(output.get("data"), list) or output.get("tolerance") or output.get("relative"):
        return None
    values = _tensors.flat(output["data"])
    return output["name"], _tensors.array(datatype, [len(values)], values, f"expected {output['name']}").tobytes()
