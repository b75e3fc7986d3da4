# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the playbooks with credentials that are known here, and search all that they leave. Usage: search.py LAB_FILE

They run at the highest verbosity, with diffs, by ansible-runner as an automation controller runs them; the credentials come out of a
file that ansible-vault encrypted. Searched are the output, the runner's artifacts, cached facts, temporary files, the arguments of all
processes meanwhile, and every object of the namespace but its Secrets, events and logs too. Fails if a value stands there, plain or in
one of the usual encodings; what is printed names the place, never the value.
"""

from __future__ import annotations

import base64
import configparser
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import urllib.parse

import boto3
import kubernetes
import yaml

ROOT = pathlib.Path(__file__).parents[2]
NAMESPACE = "molecule-secrets"
#: As long as those of AWS, with what the encodings have to escape. No store knows it.
WRONG = {
    "triton_aws_access_key_id": "canary_id",
    "triton_aws_secret_access_key": 'can"ary\\key/with+every&thing%20=0123456',
    "triton_aws_session_token": "",
}
#: Name, playbook, further arguments, whether it succeeds.
RUNS = (
    ("deploy", "deploy.yml", [], True),
    ("again", "deploy.yml", [], True),
    ("rotate", "credentials.yml", [], True),
    ("refused", "credentials.yml", [], False),
    ("failing", "deploy.yml", ["-e", "triton_credentials_probe=skip", "-e", "triton_rollout_timeout=90"], False),
    ("cleanup", "cleanup.yml", ["-e", "model_repository_delete_bucket=true"], True),
)


def issue(lab: dict, keys: dict[str, str]) -> dict[str, str]:
    """Return temporary credentials of the lab's role reader as the role's variables."""
    sts = boto3.client("sts", endpoint_url=lab["s3_endpoint"], region_name="us-east-1", **keys)
    found = sts.assume_role(RoleArn="arn:aws:iam::000000000000:role/reader", RoleSessionName="triton")["Credentials"]
    return {
        "triton_aws_access_key_id": found["AccessKeyId"],
        "triton_aws_secret_access_key": found["SecretAccessKey"],
        "triton_aws_session_token": found["SessionToken"],
    }


def forms(value: str) -> dict[str, str]:
    """Return encoding -> how the value looks in it; a part of base64 is the same wherever the value begins in a longer text."""
    encoded = base64.b64encode(value.encode()).decode()
    quoted = json.dumps(value)[1:-1]
    return {
        "plain": value,
        "base64": encoded.rstrip("="),
        "base64, shifted by 1": base64.b64encode(b"=" + value.encode()).decode()[4:-4],
        "base64, shifted by 2": base64.b64encode(b"==" + value.encode()).decode()[4:-4],
        "URL-encoded": urllib.parse.quote(value, safe=""),
        "JSON": quoted,
        "JSON in JSON": json.dumps(quoted)[1:-1],
    }


class Processes(threading.Thread):
    """Writes the arguments of all processes into a file, each once, until it is told to end."""

    def __init__(self, path: pathlib.Path):
        super().__init__(daemon=True)
        self._path, self._end, self._seen = path, threading.Event(), set()

    def run(self) -> None:
        while not self._end.wait(0.02):
            for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self._seen.add(file.read_bytes())
                except OSError:
                    # It has ended meanwhile.
                    continue

    def end(self) -> int:
        """Return how many different command lines were seen."""
        self._end.set()
        self.join()
        self._path.write_bytes(b"\n".join(self._seen))
        return len(self._seen)


def vaulted(work: pathlib.Path, name: str, values: dict) -> list[str]:
    """Write variables into an encrypted file and return the arguments that read it."""
    inputs = work / "inputs"
    plain, password = inputs / f"{name}.yml", inputs / "password"
    plain.write_text(yaml.safe_dump(values), encoding="utf-8")
    subprocess.run(["ansible-vault", "encrypt", "--vault-password-file", str(password), str(plain)], check=True, capture_output=True)
    return ["--vault-password-file", str(password), "-e", f"@{plain}"]


def run(work: pathlib.Path, name: str, playbook: str, arguments: list[str], environment: dict[str, str]) -> int:
    """Run a playbook as an automation controller does; its output is one of the runner's artifacts."""
    cmdline = ["-vvvv", "--diff", "-e", "@molecule/secrets/vars/main.yml", *arguments]
    command = ["ansible-runner", "run", str(work / "runner"), "--project-dir", str(ROOT), "--playbook", f"playbooks/{playbook}", "--ident", name]
    command += ["--inventory", str(ROOT / "inventories" / "lab"), f"--cmdline={' '.join(cmdline)}"]
    (work / "output").mkdir(exist_ok=True)
    with (work / "output" / name).open("w", encoding="utf-8") as output:
        return subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False).returncode


