# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules on what one config.pbtxt says. The table is _model_rules.RULES. PRIVATE to the collection."""

from __future__ import annotations

import collections
from collections.abc import Iterator

from ansible_collections.mlserving.triton.plugins.module_utils import _backends
from ansible_collections.mlserving.triton.plugins.module_utils._model_rules_view import Hit, ModelView
from ansible_collections.mlserving.triton.plugins.module_utils._model_tree import CONFIG

VARIABLE = -1


def _hit(model: ModelView, place: tuple[int | None, int | None], message: str, cure: str) -> Hit:
    return Hit(model.config_file, message, cure, *place)


def config_parses(model: ModelView) -> Iterator[Hit]:
    if model.error:
        yield _hit(
            model,
            (model.error.line, model.error.column),
            f"{model.config_file} is no model configuration: {model.error}.",
            "Correct it; the fields are those of ModelConfig in Triton's model_config.proto.",
        )


def name_is_the_directory(model: ModelView) -> Iterator[Hit]:
    name = model.config.name
    if name and name != model.name:
        yield _hit(
            model,
            model.place.field("name"),
            f"The configuration names the model {name!r} and its directory is {model.name}; Triton refuses a model whose two names differ.",
            f"Write name: \"{model.name}\" in {model.config_file}, or remove the line.",
        )


def backend_can_be_told(model: ModelView) -> Iterator[Hit]:
    config = model.config
    if not model.backend_name and not config.platform and (model.has_config or any(model.model.versions.values())):
        yield Hit(
            model.config_file if model.has_config else model.name,
            f"Neither a backend nor a platform is given for {model.name}, and no file in it tells one, such as 1/model.onnx.",
            f"Write backend: \"NAME\" in {model.config_file}.",
        )


def platform_is_known(model: ModelView) -> Iterator[Hit]:
    config = model.config
    if config.platform and not config.backend and not model.backend_name:
        instead = f"backend: \"{config.platform}\"" if config.platform in _backends.BACKENDS else "a backend"
        yield _hit(
            model,
            model.place.field("platform"),
            f"Triton knows no platform {config.platform!r}.",
            f"Write {instead} in {model.config_file}, or one of the platforms {', '.join([*_backends.PLATFORMS, _backends.ENSEMBLE])}.",
        )


def platform_fits_the_backend(model: ModelView) -> Iterator[Hit]:
    config = model.config
    if config.backend in _backends.COMPARED and config.platform and not model.is_ensemble and _backends.PLATFORMS.get(config.platform) != config.backend:
        yield _hit(
            model,
            model.place.field("platform"),
            f"The platform {config.platform} is none of the backend {config.backend}, so Triton refuses the pair.",
            f"Remove platform from {model.config_file}; the backend is enough.",
        )


def ensemble_is_declared(model: ModelView) -> Iterator[Hit]:
    config = model.config
    if not model.is_ensemble:
        return
    if config.platform != _backends.ENSEMBLE:
        yield _hit(
            model,
            model.place.field("ensemble_scheduling"),
            f"{model.name} has ensemble_scheduling but not the platform ensemble, so Triton takes it for no ensemble and refuses it.",
            f"Write platform: \"ensemble\" in {model.config_file}.",
        )
    if config.backend:
        yield _hit(
            model,
            model.place.field("backend"),
            f"{model.name} is an ensemble and names the backend {config.backend}; an ensemble has none.",
            f"Remove backend from {model.config_file}.",
        )


def ensemble_has_no_instances(model: ModelView) -> Iterator[Hit]:
    config = model.config
    given = {
        "instance_group": len(config.instance_group),
        "optimization": config.HasField("optimization"),
        "model_warmup": len(config.model_warmup),
    }
    for field in (field for field, is_given in given.items() if is_given and model.is_ensemble):
        yield _hit(
            model,
            model.place.field(field),
            f"{model.name} is an ensemble and has {field}; Triton refuses it there.",
            f"Remove {field} from {model.config_file}, or move it to the models of its steps.",
        )


def config_is_there(model: ModelView) -> Iterator[Hit]:
    if not model.has_config and model.backend and model.backend_name != "python" and not model.completes:
        yield Hit(
            model.name,
            f"{model.name} has no {CONFIG}, and the backend {model.backend.name} cannot tell a model's inputs and outputs itself.",
            f"Write {model.config_file} with backend, input and output.",
        )


def tensors_are_declared(model: ModelView) -> Iterator[Hit]:
    config = model.config
    wanted = model.backend and not model.completes and (model.has_config or model.backend_name == "python") and any(model.model.versions.values())
    if wanted and not config.input and not config.output:
        cure = f"Write input and output in {model.config_file}"
        yield Hit(
            model.config_file if model.has_config else model.name,
            f"No input and no output is declared for {model.name}, and nothing completes them: it loads, but takes no tensor.",
            f"{cure}, or give the model an auto_complete_config." if model.backend_name == "python" else f"{cure}.",
        )


