# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import botocore.exceptions
import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _s3, _s3_errors, _s3_url

KEYS = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "not-a-real-key"}


@pytest.mark.parametrize(
    ("url", "bucket", "prefix", "endpoint"),
    [
        ("s3://models", "models", "", None),
        ("s3://my.models/a/b/", "my.models", "a/b", None),
        ("s3://minio:9000/models/a", "models", "a", "http://minio:9000"),
        ("s3://http://s3.storage.svc:8333/models", "models", "", "http://s3.storage.svc:8333"),
        ("s3://https://s3.example.org:443/models/v1.2_x-y/", "models", "v1.2_x-y", "https://s3.example.org:443"),
    ],
)
def test_reads_the_forms_that_triton_reads(url, bucket, prefix, endpoint):
    location = _s3_url.parse(url)
    assert (location.bucket, location.prefix, location.endpoint) == (bucket, prefix, endpoint)
    assert location.url == url.rstrip("/")
    assert location.key("m/1/x") == (f"{prefix}/m/1/x" if prefix else "m/1/x")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("gs://bucket/models", "is not S3"),
        ("as://account/container", "is not S3"),
        ("/models", "does not start with s3://"),
        ("s3://", "names no bucket"),
        ("s3://minio:9000", "names no bucket"),
        ("s3://http://minio.local/models/a", "no port. Triton needs one even where it is the usual one, such as http://minio.local:80"),
        ("s3://https://minio.local/models", "such as https://minio.local:443"),
        ("s3://minio:/models", "no port"),
        ("s3://minio:http/models", "'http' is not a port"),
        ("s3://minio:70000/models", "'70000' is not a port"),
        ("s3://http://min_io:9000/models", "the host 'min_io'"),
        ("s3://My_Bucket/models", "the bucket 'My_Bucket'"),
        (
            "s3://minio:9000/models/run=1",
            "'run=1' is not made of letters, digits, '.', '_' and '-' only. Triton would take minio:9000 for the bucket",
        ),
        ("s3://http://minio:9000/models/a b", "Triton would take http: for the bucket"),
        ("s3://models//a", "the path element ''"),
        ("s3://models/../a", "the path element '..'"),
    ],
)
def test_says_why_triton_would_not_find_it(url, expected):
    with pytest.raises(_s3_errors.S3Error) as error:
        _s3_url.parse(url)
    assert expected in str(error.value)


def store(url="s3://minio:9000/models", **options) -> _s3.Store:
    return _s3.Store(_s3_url.parse(url), KEYS, **options)


@pytest.fixture(scope="module")
def minio():
    return store()


def test_talks_to_the_store_that_the_options_name(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://somewhere.else:1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert store()._client.meta.endpoint_url == "http://minio:9000"
    assert store(endpoint_url="http://10.0.0.1:8333/")._client.meta.endpoint_url == "http://10.0.0.1:8333"
    aws = store("s3://models")
    assert aws._client.meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"
    assert (aws.region, store("s3://models", region="eu-north-1").region) == ("eu-west-1", "eu-north-1")


@pytest.mark.parametrize("endpoint", ["minio:9000", "http://minio:9000/path", "http://user:word@minio:9000"])
def test_refuses_an_endpoint_that_is_more_than_an_address(endpoint):
    with pytest.raises(_s3_errors.S3Error, match="Expected http://HOST:PORT"):
        store(endpoint_url=endpoint)


def client_error(code: str, message: str = "") -> Exception:
    return botocore.exceptions.ClientError({"Error": {"Code": code, "Message": message}}, "ListObjectsV2")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (client_error("InvalidAccessKeyId"), "the store does not know the access key id ending in MPLE"),
        (client_error("SignatureDoesNotMatch"), "secret_access_key does not belong to the access key id ending in MPLE"),
        (client_error("403"), "the access key id ending in MPLE is refused"),
        (client_error("Odd", "Please reduce\n your request rate"), "Odd: Please reduce your request rate"),
        (botocore.exceptions.NoCredentialsError(), "no credentials were found"),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="x"), "does not answer (EndpointConnectionError)"),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="x"), "does not answer (ReadTimeoutError)"),
        (botocore.exceptions.SSLError(endpoint_url="x", error="certificate"), "the TLS connection failed"),
    ],
)
def test_errors_name_the_store_and_what_to_do(minio, error, expected):
    with pytest.raises(_s3_errors.S3Error) as seen, minio.explained("be listed"):
        raise error
    text = str(seen.value)
    assert text.startswith("the bucket models at http://minio:9000 cannot be listed: ")
    assert expected in text and KEYS["access_key_id"] not in text and "\n" not in text


def test_a_short_key_id_is_not_shown_in_part(minio, monkeypatch):
    monkeypatch.setattr(minio, "key_id", "triton")
    with pytest.raises(_s3_errors.S3Error, match="does not know the access key id. Check"), minio.explained("be listed"):
        raise client_error("InvalidAccessKeyId")
