#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_record
version_added: "0.1.0"
short_description: Record what a served model answers as a golden case
description:
  - Sends a model's inputs to one running server, a ready replica that is reached through the API server or the address in O(url), and writes
    them with the answer as a case into C(MODEL/verify.yml) below O(source), where M(mlserving.triton.triton_verify) finds it.
  - What is recorded is what the server says, right or wrong. Read it before you commit it.
  - The inference is run several times. A model that answers the same inputs differently is refused.
  - The rest of an existing file stays as it is, comments included.
author:
  - The mlserving.triton authors (@mlserving)
extends_documentation_fragment:
  - mlserving.triton._cluster
requirements:
  - tritonclient[http,grpc] >= 2.60
  - numpy
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying target.
    details:
      - It asks the server in check mode too, and writes nothing.
  diff_mode:
    support: full
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    details:
      - Shows C(verify.yml) before and after. Of a file that is copied beside it only the name and size are shown.
  idempotent:
    support: partial
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    details:
      - As long as the server's answers fulfil the recorded case. A stateful model may answer otherwise, and is then refused.
options:
  namespace:
    description:
      - Namespace of the pods.
    type: str
    default: default
  release:
    description:
      - Name of the release; its pods carry it in the label C(release). The first ready one is asked.
    type: str
  selector:
    description:
      - Label selector of the pods, in place of V(release=NAME).
    type: str
  url:
    description:
      - URL of a server to ask, in place of a replica. No cluster is needed then.
    type: str
  grpc_url:
    description:
      - Host and port of gRPC of the server to ask, without a scheme; with O(url) both have to be the same server's.
    type: str
  protocols:
    description:
      - Over which protocols to ask.
    type: list
    elements: str
    choices: [http, grpc]
    default: [http, grpc]
  source:
    description:
      - Folder of models on the controller. The model's folder in it must exist.
    type: path
    required: true
  model:
    description:
      - Name of the model.
    type: str
    required: true
  version:
    description:
      - Version of the model, which becomes part of the case; by default the server's choice.
    type: str
  inputs:
    description:
      - The input tensors, as in the cases of M(mlserving.triton.triton_verify). By default every input of the model, filled with V(random) values, the
        first with seed 0, the second with seed 1 and so on.
      - The case holds data type and shape of each as they were sent.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the tensor. By default the model's only input.
        type: str
      datatype:
        description:
          - Its data type, in Triton's words. By default as the server tells it.
        type: str
        choices: [BOOL, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FP16, FP32, FP64, BF16, BYTES]
      shape:
        description:
          - Its shape, with the batch dimension if the model has one. By default as the server tells it, with 1 or the file's own size
            where that is open.
        type: list
        elements: int
      data:
        description:
          - The values in row-major order; lists may be nested. One single value fills the whole tensor.
        type: list
        elements: raw
      file:
        description:
          - File with the values or a picture, relative to the model's folder, or else to the working directory. One from outside of the model's folder is
            copied into it.
          - A file in the model's folder is uploaded with the model.
        type: path
      fill:
        description:
          - Values that are made here; the case holds how, not the values.
        type: str
        choices: [zeros, ones, random]
      seed:
        description:
          - What V(random) begins with; the same seed makes the same values.
        type: int
        default: 0
      scaling:
        description:
          - What is done to the pixels of a picture, as Triton's image client does it.
        type: str
        choices: [NONE, INCEPTION, VGG]
        default: NONE
  outputs:
    description:
      - Names of the outputs to record. By default all of the model.
    type: list
    elements: str
  top:
    description:
      - Record so many classes of each output of numbers, the best first, in place of its values.
    type: int
  values:
    description:
      - How many values an output may have to be recorded with them.
      - Of a larger one the case holds data type and shape, and that its numbers are finite if they are; without O(agree) a warning says so.
    type: int
    default: 64
  shape_only:
    description:
      - Record data types and shapes alone, also of a model that answers differently each time.
    type: bool
    default: false
  agree:
    description:
      - Let the case ask for the very same values from every replica. This compares large outputs too.
    type: bool
    default: false
  tolerance:
    description:
      - By how much a floating-point number may differ from the recorded one.
    type: float
    default: 0.00001
  relative:
    description:
      - By which part of the recorded number a floating-point number may differ, in addition.
    type: float
    default: 0.001
  repeat:
    description:
      - How often the inference is run, in turn over the O(protocols), at least once over each. All answers must be the same within O(tolerance) and
        O(relative).
    type: int
    default: 3
  replace:
    description:
      - Replace a case with the same inputs. Without it such a case that differs is an error.
    type: bool
    default: false
  timeout:
    description:
      - Seconds for all inferences together.
    type: int
    default: 60
