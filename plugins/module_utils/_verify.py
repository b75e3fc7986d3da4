# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a served model is expected to answer, whether an answer fulfils it, and the report. PRIVATE to the collection.

Nothing here talks to a server. A report is a dict: target, node, kind (replica or url), version, live, ready, models
(name, version, state, reason, note), inferences (model, protocol, ok, milliseconds, outputs, message, skipped), metrics, latency, notes (what was done
otherwise than asked, in words), log (what the server wrote meanwhile, if something failed), problems.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import statistics

from ansible_collections.mlserving.triton.plugins.module_utils import _expectations, _verify_inputs
from ansible_collections.mlserving.triton.plugins.module_utils._tensors import CaseError, expect_count, flat


@dataclasses.dataclass(frozen=True)
class Case:
    """One inference.

    ``tensors`` and ``outputs``: the module's options, as given; ``inputs``: name -> (data type, array) of those tensors that need no metadata.
    ``folder``: where their files lie. ``number``: tells the cases of one run apart. ``stream``: the model answers any number of times, and
    ``responses`` is what each answer must be, None if ``outputs`` holds for all. ``steps``: of a stateful model, the requests of one sequence.
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
    stream: bool = False
    responses: list | None = None
    steps: tuple = ()

    @property
    def wanted(self) -> dict[str, int]:
        """Output -> how many classes to ask for, 0 for its values."""
        return {tensor["name"]: tensor.get("top") or len(tensor.get("classes") or ()) for tensor in self._expected}

    @property
    def _expected(self) -> list[dict]:
        """All expected outputs, those of a stream's single responses too."""
        return self.outputs + [tensor for response in self.responses or [] for tensor in response["outputs"]]

    def named(self, metadata: dict) -> Case:
        """Return the case with the names of the tensors that were given without one: the model's only input, the model's only output.

        :raises CaseError: the model has several
        """
        tensors = [{**tensor, "name": tensor.get("name") or _only(self.model, metadata, "inputs")} for tensor in self.tensors]
        responses = self.responses and [{**response, "outputs": self._named(response["outputs"], metadata)} for response in self.responses]
        return dataclasses.replace(self, tensors=tensors, outputs=self._named(self.outputs, metadata), responses=responses)

    def _named(self, outputs: list[dict], metadata: dict) -> list[dict]:
        return [{**tensor, "name": tensor.get("name") or _only(self.model, metadata, "outputs")} for tensor in outputs]

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
        return len(self.inputs) < len(self.tensors) or not all(tensor.get("name") for tensor in self._expected)


def prepare(cases: list[tuple[str, dict]]) -> list[Case]:
    """Build the tensors of every case as far as that needs no server.

    :param cases: (folder of their files, case as the module's option has it)
    :raises CaseError: data does not fit its shape or data type
    """
    return [_prepared(folder, case, number) for number, (folder, case) in enumerate(cases)]


def _prepared(folder: str, case: dict, number: int) -> Case:
    model, inputs = case["model"], {}
    if not case.get("steps") and not case.get("inputs"):
        raise CaseError(f"the case of model {model}: it has no inputs. Give inputs, or steps for a stateful model.")
    for tensor in case.get("inputs") or []:
        if tensor.get("name") and not _verify_inputs.needs_metadata(tensor):
            inputs[tensor["name"]] = _verify_inputs.build(tensor, None, folder, _where(model, tensor))
    responses = case.get("responses")
    if responses is not None and not case.get("stream"):
        raise CaseError(f"the case of model {model}: it has responses, which only a stream has several of. Add stream: true, or give outputs.")
    if case.get("stream") and case.get("steps"):
        raise CaseError(f"the case of model {model}: it has stream and steps. Leave one of them out.")
    return Case(
        model=model,
        version=str(case.get("version") or ""),
        tensors=case.get("inputs") or [],
        outputs=_expected(model, case.get("outputs"), folder),
        inputs=inputs,
        folder=folder,
        number=number,
        json=bool(case.get("json")),
        agree=bool(case.get("agree")),
        stream=bool(case.get("stream")),
        responses=None if responses is None else [{"outputs": _expected(model, entry.get("outputs"), folder)} for entry in responses],
        steps=tuple(
            _prepared(folder, {**{key: case.get(key) for key in ("model", "version", "json", "agree")}, **step}, number)
            for step in case.get("steps") or []
        ),
    )


