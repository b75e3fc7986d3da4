# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _inputs

GOOD = {
    "release": "example",
    "namespace": "triton",
    "replicas": "4",
    "gpus": 0,
    "image": "nvcr.io/nvidia/tritonserver:26.07-py3",
    "image_pull_policy": "IfNotPresent",
    "service_type": "LoadBalancer",
    "name_override": None,
    "fullname_override": "",
}


def problems(chart=None, **inputs):
    return _inputs.problems(GOOD | inputs, chart or {})


def test_what_is_right_has_no_problems():
    assert problems() == []
    assert problems(replicas=0, gpus="8", release="a" * 53, namespace="0-a", name_override="n" * 63, service_type="ClusterIP") == []


@pytest.mark.parametrize("value", ["two", "-1", -1, "1.5", 1.0, "", True, None, "1 ", "\u0664"])
def test_replicas_that_are_no_number(value):
    (problem,) = problems(replicas=value)
    assert (
        problem == f"triton_replicas (the chart's replicaCount) is {value!r}; allowed is a whole number from 0 upwards, such as -e triton_replicas=2."
    )


def test_the_advice_for_gpus_is_a_variable_that_is_read():
    # The chart's key is image.numGpus: -e numGpus=2 would be read by nothing.
    assert problems(gpus="all")[0].endswith("such as -e triton_gpus=2.")


@pytest.mark.parametrize(
    ("given", "suggested"),
    [("MyModels", "my-models"), ("team_a", "team-a"), ("-x-", "x"), ("a.b", "a-b"), ("***", "triton")]
    + [("7b-chat", "triton-7b-chat"), ("a" * 64, "a" * 53), ("a" * 52 + "_b", "a" * 52)],
)
def test_a_name_that_kubernetes_refuses_comes_with_one_that_it_takes(given, suggested):
    (problem,) = problems(release=given)
    assert f"triton_release is {given!r}; Kubernetes allows 1 to 53" in problem and problem.endswith(f"such as {suggested!r}.")
    assert problems(release=suggested) == []


def test_every_name_is_looked_at():
    found = problems(namespace="A", name_override="B_", fullname_override="c" * 64)
    assert [problem.split(" is ")[0] for problem in found] == [
        "triton_namespace (the chart's namespace)",
        "triton_name_override (the chart's nameOverride)",
        "triton_fullname_override (the chart's fullnameOverride)",
    ]


@pytest.mark.parametrize(
    "image",
    [
        "triton",
        "localhost:5000/a/b__c:x",
        "registry.example.com/team/triton@sha256:" + "0" * 64,
        "nvcr.io/nvidia/tritonserver:26.07-py3@sha256:" + "a" * 64,
    ],
)
def test_images(image):
    assert problems(image=image) == []


@pytest.mark.parametrize("image", ["", "nvcr.io/nvidia/TritonServer:1", "a:b:c", "a b", "https://nvcr.io/a:1", "a:", "a@sha256:12", "a:1\n"])
def test_what_is_no_image(image):
    (problem,) = problems(image=image)
    assert problem.startswith(f"triton_image (the chart's image.imageName) is {image!r}; allowed is REGISTRY/NAME:TAG")


def test_a_choice_lists_what_is_allowed():
    found = problems(image_pull_policy="always", service_type="External")
    assert found == [
        "triton_image_pull_policy (the chart's image.pullPolicy) is 'always'; allowed is one of Always, IfNotPresent, Never.",
        "triton_service_type (the chart's service.type) is 'External'; allowed is one of ClusterIP, NodePort, LoadBalancer.",
    ]


def test_a_value_given_twice():
    assert problems({"triton_replicas": 4, "triton_gpus": "0", "model_repository_url": "s3://other/x"}) == []
    assert problems({"triton_replicas": 3}) == ["triton_replicas is '4' and the chart's replicaCount is 3: give one of the two."]
