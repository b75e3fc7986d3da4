# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts what became of the requests of a load. PRIVATE to the collection."""

from __future__ import annotations

import collections
import datetime
import math
import threading

#: A latency is kept as one of the steps of 1 % between which it lies, so that a load of days needs no more memory than one of seconds.
STEPS = 100
MOST_FIRST = 20
#: The timeline is kept in parts of a second, to see for how long there was no answer.
PARTS = 10
PERCENTILES = (50, 90, 95, 99)


class Tally:
    """What became of requests; times are seconds since the end of the warm-up.

    ``seconds``: when no new ones are sent any more, None for never. What is answered later counts, but not as throughput.
    """

    def __init__(self, seconds: float | None = None):
        self.seconds, self.late = math.inf if seconds is None else seconds, 0
        self.ok, self.lowest, self.highest, self.total, self.last = 0, math.inf, 0.0, 0.0, 0.0
        self.opened, self.cpu = 0, 0.0
        self.steps, self.failed, self.waits = collections.Counter(), collections.Counter(), collections.Counter()
        self.answered, self.lost = collections.Counter(), collections.Counter()
        self.warm_up = {"ok": 0, "failed": 0}
        self.first: list[tuple[float, str, str]] = []
        self._lock = threading.Lock()

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def add(self, begin: float, end: float, kind: str = "", detail: str = "") -> None:
        """Count one request that was sent at ``begin`` and ended at ``end``; ``kind`` is empty for a right answer."""
        with self._lock:
            if begin < 0:
                self.warm_up["failed" if kind else "ok"] += 1
                return
            self.last = max(self.last, end)
            if kind:
                self.failed[kind] += 1
                self.lost[int(end * PARTS)] += 1
                if len(self.first) < MOST_FIRST:
                    self.first.append((end, kind, detail))
                return
            spent = end - begin
            self.ok += 1
            self.late += end > self.seconds
            self.total += spent
            self.lowest, self.highest = min(self.lowest, spent), max(self.highest, spent)
            self.steps[math.floor(math.log(max(spent, 1e-9)) * STEPS)] += 1
            self.answered[int(end * PARTS)] += 1

    def wait(self, why: str) -> None:
        with self._lock:
            self.waits[why] += 1

    def close(self, opened: int) -> None:
        """Count the connections of a client that is done."""
        with self._lock:
            self.opened += opened

    def merge(self, other: Tally) -> None:
        self.ok, self.total, self.opened, self.cpu = self.ok + other.ok, self.total + other.total, self.opened + other.opened, self.cpu + other.cpu
        self.late += other.late
        self.lowest, self.highest, self.last = min(self.lowest, other.lowest), max(self.highest, other.highest), max(self.last, other.last)
        for name in ("steps", "failed", "waits", "answered", "lost"):
            getattr(self, name).update(getattr(other, name))
        for name, count in other.warm_up.items():
            self.warm_up[name] += count
        self.first = sorted(self.first + other.first)[:MOST_FIRST]

    def latency(self) -> dict:
        """Return min, mean, p50, p90, p95, p99 and max in milliseconds; the percentiles are right to 1 %. Empty if nothing was answered."""
        if not self.ok:
            return {}
        found = {f"p{percent}": _milliseconds(self._percentile(percent)) for percent in PERCENTILES}
        ends = {"min": _milliseconds(self.lowest), "mean": _milliseconds(self.total / self.ok)}
        return ends | found | {"max": _milliseconds(self.highest)}

    def _percentile(self, percent: int) -> float:
        seen, wanted = 0, math.ceil(self.ok * percent / 100)
        for step in sorted(self.steps):
            seen += self.steps[step]
            if seen >= wanted:
                return min(max(math.exp((step + 0.5) / STEPS), self.lowest), self.highest)
        return self.highest

    def timeline(self) -> list[dict]:
        """Return second, ok and failed of each second in which requests could end, those without any too."""
        if not self.ok + self.failed.total():
            return []
        seconds: dict[int, list[int]] = {number: [0, 0] for number in range(int(self.last) + 1)}
        for place, counted in enumerate((self.answered, self.lost)):
            for part, count in counted.items():
                seconds[part // PARTS][place] += count
        return [{"second": number, "ok": ok, "failed": failed} for number, (ok, failed) in seconds.items()]

    def longest_gap(self) -> float:
        """Return for how many seconds, at the longest, no right answer came; right to a tenth."""
        longest = before = 0
        for part in [*sorted(self.answered), int(self.last * PARTS)]:
            longest, before = max(longest, part - before), part
        return max(0, longest - 1) / PARTS if self.answered else round(self.last, 1)

    def report(self, started: datetime.datetime) -> dict:
        """Return the counts as a report has them; ``started``: the time (UTC) that the counting began at."""
        lost, seconds = self.failed.total(), min(self.last, self.seconds)
        return {
            "started": f"{started:%Y-%m-%dT%H:%M:%SZ}",
            "seconds": round(seconds, 3),
            "sent": self.ok + lost,
            "ok": self.ok,
            "lost": lost,
            "failed": dict(self.failed.most_common()),
            "first": [
                {"time": (started + datetime.timedelta(seconds=when)).strftime("%H:%M:%S.%f")[:-3], "kind": kind, "detail": detail}
                for when, kind, detail in self.first
            ],
            "throughput": round((self.ok - self.late) / seconds, 1) if seconds else 0.0,
            "latency": self.latency(),
            "longest_gap": self.longest_gap(),
            "opened": self.opened,
            "warm_up": dict(self.warm_up),
            "timeline": self.timeline(),
        }


def _milliseconds(seconds: float) -> float:
    return float(f"{seconds * 1000:.4g}")
