# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a golden case of what a model was sent and what it answered. PRIVATE to the collection.

An answer is name -> (Triton data type, numpy array), as _triton_client returns it. Nothing here talks to a server or touches a file.
"""

from __future__ import annotations

import dataclasses
import math

from ansible_collections.mlserving.triton.plugins.module_utils import _expectations, _tensors, _verify

try:
    import numpy
except ImportError:
    # The modules report it through _triton_client.IMPORT_ERROR before anything here is called.
    numpy = None

#: What a case holds besides what was answered; two cases that differ in nothing else say the same of different answers.
ANSWERED = ("data", "classes")
SHOWN_CHARACTERS = 24


class RecordError(Exception):
    """The answers cannot be recorded; the text says why and what to do."""


@dataclasses.dataclass(frozen=True)
class How:
    """How answers are recorded: the module's options of these names, and ``outputs``, name -> data type of the outputs to record."""

    outputs: dict
    top: int = 0
    shape_only: bool = False
    agree: bool = False
    tolerance: float = 0.0
    relative: float = 0.0
    values: int = 64

    @property
    def requested(self) -> dict[str, int]:
        """Output -> how many classes to ask for, 0 for its values; texts have no classes."""
        return {name: 0 if datatype == "BYTES" else self.top for name, datatype in self.outputs.items()}


@dataclasses.dataclass(frozen=True)
class Output:
    """One recorded output: the case's entry, what of the answer it holds (values, classes or shape), and why not the values."""

    entry: dict
    kind: str
    why: str = ""


def default_inputs(metadata: dict) -> list[dict]:
    """Return inputs for a model that was given none: every one random, each with a seed of its own, so that no two are equal."""
    return [{"name": entry["name"], "fill": "random", "seed": seed} for seed, entry in enumerate(metadata.get("inputs") or [])]


def chosen_outputs(model: str, metadata: dict, names: list[str] | None) -> dict[str, str]:
    """Return name -> data type of the named outputs, of all without names.

    :raises RecordError: the model has no such output
    """
    served = {entry["name"]: entry["datatype"] for entry in metadata.get("outputs") or []}
    for name in names or ():
        if name not in served:
            raise RecordError(f"model {model} has no output {name}; its outputs are: {', '.join(sorted(served)) or 'none'}. Correct outputs.")
    return {name: served[name] for name in names or served}


def recorded_input(tensor: dict, datatype: str, array, file: str | None) -> dict:
    """Return the case's entry of an input, with data type and shape as they were sent, so that it means the same whatever the model says later.

    :param tensor: the input as the module's option has it, with its name
    :param file: the input's file relative to the model's folder, if it has one
    """
    entry = {"name": tensor["name"], "datatype": datatype, "shape": [int(size) for size in array.shape]}
    if tensor.get("fill"):
        return entry | {"fill": tensor["fill"]} | ({"seed": int(tensor.get("seed") or 0)} if tensor["fill"] == "random" else {})
    if file:
        scaling = tensor.get("scaling") or "NONE"
        return entry | {"file": file} | ({"scaling": scaling} if scaling != "NONE" else {})
    return entry | {"data": [_given(datatype, value) for value in _tensors.flat(tensor["data"])]}


def _given(datatype: str, value):
    """Return a value of an input as YAML has it; texts that hold numbers come out of templates."""
    if datatype == "BYTES":
        return str(value)
    return _tensors.value_of("FP32" if datatype == "BF16" else datatype, value, "an input")


def recorded_outputs(model: str, answer: dict, how: How) -> list[Output]:
    """Return what is recorded of an answer, an entry for each output.

    :raises RecordError: an output is missing, or was not answered with classes
    """
    outputs = []
    for name, classes in how.requested.items():
        if name not in answer or answer[name][1] is None:
            raise RecordError(f"model {model} did not answer its output {name}. Record others with outputs: [NAME].")
        outputs.append(_classes_of(model, name, answer[name][1], classes, how) if classes else _values_of(name, *answer[name], how))
    return outputs


def _classes_of(model: str, name: str, array, top: int, how: How) -> Output:
    try:
        found = _expectations.classes(array)
    except (ValueError, AttributeError):
        raise RecordError(f"model {model} did not answer its output {name} with classes. Record it without top, or others with outputs.") from None
    rows = math.prod(array.shape[:-1])
    entry = {"name": name} | ({"top": top} if rows > 1 else {})
    entry["classes"] = [{key: one[key] for key in ("index", "label", "value") if one[key] != ""} for one in found]
    return Output(entry | _allowed(how), "classes")


def _values_of(name: str, datatype: str, array, how: How) -> Output:
    entry = {"name": name, "datatype": datatype, "shape": [int(size) for size in array.shape]}
    why, data = "", []
    if how.shape_only:
        why = "shape_only is true"
    elif array.size > how.values:
        why = f"it has {array.size} values, more than {how.values}. Pass top for its best classes, agree to have all replicas compared, or a larger values"
    elif datatype not in _tensors.DATATYPES:
        why = f"values of {datatype} cannot be written in a case"
    else:
        try:
            data = [_value(datatype, value) for value in array.reshape(-1)]
        except UnicodeDecodeError:
            why = "it holds bytes that are not UTF-8, which a case cannot hold"
    if why:
        finite = not how.shape_only and _is_real(datatype) and numpy.isfinite(array.astype("float64")).all()
        return Output(entry | ({"finite": True} if finite else {}), "shape", why)
    return Output(entry | {"data": data} | (_allowed(how) if _is_real(datatype) else {}), "values")


