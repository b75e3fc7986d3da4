# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""S3 as Triton addresses it: the URL, the client for it, and its errors in words.

PRIVATE to the collection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import traceback

try:
    import boto3.session
    import botocore.config
    import botocore.exceptions

    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

REQUIREMENT = "boto3>=1.38"
#: Seconds for connecting and for reading one answer.
CONNECT_TIMEOUT, READ_TIMEOUT = 5, 60
FORMS = "s3://BUCKET/PREFIX, s3://HOST:PORT/BUCKET/PREFIX, s3://http://HOST:PORT/BUCKET/PREFIX or s3://https://HOST:PORT/BUCKET/PREFIX"

HOST = re.compile(r"[0-9a-zA-Z.-]+")
BUCKET = re.compile(r"[0-9a-z.-]+")
ELEMENT = re.compile(r"[0-9a-zA-Z._-]+")

#: Error code of a store -> what it means and what to do. {id} names the key id.
MEANINGS = {
    "InvalidAccessKeyId": "the store does not know the {id}. Check access_key_id, and that the credentials belong to this store.",
    "SignatureDoesNotMatch": "secret_access_key does not belong to the {id}. Check it for a missing or an extra character.",
    "AccessDenied": "the {id} may not do this. It needs s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on the bucket.",
    "ExpiredToken": "the temporary credentials of the {id} have expired. Get new ones.",
    "InvalidToken": "session_token does not belong to the {id}. Give the id, the key and the token of one issue.",
    "RequestTimeTooSkewed": "this machine's clock differs too much from the store's. Set the clock.",
    "AuthorizationHeaderMalformed": "the request was signed for another region. Set region to the bucket's.",
    "PermanentRedirect": "the bucket is in another region. Set region to the bucket's.",
    "BucketAlreadyExists": "a bucket of that name belongs to somebody else. Take another name.",
    "NoSuchBucket": "the bucket does not exist.",
    "403": "the {id} is refused. Check the credentials and the bucket's policy.",
    "404": "it does not exist.",
}


class S3Error(Exception):
    """The URL cannot be used or the store refuses. The text says what to do."""


@dataclasses.dataclass(frozen=True)
class Location:
    """Where a model repository lies. ``endpoint`` is the store's URL, or None for AWS; ``prefix`` has no slash at its ends."""

    bucket: str
    prefix: str
    endpoint: str | None
    url: str

    def key(self, name: str) -> str:
        """Return the object key of a path below the repository."""
        return f"{self.prefix}/{name}" if self.prefix else name


def parse(url: str) -> Location:
    """Return what a URL says, read the way Triton reads it.

    :raises S3Error: Triton would not find the repository there
    """
    if url.startswith(("gs://", "as://")):
        raise S3Error(f"url {url} is not S3. This module writes to S3 and compatible stores only: {FORMS}.")
    if not url.startswith("s3://"):
        raise S3Error(f"url {url} does not start with s3://. Expected: {FORMS}.")
    rest = url[len("s3://") :].rstrip("/")
    explicit = re.match(r"https?://", rest)
    scheme = explicit.group() if explicit else "http://"
    first, _slash, path = rest.removeprefix(scheme if explicit else "").partition("/")
    endpoint = None
    if explicit or ":" in first:
        endpoint = scheme + _checked_endpoint(url, first, scheme)
        bucket, _slash, path = path.partition("/")
        why = f"Triton would take {scheme.rstrip('/') if explicit else first} for the bucket."
    else:
        bucket, why = first, "Triton could not address it on a store with its own endpoint."
    if not bucket:
        raise S3Error(f"url {url} names no bucket. Expected: {FORMS}.")
    if not BUCKET.fullmatch(bucket):
        raise S3Error(f"url {url}: the bucket {bucket!r} has other characters than lower-case letters, digits, '.' and '-'. Rename the bucket.")
    for element in path.split("/") if path else ():
        if not ELEMENT.fullmatch(element) or element in (".", ".."):
            raise S3Error(
                f"url {url}: the path element {element!r} is not made of letters, digits, '.', '_' and '-' only. {why} Choose another prefix."
            )
    return Location(bucket, path, endpoint, f"s3://{rest}")


