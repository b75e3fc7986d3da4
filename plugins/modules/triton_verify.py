#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_verify
version_added: "0.1.0"
short_description: Prove that every replica of Triton Inference Server serves its models
description:
  - Asks every replica through the API server, and the address of the Service if O(url) names it, whether it is live and
    ready, which models it has loaded, and runs real inferences over HTTP and gRPC whose answers are compared.
  - All targets are asked in parallel and within one O(timeout). A target that refuses connections is asked again until
    then, which covers a load balancer's address that does not answer yet. A pod that is not ready is asked once.
  - The module fails if any target fails, with one line for each and the whole report in the result.
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
      - It only reads and sends inferences, in check mode too.
  diff_mode:
    support: none
    description: Returns details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    details:
      - There is nothing that could differ.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    details:
      - The module never changes anything. A case for a stateful model may move that model's own state.
options:
  namespace:
    description:
      - Namespace of the pods.
    type: str
    default: default
  release:
    description:
      - Name of the release; its pods carry it in the label C(release).
    type: str
  selector:
    description:
      - Label selector of the pods, in place of V(release=NAME).
      - Pods that are being deleted, and those that were evicted or have finished, are left out. All others count.
    type: str
  replicas:
    description:
      - How many ready replicas there must be at least; fewer are a failure.
    type: int
  url:
    description:
      - URL of a further target, such as the external address of the Service.
      - No cluster is needed when only this is given.
    type: str
  grpc_url:
    description:
      - Host and port of gRPC at the further target, without a scheme. Without it, O(url) is asked over HTTP only.
    type: str
  service:
    description:
      - Name of the release's Service. One of type LoadBalancer becomes a further target, by its external address, which is waited for.
    type: str
  source:
    description:
      - Folder of models on the controller. Each C(MODEL/verify.yml) in it holds a list of O(cases), without the model's name; their files lie
        beside it.
      - Every model in it must be loaded, with the inputs and outputs that its C(config.pbtxt) declares.
    type: path
  models:
    description:
      - Names of models that must be loaded. By default those in O(source).
    type: list
    elements: str
  metrics:
    description:
      - Whether the metrics of each replica are read before and after, to see that its counters grew by what was sent.
    type: bool
    default: false
  slowest:
    description:
      - Milliseconds that an inference may take, the way to the server included.
    type: int
  report:
    description:
      - Folder on the controller to write the report into, as C(verification.json), C(verification.xml) (JUnit) and C(verification.html).
    type: path
  protocols:
    description:
      - Over which protocols to ask.
    type: list
    elements: str
    choices: [http, grpc]
    default: [http, grpc]
  cases:
    description:
      - Inferences that every target must answer, over each protocol.
      - Of a model without a case only the state is checked, and the report says V(no case).
    type: list
    elements: dict
    default: []
    suboptions:
      model:
        description:
          - Name of the model.
        type: str
        required: true
      version:
        description:
          - Version of the model; by default the server's choice.
        type: str
      json:
        description:
          - Send and ask for tensors as JSON in place of bytes, over HTTP.
        type: bool
        default: false
      agree:
        description:
          - Every replica must answer the same values, whatever they are.
        type: bool
        default: false
      inputs:
        description:
          - The input tensors. Each has one of O(cases[].inputs[].data), O(cases[].inputs[].file) and O(cases[].inputs[].fill).
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description:
              - Name of the tensor. By default the model's only input.
            type: str
          datatype:
            description:
              - Its data type, in Triton's words. By default as the server tells it.
            type: str
            choices: &datatypes [BOOL, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FP16, FP32, FP64, BF16, BYTES]
          shape:
            description:
              - Its shape, with the batch dimension if the model has one. By default as the server tells it, with 1 or the file's own size
                where that is open.
            type: list
            elements: int
          data:
            description:
              - The values in row-major order; lists may be nested. One single value fills the whole tensor.
              - For V(BYTES), texts that are sent as UTF-8.
            type: list
            elements: raw
          file:
            description:
              - File with the values, C(.npy), C(.json), C(.txt), C(.bin) or C(.raw), or a picture, C(.png), C(.jpg) or C(.jpeg).
              - A picture is sent as it is to an input of V(BYTES), else as pixels of the size that the input has.
            type: path
          fill:
            description:
              - Values that are made here.
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
          - The expected output tensors. Only what is written here is compared.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description:
              - Name of the tensor; it must be in the answer. By default the model's only output.
            type: str
          data:
            description:
              - The expected values in row-major order; lists may be nested.
            type: list
            elements: raw
          shape:
            description:
              - The expected shape.
            type: list
            elements: int
          datatype:
            description:
              - The expected data type.
            type: str
            choices: *datatypes
          tolerance:
            description:
              - By how much a number may differ from the expected one.
            type: float
            default: 0.0
          relative:
            description:
              - By which part of the expected number a number may differ, in addition.
            type: float
            default: 0.0
          top:
            description:
              - Ask for so many classes, the best first, in place of values. They are returned.
            type: int
          classes:
            description:
              - The expected classes, the best first. What is left out of one is not compared; its value may differ by the tolerance.
            type: list
            elements: dict
            suboptions:
              index:
                description: Number of the class.
                type: int
              label:
                description: Its label.
                type: str
              value:
                description: Its value.
                type: float
  timeout:
    description:
      - Seconds for all targets together.
    type: int
    default: 60
  parallel:
    description:
      - How many targets are asked at a time.
    type: int
    default: 8
