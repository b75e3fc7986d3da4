# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The script that fetches models into the cache, against an S3 in this process; its signatures against botocore's."""

from __future__ import annotations

import datetime
import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import threading
from xml.sax.saxutils import escape

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from ansible_collections.mlserving.triton.tests.unit.plugins import fake_s3
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_s3 import S3, Failure, Stored

SCRIPT = pathlib.Path(__file__).parents[4] / "roles/triton/files/fetch_models.py"
SPEC = importlib.util.spec_from_file_location("fetch_models", SCRIPT)
fetch_models = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fetch_models)

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET}
LONG_AGO = 90000


class Handler(fake_s3.Handler):
    """Answers ranges and conditions, pages and cuts off, and keeps who asked."""

    def on_object(self, objects, key, body):
        server = self.server
        with server.gate:
            server.headers.append(dict(self.headers.items()))
            server.connections.add(self.client_address)
            if server.before:
                server.before(server, key)
        if key not in objects:
            return self.error(404, "NoSuchKey")
        stored = objects[key]
        if self.headers.get("if-match", f'"{stored.etag}"') != f'"{stored.etag}"':
            return self.error(412, "PreconditionFailed")
        content, status, more = server.damaged.get(key, stored.content), 200, {}
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        if match:
            first, last = (int(text) for text in match.groups())
            status, more = 206, {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            content = content[first : last + 1]
        with server.gate:
            cut = server.cuts.get(key, 0)
            server.cuts[key] = cut - 1
        if cut > 0:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        return self.answer(status, content, ETag=f'"{stored.etag}"', **more, **stored.metadata)

    def on_bucket(self, bucket, objects, query, body):
        after, size = query.get("continuation-token", [""])[0], self.server.page
        prefix = query.get("prefix", [""])[0]
        keys = [key for key in sorted(objects) if key.startswith(prefix) and key > after]
        text = fake_s3.listing({key: objects[key] for key in keys[:size]}, prefix, "")
        if len(keys) > size:
            text = text.replace("<IsTruncated>false", f"<NextContinuationToken>{escape(keys[size - 1])}</NextContinuationToken><IsTruncated>true")
        self.server.listings += 1
        return self.answer(200, text)

    do_GET = fake_s3.Handler.handle_request

    def do_POST(self):
        self.server.sts.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        end = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        names = {"AccessKeyId": "ASIAROLE", "SecretAccessKey": SECRET, "SessionToken": "role-token", "Expiration": end}
        inner = "".join(f"<{name}>{value}</{name}>" for name, value in names.items())
        self.answer(200, f'<R xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Credentials>{inner}</Credentials></R>')


@pytest.fixture
def store():
    server = S3()
    server.RequestHandlerClass = Handler
    server.gate, server.headers, server.connections, server.before = threading.Lock(), [], set(), None
    server.damaged, server.cuts, server.page, server.listings, server.sts = {}, {}, 1000, 0, []
    server.buckets["models"] = {}
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def objects(store):
    return store.buckets["models"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(fetch_models, "PART", 4096)
    monkeypatch.setattr(fetch_models, "CHUNK", 1000)
    monkeypatch.setattr(fetch_models, "SPARE", 0)
    monkeypatch.setattr(fetch_models, "FIRST_PAUSE", 0.001)
    for name in [name for name in os.environ if name.startswith(("AWS_", "TRITON_"))]:
        monkeypatch.delenv(name)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def fetch(store, tmp_path, capsys):
    cache = tmp_path / "cache"
    cache.mkdir()

    def call(prefix="demo", **options):
        given = {"url": f"s3://http://127.0.0.1:{store.server_port}/models/{prefix}", "cache": cache, "link": tmp_path / "current", **options}
        code = fetch_models.main([f"--{name}={value}" for name, value in given.items()])
        return code, capsys.readouterr().out

    call.cache, call.link = cache, tmp_path / "current"
    return call


def content(size, seed=1):
    return hashlib.shake_128(str(seed).encode()).digest(size)


def put(objects, files, prefix="demo/"):
    for path, body in files.items():
        objects[prefix + path] = Stored(body)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def states(cache):
    return sorted(entry.name for entry in cache.iterdir() if fetch_models.KEY.fullmatch(entry.name))


def leftovers(cache):
    return [entry.name for entry in cache.iterdir() if "partial" in entry.name]


def gets(store):
    return [line.split("/demo/")[-1] for line in store.requests if "/models/demo/" in line]


FILES = {"a/config.pbtxt": b"name: 'a'", "a/1/model.bin": content(10 * 4096 + 17), "b/1/model.py": b"", "b/config.pbtxt": b"x" * 4096}


def test_files_arrive_in_parts_over_connections_that_stay_open(fetch, objects, store):
    put(objects, FILES)
    code, output = fetch(parallel=3)
    assert code == 0 and tree(fetch.link) == FILES, output
    assert 1 <= len(store.connections) <= 3 and len(store.headers) == 11 + 2
    assert sorted(header["range"] for header in store.headers if "range" in header)[0] == "bytes=0-4095"
    assert os.readlink(fetch.link) == str(fetch.cache / states(fetch.cache)[0] / "repository")
    assert "4 files" in output and "fetched 4 of 4 files" in output and SECRET not in output and not leftovers(fetch.cache)


def test_what_is_there_is_not_fetched_again(fetch, objects, store):
    put(objects, FILES)
    fetch()
    before = len(gets(store))
    complete = fetch.cache / states(fetch.cache)[0] / "complete"
    os.utime(complete, (0, 0))
    code, output = fetch()
    assert code == 0 and len(gets(store)) == before and "in the cache already" in output
    assert complete.stat().st_mtime > LONG_AGO


def test_another_state_takes_unchanged_files_from_the_cache(fetch, objects, store):
    put(objects, FILES)
    fetch()
    before = len(gets(store))
    put(objects, {"b/config.pbtxt": b"y" * 4096, "c/1/model.bin": FILES["a/1/model.bin"]})
    code, output = fetch()
    assert code == 0 and gets(store)[before:] == ["b/config.pbtxt"] and "4 were in the cache already" in output
    assert tree(fetch.link) == {**FILES, "b/config.pbtxt": b"y" * 4096, "c/1/model.bin": FILES["a/1/model.bin"]}
    assert len(states(fetch.cache)) == 2


def test_a_listing_in_pages_folders_that_are_objects_and_names_that_need_quoting(fetch, objects, store):
    store.page = 2
    files = {f"m/1/file {number} +&ü.bin": bytes([number]) for number in range(5)}
    put(objects, {**files, "e/1/": b"", "e/config.pbtxt": b"e"})
    code, output = fetch()
    assert code == 0 and store.listings == 4, output
    assert tree(fetch.link) == {**files, "e/config.pbtxt": b"e"} and (fetch.link / "e/1").is_dir()


def test_the_prefix_may_be_the_whole_bucket(fetch, objects):
    put(objects, {"a/config.pbtxt": b"a"}, prefix="")
    assert fetch("")[0] == 0 and tree(fetch.link) == {"a/config.pbtxt": b"a"}


def test_a_fetch_that_was_cut_off_goes_on(fetch, objects, store):
    put(objects, FILES)
    state = fetch_models.key_of(sorted(fetch_models.File(path, len(body), hashlib.md5(body).hexdigest()) for path, body in FILES.items()), [])
    partial = fetch.cache / f"{state}.partial"
    for path in ("repository/a/config.pbtxt", "repository/a/1/model.bin", "incoming/0"):
        (partial / path).parent.mkdir(parents=True, exist_ok=True)
        (partial / path).write_bytes(FILES.get(path.partition("/")[2], b"half"))
    code, _output = fetch()
    assert code == 0 and sorted(gets(store)) == ["b/config.pbtxt"] and tree(fetch.link) == FILES and not leftovers(fetch.cache)


def test_answers_that_are_cut_off_and_errors_that_pass_are_asked_again(fetch, objects, store):
    put(objects, FILES)
    store.cuts["demo/a/1/model.bin"] = 3
    store.failure = Failure(503, "SlowDown", "GET /models/demo/", times=4)
    code, output = fetch(parallel=2)
    assert code == 0 and tree(fetch.link) == FILES, output


def test_answers_that_are_always_cut_off_end_in_words(fetch, objects, store, monkeypatch):
    monkeypatch.setattr(fetch_models, "TRIES", 3)
    put(objects, FILES)
    store.cuts["demo/a/1/model.bin"] = 1000
    code, output = fetch()
    assert code == 1 and "does not answer as it should, after 3 tries" in output and not fetch.link.exists() and not states(fetch.cache)


@pytest.mark.parametrize("path", ["a/1/model.bin", "b/config.pbtxt"])
@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_another_content_than_the_stores_is_refused(fetch, objects, store, path, kind):
    put(objects, FILES)
    body = FILES[path]
    if kind == "sha256":
        objects[f"demo/{path}"] = Stored(body, {"x-amz-meta-sha256": hashlib.sha256(body).hexdigest()}, etag="0" * 32 + "-2")
    store.damaged[f"demo/{path}"] = body[:-1] + bytes([body[-1] ^ 1])
    code, output = fetch()
    assert code == 1 and f"{path} arrived with another content than it has in the store" in output and not states(fetch.cache)


def test_tags_that_tell_nothing_of_the_content_are_no_checksum(fetch, objects):
    body = content(9000)
    objects["demo/a/1/model.bin"] = Stored(body, {"x-amz-server-side-encryption": "aws:kms"}, etag="0" * 32)
    objects["demo/a/1/other.bin"] = Stored(body, etag="0" * 32 + "-2")
    assert fetch()[0] == 0 and set(tree(fetch.link).values()) == {body}


def test_a_repository_that_changes_meanwhile_is_looked_at_again(fetch, objects, store):
    put(objects, FILES)

    def change(server, key):
        server.before = None
        put(objects, {"a/1/model.bin": b"new"})

    store.before = change
    code, output = fetch(parallel=1)
    assert code == 0 and "changed meanwhile" in output and tree(fetch.link) == {**FILES, "a/1/model.bin": b"new"}


def test_a_repository_that_never_stops_changing_ends_in_words(fetch, objects, store):
    put(objects, FILES)
    store.before = lambda server, key: put(objects, {"a/1/model.bin": content(5000, len(server.headers))})
    code, output = fetch(parallel=1)
    assert code == 1 and "changed 5 times" in output and "release" in output


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Failure(403, "AccessDenied"), ["refuses with the given credentials (AccessDenied)", "s3:ListBucket and s3:GetObject"]),
        (Failure(403, "SignatureDoesNotMatch"), ["the secret key does not belong to the key id"]),
        (Failure(403, "RequestTimeTooSkewed"), ["clock is wrong"]),
        (Failure(403, "ExpiredToken"), ["expired or unknown"]),
        (Failure(403, ""), ["(403)"]),
        (Failure(404, "NoSuchBucket"), ["There is no bucket models at 127.0.0.1"]),
        (Failure(500, "InternalError"), ["does not answer as it should, after 8 tries", "status 500 InternalError"]),
    ],
)
def test_refusals_in_words(fetch, objects, store, failure, words):
    put(objects, FILES)
    store.failure = failure
    code, output = fetch()
    assert code == 1 and output.startswith("error: ") and all(word in output for word in words), output
    assert SECRET not in output and not leftovers(fetch.cache)


