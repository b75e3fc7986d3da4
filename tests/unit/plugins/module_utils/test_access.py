# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.mlserving.triton.plugins.module_utils import _access
from ansible_collections.mlserving.triton.plugins.module_utils._s3_errors import S3Error

KEYS = {"AWS_ACCESS_KEY_ID": "triton", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "eu-west-1", "other": "x"}
FILE = {
    "s3": {"": {"key_id": "a"}, "s3://models": {"key_id": "b", "region": "r"}, "s3://models/demo": {"key_id": "c", "secret_key": "s", "profile": ""}}
}


def test_the_variables_of_a_secret_are_the_options():
    assert _access.of_secret(KEYS, "s3://models/demo") == {"region": "eu-west-1", "access_key_id": "triton", "secret_access_key": "secret"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://other/demo", {"access_key_id": "a"}),
        ("s3://models/other", {"access_key_id": "b", "region": "r"}),
        ("s3://models/demo/1", {"access_key_id": "c", "secret_access_key": "s"}),
    ],
)
def test_in_a_file_the_longest_prefix_counts(url, expected):
    assert _access.of_secret({"credentials.json": json.dumps(FILE)}, url) == expected


@pytest.mark.parametrize("entries", [{}, {"s3": {"s3://models": {}}}, {"gs": {"": "/key"}}])
def test_a_file_without_an_entry_for_the_repository_is_refused(entries):
    with pytest.raises(S3Error, match="no entry for s3://other/demo. Add one under s3"):
        _access.of_secret({"credentials.json": json.dumps(entries)}, "s3://other/demo")
