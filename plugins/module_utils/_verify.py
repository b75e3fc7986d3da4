# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a served model is expected to answer, whether an answer fulfils it, and the report. PRIVATE to the collection.

Nothing here talks to a server. A report is a dict: target, node, kind (replica or url), version, live, ready, models
(name, version, state, reason, note), inferences (model, protocol, ok, milliseconds, outputs, message), problems.
"""

from __future__ import annotations

import collections
import dataclasses

from ansible_collections.mlserving.triton.plugins.module_utils import _expectations, _verify_inputs
from ansible_collections.mlserving.triton.plugins.module_utils._tensors import CaseError, expect_count, flat


@dataclasses.dataclass(frozen=True)
class Case:
    """One inference.

    ``tensors`` and ``outputs``: the module's options, as given; ``inputs``: name -> (data type, array) of those tensors that need no metadata.
    ``folder``: where their files lie. ``number``: tells the cases of one run apart.
    """

    model: str
    version: str
    tensors: list
    outputs: list
    inputs: dict
    folder: str = ""
    number: int = 0
    json: bool = False
    agree: bool = False

    @property
    def wanted(self) -> dict[str, int]:
        """Output -> how many classes to ask for, 0 for its values."""
        return {tensor["name"]: tensor.get("top") or len(tensor.get("classes") or ()) for tensor in self.outputs}

    def named(self, metadata: dict) -> Case:
        """Return the case with the names of the tensors that were given without one: the model's only input, the model's only output.

        :raises CaseError: the model has several
        """
        tensors = [{**tensor, "name": tensor.get("name") or _only(self.model, metadata, "inputs")} for tensor in self.tensors]
        outputs = [{**tensor, "name": tensor.get("name") or _only(self.model, metadata, "outputs")} for tensor in self.outputs]
        return dataclasses.replace(self, tensors=tensors, outputs=outputs)

    def complete(self, metadata: dict | None) -> dict:
        """Return all inputs, name -> (data type, array), in the order in which they were given.

        :param metadata: of the model, as the server tells it; None if no tensor needs it
        :raises CaseError: a tensor does not fit the metadata
        """
        built = {tensor["name"]: self.inputs.get(tensor["name"]) for tensor in self.tensors}
        for tensor in self.tensors:
            if built[tensor["name"]] is None:
                built[tensor["name"]] = _verify_inputs.build(tensor, metadata, self.folder, _where(self.model, tensor))
        return built

    @property
    def needs_metadata(self) -> bool:
        return len(self.inputs) < len(self.tensors) or not all(tensor.get("name") for tensor in self.outputs)


def prepare(cases: list[tuple[str, dict]]) -> list[Case]:
    """Build the tensors of every case as far as that needs no server.

    :param cases: (folder of their files, case as the module's option has it)
    :raises CaseError: data does not fit its shape or data type
    """
    prepared = []
    for number, (folder, case) in enumerate(cases):
        inputs = {}
        for tensor in case["inputs"]:
            if tensor.get("name") and not _verify_inputs.needs_metadata(tensor):
                inputs[tensor["name"]] = _verify_inputs.build(tensor, None, folder, _where(case["model"], tensor))
        for tensor in case["outputs"] or []:
            if tensor.get("shape") and tensor.get("data") is not None:
                expect_count(flat(tensor["data"]), tensor["shape"], f"the case of model {case['model']}, output {tensor['name']}")
        options = {"json": bool(case.get("json")), "agree": bool(case.get("agree"))}
        prepared.append(Case(case["model"], str(case.get("version") or ""), case["inputs"], case["outputs"] or [], inputs, folder, number, **options))
    return prepared


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What every target is held against.

    ``models``: names that must be loaded beside those of the cases; ``tensors``: model -> {"inputs": {name: data type}, "outputs": ...} that its
    metadata must have; ``slowest``: milliseconds that an inference may take.
    """

    cases: list
    models: tuple = ()
    tensors: dict = dataclasses.field(default_factory=dict)
    slowest: int | None = None


def _only(model: str, metadata: dict, kind: str) -> str:
    names = [entry["name"] for entry in metadata.get(kind) or []]
    if len(names) != 1:
        raise CaseError(f"the case of model {model}: one of its {kind} has no name, and the model has {len(names)}: {', '.join(names)}. Name it.")
    return names[0]


def _where(model: str, tensor: dict) -> str:
    return f"the case of model {model}, input {tensor['name']}"


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
        "metrics": None,
        "problems": [],
    }


def is_unloaded(entry: dict) -> bool:
    """Whether nobody asked for this model version: never loaded, or unloaded on purpose."""
    return entry["state"] in ("", "UNAVAILABLE") and entry["reason"] in ("", "unloaded")


def outcome(case: Case, answer: dict, milliseconds: int, slowest: int | None) -> dict:
    """Return what an answer comes to: outputs, message, and classes and digest where the case asks for them."""
    found = {"outputs": _expectations.sample(case.outputs, answer), "message": _expectations.compare(case.outputs, answer)}
    tops = [name for name, classes in case.wanted.items() if classes and name in answer]
    if tops and not found["message"]:
        found["classes"] = _expectations.classes(answer[tops[0]][1])
    if case.agree:
        found["digest"], found["case"] = _expectations.digest(answer), case.number
    if slowest is not None and milliseconds > slowest and not found["message"]:
        found["message"] = f"it took {milliseconds} ms, expected {slowest} at most"
    return found


def judge_agreement(reports: list[dict], cases: list[Case]) -> None:
    """Add to the reports where a replica answered a case, that all are to agree on, otherwise than most."""
    for case in cases:
        if not case.agree:
            continue
        found = [(report, entry) for report in reports for entry in report["inferences"] if entry.get("case") == case.number and entry["ok"]]
        most, _count = collections.Counter(entry["digest"] for _report, entry in found).most_common(1)[0] if found else ("", 0)
        for report, entry in found:
            if entry["digest"] != most:
                entry["ok"], entry["message"] = False, "it answered otherwise than most of the others, expected the same everywhere"
                report["problems"].append(f"{entry['protocol'].upper()} inference of {case.model}: {entry['message']}")


def judge_metadata(model: str, tensors: dict, metadata: dict) -> list[str]:
    """Return how a model's inputs and outputs differ from those of its configuration, a sentence each."""
    problems = []
    for kind, expected in tensors.items():
        served = {entry["name"]: entry["datatype"] for entry in metadata.get(kind) or []}
        for name, datatype in expected.items():
            if served.get(name) != datatype:
                has = f"is {served[name]}" if name in served else f"is missing; there are {', '.join(sorted(served)) or 'none'}"
                problems.append(f"model {model}: of its {kind}, {name} {has}, expected {datatype} as in its config.pbtxt")
    return problems


def judge_models(index: list[dict], expected: Wanted) -> tuple[list[dict], list[str]]:
    """Return (the index with a note on each version, problems)."""
    with_case = {case.model for case in expected.cases}
    wanted = with_case | set(expected.models)
    models, problems = [], []
    for entry in index:
        note = "" if entry["name"] in with_case else "no case"
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
