# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process of a load: some of its clients, a thread each. PRIVATE to the collection.

It reads a job (pickled, with its length before it) from its input, says that it is ready, reads the moment to begin, and writes a tally (pickled) to its
output when all clients are done. Any further byte, or the end of its input, stops it early.
"""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import resource
import struct
import sys
import threading
import time

from ansible_collections.mlserving.triton.plugins.module_utils._load_answers import Judge
from ansible_collections.mlserving.triton.plugins.module_utils._load_clients import LINKS
from ansible_collections.mlserving.triton.plugins.module_utils._load_job import Failure, Job, OwnLimit
from ansible_collections.mlserving.triton.plugins.module_utils._load_tally import Tally

LENGTH, MOMENT = struct.Struct("!Q"), struct.Struct("!d")
READY = b"ready\n"
#: After a failure a client waits, in seconds, as an application would; a server that is away would else get thousands of connections a second.
PAUSE = 0.02
OWN_PAUSE = 0.01


class Crew:
    """The clients of this process. ``start``: the end of the warm-up on the monotonic clock."""

    def __init__(self, job: Job, start: float):
        self.job, self.start, self.tally, self.stopped = job, start, Tally(job.seconds), threading.Event()
        self._end = start + job.seconds if job.seconds is not None else float("inf")
        self._judge = Judge(job)

    def run(self) -> Tally:
        """Return what became of the requests of all clients, once they are done."""
        job = self.job
        time.sleep(max(0.0, self.start - job.warm_up - time.monotonic()))
        before = _cpu()
        shares = [None if job.count is None else job.count // job.clients + (number < job.count % job.clients) for number in range(job.clients)]
        with concurrent.futures.ThreadPoolExecutor(job.clients) as pool:
            for done in [pool.submit(self._client, share) for share in shares]:
                done.result()
        self.tally.cpu = _cpu() - before
        return self.tally

    def _client(self, left: int | None) -> None:
        link = LINKS[self.job.protocol](self.job)
        while (left is None or left > 0) and not self.stopped.is_set() and time.monotonic() < self._end:
            begin, kind, detail, answer = time.monotonic(), "", "", None
            try:
                answer = link.ask()
            except Failure as failure:
                kind, detail = failure.kind, failure.detail
            except OwnLimit as limit:
                self.tally.wait(str(limit))
                self.stopped.wait(OWN_PAUSE)
                continue
            if answer is not None:
                detail = self._judge.problem(answer, link.header)
                kind = "wrong answer" if detail else ""
            self.tally.add(begin - self.start, link.ended - self.start, kind, detail)
            if left is not None and begin >= self.start:
                left -= 1
            if kind or self.job.pause:
                self.stopped.wait(max(self.job.pause, PAUSE if kind else 0.0))
        link.close()
        self.tally.close(link.opened)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _read(count: int) -> bytes:
    """Return so many bytes of the input, without a buffer that would swallow what comes after them."""
    data = b""
    while len(data) < count:
        piece = os.read(0, count - len(data))
        if not piece:
            os._exit(1)
        data += piece
    return data


def main() -> None:
    job = pickle.loads(_read(LENGTH.unpack(_read(LENGTH.size))[0]))
    # A thread that has an answer need not wait long for one that computes.
    sys.setswitchinterval(0.001)
    os.write(1, READY)
    crew = Crew(job, MOMENT.unpack(_read(MOMENT.size))[0])

    def listen() -> None:
        os.read(0, 1)
        crew.stopped.set()

    threading.Thread(target=listen, daemon=True).start()
    result = pickle.dumps(crew.run())
    with open(1, "wb") as stream:
        stream.write(result)
    # Threads of the libraries may still wait for something.
    os._exit(0)
