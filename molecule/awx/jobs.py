# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run every job template against the lab as AWX would run it. Usage: jobs.py LAB_FILE VARIABLES_FILE

The project is a copy of the checkout that has been synchronised as AWX does; it must be the same afterwards. Fails with the first job that
does not end as it should.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import boto3
import kubernetes
import yaml

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(pathlib.Path(__file__).parent)]
import awx_data  # noqa: E402
import controller  # noqa: E402

NAMESPACE, OTHER = "molecule-awx", "other-models"
KUBECONFIG, KEYS, AWS, TOKEN = "Triton kubeconfig", "Triton S3 keys", "Amazon Web Services", "OpenShift or Kubernetes API Bearer Token"


class Jobs:
    """The jobs of one release, each in the same folder."""

    def __init__(self, work: pathlib.Path, site: dict):
        self._work, self._number, self._secrets = work, 0, []
        self._templates = {template["name"]: template for template in awx_data.of("job_template", **site)}
        self._types = {kind["name"]: kind for kind in awx_data.of("credential_type")}
        self.untried = set(self._templates)
        self._groups, self._hosts = awx_data.of("group", **site), awx_data.of("host", **site)
        for name in ("inventory", "env"):
            (work / name).mkdir()

    def keep_secret(self, *values: str) -> None:
        self._secrets += values

    def _write_inventory(self, without: tuple[str, ...]) -> None:
        hosts = [{**host, "variables": {key: value for key, value in host["variables"].items() if key not in without}} for host in self._hosts]
        script = self._work / "inventory" / "hosts"
        script.write_text(controller.inventory_script(self._groups, hosts), encoding="utf-8")
        script.chmod(0o700)

    def run(
        self,
        name: str,
        credentials: dict,
        says: str,
        *,
        answers: dict | None = None,
        unchecked: dict | None = None,
        check=False,
        fails=False,
        without=(),
    ) -> None:
        """Run a job; exit if it ends otherwise than it should, or does not say what it should.

        :param credentials: inputs by the credential's type
        :param unchecked: answers that AWX would not have taken
        :param without: variables that the hosts of this job's inventory lack
        """
        self._number += 1
        self._write_inventory(without)
        template, began, env = self._templates[name], time.monotonic(), {}
        variables = {**controller.extra_vars(template, answers or {}), **(unchecked or {})}
        for kind, inputs in credentials.items():
            controller.inject(self._work, self._types.get(kind, kind), inputs, env)
        arguments = ["--limit", "triton_canaries", *(["--check", "--diff"] if check else [])]
        code, output = controller.run(self._work, self._number, template, variables, env=env, arguments=arguments)
        plain = re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", output))
        if (code != 0) != fails or says not in plain:
            sys.exit(f"{name} ended with {code}, and should have {'failed' if fails else 'succeeded'} and said {says!r}:\n{output[-6000:]}")
        if any(secret in output for secret in self._secrets):
            sys.exit(f"{name} shows a credential.")
        print(f"{name}{', check' * check}{', refused' * fails}: {time.monotonic() - began:.0f} s")
        if not fails:
            self.untried.discard(name)


