# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import datetime
import json

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _credentials

ID, KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
GOOD = {"region": "us-east-1", "access_key_id": ID, "secret_access_key": KEY}
TEMPORARY = {**GOOD, "access_key_id": "ASIAIOSFODNN7EXAMPLE", "session_token": "IQoJb3JpZ2luX2VjEOb//////////wEaCXVzLWVhc3QtMSJHMEUCIQ=="}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def encode_all(values: dict) -> dict:
    return {option: encoded(value) for option, value in values.items()}


def test_takes_both_encodings():
    assert _credentials.credentials({**GOOD, "session_token": None}) == GOOD
    assert _credentials.credentials(encode_all(GOOD), encoding="base64") == GOOD


@pytest.mark.parametrize(
    "values",
    [
        {"access_key_id": "triton", "secret_access_key": "triton-lab", "region": "garage"},
        {"access_key_id": "minioadmin", "secret_access_key": "minioadmin", "region": "us-east-1"},
        {"access_key_id": "0123456789abcdef0123456789abcdef", "secret_access_key": "0123456789abcdef" * 4, "region": "auto"},
        {**GOOD, "access_key_id": "STOREKEY000000000001", "session_token": encoded('{"issuer": "some store", "expires": 1}')},
        {**GOOD, "access_key_id": "akia", "secret_access_key": "short", "session_token": "of-a-store-that-takes-any"},
        TEMPORARY,
        {**GOOD, "access_key_id": "ASIAff3f9e2eb85eea2d", "secret_access_key": 43 * "a" + "=", "session_token": "of.a.store"},
    ],
)
def test_takes_what_compatible_stores_issue(values):
    assert _credentials.credentials(values) == values


@pytest.mark.parametrize(
    ("change", "encoding", "expected"),
    [
        ({"secret_access_key": KEY + "\n"}, "plain", "secret_access_key has white space or a line break at its end, as left by echo without -n"),
        ({"secret_access_key": encoded(KEY + "\n")}, "base64", "secret_access_key has white space or a line break at its end"),
        ({"region": " us-east-1"}, "plain", "region has white space or a line break at its start"),
        ({"secret_access_key": KEY}, "base64", "secret_access_key is not the base64 of a text, though encoding is base64"),
        ({"access_key_id": "no base64!"}, "base64", "access_key_id is not the base64 of a text"),
        ({"secret_access_key": encoded(encoded(KEY))}, "base64", "secret_access_key is encoded twice"),
        ({"region": encoded(encoded("us-east-1"))}, "base64", "region is encoded twice"),
        ({"secret_access_key": encoded(KEY)}, "plain", "secret_access_key is base64, though encoding is plain"),
        ({"secret_access_key": encoded(KEY + "\n")}, "plain", "secret_access_key is base64, though encoding is plain"),
        ({"access_key_id": encoded(ID)}, "plain", "access_key_id is base64, though encoding is plain"),
        ({"session_token": encoded(encoded("a token of some bytes"))}, "plain", "session_token is base64"),
        ({"region": "AWS_REGION"}, "plain", "region is the placeholder text of the public chart"),
        ({"access_key_id": "AWS_SECRET_KEY_ID"}, "base64", "access_key_id is the placeholder text"),
        ({"secret_access_key": encoded("SECRET_ACCESS_KEY")}, "base64", "secret_access_key is the placeholder text"),
        ({"secret_access_key": f'"{KEY}"'}, "plain", "secret_access_key has quotes around it"),
        ({"access_key_id": KEY, "secret_access_key": ID}, "plain", "seem to be swapped"),
        ({"access_key_id": ""}, "plain", "access_key_id is empty"),
        ({"secret_access_key": KEY[:20] + "\n" + KEY[20:]}, "plain", "secret_access_key holds control characters"),
        ({"access_key_id": "a/path"}, "plain", "access_key_id cannot be one"),
        ({"access_key_id": "ab"}, "plain", "access_key_id cannot be one"),
        ({"region": "us east"}, "plain", "region has other characters"),
        ({"secret_access_key": KEY[:-1] + "\udcff"}, "plain", "secret_access_key holds bytes that are no UTF-8 text"),
        ({"access_key_id": ID[:16]}, "plain", "access_key_id begins with AKIA or ASIA, so it must have 20 characters, but has 16: it was cut off"),
        ({"access_key_id": ID + ID}, "plain", "so it must have 20 characters, but has 40: it was pasted twice"),
        ({"access_key_id": encoded(ID + ID)}, "base64", "but has 40: it was pasted twice, or together with something else. Copy it again."),
        ({"access_key_id": "AKIAiosfodnn7example"}, "plain", "but has other characters than capital letters and digits"),
        ({"secret_access_key": KEY[:-1]}, "plain", "secret_access_key must have 40 characters beside an id of AWS (AKIA... or ASIA...), but has 39"),
        ({"secret_access_key": KEY + KEY}, "plain", "but has 80: it was pasted twice"),
        ({"access_key_id": TEMPORARY["access_key_id"]}, "plain", "access_key_id begins with ASIA, so it is of temporary credentials"),
        ({"session_token": TEMPORARY["session_token"]}, "plain", "session_token is given, but access_key_id begins with AKIA"),
    ],
)
def test_names_the_slip_and_never_the_value(change, encoding, expected):
    values = {**(encode_all(GOOD) if encoding == "base64" else GOOD), **change}
    with pytest.raises(_credentials.CredentialsError) as error:
        _credentials.credentials(values, encoding)
    assert expected in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None
    assert not any(value.strip('"\n ')[:12] in str(error.value) for option, value in change.items() if len(value) > 10)


