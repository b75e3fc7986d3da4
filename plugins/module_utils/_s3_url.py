# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The URL of a model repository on S3, read the way Triton reads it. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import re

from ansible_collections.mlserving.triton.plugins.module_utils._s3_errors import S3Error

FORMS = "s3://BUCKET/PREFIX, s3://HOST:PORT/BUCKET/PREFIX, s3://http://HOST:PORT/BUCKET/PREFIX or s3://https://HOST:PORT/BUCKET/PREFIX"

HOST = re.compile(r"[0-9a-zA-Z.-]+")
BUCKET = re.compile(r"[0-9a-z.-]+")
ELEMENT = re.compile(r"[0-9a-zA-Z._-]+")

#: Where the layout of releases has them below a repository, and how each is called.
RELEASES = "releases"
RELEASE = re.compile(r"[0-9a-f]{16}")


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

    def name(self, key: str) -> str:
        """Return the path below the repository of an object key."""
        return key[len(self.prefix) + 1 :] if self.prefix else key

    def below(self, path: str) -> "Location":
        """Return the location of a folder in this one."""
        return Location(self.bucket, self.key(path), self.endpoint, f"{self.url}/{path}")


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
