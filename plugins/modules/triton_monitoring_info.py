#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_monitoring_info
short_description: Tells what a cluster has of a monitoring stack, and what stands against monitoring a release
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Looks for the Prometheus operator, reads the selectors of its Prometheus objects, and says which labels the objects of a release need so that they are
    taken up.
  - Asks C(helm) for the charts that are to be installed. All problems are reported at once. Nothing is changed.
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
  - mlserving.triton._cluster
  - mlserving.triton._helm
options:
  origin:
    description: In words, where the options that name the cluster come from. It appears in messages.
    type: str
    default: the module's options
  asked:
    description: Whatever the answer is to be known by; it is returned as it is.
    type: list
    elements: str
    default: []
  state:
    description: Whether the monitoring is to be there or gone.
    type: str
    choices: [present, absent]
    default: present
  method:
    description: Whether the stack is there already, or comes from a chart.
    type: str
    choices: [existing, helm]
    default: existing
  release:
    description: The release to monitor.
    type: str
    required: true
  release_namespace:
    description: Its namespace.
    type: str
    required: true
  objects_namespace:
    description: Namespace of the objects that Prometheus takes up; empty for that of the release.
    type: str
    default: ""
  dashboard_namespace:
    description: Namespace of the dashboard; empty for that of the release.
    type: str
    default: ""
  monitor:
    description: What finds the release's pods.
    type: str
    choices: [ServiceMonitor, PodMonitor]
    default: ServiceMonitor
  labels:
    description: More labels of these objects. They count for the selectors too.
    type: dict
    default: {}
  prometheus:
    description: The Prometheus object that is to scrape, as C(NAMESPACE/NAME). Empty takes the first whose selectors can match.
    type: str
    default: ""
  namespace:
    description: Namespace of the stack that comes from a chart.
    type: str
    default: monitoring
  helm_release:
    description: Name of its Helm release.
    type: str
    default: kube-prometheus-stack
  adapter:
    description: Chart of prometheus-adapter, with the keys of O(chart); empty if it is not wanted.
    type: dict
    default: {}
  adapter_release:
    description: Name of the adapter's Helm release.
    type: str
    default: prometheus-adapter
  grafana_secret:
    description: A Secret of somebody else's with Grafana's user and password, which has to be there.
    type: str
    default: ""
  kubernetes_core:
    description: Version of the collection kubernetes.core, which decides which C(helm) it can use. Empty if it is not known.
    type: str
    default: ""
  beside_others:
    description: Whether a stack may come from a chart although other Prometheus objects, and so another operator, are there.
    type: bool
    default: false
  remove_stack:
    description: With O(state=absent), whether the stack goes too. V(auto) removes it if no other release is monitored.
    type: str
    choices: [auto, always, never]
    default: auto
  delete_volumes:
    description: Whether the stack's claims count as leftovers.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Find out which labels a release's objects need
  mlserving.triton.triton_monitoring_info:
    kubeconfig: .lab/kubeconfig
    release: example
    release_namespace: triton
"""

RETURN = r"""
asked:
  description: The option of that name.
  returned: always
  type: list
  elements: str
  sample: [present, helm, example, triton]
labels:
  description: By kind, the labels that a release's objects need beside those that they have anyway.
  returned: with O(state=present)
  type: dict
  sample: {ServiceMonitor: {release: kube-prometheus-stack}, PrometheusRule: {release: kube-prometheus-stack}}
prometheus:
  description: Name and namespace of the Prometheus object that is to scrape.
  returned: with O(state=present)
  type: dict
  sample: {name: kube-prometheus-stack-prometheus, namespace: monitoring}
passed_over:
  description: The other Prometheus objects that cannot take the release up, and why.
  returned: with O(state=present)
  type: list
  elements: str
  sample: ["team/small: ruleSelector is not set, which selects nothing"]
others:
  description: Other releases that are monitored by objects of this collection. With O(state=absent), it is said if the account may not look for all.
  returned: always
  type: list
  elements: str
  sample: ["vision/example"]
objects:
  description: The objects of the release's monitoring that are there, fit for the definition of M(kubernetes.core.k8s).
  returned: always
  type: list
  elements: dict
  sample: [{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor, metadata: {name: example-triton-inference-server, namespace: triton}}]
