# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a model repository on S3 into a cache that outlives the pod, and point a link at it.

Runs before Triton in a container of its own: Python 3.8 or newer and its standard library are all it needs. In the cache, each state of the
repository has a folder, named by a digest of its listing::

    KEY/repository/...   the files
    KEY/complete         JSON: what was listed; written last. Its time is the last use, and whoever serves from it holds a shared lock on it
    KEY.lock             locked by whoever fetches
    KEY.partial          what is being fetched; goes on from there when it was cut off
"""

from __future__ import annotations

import argparse
import collections
import datetime
import errno
import fcntl
import hashlib
import hmac
import http.client
import json
import os
import random
import re
import shutil
import signal
import ssl
import sys
import threading
import time
import urllib.parse
import xml.etree.ElementTree

PART = 16 << 20
CHUNK = 1 << 20
#: Tries of a request; the last one comes after about 25 s.
TRIES, FIRST_PAUSE, LONGEST_PAUSE = 8, 0.2, 10.0
TIMEOUT = 30
#: Looks at a repository that changes meanwhile.
LOOKS = 5
#: Seconds after which what nobody works on any more is taken away, and before which nothing is that was used.
STALE, RECENT = 3600, 600
PROGRESS = 5
#: Bytes that stay free on the cache's disk.
SPARE = 64 << 20
KEY, PARTIAL, LOCK = re.compile(r"[0-9a-f]{32}"), re.compile(r"([0-9a-f]{32})\.partial(-.*)?"), re.compile(r"([0-9a-f]{32})\.lock")
MD5 = re.compile(r"[0-9a-f]{32}")
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
MIB = 1 << 20


class FetchError(Exception):
    """Why the models cannot be fetched, in words."""


class ChangedError(Exception):
    """What was listed is not there any more."""


class BrokenError(Exception):
    """A request came to no good end, and may if it is sent again."""


def say(text):
    print(text, flush=True)


def mib(size):
    return f"{size / MIB:.1f} MiB"


# ---- where and with what ----


class Location:
    """What a URL says, read the way Triton reads it: ``bucket``, ``prefix`` without slashes at its ends, ``endpoint`` or nothing for AWS."""

    def __init__(self, url):
        match = re.fullmatch(r"s3://((?:https?://)?[0-9a-zA-Z.-]+:[0-9]+/)?([0-9a-z.-]+)(?:/(.*))?", url)
        if not match:
            raise FetchError(f"{url} is not s3://BUCKET/PREFIX or s3://http://HOST:PORT/BUCKET/PREFIX.")
        authority, self.bucket, prefix = match.groups()
        self.url, self.prefix = url, (prefix or "").strip("/")
        self.endpoint = "" if not authority else (authority if "://" in authority else f"http://{authority}").rstrip("/")


def _suffix(region):
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


class Credentials:
    """What requests are signed with: as Triton has it, a file of several stores, variables, the identity of the pod or of the machine, or nothing."""

    def __init__(self, location, environment):
        self._location, self._env, self._lock = location, environment, threading.Lock()
        self._found, self._until = None, 0.0
        self.region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
        self._entry = self._of_file()
        self.region = self._entry.get("region") or self.region

    def get(self):
        """Return (key id, secret key, session token); None to ask without any."""
        with self._lock:
            if self._found is None or time.time() > self._until:
                self._until = float("inf")
                self._found = self._look()
            return self._found or None

    def _look(self):
        env = self._env
        for key, secret, token in (
            (self._entry.get("key_id"), self._entry.get("secret_key"), self._entry.get("session_token")),
            (env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SECRET_ACCESS_KEY"), env.get("AWS_SESSION_TOKEN")),
        ):
            if key and secret:
                return key, secret, token or ""
        if env.get("AWS_WEB_IDENTITY_TOKEN_FILE") and env.get("AWS_ROLE_ARN"):
            return self._of_web_identity()
        address = env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        if address:
            return self._of_json(_plain("GET", address, self._container_headers()), "the pod's identity")
        # Another store than AWS knows nothing of the machine's identity.
        return () if self._location.endpoint or env.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true" else self._of_machine()

    def _of_file(self):
        path = self._env.get("TRITON_CLOUD_CREDENTIAL_PATH")
        if not path:
            return {}
        try:
            with open(path, encoding="utf-8") as stream:
                entries = json.load(stream).get("s3", {})
        except (OSError, ValueError) as error:
            raise FetchError(f"The credentials in {path} cannot be read: {error.__class__.__name__}.") from None
        fitting = [name for name in entries if not name or self._location.url.startswith(name)]
        return entries[max(fitting, key=len)] if fitting else {}

    def _of_web_identity(self):
        with open(self._env["AWS_WEB_IDENTITY_TOKEN_FILE"], encoding="utf-8") as stream:
            token = stream.read().strip()
        query = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": self._env["AWS_ROLE_ARN"],
            "RoleSessionName": self._env.get("AWS_ROLE_SESSION_NAME") or "fetch-models",
            "WebIdentityToken": token,
        }
        address = self._env.get("AWS_ENDPOINT_URL_STS") or f"https://sts.{self.region}.{_suffix(self.region)}"
        body = urllib.parse.urlencode(query).encode()
        status, answer = _plain("POST", address.rstrip("/") + "/", {"Content-Type": "application/x-www-form-urlencoded"}, body)
        if status != 200:
            code, message = _error(answer)
            raise FetchError(f"The role {self._env['AWS_ROLE_ARN']} is not given to this pod: {code or status}. {message}".strip())
        found = {element.tag.rsplit("}", 1)[-1]: element.text or "" for element in xml.etree.ElementTree.fromstring(answer).iter()}
        self._expires(found.get("Expiration", ""))
        return found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]

    def _container_headers(self):
        path, token = self._env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"), self._env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        if path:
            with open(path, encoding="utf-8") as stream:
                token = stream.read().strip()
        return {"Authorization": token} if token else {}

    def _of_machine(self):
        base = self._env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254"
        try:
            status, token = _plain("PUT", f"{base}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}, timeout=1)
            headers, roles = {"X-aws-ec2-metadata-token": token.decode()}, f"{base}/latest/meta-data/iam/security-credentials/"
            status, names = _plain("GET", roles, headers, timeout=1) if status == 200 else (status, b"")
            return (
                self._of_json(_plain("GET", roles + names.decode().split()[0], headers, timeout=1), "the machine's identity") if status == 200 else ()
            )
        except (OSError, http.client.HTTPException):
            return ()

    def _of_json(self, answer, what):
        status, body = answer
        if status != 200:
            raise FetchError(f"{what[0].upper()}{what[1:]} gives no credentials: status {status}.")
        found = json.loads(body)
        self._expires(found.get("Expiration") or "")
        return found["AccessKeyId"], found["SecretAccessKey"], found.get("Token") or ""

    def _expires(self, text):
        if text:
            end = datetime.datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc)
            self._until = end.timestamp() - 300


def _connect(address, timeout=TIMEOUT):
    """Return a connection to the scheme, host and port of a URL."""
    if address.scheme == "https":
        context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
        return http.client.HTTPSConnection(address.hostname, address.port, timeout=timeout, context=context)
    return http.client.HTTPConnection(address.hostname, address.port, timeout=timeout)


def _plain(method, url, headers, body=None, timeout=TIMEOUT):
    """Return (status, body) of a request that is not signed."""
    address = urllib.parse.urlsplit(url)
    connection = _connect(address, timeout)
    try:
        connection.request(method, address.path + (f"?{address.query}" if address.query else ""), body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def signed(method, host, path, query, region, credentials, now):
    """Return the headers of a request without a body.

    :param path: quoted
    :param query: of names and values that are not quoted
    :param credentials: (key id, secret key, session token), or None for a request that is not signed
    """
    empty, stamp = hashlib.sha256(b"").hexdigest(), now.strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": empty, "x-amz-date": stamp}
    if not credentials:
        return headers
    key_id, secret, token = credentials
    if token:
        headers["x-amz-security-token"] = token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = "\n".join((method, path, encoded(query), lines, names, empty))
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return headers


def encoded(query):
    quote = urllib.parse.quote
    return "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))


def _error(body):
    """Return (code, message) of an answer of the store that is an error; both may be empty."""
    found = {}
    try:
        found = {element.tag.rsplit("}", 1)[-1]: (element.text or "").strip() for element in xml.etree.ElementTree.fromstring(body).iter()}
    except xml.etree.ElementTree.ParseError:
        pass
    return found.get("Code", ""), found.get("Message", "")


# ---- the store ----


class File(collections.namedtuple("File", "path size etag")):
    """A file of the repository: its path below the repository, its bytes, and the store's tag of its content."""


