# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks/awx.yml asks of AWX, without an AWX: the arguments of its tasks as the modules get them."""

from __future__ import annotations

import json
import pathlib

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROOT = pathlib.Path(__file__).parents[1]


def tasks(**site: object) -> list[tuple[str, dict]]:
    """Return (module, arguments) of every task and item, in the order in which they run.

    :param site: extra variables, those of awx/settings.yml
    """
    loader = DataLoader()
    (play,) = loader.load_from_file(str(ROOT / "playbooks" / "awx.yml"), trusted_as_template=True)
    variables: dict = {"ansible_check_mode": False}
    for name in play["vars_files"]:
        variables |= loader.load_from_file(str(ROOT / "playbooks" / name), trusted_as_template=True)
    variables |= site
    found = []
    for task in play["tasks"]:
        module = next((key for key in task if key.startswith("awx.awx.")), None)
        if not module:
            continue
        for item in Templar(loader, variables=variables).template(task.get("loop", [None])):
            templar = Templar(loader, variables={**variables, "item": item})
            if templar.evaluate_conditional(task.get("when", True)):
                # Plain strings, without Ansible's own marks.
                found.append((module, json.loads(json.dumps(templar.template(task[module])))))
    return found


def of(module: str, **site: object) -> list[dict]:
    """Return the arguments of a module's tasks, such as job_template's."""
    return [arguments for name, arguments in tasks(**site) if name == f"awx.awx.{module}"]
