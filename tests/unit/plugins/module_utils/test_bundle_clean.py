# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import gzip
import json
import time
from urllib.parse import quote

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _bundle_clean
from ansible_collections.mlserving.triton.plugins.module_utils._bundle_clean import Cleaner

VALUE = 'can"ary\\key/with+every&thing%20=0123456'


def encoded(text):
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "written",
    [
        VALUE,
        encoded(VALUE),
        encoded(f"Basic {VALUE}"),
        encoded(f"u:{VALUE}!"),
        quote(VALUE, safe=""),
        json.dumps(VALUE),
        json.dumps(json.dumps(VALUE)),
    ],
    ids=["plain", "base64", "within base64", "within base64, again", "URL", "JSON", "JSON in JSON"],
)
def test_a_known_value_is_taken_out_in_every_form(written):
    cleaned = Cleaner([VALUE]).text(f"before {written} after")
    assert cleaned.startswith("before ") and cleaned.endswith(" after") and "(redacted)" in cleaned
    assert not any(form in cleaned for form in _bundle_clean.forms(VALUE)) and "every" not in cleaned


def test_short_values_and_the_region_stand():
    values = _bundle_clean.values_of_secret(
        {"data": {"AWS_DEFAULT_REGION": encoded("us-east-1"), "flag": encoded("true"), "key": encoded("long-enough")}}
    )
    assert Cleaner(values).text("us-east-1 true long-enough") == "us-east-1 true (redacted)"


def test_each_part_of_a_secret_file_is_known():
    file = '[default]\naws_secret_access_key = ini-value-1\n{"private_key": "json-value-1", "type": "account"}\n'
    cleaned = Cleaner(_bundle_clean.values_of_secret({"data": {"credentials": encoded(file)}})).text("a ini-value-1 b json-value-1 c account")
    assert cleaned == "a (redacted) b (redacted) c account"


def test_values_are_found_by_the_name_of_what_holds_them():
    spec = {
        "env": [{"name": "DB_PASSWORD", "value": "in-a-variable"}, {"name": "PLAIN", "value": "plain"}],
        "args": [
            "--api-key=in-an-argument",
            "--token",
            "in-the-next-one",
            "--http-restricted-api=statistics:name=in-a-restriction",
            "--key=$(VARIABLE)",
        ],
        "httpHeaders": [{"name": "Authorization", "value": "in-a-header"}],
    }
    assert sorted(_bundle_clean.values_in(spec)) == ["in-a-header", "in-a-restriction", "in-a-variable", "in-an-argument", "in-the-next-one"]
    shown = json.dumps(Cleaner([]).object(spec))
    assert shown.count("(redacted)") == 5 and "in-" not in shown
    assert "$(VARIABLE)" in shown and '"plain"' in shown


def test_what_is_packed_is_left_out():
    packed = base64.b64encode(gzip.compress(VALUE.encode())).decode()
    assert packed not in str(Cleaner([VALUE]).object({"binaryData": {"release": packed}}))


def test_bookkeeping_and_what_it_holds_is_left_out():
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team/api-token": "in-an-annotation", "team": "vision"}
    thing = {
        "metadata": {"managedFields": [{}], "annotations": annotations},
        "data": {"password": "in-a-map", "conf": "user a"},
        "secretKeyRef": {"key": "AWS_KEY"},
    }
    assert Cleaner([]).object(thing) == {
        "metadata": {"annotations": {"team/api-token": "(redacted)", "team": "vision"}},
        "data": {"password": "(redacted)", "conf": "user a"},
        "secretKeyRef": {"key": "AWS_KEY"},
    }


@pytest.mark.parametrize("line", ["-" * 200_000, "--" + "key" * 60_000, "a" * 200_000 + "=", "--http-restricted-api=" + "x" * 200_000])
def test_a_long_line_takes_no_long_time(line):
    started = time.monotonic()
    Cleaner(["some-value"]).text(line)
    assert time.monotonic() - started < 5
