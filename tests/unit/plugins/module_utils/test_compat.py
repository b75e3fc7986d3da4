# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of releases, and every verdict on a node."""

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _compat, _compat_matrix

REPOSITORY = "nvcr.io/nvidia/tritonserver"
T4 = {"name": "t4", "driver": "580.95.05", "compute_capability": "7.5", "product": "Tesla-T4"}
V100 = {"name": "v100", "driver": "580.95.05", "compute_capability": "7.0", "product": "Tesla-V100-SXM2-16GB"}
GEFORCE = {"name": "desk", "driver": "550.54.15", "compute_capability": "8.9", "product": "NVIDIA-GeForce-RTX-4090"}
H100 = {"name": "h100", "driver": "550.54.15", "compute_capability": "9.0", "product": "NVIDIA-H100-80GB-HBM3"}
B200 = {"name": "b200", "driver": "580.95.05", "compute_capability": "10.0", "product": "NVIDIA-B200"}


def judge(tag, node):
    return _compat.judge(_compat.release(tag), node)


def test_the_table_is_whole():
    tags = list(_compat_matrix.RELEASES)
    assert tags == sorted(tags) and _compat_matrix.FLOOR in tags
    assert [b for a, b in zip(tags, tags[1:]) if _compat._months(b) - _compat._months(a) != 1] == []
    for server, cuda, other in _compat_matrix.RELEASES.values():
        assert server.startswith("2.") and {cuda.split(".")[0], (other or cuda).split(".")[0]} <= {str(major) for major in _compat_matrix.DRIVER}


@pytest.mark.parametrize(
    ("image", "tag", "cuda", "driver"),
    [
        (f"{REPOSITORY}:26.07-py3", "26.07", "13.3", 580),
        (f"{REPOSITORY}:26.07-trtllm-python-py3", "26.07", "13.1", 580),
        (f"{REPOSITORY}:25.09-trtllm-python-py3", "25.09", "12.9", 525),
        (f"{REPOSITORY}:25.07-vllm-python-py3", "25.07", "12.9", 525),
        ("registry:5000/mine/tritonserver:24.10-ours@sha256:0123", "24.10", "12.6", 525),
        ("docker.io/mlserving-lab/tritonserver:2.51.0", "24.10", "12.6", 525),
    ],
)
def test_what_is_in_an_image(image, tag, cuda, driver):
    found = _compat.identify(image)
    assert (found.tag, found.cuda, found.minimum_driver, found.extrapolated) == (tag, cuda, driver, False)


@pytest.mark.parametrize(
    "image", ["", "tritonserver", "tritonserver:latest", "registry:5000/tritonserver", "tritonserver:26.13-py3", "tritonserver:21.02-py3"]
)
def test_an_image_that_nothing_is_known_of(image):
    assert _compat.identify(image) is None


def test_what_the_image_itself_tells_wins_over_its_tag():
    assert _compat.identify("mine:v7", metadata={"version": "2.71.0"}).tag == "26.07"
    assert _compat.identify("mine:26.07", labels={_compat.VERSION_LABEL: "2.51.0"}).tag == "24.10"


@pytest.mark.parametrize(("image", "tag", "server"), [("x:27.02-py3", "27.02", "2.78.0"), ("x:2.77.1", "27.01", "2.77.1")])
def test_a_newer_tag_is_judged_by_rule(image, tag, server):
    found = _compat.identify(image)
    assert (found.tag, found.server, found.extrapolated, found.minimum_driver, found.below_floor) == (tag, server, True, 580, False)


