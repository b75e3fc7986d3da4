# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module, with the real SDK, against a small S3 in this process."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _s3
from ansible_collections.mlserving.triton.plugins.modules import triton_repository
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_s3 import Failure, Stored

FILES = ["other/1/model.onnx", "simple/1/model.py", "simple/config.pbtxt"]
KEYS = [f"demo/{name}" for name in FILES]
OURS = "<Tagging><TagSet><Tag><Key>mlserving.triton/managed-by</Key><Value>model_repository</Value></Tag></TagSet></Tagging>"
ROOT = "s3://s3.storage.svc:8333/models"


@pytest.fixture
def run(run_repository):
    return functools.partial(run_repository, triton_repository)


def test_uploads_once_and_then_changes_nothing(store, run):
    first = run()
    assert first["changed"] and first["bucket_created"] and first["uploaded"] == KEYS and first["models"] == ["other", "simple"]
    assert first["bytes"] == sum(len(stored.content) for stored in store.buckets["models"].values())
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
    store.buckets["models"]["demo/gone/1/model.py"] = Stored()
    (source / "simple/1/model.py").write_text("x = 2")
    changed = run()
    assert changed["uploaded"] == ["demo/simple/1/model.py"] and changed["unchanged"] == 2
    assert "demo/simple/1/model.py (new content)\n" in changed["diff"]["after"] and "demo/gone/1/model.py\n" in changed["diff"]["after"]


def test_an_object_of_several_parts_is_known_by_its_sum(store, source, run):
    run()
    key = "demo/other/1/model.onnx"
    stored = store.buckets["models"][key]
    assert stored.metadata == {"x-amz-meta-sha256": hashlib.sha256(b"onnx").hexdigest()}
    store.buckets["models"][key] = dataclasses.replace(stored, etag="0123-2")
    assert not run()["changed"]
    (source / "other/1/model.onnx").write_text("ONNX")
    assert run()["uploaded"] == [key]


def test_a_neighbour_that_begins_alike_is_no_part_of_it(store, run):
    store.buckets["models"] = {"demo2/x": Stored(), "demo/simple2/x": Stored()}
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
    store.buckets["models"] = {key: Stored() for key in KEYS + others}
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
    store.buckets["models"] = {"demo/a/1/x": Stored(), "keep/x": Stored()}
    result = run(state="absent", source=None)
    assert result["deleted"] == ["demo/a/1/x"] and result["models"] == [] and list(store.buckets["models"]) == ["keep/x"]


def test_the_whole_of_a_bucket_that_is_not_ours_is_never_deleted(store, run):
    store.buckets["models"] = {"theirs": Stored()}
    failed = run(state="absent", source=None, url=ROOT)
    assert "so not all of it is deleted" in failed["msg"] and store.buckets["models"]
    store.tags["models"] = OURS
    assert run(state="absent", source=None, url=ROOT)["deleted"] == ["theirs"]


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
    store.failure = Failure(*error)
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