class Store:
    """The bucket, asked over a connection for each thread that is kept open."""

    def __init__(self, location, credentials):
        self.location, self._credentials, self.region = location, credentials, credentials.region
        self._own = threading.local()

    @property
    def where(self):
        return f"the bucket {self.location.bucket} at {self._address().netloc}"

    def _address(self):
        if self.location.endpoint:
            return urllib.parse.urlsplit(self.location.endpoint)
        # A name with dots fits no certificate as a host.
        name = "" if "." in self.location.bucket else f"{self.location.bucket}."
        return urllib.parse.urlsplit(f"https://{name}s3.{self.region}.{_suffix(self.region)}")

    def _path(self, key):
        in_host = not self.location.endpoint and "." not in self.location.bucket
        return ("" if in_host else f"/{self.location.bucket}") + "/" + urllib.parse.quote(key, safe="/-_.~")

    def ask(self, key, query, headers, take):
        """Send a request as often as it takes, and return what ``take`` makes of its response.

        :param take: called with the response of status 200 or 206
        :raises FetchError: it is refused, or never answered
        """
        why = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)) * random.uniform(0.7, 1.3))
            try:
                return self._once(key, query, headers, take)
            except BrokenError as error:
                why = str(error)
            except ssl.SSLCertVerificationError as error:
                self._drop()
                raise FetchError(
                    f"The certificate of {self._address().netloc} is not trusted: {error.verify_message}. AWS_CA_BUNDLE names the file of the CA."
                ) from None
            except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError, OSError) as error:
                self._drop()
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
                    raise
                why = f"{error.__class__.__name__}: {error}"
        raise FetchError(f"{self.where[0].upper()}{self.where[1:]} does not answer as it should, after {TRIES} tries: {why}.")

    def _once(self, key, query, headers, take):
        address, path = self._address(), self._path(key)
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = _connect(address)
        signature = signed("GET", address.netloc, path, query, self.region, self._credentials.get(), datetime.datetime.now(datetime.timezone.utc))
        connection.request("GET", path + (f"?{encoded(query)}" if query else ""), headers={**signature, **headers})
        response = connection.getresponse()
        if response.status in (200, 206):
            found = take(response)
            if response.isclosed():
                return found
            raise BrokenError("the answer has another length than it said")
        body = response.read()
        return self._refused(response, body, key, query, headers, take)

    def _refused(self, response, body, key, query, headers, take):
        code, message = _error(body)
        status, region = response.status, response.headers.get("x-amz-bucket-region") or _region(body)
        if status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout"):
            raise BrokenError(f"status {status} {code}".strip())
        if status == 412 or (status == 404 and key and code != "NoSuchBucket"):
            raise ChangedError(key)
        if region and region != self.region and status in (301, 307, 400, 403):
            self._drop()
            self.region = region
            return self._once(key, query, headers, take)
        raise FetchError(self._words(status, code, message))

    def _words(self, status, code, message):
        if code == "NoSuchBucket" or status == 404:
            return f"There is no bucket {self.location.bucket} at {self._address().netloc}: check the URL {self.location.url}."
        who = "with the given credentials" if self._credentials.get() else "without credentials, since none are given"
        if code == "SignatureDoesNotMatch":
            return f"{self.where} refuses {who}: the secret key does not belong to the key id (SignatureDoesNotMatch)."
        if code == "RequestTimeTooSkewed":
            return f"{self.where} refuses: this node's clock is wrong (RequestTimeTooSkewed)."
        if code in ("ExpiredToken", "InvalidAccessKeyId", "InvalidToken"):
            return f"{self.where} refuses {who}: they are expired or unknown ({code})."
        if status in (401, 403):
            return f"{self.where} refuses {who} ({code or status}): they need s3:ListBucket and s3:GetObject on {self.location.url}."
        return f"{self.where} answers with status {status} {code}: {message}"

    def _drop(self):
        connection = getattr(self._own, "connection", None)
        if connection is not None:
            connection.close()
            self._own.connection = None

    def files(self):
        """Return the repository's files and the empty folders that objects stand for, both sorted."""
        prefix = f"{self.location.prefix}/" if self.location.prefix else ""
        files, folders, token = [], [], ""
        while True:
            query = {"list-type": "2", "prefix": prefix, "max-keys": "1000", **({"continuation-token": token} if token else {})}
            page = self.ask("", query, {}, _xml)
            fields = {element.tag.rsplit("}", 1)[-1]: element.text or "" for element in page}
            for element in page:
                if element.tag.rsplit("}", 1)[-1] != "Contents":
                    continue
                entry = {child.tag.rsplit("}", 1)[-1]: child.text or "" for child in element}
                path = entry["Key"][len(prefix) :]
                if not path:
                    continue
                _check(path, self.location)
                if path.endswith("/"):
                    folders.append(path.rstrip("/"))
                else:
                    files.append(File(path, int(entry["Size"]), entry.get("ETag", "").strip('"')))
            token = fields.get("NextContinuationToken", "")
            if fields.get("IsTruncated") != "true" or not token:
                break
        if not files:
            raise FetchError(f"There is nothing at {self.location.url}: publish the models first.")
        names = {file.path for file in files}
        for path in sorted(names):
            parts = path.split("/")
            both = [name for name in ("/".join(parts[:count]) for count in range(1, len(parts))) if name in names]
            if both:
                raise FetchError(f"{self.location.url} has {both[0]} as a file and as a folder, which no disk can hold. Delete one of the two.")
        return sorted(files), sorted(set(folders))

    def read(self, file, start, length, write):
        """Hand a part of a file to ``write``, piece by piece with its place, and return the headers of the response.

        :raises ChangedError: the file is not there any more, or another one
        """
        prefix = f"{self.location.prefix}/" if self.location.prefix else ""
        headers = {"if-match": f'"{file.etag}"'} if file.etag else {}
        if length != file.size:
            headers["range"] = f"bytes={start}-{start + length - 1}"

        def take(response):
            etag = (response.headers.get("ETag") or "").strip('"')
            if etag and file.etag and etag != file.etag:
                self._drop()
                raise ChangedError(file.path)
            if "range" in headers and response.status != 206:
                self._drop()
                raise BrokenError("the answer to a request for a part is no part")
            buffer, place = memoryview(bytearray(min(CHUNK, length))), start
            while place < start + length:
                count = response.readinto(buffer[: min(CHUNK, start + length - place)])
                if not count:
                    self._drop()
                    raise BrokenError(f"the answer ended after {place - start} of {length} bytes")
                write(buffer[:count], place)
                place += count
            if response.read(1):
                self._drop()
                raise BrokenError(f"the answer has more than {length} bytes")
            return response.headers

        return self.ask(prefix + file.path, {}, headers, take)