seealso:
  - module: mlserving.triton.triton_rollout
"""

EXAMPLES = r"""
- name: Prove that four replicas and the load balancer serve the simple model
  mlserving.triton.triton_verify:
    namespace: inference
    release: example
    replicas: 4
    url: http://172.18.255.201:8000
    grpc_url: 172.18.255.201:8001
    cases:
      - model: simple
        inputs:
          - {name: INPUT0, datatype: INT32, shape: [16], data: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]}
          - {name: INPUT1, datatype: INT32, shape: [16], data: [1]}
        outputs:
          - {name: OUTPUT0, data: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]}
          - {name: OUTPUT1, data: [-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]}
  register: verified

- name: Show the table
  ansible.builtin.debug:
    var: verified.table

- name: Ask a server at an address, without a cluster, whether its models are loaded
  mlserving.triton.triton_verify:
    url: http://triton.example.com:8000
    protocols: [http]
"""

RETURN = r"""
ok:
  description: Whether every target passed.
  returned: when the targets were asked
  type: bool
  sample: true
targets:
  description: The report on each target, replicas first.
  returned: when the targets were asked
  type: list
  elements: dict
  contains:
    target:
      description: Name of the pod, or the URL.
      returned: always
      type: str
      sample: example-triton-inference-server-5d8c7bd7f4-2xkzp
    node:
      description: Name of the pod's node; empty for a URL.
      returned: always
      type: str
      sample: triton-lab-control-plane
    kind:
      description: V(replica) or V(url).
      returned: always
      type: str
      sample: replica
    version:
      description: Version of the server; empty if it did not answer.
      returned: always
      type: str
      sample: 2.51.0
    live:
      description: Whether the server says that it is live.
      returned: always
      type: bool
      sample: true
    ready:
      description: Whether the server says that it is ready.
      returned: always
      type: bool
      sample: true
    models:
      description: Every model version in the server's repository index, with Triton's state and reason. The note says V(no case), V(not loaded) or nothing.
      returned: always
      type: list
      elements: dict
      sample: [{name: simple, version: "1", state: READY, reason: "", note: ""}]
    inferences:
      description:
        - The outcome of each case over each protocol. The time is as seen from here, the way through the API server included.
        - Of a case that asks for classes, C(classes) holds them, the best first; of one that all replicas are to agree on, C(digest) a digest of its
          answer.
      returned: always
      type: list
      elements: dict
      sample: [{model: simple, protocol: http, ok: true, milliseconds: 3, outputs: "OUTPUT0[0:3]=1 2 3", message: ""}]
    metrics:
      description: Whether the replica's counters grew by what was sent; null if that was not looked at.
      returned: always
      type: dict
      sample: {ok: true, message: ""}
    problems:
      description: What is wrong with this target, in words.
      returned: always
      type: list
      elements: str
      sample: []
