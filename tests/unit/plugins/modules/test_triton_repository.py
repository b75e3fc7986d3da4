# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module, with the real SDK, against a small S3 in this process."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import xml.etree.ElementTree
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import botocore.loaders
import botocore.session
import pytest

from ansible_collections.mlserving.triton.plugins.modules import triton_repository

FILES = {"simple/config.pbtxt": 'name: "simple"', "simple/1/model.py": "x = 1", "other/1/model.onnx": "onnx", "simple/verify.yml": "cases: []"}
KEYS = ["demo/other/1/model.onnx", "demo/simple/1/model.py", "demo/simple/config.pbtxt"]
OURS = "<Tagging><TagSet><Tag><Key>mlserving.triton/managed-by</Key><Value>model_repository</Value></Tag></TagSet></Tagging>"


class S3(http.server.ThreadingHTTPServer):
    """``buckets`` maps a bucket to {key: (size, etag, metadata)}, ``tags`` to its tagging document; ``error`` answers everything."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.buckets, self.tags, self.error, self.requests, self.not_empty = {}, {}, None, [], False

    def writes(self) -> list:
        return [line for line in self.requests if not line.startswith(("GET", "HEAD"))]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Keep the test's output clean."""

    def answer(self, status: int, body: str = "", **headers) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode() if self.command != "HEAD" else b"")

    def error(self, status: int, code: str) -> None:
        self.answer(status, f"<Error><Code>{code}</Code><Message>said the store</Message></Error>")

    def handle_request(self) -> None:
        url = urlsplit(self.path)
        _empty, bucket, *rest = unquote(url.path).split("/", 2)
        key, query = (rest or [""])[0], parse_qs(url.query, keep_blank_values=True)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{self.command} {unquote(self.path)}")
        objects = self.server.buckets.get(bucket)
        if self.server.error:
            return self.error(*self.server.error)
        if self.command == "PUT" and not key and "tagging" not in query:
            self.server.buckets[bucket] = {}
            return self.answer(200)
        if objects is None:
            return self.error(404, "NoSuchBucket")
        return self.on_object(objects, key, body) if key else self.on_bucket(bucket, objects, query, body)

    def on_object(self, objects: dict, key: str, body: bytes) -> None:
        if self.command == "PUT":
            metadata = {name.lower(): value for name, value in self.headers.items() if name.lower().startswith("x-amz-meta-")}
            etag = hashlib.md5(body).hexdigest()
            objects[key] = (len(body), etag, metadata)
            return self.answer(200, ETag=f'"{etag}"')
        size, etag, metadata = objects[key]
        return self.answer(200, ETag=f'"{etag}"', Content_Length=str(size), **metadata)

    def on_bucket(self, bucket: str, objects: dict, query: dict, body: bytes) -> None:
        if "tagging" in query:
            if self.command == "PUT":
                self.server.tags[bucket] = body.decode()
                return self.answer(200)
            tags = self.server.tags.get(bucket)
            return self.answer(200, tags) if tags else self.error(404, "NoSuchTagSet")
        if self.command == "POST":
            for element in xml.etree.ElementTree.fromstring(body).iter():
                if element.tag.endswith("Key"):
                    objects.pop(element.text, None)
            return self.answer(200, "<DeleteResult/>")
        if "uploads" in query:
            return self.answer(200, "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
        if "versions" in query:
            return self.answer(200, "<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>")
        if self.command == "DELETE":
            if self.server.not_empty:
                return self.error(409, "BucketNotEmpty")
            del self.server.buckets[bucket]
            return self.answer(204)
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>&quot;{etag}&quot;</ETag></Contents>"
            for key, (size, etag, _metadata) in sorted(objects.items())
            if key.startswith(query.get("prefix", [""])[0])
        )
        return self.answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request


@pytest.fixture(scope="module")
def models():
    """The SDK's descriptions of its services, read once: reading them is most of a client's start."""
    return botocore.loaders.create_loader()