seealso:
  - module: mlserving.triton.triton_verify
"""

EXAMPLES = r"""
- name: Record what the simple model answers to random inputs
  mlserving.triton.triton_record:
    namespace: inference
    release: example
    source: models
    model: simple
  register: recorded

- name: Show the case for review
  ansible.builtin.debug:
    msg: "{{ recorded.case }}"

- name: Record the best three classes of a picture, which is copied beside the model
  mlserving.triton.triton_record:
    url: http://triton.example.com:8000
    source: models
    model: efficientnet_lite0
    inputs: [{file: pictures/coffee.png, scaling: INCEPTION}]
    top: 3
    tolerance: 0.01
"""

RETURN = r"""
path:
  description: The file of cases.
  returned: success
  type: str
  sample: models/simple/verify.yml
action:
  description: What was done with the case, V(added), V(replaced) or V(unchanged); in check mode what would be.
  returned: success
  type: str
  sample: added
case:
  description: The case as it stands in the file, or as it was recorded now if an equal one was there.
  returned: success
  type: str
  sample: |
    - inputs:
        - {name: INPUT0, datatype: INT32, shape: [16], fill: random, seed: 0}
        - {name: INPUT1, datatype: INT32, shape: [16], fill: random, seed: 1}
      outputs:
        - {name: OUTPUT0, datatype: INT32, shape: [16], data: [9, 14, 6, 8, 5, 6, 5, 11, 12, 8, 11, 11, 7, 17, 0, 6]}
        - {name: OUTPUT1, datatype: INT32, shape: [16], data: [1, 0, 6, 2, 3, 6, 3, 5, 6, -2, 3, -1, 3, 1, 0, -6]}
outputs:
  description: How each output is recorded, with V(values), V(classes) or V(shape), and why only its shape.
  returned: success
  type: list
  elements: dict
  sample: [{name: OUTPUT0, recorded: values, why: ""}, {name: OUTPUT1, recorded: values, why: ""}]
copied:
  description: The files that were copied into the model's folder, by their names there.
  returned: success
  type: list
  elements: str
  sample: []
target:
  description: The pod or address that was asked.
  returned: success
  type: str
  sample: example-triton-inference-server-f59bb9d5b-st8gd
"""

import contextlib
import filecmp
import os
import shutil
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlserving.triton.plugins.module_utils import (
    _case_options,
    _case_text,
    _cases,
    _cluster,
    _model_tree,
    _pods,
    _record,
    _tensors,
    _triton_client,
    _verify,
    _verify_target,
)

ARGUMENT_SPEC = {
    "namespace": {"type": "str", "default": "default"},
    "release": {"type": "str"},
    "selector": {"type": "str"},
    "url": {"type": "str"},
    "grpc_url": {"type": "str"},
    "protocols": {"type": "list", "elements": "str", "choices": ["http", "grpc"], "default": ["http", "grpc"]},
    "source": {"type": "path", "required": True},
    "model": {"type": "str", "required": True},
    "version": {"type": "str"},
    "inputs": _case_options.INPUTS,
    "outputs": {"type": "list", "elements": "str"},
    "top": {"type": "int"},
    "values": {"type": "int", "default": 64},
    "shape_only": {"type": "bool", "default": False},
    "agree": {"type": "bool", "default": False},
    "tolerance": {"type": "float", "default": 0.00001},
    "relative": {"type": "float", "default": 0.001},
    "repeat": {"type": "int", "default": 3},
    "replace": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 60},
}
LEAST = {"top": 1, "values": 0, "tolerance": 0, "relative": 0, "repeat": 1}


class Files:
    """The files of the inputs, which the case names relative to the model's folder.

    ``copies``: name in the model's folder -> path of a file outside, to be copied there.
    """

    def __init__(self, folder: str):
        self._folder = os.path.realpath(folder)
        self.copies: dict[str, str] = {}

    def find(self, file: str) -> str:
        """Return where a file of an input is: in the model's folder, or else in the working directory."""
        beside = os.path.join(self._folder, file)
        return beside if os.path.isfile(beside) else os.path.abspath(file)

    def name(self, path: str) -> str:
        """Return what the case calls a file, and note whether it has to be copied.

        :raises _record.RecordError: another file has that name in the model's folder
        """
        real = os.path.realpath(path)
        if os.path.commonpath([self._folder, real]) == self._folder:
            return os.path.relpath(real, self._folder)
        name = os.path.basename(path)
        there = self.copies.get(name) or os.path.join(self._folder, name)
        if os.path.lexists(there) and not (os.path.isfile(there) and filecmp.cmp(there, path, shallow=False)):
            raise _record.RecordError(f"{path} cannot be copied into {self._folder}: {there} is another file of that name. Rename one of the two.")
        if not os.path.lexists(there):
            self.copies[name] = path
        return name