address:
  description: HTTP URL of the Service's external address; empty without O(service) or for other types than LoadBalancer.
  returned: when the targets were asked
  type: str
  sample: http://172.18.255.201:8000
reports:
  description: The files that were written.
  returned: with O(report)
  type: list
  elements: str
  sample: [report/verification.json, report/verification.xml, report/verification.html]
table:
  description: The report as a plain-text table, one line for each target below a heading.
  returned: when the targets were asked
  type: list
  elements: str
  sample:
    - "TARGET                      NODE  VERSION  MODELS  HTTP     GRPC     ANSWER"
    - "http://127.0.0.1:28000      -     2.51.0   2/2     ok 3 ms  ok 3 ms  OUTPUT0[0:3]=1 2 3"
problems:
  description: All problems, each with its target.
  returned: when the targets were asked
  type: list
  elements: str
  sample: []
"""

import datetime
import os
import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mlserving.triton.plugins.module_utils import (
    _cases,
    _cluster,
    _expected_models,
    _model_config,
    _model_tree,
    _service,
    _tensors,
    _triton_client,
    _verify,
    _verify_inputs,
    _verify_report,
    _verify_target,
)

TENSOR = {
    "name": {"type": "str"},
    "datatype": {"type": "str", "choices": [*(name for name in _tensors.DATATYPES if name != "BYTES"), "BF16", "BYTES"]},
    "shape": {"type": "list", "elements": "int"},
    "data": {"type": "list", "elements": "raw"},
}
INPUT = TENSOR | {
    "file": {"type": "path"},
    "fill": {"type": "str", "choices": list(_verify_inputs.FILLS)},
    "seed": {"type": "int", "default": 0},
    "scaling": {"type": "str", "choices": list(_verify_inputs.SCALINGS), "default": "NONE"},
}
OUTPUT = TENSOR | {
    "tolerance": {"type": "float", "default": 0.0},
    "relative": {"type": "float", "default": 0.0},
    "top": {"type": "int"},
    "classes": {
        "type": "list",
        "elements": "dict",
        "options": {"index": {"type": "int"}, "label": {"type": "str"}, "value": {"type": "float"}},
    },
}
CASE = {
    "model": {"type": "str", "required": True},
    "version": {"type": "str"},
    "json": {"type": "bool", "default": False},
    "agree": {"type": "bool", "default": False},
    "inputs": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": INPUT,
        "required_one_of": [("data", "file", "fill")],
        "mutually_exclusive": [("data", "file", "fill")],
    },
    "outputs": {"type": "list", "elements": "dict", "default": [], "options": OUTPUT},
}
ARGUMENT_SPEC = {
    "namespace": {"type": "str", "default": "default"},
    "release": {"type": "str"},
    "selector": {"type": "str"},
    "replicas": {"type": "int"},
    "url": {"type": "str"},
    "grpc_url": {"type": "str"},
    "service": {"type": "str"},
    "source": {"type": "path"},
    "models": {"type": "list", "elements": "str"},
    "metrics": {"type": "bool", "default": False},
    "slowest": {"type": "int"},
    "report": {"type": "path"},
    "protocols": {"type": "list", "elements": "str", "choices": ["http", "grpc"], "default": ["http", "grpc"]},
    "cases": {"type": "list", "elements": "dict", "default": [], "options": CASE},
    "timeout": {"type": "int", "default": 60},
    "parallel": {"type": "int", "default": 8},
}


def read_cases(module: AnsibleModule) -> list:
    """Return the cases of the option and those beside the models, ready to be sent."""
    try:
        beside = _cases.read(module.params["source"]) if module.params["source"] else []
        checked = ArgumentSpecValidator({"cases": ARGUMENT_SPEC["cases"]}).validate({"cases": [case for _folder, case in beside]})
        if checked.error_messages:
            raise _cases.SourceError(f"A {_cases.FILE} below {module.params['source']}: {'; '.join(checked.error_messages)}")
        folders = [folder for folder, _case in beside]
        given = [(os.getcwd(), case) for case in module.params["cases"]]
        return _verify.prepare(given + list(zip(folders, checked.validated_parameters["cases"])))
    except (_cases.SourceError, _tensors.CaseError) as error:
        module.fail_json(msg=str(error))


def read_wanted(module: AnsibleModule) -> _verify.Wanted:
    """Return what every target is held against."""
    params, cases = module.params, read_cases(module)
    models, tensors = tuple(params["models"] or ()), {}
    if params["source"] and not _model_config.IMPORT_ERROR:
        try:
            found, tensors = _expected_models.of_source(params["source"])
        except _model_tree.TreeError as error:
            module.fail_json(msg=str(error))
        models = models or found
    return _verify.Wanted(cases, models, tensors, params["slowest"])


def find_targets(module: AnsibleModule, deadline: float) -> tuple[list, list[str], str]:
    """Return (targets, problems with their number, HTTP URL of the Service or nothing)."""
    params, targets, problems, found = module.params, [], [], None
    selector = params["selector"] or (f"release={params['release']}" if params["release"] else "")
    if selector:
        api = _cluster.from_module(module)[0]
        try:
            pods = _verify_target.replicas(api, params["namespace"], selector)
            if params["service"]:
                found = _service.address(api, params["namespace"], params["service"], deadline)
        except _cluster.ClusterError as error:
            module.fail_json(msg=str(error))
        targets = [_verify_target.pod_target(api, pod, params["protocols"], params["metrics"]) for pod in pods]
        problems = _verify_target.count_problems(pods, params["replicas"], selector, params["namespace"])
    if params["url"]:
        targets.append(_verify_target.url_target(params["url"], params["grpc_url"], params["protocols"]))
    if found:
        targets.append(_verify_target.url_target(*found, params["protocols"]))
    return targets, problems, found[0] if found else ""


def write_report(module: AnsibleModule, result: dict, started: datetime.datetime) -> None:
    """Write the report where the option says, and add the files to the result."""
    seconds = (datetime.datetime.now(datetime.timezone.utc) - started).total_seconds()
    facts = {"release": module.params["release"] or "", "namespace": module.params["namespace"], "seconds": round(seconds, 1)}
    try:
        result["reports"] = _verify_report.write(module.params["report"], {**result, **facts, "started": f"{started:%Y-%m-%dT%H:%M:%SZ}"})
    except _verify_report.ReportError as error:
        module.fail_json(msg=str(error), **result)


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC | _cluster.ARGUMENT_SPEC,
        required_one_of=[("release", "selector", "url")],
        required_by={"grpc_url": "url"},
        supports_check_mode=True,
    )
    if _triton_client.IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib(_triton_client.REQUIREMENT), exception=_triton_client.IMPORT_ERROR)
    deadline = time.monotonic() + module.params["timeout"]
    protocols = module.params["protocols"]
    if module.params["url"] and "http" not in protocols and not module.params["grpc_url"]:
        module.fail_json(msg="url is given, but protocols is only grpc and there is no grpc_url. Give grpc_url, or add http to protocols.")
    wanted, started = read_wanted(module), datetime.datetime.now(datetime.timezone.utc)
    targets, general, address = find_targets(module, deadline)
    reports = _verify_target.verify_all(targets, wanted, deadline, module.params["parallel"])
    problems = general + [f"{report['target']}: {problem}" for report in reports for problem in report["problems"]]
    result = {
        "changed": False,
        "ok": not problems,
        "targets": reports,
        "address": address,
        "table": _verify.table(reports, protocols),
        "problems": problems,
    }
    if module.params["report"]:
        write_report(module, result, started)
    if problems:
        module.fail_json(msg=_verify.message(reports, general), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
