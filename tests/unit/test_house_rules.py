# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every role, module and page of this collection keeps to."""

from __future__ import annotations

import ast
import fnmatch
import pathlib
import re

import pytest
import yaml
from ansible_collections.mlserving.triton.plugins.doc_fragments import _attributes
from ansible_collections.mlserving.triton.plugins.module_utils import _version

ROOT = pathlib.Path(__file__).parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
MODULES = sorted((ROOT / "plugins" / "modules").glob("[a-z]*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
#: What `ansible-galaxy collection build` leaves out of itself.
BUILD_IGNORES_ANYWAY = (".git", "*.pyc", "__pycache__", "tests/output")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def load(*parts):
    return yaml.safe_load(ROOT.joinpath(*parts).read_text(encoding="utf-8"))


def documentation(path):
    """Return the module's blocks by name, parsed but for the examples' own meaning."""
    texts = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.targets[0], ast.Name):
            texts[node.targets[0].id] = node.value.value
    return {name: yaml.safe_load(texts[name]) for name in ("DOCUMENTATION", "EXAMPLES", "RETURN") if name in texts}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_roles_defaults_are_what_its_documentation_says(role):
    options = load(role, "meta", "argument_specs.yml")["argument_specs"]["main"]["options"]
    documented = {name: option.get("default") for name, option in options.items() if not option.get("required")}
    assert load(role, "defaults", "main.yml") == documented
    assert [name for name in options if not name.startswith(f"{role.name}_")] == []
    assert (role / "README.md").is_file()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_is_documented_whole(path):
    blocks = documentation(path)
    assert set(blocks) == {"DOCUMENTATION", "EXAMPLES", "RETURN"} and all(blocks.values())
    about = blocks["DOCUMENTATION"]
    assert about["module"] == path.stem
    shared = "mlserving.triton._attributes.read_only" in about.get("extends_documentation_fragment", [])
    attributes = (yaml.safe_load(_attributes.ModuleDocFragment.READ_ONLY) if shared else about)["attributes"]
    assert {"check_mode", "diff_mode", "idempotent"} <= set(attributes)
    for attribute in attributes.values():
        assert attribute["support"] in ("full", "partial", "none", "N/A") and attribute["description"]
        assert attribute["support"] != "partial" or attribute["details"]
    assert any(f"mlserving.triton.{path.stem}" in task for task in blocks["EXAMPLES"])


def test_the_action_group_holds_the_modules_that_act_on_a_cluster():
    extending = [
        path.stem for path in MODULES if "mlserving.triton._cluster" in documentation(path)["DOCUMENTATION"].get("extends_documentation_fragment", [])
    ]
    assert load("meta", "runtime.yml")["action_groups"]["triton"] == extending


def test_what_git_ignores_is_not_shipped():
    patterns = [*load("galaxy.yml")["build_ignore"], *BUILD_IGNORES_ANYWAY]
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    ignored = [line.strip("/").replace("*", "sample") for line in lines if line and line[0] not in "#!"]

    def ships(path):
        return not any(fnmatch.fnmatch(str(part), pattern) for part in (path, *path.parents) for pattern in patterns)

    assert ignored and [name for name in ignored if ships(pathlib.PurePath(name))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    targets = [target.partition("#")[0] for target in LINK.findall(page.read_text(encoding="utf-8")) if not re.match(r"[a-z]+:", target)]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


def test_the_version_that_modules_tell_is_the_collections():
    assert _version.VERSION == load("galaxy.yml")["version"]


@pytest.mark.parametrize("role", [role for role in ROLES if role.name in ("gpu_node", "device_plugin")], ids=lambda role: role.name)
def test_a_boolean_may_come_as_text_from_the_command_line(role):
    options = load("roles", role.name, "meta", "argument_specs.yml")["argument_specs"]["main"]["options"]
    names = "|".join(name for name, option in options.items() if option["type"] == "bool")
    bare = re.compile(rf"\b({names})\b(?! \| bool| is (true|false))")
    argument = re.compile(rf': "{{{{ ({names}) }}}}"$')  # the module converts it
    texts = {
        path: path.read_text(encoding="utf-8").splitlines() for folder in ("tasks", "vars", "templates") for path in role.glob(f"{folder}/**/*.*")
    }
    lines = [(path.name, line) for path, text in texts.items() for line in text if not ("tasks" in path.parts and argument.search(line))]
    assert [found for found in lines if bare.search(found[1])] == []
