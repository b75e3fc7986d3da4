# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One bucket of an S3 store: its verbs, with retries, and its errors in words. PRIVATE to the collection."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import hashlib
import os
import random
import re
import socket
import threading
import time
import traceback
import xml.etree.ElementTree
from urllib.parse import quote

from ansible_collections.mlserving.triton.plugins.module_utils._s3_errors import S3Error, code_of, explained, is_transient
from ansible_collections.mlserving.triton.plugins.module_utils._s3_url import Location

try:
    import botocore.auth
    import botocore.awsrequest
    import botocore.config
    import botocore.exceptions
    import botocore.httpsession
    import botocore.session
    import botocore.utils
    from botocore.exceptions import BotoCoreError, ClientError

    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

REQUIREMENT = "boto3>=1.38"
#: Seconds for connecting and for reading one answer.
CONNECT_TIMEOUT, READ_TIMEOUT = 5, 60
#: Seconds for which a store that has never answered is tried again: most often its address is wrong.
FIRST_PATIENCE = 5
#: Seconds before the first and between later tries, at most; the real pause is a random part of it.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
#: The most keys that one DeleteObjects request takes.
DELETE_AT_ONCE = 1000
#: Bytes. A larger object is copied in parts of this size.
COPY_AT_ONCE = 5 << 30
SOURCE_CHANGED = ("NoSuchKey", "PreconditionFailed", "404", "412")
REDIRECTS = ("301", "PermanentRedirect", "AuthorizationHeaderMalformed")
ADDRESSING = ("auto", "path", "virtual")
#: The name, in an object's metadata, of its content's SHA-256.
SHA256 = "sha256"


@dataclasses.dataclass(frozen=True)
class Object:
    """An object as a listing shows it; ``size`` is in bytes."""

    size: int
    etag: str
    modified: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
    """What lies below a prefix. ``folders`` are the common prefixes, if a delimiter was given."""

    objects: dict[str, Object]
    folders: tuple[str, ...] = ()


class ChangedError(Exception):
    """An object that was to be copied is not there any more, or holds something else."""