def test_a_refusal_in_the_middle(fetch, objects, store):
    put(objects, FILES)
    store.failure = Failure(403, "AccessDenied", "GET /models/demo/a/1/model.bin")
    code, output = fetch()
    assert code == 1 and "AccessDenied" in output and not states(fetch.cache)


def test_nothing_there_no_store_and_no_such_url(fetch, store, tmp_path):
    code, output = fetch()
    assert code == 1 and "There is nothing at s3://http://127.0.0.1" in output and "publish the models first" in output
    code, output = fetch(url="s3://http://127.0.0.1:1/models/demo")
    assert code == 1 and "does not answer" in output and "refused" in output
    code, output = fetch(url="gs://models/demo")
    assert code == 1 and "is not s3://BUCKET/PREFIX" in output


@pytest.mark.parametrize("key", ["demo//a", "demo/../../x", "demo/a//b", "demo/./x"])
def test_objects_that_no_file_can_be_are_refused(fetch, objects, key):
    objects[key] = Stored()
    code, output = fetch()
    assert code == 1 and "cannot be a file's path" in output


def test_a_file_that_is_a_folder_too_is_refused(fetch, objects):
    put(objects, {"a": b"1", "a/b": b"2"})
    code, output = fetch()
    assert code == 1 and "has a as a file and as a folder" in output


