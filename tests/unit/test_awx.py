# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What awx/ asks of AWX is what its modules take, and what the surveys ask is what the playbooks take."""

from __future__ import annotations

import importlib
import json
import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.awx.awx.plugins.module_utils.controller_api import ControllerAPIModule

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
import awx_data  # noqa: E402

SITE = {"triton_awx_access_key_id": "id", "triton_awx_webhook_url": "https://example.com/hook"}
TASKS = awx_data.tasks(**SITE)
TEMPLATES = awx_data.of("job_template", **SITE)
BOOK = yaml.safe_load((ROOT / "playbooks" / "vars" / "arguments.yml").read_text(encoding="utf-8"))
#: Type of a survey question -> types of an option that it fits. AWX has no question for a list or a boolean: text is split at commas.
FITTING = {
    "text": {"str", "path", "list"},
    "integer": {"int"},
    "float": {"float"},
    "multiplechoice": {"str", "bool"},
}
#: What the job templates' own extra variables make of an answer, by the question's variable.
NESTED = {"image_name": ("imageName", "str"), "model_repository_path": ("modelRepositoryPath", "str"), "gpu_count": ("numGpus", "int")}


def read(*parts):
    return yaml.safe_load(ROOT.joinpath(*parts).read_text(encoding="utf-8"))


def role_options():
    return {
        name: option
        for role in ("triton", "model_repository")
        for name, option in read("roles", role, "meta", "argument_specs.yml")["argument_specs"]["main"]["options"].items()
    }


def named(module):
    return {arguments["name"] for name, arguments in TASKS if name == f"awx.awx.{module}"}


def questions(template):
    return {question["variable"]: question for question in template["survey_spec"]["spec"]}


def asked():
    return [
        pytest.param(template, question, id=f"{template['name']}-{question['variable']}")
        for template in TEMPLATES
        for question in template["survey_spec"]["spec"]
    ]


class Specification(Exception):
    """Carries what a module would have given to AnsibleModule."""


@pytest.mark.parametrize(
    ("module", "arguments"), TASKS, ids=lambda value: value if isinstance(value, str) else value.get("name", value.get("identifier"))
)
def test_the_modules_take_the_arguments(module, arguments, monkeypatch):
    def give(self, argument_spec, **ignored):
        raise Specification({**argument_spec, **self.AUTH_ARGSPEC}, ignored)

    monkeypatch.setattr(ControllerAPIModule, "__init__", give)
    with pytest.raises(Specification) as given:
        importlib.import_module(f"ansible_collections.awx.awx.plugins.modules.{module.rpartition('.')[2]}").main()
    assert ArgumentSpecValidator(given.value.args[0]).validate(arguments).error_messages == []


def test_what_is_referred_to_is_there():
    templates = named("job_template")
    for template in TEMPLATES:
        assert set(template["credentials"]) <= {each["name"] for each in read_credentials()} and template["inventory"] in named("inventory")
        assert template["project"] in named("project") and template["execution_environment"] in named("execution_environment")
        assert set(template["notification_templates_error"]) == named("notification_template") and (ROOT / template["playbook"]).is_file()
    assert {each["unified_job_template"] for module, each in TASKS if module.endswith(("_node", "schedule"))} <= templates
    assert {each["credential_type"] for module, each in TASKS if module == "awx.awx.credential"} <= named("credential_type")


def read_credentials():
    return awx_data.of("credential", **SITE, triton_awx_kubeconfig=str(ROOT / "galaxy.yml"))


def test_a_node_comes_after_those_that_follow_it():
    there = set()
    for node in awx_data.of("workflow_job_template_node"):
        assert {*node["success_nodes"], *node["failure_nodes"]} <= there
        there.add(node["identifier"])


def test_nothing_is_put_back_after_a_deployment_that_put_itself_back():
    nodes = {node["identifier"]: node for node in awx_data.of("workflow_job_template_node")}
    for node in nodes.values():
        after = {nodes[name]["unified_job_template"] for name in node["failure_nodes"]}
        assert after == ({"Triton rollback"} if node["unified_job_template"] == "Triton verify" else set())


def test_an_answer_to_the_workflow_is_an_answer_to_its_jobs():
    (workflow,) = awx_data.of("workflow_job_template")
    (deploy,) = (template for template in TEMPLATES if template["name"] == "Triton deploy")
    for variable, question in questions(workflow).items():
        assert questions(deploy)[variable] == question


def test_every_group_has_its_hosts_and_everybody_the_clusters_group():
    groups = {group["name"]: group for group in awx_data.of("group")}
    hosts = {host["name"] for host in awx_data.of("host")}
    assert set(groups["triton_clusters"]["hosts"]) == hosts and set(groups["triton_canaries"]["hosts"]) < hosts


