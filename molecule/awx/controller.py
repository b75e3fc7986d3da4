# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job as AWX makes one, without an AWX: the survey's answers, the files of ansible-runner, the environment of the container.

The credentials' injectors are AWX's own (awx-plugins-core). That of the survey and of env/extravars follows AWX's sources:
awx/main/models/mixins.py (SurveyJobTemplateMixin), awx/main/utils/safe_yaml.py, awx/main/tasks/jobs.py.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import types

import yaml
from awx_plugins.credentials import plugins
from awx_plugins.interfaces import _temporary_private_container_api as container
from awx_plugins.interfaces import _temporary_private_credential_api as credential_api
from awx_plugins.interfaces import _temporary_private_inject_api as inject_api

#: Types that AWX brings.
MANAGED = {"Amazon Web Services": plugins.aws, "OpenShift or Kubernetes API Bearer Token": plugins.kubernetes_bearer_token}
TYPES = {"text": str, "textarea": str, "password": str, "integer": int, "float": (int, float), "multiplechoice": str, "multiselect": list}


class Refused(Exception):
    """AWX does not start the job; the text says which answer is wrong."""


class _UnsafeStrings(yaml.SafeDumper):
    def represent_data(self, data):
        return self.represent_scalar("!unsafe", data) if isinstance(data, str) else super().represent_data(data)


def wrong(question: dict, value: object) -> str:
    """Return what AWX says of an answer, empty if it takes it."""
    kind, name = question["type"], question["variable"]
    if isinstance(value, bool) or not isinstance(value, TYPES[kind]):
        return f"Value {value} for '{name}' expected to be {kind}"
    size = value if kind in ("integer", "float") else len(value)
    if kind != "multiplechoice" and question.get("min") is not None and size < question["min"]:
        return f"'{name}' value {value} is too small"
    if kind != "multiplechoice" and question.get("max") is not None and size > question["max"]:
        return f"'{name}' value {value} is too large"
    if kind == "multiplechoice" and value not in question["choices"]:
        return f"Value {value} for '{name}' expected to be one of {question['choices']}"
    return ""


def extra_vars(template: dict, answers: dict) -> dict:
    """Return a job's extra variables; a default that is wrong is dropped without a word, as AWX does.

    :raises Refused: an answer is missing or wrong, or nobody asked for it
    """
    questions = {question["variable"]: question for question in template["survey_spec"]["spec"]}
    defaults = {name: each["default"] for name, each in questions.items() if "default" in each and not wrong(each, each["default"])}
    unasked = answers.keys() - questions.keys()
    missing = [name for name, each in questions.items() if each["required"] and name not in {**defaults, **answers}]
    problems = [problem for name, value in answers.items() if name in questions and (problem := wrong(questions[name], value))]
    problems += [f"{name} is not asked for" for name in sorted(unasked)] + [f"'{name}' value missing" for name in missing]
    if problems:
        raise Refused("; ".join(problems))
    return {**template["extra_vars"], **defaults, **answers}


def written(variables: dict, template: dict) -> str:
    """Return env/extravars: every string is unsafe but what the job template itself says."""
    texts = []
    for name, value in variables.items():
        safe = template["extra_vars"].get(name) == value
        texts.append(yaml.dump({name: value}, Dumper=yaml.SafeDumper if safe else _UnsafeStrings, default_flow_style=False))
    return "".join(texts)


def inject(private: pathlib.Path, kind: dict | str, inputs: dict, env: dict) -> None:
    """Add a credential to the environment of a job, and the files that it needs to the job's folder.

    :param kind: arguments of awx.awx.credential_type, or the name of a type that AWX brings
    """
    if isinstance(kind, dict):
        kind = types.SimpleNamespace(managed=False, inputs=kind["inputs"], injectors=kind["injectors"], custom_injectors=None)
    else:
        kind = MANAGED[kind]
    # The folder is where a container would have /runner.
    container.CONTAINER_ROOT = str(private)
    inject_api.inject_credential(kind, credential_api.Credential(inputs), env, {}, [], str(private))


def inventory_script(groups: list[dict], hosts: list[dict]) -> str:
    """Return inventory/hosts, the program that AWX writes.

    :param groups: arguments of awx.awx.group; ``hosts`` those of awx.awx.host
    """
    data = {group["name"]: {"hosts": group["hosts"]} for group in groups}
    data["_meta"] = {"hostvars": {host["name"]: {**host["variables"], "remote_tower_enabled": "true"} for host in hosts}}
    return f"#! /usr/bin/env python3\n# -*- coding: utf-8 -*-\nprint({json.dumps(data)!r})\n"


def facts(number: int, template: dict) -> dict:
    """Return the variables that AWX adds to every job."""
    values = {"job_id": number, "job_launch_type": "manual", "job_template_id": 7, "job_template_name": template["name"]}
    values |= {"project_revision": "0" * 40, "project_scm_branch": "", "user_id": 1, "user_name": "admin", "user_email": "", "user_first_name": ""}
    values |= {"user_last_name": "", "inventory_id": 2, "inventory_name": template["inventory"], "execution_node": "node"}
    return {f"{prefix}_{name}": value for prefix in ("awx", "tower") for name, value in values.items()}


def run(private: pathlib.Path, number: int, template: dict, variables: dict, *, env: dict, arguments: list[str]) -> tuple[int, str]:
    """Run a job in a folder that has project/, requirements_collections/, inventory/ and env/; return (code, output).

    :param arguments: of ansible-playbook, such as --check
    """
    home = private / "home"
    home.mkdir(exist_ok=True)
    given = {
        "ANSIBLE_FORCE_COLOR": "True",
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_COLLECTIONS_PATH": f"{private}/requirements_collections:./collections:~/.ansible/collections:/usr/share/ansible/collections",
        "AWX_PRIVATE_DATA_DIR": str(private),
        "INVENTORY_HOSTVARS": "True",
        "JOB_ID": str(number),
        # As in a pod, whose own cluster is another one.
        "KUBERNETES_SERVICE_HOST": "192.0.2.1",
        "KUBERNETES_SERVICE_PORT": "443",
        **env,
    }
    (private / "env" / "envvars").write_text(json.dumps(given), encoding="utf-8")
    (private / "env" / "cmdline").write_text(" ".join(arguments), encoding="utf-8")
    (private / "env" / "extravars").write_text(written({**variables, **facts(number, template)}, template), encoding="utf-8")
    command = [
        "ansible-runner",
        "run",
        str(private),
        "--playbook",
        template["playbook"],
        "--ident",
        str(number),
        "--inventory",
        f"{private}/inventory/hosts",
    ]
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    done = subprocess.run(command, cwd=private, env=surroundings, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
