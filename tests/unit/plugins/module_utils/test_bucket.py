# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _bucket
from ansible_collections.mlserving.triton.plugins.module_utils._s3 import S3Error
from ansible_collections.mlserving.triton.tests.unit.plugins.memory_s3 import MemoryStore


def test_a_new_bucket_is_marked():
    store = MemoryStore()
    assert not _bucket.is_ours(store)
    assert _bucket.create(store) == []
    assert store.objects == {} and store.tags == [_bucket.TAG] and _bucket.is_ours(store)


def test_a_bucket_that_another_run_made_meanwhile_is_used_as_it_is():
    store = MemoryStore({"x": b"1"})
    assert _bucket.create(store) == []
    assert store.contents() == {"x": b"1"} and store.tags is None


def test_a_store_without_tags_is_warned_of():
    store = MemoryStore()
    store.refused["put_bucket_tagging"] = "NotImplemented"
    (warning,) = _bucket.create(store)
    assert "NotImplemented" in warning and "delete_bucket will keep it" in warning
    assert store.objects == {}


@pytest.mark.parametrize("tags", [None, [{"Key": _bucket.TAG["Key"], "Value": "somebody"}], [{"Key": "other", "Value": _bucket.TAG["Value"]}]])
def test_a_bucket_of_somebody_else_stays(tags):
    store = MemoryStore({})
    store.tags = tags
    (why,) = _bucket.why_it_stays(store, set())
    assert why.startswith(store.where) and "was not made by this collection" in why


def test_a_bucket_stays_for_any_object_that_is_not_to_go():
    store = MemoryStore({f"demo/{number}": b"" for number in range(5)})
    store.tags = [_bucket.TAG]
    keys = sorted(store.objects)
    assert _bucket.why_it_stays(store, set(keys)) == []
    for key in keys:
        (why,) = _bucket.why_it_stays(store, set(keys) - {key})
        assert why.endswith(f"such as {key}.")


def test_a_bucket_goes_with_all_its_versions_and_unfinished_uploads():
    store = MemoryStore({"a": b"1", "b": b"2"}, versioned=True)
    store.put("a", b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e"))
    store.delete(["a", "b"])
    for key in "abc":
        store.begin(key, None)
    assert len(store.versions) == 3 and len(store.uploads) == 3
    assert _bucket.delete(store) == []
    assert store.objects is None and store.versions == [] and store.uploads == {}


def test_a_bucket_to_which_something_was_written_meanwhile_stays():
    store = MemoryStore({"late": b"1"})
    (why,) = _bucket.delete(store)
    assert "is not empty" in why and store.contents() == {"late": b"1"}


def test_only_uploads_below_the_prefix_are_ended():
    store = MemoryStore({})
    for key in ("demo/a", "demo/b", "demo/c", "demo2/a"):
        store.begin(key, None)
    _bucket.abort_uploads(store, "demo/")
    assert [key for key, _metadata, _parts in store.uploads.values()] == ["demo2/a"]


def test_a_store_that_refuses_is_an_error():
    store = MemoryStore({})
    store.refused["get_bucket_tagging"] = "AccessDenied"
    with pytest.raises(S3Error, match="AccessDenied"):
        _bucket.is_ours(store)