@pytest.fixture
def store(monkeypatch, models):
    monkeypatch.setattr(botocore.session, "create_loader", lambda *args: models)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with S3() as s3:
        threading.Thread(target=s3.serve_forever, args=(0.02,), daemon=True).start()
        yield s3
        s3.shutdown()


@pytest.fixture
def source(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def run(store, source, run_module, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")

    def call(check=False, **options):
        base = {
            "retry_seconds": 0,
            "url": "s3://s3.storage.svc:8333/models/demo",
            "endpoint_url": f"http://127.0.0.1:{store.server_port}",
            "access_key_id": "LABKEYID00001234",
            "secret_access_key": "not-a-real-key",
            "source": str(source),
            "cache_dir": str(cache),
        }
        arguments = {key: value for key, value in (base | options).items() if value is not None}
        return run_module(triton_repository, arguments, check)

    return call


def test_uploads_once_and_then_changes_nothing(store, run):
    first = run()
    assert first["changed"] and first["bucket_created"] and first["uploaded"] == KEYS and first["models"] == ["other", "simple"]
    assert first["bytes"] == sum(size for size, _etag, _metadata in store.buckets["models"].values())
    assert sorted(store.buckets["models"]) == KEYS and "<Value>model_repository</Value>" in store.tags["models"]
    store.requests.clear()
    second = run()
    assert not second["changed"] and second["unchanged"] == 3 and second["uploaded"] == []
    assert len(store.requests) == 1, "one listing tells all"


def test_a_configuration_comes_after_every_other_file(store, run):
    run()
    assert store.writes()[-1] == "PUT /models/demo/simple/config.pbtxt"


def test_check_mode_predicts_and_writes_nothing(store, run):
    predicted = run(check=True)
    assert store.writes() == []
    real = run()
    same = ("changed", "uploaded", "unchanged", "bytes", "bucket_created", "models", "diff")
    assert {key: predicted[key] for key in same} == {key: real[key] for key in same}


def test_only_what_differs_is_sent_and_the_rest_left_alone(store, source, run):
    run()
    store.buckets["models"]["demo/gone/1/model.py"] = (1, "x", {})
    (source / "simple/1/model.py").write_text("x = 2")
    changed = run()
    assert changed["uploaded"] == ["demo/simple/1/model.py"] and changed["unchanged"] == 2
    assert "demo/simple/1/model.py (new content)\n" in changed["diff"]["after"] and "demo/gone/1/model.py\n" in changed["diff"]["after"]


def test_an_object_of_several_parts_is_known_by_its_sum(store, source, run):
    run()
    key = "demo/other/1/model.onnx"
    size, _etag, metadata = store.buckets["models"][key]
    assert metadata == {"x-amz-meta-sha256": hashlib.sha256(FILES["other/1/model.onnx"].encode()).hexdigest()}
    store.buckets["models"][key] = (size, "0123-2", metadata)
    assert not run()["changed"]
    (source / "other/1/model.onnx").write_text("ONNX")
    assert run()["uploaded"] == [key]


def test_a_neighbour_that_begins_alike_is_no_part_of_it(store, run):
    store.buckets["models"] = {"demo2/x": (1, "x", {}), "demo/simple2/x": (1, "x", {})}
    assert "demo2/x" not in run()["diff"]["before"]
    assert run(state="absent")["deleted"] == KEYS
    assert sorted(store.buckets["models"]) == ["demo/simple2/x", "demo2/x"]


def test_nothing_moves_from_a_tree_that_triton_could_not_serve(store, source, run):
    (source / "broken").mkdir()
    assert "broken has neither" in run()["msg"]
    assert store.requests == []


def test_the_tags_of_an_existing_bucket_stay(store, run):
    store.buckets["models"] = {}
    assert not run()["bucket_created"]
    assert store.tags == {}


def test_a_missing_bucket_is_an_error_if_it_is_not_to_be_created(store, run):
    failed = run(create_bucket=False)
    assert failed["msg"].startswith("the bucket models at http://127.0.0.1:") and "create_bucket is false" in failed["msg"]
    assert store.writes() == []


def test_absent_takes_bucket_and_all_if_nothing_else_is_in_it(store, run):
    run()
    predicted = run(check=True, state="absent", delete_bucket=True)
    assert predicted["bucket_deleted"] and predicted["deleted"] == KEYS and predicted["diff"]["after"] == "" and "models" in store.buckets
    assert run(state="absent", delete_bucket=True)["bucket_deleted"]
    assert store.buckets == {}
    assert not run(state="absent", delete_bucket=True)["changed"]


@pytest.mark.parametrize(
    ("tags", "others", "expected"),
    [
        (None, [], "does not carry the tag mlserving.triton/managed-by=model_repository"),
        (OURS, ["demo/theirs/1/x"], "holds other objects, such as demo/theirs/1/x"),
        (OURS, ["elsewhere/x"], "holds other objects, such as elsewhere/x"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_a_bucket_that_is_not_ours_alone_is_kept(store, run, tags, others, expected, check):
    store.buckets["models"] = {key: (1, "x", {}) for key in KEYS + others}
    store.tags["models"] = tags
    result = run(check=check, state="absent", delete_bucket=True)
    assert result["deleted"] == KEYS and not result["bucket_deleted"] and expected in result["kept"][0]
    assert sorted(store.buckets["models"]) == sorted(others + (KEYS if check else []))


def test_a_bucket_that_keeps_old_versions_is_kept(store, run):
    run()
    store.not_empty = True
    result = run(state="absent", delete_bucket=True)
    assert result["changed"] and not result["bucket_deleted"] and "is not empty" in result["kept"][0]


def test_absent_without_source_takes_all_below_the_prefix(store, run):
    store.buckets["models"] = {"demo/a/1/x": (1, "x", {}), "keep/x": (1, "x", {})}
    result = run(state="absent", source=None)
    assert result["deleted"] == ["demo/a/1/x"] and result["models"] == [] and list(store.buckets["models"]) == ["keep/x"]


def test_the_whole_of_a_bucket_that_is_not_ours_is_never_deleted(store, run):
    store.buckets["models"] = {"theirs": (1, "x", {})}
    failed = run(state="absent", source=None, url="s3://s3.storage.svc:8333/models")
    assert "so not all of it is deleted" in failed["msg"] and store.buckets["models"]
    store.tags["models"] = OURS
    assert run(state="absent", source=None, url="s3://s3.storage.svc:8333/models")["deleted"] == ["theirs"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ((403, "InvalidAccessKeyId"), "cannot be listed: the store does not know the access key id ending in 1234."),
        ((403, "SignatureDoesNotMatch"), "secret_access_key does not belong to the access key id ending in 1234."),
        ((403, "AccessDenied"), "the access key id ending in 1234 may not do this"),
        ((400, "Odd"), "Odd: said the store"),
    ],
)
def test_a_refusal_is_one_line_in_words(store, run, error, expected):
    store.error = error
    failed = run()
    assert expected in failed["msg"] and "\n" not in failed["msg"] and "the bucket models at http://127.0.0.1:" in failed["msg"]
    assert "not-a-real-key" not in json.dumps(failed)


def test_no_credentials_at_all(run):
    assert "no credentials were found" in run(access_key_id=None, secret_access_key=None)["msg"]


def test_a_slip_in_the_credentials_is_found_before_a_request(store, run):
    failed = run(access_key_id="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", secret_access_key="AKIAIOSFODNN7EXAMPLE")
    assert "seem to be swapped" in failed["msg"] and "wJalr" not in json.dumps(failed) and store.requests == []


def test_a_short_id_does_not_mask_the_keys(run):
    assert run(access_key_id="demo")["uploaded"] == KEYS


@pytest.mark.parametrize("options", [{"parallel": 0}, {"url": "gs://bucket/models"}, {"url": "s3://http://minio.local/models"}])
def test_a_wrong_option_is_named_with_its_value(run, options):
    ((name, value),) = options.items()
    message = run(**options)["msg"]
    assert name in message and str(value) in message
