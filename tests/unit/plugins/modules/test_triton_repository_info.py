# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module, with the real SDK, against a small S3 in this process; what it finds there triton_repository has published."""

from __future__ import annotations

import functools

import pytest

from ansible_collections.mlserving.triton.plugins.modules import triton_repository, triton_repository_info
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_s3 import Failure, Stored

ROOT = "s3://s3.storage.svc:8333/models"
LAYOUTS = pytest.mark.parametrize("options", [{"prune": True}, {"layout": "release", "keep": 1}], ids=["in place", "release"])


@pytest.fixture
def publish(run_repository):
    return functools.partial(run_repository, triton_repository)


@pytest.fixture
def info(store, run_repository):
    """Run the module, which never writes."""

    def call(**options):
        before = store.writes()
        result = run_repository(triton_repository_info, **options)
        assert store.writes() == before and not result.get("changed")
        return result

    return call


def test_without_a_url_the_tree_is_checked_and_nothing_is_sent(store, source, info):
    result = info(url=None)
    assert result["models"] == ["other", "simple"] and result["failing"] == 0 and "repository" not in result and "plan" not in result
    (source / "broken").mkdir()
    result = info(url=None)
    assert result["failing"] == 1 and "msg" not in result, "a finding is no failure"
    (error,) = (finding for finding in result["findings"] if finding["severity"] == "error")
    assert error["file"] == "broken" and error["message"] in "".join(result["table"])
    assert store.requests == []


@pytest.mark.parametrize(("url", "severities"), [(None, ["warning"]), ("s3://models/demo", []), ("given", ["error"])])
def test_only_stores_with_an_endpoint_have_a_rule_of_names(source, info, url, severities):
    (source / "simple/1/lib c++.so").write_text("")
    result = info() if url == "given" else info(url=url)
    assert [entry["severity"] for entry in result["findings"] if entry["rule"] == "name-not-addressable"] == severities


def test_strict_counts_warnings_as_failing(source, info):
    before = info()
    assert before["failing"] == 0 and "plan" in before
    (source / "notes.txt").write_text("")
    strict = info(strict=True)
    assert strict["failing"] == len(before["findings"]) + 1 and "plan" not in strict
    assert info()["plan"] == before["plan"]


def test_a_tree_that_triton_could_not_serve_gets_no_plan(store, source, info):
    store.buckets["models"] = {"demo/a/1/model.onnx": Stored()}
    (source / "broken").mkdir()
    result = info()
    assert result["failing"] == 1 and "plan" not in result and [model["name"] for model in result["repository"]["models"]] == ["a"]


def test_neither_a_source_nor_a_url(info):
    assert "one of the following is required: source, url" in info(source=None, url=None)["msg"]


def test_a_missing_bucket_is_told_with_what_publishing_would_do(store, info):
    result = info()
    assert result["repository"] == {
        "url": f"{ROOT}/demo",
        "bucket": "models",
        "endpoint": f"http://127.0.0.1:{store.server_port}",
        "exists": False,
        "ours": False,
        "objects": 0,
        "bytes": 0,
        "models": [],
        "releases": [],
    }
    assert result["plan"] == {"url": f"{ROOT}/demo", "uploads": 3, "copies": 0, "unchanged": 0, "deletes": 0, "bytes": len('onnxx = 1name: "simple"')}
    assert store.buckets == {}


def test_models_are_listed_by_what_triton_would_find(store, info):
    names = ["b/config.pbtxt", "b/10/model.onnx", "b/9/model.onnx", "b/9/weights/w", "a/1/model.py", "a/x/y", "stray"]
    store.buckets["models"] = {key: Stored(b"12") for key in (*(f"demo/{name}" for name in names), "demo2/c/1/x")}
    result = info(source=None)
    found = result["repository"]
    a = {"name": "a", "versions": [1], "config": False, "files": 2}
    b = {"name": "b", "versions": [9, 10], "config": True, "files": 4}
    assert found["models"] == [a, b]
    assert (found["objects"], found["bytes"], found["exists"], found["ours"], found["releases"]) == (7, 14, True, False, [])
    assert not {"plan", "models", "findings", "failing"} & set(result)


def test_releases_are_listed_the_latest_first(store, source, publish, info):
    names = []
    for number in (1, 2, 1):
        (source / "simple/1/model.py").write_text(f"x = {number}")
        names.append(publish(layout="release")["release"])
    publish()
    store.buckets["models"]["demo/releases/0123456789abcdef/simple/1/model.py"] = Stored()
    found = info(source=None)["repository"]
    assert [release["name"] for release in found["releases"]] == [names[2], names[1], "0123456789abcdef"] and names[2] == names[0]
    assert found["releases"][0]["url"] == f"{ROOT}/demo/releases/{names[0]}"
    latest, older, unfinished = (release["published"] for release in found["releases"])
    written = store.buckets["models"][f"demo/releases/{names[0]}.json"].modified.replace(microsecond=0)
    assert latest == written.isoformat() > older and unfinished is None
    assert [model["name"] for model in found["models"]] == ["other", "simple"] and found["ours"]
    assert found["objects"] == len(store.buckets["models"]) == 3 + 4 + 4 + 1


@LAYOUTS
def test_the_plan_is_what_publishing_does(store, source, publish, info, options):
    for version in ("x = 1", "x = 2"):
        (source / "simple/1/model.py").write_text(version)
        plan = info(**options)["plan"]
        done = publish(**options)
        counts = {"uploads": len(done["uploaded"]), "copies": len(done["copied"]), "deletes": len(done["deleted"])}
        assert plan == {"url": done["url"], "unchanged": done["unchanged"], "bytes": done["bytes"], **counts}
        store.buckets["models"]["demo/gone/1/model.py"] = Stored()
    assert plan["uploads"] == 1 + ("layout" in options) and plan["deletes"] > 0
    if "prune" in options:
        del store.buckets["models"]["demo/gone/1/model.py"]
    settled = info(**options)["plan"]
    assert settled == {"url": done["url"], "uploads": 0, "copies": 0, "unchanged": 3, "deletes": 0, "bytes": 0}


def test_a_store_that_refuses_leaves_what_the_lint_found(store, info):
    store.failure = Failure(403, "AccessDenied")
    failed = info()
    assert "cannot be listed: the access key id ending in 1234 may not do this" in failed["msg"]
    assert failed["models"] == ["other", "simple"] and failed["failing"] == 0 and "repository" not in failed


def test_tags_that_may_not_be_read_make_the_bucket_somebody_else_s(store, info):
    store.buckets["models"], store.failure = {}, Failure(403, "AccessDenied", line="GET /models?tagging")
    found = info(source=None)["repository"]
    assert found["exists"] and not found["ours"]
