# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _releases

POD = {"containers": [{"name": "triton", "image": "a", "envFrom": [{"secretRef": {"name": "example-aws-1"}}]}]}


def deployment(replicas=2, image="a"):
    pod = {"containers": [{**POD["containers"][0], "image": image}]}
    return {"kind": "Deployment", "metadata": {"name": "example"}, "spec": {"replicas": replicas, "template": {"spec": pod}}}


SERVICE = {"kind": "Service", "metadata": {"name": "example"}, "spec": {}}


def release(number):
    return _releases.Release(number, f"example-release-{number}", "d", (), {})


def test_the_number_of_replicas_makes_no_other_release():
    assert _releases.digest([deployment(2), SERVICE]) == _releases.digest([SERVICE, deployment(5)])
    assert _releases.digest([deployment(2)]) != _releases.digest([deployment(2, image="b")])


@pytest.mark.parametrize(("replicas", "spec"), [(3, {"replicas": 3}), (0, {"replicas": 0}), (None, {})])
def test_a_release_is_put_back_with_the_replicas_of_now(replicas, spec):
    given = [deployment(9), SERVICE]
    found = _releases.with_replicas(given, replicas)
    assert {key: value for key, value in found[0]["spec"].items() if key == "replicas"} == spec and found[1] == SERVICE
    assert given[0]["spec"]["replicas"] == 9


def test_the_secrets_of_the_pods_are_named():
    assert _releases.secrets_in([deployment(), SERVICE]) == ["example-aws-1"]


def test_what_is_kept_is_read_again():
    data, complete = _releases.packed([deployment()], {"service": "example"}, {"simple/1": None})
    content = _releases.unpacked(data)
    assert complete and content["verification"] == {"service": "example"} and content["models"] == {"simple/1": None}
    assert content["manifests"] == _releases.without_replicas([deployment()])


def noise(size):
    return random.Random(1).randbytes(size).hex()


def test_golden_cases_that_do_not_fit_are_left_out():
    data, complete = _releases.packed([deployment()], {}, {"large/verify.yml": noise(2**21)})
    assert not complete and _releases.unpacked(data)["models"] == {}


def test_manifests_that_do_not_fit_are_refused():
    with pytest.raises(_releases.ReleaseError, match="a ConfigMap 1032192 at most"):
        _releases.packed([{"kind": "ConfigMap", "data": noise(2**21)}], {}, {})


def test_damage_is_told():
    with pytest.raises(_releases.ReleaseError, match="it is damaged"):
        _releases.unpacked(b"no gzip")


@pytest.mark.parametrize(("wanted", "number"), [("last", 7), ("previous", 5), ("7", 7), ("3", 3)])
def test_a_release_is_found(wanted, number):
    assert _releases.chosen([release(7), release(5), release(3)], wanted).number == number


@pytest.mark.parametrize(
    ("kept", "wanted", "says"),
    [
        ([], "last", "there is no last release; kept are: none"),
        ([7], "previous", "there is no previous release; kept are: 7"),
        ([7, 5], "6", "there is no release 6; kept are: 7, 5"),
    ],
)
def test_a_release_that_is_not_there_is_told_with_those_that_are(kept, wanted, says):
    with pytest.raises(_releases.ReleaseError, match=says):
        _releases.chosen([release(number) for number in kept], wanted)
