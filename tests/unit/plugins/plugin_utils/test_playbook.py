# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of an inventory that the playbooks' own group_vars hide, by Ansible's own inventory and order."""

from __future__ import annotations

import pathlib

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible_collections.mlserving.triton.plugins.plugin_utils import _playbook

OWN = "model_repository_url: s3://ours/models\nmodel_repository_region: \"{{ region | default('') }}\"\n"


@pytest.fixture(name="hidden")
def fixture_hidden(tmp_path: pathlib.Path):
    """Return a function: the inventory's files, and what a host has before the playbook's own -> what is hidden."""

    def find(files: dict[str, str], **more: object) -> dict[str, str]:
        for name, text in {"site/playbooks/group_vars/all/defaults.yml": OWN, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        loader = DataLoader()
        inventory = InventoryManager(loader=loader, sources=[str(tmp_path / "inventory" / "hosts.yml")])
        manager = VariableManager(loader=loader, inventory=inventory, version_info={})
        values = manager.get_vars(host=inventory.get_host("lab"), include_hostvars=False)
        # What Ansible does with the group_vars beside a playbook, where they win.
        own = loader.load_from_file(str(tmp_path / "site/playbooks/group_vars/all/defaults.yml"))
        values |= own | more | {"hostvars": HostVars(inventory, manager, loader)}
        return _playbook.hidden(tmp_path / "site", loader, values)

    return find


def hosts(variables: str) -> dict[str, str]:
    return {"inventory/hosts.yml": f"triton_clusters: {{hosts: {{lab: {{}}}}, vars: {variables}}}\n"}


def test_a_variable_of_a_group_is_hidden(hidden):
    assert hidden(hosts("{model_repository_url: s3://theirs, triton_gpus: 1}")) == {
        "model_repository_url": "the group triton_clusters of the inventory"
    }


def test_group_vars_all_beside_the_inventory_is_hidden(hidden):
    files = {**hosts("{}"), "inventory/group_vars/all.yml": "model_repository_region: eu-west-1\n"}
    assert hidden(files) == {"model_repository_region": "group_vars/all beside the inventory"}


def test_what_wins_is_not_hidden(hidden):
    assert hidden(hosts("{model_repository_url: s3://theirs}"), model_repository_url="s3://of-the-host") == {}


def test_the_same_value_is_not_hidden(hidden):
    assert hidden(hosts("{model_repository_url: s3://ours/models}")) == {}
