# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the Deployments of vars/cases.yml, run triton_rollout on each and check every word it says. Usage: run.py LAB_FILE [--record] [CASE ...]

AT_ONCE run at a time, and of Triton SERVERS. Prints for each the seconds from Kubernetes' first sign of the failure (the time of an event, a
condition, or a container's end, where the cluster tells it in whole seconds, rounded down) to the message. With --record it prints what was said.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import multiprocessing
import os
import pathlib
import re
import shutil
import sys
import tempfile
import threading
import time

import kubernetes
import yaml

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
NAMESPACE = "molecule-causes"
AT_ONCE, SERVERS = 12, 5
#: Seconds from the first sign to the message of what is certain: a few on a calm machine, and less than the 30 that what may pass is waited for.
BOUND = 25
#: For so long after the message its event may still be written.
EVENTS_LATE = datetime.timedelta(seconds=30)
#: What stands for a text that differs each time -> regular expression.
PLACES = {
    "pod": r"{name}-[0-9a-f]{{6,10}}-[a-z0-9]{{5}}",
    "id": r"[a-z0-9]+",
    "number": r"[0-9.]+",
    "log": r"[0-9]{{4}} [0-9:.]+ [0-9]+",
    "times": "(?:once|[0-9]+ times)",
    "likely": "(?:most likely )?",
    "any": r"[^\n]*?",
}
PRELOAD = [
    *("kubernetes.config", "kubernetes.client.api.core_v1_api", "kubernetes.client.api.apps_v1_api", "kubernetes.client.api_client"),
    *("yaml", "ansible.module_utils.testing", "ansible_collections.mlserving.triton.plugins.modules.triton_rollout"),
]
PATHS = {
    "Namespace": "/api/v1/namespaces",
    "RuntimeClass": "/apis/node.k8s.io/v1/runtimeclasses",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
    "ValidatingWebhookConfiguration": "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "LimitRange": "/api/v1/namespaces/{}/limitranges",
    "Event": "/api/v1/namespaces/{}/events",
    "Pod": "/api/v1/namespaces/{}/pods",
}


