# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module, with the real SDK, against a small S3 in this process."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import shutil

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _s3
from ansible_collections.mlserving.triton.plugins.modules import triton_repository
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_s3 import Failure, Stored

FILES = ["other/1/model.onnx", "simple/1/model.py", "simple/config.pbtxt"]
KEYS = [f"demo/{name}" for name in FILES]
OURS = "<Tagging><TagSet><Tag><Key>mlserving.triton/managed-by</Key><Value>model_repository</Value></Tag></TagSet></Tagging>"
ROOT = "s3://s3.storage.svc:8333/models"
RELEASED = {"layout": "release"}


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


@pytest.mark.parametrize("options", [{"prune": True}, {"layout": "release", "keep": 1}], ids=["in place", "release"])
def test_check_mode_predicts_and_writes_nothing(store, source, run, options):
    same = ("changed", "url", "release", "uploaded", "copied", "unchanged", "deleted", "bytes", "bucket_created", "models", "diff")
    for version in ("x = 1", "x = 2"):
        (source / "simple/1/model.py").write_text(version)
        before = store.writes()
        predicted = run(check=True, **options)
        assert store.writes() == before
        real = run(**options)
        assert {key: predicted[key] for key in same} == {key: real[key] for key in same}
        store.buckets["models"]["demo/gone/1/model.py"] = Stored()
    assert real["deleted"], "there was something to predict"


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
        ((403, "InvalidAccessKeyId"), "the store does not know the access key id ending in 1234."),
        ((403, "SignatureDoesNotMatch"), "secret_access_key does not belong to the access key id ending in 1234."),
        ((403, "AccessDenied"), "the access key id ending in 1234 may not do this"),
        ((403, "RequestTimeTooSkewed"), "this machine's clock differs too much from the store's. Set the clock."),
        ((400, "Odd"), "Odd: said the store"),
    ],
)
@pytest.mark.parametrize(("line", "doing"), [("GET", "be listed"), ("PUT", "be written to")])
def test_a_refusal_is_one_line_in_words(store, run, error, expected, line, doing):
    store.buckets["models"] = {}
    store.failure = Failure(*error, line)
    failed = run(retry_seconds=60)
    assert f"the bucket models at http://127.0.0.1:{store.server_port} cannot {doing}: " in failed["msg"]
    assert expected in failed["msg"] and "\n" not in failed["msg"]
    assert "not-a-real-key" not in json.dumps(failed)
    assert len(store.requests) == len(set(store.requests)), "what is refused for good is not tried again"


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


def test_a_release_is_a_folder_of_its_own_and_its_manifest_comes_last(store, run):
    first = run(**RELEASED)
    release = first["release"]
    assert re.fullmatch("[0-9a-f]{16}", release) and first["url"] == f"{ROOT}/demo/releases/{release}"
    place = f"demo/releases/{release}"
    assert first["uploaded"] == [f"{place}.json", *(f"{place}/{name}" for name in FILES)] and first["copied"] == []
    assert store.writes()[-1] == f"PUT /models/{place}.json"
    manifest = json.loads(store.buckets["models"][f"{place}.json"].content)
    assert manifest["release"] == release and [file["name"] for file in manifest["files"]] == FILES
    writes = store.writes()
    second = run(**RELEASED)
    assert not second["changed"] and second["unchanged"] == 3 and second["url"] == first["url"] and store.writes() == writes


def test_a_release_sends_what_is_new_and_copies_the_rest(store, source, run):
    old = run(**RELEASED)
    published = dict(store.buckets["models"])
    (source / "simple/1/model.py").write_text("x = 2")
    new = run(**RELEASED)
    place = f"demo/releases/{new['release']}"
    assert new["uploaded"] == [f"{place}.json", f"{place}/simple/1/model.py"]
    assert new["bytes"] == sum(len(store.buckets["models"][key].content) for key in new["uploaded"])
    assert new["copied"] == [f"{place}/other/1/model.onnx", f"{place}/simple/config.pbtxt"] and new["release"] != old["release"]
    objects = store.buckets["models"]
    assert [objects[f"{place}/{name}"].content for name in FILES] == [(source / name).read_bytes() for name in FILES]
    assert all("x-amz-meta-sha256" in objects[key].metadata for key in new["copied"])
    assert objects == objects | published and new["deleted"] == []


