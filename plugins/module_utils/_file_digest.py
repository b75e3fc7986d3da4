# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checksums of local files, in the two forms that a store knows, and a cache of them. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.mlserving.triton.plugins.module_utils._model_tree import File

try:
    import sqlite3
except ImportError:
    sqlite3 = None  # a Python built without it: nothing is remembered

#: Bytes. A larger file is sent in parts of this size, and is in memory one part at a time.
PART = 8 << 20
#: S3 takes 10,000 parts at most.
MOST_PARTS = 9_000
#: Seconds. A file that changed so lately may change again without its times telling.
SETTLED = 2
#: Seconds for which the cache remembers.
KEPT = 90 * 24 * 3600


class FileError(Exception):
    """A file cannot be read, or changed meanwhile. The text names it and says what to do."""


@dataclasses.dataclass(frozen=True)
class Digest:
    """``sha256`` of the content in hexadecimal; ``etag`` as a store without encryption computes it when this collection uploads."""

    sha256: str
    etag: str


def part_size(size: int) -> int:
    """Return the size of the parts in which a file of ``size`` bytes is sent; it depends on nothing else, so the ETag is known beforehand."""
    # Rounded up to whole MiB.
    return PART if size <= PART * MOST_PARTS else -(-size // (MOST_PARTS << 20)) << 20


def parts(file: File):
    """Yield the content of a file part by part; at least one part, which may be empty.

    :raises FileError: the file cannot be read, or is not the one that was looked at before
    """
    if file.content is not None:
        yield file.content
        return
    size = part_size(file.size)
    try:
        with open(file.path, "rb") as stream:
            yield stream.read(size)
            for _number in range(1, -(-file.size // size)):
                yield stream.read(size)
            found, more = os.fstat(stream.fileno()), stream.read(1)
    except OSError as error:
        raise FileError(f"{file.path} cannot be read: {error.strerror}. Mend that, then run again.") from None
    if more or (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size) != (*file.identity, file.size):
        raise changed(file)


def changed(file: File) -> FileError:
    """Return the error for a file that is not the one that was looked at."""
    return FileError(f"{file.path} changed while it was read. Run again when nothing writes to it any more.")


def etag_of(sums: list[bytes]) -> str:
    """Return the ETag of an object from the MD5 sums of its parts, as S3 computes it."""
    return sums[0].hex() if len(sums) == 1 else f"{hashlib.md5(b''.join(sums), usedforsecurity=False).hexdigest()}-{len(sums)}"


def md5(content: bytes) -> bytes:
    """Return the MD5 of a content, 16 bytes; it is compared with what a store says and protects nothing."""
    return hashlib.md5(content, usedforsecurity=False).digest()


def digest(file: File) -> Digest:
    """Return the checksums of a file, read once.

    :raises FileError: see parts
    """
    total, sums = hashlib.sha256(), []
    if file.size <= PART:
        for content in parts(file):
            total.update(content)
            sums.append(md5(content))
        return Digest(total.hexdigest(), etag_of(sums))
    # The two sums of a large file are taken side by side.
    with ThreadPoolExecutor(1) as aside:
        pending = None
        for content in parts(file):
            if pending:
                sums.append(pending.result())
            pending = aside.submit(md5, content)
            total.update(content)
        sums.append(pending.result())
    return Digest(total.hexdigest(), etag_of(sums))


class Digests:
    """Computes checksums in parallel and remembers them from run to run, by size, inode and times of a file.

    :param folder: of the cache; None, or one that cannot be used, means that nothing is remembered
    """

    def __init__(self, folder: str | None, parallel: int):
        self._parallel = parallel
        self._known: dict[str, Digest] = {}
        self._fresh: dict[str, Digest] = {}
        self._database = self._open(folder) if folder and sqlite3 else None
        if self._database:
            with contextlib.suppress(sqlite3.Error):
                self._known = {name: Digest(sha256, etag) for name, sha256, etag in self._database.execute("SELECT identity, sha256, etag FROM digests")}

    @staticmethod
    def _open(folder: str):
        # A cache that cannot be used costs time and nothing else, so it is done without.
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            database = sqlite3.connect(os.path.join(folder, "digests.sqlite"), timeout=5, check_same_thread=False)
            database.execute("CREATE TABLE IF NOT EXISTS digests (identity TEXT PRIMARY KEY, sha256 TEXT, etag TEXT, computed INTEGER)")
            database.execute("CREATE TABLE IF NOT EXISTS uploads (object TEXT PRIMARY KEY, identity TEXT, upload TEXT)")
            return database
        except (OSError, sqlite3.Error):
            return None

    def known(self, file: File) -> Digest | None:
        """Return the checksums of a file if they are remembered, without reading it."""
        return self._known.get(_identity(file)) if file.identity else None

    def of(self, files: list[File]) -> dict[str, Digest]:
        """Return name -> checksums, reading what is not remembered.

        :raises FileError: see parts
        """
        found = {file.name: self.known(file) for file in files}
        unknown = [file for file in files if found[file.name] is None]
        if unknown:
            with ThreadPoolExecutor(self._parallel) as pool:
                for file, computed in zip(unknown, pool.map(digest, unknown)):
                    found[file.name] = computed
                    self.remember(file, computed)
        return found

    def remember(self, file: File, computed: Digest) -> None:
        """Keep the checksums of a file, unless it changed a moment ago."""
        if file.identity and file.identity[3] < time.time_ns() - SETTLED * 10**9:
            self._known[_identity(file)] = self._fresh[_identity(file)] = computed

    def pending_upload(self, target: str, file: File) -> tuple[str, bool] | None:
        """Return (id, whether it is for this very file) of an upload in parts to ``target`` that was begun and not finished."""
        row = self._execute("SELECT upload, identity FROM uploads WHERE object = ?", target)
        return (row[0], row[1] == _identity(file)) if row else None

    def begun(self, target: str, file: File, upload: str) -> None:
        """Keep the id of an upload in parts, so that a run after this one can go on with it."""
        if file.identity:
            self._execute("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?)", target, _identity(file), upload)

    def ended(self, target: str) -> None:
        """Forget an upload in parts."""
        self._execute("DELETE FROM uploads WHERE object = ?", target)

    def _execute(self, statement: str, *values: str):
        if not self._database:
            return None
        with contextlib.suppress(sqlite3.Error), self._database:
            return self._database.execute(statement, values).fetchone()
        return None

    def save(self) -> None:
        """Write down what was computed, and drop what is old."""
        if self._database:
            now = int(time.time())
            rows = [(identity, each.sha256, each.etag, now) for identity, each in self._fresh.items()]
            with contextlib.suppress(sqlite3.Error), self._database:
                self._database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?)", rows)
                self._database.execute("DELETE FROM digests WHERE computed < ?", (now - KEPT,))


def _identity(file: File) -> str:
    return "-".join(map(str, (*file.identity, file.size))) if file.identity else ""