def test_a_region_that_the_store_names_is_signed_for(fetch, objects, store):
    put(objects, FILES)
    store.region = "eu-central-1"
    assert fetch()[0] == 0 and tree(fetch.link) == FILES


def test_a_full_disk_ends_in_words_and_leaves_nothing(fetch, objects, monkeypatch):
    put(objects, FILES)

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch_models.os, "pwrite", full)
    code, output = fetch()
    assert code == 1 and re.search(r"The disk of the cache .* is full: the models need [0-9.]+ MiB, and [0-9.]+ MiB are free", output)
    assert not states(fetch.cache) and not leftovers(fetch.cache)


def test_room_is_made_by_what_nobody_uses(fetch, objects, monkeypatch):
    put(objects, FILES)
    fetch(keep=9)
    put(objects, {"a/config.pbtxt": b"second"})
    fetch(keep=9)
    first, second = sorted(states(fetch.cache), key=lambda state: (fetch.cache / state / "complete").stat().st_mtime)
    put(objects, {"a/1/model.bin": content(8000, 3)})
    monkeypatch.setattr(fetch_models.Cache, "free", lambda cache: 10**9 if first not in states(fetch.cache) else 100)
    code, output = fetch(keep=9)
    assert code == 0 and f"taking away {first}" in output and second in states(fetch.cache)
    put(objects, {"a/1/model.bin": content(8000, 4)})
    monkeypatch.setattr(fetch_models.Cache, "free", lambda cache: 100)
    with open(fetch.cache / second / "complete", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        code, output = fetch(keep=9)
    assert code == 1 and "is full" in output and states(fetch.cache) == [second]


def test_the_states_used_longest_ago_go_and_none_that_is_in_use(fetch, objects):
    for number in range(4):
        put(objects, {"a/config.pbtxt": str(number).encode()})
        fetch(keep=9)
        complete = pathlib.Path(os.readlink(fetch.link)).parent / "complete"
        age = complete.stat().st_mtime - LONG_AGO + number
        os.utime(complete, (age, age))
    oldest = sorted(states(fetch.cache), key=lambda state: (fetch.cache / state / "complete").stat().st_mtime)[0]
    with open(fetch.cache / oldest / "complete", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert fetch(keep=2)[0] == 0 and len(states(fetch.cache)) == 3 and oldest in states(fetch.cache)
    assert fetch(keep=2)[0] == 0 and len(states(fetch.cache)) == 2 and oldest not in states(fetch.cache)
    assert not leftovers(fetch.cache)


def test_a_state_that_was_used_a_moment_ago_stays(fetch, objects):
    for number in range(3):
        put(objects, {"a/config.pbtxt": str(number).encode()})
        fetch(keep=1)
    assert len(states(fetch.cache)) == 3


def test_what_was_never_finished_goes_when_it_is_old(fetch, objects):
    put(objects, FILES)
    for name in ("0" * 32 + ".partial", "1" * 32 + ".partial-ab", "2" * 32 + ".partial", "3" * 32 + ".partial"):
        (fetch.cache / name).mkdir()
    for name in ("2" * 32 + ".lock", "4" * 32 + ".lock", "notours.lock"):
        (fetch.cache / name).touch()
    for entry in fetch.cache.iterdir():
        if not entry.name.startswith("3"):
            os.utime(entry, (LONG_AGO, LONG_AGO))
    with open(fetch.cache / ("2" * 32 + ".lock"), encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert fetch()[0] == 0
    left = {entry.name for entry in fetch.cache.iterdir()} - set(states(fetch.cache)) - {f"{states(fetch.cache)[0]}.lock"}
    assert left == {"2" * 32 + ".partial", "2" * 32 + ".lock", "3" * 32 + ".partial", "notours.lock"}


def test_a_state_that_is_not_whole_is_fetched_anew(fetch, objects):
    put(objects, FILES)
    fetch()
    state = fetch.cache / states(fetch.cache)[0]
    (state / "repository/a/1/model.bin").write_bytes(b"short")
    code, output = fetch()
    assert code == 0 and tree(fetch.link) == FILES and "already" not in output


@pytest.mark.parametrize("locks", [True, False])
def test_two_at_once_both_have_it(fetch, objects, store, tmp_path, monkeypatch, locks):
    put(objects, FILES)
    if not locks:

        def none(*_arguments):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fetch_models.fcntl, "flock", none)
    barrier, codes = threading.Barrier(3), []

    def one(number):
        barrier.wait()
        codes.append(fetch(link=tmp_path / f"link-{number}")[0])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert codes == [0, 0, 0] and all(tree(tmp_path / f"link-{number}") == FILES for number in range(3))
    assert len(states(fetch.cache)) == 1 and not leftovers(fetch.cache)
    if locks:
        assert len(gets(store)) == 13


def test_a_cache_that_may_not_be_written_ends_in_words(fetch, objects, monkeypatch):
    put(objects, FILES)

    def denied(*_arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(fetch_models.os, "mkdir", denied)
    code, output = fetch()
    assert code == 1 and "cannot be written as user" in output and "install -d -o" in output and "with mode" in output


@pytest.mark.parametrize("token", ["", "a-token/with+signs="])
@pytest.mark.parametrize("key", ["", "demo/file 1 +ü~.bin"])
def test_signatures_are_those_of_botocore(token, key, monkeypatch):
    now = datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)
    store = fetch_models.Store(fetch_models.Location("s3://https://s3.example.com:8333/models/demo"), fetch_models.Credentials(None, KEYS))
    query = {} if key else {"list-type": "2", "prefix": "a b/ü+", "continuation-token": "x=/&"}
    path = store._path(key)
    found = fetch_models.signed("GET", "s3.example.com:8333", path, query, "eu-west-3", ("AKID", SECRET, token), now)
    url = f"https://s3.example.com:8333{path}" + (f"?{fetch_models.encoded(query)}" if query else "")
    request = botocore.awsrequest.AWSRequest("GET", url)
    signer = botocore.auth.S3SigV4Auth(botocore.credentials.Credentials("AKID", SECRET, token or None), "s3", "eu-west-3")
    for module in ("botocore.auth.datetime", "botocore.compat.get_current_datetime", "botocore.auth.get_current_datetime"):
        try:
            monkeypatch.setattr(module, lambda *_arguments, **_more: now.replace(tzinfo=None))
        except AttributeError:
            pass
    signer.add_auth(request)
    assert found["authorization"] == request.headers["Authorization"]


def test_who_asks():
    def get(environment, url="s3://http://127.0.0.1:1/models/demo"):
        return fetch_models.Credentials(fetch_models.Location(url), environment)

    assert get({}).get() is None
    assert get({**KEYS, "AWS_SESSION_TOKEN": "t"}).get() == ("AKIDEXAMPLE", SECRET, "t")
    assert (get({}).region, get({"AWS_DEFAULT_REGION": "eu-west-1"}).region) == ("us-east-1", "eu-west-1")


def test_without_credentials_nothing_is_signed(fetch, objects, store, monkeypatch):
    for name in KEYS:
        monkeypatch.delenv(name)
    put(objects, FILES)
    assert fetch()[0] == 0 and not any("authorization" in header for header in store.headers)
    store.failure = Failure(403, "AccessDenied")
    assert "refuses without credentials, since none are given" in fetch()[1]


def test_a_file_of_several_stores(fetch, objects, store, monkeypatch, tmp_path):
    put(objects, FILES)
    mine = f"s3://http://127.0.0.1:{store.server_port}/models"
    entries = {"": {"key_id": "OTHER", "secret_key": "x"}, mine: {"key_id": "MINE", "secret_key": SECRET, "region": "eu-south-1"}}
    (tmp_path / "credentials.json").write_text(json.dumps({"s3": entries}), encoding="utf-8")
    monkeypatch.setenv("TRITON_CLOUD_CREDENTIAL_PATH", str(tmp_path / "credentials.json"))
    assert fetch()[0] == 0 and all(
        "Credential=MINE/" in header["authorization"] and "/eu-south-1/s3/" in header["authorization"] for header in store.headers
    )
    (tmp_path / "credentials.json").write_text(SECRET, encoding="utf-8")
    code, output = fetch()
    assert code == 1 and "cannot be read" in output and SECRET not in output


def test_the_pods_role(fetch, objects, store, monkeypatch, tmp_path):
    for name in KEYS:
        monkeypatch.delenv(name)
    put(objects, FILES)
    (tmp_path / "token").write_text("web-token\n", encoding="utf-8")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::000000000000:role/reader")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{store.server_port}")
    code, output = fetch()
    assert code == 0 and len(store.sts) == 1 and "WebIdentityToken=web-token" in store.sts[0], output
    assert all(header["x-amz-security-token"] == "role-token" for header in store.headers)


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("s3://models/demo", "models.s3.eu-west-1.amazonaws.com", "/k"),
        ("s3://my.models/demo", "s3.eu-west-1.amazonaws.com", "/my.models/k"),
        ("s3://store:9000/models/demo", "store:9000", "/models/k"),
        ("s3://https://store.example:443/models", "store.example:443", "/models/k"),
    ],
)
def test_where_a_bucket_is_asked(url, host, path):
    location = fetch_models.Location(url)
    store = fetch_models.Store(location, fetch_models.Credentials(location, {"AWS_DEFAULT_REGION": "eu-west-1"}))
    assert (store._address().netloc, store._path("k")) == (host, path)