class Recorder:
    """Asks one server, and writes what it answers."""

    def __init__(self, module: AnsibleModule):
        self.module, self.params, self.model = module, module.params, module.params["model"]
        names = _model_tree.model_names(self.params["source"])
        if self.model not in names:
            raise _record.RecordError(
                f"source {self.params['source']} has no folder of the model {self.model}; it has: {', '.join(names)}. Correct model or source."
            )
        self.folder = os.path.join(self.params["source"], self.model)
        self.path = os.path.join(self.folder, _cases.FILE)
        self.files = Files(self.folder)

    def target(self) -> _verify_target.Target:
        """Return the server to ask.

        :raises _cluster.ClusterError: the cluster does not say which replicas there are
        :raises _record.RecordError: no replica is ready
        """
        params = self.params
        if params["url"] or params["grpc_url"]:
            usable = [protocol for protocol in params["protocols"] if params[{"http": "url", "grpc": "grpc_url"}[protocol]]]
            if not usable:
                raise _record.RecordError("There is no address for any of the protocols. Give url for http, grpc_url for grpc.")
            return _verify_target.url_target(params["url"] or params["grpc_url"], params["grpc_url"], usable)
        selector = params["selector"] or f"release={params['release']}"
        api = _cluster.from_module(self.module)[0]
        pods = _verify_target.replicas(api, params["namespace"], selector)
        ready = [pod for pod in pods if _pods.is_ready(pod)]
        if not ready:
            problem = "; ".join(_verify_target.count_problems(pods, 1, selector, params["namespace"]))
            raise _record.RecordError(f"There is no replica to ask: {problem}. Deploy the release, or see what keeps its pods: kubectl get pods.")
        return _verify_target.pod_target(api, ready[0], params["protocols"])

    def ask(self, target: _verify_target.Target) -> None:
        """Run the inferences; leave metadata, how, tensors (the inputs as given, each with its name), sent (as sent) and answers.

        :raises _triton_client.TritonError: the server refused one or did not answer
        :raises _tensors.CaseError: the inputs do not fit the model
        """
        deadline = time.monotonic() + self.params["timeout"]
        ways = {protocol: opener() for protocol, opener in target.openers.items()}
        try:
            self._ask(target, ways, deadline)
        except _triton_client.TritonError:
            refusals = [way.problem for way in ways.values() if way and way.forbidden]
            if not (target.reach and refusals):
                raise
            # The account may not forward ports; from now on this leads through the API server's proxy.
            target.reach.refusal = refusals[0]
            self._ask(target, {protocol: opener() for protocol, opener in target.openers.items()}, deadline)

    def _ask(self, target: _verify_target.Target, ways: dict, deadline: float) -> None:
        version = self.params["version"] or ""
        with contextlib.ExitStack() as stack:
            clients = []
            for protocol, way in ways.items():
                if way:
                    with _told(way, protocol):
                        address = stack.enter_context(way)
                        clients.append((way, stack.enter_context(_triton_client.CLIENTS[protocol](address, deadline, target.access))))
            if not clients:
                raise _record.RecordError(
                    f"{target.name}: no gRPC goes through the API server's proxy, and {target.reach.refusal}. Add http to protocols."
                )
            with _told(clients[0][0], clients[0][1].protocol):
                self.metadata = clients[0][1].model_metadata(self.model, version)
            self._prepare(version)
            self.answers = []
            for run in range(max(self.params["repeat"], len(clients))):
                way, client = clients[run % len(clients)]
                with _told(way, client.protocol):
                    self.answers.append(client.infer(self.model, version, self.sent, self.how.requested))

    def _prepare(self, version: str) -> None:
        """Build what is sent, as the metadata says; leave how, tensors and sent."""
        self.how = _record.How(
            _record.chosen_outputs(self.model, self.metadata, self.params["outputs"]),
            self.params["top"] or 0,
            **{name: self.params[name] for name in ("shape_only", "agree", "tolerance", "relative", "values")},
        )
        inputs = self.params["inputs"] or _record.default_inputs(self.metadata)
        inputs = [{**tensor, "file": self.files.find(tensor["file"])} if tensor.get("file") else tensor for tensor in inputs]
        case = _verify.prepare([(self.folder, {"model": self.model, "version": version, "inputs": inputs, "outputs": []})])[0].named(self.metadata)
        self.tensors, self.sent = case.tensors, case.complete(self.metadata)

    def record(self) -> tuple[dict, list]:
        """Return (the case, how its outputs are recorded).

        :raises _record.RecordError: the answers differ or cannot be recorded
        """
        outputs = _record.recorded_outputs(self.model, self.answers[0], self.how)
        _record.expect_the_same(self.model, self.answers, self.how)
        inputs = [
            _record.recorded_input(tensor, *self.sent[tensor["name"]], self.files.name(tensor["file"]) if tensor.get("file") else None)
            for tensor in self.tensors
        ]
        return _record.case_of(inputs, outputs, self.params["version"] or "", self.how), outputs

    def judge(self, case: dict) -> None:
        """See that the case, read back from its text, sends what was sent and accepts what was answered.

        :raises _record.RecordError: it does not
        """
        back = _case_text.parse(_case_text.render(case), self.path)[0]
        files = {tensor["name"]: tensor["file"] for tensor in self.tensors if tensor.get("file")}
        back_inputs = [{**tensor, "file": files[tensor["name"]]} if tensor.get("file") else tensor for tensor in back["inputs"]]
        sent = _record.sent_by(self.model, {**back, "inputs": back_inputs}, self.folder, self.metadata)
        if sent is None or not _record.same_tensors(sent, self.sent):
            raise _record.RecordError(f"The inputs of model {self.model} cannot be written as a case. Give them as a file, such as .npy.")
        problem = _record.problem_of(back, self.answers)
        if problem:
            raise _record.RecordError(
                f"The case would not accept the model's own answers, so it was not written: {problem}. "
                "Pass larger tolerance and relative, or record only shapes with shape_only."
            )

    def edit(self, before: str, case: dict) -> tuple[str, str]:
        """Return (what is done, the text of the file after it).

        :raises _case_text.TextError: the file cannot be read or edited
        :raises _record.RecordError: it holds another case with the same inputs
        """
        there = _case_text.parse(before, self.path)
        same, differs = [number for number, found in enumerate(there) if self._asks_the_same(found)], ""
        for number in same:
            if _record.skeleton(there[number]) == _record.skeleton(case):
                differs = _record.problem_of(there[number], self.answers)
                if not differs:
                    return "unchanged", before
        if not same:
            return "added", _case_text.append(before, case, self.path)
        if self.params["replace"]:
            return "replaced", _case_text.replace(before, same[0], case, self.path)
        raise _record.RecordError(
            f"{self.path} has another case with the same inputs already, its number {same[0] + 1}; nothing was written. "
            f"{differs and f'The answer differs from it: {differs}. '}Replace it with replace (-e replace=true), or give other inputs. "
            f"This is what the server answers now:\n{_case_text.render(case)}"
        )

    def _asks_the_same(self, case: dict) -> bool:
        if str(case.get("version") or "") != (self.params["version"] or ""):
            return False
        sent = _record.sent_by(self.model, case, self.folder, self.metadata)
        return sent is not None and _record.same_tensors(sent, self.sent)

    def read(self) -> str:
        """Return the text of the file, empty if there is none.

        :raises _case_text.TextError: it cannot be read
        """
        try:
            with open(self.path, encoding="utf-8", newline="") as stream:
                return stream.read()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise _case_text.TextError(f"{self.path} cannot be read: {error}. Correct it.") from None

    def write(self, text: str) -> None:
        """Copy the inputs' files, then put the text in place of the file."""
        for name, path in self.files.copies.items():
            with self._put(os.path.join(self.folder, name)) as stream, open(path, "rb") as source:
                shutil.copyfileobj(source, stream)
        with self._put(os.path.realpath(self.path)) as stream:
            stream.write(text.encode())

    @contextlib.contextmanager
    def _put(self, path: str):
        descriptor, partial = tempfile.mkstemp(dir=self.module.tmpdir)
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
        self.module.atomic_move(partial, path)

    def diff(self, before: str, after: str) -> list[dict]:
        """Return the file before and after, and the names and sizes of the files to copy."""
        changes = [{"before_header": self.path, "after_header": self.path, "before": before, "after": after}]
        for name, path in self.files.copies.items():
            header = os.path.join(self.folder, name)
            changes.append({"before_header": header, "after_header": header, "before": "", "after": f"{os.path.getsize(path)} bytes of {path}\n"})
        return changes


