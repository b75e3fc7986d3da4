# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends one inference again and again from several clients, and reports how many were answered, how fast, and what failed. PRIVATE to the collection.

A report is a dict: started (UTC, at the end of the warm-up), seconds, sent, ok, lost, failed (kind -> count), first (the first failures: time, kind,
detail), throughput (right answers a second), latency (min, mean, p50, p90, p95, p99, max in milliseconds), longest_gap (seconds without a right answer),
opened (connections), warm_up (ok, failed), timeline (second, ok, failed), ended (what ended it), client (processes, cores: how many it kept busy,
waits: kind -> how often this machine had no port or file left to send with, which is no failure of the server).
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
import os
import pickle
import struct
import subprocess
import sys
import time
from collections.abc import Callable

from ansible_collections.mlserving.triton.plugins.module_utils import _load_worker
from ansible_collections.mlserving.triton.plugins.module_utils._load_job import Job
from ansible_collections.mlserving.triton.plugins.module_utils._load_request import LoadError
from ansible_collections.mlserving.triton.plugins.module_utils._load_tally import Tally

WORKER = "from ansible_collections.mlserving.triton.plugins.module_utils._load_worker import main; main()"
#: Seconds between two looks whether to stop.
LOOK = 0.1
#: More processes than this do not make more load: those of the server need cores as well.
MOST_PROCESSES = 8
#: Seconds from the moment that all are ready to the begin, so that all begin at once.
HEAD_START = 0.05


def run(job: Job, stop: Callable[[], str] = lambda: "", processes: int | None = None) -> dict:
    """Make the load; return its report.

    :param stop: asked ten times a second; a text, which says why, ends the load once the requests under way are answered
    :param processes: how many share the clients; by default one for each core
    :raises LoadError: a process could not be started or failed
    """
    shares = _shares(job, processes or min(job.clients, os.cpu_count() or 1, MOST_PROCESSES))
    crews = [_Process(share) for share in shares]
    try:
        for crew in crews:
            crew.expect_ready()
        start = time.monotonic() + HEAD_START + job.warm_up
        began = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=HEAD_START + job.warm_up)
        with concurrent.futures.ThreadPoolExecutor(len(crews)) as pool:
            done = [pool.submit(crew.tally, start) for crew in crews]
            ended = ""
            while not all(entry.done() for entry in done):
                concurrent.futures.wait(done, timeout=LOOK)
                if not ended and (ended := stop()):
                    for crew in crews:
                        crew.stop()
            tallies = [entry.result() for entry in done]
    finally:
        for crew in crews:
            crew.end()
    whole = Tally(job.seconds)
    for tally in tallies:
        whole.merge(tally)
    ended = ended or ("count" if job.count is not None and whole.ok + whole.failed.total() >= job.count else "seconds")
    busy = whole.cpu / (whole.last + job.warm_up) if whole.last else 0.0
    client = {"processes": len(crews), "cores": round(busy, 2), "waits": dict(whole.waits)}
    return whole.report(began) | {"ended": ended, "client": client}


def _shares(job: Job, processes: int) -> list[Job]:
    """Return the job of each process; together they have all clients and requests."""
    processes = max(1, min(processes, job.clients))
    clients = [job.clients // processes + (number < job.clients % processes) for number in range(processes)]
    if job.count is None:
        return [dataclasses.replace(job, clients=share) for share in clients]
    counts = [job.count // processes + (number < job.count % processes) for number in range(processes)]
    return [dataclasses.replace(job, clients=share, count=count) for share, count in zip(clients, counts)]


class _Process:
    """One process of the load. It ends by itself when this one does."""

    def __init__(self, job: Job):
        content = pickle.dumps(job)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "GRPC_VERBOSITY": "NONE"}
        # In a session of its own, a Ctrl-C at the terminal ends it with its report and not before.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            bufsize=0,
            start_new_session=True,
        )
        self._send(struct.pack("!Q", len(content)) + content)

    def _send(self, content: bytes) -> None:
        """Send a message; of a process that is gone, tally() says why."""
        try:
            view = memoryview(content)
            while view:
                view = view[self._process.stdin.write(view) :]
        except BrokenPipeError:
            pass

    def expect_ready(self) -> None:
        """Wait until it is ready.

        :raises LoadError: it failed
        """
        if self._process.stdout.read(len(_load_worker.READY)) != _load_worker.READY:
            raise LoadError(f"A process of the load ended before it began: {self._process.stderr.read().decode('utf-8', 'replace')[-500:].strip()}")

    def tally(self, start: float) -> Tally:
        """Begin, and return what became of the requests when all are done.

        :raises LoadError: it failed
        """
        self._send(struct.pack("!d", start))
        output, errors = self._process.stdout.readall(), b""
        if not output:
            errors = self._process.stderr.read()
            raise LoadError(f"A process of the load ended without a result: {errors.decode('utf-8', 'replace')[-500:].strip()}")
        return pickle.loads(output)

    def stop(self) -> None:
        self._send(b"\n")

    def end(self) -> None:
        """Leave nothing behind."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            stream.close()