class Cluster:
    """Requests by kind."""

    def __init__(self, kubeconfig: str):
        self._api = kubernetes.config.new_client_from_config(kubeconfig)

    def _ask(self, method: str, path: str, body=None, missing_ok: bool = False):
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        try:
            answer = self._api.call_api(*self._api.param_serialize(method, path, header_params=headers, body=body, auth_settings=["BearerToken"]))
            content = answer.read()
        except kubernetes.client.ApiException as error:
            if missing_ok and error.status == 404:
                return {}
            raise
        if answer.status == 404 and missing_ok:
            return {}
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
        return json.loads(content)

    def create(self, thing: dict, namespace: str) -> None:
        self._ask("POST", PATHS[thing["kind"]].format(namespace), thing)

    def takes_pods(self, namespace: str, image: str) -> bool:
        """Whether a pod could be created now, or is refused only since a quota is not counted yet: it comes into force a moment after it was made."""
        spec = {"containers": [{"name": "triton", "image": image}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec}
        try:
            self._ask("POST", PATHS["Pod"].format(namespace) + "?dryRun=All", pod)
        except (RuntimeError, kubernetes.client.ApiException) as error:
            return "status unknown" in str(error)
        return True

    def delete(self, kind: str, name: str, namespace: str = "") -> None:
        policy = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        self._ask("DELETE", f"{PATHS[kind].format(namespace)}/{name}", policy, missing_ok=True)

    def items(self, kind: str, namespace: str) -> list[dict]:
        return self._ask("GET", PATHS[kind].format(namespace))["items"]

    def get(self, kind: str, name: str, namespace: str = "") -> dict:
        return self._ask("GET", f"{PATHS[kind].format(namespace)}/{name}", missing_ok=True)


def namespace_of(case: dict) -> str:
    return f"{NAMESPACE}-{case['name']}" if "namespace" in case else NAMESPACE


def objects_of(case: dict, lab: dict) -> list[dict]:
    """Return what the case consists of, the Deployment last."""
    name, found = case["name"], list(case.get("objects", []))
    labels, volumes, mounts = {"app": name}, list(case.get("pod", {}).get("volumes", [])), list(case.get("mounts", []))
    files = {"models": case.get("models"), "probe": case.get("probe")}
    for kind, content in files.items():
        if content:
            found.append(_config_map(f"{name}-{kind}", {path.replace("/", "--"): text for path, text in content.items()}))
            volumes.append({"name": kind, "configMap": {"name": f"{name}-{kind}"}})
    # Each file by itself: a mounted ConfigMap has folders of its own, which Triton would take for models.
    mounts += [{"name": "models", "mountPath": f"/models/{path}", "subPath": path.replace("/", "--")} for path in case.get("models", {})]
    container = {"name": "triton", "image": lab["front_image"], **case.get("container", {}), "resources": case.get("resources", {})}
    spec = {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False, **case.get("pod", {})}
    if "server" not in case:
        # Not ready for as long as this lasts, however long it runs before it fails.
        container.setdefault("readinessProbe", {"exec": {"command": ["false"]}, "initialDelaySeconds": 300})
    else:
        # Of some 25 failures of a probe Kubernetes tells; what a case waits for must be among them where a server starts slowly.
        probe = {"httpGet": {"path": "/v2/health/ready", "port": 8000}, "periodSeconds": 3 if "sign" in case else 1}
        if case.get("probe"):
            from ansible_collections.mlserving.triton.plugins.module_utils import _serving

            probe = {"exec": {"command": ["bash", "-c", _serving.PROBE_SCRIPT]}, "timeoutSeconds": 30, "periodSeconds": 1}
            mounts.append({"name": "probe", "mountPath": _serving.PROBE})
        container |= {
            "image": lab["triton_image"],
            "args": ["tritonserver", *case["server"]],
            "startupProbe": {**probe, "failureThreshold": 600},
            "env": [{"name": key, "value": value} for key, value in case.get("env", {}).items()],
        }
    if "fetch" in case:
        script = (ROOT / "roles/triton/files/fetch_models.py").read_text()
        found.append(_config_map(f"{name}-script", {"fetch_models.py": script}))
        volumes += [{"name": "script", "configMap": {"name": f"{name}-script"}}, {"name": "cache", "emptyDir": {}}]
        command = ["python3", "/script/fetch_models.py", f"--url={case['fetch']}", "--cache=/cache", "--link=/cache/link"]
        init = {"name": "fetch-models", "image": lab["triton_image"], "command": command, "env": _keys(lab)}
        spec["initContainers"] = [{**init, "volumeMounts": [{"name": "script", "mountPath": "/script"}, {"name": "cache", "mountPath": "/cache"}]}]
    spec["initContainers"] = [{**each, "image": each["image"].replace("<front>", lab["front_image"])} for each in spec.get("initContainers", [])]
    spec |= {"volumes": volumes, "containers": [{**container, "volumeMounts": mounts}]}
    deployment = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}
    return [*found, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": deployment}]


def _config_map(name: str, data: dict) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _keys(lab: dict) -> list[dict]:
    import configparser

    parser = configparser.ConfigParser()
    parser.read(lab["credentials_file"])
    section = parser[parser.sections()[0]]
    names = {"AWS_ACCESS_KEY_ID": "aws_access_key_id", "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key"}
    return [{"name": key, "value": section[value]} for key, value in names.items()] + [{"name": "AWS_DEFAULT_REGION", "value": "us-east-1"}]


def run_module(options: dict, path: str) -> None:
    """Run triton_rollout in a process of its own, its answer into that file."""
    from ansible.module_utils.testing import patch_module_args

    from ansible_collections.mlserving.triton.plugins.modules import triton_rollout

    with open(path, "w", encoding="utf-8") as file, contextlib.redirect_stdout(file), patch_module_args(options):
        triton_rollout.main()


def first_sign(cluster: Cluster, case: dict) -> datetime.datetime | None:
    """Return when Kubernetes first knew, as far as it is written yet."""
    name, namespace = case["name"], namespace_of(case)
    times = []
    for event in cluster.items("Event", namespace):
        ours = event["involvedObject"]["name"].startswith(f"{name}-")
        # A server that is still loading refuses connections, and a kubelet mounts again what it has not read yet; that is no sign.
        passing = "connect(ion)? refused|failed to sync|timed out waiting for the condition"
        told = re.search(case["sign"], event["message"]) if "sign" in case else not re.search(passing, event["message"])
        if ours and event["type"] == "Warning" and told:
            times.append(event.get("eventTime") or event["firstTimestamp"])
    if "sign" not in case:
        for pod in cluster.items("Pod", namespace):
            if pod["metadata"].get("labels", {}).get("app") == name:
                status = pod["status"]
                for each in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
                    times += [(each.get(key) or {}).get("terminated", {}).get("finishedAt") for key in ("state", "lastState")]
                times += [
                    each["lastTransitionTime"] for each in status.get("conditions", []) if each.get("reason") in ("Unschedulable", "SchedulerError")
                ]
        conditions = cluster.get("Deployment", name, namespace)["status"].get("conditions", [])
        times += [each["lastTransitionTime"] for each in conditions if each["type"] == "ReplicaFailure"]
    times = [datetime.datetime.fromisoformat(each) for each in times if each]
    return min(times) if times else None


def expected(case: dict) -> str:
    """Return the whole message that the case must have, as a regular expression."""
    name, namespace = case["name"], namespace_of(case)
    subject = f"pod {name}-<id>-<id>" if not case["message"].startswith("no pod can be created") else f"replicaset {name}-<id>"
    lines = [f"The rollout of deployment {name} in namespace {namespace} failed: {subject}: {case['message']}", f"What to do: {case['todo']}"]
    if case.get("log"):
        lines += [f"Last relevant lines of the log of container {case.get('log_of', 'triton')}:", *(f"  {line}" for line in case["log"])]
    pattern = re.escape("\n".join(lines))
    for place, regex in PLACES.items():
        pattern = pattern.replace(f"<{place}>", regex.format(name=name))
    return pattern


def run(case: dict, lab: dict, folder: str, slots: tuple, context) -> dict:
    """Return ``said``, the module's result, and ``seconds`` from the first sign."""
    cluster, namespace, name = Cluster(lab["kubeconfig"]), namespace_of(case), case["name"]
    with slots["server" in case or "fetch" in case]:
        *objects, deployment = objects_of(case, lab)
        for thing in objects:
            cluster.create(thing, namespace)
        while case.get("refused") and cluster.takes_pods(namespace, lab["front_image"]):
            time.sleep(0.2)
        cluster.create(deployment, namespace)
        path = os.path.join(folder, name)
        options = {"kubeconfig": lab["kubeconfig"], "namespace": namespace, "deployment": name, "timeout": 150, "log_lines": case.get("lines", 2)}
        process = context.Process(target=run_module, args=(options, path))
        process.start()
        process.join()
        now = datetime.datetime.now(datetime.timezone.utc)
        said = json.loads(pathlib.Path(path).read_text())
        sign = first_sign(cluster, case)
        # Events are written beside the pod's status, and may come after it.
        while sign is None and case.get("certain", True) and datetime.datetime.now(datetime.timezone.utc) < now + EVENTS_LATE:
            time.sleep(0.5)
            sign = first_sign(cluster, case)
        cluster.delete("Deployment", name, namespace)
    return {"said": said, "seconds": (now - sign).total_seconds() if sign else None}


def verdict(case: dict, result: dict) -> list[str]:
    """Return what is wrong with the result."""
    said, seconds, found = result["said"], result["seconds"], []
    if said.get("cause") != case.get("kind"):
        found.append(f"its cause is {said.get('cause')}, and should be {case.get('kind')}")
    if "message" not in case or not re.fullmatch(expected(case), said.get("msg", "")):
        found.append(f"it says\n{said.get('msg')}\nand should say\n{case.get('message')}\n{case.get('todo')}\n{case.get('log')}")
    if case.get("certain", True) and (seconds is None or seconds > BOUND):
        found.append(f"it took {seconds} s from the first sign, and may take {BOUND}")
    return found


def clean(cluster: Cluster, cases: list[dict]) -> None:
    """Remove everything, and wait until it is gone."""
    for case in cases:
        for thing in case.get("objects", []):
            if "{}" not in PATHS[thing["kind"]]:
                cluster.delete(thing["kind"], thing["metadata"]["name"])
    names = sorted({namespace_of(case) for case in cases})
    for name in names:
        cluster.delete("Namespace", name)
    while any(cluster.get("Namespace", name) for name in names):
        time.sleep(0.5)


def main() -> None:
    lab = yaml.safe_load(pathlib.Path(sys.argv[1]).read_text())
    record, chosen = "--record" in sys.argv, [word for word in sys.argv[2:] if not word.startswith("-")]
    cases = [case for case in yaml.safe_load((HERE / "vars" / "cases.yml").read_text())["cases"] if not chosen or case["name"] in chosen]
    context = multiprocessing.get_context("forkserver")
    # What a module imports is there before the first sign: its start is no part of what is measured.
    context.set_forkserver_preload(PRELOAD)
    warm = context.Process(target=time.sleep, args=(0,))
    warm.start()
    warm.join()
    cluster, folder, results = Cluster(lab["kubeconfig"]), tempfile.mkdtemp(), {}
    clean(cluster, cases)
    try:
        for namespace, labels in {namespace_of(case): case.get("namespace", {}) for case in cases}.items():
            cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}, "")
        for namespace in {namespace_of(case) for case in cases}:
            while not cluster.get("ServiceAccount", "default", namespace):
                time.sleep(0.1)
        # Of what runs Triton, or does not.
        slots = (threading.Semaphore(AT_ONCE - SERVERS), threading.Semaphore(SERVERS))

        def work(case: dict) -> None:
            results[case["name"]] = run(case, lab, folder, slots, context)

        threads = [threading.Thread(target=work, args=(case,)) for case in cases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        clean(cluster, cases)
        shutil.rmtree(folder)
    wrong = []
    for case in cases:
        result = results.get(case["name"])
        if record and result:
            print(f"--- {case['name']} [{result['said'].get('cause')}]\n{result['said'].get('msg')}")
        else:
            wrong += [f"{case['name']}: {word}" for word in (verdict(case, result) if result else ["it did not run"])]
        seconds = f"{result['seconds']:5.1f} s" if result and result["seconds"] is not None else "   -  "
        print(f"{seconds} {case['name']}")
    # Last, since of a failed task the last words are told.
    print(*wrong, sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
