#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_crds
short_description: Brings the Prometheus operator's custom resource definitions to a chart's version, or takes them away
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Helm installs a chart's custom resource definitions once, and never again. This module makes those that are missing and replaces those that are older
    than the chart's, by server-side apply. Newer ones stay.
  - Those that it makes carry the label C(app.kubernetes.io/managed-by=mlserving.triton). Only such are taken away, and only if there is no object of any
    of these kinds left, since it would go too.
extends_documentation_fragment:
  - mlserving.triton._cluster
  - mlserving.triton._helm
attributes:
  check_mode:
    description: Can run in check mode and tell whether it would change something.
    support: full
  diff_mode:
    description: Returns what has changed.
    support: full
    details: The versions by name, not the schemas.
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
options:
  state:
    description: Whether they should be there or gone.
    type: str
    choices: [present, absent]
    default: present
  going_objects:
    description:
      - With O(state=absent), objects that do not count in check mode, since a real run has removed them by then. They have C(kind) and C(metadata), as
        M(mlserving.triton.triton_monitoring_info) returns them.
    type: list
    elements: dict
    default: []
  going_releases:
    description: Helm releases, each as C(NAMESPACE/NAME), whose objects do not count for the same reason.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Have the custom resource definitions that the chart needs
  mlserving.triton.triton_crds:
    kubeconfig: .lab/kubeconfig
    chart:
      ref: tests/charts/kube-prometheus-stack

- name: Take them away, if nobody uses them
  mlserving.triton.triton_crds:
    kubeconfig: .lab/kubeconfig
    state: absent
"""

RETURN = r"""
made:
  description: Names of those that were not there.
  returned: with O(state=present)
  type: list
  elements: str
  sample: [servicemonitors.monitoring.coreos.com]
replaced:
  description: Names of those that were older.
  returned: with O(state=present)
  type: list
  elements: str
  sample: []
deleted:
  description: Names of those that were taken away.
  returned: with O(state=absent)
  type: list
  elements: str
  sample: [servicemonitors.monitoring.coreos.com]
kept:
  description: Those that stay although others would be expected, and why.
  returned: always
  type: list
  elements: str
  sample: ["the CRDs of monitoring.coreos.com: somebody has objects of these kinds: servicemonitors team/app"]
