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
    then, which covers a load balancer's address or name that is not there yet. A pod that is not ready is asked once.
  - If the account may not forward ports, replicas are asked over HTTP through the API server's proxy, and the result says so.
  - The module fails if any target fails, with one line for each and the whole report in the result.
author:
  - The mlserving.triton authors (@mlserving)
extends_documentation_fragment:
  - mlserving.triton._cluster
  - mlserving.triton._cases
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
      - Host and port of gRPC at the further target, with C(grpcs://) in front for TLS. Without it, O(url) is asked over HTTP only.
    type: str
  endpoints:
    description:
      - Further targets, each as O(url) and O(grpc_url).
    type: list
    elements: dict
    default: []
    suboptions:
      url:
        description: As O(url).
        type: str
        required: true
      grpc_url:
        description: As O(grpc_url).
        type: str
  ca_file:
    description:
      - File of certificates (PEM) to trust at HTTPS and gRPC addresses, in place of those that the system trusts over HTTP, and gRPC's own.
    type: path
  headers:
    description:
      - Headers to send with every request to an address, such as an API key.
    type: dict
    default: {}
  tls:
    description:
      - The server's certificate lies in a Secret of O(namespace), which tells what to trust and which name stands in it.
    type: dict
    suboptions:
      secret:
        description: Name of the Secret, of the type kubernetes.io/tls. If it has a C(ca.crt), that is trusted.
        type: str
        required: true
      by:
        description: V(triton) uses it for gRPC, at the replicas and the Service; V(front) is a proxy before Triton that uses it for all of the Service.
        type: str
        choices: [triton, front]
        required: true
  restricted_key:
    description:
      - Key of the server's restricted APIs (Triton's C(--http-restricted-api) and C(--grpc-restricted-protocol)), sent to every target.
    type: dict
    suboptions:
      name:
        description: Its name.
        type: str
        required: true
      value:
        description: Its value.
        type: str
        required: true
  service:
    description:
      - Name of the release's Service. One of type LoadBalancer becomes a further target, by its external address, which is waited for.
      - What answers there with another protocol or certificate is asked again for 10 s, since it may be a pod that leaves.
    type: str
  source:
    description:
      - Folder of models on the controller. Each C(MODEL/verify.yml) in it holds a list of O(cases), without the model's name; their files lie
        beside it.
      - Every model in it must be loaded, with the inputs and outputs that its C(config.pbtxt) declares.
    type: path
  models:
    description:
      - Names of models that must be loaded. By default those in O(source), of whose cases and versions those of these models count.
    type: list
    elements: str
  versions:
    description:
      - Versions of models that must be loaded, by the model's name. By default those that O(source) has and their C(version_policy) chooses.
    type: dict
  settle:
    description:
      - Seconds for which a model or version that is missing is waited for, as a server that polls its repository loads it some time after it was
        published.
    type: int
    default: 0
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
        - C(skipped) says why one was not asked; it is empty for all others.
      returned: always
      type: list
      elements: dict
      sample: [{model: simple, protocol: http, ok: true, milliseconds: 3, outputs: "OUTPUT0[0:3]=1 2 3", message: "", skipped: ""}]
    latency:
      description: Milliseconds that the answered inferences took, by protocol.
      returned: always
      type: dict
      sample: {http: {min: 3, median: 3.5, max: 9}, grpc: {min: 2, median: 3, max: 4}}
    notes:
      description: What was done otherwise than asked, in words.
      returned: always
      type: list
      elements: str
      sample: []
    log:
      description: What the replica's log got meanwhile, at most 10 lines, if something failed.
      returned: always
      type: list
      elements: str
      sample: []
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
latency:
  description: Milliseconds that the answered inferences of all targets took, by protocol.
  returned: when the targets were asked
  type: dict
  sample: {http: {min: 3, median: 3.5, max: 9}, grpc: {min: 2, median: 3, max: 4}}
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

import dataclasses
import datetime
import os
import re
import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlserving.triton.plugins.module_utils import (
    _case_options,
    _certificates,
    _cluster,
    _expected_models,
    _model_config,
    _model_tree,
    _service,
    _triton_client,
    _verify,
    _verify_cases,
    _verify_report,
    _verify_server,
    _verify_target,
)

ARGUMENT_SPEC = {
    "namespace": {"type": "str", "default": "default"},
    "release": {"type": "str"},
    "selector": {"type": "str"},
    "replicas": {"type": "int"},
    "url": {"type": "str"},
    "grpc_url": {"type": "str"},
    "endpoints": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"url": {"type": "str", "required": True}, "grpc_url": {"type": "str"}},
    },
    "ca_file": {"type": "path"},
    "headers": {"type": "dict", "default": {}, "no_log": True},
    "tls": {
        "type": "dict",
        "options": {
            "secret": {"type": "str", "required": True, "no_log": False},
            "by": {"type": "str", "choices": ["triton", "front"], "required": True},
        },
    },
    "restricted_key": {
        "type": "dict",
        "no_log": False,
        "options": {"name": {"type": "str", "required": True}, "value": {"type": "str", "required": True, "no_log": True}},
    },
    "service": {"type": "str"},
    "source": {"type": "path"},
    "models": {"type": "list", "elements": "str"},
    "versions": {"type": "dict"},
    "settle": {"type": "int", "default": 0},
    "metrics": {"type": "bool", "default": False},
    "slowest": {"type": "int"},
    "report": {"type": "path"},
    "protocols": {"type": "list", "elements": "str", "choices": ["http", "grpc"], "default": ["http", "grpc"]},
    "cases": _case_options.CASES,
    "timeout": {"type": "int", "default": 60},
    "parallel": {"type": "int", "default": 8},
}

