# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an image of Triton fits a node's driver and GPU: pure functions over _compat_matrix. PRIVATE to the collection.

A node is a dict with ``name``, and with ``driver`` (580.95.05), ``compute_capability`` (7.5) and ``product`` (Tesla-T4), each empty where unknown.
"""

from __future__ import annotations

import dataclasses
import re

from ansible_collections.mlserving.triton.plugins.module_utils import _compat_matrix

FITS, FORWARD, UNKNOWN, UNFIT = "fits", "fits_with_forward_compatibility", "unknown", "does_not_fit"
#: From good to bad; what holds for several nodes is the worst of them.
ORDER = (FITS, FORWARD, UNKNOWN, UNFIT)
TAG = re.compile(r"^(\d\d\.(?:0[1-9]|1[0-2]))(?:$|[-_])")
SERVER = re.compile(r"^v?(2\.\d+\.\d+)(?:$|[-_])")
VERSION_LABEL = "com.nvidia.tritonserver.version"


class CompatError(Exception):
    """What was given of a node is not what it should be; the text says how it should look."""


@dataclasses.dataclass(frozen=True)
class Release:
    """What is in an image. ``extrapolated``: the table ends before it. Texts, ``""`` where unknown; driver branches are numbers."""

    tag: str
    server: str
    cuda: str
    minimum_driver: int
    minimum_forward_driver: int
    minimum_compute_capability: str
    extrapolated: bool = False

    @property
    def below_floor(self) -> bool:
        return self.tag < _compat_matrix.FLOOR


@dataclasses.dataclass(frozen=True)
class Verdict:
    verdict: str
    reason: str


def tag_of(image: str) -> str:
    """Return the tag of an image, without its digest: 26.07-py3; empty if it has none."""
    last = image.partition("@")[0].rpartition("/")[2]
    return last.partition(":")[2]


def identify(image: str = "", labels: dict | None = None, metadata: dict | None = None) -> Release | None:
    """Return what is in an image; None if nothing says so. What the image itself tells wins over its tag.

    :param labels: the image's labels
    :param metadata: what a server answers at /v2
    """
    tag, told = tag_of(image), str((metadata or {}).get("version") or (labels or {}).get(VERSION_LABEL) or "")
    kind = "trtllm" if "trtllm" in tag else ""
    for text in (told, tag):
        found = SERVER.match(text)
        if found:
            known = next((name for name, entry in _compat_matrix.RELEASES.items() if entry[0] == found[1]), None)
            return release(known, kind) if known else _beyond(found[1], kind)
    found = TAG.match(tag)
    return release(found[1], kind) if found else None


def release(tag: str, kind: str = "") -> Release | None:
    """Return what is in the images of a month, by rule where the table ends before it; None for one before the table."""
    table = _compat_matrix.RELEASES
    if tag in table:
        server, cuda, other = table[tag]
        return _settled(tag, server, (other if kind == "trtllm" and other else cuda), False)
    newest = max(table)
    if tag < min(table):
        return None
    minor = int(table[newest][0].split(".")[1]) + _months(tag) - _months(newest)
    return _settled(tag, f"2.{minor}.0", table[newest][1], True)


def _beyond(server: str, kind: str) -> Release | None:
    """Return what is in a server version that the table has not: one a month follows the newest."""
    newest = max(_compat_matrix.RELEASES)
    ahead = int(server.split(".")[1]) - int(_compat_matrix.RELEASES[newest][0].split(".")[1])
    if ahead <= 0:
        return None
    month = _months(newest) + ahead
    return dataclasses.replace(release(f"{(month - 1) // 12:02d}.{(month - 1) % 12 + 1:02d}", kind), server=server)


def _months(tag: str) -> int:
    return int(tag[:2]) * 12 + int(tag[3:])


def _settled(tag: str, server: str, cuda: str, extrapolated: bool) -> Release:
    major = int(cuda.split(".")[0])
    oldest = next(capability for since, capability in _compat_matrix.OLDEST_GPU if tag >= since)
    return Release(tag, server, cuda, _compat_matrix.DRIVER[major], _compat_matrix.FORWARD_DRIVER[major], oldest, extrapolated)


def number(text: str) -> tuple[int, ...]:
    """Return a version as numbers.

    :raises CompatError: it is none
    """
    if not re.fullmatch(r"\d+(\.\d+)*", str(text)):
        raise CompatError(f"{text!r} is not a version. A driver looks like 580.95.05, a compute capability like 7.5.")
    return tuple(int(part) for part in str(text).split("."))


def is_data_centre(product: str) -> bool:
    return bool(re.search(_compat_matrix.DATA_CENTRE, re.sub(r"[-_]", " ", product)))


def judge(found: Release, node: dict) -> Verdict:
    """Say whether the image fits one node.

    :raises CompatError: the node's driver or compute capability is no version
    """
    has, wants = node.get("compute_capability") or "", found.minimum_compute_capability
    if has and number(has) < number(wants):
        return Verdict(
            UNFIT, f"its {_gpu(node)} has compute capability {has}, and the images since {_since(wants)} have code for {wants} and newer only"
        )
    first = _compat_matrix.FIRST_CUDA.get(has, "")
    if first and number(first) > number(found.cuda):
        return Verdict(UNFIT, f"its {_gpu(node)} (compute capability {has}) is known since CUDA {first}, and the image has CUDA {found.cuda}")
    if not node.get("driver"):
        return Verdict(UNKNOWN, "its driver is not known")
    branch = number(node["driver"])[0]
    if branch < found.minimum_driver:
        needs = f"CUDA {found.cuda} needs driver {found.minimum_driver} or newer, and it has {node['driver']}"
        if branch < found.minimum_forward_driver:
            return Verdict(UNFIT, f"{needs}; forward compatibility begins at {found.minimum_forward_driver}")
        if not is_data_centre(node.get("product") or ""):
            return Verdict(
                UNFIT, f"{needs}; forward compatibility is for data centre GPUs, not for {node.get('product') or 'a product that is not known'}"
            )
        return Verdict(FORWARD, f"{needs}; the image's cuda-compat package bridges that on its {node['product']}")
    if not has:
        return Verdict(UNKNOWN, "the compute capability of its GPUs is not known")
    return Verdict(FITS, f"driver {node['driver']} runs CUDA {found.cuda}, and its {_gpu(node)} has compute capability {has} (at least {wants})")


def _gpu(node: dict) -> str:
    return str(node.get("product") or _compat_matrix.GENERATIONS.get(node.get("compute_capability"), "") or "GPU")


def _since(capability: str) -> str:
    return next((since for since, oldest in _compat_matrix.OLDEST_GPU if oldest == capability and since), min(_compat_matrix.RELEASES))


def nearest(found: Release, nodes: list[dict]) -> str:
    """Return the tag next to the image's in time that fits every node without forward compatibility; empty if none does."""
    fitting = [
        tag
        for tag in _compat_matrix.RELEASES
        if all(judge(release(tag), node).verdict == FITS for node in nodes if judge(found, node).verdict in (UNFIT, FORWARD))
        and not any(judge(release(tag), node).verdict == UNFIT for node in nodes)
    ]
    return min(fitting, key=lambda tag: (abs(_months(tag) - _months(found.tag)), -_months(tag)), default="")


