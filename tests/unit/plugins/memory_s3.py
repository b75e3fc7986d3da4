# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One bucket of an S3 store in memory, with the verbs of _s3.Store: it can be looked at after every change, and fail at any of them."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import threading

from ansible_collections.mlserving.triton.plugins.module_utils._s3 import SHA256, Listing, Object, S3Error

#: How many entries a page of a listing has.
PAGE = 2


@dataclasses.dataclass(frozen=True)
class Stored:
    content: bytes
    etag: str
    metadata: dict
    modified: datetime.datetime


class MemoryStore:
    """``objects`` maps a key to what it holds, None without a bucket; ``uploads`` an id to (key, metadata, number -> (content, ETag)).

    :param hook: called with (verb, key) after every change, none running beside it
    :param opaque: ETags tell nothing of the content, as with KMS
    :param versioned: what is overwritten or deleted stays in ``versions``: (key, id, whether it marks a deletion)
    """

    region = "us-east-1"
    bucket = "models"
    where = "the bucket models at memory"

    def __init__(self, objects: dict[str, bytes] | None = None, hook=None, opaque: bool = False, versioned: bool = False):
        self.hook, self.opaque, self.versioned = hook, opaque, versioned
        self.objects, self.uploads, self.versions, self.tags = None, {}, [], None
        #: (verb, key) of every request, and how many of them have changed something.
        self.log, self.changes, self.lock = [], 0, threading.RLock()
        self.fail_at, self.after, self.dead, self.given_up, self.vanishing, self.refused = None, False, False, False, False, {}
        if objects is not None:
            self.objects = {}
            for key, content in objects.items():
                self.objects[key] = self._stored(content, {})

    @property
    def requests(self) -> int:
        return len(self.log)

    def sent(self, *verbs: str) -> list[str]:
        """Return the keys of the requests of these verbs, in their order."""
        return [key for verb, key in self.log if verb in verbs]

    def contents(self) -> dict[str, bytes]:
        return {key: stored.content for key, stored in (self.objects or {}).items()}

    def kill_at(self, number: int | None, after: bool = False) -> None:
        """Let the change of this number, counted from now, fail and every request after it; ``after``: it is done, but its answer is lost."""
        self.fail_at, self.after, self.dead = None if number is None else self.changes + number, after, False

    def _etag(self, content: bytes) -> str:
        return hashlib.md5(f"{self.requests} {len(self.uploads)} {self.changes}".encode() if self.opaque else content).hexdigest()

    def _stored(self, content: bytes, metadata: dict, etag: str | None = None) -> Stored:
        # Later with every change, and in the past.
        modified = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(hours=1)
        times = [stored.modified for stored in (self.objects or {}).values()]
        return Stored(content, etag or self._etag(content), metadata, max([modified, *(time + datetime.timedelta(seconds=1) for time in times)]))

    def _request(self, verb: str, key: str) -> None:
        self.log.append((verb, key))
        if self.dead:
            raise S3Error(f"{self.where} does not answer.")
        if verb in self.refused:
            raise S3Error(f"{self.where} refuses: {self.refused[verb]}.")

    def _change(self, verb: str, key: str, apply):
        self.changes += 1
        fails = self.changes == self.fail_at
        if fails and not self.after:
            self.dead = True
        else:
            answer = apply()
            if self.hook:
                self.hook(verb, key)
            self.dead = fails
        if fails:
            raise S3Error(f"{self.where} does not answer any more.")
        return answer

    def _there(self) -> dict[str, Stored]:
        if self.objects is None:
            raise S3Error(f"{self.where}: NoSuchBucket")
        return self.objects

    def give_up(self) -> None:
        self.given_up = True

    def list(self, prefix: str, delimiter: str = "") -> Listing | None:
        with self.lock:
            self._request("list", prefix)
            if self.objects is None:
                return None
            objects, folders = {}, set()
            for key, stored in sorted(self.objects.items()):
                if key.startswith(prefix):
                    head, found, _tail = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
                    if found:
                        folders.add(prefix + head + delimiter)
                    else:
                        objects[key] = Object(len(stored.content), stored.etag, stored.modified)
            return Listing(objects, tuple(sorted(folders)))

    def metadata(self, key: str) -> dict | None:
        with self.lock:
            self._request("head", key)
            stored = self._there().get(key)
            return dict(stored.metadata) if stored else None

    def read(self, key: str) -> bytes | None:
        with self.lock:
            self._request("get", key)
            stored = self._there().get(key)
            return stored.content if stored else None

    def _write(self, key: str, stored: Stored) -> str:
        if self.versioned:
            self.versions.append((key, f"v{len(self.versions)}", False))
        self.objects[key] = stored
        return stored.etag

    def put(self, key: str, body: bytes, sha256: str, md5: bytes) -> str:
        with self.lock:
            self._request("put", key)
            self._there()
            if hashlib.sha256(body).hexdigest() != sha256 or hashlib.md5(body).digest() != md5:
                raise S3Error(f"{self.where}: BadDigest")
            return self._change("put", key, lambda: self._write(key, self._stored(body, {SHA256: sha256})))

    def copy(self, source: str, key: str, size: int, etag: str, sha256: str) -> str | None:
        with self.lock:
            self._request("copy", key)
            if self.vanishing:
                self._there().pop(source, None)
            found = self._there().get(source)
            if not found or found.etag != etag:
                return None
            assert len(found.content) == size and hashlib.sha256(found.content).hexdigest() == sha256, f"{source} is not what {key} is to hold"
            return self._change("copy", key, lambda: self._write(key, self._stored(found.content, {SHA256: sha256})))

    def begin(self, key: str, sha256: str | None) -> str:
        with self.lock:
            self._request("begin", key)
            self._there()
            upload = f"upload-{self.changes}"
            self._change("begin", key, lambda: self.uploads.update({upload: (key, {SHA256: sha256} if sha256 else {}, {})}))
            return upload

    def _upload(self, key: str, upload: str) -> tuple:
        found = self.uploads.get(upload)
        if not found or found[0] != key:
            raise S3Error(f"{self.where}: NoSuchUpload")
        return found

    def put_part(self, key: str, upload: str, number: int, body: bytes, md5: bytes) -> str:
        with self.lock:
            self._request("put_part", f"{key} {number}")
            parts, etag = self._upload(key, upload)[2], self._etag(body)
            if hashlib.md5(body).digest() != md5:
                raise S3Error(f"{self.where}: BadDigest")
            self._change("put_part", key, lambda: parts.update({number: (body, etag)}))
            return etag

    def parts(self, key: str, upload: str) -> dict[int, str] | None:
        with self.lock:
            self._request("parts", key)
            found = self.uploads.get(upload)
            return {number: etag for number, (_content, etag) in found[2].items()} if found and found[0] == key else None

    def finish(self, key: str, upload: str, parts: list[tuple[int, str]]) -> str:
        with self.lock:
            self._request("finish", key)
            _key, metadata, sent = self._upload(key, upload)
            if not parts or [number for number, _etag in parts] != sorted({number for number, _etag in parts}):
                raise S3Error(f"{self.where}: InvalidPartOrder")
            if any(number not in sent or sent[number][1] != etag for number, etag in parts):
                raise S3Error(f"{self.where}: InvalidPart")
            contents = [sent[number][0] for number, _etag in parts]
            joined = hashlib.md5(b"".join(hashlib.md5(content).digest() for content in contents)).hexdigest()
            etag = f"{self._etag(b'') if self.opaque else joined}-{len(contents)}"

            def apply() -> str:
                del self.uploads[upload]
                return self._write(key, self._stored(b"".join(contents), metadata, etag))

            return self._change("finish", key, apply)

    def abort(self, key: str, upload: str) -> None:
        with self.lock:
            self._request("abort", key)
            if upload in self.uploads and self.uploads[upload][0] == key:
                self._change("abort", key, lambda: self.uploads.pop(upload))

    def delete(self, keys: list[str]) -> None:
        self.delete_versions([{"Key": key} for key in keys])

    def delete_versions(self, entries: list[dict]) -> None:
        """Delete one after the other, in an order of its own as a store has it."""
        with self.lock:
            if entries:
                self._request("delete", " ".join(entry["Key"] for entry in entries))
                self._there()
            for entry in sorted(entries, key=lambda each: hashlib.md5(each["Key"].encode()).digest()):
                if entry.get("VersionId"):
                    kept = [each for each in self.versions if each[:2] != (entry["Key"], entry["VersionId"])]
                    self._change("delete", entry["Key"], lambda kept=kept: setattr(self, "versions", kept))
                elif entry["Key"] in self.objects:
                    self._change("delete", entry["Key"], lambda key=entry["Key"]: self._delete(key))

    def _delete(self, key: str) -> None:
        if self.versioned:
            self.versions.append((key, f"v{len(self.versions)}", True))
        del self.objects[key]

    def call(self, doing: str, operation: str, absent: tuple[str, ...] = (), **arguments) -> dict | None:
        with self.lock:
            self._request(operation, "")
            code, answer = getattr(self, f"_{operation}")(**arguments)
            if code and code not in absent:
                raise S3Error(f"{self.where} cannot {doing}: {code}")
            return None if code else answer

    def _create_bucket(self, CreateBucketConfiguration: dict | None = None) -> tuple:
        if self.objects is not None:
            return "BucketAlreadyOwnedByYou", {}
        assert (CreateBucketConfiguration or {}).get("LocationConstraint", "us-east-1") == self.region
        self._change("create_bucket", "", lambda: setattr(self, "objects", {}))
        return "", {}

    def _put_bucket_tagging(self, Tagging: dict) -> tuple:
        self._there()
        self._change("put_bucket_tagging", "", lambda: setattr(self, "tags", Tagging["TagSet"]))
        return "", {}

    def _get_bucket_tagging(self) -> tuple:
        if self.objects is None:
            return "NoSuchBucket", {}
        return ("", {"TagSet": self.tags}) if self.tags else ("NoSuchTagSet", {})

    def _delete_bucket(self) -> tuple:
        if self.objects is None:
            return "NoSuchBucket", {}
        if self.objects or self.versions or self.uploads:
            return "BucketNotEmpty", {}
        self._change("delete_bucket", "", lambda: setattr(self, "objects", None))
        return "", {}

    def pages(self, doing: str, operation: str, absent: tuple[str, ...] = (), Prefix: str = ""):
        """Yield pages of PAGE entries; one that is empty for nothing."""
        with self.lock:
            self._request(operation, Prefix)
            if self.objects is None:
                if "NoSuchBucket" in absent:
                    return
                raise S3Error(f"{self.where} cannot {doing}: NoSuchBucket")
            entries = [each for each in getattr(self, f"_{operation}")() if each[1]["Key"].startswith(Prefix)]
        for start in range(0, max(len(entries), 1), PAGE):
            page: dict = {"IsTruncated": start + PAGE < len(entries)}
            for kind, entry in entries[start : start + PAGE]:
                page.setdefault(kind, []).append(entry)
            yield page

    def _list_objects_v2(self) -> list[tuple[str, dict]]:
        return [("Contents", {"Key": key, "Size": len(stored.content)}) for key, stored in sorted(self.objects.items())]

    def _list_multipart_uploads(self) -> list[tuple[str, dict]]:
        return [("Uploads", {"Key": key, "UploadId": upload}) for upload, (key, _metadata, _parts) in sorted(self.uploads.items())]

    def _list_object_versions(self) -> list[tuple[str, dict]]:
        return [("DeleteMarkers" if marker else "Versions", {"Key": key, "VersionId": version}) for key, version, marker in sorted(self.versions)]