def test_strip_mends_a_line_break_on_either_side_of_the_encoding():
    assert _credentials.credentials({**GOOD, "secret_access_key": f" {KEY}\n"}, strip=True) == GOOD
    twice = {**encode_all(GOOD), "secret_access_key": encoded(KEY + "\n") + "\n"}
    assert _credentials.credentials(twice, encoding="base64", strip=True) == GOOD


def test_a_part_of_the_values_is_checked_too():
    assert _credentials.credentials({"region": "us-east-1", "access_key_id": None}) == {"region": "us-east-1"}
    assert _credentials.credentials({"access_key_id": ID}) == {"access_key_id": ID}


def test_messages_call_the_values_as_they_are_told():
    with pytest.raises(_credentials.CredentialsError, match="^the variable X is base64. Give it plain.$"):
        _credentials.credentials({**GOOD, "secret_access_key": encoded(KEY)}, None, names={"secret_access_key": "the variable X"})


def after(hours: float) -> str:
    return _credentials.utc(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=hours))


def token(claims) -> str:
    payload = base64.urlsafe_b64encode(claims if isinstance(claims, bytes) else json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzUxMiJ9.{payload}.c2lnbmF0dXJl"


@pytest.mark.parametrize("told", ["2126-01-31T12:00:00Z", "2126-01-31T13:00:00+01:00", "2126-01-31 12:00:00", " 2126-01-31T12:00:00.123456Z\n"])
def test_reads_when_credentials_end(told):
    assert _credentials.utc(_credentials.expiry(None, told)) == "2126-01-31T12:00:00Z"
    assert _credentials.expiry("any token", None) is None and _credentials.expiry(None, None) is None


def test_a_token_tells_it_itself_and_the_earlier_time_counts():
    ends = token({"exp": 4924929600, "accessKey": "x"})
    assert _credentials.utc(_credentials.expiry(ends, None)) == "2126-01-24T12:00:00Z"
    assert _credentials.utc(_credentials.expiry(ends, "2125-01-01T00:00:00Z")) == "2125-01-01T00:00:00Z"
    assert _credentials.utc(_credentials.expiry(ends, "2127-01-01T00:00:00Z")) == "2126-01-24T12:00:00Z"


@pytest.mark.parametrize(
    "claims",
    [{}, [], "exp", 7, *({"exp": value} for value in (None, "1", True, 1e300, 10**400, float("nan"))), b"\xff\xfe", b"", b"[" * 100000],
)
def test_never_fails_on_a_token_that_tells_nothing(claims):
    assert _credentials.expiry(token(claims), None) is None


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "a.b.c.d", "a..c", "eyJ.é.c", "a.e30=.c"])
def test_never_fails_on_what_is_no_jwt(text):
    assert _credentials.expiry(text, None) is None


