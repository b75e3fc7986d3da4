# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _credentials

ID, KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
GOOD = {"region": "us-east-1", "access_key_id": ID, "secret_access_key": KEY}


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
        {**GOOD, "session_token": encoded('{"issuer": "some store", "expires": 1}')},
        {**GOOD, "session_token": "IQoJb3JpZ2luX2VjEOb//////////wEaCXVzLWVhc3QtMSJHMEUCIQ=="},
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
        ({"access_key_id": "AKIA-IOSFODNN"}, "plain", "access_key_id cannot be one"),
        ({"access_key_id": "ab"}, "plain", "access_key_id cannot be one"),
        ({"region": "us east"}, "plain", "region has other characters"),
    ],
)
def test_names_the_slip_and_never_the_value(change, encoding, expected):
    values = {**(encode_all(GOOD) if encoding == "base64" else GOOD), **change}
    with pytest.raises(_credentials.CredentialsError) as error:
        _credentials.credentials(values, encoding)
    assert expected in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None
    assert not any(value.strip("\"\n ")[:12] in str(error.value) for option, value in change.items() if len(value) > 10)


def test_strip_mends_a_line_break_on_either_side_of_the_encoding():
    assert _credentials.credentials({**GOOD, "secret_access_key": f" {KEY}\n"}, strip=True) == GOOD
    twice = {**encode_all(GOOD), "secret_access_key": encoded(KEY + "\n") + "\n"}
    assert _credentials.credentials(twice, encoding="base64", strip=True) == GOOD
