#!/usr/bin/python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: triton_preflight
short_description: Checks a deployment's cluster and inputs before anything changes
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Finds the one cluster that is named, asks for its version and for the rights that a deployment needs, and checks every input.
  - All problems are reported at once. Nothing is changed.
extends_documentation_fragment:
  - mlserving.triton._attributes.read_only
  - mlserving.triton._cluster
options:
  origin:
    description: In words, where the options that name the cluster come from. It appears in messages.
    type: str
    default: the module's options
  inputs:
    description:
      - The role's variables without their prefix, as they came in. Numbers may be text.
    type: dict
    required: true
    suboptions:
      release:
        description: Name of the release.
        type: str
        required: true
      namespace:
        description: Namespace of the release.
        type: str
        required: true
      replicas:
        description: Number of replicas, a whole number from 0 upwards.
        type: raw
        required: true
      gpus:
        description: GPUs of each replica, a whole number from 0 upwards.
        type: raw
        required: true
      image:
        description: Image of the server.
        type: str
        required: true
      image_pull_policy:
        description: When the image is pulled.
        type: str
        required: true
      service_type:
        description: Type of the Service.
        type: str
        required: true
      name_override:
        description: Replaces the chart's name in labels and names.
        type: str
      fullname_override:
        description: Replaces the whole name of the objects.
        type: str
  purpose:
    description:
      - What the release is checked for. With V(cleanup), only what removing it takes is checked. With V(adopt), it has to be a Helm release of the
        public chart, which V(deploy) and V(cleanup) refuse.
    type: str
    choices: [deploy, cleanup, adopt]
    default: deploy
  model_repository:
    description:
      - URL of the model repository to check, by the rules of Triton's own parser. Only C(s3://) URLs are checked.
    type: str
    default: ""
  serving:
    description:
      - The variables that shape the pods and Services, without their prefix C(triton_), as the filter P(mlserving.triton.serving#filter) takes them.
        Without values of environment variables.
    type: dict
    default: {}
  ignore_autoscaler:
    description: Whether the number of replicas is checked and sent as if no HorizontalPodAutoscaler decided on it.
    type: bool
    default: false
  source:
    description:
      - Folder of models, whose golden cases the start-up probe sends.
    type: str
    default: ""
  chart_values:
    description:
      - Values given under the public chart's keys, by role variable. One that differs from O(inputs) was given twice and is an error.
    type: dict
    default: {}
  credentials:
    description:
      - The role's variables about credentials, without the prefix triton_. Exactly one source may be given.
    type: dict
    default: {}
    suboptions:
      source:
        description: The source that is wanted; empty for the one whose variables are given.
        type: str
        default: ""
      aws_access_key_id:
        description: Access key id.
        type: str
      aws_secret_access_key:
        description: Secret access key.
        type: str
      aws_session_token:
        description: Session token.
        type: str
      aws_region:
        description: Region.
        type: str
      aws_encoding:
        description: Whether these values are plain or base64.
        type: str
        choices: [plain, base64]
        default: plain
      aws_expires:
        description: When temporary credentials end.
        type: str
      aws_strip:
        description: Whether white space around them is removed.
        type: bool
        default: false
      aws_profile:
        description: Profile of the AWS configuration files.
        type: str
      google_credentials:
        description: Content of a key file of a Google service account.
        type: str
      cloud_credentials:
        description: Credentials of several stores, as Triton's file of them has them.
        type: dict
      credentials_secret:
        description: Name of a Secret that somebody else made.
        type: str
      service_account:
        description: Name of the pods' service account.
        type: str
      service_account_annotations:
        description: Annotations of the service account; with them it is made.
        type: dict
seealso:
  - module: mlserving.triton.triton_secret
"""

EXAMPLES = r"""
- name: Check the cluster and the inputs
  mlserving.triton.triton_preflight:
    kubeconfig: .lab/kubeconfig
    origin: the lab's inventory
    inputs:
      release: example
      namespace: triton
      replicas: 4
      gpus: 0
      image: nvcr.io/nvidia/tritonserver:26.07-py3
      image_pull_policy: IfNotPresent
      service_type: LoadBalancer
"""

RETURN = r"""
cluster:
  description: The cluster that is acted on, and in words where its name came from.
  returned: always
  type: dict
  sample:
    server: https://127.0.0.1:34567
    context: kind-triton-lab
    kubeconfig: .lab/kubeconfig
    host: null
    ca_cert: null
    validate_certs: null
    source: the lab's inventory
    version: v1.35.4
inputs:
  description: The inputs as they came in.
  returned: always
  type: dict
  sample: {"release": "example", "namespace": "triton", "replicas": "4", "gpus": 0}
deployed:
  description: Whether this collection's Deployment of the release is there.
  returned: always
  type: bool
  sample: true
credentials:
  description: Where the pods' credentials come from, without any value. What the filter P(mlserving.triton.credential_pod#filter) takes.
  returned: always
  type: dict
  sample: {source: existing, secret: team-aws, keys: [AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY], digest: 654c379cda, region: eu-west-1, account: "",
    url: "s3://models/demo"}
names:
  description: Names of the release's objects, as the public chart makes them.
  returned: always
  type: dict
  sample:
    app: triton-inference-server
    fullname: example-triton-inference-server
    metrics_app: triton-inference-server-metrics
    metrics: example-triton-inference-server-metrics
    chart: triton-inference-server-1.0.0
namespace_exists:
  description: Whether the namespace is there already.
  returned: always
  type: bool
  sample: true
namespace_phase:
  description: V(Active), V(Terminating), or empty if it is not there.
  returned: always
  type: str
  sample: Active
autoscaler:
  description: Name of the HorizontalPodAutoscaler that decides on the number of replicas; empty if there is none.
  returned: always
  type: str
  sample: ""
send_replicas:
  description: The number of replicas that the applied Deployment is to have; null leaves it to the autoscaler that owns it.
  returned: always
  type: int
  sample: 4
releases_in_use:
  description: Names of the models' releases (layout V(release) of M(mlserving.triton.triton_repository)) that the Deployment runs, or could be put back to.
  returned: always
  type: list
  elements: str
  sample: [39e2ca48ac4cc25a]
replicas_before:
  description: The number of replicas that the Deployment has; null if there is none, or if an autoscaler owns it.
  returned: always
  type: int
  sample: 2
probe:
  description: Name of the ConfigMap with what the start-up probe sends, and its content, model by model, in base64. Both are empty if it sends nothing.
  returned: always
  type: dict
  sample: {name: example-triton-inference-server-probe-1f0c5b7a9e, requests: {simple: UE9TVCAvdjIvbW9kZWxzL3NpbXBsZS9pbmZlcg==}}
model_set:
  description:
    - Name of the ConfigMap with the models that a new server loads where models are loaded explicitly, and its data and annotations as they are to be during
      the rollout. Data and annotations are empty otherwise. C(there) says whether it is there already.
  returned: always
  type: dict
  sample:
    name: example-triton-inference-server-models
    there: true
    data: {models: "simple\n"}
    annotations: {mlserving.triton/agreed: "true", mlserving.triton/repository: 9d2f6b1c5e}
optional_objects:
  description: Those objects of the release that only certain variables make.
  returned: always
  type: list
  elements: dict
  sample: [{apiVersion: policy/v1, kind: PodDisruptionBudget, name: example-triton-inference-server}]
helm:
  description: The Helm release of this name, if it is of the public chart; empty otherwise.
  returned: always
  type: dict
  sample: {name: example, revision: 1, status: deployed, chart: triton-inference-server-1.0.0, objects: [Service example-triton-inference-server]}
replicas:
  description: The number of replicas as an integer.
  returned: always
  type: int
  sample: 4
gpus:
  description: The GPUs of each replica as an integer.
  returned: always
  type: int
  sample: 0
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlserving.triton.plugins.module_utils import (
    _aws_sources,
    _cluster,
    _credential_source,
    _credentials,
    _existing_secret,
    _helm_record,
    _inputs,
    _kube,
    _model_set,
    _names,
    _probe_requests,
    _rights,
    _s3_errors,
    _s3_url,
    _secret,
    _serving,
    _serving_checks,
    _serving_cluster,
    _triton_client,
    _verify_cases,
)

SECRET = {"type": "str", "no_log": True}
CREDENTIALS = {
    "source": {"type": "str", "default": ""},
    "aws_access_key_id": {"type": "str"},
    "aws_secret_access_key": SECRET,
    "aws_session_token": SECRET,
    "aws_region": {"type": "str"},
    "aws_encoding": {"type": "str", "choices": ["plain", "base64"], "default": "plain"},
    "aws_expires": {"type": "str"},
    "aws_strip": {"type": "bool", "default": False},
    "aws_profile": {"type": "str"},
    "google_credentials": SECRET,
    "cloud_credentials": {"type": "dict", "no_log": True},
    "credentials_secret": {"type": "str", "no_log": False},
    "service_account": {"type": "str"},
    "service_account_annotations": {"type": "dict"},
}


TEXT = {"type": "str", "required": True}
ARGUMENT_SPEC = {
    **_cluster.ARGUMENT_SPEC,
    "origin": {"type": "str", "default": "the module's options"},
    "inputs": {
        "type": "dict",
        "required": True,
        "options": {
            "release": TEXT,
            "namespace": TEXT,
            "replicas": {"type": "raw", "required": True},
            "gpus": {"type": "raw", "required": True},
            "image": TEXT,
            "image_pull_policy": TEXT,
            "service_type": TEXT,
            "name_override": {"type": "str"},
            "fullname_override": {"type": "str"},
        },
    },
    "purpose": {"type": "str", "choices": ["deploy", "cleanup", "adopt"], "default": "deploy"},
    "model_repository": {"type": "str", "default": ""},
    "chart_values": {"type": "dict", "default": {}},
    "serving": {"type": "dict", "default": {}},
    "ignore_autoscaler": {"type": "bool", "default": False},
    "source": {"type": "str", "default": ""},
    "credentials": {"type": "dict", "options": CREDENTIALS, "default": {}},
}


def choose_credentials(given: dict, url: str) -> tuple[dict, list[str]]:
    """Return (what the filter credential_pod takes, what is wrong) of the option credentials, without asking the cluster."""
    names = {f"triton_{name}" for name, value in given.items() if value}
    source, problems = _credential_source.choose(given.get("source") or "", names, given.get("service_account") or "", url)
    found = {"source": source, "secret": given.get("credentials_secret") or "", "keys": [], "digest": "", "region": "", "url": url}
    try:
        found["region"] = check_values(given, source if source in ("environment", "profile") else "options")
    except _credentials.CredentialsError as error:
        problems.append(f"The credentials: {error}")
    return {**found, "account": given.get("service_account") or ""}, problems


def check_values(given: dict, values_from: str) -> str:
    """Look at every value as triton_secret does, and return the region.

    :raises CredentialsError: one cannot be right
    """
    strip, file, keys = (
        bool(given.get("aws_strip")),
        given.get("cloud_credentials"),
        given.get("aws_access_key_id") or given.get("aws_secret_access_key"),
    )
    aws = {option: given.get(f"aws_{option}") or None for option in _credentials.KEYS}
    if keys:
        # With keys, one that is empty was forgotten.
        aws["region"] = given.get("aws_region") or ""
    others = {
        "profile": given.get("aws_profile") or None,
        "expires": given.get("aws_expires") or None,
        "encoding": given.get("aws_encoding") or "plain",
    }
    found = _aws_sources.read({**aws, **others, "values_from": values_from, "strip": strip, "data": True, "cloud_credentials": None})
    content = _credentials.cloud_credentials(file, strip) if file else {}
    _credentials.first_expiry(found.values.get("session_token"), found.told, content, "session_token", found.told_name)
    return found.values.get("region") or ""


def look_up(api: "kubernetes.client.ApiClient", namespace: str, fullname: str, credentials: dict, given: dict) -> list[str]:
    """Complete ``credentials`` by what the cluster has, and return what is wrong there."""
    problems = []
    if credentials["source"] == "existing":
        found, problems = _existing_secret.look(api, namespace, credentials["secret"], credentials["url"])
        credentials.update(found)
    if given.get("service_account_annotations"):
        credentials["account"] = credentials["account"] or fullname
    elif credentials["account"] and not _rights.service_account_exists(api, namespace, credentials["account"]):
        problems.append(
            f"There is no service account {credentials['account']} in namespace {namespace} (triton_service_account). "
            "Make it first, or set triton_service_account_annotations to have it made."
        )
    return problems


def missing_rights(module: AnsibleModule, api: "kubernetes.client.ApiClient") -> list[str]:
    namespace = module.params["inputs"]["namespace"]
    if module.params["purpose"] == "cleanup":
        return _rights.refused(api, namespace, _rights.FOR_CLEANUP)
    return _rights.missing(api, namespace, module.params["serving"])


def refuse_for_rights(module: AnsibleModule, target: _cluster.Target, missing: list[str]) -> None:
    """End the module if the account lacks rights, since nothing further can be asked then."""
    if missing:
        namespace = module.params["inputs"]["namespace"]
        module.fail_json(
            msg=f"Nothing was changed. On {target.server}, named by {target.source}, the credentials lack these rights in namespace {namespace}: "
            f"{', '.join(missing)}. Ask the cluster's administrator for them.",
        )


def untouched(names: dict) -> dict:
    """Return what look_at_serving finds, where the release is not to run."""
    nothing = {"replicas_before": None, "autoscaler": "", "send_replicas": None, "probe": {"name": "", "requests": {}}, "optional_objects": []}
    return {
        **nothing,
        "releases_in_use": [],
        "model_set": {"name": _model_set.config_map(names["fullname"]), "there": False, "data": {}, "annotations": {}},
    }


def helm_problem(module: AnsibleModule, fullname: str, owner: str | None, record: _helm_record.Record | None) -> str:
    """Return why a release that Helm has, or another program, is not ours to act on."""
    inputs, purpose = module.params["inputs"], module.params["purpose"]
    where = f"release {inputs['release']} in namespace {inputs['namespace']}"
    if purpose == "adopt" and not record:
        return f"Helm has no {where} of the chart triton-inference-server: there is nothing to adopt. See helm list --all-namespaces."
    if purpose == "adopt" and record.status != "deployed":
        return f"Helm's {where} is {record.status}, not deployed: see helm status {record.name}. Settle that with Helm first (helm rollback)."
    if record and purpose != "adopt":
        return (
            f"Helm has the {where} ({record.chart}, revision {record.revision}, {record.status}), so it is left alone. Move it to this collection without "
            f"a lost request: ansible-playbook playbooks/adopt.yml; or remove it: helm uninstall {record.name} --namespace {inputs['namespace']}"
            f"{'' if purpose == 'cleanup' else '; or choose another triton_release or triton_namespace'}."
        )
    if owner in (None, _secret.OWNER) or purpose == "adopt":
        return ""
    return (
        f"The Deployment {fullname} in namespace {inputs['namespace']} belongs to {owner}, not to this collection. "
        "Choose another triton_release or triton_namespace, or remove it first (helm uninstall, if Helm made it)."
    )


def look_at_serving(module: AnsibleModule, api: "kubernetes.client.ApiClient", names: dict, credentials: dict) -> tuple[dict, list[str]]:
    """Return (what the manifests need to know of the cluster, what is wrong there)."""
    inputs, options = module.params["inputs"], module.params["serving"]
    namespace, labels = inputs["namespace"], {"app": names["app"], "release": inputs["release"]}
    scaling, optional = options.get("autoscaling") or {}, _serving_cluster.optional_objects(api, namespace, _secret.OWNER, inputs["release"])
    scaler = _serving_cluster.autoscaler(api, namespace, names["fullname"])
    scaler = {"scaler": scaler, "own": _serving_cluster.is_own(scaler, optional)}
    asked = {"replicas": inputs["replicas"], "ignore": module.params["ignore_autoscaler"]}
    found = {
        **_serving_cluster.number_of_replicas(api, namespace, names["fullname"], _secret.OWNER, asked, scaling, scaler),
        "probe": {"name": "", "requests": {}},
        "model_set": {"name": _model_set.config_map(names["fullname"]), "there": False, "data": {}, "annotations": {}},
        "optional_objects": optional,
        "releases_in_use": _serving_cluster.releases_in_use(api, namespace, inputs["release"], names["fullname"]),
    }
    # Under another name of the app its pods are others, but its objects are still found by the release.
    ours = {"release": inputs["release"], "app.kubernetes.io/managed-by": _secret.OWNER}
    twins = (_serving_cluster.same_release(api, namespace, names["fullname"], found_by) for found_by in (labels, ours))
    problems = [next(filter(None, twins), "")]
    given = module.params["chart_values"].get("triton_replicas") if found["autoscaler"] and (scaling or not scaler["own"]) else None
    problems += _serving_cluster.autoscaler_problems(api, scaling, scaler, given, names["fullname"])
    if not options:
        return found, problems
    if options["gateway"]:
        problems.append(_serving_cluster.gateway_problem(api))
    if options["gpu_check"]:
        problems.append(_serving_cluster.gpu_problem(api, options["gpu_resource"], int(inputs["gpus"])))
    for option in ("grpc_tls_secret", "front_tls_secret"):
        if options[option]:
            problems.append(_serving_cluster.tls_problem(api, namespace, options[option], f"triton_{option}"))
    if options["model_control_mode"] == "explicit":
        there = _kube.get(api, f"/api/v1/namespaces/{namespace}/configmaps/{found['model_set']['name']}", absent_is_empty=True)
        found["model_set"] |= {"there": bool(there), **_model_set.to_apply(there, options)}
    found["probe"] = probe_of(module, names["fullname"])
    unnamed = dict.fromkeys(("restricted_key_secret", "front_config", "front_auth", "model_cache_config", "model_set_config"), "")
    settled = {**options, "env": [], "probe_config": found["probe"]["name"], **unnamed}
    shaped = _serving.deployment(settled, _credential_source.pod(**credentials), labels)
    spec = {**shaped["pod"], "containers": [{"name": names["app"], **shaped["container"]}, *shaped["sidecars"]]}
    problems.append(_serving_cluster.security_problem(api, namespace, spec, _rights.namespace_labels(api, namespace)))
    return found, problems


def probe_of(module: AnsibleModule, fullname: str) -> dict:
    """Return name and requests of the start-up probe's ConfigMap; both empty where there is nothing to send."""
    source = module.params["source"]
    if not (source and module.params["serving"]["startup_inference"]) or _triton_client.IMPORT_ERROR:
        return {"name": "", "requests": {}}
    try:
        requests = _probe_requests.requests(source, _verify_cases.prepared(source, []), module.params["serving"]["startup_answers"])
    except _verify_cases.CasesError as error:
        refuse(module, [str(error)])
    return {"name": _probe_requests.name(fullname, requests) if requests else "", "requests": requests}


def refuse(module: AnsibleModule, problems: list[str]) -> None:
    if problems:
        module.fail_json(msg="Nothing was changed. " + " ".join(problems), problems=problems)


def main():
    module = AnsibleModule(ARGUMENT_SPEC, supports_check_mode=True)
    inputs = module.params["inputs"]
    problems = _inputs.problems(inputs, module.params["chart_values"])
    if module.params["model_repository"].startswith("s3:"):
        try:
            _s3_url.parse(module.params["model_repository"])
        except _s3_errors.S3Error as error:
            problems.append(f"{_inputs.shown('model_repository_url')}: {error}")
    credentials, wrong = choose_credentials(module.params["credentials"] or {}, module.params["model_repository"])
    problems += wrong
    if module.params["purpose"] == "cleanup":
        # Nothing of it is used.
        named = ("triton_release", "triton_namespace", "triton_name_override", "triton_fullname_override")
        problems = [problem for problem in problems if any(name in problem for name in named)]
        module.params["serving"] = {}
    if module.params["serving"].get("model_volume") and "model_repository_url" in module.params["chart_values"]:
        problems.append("triton_model_volume is given and the chart's image.modelRepositoryPath too. Give one of the two.")
    if module.params["serving"]:
        problems += _serving_checks.problems(module.params["serving"])
    refuse(module, problems)
    names = _names.names(inputs["release"], inputs["name_override"] or "", inputs["fullname_override"] or "")
    api, target = _cluster.from_module(module, module.params["origin"])
    try:
        version = _cluster.version(api, target)
        refuse_for_rights(module, target, missing_rights(module, api))
        phase = _rights.namespace_phase(api, inputs["namespace"])
        owner = _rights.deployment_owner(api, inputs["namespace"], names["fullname"])
        record = _helm_record.find(api, inputs["namespace"], inputs["release"])
        wrong = [helm_problem(module, names["fullname"], owner, record)]
        if module.params["purpose"] == "adopt" and record:
            refuse_for_rights(module, target, _rights.refused(api, inputs["namespace"], _rights.for_adoption(record.manifests)))
        if module.params["purpose"] == "cleanup":
            fitting = untouched(names)
        else:
            problems += look_up(api, inputs["namespace"], names["fullname"], credentials, module.params["credentials"])
            fitting, more = look_at_serving(module, api, names, credentials)
            wrong += more
        problems += filter(None, wrong)
    except _cluster.ClusterError as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    refuse(module, problems)
    module.exit_json(
        changed=False,
        cluster={**target.public(), "version": version},
        inputs=inputs,
        credentials=credentials,
        names=names,
        deployed=owner == _secret.OWNER,
        helm=record.public() if record else {},
        namespace_exists=bool(phase),
        namespace_phase=phase,
        replicas=int(inputs["replicas"]),
        gpus=int(inputs["gpus"]),
        **fitting,
    )


if __name__ == "__main__":
    main()