def _value(datatype: str, value):
    """Return a value of an answer as YAML has it; of a float the shortest number that means the same in its data type."""
    if datatype == "BYTES":
        return value.decode() if isinstance(value, bytes) else str(value)
    if datatype == "BOOL":
        return bool(value)
    return float(str(value)) if _is_real(datatype) else int(value)


def _is_real(datatype: str) -> bool:
    return datatype.startswith(("FP", "BF"))


def _allowed(how: How) -> dict:
    return {key: value for key, value in (("tolerance", how.tolerance), ("relative", how.relative)) if value}


def case_of(inputs: list[dict], outputs: list[Output], version: str, how: How) -> dict:
    """Return the case as it stands in a file."""
    head = ({"version": version} if version else {}) | ({"agree": True} if how.agree else {})
    return head | {"inputs": inputs, "outputs": [output.entry for output in outputs]}


def expect_the_same(model: str, answers: list[dict], how: How) -> None:
    """See that a model answers the same inputs with the same values, as far as they are to be recorded.

    :raises RecordError: it does not
    """
    for number, other in enumerate(answers[1:], 2):
        problem = _difference(answers[0], other, how)
        if problem:
            advice = (
                "Its shapes differ too, so nothing of it can be recorded."
                if how.shape_only
                else "Make it deterministic, pass larger tolerance and relative, or record only its shapes with shape_only (-e shape_only=true)."
            )
            raise RecordError(f"model {model} answered the same inputs differently: in run {number} of {len(answers)} {problem}. {advice}")
        if how.agree and _expectations.digest(answers[0]) != _expectations.digest(other):
            raise RecordError(
                f"model {model} answered the same inputs with the same values but for rounding: run {number} of {len(answers)} differs in the last digits. "
                "agree asks for the very same; record it without agree."
            )


def _difference(first: dict, other: dict, how: How) -> str:
    """Return in words where an answer differs from the first one; an empty text if it does not."""
    for name, classes in how.requested.items():
        (datatype, should), (other_datatype, is_) = first[name], other.get(name, ("nothing", numpy.empty(0)))
        if (datatype, should.shape) != (other_datatype, is_.shape):
            return f"{name} is {other_datatype} {list(is_.shape)}, at first {datatype} {list(should.shape)}"
        if how.shape_only or classes:
            continue
        wrong = ~_same(is_, should, datatype, how).reshape(-1)
        if wrong.any():
            place = int(wrong.argmax())
            return (
                f"{name}[{place}] is {_text(is_.reshape(-1)[place])}, at first {_text(should.reshape(-1)[place])}; "
                f"{int(wrong.sum())} of {wrong.size} values differ"
            )
    return ""


def _same(is_, should, datatype: str, how: How):
    if not _is_real(datatype):
        return numpy.asarray(is_ == should)
    return numpy.isclose(is_.astype("float64"), should.astype("float64"), rtol=how.relative, atol=how.tolerance, equal_nan=True)


def _text(value) -> str:
    return value.decode("utf-8", "replace")[:SHOWN_CHARACTERS] if isinstance(value, bytes) else str(value)


def same_tensors(one: dict, other: dict) -> bool:
    """Whether two sets of inputs, name -> (data type, array), are the same."""
    return one.keys() == other.keys() and all(
        datatype == other[name][0] and numpy.array_equal(array, other[name][1], equal_nan=array.dtype.kind == "f")
        for name, (datatype, array) in one.items()
    )


def sent_by(model: str, case: dict, folder: str, metadata: dict) -> dict | None:
    """Return the inputs, name -> (data type, array), that a case of a file sends; None if it is another model's, or cannot be sent.

    :param folder: where its files lie
    """
    tensors, outputs = case.get("inputs"), case.get("outputs") or []
    listed = all(isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries) for entries in (tensors, outputs))
    if case.get("model", model) != model or not listed:
        return None
    try:
        return _verify.prepare([(folder, {"model": model, "inputs": tensors, "outputs": []})])[0].named(metadata).complete(metadata)
    except (_tensors.CaseError, TypeError, ValueError, KeyError):
        return None


def problem_of(case: dict, answers: list[dict]) -> str:
    """Return in words how the first answer that is otherwise differs from what a case expects; an empty text if none is."""
    return next(filter(None, (_expectations.compare(case["outputs"], answer) for answer in answers)), "")


def skeleton(case: dict) -> dict:
    """Return what a case says besides its inputs and what was answered."""
    outputs = [{key: key if key in ANSWERED else value for key, value in output.items()} for output in case.get("outputs") or []]
    rest = {key: value for key, value in case.items() if key not in ("model", "inputs", "version")}
    return rest | {"version": str(case.get("version") or ""), "agree": bool(case.get("agree")), "outputs": outputs}