def _expected(model: str, outputs: list | None, folder: str) -> list[dict]:
    """Return the expected outputs with the values that stand in files."""
    found = []
    for tensor in outputs or []:
        where = f"the case of model {model}, output {tensor.get('name') or ''}".rstrip()
        _expect_checked(tensor, where)
        if tensor.get("file"):
            tensor = tensor | {"data": _verify_inputs.expected({"name": "", **tensor}, folder, where)}
        if tensor.get("shape") and isinstance(tensor.get("data"), list):
            expect_count(flat(tensor["data"]), tensor["shape"], where)
        try:
            re.compile(tensor.get("pattern") or "")
        except re.error as error:
            raise CaseError(f"{where}: pattern is {tensor['pattern']}, which is no regular expression ({error}). Correct it.") from None
        found.append(tensor)
    return found


def _expect_checked(tensor: dict, where: str) -> None:
    """:raises CaseError: the output has an expectation that another one would keep from being looked at"""
    ranked = [name for name in ("top", "classes") if tensor.get(name)]
    texts = [name for name in ("pattern", "contains") if tensor.get(name) is not None]
    values = [name for name in ("data", "file") if tensor.get(name) is not None]
    unseen = values if texts else []
    if ranked:
        unseen = values + texts + [name for name in ("datatype", "shape", "finite") if tensor.get(name)]
    if unseen:
        raise CaseError(f"{where}: {', '.join(unseen)} would not be looked at beside {', '.join(ranked or texts)}. Make two cases of it.")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What every target is held against.

    ``models``: names that must be loaded beside those of the cases; ``tensors``: model -> {"inputs": {name: data type}, "outputs": ...} that its
    metadata must have; ``versions``: model -> versions that must be loaded; ``slowest``: milliseconds that an inference may take; ``settle``: seconds
    for which a model or version that is missing is waited for.
    """

    cases: list
    models: tuple = ()
    tensors: dict = dataclasses.field(default_factory=dict)
    slowest: int | None = None
    versions: dict = dataclasses.field(default_factory=dict)
    settle: int = 0
    built: dict = dataclasses.field(default_factory=dict)

    def completed(self, case: Case, metadata: dict | None) -> tuple[Case, dict]:
        """Return (the case with all names, its inputs), which are the same for all servers whose model has the same metadata.

        :param case: one of ``cases``, or one of the steps of such a one
        :raises CaseError: a tensor does not fit the metadata
        """
        key = (id(case), repr(metadata))
        if key not in self.built:
            named = case.named(metadata) if metadata else case
            self.built[key] = named, named.complete(metadata)
        return self.built[key]


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
        "latency": {},
        "notes": [],
        "log": [],
        "problems": [],
    }


def is_unloaded(entry: dict) -> bool:
    """Whether nobody asked for this model version: never loaded, or unloaded on purpose."""
    return entry["state"] in ("", "UNAVAILABLE") and entry["reason"] in ("", "unloaded")


def outcome(case: Case, answers: list[dict], milliseconds: int, slowest: int | None) -> dict:
    """Return what the answers, one unless they are a stream's, come to: outputs, message, and classes and digest where the case asks for them."""
    answer = answers[-1] if answers else {}
    message = _expectations.compare_each(case.outputs, case.responses, answers) if case.stream else _expectations.compare(case.outputs, answer)
    found = {"outputs": _expectations.sample(case.outputs, answer), "message": message}
    tops = [name for name, classes in case.wanted.items() if classes and name in answer]
    if tops and not found["message"]:
        found["classes"] = _expectations.classes(answer[tops[0]][1])
    if case.agree:
        found["digest"], found["case"] = "".join(_expectations.digest(answer) for answer in answers), case.number
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
        theirs = next((f"{report['target']}: {entry['outputs']}" for report, entry in found if entry["digest"] == most), "")
        for report, entry in found:
            if entry["digest"] != most:
                told = f"it answered otherwise than most of the others ({entry['outputs']}; {theirs})"
                entry["ok"], entry["message"] = False, f"{told}, expected the same everywhere"
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


def latency(inferences: list[dict]) -> dict:
    """Return protocol -> {"min", "median", "max"}, in milliseconds, of the inferences that were answered as expected."""
    times: dict[str, list] = {}
    for entry in inferences:
        if entry["ok"] and not entry.get("skipped"):
            times.setdefault(entry["protocol"], []).append(entry["milliseconds"])
    return {protocol: {"min": min(found), "median": statistics.median(found), "max": max(found)} for protocol, found in times.items()}


