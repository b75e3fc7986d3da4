"""The collection's names resolve in the three ways in which people get it.

Each test runs a playbook without any cluster: the answer that no cluster is named comes out of the collection's own module,
called by its own role, so playbook, role, module and module_utils were all found.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
UNNAMED = {"PATH": os.environ["PATH"], "HOME": "", "LANG": "C.UTF-8"}


def run(*command, cwd, **environment):
    return subprocess.run(command, cwd=cwd, env=UNNAMED | environment, capture_output=True, text=True, check=False)


def assert_no_cluster(done):
    assert "no cluster is named" in re.sub(r"\s+", " ", done.stdout + done.stderr), done.stdout + done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The files that a clone has, committed or not yet."""
    target = tmp_path_factory.mktemp("clone") / "any-name"
    listed = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout
    target.mkdir()
    subprocess.run(["tar", "-cf", str(target) + ".tar", "-T", "-"], cwd=ROOT, input=listed, text=True, check=True)
    subprocess.run(["tar", "-xf", str(target) + ".tar"], cwd=target, check=True)
    return target


@pytest.fixture(scope="module")
def installed(checkout, tmp_path_factory):
    """A folder of collections that the built artifact was installed in."""
    target = tmp_path_factory.mktemp("installed")
    built = run("ansible-galaxy", "collection", "build", "--output-path", str(target), cwd=checkout, HOME=str(target))
    assert built.returncode == 0, built.stderr
    artifact = str(next(target.glob("*.tar.gz")))
    done = run("ansible-galaxy", "collection", "install", "--no-deps", "-p", str(target / "collections"), artifact, cwd=target, HOME=str(target))
    assert done.returncode == 0, done.stderr
    return target / "collections"


def test_from_a_plain_checkout_by_path(checkout, tmp_path):
    assert_no_cluster(run("ansible-playbook", "playbooks/deploy.yml", "-i", "localhost,", cwd=checkout, HOME=str(tmp_path)))


def test_from_a_plain_checkout_by_name(checkout, tmp_path):
    assert_no_cluster(run("ansible-playbook", "mlserving.triton.deploy", "-i", "localhost,", cwd=checkout, HOME=str(tmp_path)))


def test_installed(installed, tmp_path):
    done = run("ansible-playbook", "mlserving.triton.deploy", "-i", "localhost,", cwd=tmp_path, HOME=str(tmp_path), ANSIBLE_COLLECTIONS_PATH=str(installed))
    assert_no_cluster(done)


def sync(project, requirements, home):
    """Install as a controller's project update does: ansible-galaxy in the project's folder, into a folder of its own."""
    done = run("ansible-galaxy", "collection", "install", "-r", "collections/requirements.yml", "-p", str(requirements), cwd=project, HOME=str(home))
    assert done.returncode == 0, done.stderr


def test_as_an_automation_controllers_project(checkout, tmp_path):
    requirements = tmp_path / "requirements_collections"
    sync(checkout, requirements, tmp_path)
    # A job puts the folder of the update before the path in the project's ansible.cfg.
    path = f"{requirements}:./collections"
    done = run("ansible-playbook", "playbooks/deploy.yml", "-i", "localhost,", cwd=checkout, HOME=str(tmp_path), ANSIBLE_COLLECTIONS_PATH=path)
    assert_no_cluster(done)


def test_as_a_requirement_of_an_automation_controllers_project(checkout, tmp_path):
    project, requirements = tmp_path / "project", tmp_path / "requirements_collections"
    (project / "collections").mkdir(parents=True)
    (project / "collections" / "requirements.yml").write_text(f"collections: [{{name: {checkout}, type: dir}}]\n", encoding="utf-8")
    (project / "site.yml").write_text("- import_playbook: mlserving.triton.deploy\n", encoding="utf-8")
    sync(project, requirements, tmp_path)
    done = run("ansible-playbook", "site.yml", "-i", "localhost,", cwd=project, HOME=str(tmp_path), ANSIBLE_COLLECTIONS_PATH=str(requirements))
    assert_no_cluster(done)


def test_the_artifact_holds_nothing_that_was_generated(installed):
    content = {path.name for path in (installed / "ansible_collections/mlserving/triton").iterdir()}
    assert not content & {".lab", ".venv", ".git", ".cache", "collections", ".ci", "build"}
    assert {"plugins", "roles", "playbooks", "README.md", "LICENSE", "MANIFEST.json"} <= content
