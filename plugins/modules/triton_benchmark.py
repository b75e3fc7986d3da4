#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_benchmark
version_added: "0.1.0"
short_description: Measure throughput and latency of a model on Triton Inference Server
description:
  - Sends one inference again and again, by ever more clients of which each waits for its answer before it asks again, over HTTP and gRPC, and reports
    for each number of clients how many were answered a second, how fast, and what failed.
  - One inference is sent and judged before any load. During the load each answer is compared too.
  - The module fails if the figures do not reach the thresholds, after it wrote the report.
  - Where the load is made on the server's own machine, they share its cores, and the figures are lower than they would be from elsewhere.
author:
  - The mlserving.triton authors (@mlserving)
extends_documentation_fragment:
  - mlserving.triton._cluster
  - mlserving.triton._case
requirements:
  - tritonclient[http,grpc] >= 2.60
  - numpy
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying target.
    details:
      - In check mode it checks the options, sends nothing, and says how long it would take.
  diff_mode:
    support: none
    description: Returns details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    details:
      - There is nothing that could differ.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    details:
      - The module never changes anything; its figures differ from run to run.
options:
  url:
    description:
      - URL of the server for HTTP, such as V(http://172.18.255.201:8000).
    type: str
  grpc_url:
    description:
      - Host and port of the server for gRPC, with C(grpcs://) in front for TLS.
    type: str
  service:
    description:
      - Name of a release's Service of type LoadBalancer, whose external address is the target in place of O(url) and O(grpc_url).
    type: str
  namespace:
    description:
      - Namespace of the O(service).
    type: str
    default: default
  protocols:
    description:
      - Over which protocols to measure, as far as there is an address for them.
    type: list
    elements: str
    choices: [http, grpc]
    default: [http, grpc]
  ca_file:
    description:
      - File of certificates (PEM) to trust, in place of the system's.
    type: path
  headers:
    description:
      - Headers to send with every request, such as an API key.
    type: dict
    default: {}
  model:
    description:
      - Name of the model, in place of O(case). The inference is the first plain case of C(MODEL/verify.yml) in O(source); without one it has random
        values for all inputs, as the server's metadata describes them, and its answers are not judged.
    type: str
  source:
    description:
      - Folder of models on the controller, for O(model).
    type: path
  concurrency:
    description:
      - How many clients ask at a time, a step each.
    type: list
    elements: int
    default: [1, 2, 4, 8, 16]
  seconds:
    description:
      - Seconds for each step.
    type: float
    default: 5
  warm_up:
    description:
      - Seconds before each step whose requests are not counted. C(perf_analyzer) sends 10 requests for each client in their place.
    type: float
    default: 1
  connections:
    description:
      - Whether a client keeps its connection open or opens a new one for each request.
    type: str
    choices: [kept, fresh]
    default: kept
  tool:
    description:
      - What measures. V(auto) is NVIDIA's C(perf_analyzer) if it is on E(PATH) or beside the Python interpreter and can send this load, and else
        V(builtin), the collection's own; the result says why.
      - C(perf_analyzer) ends a step at its first failure, does not judge answers, and knows only kept connections without TLS, as used here.
    type: str
    choices: [auto, perf_analyzer, builtin]
    default: auto
  request_timeout:
    description:
      - Seconds after which a request counts as failed.
    type: float
    default: 10
  timeout:
    description:
      - Seconds for the address of the O(service), and for a server that does not answer yet, before the first step.
    type: int
    default: 60
  least_throughput:
    description:
      - Inferences a second that must be reached over each protocol, at one of the concurrencies at least.
    type: float
  slowest_p99:
    description:
      - Milliseconds within which 99 of 100 requests must be answered, at one of the concurrencies at least. With O(least_throughput), it must be the same one.
    type: float
  most_failures:
    description:
      - How many requests of a step may fail.
    type: int
    default: 0
  report:
    description:
      - Folder on the controller to write the report into, as C(benchmark.json), C(benchmark.html), a page with plots, and C(benchmark.svg), the
        plots alone.
    type: path
seealso:
  - module: mlserving.triton.triton_verify
"""

EXAMPLES = r"""
- name: Measure the simple model at the load balancer, by its golden case
  mlserving.triton.triton_benchmark:
    service: example-triton-inference-server
    namespace: inference
    model: simple
    source: models
    report: report
  register: measured

- name: Show the table
  ansible.builtin.debug:
    var: measured.table

- name: Require 1000 inferences a second within 20 ms, 8 at a time
  mlserving.triton.triton_benchmark:
    url: http://172.18.255.201:8000
    grpc_url: 172.18.255.201:8001
    concurrency: [8]
    least_throughput: 1000
    slowest_p99: 20
    case:
      model: simple
      inputs:
        - {name: INPUT0, datatype: INT32, shape: [16], data: [1]}
        - {name: INPUT1, datatype: INT32, shape: [16], data: [2]}
      outputs:
        - {name: OUTPUT0, data: [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]}
"""

RETURN = r"""
ok:
  description: Whether the figures reach the thresholds.
  returned: when a load was sent
  type: bool
  sample: true
model:
  description: Name of the model.
  returned: always
  type: str
  sample: simple
inputs:
  description: What was sent, in words.
  returned: always
  type: str
  sample: the first case of models/simple/verify.yml
addresses:
  description: The address by protocol.
  returned: always
  type: dict
  sample: {http: "http://172.18.255.203:8000", grpc: "172.18.255.203:8001"}
tool:
  description: What measured.
  returned: always
  type: str
  sample: builtin
notes:
  description: What else there is to know, in words, such as why V(builtin) measured, or that the load was limited by this machine.
  returned: always
  type: list
  elements: str
  sample: ["Measured by builtin: perf_analyzer is neither on PATH nor beside /work/.venv/bin/python."]
steps:
  description: The figures of each step; empty in check mode.
  returned: always
  type: list
  elements: dict
  contains:
    protocol:
      description: V(http) or V(grpc).
      returned: always
      type: str
      sample: http
    concurrency:
      description: How many clients asked at a time.
      returned: always
      type: int
      sample: 8
    tool:
      description: What measured.
      returned: always
      type: str
      sample: builtin
    throughput:
      description: Right answers a second.
      returned: always
      type: float
      sample: 5498.4
    latency:
      description:
        - Milliseconds that an answer took, with the percentiles right to 1 %. Empty if there was none. C(perf_analyzer) tells neither C(min) nor C(max).
      returned: always
      type: dict
      sample: {min: 0.1505, mean: 1.446, p50: 1.275, p90: 2.04, p95: 2.593, p99: 5.434, max: 103.8}
    sent:
      description: How many requests were sent.
      returned: always
      type: int
      sample: 22042
    lost:
      description: How many of them failed.
      returned: always
      type: int
      sample: 0
    failed:
      description: How many failed by kind, such as V(refused), V(reset), V(closed early), V(timed out), V(wrong answer), V(HTTP 503) or V(gRPC UNAVAILABLE).
      returned: always
      type: dict
      sample: {}
    cores:
      description: How many cores of this machine the load kept busy; null if C(perf_analyzer) measured.
      returned: always
      type: float
      sample: 0.41
    problem:
      description: Why the step could not be measured; empty if it was.
      returned: always
      type: str
      sample: ""
best:
  description: The highest throughput by protocol.
  returned: when a load was sent
  type: dict
  sample: {http: {throughput: 5498.4, concurrency: 8, p99: 5.434}}
table:
  description: The steps as a plain-text table, one line for each below a heading.
  returned: always
  type: list
  elements: str
  sample:
    - "PROTOCOL  CONCURRENCY  INFERENCES/S  P50 MS  P90 MS  P99 MS  FAILED"
    - "http                8          5498    1.28    2.04    5.43       0"
problems:
  description: What does not reach the thresholds.
  returned: when a load was sent
  type: list
  elements: str
  sample: []
reports:
  description: The files that were written.
  returned: with O(report), when a load was sent
  type: list
  elements: str
  sample: [report/benchmark.json, report/benchmark.html, report/benchmark.svg]
"""

import datetime
import os
import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlserving.triton.plugins.module_utils import (
    _benchmark,
    _benchmark_report,
    _case_options,
    _cluster,
    _load_request,
    _perf_analyzer,
    _service,
    _tensors,
    _triton_client,
    _verify_cases,
    _verify_report,
)

ARGUMENT_SPEC = {
    "url": {"type": "str"},
    "grpc_url": {"type": "str"},
    "service": {"type": "str"},
    "namespace": {"type": "str", "default": "default"},
    "protocols": {"type": "list", "elements": "str", "choices": ["http", "grpc"], "default": ["http", "grpc"]},
    "ca_file": {"type": "path"},
    "headers": {"type": "dict", "default": {}, "no_log": True},
    "case": {
        "type": "dict",
        "options": _case_options.CASE,
        **{key: _case_options.CASES[key] for key in ("required_one_of", "mutually_exclusive")},
    },
    "model": {"type": "str"},
    "source": {"type": "path"},
    "concurrency": {"type": "list", "elements": "int", "default": [1, 2, 4, 8, 16]},
    "seconds": {"type": "float", "default": 5},
    "warm_up": {"type": "float", "default": 1},
    "connections": {"type": "str", "choices": ["kept", "fresh"], "default": "kept"},
    "tool": {"type": "str", "choices": ["auto", "perf_analyzer", "builtin"], "default": "auto"},
    "request_timeout": {"type": "float", "default": 10},
    "timeout": {"type": "int", "default": 60},
    "least_throughput": {"type": "float"},
    "slowest_p99": {"type": "float"},
    "most_failures": {"type": "int", "default": 0},
    "report": {"type": "path"},
}
#: Option -> (what it must be above or at, whether that itself is allowed).
LEAST = {"seconds": (0, False), "warm_up": (0, True), "request_timeout": (0, False), "timeout": (0, False)}
LEAST |= {"least_throughput": (0, True), "slowest_p99": (0, False), "most_failures": (0, True)}
MOST_CLIENTS = 1024


class Benchmark:
    """Measures one case at the addresses of one server."""

    def __init__(self, module: AnsibleModule):
        self.params, self.module, self.notes = module.params, module, []
        params = self.params
        if params["case"]:
            self.case, self.inputs = _verify_cases.prepared("", [params["case"]])[0], "the case that was given"
        else:
            self.case, self.inputs = _load_request.case_of(params["model"], params["source"] or "")
        _load_request.expect_plain(self.case)
        self.access = _triton_client.Access(ca=params["ca_file"] or "", headers={name: str(value) for name, value in params["headers"].items()})
        self.deadline = time.monotonic() + params["timeout"]
        self.addresses = self._addresses()
        self.places = {protocol: _load_request.address(protocol, text) for protocol, text in self.addresses.items()}
        self.tool, self.analyzer = self._tool()

    def _addresses(self) -> dict[str, str]:
        """Return protocol -> address.

        :raises Exception: those that main() knows
        """
        params = self.params
        given = {"http": params["url"], "grpc": params["grpc_url"]}
        if params["service"]:
            found = _service.address(_cluster.from_module(self.module)[0], params["namespace"], params["service"], self.deadline)
            if not found:
                raise _load_request.LoadError(
                    f"The Service {params['namespace']}/{params['service']} is not of type LoadBalancer, so it has no address outside the cluster. "
                    "Give url and grpc_url in place of service: a node's address with the Service's node port, or what kubectl port-forward listens at."
                )
            given = dict(zip(given, found))
        chosen = {protocol: given[protocol] for protocol in params["protocols"] if given[protocol]}
        if not chosen:
            raise _load_request.LoadError("There is no address for any of the protocols. Give url for http, grpc_url for grpc.")
        return chosen

    def _tool(self) -> tuple[str, str]:
        """Return (the tool, path of perf_analyzer or nothing).

        :raises _load_request.LoadError: the one that was asked for cannot be used
        """
        wanted, name = self.params["tool"], _perf_analyzer.NAME
        if wanted == "builtin":
            return wanted, ""
        path, why = _perf_analyzer.find()
        secure, fresh = any(place.secure for place in self.places.values()), self.params["connections"] == "fresh"
        why = why or _perf_analyzer.unfit(self.case, secure, fresh, bool(self.access.headers))
        if not why:
            return name, path
        if wanted == name:
            raise _load_request.LoadError(
                f"tool is {name}: {why}. Install it (pip install perf-analyzer; it needs glibc 2.38), or choose the tool builtin."
            )
        self.notes.append(f"Measured by builtin: {why}.")
        return "builtin", ""

    def about(self) -> dict:
        return {
            "changed": False,
            "model": self.case.model,
            "inputs": self.inputs,
            "addresses": self.addresses,
            "tool": self.tool,
            "notes": self.notes,
        }

    def expected_seconds(self) -> float:
        return len(self.addresses) * len(self.params["concurrency"]) * (self.params["seconds"] + self.params["warm_up"])

    def measure(self) -> list[dict]:
        """Return all steps, once each server answered as expected.

        :raises Exception: those that main() knows
        """
        params = self.params
        more = {"fresh": params["connections"] == "fresh", "timeout": params["request_timeout"]}
        more |= {"seconds": params["seconds"], "warm_up": params["warm_up"]}
        jobs = [_load_request.job(self.case, protocol, address, self.deadline, self.access, **more) for protocol, address in self.addresses.items()]
        steps = []
        for job in jobs:
            runner = self._runner(job.protocol) if self.analyzer else None
            for concurrency in params["concurrency"]:
                if runner:
                    steps.append(_benchmark.analyzed(runner, job, concurrency))
                    continue
                step, note = _benchmark.builtin(job, concurrency)
                steps.append(step)
                self.notes += [note] if note else []
        return steps

    def _runner(self, protocol: str) -> _perf_analyzer.Runner:
        place = self.places[protocol]
        case, inputs = _load_request.completed(self.case, protocol, self.addresses[protocol], self.deadline, self.access)
        batch = _perf_analyzer.largest_batch(case, protocol, place, self.access)
        return _perf_analyzer.Runner(self.analyzer, protocol, place, case, inputs, batch)


def check_numbers(module: AnsibleModule) -> None:
    """End the module if a number makes no sense."""
    params = module.params
    for option, (least, itself) in LEAST.items():
        value = params[option]
        if value is not None and not (value >= least if itself else value > least):
            module.fail_json(msg=f"{option} is {value:g}; it must be {'at least' if itself else 'above'} {least}.")
    wrong = [number for number in params["concurrency"] if not 1 <= number <= MOST_CLIENTS]
    if wrong or not params["concurrency"]:
        module.fail_json(msg=f"concurrency is {params['concurrency']}; it must be a list of numbers from 1 to {MOST_CLIENTS}, such as [1, 4, 16].")
    if params["ca_file"] and not os.access(params["ca_file"], os.R_OK):
        module.fail_json(msg=f"ca_file is {params['ca_file']}, which cannot be read. Give a file of certificates in PEM.")


def run(module: AnsibleModule) -> tuple[dict, list[str]]:
    """Measure; return (the module's result, what is wrong with it).

    :raises Exception: those that main() knows
    """
    benchmark, params, started = Benchmark(module), module.params, datetime.datetime.now(datetime.timezone.utc)
    if module.check_mode:
        count = len(benchmark.addresses) * len(params["concurrency"])
        benchmark.notes.append(f"Check mode: no load was sent. It would be {count} steps, about {benchmark.expected_seconds():.0f} seconds.")
        return benchmark.about() | {"steps": [], "table": _benchmark.table([])}, []
    steps = benchmark.measure()
    thresholds = _benchmark.Thresholds(params["least_throughput"], params["slowest_p99"], params["most_failures"])
    problems = _benchmark.judge(steps, thresholds)
    result = benchmark.about() | {
        "ok": not problems,
        "steps": steps,
        "best": _benchmark.best(steps),
        "table": _benchmark.table(steps),
        "problems": problems,
    }
    if params["report"]:
        facts = {"started": f"{started:%Y-%m-%dT%H:%M:%SZ}", "seconds": params["seconds"], "connections": params["connections"]}
        try:
            result["reports"] = _benchmark_report.write(params["report"], result | facts)
        except _verify_report.ReportError as error:
            module.fail_json(msg=str(error), **result)
    return result, problems


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC | _cluster.ARGUMENT_SPEC,
        required_one_of=[("url", "grpc_url", "service"), ("case", "model")],
        mutually_exclusive=[("url", "service"), ("grpc_url", "service"), ("case", "model"), ("case", "source")],
        supports_check_mode=True,
    )
    if _triton_client.IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib(_triton_client.REQUIREMENT), exception=_triton_client.IMPORT_ERROR)
    check_numbers(module)
    try:
        result, problems = run(module)
    except (_load_request.LoadError, _verify_cases.CasesError, _tensors.CaseError, _triton_client.TritonError, _cluster.ClusterError) as error:
        module.fail_json(msg=str(error))
    if problems:
        advice = "Deploy more replicas, look at the failures by kind in steps, or correct the thresholds."
        module.fail_json(msg="\n".join(["The benchmark does not reach what is required.", *problems, advice]), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
