# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which playbook a task is of, and what its group_vars hide. PRIVATE to the collection."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible.vars.plugins import get_vars_from_inventory_sources


def name(task: Task) -> str:
    """Return the name of the file with the task's play, without its ending; of an imported playbook it is that one's."""
    return pathlib.Path(task.get_play().get_path().rpartition(":")[0]).stem


def hidden(root: pathlib.Path, loader: DataLoader, values: Mapping[str, object]) -> dict[str, str]:
    """Return name -> what sets it, of the inventory's variables of groups that the playbooks' own values win over.

    By Ansible's order, group_vars/all beside a playbook wins over what an inventory's files and scripts say of groups, and over group_vars/all beside
    the inventory.

    :param root: folder of the collection
    :param values: all variables of a host, not templated
    """
    own: dict[str, object] = {}
    for path in sorted((root / "playbooks" / "group_vars" / "all").glob("*.yml")):
        own |= loader.load_from_file(str(path))
    effective = {name for name, value in own.items() if name in values and values[name] == value}
    found: dict[str, str] = {}
    inventory = values["hostvars"]._inventory
    everyone = get_vars_from_inventory_sources(loader, inventory._sources, [inventory.groups["all"]], "task")
    given = [("group_vars/all beside the inventory", everyone)]
    host = inventory.get_host(values["inventory_hostname"])
    given += [(f"the group {group.name} of the inventory", group.vars) for group in host.get_groups()] if host else []
    for where, variables in given:
        found |= {name: where for name in sorted(effective & set(variables)) if variables[name] != own[name]}
    return found
