# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a load is made of, as it is handed to the processes that make it. PRIVATE to the collection.

This file and the clients import nothing that takes long: a process of the load is ready in a tenth of a second.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Job:
    """One request, sent again and again by clients of which each waits for its answer before it sends the next.

    ``host``, ``port``: of the server; ``secure``: with TLS, trusting the certificates in the file ``ca`` or, without one, the system's.
    ``request``: over HTTP the whole request, head and body; over gRPC the serialized ModelInferRequest, sent with ``metadata``.
    ``outputs``: what is expected of each answer, as the option outputs of a case; empty if any will do. ``known``: answers (bytes) that fulfil it.
    ``seconds``, ``count``: when the load ends, by time or by requests of all clients together, whichever comes first; None for never.
    ``warm_up``: seconds before, whose requests are counted apart. ``timeout``: seconds for one request. ``pause``: seconds
    that a client waits after an answer.
    """

    protocol: str
    host: str
    port: int
    request: bytes
    secure: bool = False
    ca: str = ""
    metadata: tuple = ()
    outputs: tuple = ()
    known: frozenset = frozenset()
    fresh: bool = False
    clients: int = 8
    seconds: float | None = None
    count: int | None = None
    warm_up: float = 0.0
    timeout: float = 10.0
    pause: float = 0.0


class Failure(Exception):
    """A request failed. ``kind``: the words it is counted under; ``detail``: more about this one, or nothing."""

    def __init__(self, kind: str, detail: str = ""):
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind, self.detail = kind, detail


class OwnLimit(Exception):
    """This machine, not the server, could not send the request; the text says what it ran out of."""