@pytest.mark.parametrize(
    ("tag", "node", "verdict", "words"),
    [
        ("26.07", T4, _compat.FITS, "driver 580.95.05 runs CUDA 13.3"),
        ("26.07", V100, _compat.UNFIT, "compute capability 7.0, and the images since 25.03 have code for 7.5"),
        ("25.02", V100, _compat.FITS, "at least 6.0"),
        ("26.07", GEFORCE, _compat.UNFIT, "forward compatibility is for data centre GPUs, not for NVIDIA-GeForce-RTX-4090"),
        ("25.07", GEFORCE, _compat.FITS, "runs CUDA 12.9"),
        ("26.07", H100, _compat.FORWARD, "cuda-compat package bridges that on its NVIDIA-H100-80GB-HBM3"),
        ("26.07", {**H100, "driver": "525.147.05"}, _compat.UNFIT, "forward compatibility begins at 535"),
        ("26.07", {**H100, "product": ""}, _compat.UNFIT, "a product that is not known"),
        ("24.10", B200, _compat.UNFIT, "known since CUDA 12.8, and the image has CUDA 12.6"),
        ("25.01", B200, _compat.FITS, "10.0"),
        ("26.07", {**T4, "driver": ""}, _compat.UNKNOWN, "its driver is not known"),
        ("26.07", {**V100, "driver": ""}, _compat.UNFIT, "7.0"),
        ("26.07", {**T4, "compute_capability": ""}, _compat.UNKNOWN, "compute capability of its GPUs is not known"),
    ],
)
def test_a_verdict_and_its_reason(tag, node, verdict, words):
    found = judge(tag, node)
    assert found.verdict == verdict and words in found.reason


@pytest.mark.parametrize(
    "product", ["Tesla-T4", "NVIDIA-A10G", "NVIDIA-L40S", "NVIDIA H200", "NVIDIA-GH200-480GB", "NVIDIA-A100-SXM4-80GB", "NVIDIA-L4"]
)
def test_data_centre_products(product):
    assert _compat.is_data_centre(product)


@pytest.mark.parametrize("product", ["NVIDIA-GeForce-RTX-4090", "NVIDIA-RTX-A4000", "Quadro-P4000", "NVIDIA-TITAN-V", ""])
def test_other_products(product):
    assert not _compat.is_data_centre(product)


@pytest.mark.parametrize("key", ["driver", "compute_capability"])
def test_a_node_with_something_else_than_versions(key):
    with pytest.raises(_compat.CompatError, match="'new' is not a version. A driver looks like 580.95.05"):
        judge("26.07", {**T4, key: "new"})


@pytest.mark.parametrize(
    ("tag", "nodes", "nearest"),
    [
        ("26.07", [V100], "25.02"),
        ("26.07", [GEFORCE], "25.07"),
        ("24.10", [B200], "25.01"),
        ("26.07", [V100, B200], "25.02"),
        ("26.07", [H100], "25.07"),
    ],
)
def test_the_nearest_tag_that_fits_all(tag, nodes, nearest):
    assert _compat.nearest(_compat.release(tag), nodes) == nearest


def test_no_tag_fits_what_is_too_old_for_all():
    assert _compat.nearest(_compat.release("26.07"), [{**B200, "driver": "470.10"}, V100]) == ""


def test_advice_names_driver_tag_and_the_nodes_that_fit():
    found, nodes = _compat.release("26.07"), [GEFORCE, T4]
    text = _compat.advice(found, nodes, {node["name"]: _compat.judge(found, node) for node in nodes})
    assert text == (
        "Bring the driver to 580 or newer, or use the tag 25.07, the nearest that fits (below the security floor 26.07), or select the nodes that fit, "
        "such as triton_node_selector={'nvidia.com/gpu.product': 'Tesla-T4'}."
    )


def test_a_node_by_its_labels():
    labels = {f"nvidia.com/cuda.driver.{part}": value for part, value in (("major", "580"), ("minor", "95"), ("rev", "05"))}
    labels |= {"nvidia.com/gpu.compute.major": "7", "nvidia.com/gpu.compute.minor": "5", "nvidia.com/gpu.product": "Tesla-T4-SHARED"}
    assert _compat.of_labels("t4", labels) == T4
    assert _compat.of_labels("t4", {**labels, "nvidia.com/cuda.driver-version.full": "580.95.05"}) == T4
    assert _compat.of_labels("x", {}) == {"name": "x", "driver": "", "compute_capability": "", "product": ""}


def test_the_worst_counts():
    assert _compat.worst([_compat.FITS, _compat.UNKNOWN, _compat.FORWARD]) == _compat.UNKNOWN
    assert (_compat.worst([_compat.FITS, _compat.UNFIT]), _compat.worst([])) == (_compat.UNFIT, _compat.UNKNOWN)