def _tensors(model: ModelView) -> Iterator[tuple[str, int, object]]:
    for kind, tensors in (("input", model.config.input), ("output", model.config.output)):
        for index, tensor in enumerate(tensors):
            yield kind, index, tensor


def tensors_are_complete(model: ModelView) -> Iterator[Hit]:
    if model.completes:
        return
    for kind, index, tensor in _tensors(model):
        missing = [field for field, given in (("name", tensor.name), ("data_type", tensor.data_type), ("dims", tensor.dims)) if not given]
        if missing:
            yield _hit(
                model,
                model.place.string(tensor.name) if tensor.name else model.place.field(kind),
                f"{kind.capitalize()} {tensor.name or index} has no {' and no '.join(missing)}, and nothing completes it.",
                f"Add {' and '.join(missing)} to it in {model.config_file}.",
            )


def dims_are_valid(model: ModelView) -> Iterator[Hit]:
    for kind, index, tensor in _tensors(model):
        wrong = [size for size in (*tensor.dims, *tensor.reshape.shape) if size < 1 and size != VARIABLE]
        if wrong:
            yield _hit(
                model,
                model.place.string(tensor.name) if tensor.name else model.place.field(kind),
                f"{kind.capitalize()} {tensor.name or index} has the dimension {wrong[0]}; a dimension is at least 1, or {VARIABLE} for a variable size.",
                f"Correct its dims in {model.config_file}.",
            )


def tensor_names_are_unique(model: ModelView) -> Iterator[Hit]:
    counts = collections.Counter((kind, tensor.name) for kind, _index, tensor in _tensors(model) if tensor.name)
    for (kind, name), count in counts.items():
        if count > 1:
            yield _hit(
                model,
                model.place.string(name),
                f"The {kind} {name} is declared {count} times, of which Triton uses the first.",
                f"Remove the others from {model.config_file}, or rename them.",
            )


def label_files_are_there(model: ModelView) -> Iterator[Hit]:
    for output in model.config.output:
        if output.label_filename and output.label_filename.removeprefix("./") not in model.present:
            yield _hit(
                model,
                model.place.string(output.label_filename),
                f"Output {output.name} has its labels in {output.label_filename}, which is not in {model.name}.",
                f"Put it there; the path counts from {model.name}/ and must not leave it.",
            )


def labels_suffice(model: ModelView) -> Iterator[Hit]:
    for output in model.config.output:
        name, classes = output.label_filename.removeprefix("./"), output.dims[-1] if output.dims else 0
        if name in model.files and (lines := model.lines(name)) < classes:
            yield _hit(
                model,
                model.place.string(output.label_filename),
                f"{model.path(name)} has {lines} labels and output {output.name} has {classes} classes, so some results carry no label.",
                f"Give {model.path(name)} one line for each class.",
            )


def version_policy_can_be_met(model: ModelView) -> Iterator[Hit]:
    policy, place = model.config.version_policy, model.place.field("version_policy")
    if policy.HasField("latest") and not policy.latest.num_versions:
        yield _hit(model, place, "The version policy latest serves 0 versions, so none is loaded.", f"Give num_versions in {model.config_file}, such as 1.")
    if not policy.HasField("specific"):
        return
    if not policy.specific.versions:
        yield _hit(model, place, "The version policy specific names no version, so none is loaded.", f"Name one of {_listed(model.versions)}.")
    for version in policy.specific.versions:
        if version not in model.versions:
            yield _hit(
                model,
                place,
                f"The version policy names version {version}, and there is no directory {model.path(str(version))}.",
                f"Name one of {_listed(model.versions)} in {model.config_file}, or add the version.",
            )


def _listed(versions: tuple[int, ...]) -> str:
    return ", ".join(str(version) for version in versions) or "the version directories"


def batch_sizes_fit(model: ModelView) -> Iterator[Hit]:
    config = model.config
    if config.max_batch_size < 0:
        yield _hit(model, model.place.field("max_batch_size"), f"max_batch_size is {config.max_batch_size}.", "Give 0 for a model without batches, or more.")
        return
    preferred = (*config.dynamic_batching.preferred_batch_size, *config.sequence_batching.oldest.preferred_batch_size)
    for size in (size for size in preferred if not 0 < size <= config.max_batch_size):
        yield _hit(
            model,
            model.place.field("preferred_batch_size"),
            f"The preferred_batch_size {size} is not between 1 and the max_batch_size, {config.max_batch_size}; Triton refuses the model.",
            f"Change one of the two in {model.config_file}.",
        )


def batching_has_a_size(model: ModelView) -> Iterator[Hit]:
    config = model.config
    if config.HasField("dynamic_batching") and not config.max_batch_size and not config.dynamic_batching.preferred_batch_size and not model.completes:
        yield _hit(
            model,
            model.place.field("dynamic_batching"),
            "dynamic_batching is asked for and max_batch_size is 0, so Triton forms no batches.",
            f"Give max_batch_size in {model.config_file}, or remove dynamic_batching.",
        )
