# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a served model is expected to answer, whether an answer fulfils it, and the report. PRIVATE to the collection.

Nothing here talks to a server. A report is a dict: target, node, kind (replica or url), version, live, ready, models
(name, version, state, reason, note), inferences (model, protocol, ok, milliseconds, outputs, message), problems.
"""

from __future__ import annotations

import dataclasses
import math

try:
    import numpy
except ImportError:
    # The modules report it through _triton_client.IMPORT_ERROR before anything here is called.
    numpy = None

#: Triton data type -> name of the numpy type; BYTES is an array of objects.
DATATYPES = {
    "BOOL": "bool",
    **{f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BYTES": "object",
}
#: How many values of an answer stand in the table, and how much of a text value.
SAMPLE_VALUES = 3
SAMPLE_CHARACTERS = 24


class CaseError(Exception):
    """A case cannot be sent as it is written; the text names the case and what to write."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One inference. ``inputs``: name -> (data type, array); ``outputs``: the module's option, as given."""

    model: str
    version: str
    inputs: dict
    outputs: list


def prepare(cases: list[dict]) -> list[Case]:
    """Build the tensors of every case.

    :raises CaseError: data does not fit its shape or data type
    """
    prepared = []
    for case in cases:
        inputs = {}
        for tensor in case["inputs"]:
            where = f"the case of model {case['model']}, input {tensor['name']}"
            inputs[tensor["name"]] = (tensor["datatype"], _array(tensor["datatype"], tensor["shape"], tensor["data"], where))
        for tensor in case["outputs"] or []:
            if tensor.get("shape") and tensor.get("data") is not None:
                _expect_count(_flat(tensor["data"]), tensor["shape"], f"the case of model {case['model']}, output {tensor['name']}")
        prepared.append(Case(case["model"], str(case.get("version") or ""), inputs, case["outputs"] or []))
    return prepared


def _array(datatype: str, shape: list[int], data: list, where: str):
    values = [_value(datatype, value, where) for value in _flat(data)]
    if len(values) == 1:
        # One value fills the tensor, so that an image need not be written out.
        values *= math.prod(shape)
    _expect_count(values, shape, where)
    try:
        return numpy.array(values, dtype=DATATYPES[datatype]).reshape(shape)
    except OverflowError:
        raise CaseError(f"{where}: a value does not fit into {datatype}. Choose values within its range.") from None


def _flat(data: list) -> list:
    return [leaf for item in data for leaf in (_flat(item) if isinstance(item, list) else [item])]


def _expect_count(values: list, shape: list[int], where: str) -> None:
    wanted = math.prod(shape)
    if len(values) != wanted:
        raise CaseError(f"{where}: shape {shape} holds {wanted} values, data has {len(values)}. Correct the one or the other.")


def _value(datatype: str, value, where: str):
    """Return a YAML value as numpy takes it for this data type; texts that hold numbers come out of templates."""
    try:
        if datatype == "BYTES":
            return str(value).encode()
        if datatype == "BOOL":
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if datatype.startswith("FP"):
            return float(value)
        if isinstance(value, float) and not value.is_integer():
            raise ValueError
        return int(value)
    except (ValueError, TypeError, KeyError):
        raise CaseError(f"{where}: {value!r} is not a value of type {datatype}. Write it as that type.") from None


def compare(case: Case, answer: dict) -> str:
    """Return in words how the answer differs from what the case expects; an empty text when it does not.

    :param answer: name -> (data type, array)
    """
    if not answer:
        return "the answer has no outputs"
    for expected in case.outputs:
        name = expected["name"]
        if name not in answer or answer[name][1] is None:
            return f"output {name} is missing; the answer has {', '.join(sorted(answer))}"
        problem = _compare_output(expected, *answer[name])
        if problem:
            return problem
    return ""


def _compare_output(expected: dict, datatype: str, array) -> str:
    name = expected["name"]
    if expected.get("datatype") and datatype != expected["datatype"]:
        return f"{name} has the data type {datatype}, expected {expected['datatype']}"
    if expected.get("shape") is not None and list(array.shape) != expected["shape"]:
        return f"{name} has the shape {list(array.shape)}, expected {expected['shape']}"
    if expected.get("data") is None:
        return ""
    got, wanted = array.reshape(-1), _flat(expected["data"])
    if len(got) != len(wanted):
        return f"{name} has {len(got)} values, expected {len(wanted)}"
    tolerance = expected.get("tolerance") or 0.0
    try:
        values = [_value(datatype, value, f"expected {name}") for value in wanted]
    except CaseError as error:
        return str(error)
    wrong = [place for place, (is_, should) in enumerate(zip(got, values)) if not _same(is_, should, datatype, tolerance)]
    if not wrong:
        return ""
    first = wrong[0]
    return (
        f"{name}[{first}] is {_text(got[first])}, expected {_text(values[first])} (tolerance {tolerance:g}); "
        f"{len(wrong)} of {len(values)} values differ"
    )