class Store:
    """A bucket and what its errors need: where it is, and as whom we speak.

    :param endpoint_url: the store as the controller reaches it; None takes the one in ``location``, or AWS
    :param credentials: access_key_id, secret_access_key, session_token; all None means the SDK's own chain
    :param parallel: how many requests may run at a time
    :param retry_seconds: for how long a request is sent again while the store does not answer or is overloaded
    :raises S3Error: no client can be made of this
    """

    def __init__(
        self,
        location: Location,
        credentials: dict,
        endpoint_url: str | None = None,
        region: str | None = None,
        parallel: int = 32,
        profile: str | None = None,
        addressing: str = "auto",
        ca_bundle: str | None = None,
        retry_seconds: float = 60,
    ):
        self.bucket = location.bucket
        self.endpoint = (endpoint_url or location.endpoint or "").rstrip("/") or None
        if self.endpoint and not re.fullmatch(r"https?://[^/\s@?#]+", self.endpoint):
            raise S3Error(f"endpoint_url {self.endpoint} cannot be used. Expected http://HOST:PORT or https://HOST:PORT.")
        if ca_bundle and not os.access(ca_bundle, os.R_OK):
            raise S3Error(f"ca_bundle {ca_bundle} cannot be read. Give the path of a file with PEM certificates.")
        self.key_id = ""
        self._retry_seconds, self._patience, self._given_up = retry_seconds, min(FIRST_PATIENCE, retry_seconds), threading.Event()
        self._requests, self._lock = 0, threading.Lock()
        with self.explained("be used"):
            # What boto3 is made of, without its own start, which takes longer than a request.
            session = botocore.session.Session(profile=profile)
            session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_parse_time)
            self._credentials = _credentials_of(session, credentials)
            self.key_id = self._credentials.access_key or ""
            self._client = session.create_client(
                "s3", region, endpoint_url=self.endpoint, verify=ca_bundle, config=self._config(addressing, parallel)
            )
            self._client.meta.events.register_first("needs-retry.s3", _refuse_redirect)
            self._base = self._client.generate_presigned_url("get_object", Params={"Bucket": self.bucket, "Key": "k"}).partition("?")[0][:-1]
            self._http = botocore.httpsession.URLLib3Session(
                verify=ca_bundle or os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE") or True,
                proxies=botocore.utils.get_environ_proxies(self._base),
                timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
                max_pool_connections=max(10, parallel),
                # As in the SDK's own clients: else each body waits for the acknowledgement of its headers, 40 ms.
                socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            )

    def _config(self, addressing: str, parallel: int) -> "botocore.config.Config":
        options = {}
        if self.endpoint:
            # Compatible stores know, in many cases, neither bucket host names nor the newer checksum headers.
            addressing = "path" if addressing == "auto" else addressing
            options = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
        return botocore.config.Config(
            # Tried again here, by _persist, in the same way for every verb.
            retries={"total_max_attempts": 1},
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            max_pool_connections=max(10, parallel),
            signature_version="s3v4",
            # Only the options name the store: a variable such as AWS_ENDPOINT_URL is not read by Triton either.
            ignore_configured_endpoint_urls=True,
            s3={"addressing_style": addressing},
            **options,
        )

    @property
    def region(self) -> str:
        name = self._client.meta.region_name
        return "us-east-1" if name in (None, "aws-global") else name

    @property
    def where(self) -> str:
        return f"the bucket {self.bucket} at {self.endpoint or 'AWS'}"

    @property
    def requests(self) -> int:
        """How many requests were sent so far."""
        return self._requests

    @contextlib.contextmanager
    def explained(self, doing: str):
        """Turn the SDK's errors inside the block into S3Error. ``doing`` completes 'the bucket X at Y cannot ...'."""
        try:
            yield
        except (ClientError, BotoCoreError, ValueError) as error:
            raise explained(error, f"{self.where} cannot {doing}", self.key_id) from None

    def give_up(self) -> None:
        """Let every request that waits for its next try fail now: another one has failed for good."""
        self._given_up.set()

    def _persist(self, attempt):
        """Call ``attempt`` until it succeeds, fails for good or the patience ends."""
        deadline, pause = time.monotonic() + self._patience, FIRST_PAUSE
        while True:
            with self._lock:
                self._requests += 1
            try:
                answer = attempt()
            except (ClientError, BotoCoreError) as error:
                if not is_transient(error) or time.monotonic() + pause > deadline or self._given_up.wait(random.uniform(0, pause)):
                    raise
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self._patience = self._retry_seconds
                return answer

    def call(self, doing: str, operation: str, absent: tuple[str, ...] = (), **arguments) -> dict | None:
        """Send a request of the SDK's client for this bucket.

        :param doing: completes 'the bucket X at Y cannot ...'
        :param absent: error codes for which None is returned
        :raises S3Error: the store refuses or does not answer
        """
        send = getattr(self._client, operation)
        with self.explained(doing):
            try:
                return self._persist(lambda: send(Bucket=self.bucket, **arguments))
            except ClientError as error:
                if code_of(error) in absent:
                    return None
                raise

    def pages(self, doing: str, operation: str, absent: tuple[str, ...] = (), **arguments):
        """Yield the pages of a listing operation of the SDK's client; nothing for the error codes in ``absent``."""
        while True:
            page = self.call(doing, operation, absent, **arguments)
            if page is None:
                return
            yield page
            if not page.get("IsTruncated"):
                return
            # In each of these operations NextX of one page is X of the next request.
            arguments |= {name.removeprefix("Next"): value for name, value in page.items() if name.startswith("Next")}

    def list(self, prefix: str, delimiter: str = "") -> Listing | None:
        """Return what lies below a prefix, or None if the bucket does not exist.

        :raises S3Error: the store refuses or does not answer
        """
        objects, folders, page = {}, [], None
        for page in self.pages("be listed", "list_objects_v2", ("NoSuchBucket",), Prefix=prefix, **({"Delimiter": delimiter} if delimiter else {})):
            for entry in page.get("Contents", ()):
                objects[entry["Key"]] = Object(entry["Size"], entry.get("ETag", "").strip('"'), entry.get("LastModified"))
            folders += [entry["Prefix"] for entry in page.get("CommonPrefixes", ())]
        return None if page is None else Listing(objects, tuple(folders))

    def metadata(self, key: str) -> dict | None:
        """Return an object's metadata, or None if there is no such object."""
        answer = self.call("be asked for an object", "head_object", ("404", "NoSuchKey"), Key=key)
        return answer["Metadata"] if answer else None

    def read(self, key: str) -> bytes | None:
        """Return an object's content, or None if there is no such object."""
        answer = self.call("be read", "get_object", ("NoSuchKey",), Key=key)
        return answer["Body"].read() if answer else None

    def put(self, key: str, body: bytes, sha256: str, md5: bytes) -> str:
        """Write an object in one request, its content verified by the store, and return its ETag.

        :param sha256: of the body, in hexadecimal
        :param md5: of the body, 16 bytes
        :raises S3Error: the store refuses or does not answer
        """
        headers = {f"x-amz-meta-{SHA256}": sha256, "X-Amz-Content-SHA256": sha256, "Content-MD5": base64.b64encode(md5).decode()}
        with self.explained("be written to"):
            answer = self._persist(lambda: self._send(key, headers, body))
        return answer.headers.get("ETag", "").strip('"')

    def _send(self, key: str, headers: dict, body: bytes) -> "botocore.awsrequest.AWSResponse":
        """Send a PUT of an object. The SDK's own put_object takes three times the processor time, which 10,000 small files feel."""
        request = botocore.awsrequest.AWSRequest("PUT", self._base + quote(key, safe="/~"), headers, body)
        botocore.auth.S3SigV4Auth(self._credentials.get_frozen_credentials(), "s3", self.region).add_auth(request)
        answer = self._http.send(request.prepare())
        # An answer of 200 to a copy may carry an error all the same.
        if answer.status_code >= 300 or b"<Error>" in answer.content[:200]:
            raise _client_error(answer)
        return answer

    def copy(self, source: str, key: str, size: int, etag: str, sha256: str) -> str | None:
        """Copy an object in the bucket and return the copy's ETag, or None if there is no such object with that ETag any more.

        :param sha256: of the content, for the copy's metadata
        :raises S3Error: the store refuses or does not answer
        """
        try:
            with self.explained("copy an object"):
                return self._copy_in_parts(source, key, size, etag, sha256) if size > COPY_AT_ONCE else self._copy(source, key, etag, sha256)
        except ChangedError:
            return None

    def _copy(self, source: str, key: str, etag: str, sha256: str) -> str:
        headers = {
            "x-amz-copy-source": quote(f"{self.bucket}/{source}", safe="/~"),
            "x-amz-copy-source-if-match": f'"{etag}"',
            "x-amz-metadata-directive": "REPLACE",
            f"x-amz-meta-{SHA256}": sha256,
            "X-Amz-Content-SHA256": hashlib.sha256(b"").hexdigest(),
        }
        try:
            answer = self._persist(lambda: self._send(key, headers, b""))
        except ClientError as error:
            raise ChangedError if code_of(error) in SOURCE_CHANGED else error from None
        found = next((element.text for element in xml.etree.ElementTree.fromstring(answer.content).iter() if element.tag.endswith("ETag")), "")
        return (found or "").strip('"')

    def _copy_in_parts(self, source: str, key: str, size: int, etag: str, sha256: str) -> str:
        upload, done = self.begin(key, sha256), []
        for number, start in enumerate(range(0, size, COPY_AT_ONCE), 1):
            answer = self.call(
                "copy an object",
                "upload_part_copy",
                SOURCE_CHANGED,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                CopySource={"Bucket": self.bucket, "Key": source},
                CopySourceIfMatch=etag,
                CopySourceRange=f"bytes={start}-{min(start + COPY_AT_ONCE, size) - 1}",
            )
            if answer is None:
                self.abort(key, upload)
                raise ChangedError
            done.append((number, answer["CopyPartResult"]["ETag"].strip('"')))
        return self.finish(key, upload, done)

    def begin(self, key: str, sha256: str | None) -> str:
        """Begin an upload in parts and return its id."""
        metadata = {SHA256: sha256} if sha256 else {}
        return self.call("be written to", "create_multipart_upload", Key=key, Metadata=metadata)["UploadId"]

    def put_part(self, key: str, upload: str, number: int, body: bytes, md5: bytes) -> str:
        """Write a part, its content verified by the store, and return its ETag."""
        answer = self.call(
            "be written to", "upload_part", Key=key, UploadId=upload, PartNumber=number, Body=body, ContentMD5=base64.b64encode(md5).decode()
        )
        return answer["ETag"].strip('"')

    def parts(self, key: str, upload: str) -> dict[int, str] | None:
        """Return the parts that an upload has, number -> ETag, or None if there is no such upload any more."""
        found = None
        for page in self.pages("be asked for an upload's parts", "list_parts", ("NoSuchUpload", "404", "NoSuchKey"), Key=key, UploadId=upload):
            found = found or {}
            found |= {part["PartNumber"]: part["ETag"].strip('"') for part in page.get("Parts", ())}
        return found

    def finish(self, key: str, upload: str, parts: list[tuple[int, str]]) -> str:
        """Put an upload's parts together and return the object's ETag."""
        listed = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in parts]}
        return self.call("be written to", "complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload=listed)["ETag"].strip('"')

    def abort(self, key: str, upload: str) -> None:
        """Throw an upload's parts away."""
        self.call("have an upload ended", "abort_multipart_upload", ("NoSuchUpload", "404", "NoSuchKey"), Key=key, UploadId=upload)

    def delete(self, keys: list[str]) -> None:
        """Delete objects.

        :raises S3Error: the store refuses to delete some of them
        """
        self.delete_versions([{"Key": key} for key in keys])

    def delete_versions(self, entries: list[dict]) -> None:
        """Delete objects, or versions of them, given as DeleteObjects takes them (Key, VersionId)."""
        for start in range(0, len(entries), DELETE_AT_ONCE):
            batch = {"Objects": entries[start : start + DELETE_AT_ONCE], "Quiet": True}
            errors = self.call("have objects deleted", "delete_objects", Delete=batch).get("Errors")
            if errors:
                raise S3Error(
                    f"{self.where} kept {len(errors)} objects that were to be deleted, the first is {errors[0].get('Key')}: {errors[0].get('Code')}."
                )


def _credentials_of(session: "botocore.session.Session", given: dict) -> "botocore.credentials.Credentials":
    """Make the session use the credentials that are given, or find some itself, and return them."""
    if given.get("access_key_id"):
        session.set_credentials(given["access_key_id"], given["secret_access_key"], given.get("session_token"))
    found = session.get_credentials()
    if found is None:
        raise botocore.exceptions.NoCredentialsError
    return found


def _refuse_redirect(response=None, operation=None, **_context) -> None:
    """Raise what the SDK would go round in silence, a bucket in another region: Triton is given the same region and does not."""
    if response and code_of(answer := ClientError(response[1], operation.name)) in REDIRECTS:
        raise answer


def _parse_time(text: str) -> datetime.datetime:
    """Parse a time of the store's. The SDK's own way takes 100 us, which a listing of 10,000 objects feels."""
    try:
        return datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return botocore.utils.parse_timestamp(text)


def _client_error(answer: "botocore.awsrequest.AWSResponse") -> "ClientError":
    """Return the error in an answer, in the SDK's form."""
    details = {}
    with contextlib.suppress(xml.etree.ElementTree.ParseError):
        details = {element.tag.rpartition("}")[2]: element.text or "" for element in xml.etree.ElementTree.fromstring(answer.content)}
    details.setdefault("Code", str(answer.status_code))
    meta = {"HTTPStatusCode": answer.status_code, "HTTPHeaders": {name.lower(): value for name, value in answer.headers.items()}}
    return ClientError({"Error": details, "ResponseMetadata": meta}, "PutObject")