def missing(index: list[dict], expected: Wanted) -> list[str]:
    """Return which models and versions are expected and not there, a sentence each; polling may still bring them."""
    problems = []
    names = sorted({entry["name"] for entry in index})
    wanted = {case.model for case in expected.cases} | set(expected.models) | set(expected.versions)
    for model in sorted(wanted - set(names)):
        problems.append(f"model {model} is not in the repository index; it has: {', '.join(names) or 'no model'}")
    for model in sorted(wanted & set(names)):
        entries = [entry for entry in index if entry["name"] == model]
        if all(is_unloaded(entry) for entry in entries):
            problems.append(f"model {model} is in the repository but not loaded")
            continue
        there = {entry["version"] for entry in entries if not is_unloaded(entry)}
        lacking = [version for version in expected.versions.get(model, ()) if version not in there]
        if lacking:
            problems.append(f"model {model} has version {', '.join(sorted(there, key=_number))} loaded, expected {', '.join(lacking)} too")
    return problems


def _number(version: str) -> tuple:
    return (0, int(version)) if version.isdigit() else (1, version)


def judge_models(index: list[dict], expected: Wanted) -> tuple[list[dict], list[str]]:
    """Return (the index with a note on each version, problems of those that are there)."""
    with_case = {case.model for case in expected.cases}
    models, problems = [], []
    for entry in index:
        note = "" if entry["name"] in with_case else "no case"
        models.append(entry | {"note": "not loaded" if is_unloaded(entry) else note})
        if entry["state"] != "READY" and not is_unloaded(entry):
            reason = f": {entry['reason']}" if entry["reason"] else ""
            problems.append(f"model {entry['name']} version {entry['version']} is {entry['state']}{reason}")
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
    if all(entry.get("skipped") for entry in inferences):
        return "not asked"
    return f"ok {max(entry['milliseconds'] for entry in inferences)} ms"


def message(reports: list[dict], general: list[str]) -> str:
    """Return what failed and what to do, one line for each problem."""
    bad = [report for report in reports if report["problems"]]
    lines = [f"{len(bad)} of {len(reports)} targets did not pass the verification."] if reports else ["There is nothing to verify."]
    lines += general
    for report in bad:
        node = f" on node {report['node']}" if report["node"] else ""
        lines.append(f"{report['target']}{node}: {'; '.join(report['problems'])}")
        lines += [f"    its log: {line}" for line in report["log"]]
    problems = " ".join(general + [problem for report in bad for problem in report["problems"]])
    lines.append(_advice(problems))
    return "\n".join(lines)


#: What a problem's text says -> what to do; the first that fits is given.
ADVICE = (
    ("does not speak TLS", "Correct the port, or the scheme: https:// and grpcs:// are for TLS."),
    ("TLS failed", "Give the CA that signed the server's certificate in ca_file, and the name that stands in the certificate in the URL."),
    ("is no host:port", "Correct the address, such as http://triton.example.com:8000, or triton.example.com:8001 for gRPC."),
    ("is forbidden", "Give this account that right, or use another one."),
    ("is not Triton's", "Correct the address: HTTP is Triton's port 8000, gRPC 8001, metrics 8002."),
    ("not in the DNS", "Wait for the record, or correct the name; a new load balancer's takes minutes to appear."),
    (", expected", "A server answered with other values: check that this is the intended model version, or correct the case."),
    ("is not in the repository index", "Publish the model to the repository and deploy again, or remove its case."),
    ("not loaded", "Load the model with mlserving.triton.triton_model, or remove its case."),
    (
        "Stub process",
        "The process that runs the model's Python code has died; restart the pod, or publish the model again, and correct what ended it.",
    ),
    ("UNAVAILABLE", "Correct the model by the reason above and publish it again; `kubectl logs` of the pod has the full text."),
    ("expecting header", "That API is restricted on the server: lift the restriction for this address."),
    ("no answer", "Check that the pods are Running, and that the address and port lead to Triton and this machine reaches them."),
    ("ready", "Look at the pods: kubectl get pods, kubectl describe pod; mlserving.triton.triton_rollout explains what keeps them."),
)


def _advice(problems: str) -> str:
    return next((todo for sign, todo in ADVICE if sign in problems), "Correct what is named above and verify again.")