def _xml(response):
    body = response.read()
    try:
        return xml.etree.ElementTree.fromstring(body)
    except xml.etree.ElementTree.ParseError:
        raise BrokenError(f"the listing is no XML: {body[:80]!r}") from None


def _region(body):
    match = re.search(rb"<Region>([a-z0-9-]+)</Region>", body)
    return match.group(1).decode() if match else ""


def _check(path, location):
    """:raises FetchError: no file below a folder can have that path"""
    if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in path.rstrip("/").split("/")) or path.endswith("//"):
        raise FetchError(f"{location.url} has the object {path!r}, which cannot be a file's path. Delete it.")


# ---- one fetch ----


class Download:
    """One file on its way: its parts come in any order, its checksum follows them in theirs."""

    def __init__(self, file, source, target):
        self.file, self.source, self.target = file, source, target
        self.count = max(1, -(-file.size // PART))
        self._lock, self._fd, self._there, self._hashed, self._busy = threading.Lock(), -1, set(), 0, False
        self._expected, self._hash = None, None

    def part(self, number):
        start = number * PART
        return start, min(PART, self.file.size - start)

    def write(self, piece, place):
        while piece:
            count = os.pwrite(self._open(), piece, place)
            piece, place = piece[count:], place + count

    def _open(self):
        with self._lock:
            if self._fd < 0:
                self._fd = os.open(self.source, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            return self._fd

    def settle(self, start, length):
        """Have the disk begin with a part, so that little is left to wait for in the end; this advice does so on Linux, and drops nothing unwritten."""
        os.posix_fadvise(self._open(), start, length, os.POSIX_FADV_DONTNEED)

    def arrived(self, number, headers):
        """Take note of a part; return whether the file is complete.

        :raises BrokenError: its content is not what the store says
        """
        with self._lock:
            if self._expected is None:
                self._expected, self._hash = _checksum(self.file, headers)
            self._there.add(number)
            if self._busy:
                return False
            self._busy = True
        while True:
            with self._lock:
                if self._hashed == self.count:
                    break
                if self._hashed not in self._there:
                    self._busy = False
                    return False
            if self._hash:
                self._add(*self.part(self._hashed))
            self._hashed += 1
        if self._hash and self._hash.hexdigest() != self._expected:
            self.close()
            raise BrokenError(f"{self.file.path} arrived with another content than it has in the store")
        self._finish()
        return True

    def _add(self, start, length):
        while length:
            piece = os.pread(self._open(), min(CHUNK, length), start)
            self._hash.update(piece)
            start, length = start + len(piece), length - len(piece)

    def _finish(self):
        os.fsync(self._open())
        self.close()
        os.rename(self.source, self.target)

    def close(self):
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _checksum(file, headers):
    """Return (hexadecimal digest, hash) that the store has for a file; an empty digest and None if it has none that tells of the content.

    :param headers: of the response that brought a part of it; None for an empty file
    """
    if headers is None:
        return "", None
    known = headers.get("x-amz-meta-sha256") or ""
    if re.fullmatch(r"[0-9a-f]{64}", known):
        return known, hashlib.sha256()
    if MD5.fullmatch(file.etag) and "kms" not in (headers.get("x-amz-server-side-encryption") or ""):
        return file.etag, hashlib.md5()
    return "", None


class Fetch:
    """Files into a folder, over several connections at once. What is there already, whole, is left as it is."""

    def __init__(self, store, files, folder, parallel):
        self._store, self._folder, self._parallel = store, folder, parallel
        self._incoming = os.path.join(folder, "incoming")
        self.bytes, self._failed, self._lock, self._todo = 0, None, threading.Lock(), collections.deque()
        self.missing = [file for file in files if _size(self.path(file)) != file.size]

    def path(self, file):
        return os.path.join(self._folder, "repository", file.path)

    def run(self):
        """:raises FetchError: it cannot be done
        :raises ChangedError: the repository changed meanwhile
        """
        shutil.rmtree(self._incoming, ignore_errors=True)
        os.mkdir(self._incoming)
        for number, file in enumerate(sorted(self.missing, key=lambda file: -file.size)):
            download = Download(file, os.path.join(self._incoming, str(number)), self.path(file))
            self._todo.extend((download, part) for part in range(download.count))
        threads = [threading.Thread(target=self._work, daemon=True) for _number in range(min(self._parallel, len(self._todo)))]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        self._watch(threads, started)
        if self._failed:
            raise self._failed
        os.rmdir(self._incoming)
        return time.monotonic() - started

    def _watch(self, threads, started):
        total, told = sum(file.size for file in self.missing), started
        while threads:
            threads[0].join(1)
            threads = [thread for thread in threads if thread.is_alive()]
            if time.monotonic() - told >= PROGRESS:
                told = time.monotonic()
                say(f"fetched {mib(self.bytes)} of {mib(total)} in {told - started:.0f} s")
                # Whoever looks sees that it is being worked on.
                os.utime(self._folder)

    def _work(self):
        while not self._failed:
            try:
                download, number = self._todo.popleft()
            except IndexError:
                return
            try:
                self._part(download, number)
            except Exception as error:  # noqa: BLE001  the first one ends the fetch
                with self._lock:
                    self._failed = self._failed or error

    def _part(self, download, number, tries=3):
        def write(piece, place):
            if self._failed:
                raise ChangedError("given up")
            download.write(piece, place)
            with self._lock:
                self.bytes += len(piece)

        start, length = download.part(number)
        try:
            # A part of no bytes cannot be asked for.
            headers = self._store.read(download.file, start, length, write) if length else None
            download.settle(start, length)
            download.arrived(number, headers)
        except BrokenError as error:
            if tries <= 1 or download.count > 1:
                raise FetchError(f"{self._store.where}: {error}.") from None
            self._part(Download(download.file, download.source, download.target), number, tries - 1)


def _size(path):
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


# ---- the cache ----


def key_of(files, folders):
    """Return the name of a state of the repository: the same for the same paths, sizes and tags."""
    digest = hashlib.sha256()
    for line in [f"{file.path}\0{file.size}\0{file.etag}\n" for file in files] + [f"{folder}/\n" for folder in folders]:
        digest.update(line.encode())
    return digest.hexdigest()[:32]


class Lock:
    """An exclusive lock of a file, as a context; ``held`` is False where the file system has no locks, and None if another one has it."""

    def __init__(self, path, wait=False, create=True):
        self._path, self._wait, self._flags, self._fd, self.held = path, wait, os.O_RDWR | (os.O_CREAT if create else 0), -1, None

    def __enter__(self):
        while True:
            self._fd = os.open(self._path, self._flags, 0o644)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | (0 if self._wait else fcntl.LOCK_NB))
                self.held = True
            except BlockingIOError:
                return self
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                self.held = False
                return self
            try:
                if os.stat(self._path).st_ino == os.fstat(self._fd).st_ino:
                    return self
            except FileNotFoundError:
                pass
            # Whoever had it took the file away.
            os.close(self._fd)

    def __exit__(self, *_exception):
        os.close(self._fd)


class Cache:
    """The folder of all states."""

    def __init__(self, folder, keep):
        self.folder, self._keep = folder, keep

    def at(self, *names):
        return os.path.join(self.folder, *names)

    def check(self):
        """:raises FetchError: the folder cannot be written"""
        probe = self.at(f".probe-{os.getpid()}-{random.getrandbits(32):08x}")
        try:
            os.mkdir(probe)
            os.rmdir(probe)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                # What is there can be used all the same, and room may be made.
                return
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
                raise
            about = os.stat(self.folder) if os.path.isdir(self.folder) else None
            now = f"it belongs to {about.st_uid}:{about.st_gid} with mode {about.st_mode & 0o7777:04o}" if about else "it is not there"
            raise FetchError(
                f"The cache {self.folder} cannot be written as user {os.getuid()}: {os.strerror(error.errno)}; {now}. "
                f"For a hostPath, make the folder on each node: install -d -o {os.getuid()} FOLDER"
            ) from None

    def states(self):
        """Return the names of all complete states, the last used one first."""
        found = {}
        for name in os.listdir(self.folder):
            if KEY.fullmatch(name):
                try:
                    found[name] = os.stat(self.at(name, "complete")).st_mtime
                except OSError:
                    pass
        return sorted(found, key=found.get, reverse=True)

    def manifest(self, key):
        """Return path -> [size, tag] of a state; None if it is not there or not whole."""
        try:
            with open(self.at(key, "complete"), encoding="utf-8") as stream:
                files = json.load(stream)["files"]
        except (OSError, ValueError, KeyError):
            return None
        return files if all(_size(self.at(key, "repository", path)) == size for path, (size, _etag) in files.items()) else None

    def use(self, key):
        """Return whether a state is there, whole; it is then the last used one."""
        if self.manifest(key) is None:
            return False
        os.utime(self.at(key, "complete"))
        return True

    def fill(self, key, store, files, folders, parallel):
        """Bring a state in."""
        with Lock(self.at(f"{key}.lock")) as lock:
            if lock.held is None:
                say("another pod fetches the same; waiting for it")
        started = time.monotonic()
        with Lock(self.at(f"{key}.lock"), wait=True) as lock:
            if self.use(key):
                say(f"another pod brought it in {time.monotonic() - started:.1f} s")
                return
            # Without locks, two at once must not write into the same folder.
            partial = self.at(f"{key}.partial" + ("" if lock.held else f"-{random.getrandbits(32):08x}"))
            try:
                self._prepare(partial, files, folders)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                self._make_room(sum(file.size for file in files), key)
                self._prepare(partial, files, folders)
            fetch = Fetch(store, files, partial, parallel)
            linked = self._link(key, fetch)
            if linked:
                fetch = Fetch(store, files, partial, parallel)
            self._make_room(sum(file.size for file in fetch.missing), key)
            try:
                seconds = fetch.run()
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                shutil.rmtree(partial, ignore_errors=True)
                raise self._full(sum(file.size for file in fetch.missing)) from None
            self._complete(key, partial, files, store.location.url)
        size = sum(file.size for file in fetch.missing)
        say(
            f"fetched {len(fetch.missing)} of {len(files)} files, {mib(size)} in {seconds:.1f} s ({size / MIB / max(seconds, 0.001):.0f} MiB/s)"
            + (f"; {linked} were in the cache already" if linked else "")
        )

    def _prepare(self, partial, files, folders):
        """Make the folders; what an earlier fetch left there is gone on with."""
        repository = os.path.join(partial, "repository")
        for folder in sorted({os.path.dirname(file.path) for file in files} | set(folders)):
            os.makedirs(os.path.join(repository, folder), exist_ok=True)
        os.utime(partial)

    def _link(self, key, fetch):
        """Take files of the same size and tag from other states, and return how many: what did not change is not fetched again."""
        found, linked = {}, 0
        for state in self.states():
            if state != key:
                for path, (size, etag) in (self.manifest(state) or {}).items():
                    found.setdefault((size, etag), self.at(state, "repository", path))
        for file in fetch.missing:
            source = found.get((file.size, file.etag)) if file.etag else None
            try:
                if source:
                    os.link(source, fetch.path(file))
                    linked += 1
            except OSError:
                # There are file systems without links, and states that are being taken away.
                pass
        return linked

    def _complete(self, key, partial, files, url):
        with open(os.path.join(partial, "complete"), "w", encoding="utf-8") as stream:
            json.dump({"url": url, "files": {file.path: [file.size, file.etag] for file in files}}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        for folder, _folders, _files in os.walk(partial):
            _sync(folder)
        try:
            os.rename(partial, self.at(key))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if self.use(key):
                shutil.rmtree(partial, ignore_errors=True)
                return
            # What is there is not whole.
            os.rename(self.at(key), self.at(f"{key}.partial-{random.getrandbits(32):08x}"))
            os.rename(partial, self.at(key))
        _sync(self.folder)

    def free(self):
        about = os.statvfs(self.folder)
        return about.f_bavail * about.f_frsize

    def _full(self, needed):
        return FetchError(f"The disk of the cache {self.folder} is full: the models need {mib(needed)}, and {mib(self.free())} are free.")

    def _make_room(self, needed, key):
        """:raises FetchError: there is not enough room, even without what nobody uses"""
        if self.free() < needed + SPARE:
            self._sweep(key, 0)
        for state in [*reversed(self.states()), None]:
            if self.free() >= needed + SPARE:
                return
            if state and state != key:
                self._remove(state)
        raise self._full(needed)

    def prune(self, key):
        """Take away the states that were used longest ago, up to the number that is kept, and what was left half done."""
        for state in [state for state in self.states() if state != key][max(0, self._keep - 1) :]:
            if time.time() - _time(self.at(state, "complete")) > RECENT:
                self._remove(state)
        self._sweep(key, STALE)

    def _sweep(self, key, age):
        """Take away what of other states was left half done that many seconds ago, and nobody works at."""
        for name in os.listdir(self.folder):
            match = PARTIAL.fullmatch(name) or LOCK.fullmatch(name)
            if match and match.group(1) != key and time.time() - _time(self.at(name)) > age:
                with Lock(self.at(f"{match.group(1)}.lock")) as lock:
                    # Without locks, only its age tells that nobody works at it.
                    if lock.held or (lock.held is False and age):
                        self._forget(name, match.group(1))

    def _forget(self, name, key):
        if PARTIAL.fullmatch(name):
            say(f"taking away {name}, which was never finished")
            shutil.rmtree(self.at(name), ignore_errors=True)
        if not os.path.isdir(self.at(f"{key}.partial")):
            os.unlink(self.at(f"{key}.lock"))

    def _remove(self, state):
        """Take a state away, unless a server of this node, or of any node where locks reach that far, has it in use."""
        try:
            with Lock(self.at(state, "complete"), create=False) as lock:
                if lock.held is None:
                    return
                say(f"taking away {state}, which was used last {_ago(_time(self.at(state, 'complete')))} ago")
                gone = self.at(f"{state}.partial-{random.getrandbits(32):08x}")
                os.rename(self.at(state), gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)


def _time(path):
    try:
        return os.stat(path).st_mtime
    except OSError:
        return time.time()


def _ago(when):
    hours = (time.time() - when) / 3600
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.0f} days"


def _sync(folder):
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        # There are file systems that cannot do that for a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(fd)


def point(link, target):
    """Let a link lead to a folder, from one moment to the next."""
    new = f"{link}.new"
    if os.path.lexists(new):
        os.unlink(new)
    os.symlink(target, new)
    os.replace(new, link)


def run(options, environment):
    """:raises FetchError: the models are not there"""
    started, location = time.monotonic(), Location(options.url)
    cache = Cache(os.path.abspath(options.cache), options.keep)
    cache.check()
    store = Store(location, Credentials(location, environment))
    for look in range(1, LOOKS + 1):
        files, folders = store.files()
        key = key_of(files, folders)
        say(f"{location.url}: {len(files)} files, {mib(sum(file.size for file in files))}, state {key}")
        if cache.use(key):
            say("they are in the cache already")
            break
        try:
            cache.fill(key, store, files, folders, options.parallel)
            break
        except ChangedError:
            if look == LOOKS:
                raise FetchError(f"{location.url} changed {LOOKS} times while it was fetched. Publish as a release, which never changes.") from None
            say("the repository changed meanwhile; looking again")
    point(options.link, cache.at(key, "repository"))
    cache.prune(key)
    say(f"the models are in place after {time.monotonic() - started:.1f} s")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="of the model repository")
    parser.add_argument("--cache", required=True, help="folder of the cache")
    parser.add_argument("--link", required=True, help="path that then leads to the repository's folder")
    parser.add_argument("--parallel", type=int, default=16, help="connections")
    parser.add_argument("--keep", type=int, default=2, help="states of the repository that stay in the cache")
    options = parser.parse_args(arguments)
    try:
        run(options, os.environ)
    except FetchError as error:
        say(f"error: {error}")
        return 1
    except OSError as error:
        say(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return 1
    return 0


if __name__ == "__main__":
    # As the first process of a container it would not be ended by this signal; what came so far is gone on with.
    signal.signal(signal.SIGTERM, lambda *_arguments: os._exit(143))
    sys.exit(main())