def synchronised(work: pathlib.Path) -> pathlib.Path:
    """Return a copy of the checkout, after what AWX does when it updates a project."""
    project = work / "project"
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\0"
    )
    for name in filter(None, listed):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, project / name, follow_symlinks=False)
    command = ["ansible-galaxy", "collection", "install", "-r", "collections/requirements.yml", "-p", str(work / "requirements_collections")]
    subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    for path in [project, *project.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
    return project


def content(project: pathlib.Path) -> dict[str, str]:
    """Return path -> digest of every file but compiled Python."""
    files = [path for path in project.rglob("*") if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts]
    return {str(path.relative_to(project)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def cluster(path: str) -> tuple[dict, str, str]:
    """Return the lab's kubeconfig with the context canary, its API server and its certificate."""
    config = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
    config["contexts"] = [{**config["contexts"][0], "name": "canary"}]
    config["current-context"] = ""
    found = config["clusters"][0]["cluster"]
    return config, found["server"], base64.b64decode(found["certificate-authority-data"]).decode()


def token(kubeconfig: str) -> str:
    """Return a token of a service account that may work in the namespace, and nowhere else. It goes with the namespace."""
    kubernetes.config.load_kube_config(kubeconfig)
    core, rights = kubernetes.client.CoreV1Api(), kubernetes.client.RbacAuthorizationV1Api()
    forget(kubeconfig)
    core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": "awx"}})
    binding = {"metadata": {"name": "awx"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"}}
    binding["subjects"] = [{"kind": "ServiceAccount", "name": "awx", "namespace": NAMESPACE}]
    rights.create_namespaced_role_binding(NAMESPACE, binding)
    return core.create_namespaced_service_account_token("awx", NAMESPACE, {"spec": {"expirationSeconds": 600}}).status.token


def forget(kubeconfig: str) -> None:
    """Remove what token made: it is not the release's, and would keep the namespace."""
    kubernetes.config.load_kube_config(kubeconfig)
    core, rights = kubernetes.client.CoreV1Api(), kubernetes.client.RbacAuthorizationV1Api()
    for delete in (core.delete_namespaced_service_account, rights.delete_namespaced_role_binding):
        try:
            delete("awx", NAMESPACE)
        except kubernetes.client.ApiException as error:
            if error.status != 404:
                raise


def unload(lab: dict, keys: dict) -> None:
    """Remove the models of the second release, which the job does not know of."""
    given = {f"aws_{name}": value for name, value in keys.items()}
    bucket = boto3.resource("s3", endpoint_url=lab["s3_endpoint"], region_name="us-east-1", **given).Bucket(NAMESPACE)
    for item in bucket.objects.filter(Prefix=f"{OTHER}/"):
        item.delete()


def main(lab_file: str, variables_file: str) -> None:
    lab = yaml.safe_load(pathlib.Path(lab_file).read_text(encoding="utf-8"))
    variables = json.loads(pathlib.Path(variables_file).read_text(encoding="utf-8"))
    site = {"triton_awx_variables": variables, "triton_awx_models_folder": "examples/models"}
    parser = configparser.ConfigParser()
    parser.read(lab["credentials_file"], encoding="utf-8")
    lasting = {name: parser["default"][f"aws_{name}"] for name in ("access_key_id", "secret_access_key")}
    sts = boto3.client("sts", endpoint_url=lab["s3_endpoint"], region_name="us-east-1", **{f"aws_{name}": value for name, value in lasting.items()})
    issued = sts.assume_role(RoleArn="arn:aws:iam::000000000000:role/reader", RoleSessionName="triton")["Credentials"]
    reader = {"access_key_id": issued["AccessKeyId"], "secret_access_key": issued["SecretAccessKey"], "session_token": issued["SessionToken"]}
    config, server, certificate = cluster(lab["kubeconfig"])
    named = {KUBECONFIG: {"kubeconfig": yaml.safe_dump(config)}}
    keys = {**named, KEYS: {**lasting, "region": "us-east-1"}}
    url = variables["model_repository_url"]
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        project = synchronised(work)
        before, jobs = content(project), Jobs(work, site)
        jobs.keep_secret(lasting["secret_access_key"], reader["secret_access_key"], reader["session_token"])

        jobs.run("Triton deploy", {KEYS: keys[KEYS]}, "named by the inventory variable triton_context of host canary, does not exist", fails=True)
        builtin = {**named, AWS: {"username": lasting["access_key_id"], "password": lasting["secret_access_key"]}}
        jobs.run("Triton deploy", builtin, "An AWS credential of an automation controller sets no region", fails=True)
        jobs.run("Triton deploy", keys, "is 'four'; allowed is a whole number", unchecked={"replicaCount": "four"}, fails=True)

        jobs.run("Triton models", keys, "simple", answers={"model_repository_source": "examples/models"})
        jobs.run("Triton deploy", keys, "check mode, nothing was changed", check=True)
        jobs.run("Triton deploy", keys, "1 replica, each one verified", answers={"namespace": "", "image_name": ""})
        jobs.run(
            "Triton deploy",
            keys,
            "each one verified",
            answers={"model_repository_path": url.replace("/models", f"/{OTHER}"), "replicaCount": 1, "gpu_count": 0},
        )
        jobs.run("Triton verify", keys, "each one verified")
        jobs.run("Triton history", keys, OTHER)
        jobs.run("Triton scale", keys, "2 replicas", answers={"replicaCount": 2})
        jobs.run("Triton model", keys, "simple", answers={"model": "simple", "model_state": "unloaded"}, check=True)
        jobs.run("Triton model", keys, "simple", answers={"model": "simple"})
        jobs.run("Triton credentials", {**named, KEYS: {**reader, "region": "us-east-1"}}, "new credentials, each replica verified")
        jobs.run("Triton rollback", keys, "each one verified")
        secret = token(lab["kubeconfig"])
        jobs.keep_secret(secret)
        bearer = {"host": server, "bearer_token": secret, "verify_ssl": True, "ssl_ca_cert": certificate}
        try:
            jobs.run("Triton status", {TOKEN: bearer}, "named by the environment (K8S_AUTH_HOST)", without=("triton_context",))
        finally:
            forget(lab["kubeconfig"])
        jobs.run("Triton benchmark", keys, "simple", answers={"model": "simple", "concurrency": "1", "seconds": 1})
        jobs.run("Triton cleanup", keys, "Would remove Deployment", check=True)
        unload(lab, lasting)
        jobs.run("Triton cleanup", keys, "Removed bucket", answers={"model_repository_delete_bucket": "true"})

        if jobs.untried:
            sys.exit(f"No job was run of {', '.join(sorted(jobs.untried))}.")
        if content(project) != before:
            sys.exit(f"The jobs changed the project: {sorted(content(project).items() ^ before.items())}")


if __name__ == "__main__":
    main(*sys.argv[1:])
