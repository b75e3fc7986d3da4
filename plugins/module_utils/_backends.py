# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each backend of Triton expects of a model: a table, and how Triton tells the backend of a model. PRIVATE to the collection.

core, server and so on are the repositories of triton-inference-server; "run" means that server 2.51.0 behaved so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

ENSEMBLE = "ensemble"


@dataclasses.dataclass(frozen=True)
class Backend:
    """``files``: of these names one must be in each version directory; none if the backend needs no particular file.

    ``companion``: a file with this ending must lie beside one with the other; ``inside``: if the model is a directory, it holds this file.
    ``platforms``: what may stand in the configuration's platform; ``completes``: whether the backend fills in inputs and outputs
    that the configuration does not name, None if that is not known; ``by_capability``: it heeds cc_model_filenames.
    """

    name: str
    files: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    completes: bool | None = None
    by_capability: bool = False
    companion: tuple[str, str] | None = None
    inside: str = ""


_BACKENDS = (
    # core src/constants.h and AutoCompleteBackendFields in src/model_config_utils.cc for names and platforms;
    # server docs/user_guide/model_configuration.md, "Auto-Generated Model Configuration", for what is completed
    Backend("tensorrt", ("model.plan",), ("tensorrt_plan",), completes=True, by_capability=True),
    # server docs/user_guide/model_repository.md: a file, or a directory with a file of that name
    Backend("onnxruntime", ("model.onnx",), ("onnxruntime_onnx",), completes=True, by_capability=True, inside="model.onnx"),
    # server docs/user_guide/model_repository.md: two files
    Backend("openvino", ("model.xml",), completes=True, companion=(".xml", ".bin")),
    # core src/constants.h (model.pt2 and torch_aoti are newer than 2.51); pytorch_backend README: model.py is a PyTorch model in Python
    Backend("pytorch", ("model.pt", "model.pt2", "model.py"), ("pytorch_libtorch", "libtorch", "torch_aoti"), completes=False, by_capability=True),
    # core src/model_config_utils.cc, where the backend is called deprecated
    Backend(
        "tensorflow",
        ("model.savedmodel", "model.graphdef"),
        ("tensorflow_savedmodel", "tensorflow_graphdef"),
        completes=True,
        by_capability=True,
        inside="saved_model.pb",
    ),
    # run: cc_model_filenames is not heeded; auto_complete_config in model.py completes, see _model_rules_view
    Backend("python", ("model.py",), completes=False),
    # server docs/user_guide/model_repository.md, dali_backend README: dali.py is serialised by the backend
    Backend("dali", ("model.dali", "dali.py"), completes=True),
    # vllm_backend README
    Backend("vllm", ("model.json",), completes=True),
    # tensorrtllm_backend: the engines' place is a parameter, the version directory is empty
    Backend("tensorrtllm"),
    # fil_backend docs/model_config.md: the name depends on model_type
    Backend("fil"),
)
BACKENDS = {backend.name: backend for backend in _BACKENDS}
PLATFORMS = {platform: backend.name for backend in _BACKENDS for platform in backend.platforms}
#: core GetBackendType in src/model_config_utils.cc: only of these Triton compares platform and backend.
COMPARED = ("tensorrt", "onnxruntime", "pytorch", "tensorflow")
#: core AutoCompleteBackendFields: the order in which the first version directory is searched.
TELLING = {
    "model.savedmodel": "tensorflow",
    "model.graphdef": "tensorflow",
    "model.plan": "tensorrt",
    "model.onnx": "onnxruntime",
    "model.xml": "openvino",
    "model.pt": "pytorch",
    "model.pt2": "pytorch",
    "model.py": "python",
}


def backend_name(model: str, config, content: Collection[str]) -> str | None:
    """Return the backend that Triton takes for a model, "ensemble" for an ensemble, None if it can tell none.

    :param model: the name of the model's directory
    :param config: the model's ModelConfig
    :param content: what is in the first version directory
    """
    if config.platform == ENSEMBLE or config.HasField("ensemble_scheduling"):
        return ENSEMBLE
    if config.backend:
        return config.backend
    if config.platform:
        return PLATFORMS.get(config.platform)
    if config.default_model_filename:
        return TELLING.get(config.default_model_filename)
    told = next((backend for name, backend in TELLING.items() if name in content), None)
    # run: a directory x.identity asks for the backend "identity"
    return told or model.partition(".")[2] or None