def worst(verdicts: list[str]) -> str:
    """Return the verdict on all nodes together; unknown if there is none."""
    return max(verdicts, key=ORDER.index) if verdicts else UNKNOWN


def of_labels(name: str, labels: dict) -> dict:
    """Return a node by the labels that feature discovery gives it."""
    parts = [labels.get(f"nvidia.com/cuda.driver.{part}", "") for part in ("major", "minor", "rev")]
    driver = labels.get("nvidia.com/cuda.driver-version.full") or ".".join(filter(None, parts))
    capability = [labels.get(f"nvidia.com/gpu.compute.{part}", "") for part in ("major", "minor")]
    product = re.sub(r"(-SHARED|-MIG-.*)$", "", labels.get("nvidia.com/gpu.product", ""))
    return {"name": name, "driver": driver, "compute_capability": ".".join(filter(None, capability)), "product": product}


def advice(found: Release, nodes: list[dict], verdicts: dict[str, Verdict]) -> str:
    """Return what to do about nodes that the image does not fit."""
    bad = [node for node in nodes if verdicts[node["name"]].verdict == UNFIT]
    good = [node for node in nodes if verdicts[node["name"]].verdict in (FITS, FORWARD)]
    ways = []
    if any("needs driver" in verdicts[node["name"]].reason for node in bad):
        ways.append(f"bring the driver to {found.minimum_driver} or newer")
    other = nearest(found, nodes)
    if other:
        below = f" (below the security floor {_compat_matrix.FLOOR})" if other < _compat_matrix.FLOOR else ""
        ways.append(f"use the tag {other}, the nearest that fits{below}")
    if good and good[0].get("product"):
        ways.append(f"select the nodes that fit, such as triton_node_selector={{'nvidia.com/gpu.product': '{good[0]['product']}'}}")
    text = ", or ".join(ways) or "no tag in the table fits these nodes"
    return f"{text[0].upper()}{text[1:]}."
