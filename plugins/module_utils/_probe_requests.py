# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models' golden cases as whole HTTP requests, which a start-up probe sends from inside the pod. PRIVATE to the collection."""

from __future__ import annotations

import base64
import hashlib
import os

from ansible_collections.mlserving.triton.plugins.module_utils import _expected_models, _triton_client, _verify
from ansible_collections.mlserving.triton.plugins.module_utils._tensors import CaseError

#: A ConfigMap holds 1 MiB; what is larger is left to the verification.
LARGEST, LARGEST_SUM = 64 * 1024, 512 * 1024


def requests(source: str, cases: list[_verify.Case]) -> dict[str, str]:
    """Return model -> request in base64: of each model the first case that is one plain inference, and can be built without a server.

    :param source: folder of models, whose configurations tell types and shapes
    """
    found, total = {}, 0
    for case in cases:
        if case.model in found or case.stream or case.steps:
            continue
        content = _request(case, _expected_models.metadata(os.path.join(source, case.model)))
        if content and len(content) <= LARGEST and total + len(content) <= LARGEST_SUM:
            found[case.model], total = base64.b64encode(content).decode(), total + len(content)
    return found


def name(fullname: str, contents: dict[str, str]) -> str:
    """Return the name of a ConfigMap with these requests, which is another one for other requests."""
    digest = hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()[:10]
    return f"{fullname[:46].rstrip('-')}-probe-{digest}"


def _request(case: _verify.Case, metadata: dict) -> bytes:
    """Return the request; nothing if it takes more than the configuration to build it."""
    try:
        named = case.named(metadata) if case.needs_metadata else case
        inputs = named.complete(metadata)
    except CaseError:
        return b""
    body, header = _triton_client.request_body(inputs, named.wanted, not case.json)
    version = f"/versions/{case.version}" if case.version else ""
    lines = [f"POST /v2/models/{case.model}{version}/infer HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"Inference-Header-Content-Length: {header}"] if header else []
    return "\r\n".join([*lines, "", ""]).encode() + body