"""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _helm, _kube, _monitoring, _secret

PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
VERSION = "operator.prometheus.io/version"
FIELD_MANAGER = "mlserving.triton.monitoring"
#: Seconds until a definition is served, or gone.
PATIENCE = 60


def number(metadata: dict) -> tuple[int, ...]:
    """Return the version of a definition, such as (0, 91, 0); empty if it does not tell."""
    return tuple(int(part) for part in re.findall(r"\d+", (metadata.get("annotations") or {}).get(VERSION, ""))[:3])


def to_apply(wanted: list[dict], there: dict[str, dict]) -> tuple[list[dict], list[dict], list[str]]:
    """Return (definitions to make, definitions to replace, those that stay and why).

    :param there: the metadata of the cluster's definitions, by name
    """
    make, replace, kept = [], [], []
    for definition in wanted:
        name = definition["metadata"]["name"]
        if name not in there:
            make.append(definition)
        elif number(definition["metadata"]) > number(there[name]):
            replace.append(definition)
        elif number(definition["metadata"]) < number(there[name]):
            kept.append(f"{name}: the cluster's is newer than the chart's ({there[name]['annotations'][VERSION]})")
    return make, replace, kept


def send(api, method: str, path: str, body: str | None = None, query: list | None = None) -> None:
    """Send a request.

    :raises _kube.RequestError: it is refused
    """
    headers = {"Accept": _monitoring.METADATA.replace("List", ""), **({"Content-Type": "application/apply-patch+yaml"} if body else {})}
    request = api.param_serialize(method, path, query_params=query, header_params=headers, body=body, auth_settings=["BearerToken"])
    response = api.call_api(*request, _request_timeout=_cluster.REQUEST_TIMEOUT)
    content = response.read()
    if response.status >= 300 and response.status != 404:
        try:
            reason = json.loads(content)["message"]
        except (ValueError, KeyError):
            reason = response.reason
        raise _kube.RequestError(f"the cluster refused {method} {path}: {reason} ({response.status}).", response.status)


def apply(api, definition: dict, ours: bool, check: bool) -> None:
    """Apply a definition, and wait until it is served.

    :param ours: whether it is labelled as made by this collection
    """
    name = definition["metadata"]["name"]
    labels = {**(definition["metadata"].get("labels") or {}), **({_secret.MANAGED_BY: _secret.OWNER} if ours else {})}
    body = {**definition, "metadata": {**definition["metadata"], "labels": labels}}
    query = [("fieldManager", FIELD_MANAGER), ("force", "true"), *([("dryRun", "All")] if check else [])]
    send(api, "PATCH", f"{PATH}/{name}", json.dumps(body), query)
    if not check:
        wait(f"the custom resource definition {name} is served", lambda: _established(api, name))


def _established(api, name: str) -> bool:
    conditions = (_kube.get(api, f"{PATH}/{name}").get("status") or {}).get("conditions") or []
    return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)


def wait(what: str, is_so) -> None:
    """Return once ``is_so`` tells so.

    :raises _cluster.ClusterError: it did not in PATIENCE seconds
    """
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            raise _cluster.ClusterError(f"waited {PATIENCE} s until {what}, in vain.")
        time.sleep(0.2)


def present(module: AnsibleModule, api, there: dict[str, dict]) -> dict:
    """Make and replace; return the result."""
    helm = _helm.Helm(module.run_command, module.params["helm_binary"])
    wanted = [document for document in helm.show("crds", module.params["chart"]) if document.get("kind") == "CustomResourceDefinition"]
    make, replace, kept = to_apply(wanted, there)
    with ThreadPoolExecutor(max_workers=5) as pool:
        work = [(definition, True) for definition in make]
        work += [
            (definition, (there[definition["metadata"]["name"]].get("labels") or {}).get(_secret.MANAGED_BY) == _secret.OWNER)
            for definition in replace
        ]
        list(pool.map(lambda entry: apply(api, *entry, module.check_mode), work))
    changed = [definition["metadata"] for definition in [*make, *replace]]
    before = {metadata["name"]: (there.get(metadata["name"], {}).get("annotations") or {}).get(VERSION, "") for metadata in changed}
    after = {metadata["name"]: (metadata.get("annotations") or {}).get(VERSION, "") for metadata in changed}
    return {
        "made": sorted(definition["metadata"]["name"] for definition in make),
        "replaced": sorted(definition["metadata"]["name"] for definition in replace),
        "kept": kept,
        "changed": bool(changed),
        "diff": {"before": before, "after": after},
    }


def absent(module: AnsibleModule, api, there: dict[str, dict]) -> dict:
    """Delete those that are ours, unless there are objects; return the result."""
    ours = sorted(name for name, metadata in there.items() if (metadata.get("labels") or {}).get(_secret.MANAGED_BY) == _secret.OWNER)
    going = [module.params["going_objects"], module.params["going_releases"]] if module.check_mode else []
    objects = _monitoring.custom_objects(api, *going) if ours else []
    if objects:
        reason = (
            f"the CRDs of {_monitoring.GROUP}: somebody has objects of these kinds: {', '.join(objects[:10])}{' and more' if objects[10:] else ''}"
        )
        return {"deleted": [], "kept": [reason], "changed": False, "diff": {"before": {}, "after": {}}}
    if not module.check_mode:
        with ThreadPoolExecutor(max_workers=5) as pool:
            list(pool.map(lambda name: send(api, "DELETE", f"{PATH}/{name}"), ours))
        wait("the custom resource definitions are gone", lambda: not set(_definitions(api)) & set(ours))
    return {"deleted": ours, "kept": [], "changed": bool(ours), "diff": {"before": dict.fromkeys(ours, "there"), "after": {}}}


def _definitions(api) -> dict[str, dict]:
    return {metadata["name"]: metadata for metadata in _monitoring.crds(api).values()}


def main():
    module = AnsibleModule(
        {
            **_cluster.ARGUMENT_SPEC,
            **_helm.ARGUMENT_SPEC,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "going_objects": {"type": "list", "elements": "dict", "default": []},
            "going_releases": {"type": "list", "elements": "str", "default": []},
        },
        required_if=[("state", "present", ["chart"])],
        supports_check_mode=True,
    )
    api, target = _cluster.from_module(module)
    try:
        _cluster.version(api, target)
        result = {"present": present, "absent": absent}[module.params["state"]](module, api, _definitions(api))
    except (_cluster.ClusterError, _helm.HelmError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
