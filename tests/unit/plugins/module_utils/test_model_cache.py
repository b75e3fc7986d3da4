# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _credential_source, _pod_security, _serving, _serving_checks
from ansible_collections.mlserving.triton.tests.unit.plugins.serving_options import options

LABELS = {"app": "triton-inference-server", "release": "example"}
CREDENTIALS = _credential_source.pod("static", "example-aws-0123456789", ("AWS_ACCESS_KEY_ID",))
ON_NODE = {"hostPath": {"path": "/var/lib/triton-models", "type": "DirectoryOrCreate"}}


def cached(**changed):
    given = {"model_cache": ON_NODE, "model_control_mode": "none", "model_cache_image": "triton:1", "image_pull_policy": "Always"}
    return options(**{**given, "model_cache_config": "scripts", **changed})


def rendered(**changed):
    return _serving.deployment(cached(**changed), CREDENTIALS, LABELS)


def test_without_a_cache_nothing_is_fetched():
    shaped = _serving.deployment(options(), CREDENTIALS, LABELS)
    assert "initContainers" not in shaped["pod"] and shaped["container"]["args"][0] == "tritonserver"


def test_the_repository_is_fetched_before_the_server_starts():
    shaped = rendered(
        init_containers=[{"name": "first", "image": "x"}], env=[{"name": "AWS_CA_BUNDLE", "value": "/ca.crt"}], model_cache_parallel="4"
    )
    first, fetching = shaped["pod"]["initContainers"]
    assert first["name"] == "first" and (fetching["name"], fetching["image"], fetching["imagePullPolicy"]) == ("fetch-models", "triton:1", "Always")
    assert fetching["command"][2:] == ["--url=s3://models/demo", "--cache=/model-cache", "--link=/models/current", "--parallel=4", "--keep=2"]
    assert fetching["env"] == [{"name": "AWS_CA_BUNDLE", "value": "/ca.crt"}] and fetching["envFrom"] == CREDENTIALS["container"]["envFrom"]
    assert fetching["resources"] == {"requests": {"cpu": "100m", "memory": "128Mi"}}
    mounts = {mount["name"]: (mount["mountPath"], mount.get("readOnly", False)) for mount in fetching["volumeMounts"]}
    assert mounts == {"fetch-models": ("/etc/triton-fetch-models", True), "model-cache": ("/model-cache", False), "model-links": ("/models", False)}


def test_the_server_reads_it_by_the_link_holds_it_and_cannot_change_it():
    shaped = rendered(more_model_repositories=["s3://models/other"])
    args = shaped["container"]["args"]
    assert args[:2] == ["bash", "-c"] and "flock --shared" in args[2]
    assert args[4:7] == ["tritonserver", "--model-store=/models/current", "--model-store=s3://models/other"]
    mounts = {mount["name"]: mount["readOnly"] for mount in shaped["container"]["volumeMounts"]}
    assert mounts["model-cache"] and mounts["model-links"]
    volumes = {volume["name"]: volume for volume in shaped["pod"]["volumes"]}
    assert volumes["model-cache"] == {"name": "model-cache", **ON_NODE} and volumes["fetch-models"]["configMap"] == {"name": "scripts"}


@pytest.mark.parametrize(
    ("cache", "wrong"), [({"persistentVolumeClaim": {"claimName": "models"}}, []), (ON_NODE, ["volume model-cache is hostPath"])]
)
def test_what_a_restricted_namespace_says_of_it(cache, wrong):
    shaped = rendered(model_cache=cache)
    assert _pod_security.violations({**shaped["pod"], "containers": [{"name": "triton", **shaped["container"]}]}) == wrong


def test_new_credentials_go_to_what_fetches_too():
    shaped = rendered(init_containers=[{"name": "first", "envFrom": [{"secretRef": {"name": "example-aws-0123456789"}}]}])
    template = {"metadata": {}, "spec": {**shaped["pod"], "containers": [{"name": "triton", **shaped["container"]}]}}
    new = _credential_source.pod("static", "example-aws-9876543210", ("AWS_ACCESS_KEY_ID",))
    found = _credential_source.applied(template, new)["spec"]
    assert found["containers"][0]["envFrom"] == found["initContainers"][1]["envFrom"] == new["container"]["envFrom"]
    assert found["initContainers"][0] == template["spec"]["initContainers"][0]
    assert found["initContainers"][1]["command"] == template["spec"]["initContainers"][1]["command"]


def test_what_fits_is_taken():
    assert _serving_checks.problems(cached()) == []
    assert _serving_checks.problems(cached(model_control_mode="explicit", model_cache={"emptyDir": {}})) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model_control_mode": "poll"}, "does not change under a running server. Set triton_model_control_mode to none"),
        ({"model_cache": {"hostPath": {}, "emptyDir": {}}}, "must be one volume source"),
        ({"model_cache": {"secret": {}}}, "must be one volume source"),
        ({"model_cache": "/var/lib"}, "must be one volume source"),
        ({"model_repository": "gs://models/demo"}, "only repositories at s3:// can be cached"),
        ({"model_volume": {"emptyDir": {}}, "model_repository_given": False}, "a volume needs no cache"),
        ({"model_cache_parallel": "many"}, "triton_model_cache_parallel is 'many'; allowed is a whole number from 1 to 128"),
        ({"model_cache_keep": 0}, "triton_model_cache_keep is 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(changed, words):
    found = _serving_checks.problems(cached(**changed))
    assert len(found) == 1 and words in found[0]