def _checked_endpoint(url: str, authority: str, scheme: str) -> str:
    host, _colon, port = authority.partition(":")
    if not port:
        example = f"{host or 'HOST'}:{'443' if scheme == 'https://' else '80'}"
        raise S3Error(f"url {url}: the endpoint has no port. Triton needs one even where it is the usual one, such as {scheme}{example}.")
    if not HOST.fullmatch(host):
        raise S3Error(f"url {url}: the host {host!r} has other characters than letters, digits, '.' and '-', so Triton cannot read the URL.")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise S3Error(f"url {url}: {port!r} is not a port. Expected a number from 1 to 65535.")
    return authority


class Store:
    """An S3 client with what its errors need: where it talks to, and as whom.

    :param endpoint_url: the store as the controller reaches it; None takes the one in ``location``, or AWS
    :param credentials: access_key_id, secret_access_key, session_token; all None means the SDK's own chain
    :param parallel: how many requests may run at a time
    :raises S3Error: no client can be made of this
    """

    def __init__(self, location: Location, credentials: dict, endpoint_url: str | None = None, region: str | None = None, parallel: int = 8):
        self.bucket = location.bucket
        self.endpoint = (endpoint_url or location.endpoint or "").rstrip("/") or None
        if self.endpoint and not re.fullmatch(r"https?://[^/\s@?#]+", self.endpoint):
            raise S3Error(f"endpoint_url {self.endpoint} cannot be used. Expected http://HOST:PORT or https://HOST:PORT.")
        options = {}
        if self.endpoint:
            # Compatible stores know neither bucket host names nor, in many cases, the newer checksum headers.
            options = {
                "s3": {"addressing_style": "path"},
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            }
        config = botocore.config.Config(
            retries={"mode": "standard", "total_max_attempts": 5},
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            max_pool_connections=max(10, parallel),
            # Only the options name the store: a variable such as AWS_ENDPOINT_URL is not read by Triton either.
            ignore_configured_endpoint_urls=True,
            **options,
        )
        with self.explained("be used"):
            session = boto3.session.Session(
                aws_access_key_id=credentials.get("access_key_id"),
                aws_secret_access_key=credentials.get("secret_access_key"),
                aws_session_token=credentials.get("session_token"),
                region_name=region,
            )
            found = session.get_credentials()
            self.key_id = (found.access_key or "") if found else ""
            self.client = session.client("s3", endpoint_url=self.endpoint, config=config)

    @property
    def region(self) -> str:
        name = self.client.meta.region_name
        return "us-east-1" if name in (None, "aws-global") else name

    @property
    def where(self) -> str:
        return f"the bucket {self.bucket} at {self.endpoint or 'AWS'}"

    @contextlib.contextmanager
    def explained(self, doing: str):
        """Turn the SDK's errors inside the block into S3Error. ``doing`` completes 'the bucket X at Y cannot ...'."""
        try:
            yield
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError, ValueError) as error:
            raise S3Error(f"{self.where} cannot {doing}: {self._meaning(error)}") from None

    def _meaning(self, error: Exception) -> str:
        if isinstance(error, botocore.exceptions.ClientError):
            code = error.response.get("Error", {}).get("Code", "no code")
            ending = f" ending in {self.key_id[-4:]}" if len(self.key_id) >= 12 else ""
            if code in MEANINGS:
                return f"{MEANINGS[code].format(id=f'access key id{ending}')} ({code})"
            return f"{code}: {_one_line(error.response.get('Error', {}).get('Message', ''))}"
        kinds = botocore.exceptions
        if isinstance(error, (kinds.NoCredentialsError, kinds.PartialCredentialsError)):
            return "no credentials were found. Give access_key_id and secret_access_key, or set the AWS variables, profile or role of the SDK."
        if isinstance(error, kinds.SSLError):
            return "the TLS connection failed. Check that the endpoint speaks https and that its certificate is trusted (AWS_CA_BUNDLE)."
        if isinstance(error, (kinds.ConnectionError, kinds.HTTPClientError)):
            return f"the store does not answer ({type(error).__name__}). Check that it runs and that this machine reaches it; else set endpoint_url."
        return _one_line(str(error))


def code_of(error: Exception) -> str:
    """Return the store's error code of a ClientError."""
    return error.response.get("Error", {}).get("Code", "")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
