# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _models_outline, _releases
from ansible_collections.mlserving.triton.plugins.modules import triton_release
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster

MANIFESTS = [{"kind": "Service", "apiVersion": "v1", "metadata": {"name": "a"}}]
OUTLINE = {"simple": {"config": "name: simple", "cases": [{"outputs": [3]}]}}


@pytest.fixture
def run(monkeypatch, run_module):
    """Return a function: the golden cases of now -> the module's result, with one release kept; its ``written`` are (number, digest of all) since."""
    for name in (*_cluster.ENVIRONMENT.values(), "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    written, deleted = [], []
    data, _complete = _releases.packed(MANIFESTS, {}, OUTLINE)
    kept = _releases.Release(4, "a-release-4", _releases.digest(MANIFESTS), (), {}, hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(_releases.Releases, "all", lambda _self: [kept])
    monkeypatch.setattr(_releases.Releases, "delete", lambda _self, release: deleted.append(release.number))
    monkeypatch.setattr(_releases.Releases, "write", lambda _self, name, number, content, labels, annotations: written.append(number))

    def call(outline, check=False, **options):
        monkeypatch.setattr(_models_outline, "read", lambda _source: outline)
        with FakeCluster() as cluster:
            cluster.answers["/api/v1/namespaces/default/secrets"] = {"items": []}
            given = {"host": cluster.url, "release": "example", "name": "a", "manifests": MANIFESTS, "source": "models", **options}
            return run_module(triton_release, given, check)

    call.written, call.deleted = written, deleted
    return call


def test_the_same_is_not_kept_again(run):
    assert not run(OUTLINE)["changed"] and run.written == run.deleted == []


def test_the_order_of_manifests_is_no_content():
    other = {**MANIFESTS[0], "metadata": {"name": "b"}}
    assert _releases.packed([*MANIFESTS, other], {}, {}) == _releases.packed([other, *MANIFESTS], {}, {})


def test_other_golden_cases_replace_those_that_are_kept(run):
    result = run({"simple": {"config": "name: simple", "cases": [{"outputs": [4]}]}})
    assert (result["changed"], result["number"], run.deleted, run.written) == (True, 5, [4], [5])


@pytest.mark.parametrize(("outline", "options"), [({}, {}), ({"other": {}}, {"like": 4})])
def test_cases_that_are_not_there_now_do_not_take_the_place_of_those_that_are_kept(run, outline, options):
    assert not run(outline, **options)["changed"] and run.written == []


def test_in_check_mode_nothing_is_replaced(run):
    assert run({"other": {}}, check=True)["changed"] and run.written == run.deleted == []


def test_other_manifests_are_the_next_release(run):
    result = run(OUTLINE, manifests=[{**MANIFESTS[0], "metadata": {"name": "b"}}])
    assert (result["number"], run.deleted, run.written) == (5, [], [5])