@pytest.mark.parametrize(
    ("hours", "ago"),
    [(-0.005, "less than a minute"), (-0.018, "1 minute"), (-0.76, "45 minutes"), (-1.01, "1 hour"), (-3.01, "3 hours"), (-49, "2 days")],
)
def test_refuses_credentials_that_are_over(hours, ago):
    told = after(hours)
    with pytest.raises(_credentials.CredentialsError) as error:
        _credentials.expiry("some token", told)
    assert str(error.value) == f"session_token expired at {told} ({ago} ago). Get new ones."
    with pytest.raises(_credentials.CredentialsError, match="^the credentials expired at "):
        _credentials.expiry(None, told)
    with pytest.raises(_credentials.CredentialsError, match="^X expired at 2001-09-09T01:46:40Z "):
        _credentials.expiry(token({"exp": 1000000000}), None, "X")


@pytest.mark.parametrize("told", ["tomorrow", "2026-13-01T00:00:00Z", "1700000000", "0001-01-01T00:00:00+23:00"])
def test_refuses_a_time_that_it_cannot_read(told):
    with pytest.raises(_credentials.CredentialsError) as error:
        _credentials.expiry(None, told, told_name="X")
    assert str(error.value) == "X is no time in ISO 8601. Give one such as 2026-01-31T12:00:00Z." and error.value.__suppress_context__


S3 = {"key_id": ID, "secret_key": KEY, "region": "us-east-1"}


def test_takes_the_file_that_triton_reads():
    file = {
        "s3": {"": S3, "s3://http://store:9000/models": {"key_id": "store", "secret_key": "store-key"}, "s3://other": {"profile": "reader"}},
        "gs": {"": "/etc/google.json", "gs://bucket": "/etc/other.json"},
        "as": {"": {"account_str": "store", "account_key": encoded("a key")}, "as://account": {"auth_type": "managed_identity"}},
    }
    assert _credentials.cloud_credentials(file) == file
    assert _credentials.cloud_credentials({"s3": {"": {**S3, "secret_key": KEY + "\n", "session_token": None}}}, strip=True) == {"s3": {"": S3}}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ({"s3": {"": S3}, "S3": {}}, "cloud_credentials has what Triton does not know: S3. It may have gs, s3, as."),
        ({"s3": {}}, 'cloud_credentials.s3 must map "" (any bucket) or prefixes such as s3://bucket to credentials'),
        ({"gs": "/etc/key.json"}, 'cloud_credentials.gs must map ""'),
        ({"s3": S3}, 'cloud_credentials.s3["key_id"] is no prefix of this store. Give "" (any bucket), or one that begins with s3://.'),
        ({"s3": {"": "text"}}, 'cloud_credentials.s3[""] must be a mapping with some of key_id, secret_key, session_token, region, profile.'),
        ({"s3": {"": {**S3, "secret": KEY}}}, 'cloud_credentials.s3[""] has what Triton does not know: secret. It may have key_id,'),
        ({"s3": {"": {"key_id": ID}}}, 'cloud_credentials.s3[""] needs key_id and secret_key'),
        ({"s3": {"": {"session_token": "some-token"}}}, 'cloud_credentials.s3[""] needs key_id and secret_key'),
        ({"s3": {"": {**S3, "region": 7}}}, 'cloud_credentials.s3[""].region is no text'),
        ({"s3": {"": {**S3, "profile": ""}}}, 'cloud_credentials.s3[""].profile is empty'),
        ({"s3": {"s3://bucket": {**S3, "secret_key": KEY + "\n"}}}, 'cloud_credentials.s3["s3://bucket"].secret_key has white space or a line break'),
        ({"s3": {"s3://bucket": {**S3, "secret_key": encoded(KEY)}}}, 'cloud_credentials.s3["s3://bucket"].secret_key is base64. Give it plain.'),
        ({"s3": {"": {**S3, "secret_key": KEY[1:]}}}, 'cloud_credentials.s3[""].secret_key must have 40 characters'),
        ({"s3": {"": {**S3, "key_id": KEY, "secret_key": ID}}}, 'key_id and cloud_credentials.s3[""].secret_key seem to be swapped'),
        ({"s3": {"": {**S3, "session_token": "some-token"}}}, 'session_token is given, but cloud_credentials.s3[""].key_id begins'),
        ({"gs": {"": {"path": KEY}}}, 'cloud_credentials.gs[""] is no text'),
        ({"gs": {"": " /etc/key.json"}}, 'cloud_credentials.gs[""] has white space'),
        ({"as": {"as://x": {"account_str": "x", "key": KEY}}}, 'cloud_credentials.as["as://x"] has what Triton does not know: key. It may'),
        ({"as": {"": {"account_key": f"'{KEY}'"}}}, 'cloud_credentials.as[""].account_key has quotes around it'),
    ],
)
def test_names_what_triton_would_not_understand_by_its_prefix(file, expected):
    with pytest.raises(_credentials.CredentialsError) as error:
        _credentials.cloud_credentials(file)
    assert expected in str(error.value)
    assert not any(value in str(error.value) for value in (ID, KEY, encoded(KEY)))


