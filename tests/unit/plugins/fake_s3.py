# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small S3 in this process, for the real SDK: objects in one request each, listings, copies, tags, and refusals."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import http.server
import math
import threading
import xml.etree.ElementTree
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclasses.dataclass
class Stored:
    """An object; ``etag`` is the MD5 of its content if none is given."""

    content: bytes = b"x"
    metadata: dict = dataclasses.field(default_factory=dict)
    etag: str = ""
    modified: datetime.datetime = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)

    def __post_init__(self):
        self.etag = self.etag or hashlib.md5(self.content).hexdigest()


@dataclasses.dataclass
class Failure:
    """The answer to the next ``times`` requests that begin with ``line``; without a code it has no body, ``region`` is the bucket's."""

    status: int
    code: str = ""
    line: str = ""
    times: float = math.inf
    region: str = ""


class S3(http.server.ThreadingHTTPServer):
    """``buckets`` maps a bucket to {key: Stored}, ``tags`` to its tagging document.

    ``region``, if set, is the only one to sign for, and ``kept`` are the keys that nobody may delete.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.buckets, self.tags, self.requests, self.not_empty, self.region, self.kept = {}, {}, [], False, "", set()
        self.failure: Failure | None = None
        self._lock, self._now = threading.Lock(), datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)

    def writes(self) -> list[str]:
        return [line for line in self.requests if not line.startswith(("GET", "HEAD"))]

    def failing(self, line: str) -> Failure | None:
        with self._lock:
            if not self.failure or not self.failure.times or not line.startswith(self.failure.line):
                return None
            self.failure.times -= 1
            return self.failure

    def write(self, objects: dict, key: str, content: bytes, metadata: dict) -> str:
        """Keep an object, a second younger than the one before it."""
        with self._lock:
            self._now += datetime.timedelta(seconds=1)
            objects[key] = Stored(content, metadata, modified=self._now)
            return objects[key].etag


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        """Keep the test's output clean."""

    def answer(self, status: int, body: str | bytes = "", **headers) -> None:
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")

    def error(self, status: int, code: str, region: str = "") -> None:
        # A redirect names the region in a header, a complaint about the signature in its body.
        about = f"<Region>{region}</Region>" if region and status != 301 else ""
        body = f"<Error><Code>{code}</Code><Message>said the store</Message>{about}</Error>" if code else ""
        self.answer(status, body, **({"x_amz_bucket_region": region} if region and status == 301 else {}))

    def handle_request(self) -> None:
        url = urlsplit(self.path)
        _empty, bucket, *rest = unquote(url.path).split("/", 2)
        key, query = (rest or [""])[0], parse_qs(url.query, keep_blank_values=True)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line = f"{self.command} {unquote(self.path)}"
        self.server.requests.append(line)
        failure = self.server.failing(line)
        if failure:
            return self.error(failure.status, failure.code, failure.region)
        if self.server.region and f"/{self.server.region}/s3/" not in self.headers["Authorization"]:
            return self.error(400, "AuthorizationHeaderMalformed", self.server.region)
        objects = self.server.buckets.get(bucket)
        if self.command == "PUT" and not key and "tagging" not in query:
            self.server.buckets[bucket] = {}
            return self.answer(200)
        if objects is None:
            return self.error(404, "NoSuchBucket")
        return self.on_object(objects, key, body) if key else self.on_bucket(bucket, objects, query, body)

    def on_object(self, objects: dict, key: str, body: bytes) -> None:
        if self.command == "PUT":
            return self.put(objects, key, body)
        if key not in objects:
            return self.error(404, "NoSuchKey")
        stored = objects[key]
        return self.answer(200, stored.content, ETag=f'"{stored.etag}"', **stored.metadata)

    def put(self, objects: dict, key: str, body: bytes) -> None:
        metadata = {name.lower(): value for name, value in self.headers.items() if name.lower().startswith("x-amz-meta-")}
        source = self.headers.get("x-amz-copy-source")
        if not source:
            return self.answer(200, ETag=f'"{self.server.write(objects, key, body, metadata)}"')
        found = objects.get(unquote(source).split("/", 1)[1])
        if not found or self.headers["x-amz-copy-source-if-match"] != f'"{found.etag}"':
            return self.error(412, "PreconditionFailed")
        etag = self.server.write(objects, key, found.content, metadata)
        return self.answer(200, f"<CopyObjectResult><ETag>&quot;{etag}&quot;</ETag></CopyObjectResult>")

    def on_bucket(self, bucket: str, objects: dict, query: dict, body: bytes) -> None:
        if "tagging" in query:
            if self.command == "PUT":
                self.server.tags[bucket] = body.decode()
                return self.answer(200)
            tags = self.server.tags.get(bucket)
            return self.answer(200, tags) if tags else self.error(404, "NoSuchTagSet")
        if self.command == "POST":
            keys = [element.text for element in xml.etree.ElementTree.fromstring(body).iter() if element.tag.endswith("Key")]
            for key in keys:
                if key not in self.server.kept:
                    objects.pop(key, None)
            errors = [f"<Error><Key>{escape(key)}</Key><Code>AccessDenied</Code></Error>" for key in keys if key in self.server.kept]
            return self.answer(200, f"<DeleteResult>{''.join(errors)}</DeleteResult>")
        if "uploads" in query:
            return self.answer(200, "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
        if "versions" in query:
            return self.answer(200, "<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>")
        if self.command == "DELETE":
            if self.server.not_empty:
                return self.error(409, "BucketNotEmpty")
            del self.server.buckets[bucket]
            return self.answer(204)
        return self.answer(200, listing(objects, query.get("prefix", [""])[0], query.get("delimiter", [""])[0]))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request


def listing(objects: dict[str, Stored], prefix: str, delimiter: str) -> str:
    rows, folders = [], set()
    for key, stored in sorted(objects.items()):
        if key.startswith(prefix):
            head, found, _tail = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if found:
                folders.add(prefix + head + delimiter)
            else:
                about = f"<Key>{escape(key)}</Key><Size>{len(stored.content)}</Size><ETag>&quot;{stored.etag}&quot;</ETag>"
                rows.append(f"<Contents>{about}<LastModified>{stored.modified:%Y-%m-%dT%H:%M:%S}.000Z</LastModified></Contents>")
    rows += [f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in sorted(folders)]
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(rows)}</ListBucketResult>"
