# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Triton server counts, read from its metrics. PRIVATE to the collection."""

from __future__ import annotations

import http.client
import re
import time

from ansible_collections.mlserving.triton.plugins.module_utils._triton_client import TritonError

#: The counter of requests that were answered; one sample for each model, version and GPU.
SUCCESS = re.compile(r"^nv_inference_request_success\{(?P<labels>[^}]*)\}\s+(?P<value>\S+)", re.M)
MODEL = re.compile(r'\bmodel="(?P<model>[^"]*)"')
#: Seconds for one answer.
TIMEOUT = 5


class Metrics:
    """The metrics of one server, read over one connection.

    :param address: host:port of the metrics
    :param deadline: on the monotonic clock
    """

    def __init__(self, address: str, deadline: float):
        self._connection = http.client.HTTPConnection(address)
        self._deadline = deadline

    def answered(self) -> dict[str, float]:
        """Return model -> how many requests the server has answered since it started.

        :raises TritonError: nobody answers there, or it is no Triton
        """
        self._connection.timeout = max(0.1, min(TIMEOUT, self._deadline - time.monotonic()))
        if self._connection.sock:
            self._connection.sock.settimeout(self._connection.timeout)
        try:
            self._connection.request("GET", "/metrics")
            answer = self._connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise TritonError(f"no answer ({getattr(error, 'strerror', None) or type(error).__name__})", connection=True) from None
        if answer.status != 200 or "nv_inference_" not in text:
            raise TritonError(f"the metrics are not Triton's (status {answer.status}): does this address lead to its metrics port?")
        return count(text)

    def close(self) -> None:
        self._connection.close()


def count(text: str) -> dict[str, float]:
    """Return model -> requests answered, from a server's metrics in the Prometheus text format."""
    found: dict[str, float] = {}
    for sample in SUCCESS.finditer(text):
        model = MODEL.search(sample["labels"])
        if model:
            found[model["model"]] = found.get(model["model"], 0.0) + float(sample["value"])
    return found