record:
  description: What is written down of a stack that this collection installed; empty if it did not.
  returned: always
  type: dict
  sample: {helm_release: kube-prometheus-stack, adapter: ""}
fullname:
  description: What the names of the stack's objects begin with.
  returned: always
  type: str
  sample: kube-prometheus-stack
remove_stack:
  description: Whether the stack is to go.
  returned: with O(state=absent)
  type: bool
  sample: true
leftovers:
  description: What an uninstalled stack leaves in the cluster, but for its Secrets.
  returned: with O(state=absent)
  type: list
  elements: dict
  sample: [{apiVersion: v1, kind: Service, metadata: {name: kube-prometheus-stack-kubelet, namespace: kube-system}}]
kinds_served:
  description: Whether the cluster has the operator's kinds that the release's objects are of.
  returned: always
  type: bool
  sample: true
release_namespace_exists:
  description: Whether the release's namespace is there.
  returned: always
  type: bool
  sample: true
namespace_exists:
  description: Whether the stack's namespace is there.
  returned: always
  type: bool
  sample: true
grafana_secret_exists:
  description: Whether the Secret with Grafana's password is there.
  returned: always
  type: bool
  sample: true
chart:
  description: Name, version and the version of what the chart installs.
  returned: when a chart is to be installed
  type: dict
  sample: {name: kube-prometheus-stack, version: 88.5.3, app_version: v0.93.1}
helm:
  description: Version of helm.
  returned: when it is needed
  type: str
  sample: 3.20.1
