# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules on ensembles and the models that they refer to. The table is _model_rules.RULES. PRIVATE to the collection."""

from __future__ import annotations

import collections
from collections.abc import Iterator

from ansible_collections.mlserving.triton.plugins.module_utils import _model_config
from ansible_collections.mlserving.triton.plugins.module_utils._model_rules_view import Hit, ModelView, Repository

#: What a step's model_version is for the newest version; a step that gives none asks for version 0.
NEWEST = -1


def _hit(ensemble: ModelView, step, message: str, cure: str) -> Hit:
    place = ensemble.place.string(step.model_name) if step is not None and step.model_name else ensemble.place.field("ensemble_scheduling")
    return Hit(ensemble.config_file, message, cure, *place)


def _flow(model: ModelView) -> list:
    """Return the steps, none if one of them lacks its maps, so that nothing can be said of what flows where."""
    return model.steps if all(step.input_map and step.output_map for step in model.steps) else []


def _composing(ensemble: ModelView) -> Iterator[tuple[object, ModelView]]:
    """Yield each step with the model that it names, if that is in the tree and can be read."""
    for step in ensemble.steps:
        model = ensemble.repository.models.get(step.model_name)
        if model and model.is_known and not step.model_namespace:
            yield step, model


def ensemble_has_steps(model: ModelView) -> Iterator[Hit]:
    if model.is_ensemble and not model.steps:
        place = model.place.field("ensemble_scheduling")
        yield Hit(
            model.config_file,
            f"{model.name} is an ensemble without a step.",
            f"Write ensemble_scheduling with at least one step in {model.config_file}.",
            *(place if place[0] else model.place.field("platform")),
        )


def steps_are_complete(model: ModelView) -> Iterator[Hit]:
    for index, step in enumerate(model.steps):
        missing = [field for field in ("model_name", "input_map", "output_map") if not getattr(step, field)]
        if missing:
            yield _hit(
                model,
                step,
                f"Step {index + 1} of the ensemble {model.name} has no {' and no '.join(missing)}.",
                f"Add {' and '.join(missing)} to it in {model.config_file}.",
            )


def step_models_exist(model: ModelView) -> Iterator[Hit]:
    for step in model.steps:
        if step.model_name and step.model_name not in model.repository.models and not step.model_namespace:
            yield _hit(
                model,
                step,
                f"The ensemble {model.name} uses the model {step.model_name}, which is not in the source; Triton then does not load the ensemble.",
                f"Add {step.model_name} to the source, or correct model_name in {model.config_file}.",
            )


def step_versions_exist(model: ModelView) -> Iterator[Hit]:
    for step, composing in _composing(model):
        if step.model_version == NEWEST or step.model_version in composing.served:
            continue
        asked = f"version {step.model_version} of {composing.name}"
        if not step.model_version:
            asked = f"version 0 of {composing.name}, which is what a step without model_version means"
        reason = "its version_policy does not serve" if step.model_version in composing.versions else "is not there"
        text = f"{asked}, which {reason}" if step.model_version else f"{asked}, and it {reason}"
        yield _hit(
            model,
            step,
            f"The ensemble {model.name} uses {text}.",
            f"Write model_version: {NEWEST} for the newest in {model.config_file}, or a version that is served.",
        )


def ensembles_have_no_cycle(repository: Repository) -> Iterator[Hit]:
    for cycle in sorted(_cycles(repository)):
        ensemble = repository.models[cycle[0]]
        step = [step for step in ensemble.steps if step.model_name == cycle[1]][0]
        yield _hit(
            ensemble,
            step,
            f"Ensembles refer to each other in a circle: {' -> '.join(cycle)}; Triton loads none of them.",
            f"Remove one of these steps, such as {cycle[1]} from {ensemble.config_file}.",
        )


def _cycles(repository: Repository) -> set[tuple[str, ...]]:
    """Return each circle once, from its alphabetically first ensemble back to it."""
    uses = {
        model.name: sorted({composing.name for _step, composing in _composing(model) if composing.is_ensemble})
        for model in repository.models.values()
        if model.is_known and model.is_ensemble
    }
    found, finished = set(), set()
    for start in uses:
        trail, pending = [start], [iter(uses[start])]
        while pending:
            following = next(pending[-1], None)
            if following is None:
                finished.add(trail.pop())
                pending.pop()
            elif following in trail:
                circle = trail[trail.index(following) :]
                first = circle.index(min(circle))
                found.add((*circle[first:], *circle[:first], circle[first]))
            elif following not in finished:
                trail.append(following)
                pending.append(iter(uses[following]))
    return found


def step_inputs_are_provided(model: ModelView) -> Iterator[Hit]:
    missing = _not_provided(model)
    for step, name, tensor in missing:
        yield _hit(
            model,
            step,
            f"Input {name} of {step.model_name} is to come from the ensemble tensor {tensor}, which neither an input of {model.name} nor a step provides.",
            f"Correct its input_map in {model.config_file}, or declare the input {tensor}.",
        )
    if not missing:
        yield from _waiting_steps(model)


def _results(model: ModelView) -> list[str]:
    return [tensor for step in _flow(model) for tensor in step.output_map.values()]