def test_only_the_releases_that_were_published_last_stay(store, source, run):
    results = []
    for number in range(3):
        (source / "simple/1/model.py").write_text(f"x = {number}")
        results.append(run(**RELEASED, keep=2))
    first, second, third = (result["release"] for result in results)
    folder = f"demo/releases/{first}"
    assert [result["deleted"] for result in results] == [[], [], [f"{folder}.json", *(f"{folder}/{name}" for name in FILES)]]
    assert {key.split("/")[2].removesuffix(".json") for key in store.buckets["models"]} == {second, third}


def test_a_release_that_is_in_use_stays(store, source, run):
    used = run(**RELEASED, keep=1)["release"]
    (source / "simple/1/model.py").write_text("x = 2")
    assert run(**RELEASED, keep=1, in_use=[used])["deleted"] == [] and f"demo/releases/{used}.json" in store.buckets["models"]
    assert run(**RELEASED, keep=1, in_use=["other"])["changed"] and f"demo/releases/{used}.json" not in store.buckets["models"]


def test_what_was_replaced_in_place_is_told(source, run):
    assert run()["replaced"] == []
    (source / "simple/1/model.py").write_text("x = 2")
    assert run()["replaced"] == ["demo/simple/1/model.py"] and run()["replaced"] == []


def test_going_back_to_an_older_release_writes_its_manifest_alone(store, source, run):
    old = run(**RELEASED)
    (source / "simple/1/model.py").write_text("x = 2")
    run(**RELEASED)
    (source / "simple/1/model.py").write_text("x = 1")
    writes = store.writes()
    back = run(**RELEASED)
    manifest = f"demo/releases/{old['release']}.json"
    assert back["changed"] and back["url"] == old["url"] and back["uploaded"] == [manifest] and back["copied"] == []
    assert manifest in back["diff"]["after"]
    assert store.writes() == [*writes, f"PUT /models/{manifest}"]
    assert not run(**RELEASED)["changed"]


def test_a_release_whose_manifest_was_refused_is_finished_by_the_next_run(store, source, run):
    run(**RELEASED, keep=1)
    published = dict(store.buckets["models"])
    (source / "simple/1/model.py").write_text("x = 2")
    manifest = f"demo/releases/{run(check=True, **RELEASED)['release']}.json"
    store.failure = Failure(507, line=f"PUT /models/{manifest}")
    assert "the store's disk is full" in run(**RELEASED, keep=1)["msg"]
    assert store.buckets["models"] == store.buckets["models"] | published and manifest not in store.buckets["models"]
    store.failure = None
    finished = run(**RELEASED, keep=1)
    assert finished["uploaded"] == [manifest] and finished["copied"] == [] and finished["unchanged"] == 3
    assert finished["deleted"] == sorted(published) and manifest in store.buckets["models"]


def test_absent_takes_the_releases_as_well(store, run):
    run()
    run(**RELEASED)
    store.buckets["models"]["demo/theirs/1/x"] = Stored()
    assert len(run(state="absent")["deleted"]) == len(KEYS) + len(FILES) + 1 and list(store.buckets["models"]) == ["demo/theirs/1/x"]


def test_prune_deletes_what_the_source_lacks_and_no_release(store, run):
    run(**RELEASED)
    run()
    kept = [*store.buckets["models"], "demo2/x"]
    gone = ["demo/gone/1/model.py", "demo/gone/config.pbtxt"]
    store.buckets["models"] |= {key: Stored() for key in ("demo2/x", *gone)}
    assert not run()["changed"]
    pruned = run(prune=True)
    assert pruned["deleted"] == gone and pruned["uploaded"] == [] and sorted(store.buckets["models"]) == sorted(kept)
    assert "demo/gone" in pruned["diff"]["before"] and "demo/gone" not in pruned["diff"]["after"]
    assert not run(prune=True)["changed"]


@pytest.mark.parametrize("check", [True, False])
def test_the_root_of_a_bucket_that_is_not_ours_is_not_pruned(store, run, check):
    store.buckets["models"] = {"theirs/x": Stored()}
    failed = run(check=check, url=ROOT, prune=True)
    assert "does not carry the tag" in failed["msg"] and "so nothing at its root is pruned" in failed["msg"] and store.writes() == []
    assert run(check=check, url=ROOT)["uploaded"] == FILES
    store.tags["models"] = OURS
    assert run(check=check, url=ROOT, prune=True)["deleted"] == ["theirs/x"]