cluster:
  description: The cluster that was asked.
  returned: always
  type: dict
  sample: {server: "https://127.0.0.1:34567", context: kind-triton-lab, kubeconfig: .lab/kubeconfig, source: the lab's inventory}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _helm, _kube, _monitoring, _monitoring_selectors, _rights, _secret

TEXT = {"type": "str", "default": ""}
ARGUMENT_SPEC = {
    **_cluster.ARGUMENT_SPEC,
    **_helm.ARGUMENT_SPEC,
    "origin": {"type": "str", "default": "the module's options"},
    "asked": {"type": "list", "elements": "str", "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "method": {"type": "str", "choices": ["existing", "helm"], "default": "existing"},
    "release": {"type": "str", "required": True},
    "release_namespace": {"type": "str", "required": True},
    "objects_namespace": TEXT,
    "dashboard_namespace": TEXT,
    "monitor": {"type": "str", "choices": ["ServiceMonitor", "PodMonitor"], "default": "ServiceMonitor"},
    "labels": {"type": "dict", "default": {}},
    "prometheus": TEXT,
    "namespace": {"type": "str", "default": "monitoring"},
    "helm_release": {"type": "str", "default": "kube-prometheus-stack"},
    "adapter": {"type": "dict", "default": {}},
    "adapter_release": {"type": "str", "default": "prometheus-adapter"},
    "grafana_secret": {"type": "str", "default": "", "no_log": False},
    "kubernetes_core": TEXT,
    "beside_others": {"type": "bool", "default": False},
    "remove_stack": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
    "delete_volumes": {"type": "bool", "default": False},
}


def look_at_helm(module: AnsibleModule, charts: list[dict]) -> tuple[dict, list[str]]:
    """Return (helm's version and the first chart's description, what is wrong)."""
    helm = _helm.Helm(module.run_command, module.params["helm_binary"])
    try:
        version = helm.version()
    except OSError:
        return {}, [
            f"there is no program {module.params['helm_binary']} here, which installs charts. Install Helm 3 (https://helm.sh), or name its path as "
            "monitoring_helm_binary."
        ]
    except _helm.HelmError as error:
        return {}, [str(error)]
    misfit = _helm.fits(version, module.params["kubernetes_core"])
    if misfit:
        return {}, [misfit]
    found, problems = [], []
    for chart in charts:
        try:
            found.append(helm.chart(chart))
        except _helm.HelmError as error:
            problems.append(str(error))
    about = {"name": found[0]["name"], "version": found[0]["version"], "app_version": found[0].get("appVersion", "")} if found else {}
    return {"helm": version, "chart": about}, problems


def look_at_prometheuses(module: AnsibleModule, api) -> tuple[dict, list[str]]:
    """Return (labels, prometheus and passed_over, what is wrong) where an operator is there already."""
    params = module.params
    kinds = [params["monitor"], "PrometheusRule"]
    missing = [plural for plural in ("prometheuses", "prometheusrules", params["monitor"].lower() + "s") if plural not in _monitoring.served(api)]
    if missing:
        return {}, [
            f"monitoring_method is existing, but the cluster does not have the Prometheus operator's kinds {', '.join(missing)} ({_monitoring.GROUP}). "
            "Install the operator first, set monitoring_method to helm to have it installed, or to none."
        ]
    namespace = params["objects_namespace"] or params["release_namespace"]
    listed = _monitoring.items(api, f"/apis/{_monitoring.GROUP}/v1", "prometheuses", [params["namespace"], namespace], accept="application/json")
    candidates = {f"{entry['metadata']['namespace']}/{entry['metadata']['name']}": entry for entry in listed}
    if params["prometheus"]:
        if params["prometheus"] not in candidates:
            return {}, [
                f"monitoring_prometheus is {params['prometheus']!r}, but the Prometheus objects are: {', '.join(sorted(candidates)) or 'none'}."
            ]
        candidates = {params["prometheus"]: candidates[params["prometheus"]]}
    if not candidates:
        return {}, [
            "monitoring_method is existing, and the operator's kinds are there, but no Prometheus object, so that nobody would scrape. Make one, or set "
            "monitoring_method to helm."
        ]
    fixed = {str(key): str(value) for key, value in params["labels"].items()} | {
        _secret.MANAGED_BY: _secret.OWNER,
        _secret.COMPONENT: _monitoring.COMPONENT,
        _secret.INSTANCE: params["release"],
    }
    namespace_labels = {"kubernetes.io/metadata.name": namespace, **_rights.namespace_labels(api, namespace)}
    chosen, passed_over = None, []
    for name, prometheus in sorted(candidates.items()):
        labels, reasons = _monitoring_selectors.fit(prometheus, kinds, namespace, namespace_labels, fixed)
        if reasons:
            passed_over.append(f"{name}: {'; '.join(reasons)}")
        elif not chosen:
            chosen = {"labels": labels, "prometheus": {"name": prometheus["metadata"]["name"], "namespace": prometheus["metadata"]["namespace"]}}
    if not chosen:
        return {}, [
            f"no Prometheus can take up the objects of {params['release']} in namespace {namespace}. {'. '.join(passed_over)}. Change the selectors, or "
            "monitoring_labels, or put the objects into another namespace with monitoring_objects_namespace."
        ]
    return {**chosen, "passed_over": passed_over}, []


def look_at_stack(module: AnsibleModule, api, found: dict) -> tuple[dict, list[str]]:
    """Return (labels, prometheus, helm and chart, what is wrong) where the stack comes from a chart."""
    params = module.params
    namespace, name = params["namespace"], params["helm_release"]
    about, problems = look_at_helm(module, [params["chart"], *([params["adapter"]] if params["adapter"] else [])])
    theirs = [name] if not found["record"] else []
    if params["adapter"] and not found["record"].get("adapter"):
        theirs.append(params["adapter_release"])
    for release in theirs:
        status = _monitoring.helm_release(api, namespace, release)
        if status:
            problems.append(
                f"the Helm release {release} in namespace {namespace} ({status}) was installed by somebody else. Use it with monitoring_method=existing, or "
                "choose another monitoring_helm_release, monitoring_adapter_release or monitoring_namespace."
            )
    if found["record"] and found["record"]["helm_release"] != name:
        problems.append(
            f"monitoring_helm_release is {name}, but the stack in namespace {namespace} was installed as {found['record']['helm_release']}. Keep that name."
        )
    listed = _monitoring.items(api, f"/apis/{_monitoring.GROUP}/v1", "prometheuses", [namespace])
    foreign = [entry["metadata"] for entry in listed if entry["metadata"]["namespace"] != namespace or not found["record"]]
    names = [f"{entry['namespace']}/{entry['name']}" for entry in foreign]
    if names and not params["beside_others"] and not any("somebody else" in problem for problem in problems):
        problems.append(
            f"there is a Prometheus already ({', '.join(names)}), whose operator a second one would "
            "fight with. Use it with monitoring_method=existing, or set monitoring_beside_others to true if its operator leaves other namespaces alone."
        )
    if params["grafana_secret"] and not _secret_exists(api, namespace, params["grafana_secret"]):
        problems.append(
            f"monitoring_grafana_secret is {params['grafana_secret']}, but there is no such Secret in namespace {namespace}. Make it first."
        )
    labels = {kind: {} for kind in (params["monitor"], "PrometheusRule")}
    ours = {"name": f"{found['fullname']}-prometheus", "namespace": namespace}
    return {"labels": labels, "prometheus": ours, "passed_over": [], **about}, problems


def look_at_namespaces(module: AnsibleModule, api) -> list[str]:
    """Return which namespaces are missing that nobody would make."""
    params = module.params
    made = {"", params["release_namespace"], params["namespace"] if params["method"] == "helm" else ""}
    return [
        f"monitoring_{option} is {params[option]}, but there is no such namespace. Make it first, or leave the variable empty."
        for option in ("objects_namespace", "dashboard_namespace")
        if params[option] not in made and not _rights.namespace_phase(api, params[option])
    ]


def _secret_exists(api, namespace: str, name: str) -> bool:
    try:
        return bool(_kube.get(api, f"/api/v1/namespaces/{namespace}/secrets/{name}", absent_is_empty=True))
    except _kube.RequestError as error:
        if error.status == 403:
            return True
        raise


def sentence(problem: str) -> str:
    """Return the problem with a capital letter, unless it begins with a variable or a program."""
    return problem if problem.startswith(("monitoring_", "helm ", "/")) else problem[0].upper() + problem[1:]


def main():
    module = AnsibleModule(ARGUMENT_SPEC, required_if=[("method", "helm", ["chart"])], supports_check_mode=True)
    params = module.params
    api, target = _cluster.from_module(module, params["origin"])
    of_release = (params["release_namespace"], params["release"])
    try:
        _cluster.version(api, target)
        record = _monitoring.record(api, params["namespace"])
        fullname = _monitoring.fullname(record.get("helm_release") or params["helm_release"])
        there = _monitoring.objects(api, [params["release_namespace"], params["objects_namespace"], params["namespace"]])
        found = {
            "record": record,
            "fullname": fullname,
            "objects": [
                {key: entry[key] for key in ("apiVersion", "kind", "metadata")}
                for entry in there
                if (entry["release_namespace"], entry["release"]) == of_release
            ],
            "others": sorted({f"{entry['release_namespace']}/{entry['release']}" for entry in there} - {"/".join(of_release)}),
            "namespace_exists": bool(_rights.namespace_phase(api, params["namespace"])),
            "release_namespace_exists": bool(_rights.namespace_phase(api, params["release_namespace"])),
            "kinds_served": {"prometheusrules", f"{params['monitor'].lower()}s"} <= _monitoring.served(api),
            "grafana_secret_exists": _secret_exists(api, params["namespace"], params["grafana_secret"] or f"{fullname}-grafana-admin"),
        }
        problems = []
        if params["state"] == "absent":
            if record and not _monitoring.sees_all(api):
                found["others"].append("releases of namespaces that this account may not look into")
            asked = params["remove_stack"] == "always" or (params["remove_stack"] == "auto" and not found["others"])
            found["remove_stack"] = bool(record) and asked
            found["leftovers"] = []
            if found["remove_stack"]:
                found["leftovers"] = _monitoring.leftovers(api, params["namespace"], record["helm_release"], params["delete_volumes"])
            more, problems = look_at_helm(module, []) if found["remove_stack"] else ({}, [])
        elif params["method"] == "helm":
            more, problems = look_at_stack(module, api, found)
        else:
            more, problems = look_at_prometheuses(module, api)
        if params["state"] == "present":
            problems += look_at_namespaces(module, api)
    except _cluster.ClusterError as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    if problems:
        module.fail_json(msg="Nothing was changed. " + " ".join(map(sentence, problems)), problems=problems)
    module.exit_json(changed=False, asked=params["asked"], cluster=target.public(), **found, **more)


if __name__ == "__main__":
    main()