def _not_provided(model: ModelView) -> list[tuple]:
    provided = {tensor.name for tensor in model.config.input} | set(_results(model))
    return [(step, name, tensor) for step in _flow(model) for name, tensor in sorted(step.input_map.items()) if tensor not in provided]


def _not_produced(model: ModelView) -> list[str]:
    produced = {tensor.name for tensor in model.config.input} | set(_results(model))
    return [output.name for output in model.config.output if _flow(model) and output.name and output.name not in produced]


def _waiting_steps(model: ModelView) -> Iterator[Hit]:
    """Steps that wait for each other's results."""
    ready, waiting = {tensor.name for tensor in model.config.input}, _flow(model)
    while any(runs := [ready.issuperset(step.input_map.values()) for step in waiting]):
        ready.update(tensor for step, ran in zip(waiting, runs) if ran for tensor in step.output_map.values())
        waiting = [step for step, ran in zip(waiting, runs) if not ran]
    if waiting:
        names = ", ".join(step.model_name for step in waiting)
        yield _hit(
            model,
            waiting[0],
            f"These steps of {model.name} wait for each other's results: {names}.",
            f"Correct their input_map in {model.config_file}, so that one of them needs only what is there.",
        )


def outputs_are_produced(model: ModelView) -> Iterator[Hit]:
    for name in _not_produced(model):
        yield Hit(
            model.config_file,
            f"Output {name} of the ensemble {model.name} is the result of no step.",
            f"Map a step's output to {name} in its output_map, or remove the output from {model.config_file}.",
            *model.place.string(name),
        )


def tensors_are_used(model: ModelView) -> Iterator[Hit]:
    if not _flow(model) or _not_provided(model) or _not_produced(model):
        return
    used = {tensor for step in model.steps for tensor in step.input_map.values()} | {tensor.name for tensor in model.config.output}
    inputs = [tensor.name for tensor in model.config.input if tensor.name]
    for tensor in dict.fromkeys([*inputs, *_results(model)]):
        if tensor not in used:
            yield Hit(
                model.config_file,
                f"No step and no output of the ensemble {model.name} uses the ensemble tensor {tensor}; Triton refuses that.",
                f"Remove it from {model.config_file}, or use it in an input_map.",
                *model.place.string(tensor),
            )


def tensors_have_one_source(model: ModelView) -> Iterator[Hit]:
    counts = collections.Counter(_results(model))
    for tensor in (tensor for tensor, count in counts.items() if count > 1):
        yield Hit(
            model.config_file,
            f"The ensemble tensor {tensor} is the result of {counts[tensor]} steps of {model.name}.",
            f"Give each result a name of its own in the output_maps of {model.config_file}.",
            *model.place.string(tensor),
        )


def _maps(step, composing: ModelView) -> list[tuple[str, dict, list]]:
    """Return kind, the step's map and the composing model's tensors of that kind, where it declares them for certain."""
    kinds = (("input", step.input_map, composing.config.input), ("output", step.output_map, composing.config.output))
    if composing.backend_name == "python" and composing.completes:
        return []
    return [(kind, mapping, tensors) for kind, mapping, tensors in kinds if tensors]


def step_tensors_exist(model: ModelView) -> Iterator[Hit]:
    for step, composing in _composing(model):
        for kind, mapping, tensors in _maps(step, composing):
            names = [tensor.name for tensor in tensors]
            for name in sorted(set(mapping) - set(names)):
                yield _hit(
                    model,
                    step,
                    f"The ensemble {model.name} maps the {kind} {name} of {composing.name}, which has only {', '.join(sorted(names))}.",
                    f"Correct its {kind}_map in {model.config_file}; the key is the name in {composing.config_file}.",
                )


def step_inputs_are_mapped(model: ModelView) -> Iterator[Hit]:
    for step, composing in _composing(model):
        for kind, mapping, tensors in _maps(step, composing):
            misnamed = set(mapping) - {tensor.name for tensor in tensors}
            for tensor in tensors if kind == "input" and mapping and not misnamed else ():
                if tensor.name and not tensor.optional and tensor.name not in mapping:
                    yield _hit(
                        model,
                        step,
                        f"The ensemble {model.name} maps nothing to the input {tensor.name} of {composing.name}, which is not optional.",
                        f"Add it to the step's input_map in {model.config_file}.",
                    )


def types_agree(model: ModelView) -> Iterator[Hit]:
    types: dict[str, dict[int, str]] = collections.defaultdict(dict)
    for tensor in (*model.config.input, *model.config.output) if model.steps else ():
        types[tensor.name].setdefault(tensor.data_type, model.name)
    for step, composing in _composing(model):
        for _kind, mapping, tensors in _maps(step, composing):
            for tensor in tensors:
                if tensor.name in mapping and tensor.data_type:
                    types[mapping[tensor.name]].setdefault(tensor.data_type, composing.name)
    for tensor, found in types.items():
        found.pop(0, None)
        if len(found) > 1:
            listed = ", ".join(f"{_model_config.model_config_pb2.DataType.Name(kind)} in {owner}" for kind, owner in found.items())
            yield Hit(
                model.config_file,
                f"The ensemble tensor {tensor} of {model.name} has several types: {listed}.",
                f"Correct data_type in {model.config_file}, or add a step that converts it.",
                *model.place.string(tensor),
            )