def test_strict_makes_a_warning_a_refusal(store, source, run):
    (source / "notes.txt").write_text("")
    failed = run(strict=True)
    assert failed["msg"].startswith("Nothing was transferred") and "notes.txt lies beside the model directories" in failed["msg"]
    assert store.requests == [] and {finding["severity"] for finding in failed["findings"]} == {"warning"}
    lenient = run()
    assert lenient["uploaded"] == KEYS and any("notes.txt lies beside" in warning for warning in lenient["warnings"])


@pytest.mark.parametrize("options", [{"prune": True}, {"layout": "release", "keep": 1}], ids=["in place", "release"])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ((507,), "the store's disk is full. Make room there, then run again. (507)"),
        ((507, "XMinioStorageFull"), "the store's disk is full. Make room there, then run again. (XMinioStorageFull)"),
        ((500, "InternalError"), "its disk may be full. Look at the store's own log. (InternalError: said the store)"),
        ((403, "QuotaExceeded"), "the bucket's quota is used up. Make room there, then run again."),
        ((403, "AccessDenied"), "the access key id ending in 1234 may not do this. It needs s3:ListBucket, s3:GetObject, s3:PutObject"),
    ],
)
def test_a_store_that_takes_no_more_keeps_what_is_published(store, source, run, options, error, expected):
    run(**options)
    published = dict(store.buckets["models"])
    store.failure = Failure(*error, line="PUT")
    assert not run(**options)["changed"], "what is there needs no writing"
    (source / "simple/1/model.py").write_text("x = 2")
    shutil.rmtree(source / "other")
    failed = run(**options)
    assert expected in failed["msg"] and "\n" not in failed["msg"] and not failed["changed"]
    assert store.buckets["models"] == published
    store.failure = None
    mended = run(**options)
    assert len(mended["uploaded"]) == 1 + ("layout" in options) and mended["deleted"] and not run(**options)["changed"]


def test_a_proxy_s_error_is_explained(store, run):
    store.buckets["models"], store.failure = {}, Failure(502, line="PUT")
    assert "something in front of the store answers" in run(retry_seconds=0)["msg"]


def test_an_object_that_may_not_be_deleted_is_named(store, run):
    run()
    store.buckets["models"] |= {"demo/gone/1/model.py": Stored(), "demo/gone/1/other.py": Stored()}
    store.kept = {"demo/gone/1/model.py"}
    failed = run(prune=True)
    assert "kept 1 objects that were to be deleted, the first is demo/gone/1/model.py: AccessDenied." in failed["msg"]
    assert sorted(store.buckets["models"]) == sorted([*KEYS, "demo/gone/1/model.py"])


@pytest.mark.parametrize(("line", "doing"), [("GET", "be listed"), ("PUT", "be written to")])
def test_a_redirect_names_the_bucket_s_region(store, run, line, doing):
    store.buckets["models"] = {}
    store.failure = Failure(301, "PermanentRedirect", line, region="eu-west-1")
    message = run()["msg"]
    assert message.startswith(f"the bucket models at http://127.0.0.1:{store.server_port} cannot {doing}: ")
    assert (
        "the bucket is in another region. Set region to the bucket's, eu-west-1; Triton is given the same." in message
        and store.buckets["models"] == {}
    )


@pytest.mark.parametrize("check", [True, False])
def test_a_store_of_another_region_names_it_before_anything_changes(store, run, check):
    store.buckets["models"], store.region = {}, "eu-west-1"
    assert "signed for another region. Set region to the bucket's, eu-west-1; Triton" in run(check=check)["msg"] and store.writes() == []


@pytest.mark.parametrize("line", ["GET /models?list-type", "PUT /models/demo/simple/config.pbtxt"])
@pytest.mark.parametrize("code", ["SlowDown", ""])
def test_a_store_that_is_overloaded_for_a_moment_is_asked_again(store, run, monkeypatch, line, code):
    monkeypatch.setattr(_s3, "FIRST_PAUSE", 0.001)
    store.failure = Failure(503, code, line, times=2)
    result = run(retry_seconds=60)
    assert result["uploaded"] == sorted(store.buckets["models"]) == KEYS
    assert len([request for request in store.requests if request.startswith(line)]) == 3 and result["requests"] == len(store.requests)


@pytest.mark.parametrize("line", ["GET /models?list-type", "PUT /models/demo/simple/config.pbtxt"])
def test_a_store_that_is_overloaded_fails_at_once_without_retry_seconds(store, run, line):
    store.failure = Failure(503, "SlowDown", line, times=1)
    assert "the store is overloaded. Run again later, or with a smaller parallel. (SlowDown)" in run(retry_seconds=0)["msg"]
    assert len([request for request in store.requests if request.startswith(line)]) == 1