def test_a_token_in_the_file_is_named_when_it_is_over():
    file = {"s3": {"": {}, "s3://bucket": {"session_token": token({"exp": 1000000000})}}}
    with pytest.raises(_credentials.CredentialsError, match="^cloud_credentials.s3..s3://bucket...session_token expired at 2001-09-09"):
        _credentials.first_expiry(None, None, file, "session_token", "expires")
    file["s3"]["s3://bucket"]["session_token"] = token({"exp": 4924929600})
    first = _credentials.first_expiry(None, "2127-01-01T00:00:00Z", file, "session_token", "expires")
    assert _credentials.utc(first) == "2126-01-24T12:00:00Z"


def test_the_content_is_what_was_given():
    file = {"s3": {"s3://b": {"region": "r", "key_id": "k"}, "": {}}}
    assert _credentials.content({"region": "us-east-1"}, {"a.b-C_1": " as it is\n"}, file) == {
        "AWS_DEFAULT_REGION": b"us-east-1",
        "credentials.json": b'{"s3":{"":{},"s3://b":{"key_id":"k","region":"r"}}}',
        "a.b-C_1": b" as it is\n",
    }
    assert _credentials.content({}, {"binary": "/wA="}, {}, "base64") == {"binary": b"\xff\x00"}


@pytest.mark.parametrize(
    ("data", "encoding", "expected"),
    [
        ({"a b": KEY}, "plain", 'data["a b"]: a Secret cannot have this key'),
        ({"": KEY}, "plain", 'data[""]: a Secret cannot have this key'),
        ({"..": KEY}, "plain", 'data[".."]: a Secret cannot have this key'),
        ({"k" * 254: KEY}, "plain", "a Secret cannot have this key"),
        ({"AWS_DEFAULT_REGION": KEY}, "plain", "AWS_DEFAULT_REGION is given twice, by data and by region. Leave one of them out."),
        ({"credentials.json": KEY}, "plain", "credentials.json is given twice, by data and by cloud_credentials"),
        ({"a": {"b": KEY}}, "plain", 'data["a"] is no text. Put it into quotes, or use the filter to_json'),
        ({"a": 8000}, "plain", 'data["a"] is no text'),
        ({"a": ""}, "plain", 'data["a"] is empty'),
        ({"a": KEY + "\udcff"}, "plain", 'data["a"] holds bytes that are no UTF-8 text'),
        ({"a": KEY + "-"}, "base64", 'data["a"] is not base64, though encoding is base64'),
        ({"a": "x" * (1 << 20)}, "plain", "the values have 1048594 bytes together; a Secret holds at most 1048576"),
    ],
)
def test_refuses_data_that_a_secret_cannot_hold(data, encoding, expected):
    with pytest.raises(_credentials.CredentialsError) as error:
        _credentials.content({"region": "us-east-1"}, data, {"s3": {}}, encoding)
    assert expected in str(error.value) and KEY not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None