@contextlib.contextmanager
def _told(way, protocol: str):
    """Add the protocol, and what the way to the server knows, to the message of a failed request."""
    try:
        yield
    except _triton_client.TritonError as error:
        detail = f"; {way.problem}" if way.problem else ""
        raise _triton_client.TritonError(f"{protocol.upper()}: {error}{detail}", error.connection) from None


def run(module: AnsibleModule) -> dict:
    """Record; return the module's result.

    :raises Exception: those that main() knows
    """
    recorder = Recorder(module)
    target = recorder.target()
    try:
        recorder.ask(target)
    except _triton_client.TritonError as error:
        todo = (
            "Check that the address and port lead to Triton."
            if error.connection
            else "Check model, version and inputs, and that the model is loaded."
        )
        raise _record.RecordError(f"{target.name}: {error}. {todo}") from None
    case, outputs = recorder.record()
    recorder.judge(case)
    before = recorder.read()
    action, after = recorder.edit(before, case)
    changed = action != "unchanged"
    if changed and not module.check_mode:
        recorder.write(after)
    for output in outputs:
        if output.why and not (module.params["shape_only"] or module.params["agree"]):
            module.warn(f"Output {output.entry['name']} of model {recorder.model} is recorded without its values: {output.why}.")
    result = {
        "changed": changed,
        "path": recorder.path,
        "action": action,
        "case": _case_text.render(case),
        "outputs": [{"name": output.entry["name"], "recorded": output.kind, "why": output.why} for output in outputs],
        "copied": sorted(recorder.files.copies) if changed else [],
        "target": target.name,
    }
    return result | ({"diff": recorder.diff(before, after)} if changed and module._diff else {})


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC | _cluster.ARGUMENT_SPEC,
        required_one_of=[("release", "selector", "url", "grpc_url")],
        mutually_exclusive=[(place, address) for place in ("release", "selector") for address in ("url", "grpc_url")] + [("top", "shape_only")],
        supports_check_mode=True,
    )
    if _triton_client.IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib(_triton_client.REQUIREMENT), exception=_triton_client.IMPORT_ERROR)
    if _cluster.IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("PyYAML kubernetes"), exception=_cluster.IMPORT_ERROR)
    for option, least in LEAST.items():
        if module.params[option] is not None and not module.params[option] >= least:
            module.fail_json(msg=f"{option} is {module.params[option]}; it must be at least {least}.")
    try:
        module.exit_json(**run(module))
    except (_record.RecordError, _case_text.TextError, _tensors.CaseError, _model_tree.TreeError, _cluster.ClusterError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"The case cannot be written: {error}. Make the model's folder writable.")


if __name__ == "__main__":
    main()
