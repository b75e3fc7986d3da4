# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare all variables of a host with what the running playbook takes."""

from __future__ import annotations

import pathlib

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars
from ansible_collections.mlserving.triton.plugins.module_utils import _arguments, _summary
from ansible_collections.mlserving.triton.plugins.plugin_utils import _playbook

ROOT = pathlib.Path(__file__).parents[2]
display = Display()


class ActionModule(ActionBase):
    """Only an action sees all variables; nothing of it runs on the host."""

    _supports_check_mode = True
    _VALID_ARGS = frozenset()

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        book, playbook = _arguments.load(ROOT), _playbook.name(self._task)
        if playbook not in book["playbooks"]:
            raise AnsibleActionFail(f"playbooks/vars/arguments.yml has no entry {playbook}: it says what a playbook takes.")
        self._forget_summary(task_vars)
        given = _arguments.Given(task_vars, frozenset(load_extra_vars(self._loader)), lambda name: self._templar.template(task_vars[name]))
        wrong, doubtful = _arguments.problems(book, playbook, given, lambda: _arguments.words(ROOT, _arguments.prefixes(book)))
        wrong += [
            f"{name} is set by {where}, where it has no effect, since the playbooks' own value wins: set it for the host, in a file group_vars/GROUP.yml "
            "beside the inventory, or on the command line."
            for name, where in _playbook.hidden(ROOT, self._loader, task_vars).items()
        ]
        wrong += _arguments.left_out(playbook, task_vars.get("ansible_skip_tags", []), task_vars.get("model_repository_layout"))
        if wrong:
            raise AnsibleActionFail("Nothing was changed. " + " ".join(wrong))
        for text in doubtful:
            display.warning(text)
        by_default, by_inventory = _arguments.assumed(book, playbook, given)
        told = {"assumed": by_default, "inventory": by_inventory}
        return {"changed": False, **told, "_ansible_verbose_always": any(told.values())}

    def _forget_summary(self, task_vars: dict) -> None:
        """Remove the summary of an earlier run, which could pass for one of this run if this one fails."""
        if path := task_vars.get("triton_output_file"):
            alone = len(task_vars["ansible_play_hosts_all"]) == 1
            _summary.path_for(str(self._templar.template(path)), task_vars["inventory_hostname"], alone).unlink(missing_ok=True)