def _same(got, wanted, datatype: str, tolerance: float) -> bool:
    if datatype in ("BYTES", "BOOL"):
        return got == wanted
    if not datatype.startswith("FP"):
        return abs(int(got) - wanted) <= tolerance
    # An expectation of 0.1 means the nearest number that the type has.
    wanted = numpy.array(wanted, dtype=DATATYPES[datatype])
    return bool(numpy.isclose(float(got), float(wanted), rtol=0, atol=tolerance, equal_nan=True))


def sample(case: Case, answer: dict) -> str:
    """Return the begin of the answer's first output of interest, such as "OUTPUT0[0:3]=1 3 5"."""
    names = [expected["name"] for expected in case.outputs if expected["name"] in answer] or sorted(answer)
    if not names or answer[names[0]][1] is None:
        return ""
    values = answer[names[0]][1].reshape(-1)[:SAMPLE_VALUES]
    return f"{names[0]}[0:{len(values)}]={' '.join(_text(value) for value in values)}"


def _text(value) -> str:
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
        return text if len(text) <= SAMPLE_CHARACTERS else text[:SAMPLE_CHARACTERS] + "..."
    if isinstance(value, (bool, numpy.bool_)):
        return str(bool(value)).lower()
    return f"{value:g}" if isinstance(value, (float, numpy.floating)) else str(value)


def new_report(target: str, kind: str, node: str = "") -> dict:
    return {
        "target": target,
        "node": node,
        "kind": kind,
        "version": "",
        "live": False,
        "ready": False,
        "models": [],
        "inferences": [],
        "problems": [],
    }


def is_unloaded(entry: dict) -> bool:
    """Whether nobody asked for this model version: never loaded, or unloaded on purpose."""
    return entry["state"] in ("", "UNAVAILABLE") and entry["reason"] in ("", "unloaded")


def judge_models(index: list[dict], cases: list[Case]) -> tuple[list[dict], list[str]]:
    """Return (the index with a note on each version, problems)."""
    wanted = {case.model for case in cases}
    models, problems = [], []
    for entry in index:
        note = "" if entry["name"] in wanted else "no case"
        models.append(entry | {"note": "not loaded" if is_unloaded(entry) else note})
        if entry["state"] != "READY" and not is_unloaded(entry):
            reason = f": {entry['reason']}" if entry["reason"] else ""
            problems.append(f"model {entry['name']} version {entry['version']} is {entry['state']}{reason}")
    names = sorted({entry["name"] for entry in index})
    for model in sorted(wanted - set(names)):
        problems.append(f"model {model} is not in the repository index; it has: {', '.join(names) or 'no model'}")
    for model in sorted(wanted & set(names)):
        if all(is_unloaded(entry) for entry in index if entry["name"] == model):
            problems.append(f"model {model} is in the repository but not loaded")
    return models, problems


def table(reports: list[dict], protocols: list[str]) -> list[str]:
    """Return one line per target below a heading: target, node, version, models, each protocol, sample."""
    rows = [["TARGET", "NODE", "VERSION", "MODELS", *(protocol.upper() for protocol in protocols), "ANSWER"]]
    for report in reports:
        loaded = [entry for entry in report["models"] if not is_unloaded(entry)]
        ready = sum(entry["state"] == "READY" for entry in loaded)
        answer = next((entry["outputs"] for entry in report["inferences"] if entry["outputs"]), "")
        rows.append(
            [
                report["target"],
                report["node"] or "-",
                report["version"] or "-",
                f"{ready}/{len(loaded)}",
                *(_cell([entry for entry in report["inferences"] if entry["protocol"] == protocol]) for protocol in protocols),
                answer or "-",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _cell(inferences: list[dict]) -> str:
    if not inferences:
        return "-"
    failed = sum(not entry["ok"] for entry in inferences)
    if failed:
        return f"FAILED {failed}/{len(inferences)}"
    return f"ok {max(entry['milliseconds'] for entry in inferences)} ms"


def message(reports: list[dict], general: list[str]) -> str:
    """Return what failed and what to do, one line for each problem."""
    bad = [report for report in reports if report["problems"]]
    lines = [f"{len(bad)} of {len(reports)} targets did not pass the verification."] if reports else ["There is nothing to verify."]
    lines += general
    lines += [f"{report['target']}: {'; '.join(report['problems'])}" for report in bad]
    problems = " ".join(general + [problem for report in bad for problem in report["problems"]])
    lines.append(_advice(problems))
    return "\n".join(lines)


#: What a problem's text says -> what to do; the first that fits is given.
ADVICE = (
    ("expected", "A server answered with other values: check that this is the intended model version, or correct the case."),
    ("is not in the repository index", "Publish the model to the repository and deploy again, or remove its case."),
    ("not loaded", "Load the model with mlserving.triton.triton_model, or remove its case."),
    ("UNAVAILABLE", "Correct the model by the reason above and publish it again; `kubectl logs` of the pod has the full text."),
    ("expecting header", "That API is restricted on the server: lift the restriction for this address."),
    ("no answer", "Check that the pods are Running, and that the address and port lead to Triton and this machine reaches them."),
    ("ready", "Look at the pods: kubectl get pods, kubectl describe pod; mlserving.triton.triton_rollout explains what keeps them."),
)


def _advice(problems: str) -> str:
    return next((todo for sign, todo in ADVICE if sign in problems), "Correct what is named above and verify again.")
