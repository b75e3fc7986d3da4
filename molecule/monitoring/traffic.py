#!/usr/bin/env python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the scenario's models until a file appears, each request over a connection of its own.

One of fifty to the model batched fails on purpose. Twelve clients ask the model slow, each a second after the one before: more than it answers.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import sys
import threading
import urllib.error
import urllib.request


def tensor(name: str, length: int, value: int, *batch: int) -> dict:
    return {"name": name, "datatype": "INT32", "shape": [*batch, length], "data": [value] * length}


def request(model: str, number: int) -> tuple[str, dict]:
    """Return the path under /v2/models and the body of a model's request."""
    if model == "simple":
        return "simple/infer", {"inputs": [tensor("INPUT0", 16, number), tensor("INPUT1", 16, 1)]}
    if model == "slow":
        return "slow/infer", {"inputs": [tensor("INPUT", 1, number)]}
    return "batched/infer", {"inputs": [tensor("INPUT", 1, -1 if number % 50 == 0 else number, 1)]}


def ask(address: str, model: str, stop: pathlib.Path, after: float) -> None:
    threading.Event().wait(after)
    for number in itertools.count():
        if stop.exists():
            return
        path, body = request(model, number)
        try:
            with urllib.request.urlopen(f"{address}/v2/models/{path}", json.dumps(body).encode(), timeout=10) as answer:
                answer.read()
        except urllib.error.HTTPError:
            pass  # The failures that are wanted. That all is well is seen from the metrics.
        except OSError:
            pass  # A replica that leaves or comes.
        threading.Event().wait(0.02)


if __name__ == "__main__":
    asked = [("simple", 0), ("batched", 0), ("batched", 0), *(("slow", second) for second in range(12))]
    clients = [threading.Thread(target=ask, args=(sys.argv[1], model, pathlib.Path(sys.argv[2]), after)) for model, after in asked]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
