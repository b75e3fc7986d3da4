# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each image of Triton was built with, and what that needs of a node: data only. PRIVATE to the collection.

Add a line to RELEASES for a new monthly tag, and raise FLOOR when a bulletin names a newer one.
"""

from __future__ import annotations

#: When the table was last brought up to date.
DATE = "2026-11-25"
SOURCES = (
    "https://github.com/triton-inference-server/server/blob/main/docs/introduction/compatibility.md (CUDA of each tag)",
    "https://docs.nvidia.com/deeplearning/frameworks/support-matrix/index.html (server version)",
    "https://docs.nvidia.com/deeplearning/triton-inference-server/release-notes/rel-25-03.html, rel-24-05.html (oldest GPU)",
    "https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html (oldest driver of a CUDA major version)",
    "https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html (data centre GPUs only)",
    "https://docs.nvidia.com/datacenter/tesla/drivers/615/supported-drivers-and-cuda-toolkit-versions.html (branches)",
    "https://github.com/NVIDIA/product-security (bulletins of 2026, of which 5875 is fixed in 26.07)",
)

#: tag -> (server, CUDA of the images -py3 and -vllm-python-py3, CUDA of -trtllm-python-py3 where there is such an image)
RELEASES = {
    "24.04": ("2.45.0", "12.4", "12.3"),
    "24.05": ("2.46.0", "12.4", "12.3"),
    "24.06": ("2.47.0", "12.5", "12.4"),
    "24.07": ("2.48.0", "12.5", "12.4"),
    "24.08": ("2.49.0", "12.6", "12.5"),
    "24.09": ("2.50.0", "12.6", "12.5"),
    "24.10": ("2.51.0", "12.6", "12.5"),
    "24.11": ("2.52.0", "12.6", "12.6"),
    "24.12": ("2.53.0", "12.6", "12.6"),
    "25.01": ("2.54.0", "12.8", "12.8"),
    "25.02": ("2.55.0", "12.8", "12.8"),
    "25.03": ("2.56.0", "12.8", "12.8"),
    "25.04": ("2.57.0", "12.9", "12.8"),
    "25.05": ("2.58.0", "12.9", "12.8"),
    "25.06": ("2.59.0", "12.9", "12.9"),
    "25.07": ("2.59.1", "12.9", "12.9"),
    "25.08": ("2.60.0", "13.0", "12.9"),
    "25.09": ("2.61.0", "13.0", "12.9"),
    "25.10": ("2.62.0", "13.0", "12.9"),
    "25.11": ("2.63.0", "13.0", "13.0"),
    "25.12": ("2.64.0", "13.1", "13.0"),
    "26.01": ("2.65.0", "13.1", "13.0"),
    "26.02": ("2.66.0", "13.1", "13.0"),
    "26.03": ("2.67.0", "13.2", "13.1"),
    "26.04": ("2.68.0", "13.2", "13.1"),
    "26.05": ("2.69.0", "13.2", "13.1"),
    "26.06": ("2.70.0", "13.3", "13.1"),
    "26.07": ("2.71.0", "13.3", "13.1"),
    "26.08": ("2.72.0", "13.4", None),
    "26.09": ("2.73.0", "13.4", None),
    "26.10": ("2.74.0", "13.4", None),
    "26.11": ("2.75.0", "13.4", None),
}
#: Tags below have known security holes.
FLOOR = "26.07"
FLOOR_REASON = "later bulletins, among them 5865 (critical, fixed in 26.06) and 5875 (high, fixed in 26.07), name what is below"

#: CUDA major version -> oldest driver branch that runs it
DRIVER = {11: 450, 12: 525, 13: 580}
#: CUDA major version -> oldest driver branch that runs it on a data centre GPU through the image's own cuda-compat package
FORWARD_DRIVER = {11: 418, 12: 470, 13: 535}
#: From this tag on, the oldest compute capability that the images have code for; the first that is not newer than the tag counts.
OLDEST_GPU = (("25.03", "7.5"), ("", "6.0"))
#: compute capability -> first CUDA that knows it; newer GPUs than the last are taken to need the CUDA of the newest tag
FIRST_CUDA = {"8.9": "11.8", "9.0": "11.8", "10.0": "12.8", "10.3": "12.9", "12.0": "12.8", "12.1": "12.9"}
#: Products that the cuda-compat package works on, as nvidia-smi or the label nvidia.com/gpu.product name them.
DATA_CENTRE = (
    r"\b(Tesla|A(2|10|10G|10M|16|30|30X|40|100|100X|800)|L(2|4|20|40|40S)|T4G?|H(20|100|200|800)"
    r"|GH200|GB(200|300)|B(100|200|300)|V100S?|P(4|40|100))\b"
)
#: compute capability -> how people call it
GENERATIONS = {
    "6.0": "Pascal",
    "6.1": "Pascal",
    "7.0": "Volta",
    "7.5": "Turing",
    "8.0": "Ampere",
    "8.6": "Ampere",
    "8.9": "Ada",
    "9.0": "Hopper",
    "10.0": "Blackwell",
    "10.3": "Blackwell",
    "12.0": "Blackwell",
}
#: Cards that can be cut into MIG devices, by product.
MIG = r"\b(A30|A100|A100X|A800|H100|H200|H20|H800|GH200|B100|B200|B300|GB200|GB300)\b|RTX PRO (5000|6000)"