#: What both HTTP and gRPC carry.
HEADER_NAME = re.compile(r"[A-Za-z0-9._-]+")
HEADER_VALUE = re.compile(r"[ -~]*")


def read_wanted(module: AnsibleModule) -> _verify.Wanted:
    """Return what every target is held against."""
    params = module.params
    try:
        cases = _verify_cases.prepared(params["source"] or "", params["cases"], params["models"])
    except _verify_cases.CasesError as error:
        module.fail_json(msg=str(error))
    models, tensors, versions = tuple(params["models"] or ()), {}, {}
    if params["source"] and not _model_config.IMPORT_ERROR:
        try:
            found, tensors, versions = _expected_models.of_source(params["source"])
        except _model_tree.TreeError as error:
            module.fail_json(msg=str(error))
        models = found if params["models"] is None else models
        versions = {model: found for model, found in versions.items() if model in models}
    versions |= {
        model: [str(version) for version in (given if isinstance(given, list) else [given])] for model, given in (params["versions"] or {}).items()
    }
    return _verify.Wanted(cases, models, tensors, params["slowest"], versions, params["settle"])


def read_access(module: AnsibleModule) -> tuple[_triton_client.Access, _triton_client.Access]:
    """Return what is sent to (addresses, replicas): headers are for what stands before Triton."""
    params = module.params
    key = (params["restricted_key"]["name"], params["restricted_key"]["value"]) if params["restricted_key"] else ()
    if params["ca_file"] and not os.access(params["ca_file"], os.R_OK):
        module.fail_json(msg=f"ca_file is {params['ca_file']}, which cannot be read. Give a file of certificates in PEM.")
    headers = {name: str(value) for name, value in params["headers"].items()}
    for option, (name, value) in [("headers", entry) for entry in headers.items()] + ([("restricted_key", key)] if key else []):
        if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            module.fail_json(
                msg=f"{option} has {name!r}, whose name or value no request can carry. Write both in printable ASCII, the name as one word."
            )
    return _triton_client.Access(params["ca_file"] or "", headers, key), _triton_client.Access(key=key)


def trust(module: AnsibleModule, api, outside: _triton_client.Access, inside: _triton_client.Access) -> tuple:
    """Return both with what it takes to trust the certificate of the option tls."""
    if _certificates.x509 is None:
        module.fail_json(msg=missing_required_lib(_certificates.REQUIREMENT))
    pem, name = _certificates.trusted(api, module.params["namespace"], module.params["tls"]["secret"])
    path = outside.ca
    if pem and not path:
        path = os.path.join(module.tmpdir, "ca.pem")
        with open(path, "w", encoding="ascii") as file:
            file.write(pem)
    at_replicas = {"grpc_tls": True, "ca": path, "name": name} if module.params["tls"]["by"] == "triton" else {}
    return dataclasses.replace(outside, ca=path, name=name), dataclasses.replace(inside, **at_replicas)


def secured(address: tuple[str, str], by: str) -> tuple[str, str]:
    """Return an address of a Service with the schemes that it speaks."""
    http, grpc = address
    return http.replace("http://", "https://") if by == "front" else http, f"grpcs://{grpc}" if grpc else ""


def find_targets(module: AnsibleModule, deadline: float) -> tuple[list, list[str], str]:
    """Return (targets, problems with their number, HTTP URL of the Service or nothing)."""
    params, targets, problems, found = module.params, [], [], None
    outside, inside = read_access(module)
    selector = params["selector"] or (f"release={params['release']}" if params["release"] else "")
    if selector:
        api = _cluster.from_module(module)[0]
        try:
            pods = _verify_target.replicas(api, params["namespace"], selector)
            if params["service"]:
                found = _service.address(api, params["namespace"], params["service"], deadline)
            if params["tls"]:
                outside, inside = trust(module, api, outside, inside)
                found = found and secured(found, params["tls"]["by"])
        except _cluster.ClusterError as error:
            module.fail_json(msg=str(error))
        reach = _verify_target.Reach(api)
        targets = [_verify_target.pod_target(api, pod, params["protocols"], params["metrics"], reach, access=inside) for pod in pods]
        problems = _verify_target.count_problems(pods, params["replicas"], selector, params["namespace"])
    addresses = [(params["url"], params["grpc_url"])] if params["url"] else []
    addresses += [(entry["url"], entry["grpc_url"]) for entry in params["endpoints"]]
    targets += [_verify_target.url_target(*address, params["protocols"], access=outside) for address in addresses]
    if found and any(found):
        targets.append(_verify_target.url_target(*found, params["protocols"], access=outside, leaving=_verify_target.LEAVING))
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
        required_one_of=[("release", "selector", "url", "endpoints")],
        required_by={"grpc_url": "url"},
        supports_check_mode=True,
    )
    if _triton_client.IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib(_triton_client.REQUIREMENT), exception=_triton_client.IMPORT_ERROR)
    deadline = time.monotonic() + module.params["timeout"]
    protocols = module.params["protocols"]
    bare = [entry["url"] for entry in (module.params, *module.params["endpoints"]) if entry["url"] and not entry["grpc_url"]]
    if bare and "http" not in protocols:
        module.fail_json(msg=f"{bare[0]} is given, but protocols is only grpc and there is no grpc_url for it. Give it, or add http to protocols.")
    wanted, started = read_wanted(module), datetime.datetime.now(datetime.timezone.utc)
    targets, general, address = find_targets(module, deadline)
    reports = _verify_server.verify_all(targets, wanted, deadline, module.params["parallel"])
    problems = general + [f"{report['target']}: {problem}" for report in reports for problem in report["problems"]]
    result = {
        "changed": False,
        "ok": not problems,
        "targets": reports,
        "address": address,
        "latency": _verify.latency([entry for report in reports for entry in report["inferences"]]),
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