@pytest.mark.parametrize(("template", "question"), asked())
def test_a_question_is_one_that_awx_takes(template, question):
    assert {"question_name", "question_description", "required", "type", "variable"} <= set(question) and isinstance(question["required"], bool)
    assert ("choices" in question) == (question["type"] == "multiplechoice")
    # AWX drops a default of another type without a word.
    kinds = {"text": str, "integer": int, "float": (int, float), "multiplechoice": str}
    if "default" in question:
        assert isinstance(question["default"], kinds[question["type"]]) and not isinstance(question["default"], bool)
        assert question["default"] in question.get("choices", [question["default"]])
    assert all(isinstance(question[bound], int) for bound in ("min", "max") if bound in question)


def option_of(template, variable):
    """Return (option that an answer sets, whether it is the public chart's); fails if the playbook takes no such variable."""
    entry = BOOK["playbooks"][pathlib.Path(template["playbook"]).stem]
    chart = BOOK["chart"]["options"] if entry["chart"] else {}
    if variable in NESTED:
        key, kind = NESTED[variable]
        assert variable in template["extra_vars"]["image"][key], f"{template['name']} asks for {variable} and makes nothing of it"
        assert chart["image"]["options"][key]["type"] == kind
        return chart["image"]["options"][key], True
    roles = {
        name: option
        for role in entry["roles"]
        for name, option in read("roles", role, "meta", "argument_specs.yml")["argument_specs"]["main"]["options"].items()
    }
    taken = {**roles, **chart, **entry.get("options", {})}
    assert variable in taken, f"{template['playbook']} takes no {variable}"
    return taken[variable], variable in chart


@pytest.mark.parametrize(("template", "question"), asked())
def test_a_question_asks_for_what_the_playbook_takes(template, question):
    option, of_the_chart = option_of(template, question["variable"])
    assert option["type"] in FITTING[question["type"]]
    if question["type"] == "multiplechoice":
        assert question["choices"] == option.get("choices", ["false", "true"])
    if "default" in question:
        kinds = {"list": lambda text: [int(part) for part in text.split(",")], "bool": lambda text: text == "true"}
        assert kinds.get(option["type"], lambda same: same)(question["default"]) == option["default"]
    # The page of AWX sends an empty text where nothing was answered. To the chart's keys that is nothing given.
    assert question["required"] or of_the_chart


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template["name"])
def test_what_a_playbook_needs_is_asked_for(template):
    entry = BOOK["playbooks"][pathlib.Path(template["playbook"]).stem]
    needed = [[name] for name, option in entry.get("options", {}).items() if option.get("required")] + entry.get("required_one_of", [])
    for names in needed:
        assert any(questions(template).get(name, {}).get("required") for name in names), f"one of {names}"


def test_the_settings_are_those_that_are_documented():
    documented = {name: option["default"] for name, option in BOOK["playbooks"]["awx"]["options"].items()}
    assert read("awx", "settings.yml") == documented


def test_inventory_variables_are_variables_of_the_roles():
    variables = {name for host in awx_data.of("host") for name in host["variables"] if not name.startswith("ansible_")}
    assert variables and variables <= set(role_options())


def test_what_is_secret_is_a_secret_field():
    for kind in awx_data.of("credential_type"):
        fields = {field["id"]: field for field in kind["inputs"]["fields"]}
        assert {name for name, field in fields.items() if field.get("secret")} >= set(fields) & {"kubeconfig", "secret_access_key", "session_token"}
        assert set(kind["inputs"]["required"]) <= set(fields) and set(kind["injectors"]) <= {"env", "file"}
        mentioned = set(re.findall(r"{{ (\w+) }}", json.dumps(kind["injectors"])))
        assert mentioned == set(fields)
    assert not any(question["type"] == "password" for template in TEMPLATES for question in template["survey_spec"]["spec"])


def test_every_job_can_look_ahead_and_takes_what_the_workflow_limits():
    assert all(template["ask_job_type_on_launch"] and template["ask_limit_on_launch"] and template["survey_enabled"] for template in TEMPLATES)


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """What ansible-builder makes of the definition."""
    target = tmp_path_factory.mktemp("context")
    command = [sys.executable, "-m", "ansible_builder", "create", "-f", "awx/execution-environment.yml", "-c", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def test_the_execution_environment_has_what_the_collection_needs(context):
    wanted = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert (context / "_build" / "requirements.txt").read_text(encoding="utf-8") == wanted
    collections = yaml.safe_load((context / "_build" / "requirements.yml").read_text(encoding="utf-8"))["collections"]
    assert {each["name"]: each["version"] for each in collections}.items() >= read("galaxy.yml")["dependencies"].items()


def test_the_execution_environments_recipe(context):
    (recipe,) = (path for path in context.iterdir() if path.is_file())
    text = recipe.read_text(encoding="utf-8")
    assert "FROM $EE_BASE_IMAGE" in text and 'ARG PYCMD="/usr/bin/python3.12"' in text.replace("'", '"')
    assert "ansible-core>=2.19,<2.22" in text and "ansible-runner>=2.4,<3" in text