def cluster_objects(kubeconfig: str, path: pathlib.Path) -> int:
    """Write all that the namespace holds but its Secrets, with the pods' logs; return the number of objects."""
    kubernetes.config.load_kube_config(kubeconfig)
    core, apps, batch = kubernetes.client.CoreV1Api(), kubernetes.client.AppsV1Api(), kubernetes.client.BatchV1Api()
    lists = [core.list_namespaced_pod, core.list_namespaced_service, core.list_namespaced_event, core.list_namespaced_config_map]
    lists += [apps.list_namespaced_deployment, apps.list_namespaced_replica_set, batch.list_namespaced_job, core.list_namespaced_service_account]
    found = [item for each in lists for item in json.loads(each(NAMESPACE, _preload_content=False).data)["items"]]
    pods = [item["metadata"]["name"] for item in found if item.get("status", {}).get("containerStatuses")]
    path.write_text(json.dumps(found) + "\n".join(pod_log(core, name) for name in pods), encoding="utf-8")
    return len(found)


def pod_log(core: kubernetes.client.CoreV1Api, name: str) -> str:
    """Return a pod's log; nothing when none of its containers has started, or it is gone since it was listed."""
    try:
        return core.read_namespaced_pod_log(name, NAMESPACE)
    except kubernetes.client.ApiException as error:
        if error.status in (400, 404):
            return ""
        raise


def search(folders: list[pathlib.Path], values: list[str]) -> list[str]:
    """Return the places where a value stands, in words."""
    needles = {form.encode(): f"value {number}, {name}" for number, value in enumerate(values, 1) for name, form in forms(value).items()}
    found = []
    for folder in folders:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = file.read_bytes()
            found += [f"{file}: {said}" for needle, said in needles.items() if needle in content]
    return found


def lasting(path: str) -> dict[str, str]:
    """Return the lab's own keys. Not out of the environment: Ansible puts a task's environment on a command line."""
    found = configparser.ConfigParser()
    found.read(path, encoding="utf-8")
    return {name: found["default"][name] for name in ("aws_access_key_id", "aws_secret_access_key")}


def main(lab_file: str) -> None:
    lab = yaml.safe_load(pathlib.Path(lab_file).read_text(encoding="utf-8"))
    keys = lasting(lab["credentials_file"])
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        places = [work / name for name in ("runner/artifacts", "output", "facts", "tmp", "seen")]
        for place in (*places, work / "inputs"):
            place.mkdir(parents=True)
        (work / "inputs" / "password").write_text("for this test only", encoding="utf-8")
        publisher = {f"model_repository_{name.removeprefix('aws_')}": value for name, value in keys.items()} | {"model_repository_session_token": ""}
        first, second = issue(lab, keys), issue(lab, keys)
        given = {"deploy": first, "again": first, "rotate": second, "refused": WRONG, "failing": WRONG, "cleanup": second}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment |= {"TMPDIR": str(work / "tmp"), "ANSIBLE_LOCAL_TEMP": str(work / "tmp"), "ANSIBLE_REMOTE_TEMP": str(work / "tmp" / "remote")}
        environment |= {"ANSIBLE_CACHE_PLUGIN": "jsonfile", "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(work / "facts"), "ANSIBLE_NOCOLOR": "1"}
        processes = Processes(work / "seen" / "processes")
        processes.start()
        for name, playbook, arguments, succeeds in RUNS:
            if name == "cleanup":
                objects = cluster_objects(lab["kubeconfig"], work / "seen" / "objects")
            code = run(work, name, playbook, vaulted(work, name, given[name] | publisher) + arguments, environment)
            if (code == 0) != succeeds:
                output = (work / "output" / name).read_text(encoding="utf-8")
                sys.exit(f"{name} ended with {code}: {output[-3000:]}")
        commands = processes.end()
        secret = [value for each in (first, second, WRONG) for key, value in each.items() if value and key != "triton_aws_access_key_id"]
        values = [*secret, keys["aws_secret_access_key"]]
        found = search(places, values)
        # A search that finds nothing would find a value that is there.
        (work / "seen" / "planted").write_text("".join(forms(value)["base64"] for value in values), encoding="utf-8")
        if len(search([work / "seen"], values)) < len(values):
            sys.exit("The search does not find what is there.")
        files = sum(path.is_file() for place in places for path in place.rglob("*"))
        if found:
            sys.exit("\n".join([f"{len(found)} places show a credential:", *found[:50]]))
        print(f"No credential in {files} files, {commands} command lines and {objects} objects of the cluster.")


if __name__ == "__main__":
    main(*sys.argv[1:])
