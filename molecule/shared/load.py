# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the model simple again and again, each time over a new connection, until a file appears. Usage: load.py HOST:PORT FILE

Prints one line of JSON: how many requests were sent, and what failed, by kind, with the times of the first failures (UTC). Ends by itself after 5
minutes.
"""

from __future__ import annotations

import collections
import concurrent.futures
import datetime
import http.client
import json
import pathlib
import sys
import time

CLIENTS, LONGEST = 4, 300
REQUEST = json.dumps({"inputs": [{"name": name, "datatype": "INT32", "shape": [16], "data": list(range(16))} for name in ("INPUT0", "INPUT1")]})


def ask(address: str) -> str:
    """Return what became of one request: "ok", or the kind of its failure."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("POST", "/v2/models/simple/infer", REQUEST, {"Content-Type": "application/json", "Connection": "close"})
        answer = connection.getresponse()
        sums = json.loads(answer.read())["outputs"][0]["data"] if answer.status == 200 else None
        return "ok" if sums == [2 * number for number in range(16)] else f"status {answer.status}"
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        return f"{type(error).__name__} {error}"
    finally:
        connection.close()


def client(address: str, stop: pathlib.Path, deadline: float, when: list[str]) -> collections.Counter:
    found: collections.Counter = collections.Counter()
    while not stop.exists() and time.monotonic() < deadline:
        said = ask(address)
        found[said] += 1
        if said != "ok" and len(when) < 20:
            when.append(f"{datetime.datetime.now(datetime.timezone.utc):%H:%M:%S} {said}")
    return found


def main(address: str, stop: str) -> None:
    deadline, when = time.monotonic() + LONGEST, []
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        counted = sum(pool.map(lambda _number: client(address, pathlib.Path(stop), deadline, when), range(CLIENTS)), collections.Counter())
    failed = {kind: count for kind, count in counted.items() if kind != "ok"}
    print(json.dumps({"sent": counted.total(), "lost": sum(failed.values()), "failed": failed, "first": when}))


if __name__ == "__main__":
    main(*sys.argv[1:])
