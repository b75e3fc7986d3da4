# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries the steps of a plan out: side by side, in bounded memory, each object verified. PRIVATE to the collection."""

from __future__ import annotations

import collections
import hashlib
import re
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from ansible_collections.mlserving.triton.plugins.module_utils import _file_digest
from ansible_collections.mlserving.triton.plugins.module_utils._file_digest import PART, Digest, Digests, FileError
from ansible_collections.mlserving.triton.plugins.module_utils._repository_plan import Step
from ansible_collections.mlserving.triton.plugins.module_utils._s3 import SHA256, S3Error, Store

#: Bytes of files' content that are in memory at a time, over all threads.
MEMORY = 8 * PART
MD5 = re.compile(r"[0-9a-f]{32}")


class OpaqueEtags(Exception):
    """The store's ETags do not tell the content, so a checksum has to go into the metadata."""


class Budget:
    """A number of bytes that threads share; one that asks for more than there is gets it when nobody else holds any."""

    def __init__(self, total: int):
        self._total, self._free, self._changed = total, total, threading.Condition()

    def take(self, size: int) -> int:
        size = min(size, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        return size

    def give(self, size: int) -> None:
        with self._changed:
            self._free += size
            self._changed.notify_all()


class Transfer:
    """Writes objects to a store.

    :param parallel: how many requests run at a time
    """

    def __init__(self, store: Store, digests: Digests, parallel: int):
        self._store, self._digests, self._parallel, self._budget = store, digests, parallel, Budget(MEMORY)
        self._opaque = False

    def run(self, steps: list[Step]) -> None:
        """Write the objects.

        :raises S3Error: the store refuses; the objects that were written stay
        :raises FileError: a file cannot be read, or changed
        """
        large = [step for step in steps if not step.source and step.file.size > PART]
        rest = [step for step in steps if step.source or step.file.size <= PART]
        with ThreadPoolExecutor(self._parallel) as pool:
            try:
                # One after the other and before the rest: their parts already keep all threads busy, and hold memory while they wait.
                for step in large:
                    self._in_parts(step, pool)
                futures = [pool.submit(self._one, step) for step in rest]
                for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                    future.result()
            except BaseException:
                self._store.give_up()
                pool.shutdown(cancel_futures=True)
                raise
        lost = [Step(step.file, step.key, step.digest) for step, future in zip(rest, futures) if not future.result()]
        if lost:
            self.run(lost)

    def _one(self, step: Step) -> bool:
        """Write one object; return false if it was to be copied and there is no such object any more."""
        if step.source:
            key, etag = step.source
            return self._store.copy(key, step.key, step.file.size, etag, step.digest.sha256) is not None
        held = self._budget.take(step.file.size)
        try:
            (content,) = _file_digest.parts(step.file)
            found = Digest(hashlib.sha256(content).hexdigest(), _file_digest.md5(content).hex())
            if step.digest and step.digest.sha256 != found.sha256:
                raise _file_digest.changed(step.file)
            self._verify(step.key, self._store.put(step.key, content, found.sha256, bytes.fromhex(found.etag)), found)
        finally:
            self._budget.give(held)
        self._digests.remember(step.file, found)
        return True

    def _in_parts(self, step: Step, pool: ThreadPoolExecutor) -> None:
        upload = PartsUpload(self._store, self._digests, self._budget, pool)
        try:
            upload.run(step)
        except OpaqueEtags:
            # Read once more: the checksum has to be known before the upload begins.
            upload.run(Step(step.file, step.key, _file_digest.digest(step.file)))

    def _verify(self, key: str, etag: str, found: Digest) -> None:
        # The content's MD5 went with the request too, so a store whose ETags tell nothing has verified it as well.
        if etag == found.etag or self._opaque or not MD5.fullmatch(etag):
            return
        # With KMS an ETag looks like an MD5 and is none. Reading one object back tells whether this store is such a one.
        if hashlib.sha256(self._store.read(key) or b"").hexdigest() != found.sha256:
            raise S3Error(f"{self._store.where} says that {key} holds something else than what was sent. Run again.")
        self._opaque = True


class PartsUpload:
    """Sends a large file, read once: its parts are sent while the next ones are read and summed up."""

    def __init__(self, store: Store, digests: Digests, budget: Budget, pool: ThreadPoolExecutor):
        self._store, self._digests, self._budget, self._pool = store, digests, budget, pool

    def run(self, step: Step) -> None:
        """Send the file.

        :raises OpaqueEtags: only a checksum in the metadata will tell the content, and ``step`` has none
        """
        target = f"{self._store.where}/{step.key}"
        upload, sent = self._begin(step, target)
        try:
            found, etags = self._send(step, upload, sent)
        except (FileError, OpaqueEtags):
            self._store.abort(step.key, upload)
            self._digests.ended(target)
            raise
        etag = self._store.finish(step.key, upload, list(enumerate(etags, 1)))
        self._digests.ended(target)
        # One that was gone on with may have been begun before the checksum was known.
        if etag != found.etag and not (step.digest and (not sent or (self._store.metadata(step.key) or {}).get(SHA256) == found.sha256)):
            raise OpaqueEtags
        self._digests.remember(step.file, found)

    def _begin(self, step: Step, target: str) -> tuple[str, dict[int, str]]:
        """Return (id of the upload, number -> ETag of the parts that it has already)."""
        pending = self._digests.pending_upload(target, step.file)
        if pending:
            upload, is_this_file = pending
            sent = self._store.parts(step.key, upload) if is_this_file else None
            if sent:
                return upload, sent
            self._store.abort(step.key, upload)
        upload = self._store.begin(step.key, step.digest.sha256 if step.digest else None)
        self._digests.begun(target, step.file, upload)
        return upload, {}

    def _send(self, step: Step, upload: str, sent: dict[int, str]) -> tuple[Digest, list[str]]:
        """Return the file's checksums and the ETags of the parts."""
        total, futures, running = hashlib.sha256(), [], collections.deque()
        try:
            for number, content in enumerate(_file_digest.parts(step.file), 1):
                held = self._budget.take(len(content))
                futures.append(self._pool.submit(self._part, step, upload, number, content, sent.get(number), held))
                running.append(futures[-1])
                if not step.digest:
                    total.update(content)
                while running and running[0].done():
                    running.popleft().result()
            parts = [future.result() for future in futures]
        finally:
            wait(futures)
        digest = step.digest or Digest(total.hexdigest(), _file_digest.etag_of([md5 for _etag, md5 in parts]))
        return digest, [etag for etag, _md5 in parts]

    def _part(self, step: Step, upload: str, number: int, content: bytes, sent: str | None, held: int) -> tuple[str, bytes]:
        """Send one part unless it is there; return its ETag and MD5."""
        try:
            md5 = _file_digest.md5(content)
            if sent == md5.hex():
                return sent, md5
            etag = self._store.put_part(step.key, upload, number, content, md5)
            if etag != md5.hex() and not step.digest:
                raise OpaqueEtags
            return etag, md5
        finally:
            self._budget.give(held)
