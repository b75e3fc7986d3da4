# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what a playbook did, as text or as JSON."""

from __future__ import annotations

import json

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.mlserving.triton.plugins.module_utils import _summary
from ansible_collections.mlserving.triton.plugins.plugin_utils import _playbook

display = Display()
SPEC = {"text": {"type": "str", "required": True}, "facts": {"type": "dict", "default": {}}}


class ActionModule(ActionBase):
    """Nothing of it runs on the host."""

    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        arguments = self.validate_argument_spec(SPEC)[1]
        host, check = task_vars["inventory_hostname"], self._task.check_mode
        assumed = (task_vars.get("triton_arguments") or {}).get("assumed") or {}
        summary = _summary.build(_playbook.name(self._task), host, check, arguments["text"], arguments["facts"], assumed)
        line = json.dumps(summary, ensure_ascii=False, sort_keys=False)
        if path := self._value(task_vars, "triton_output_file"):
            try:
                _summary.write(_summary.path_for(path, host, len(task_vars["ansible_play_hosts_all"]) == 1), line + "\n")
            except OSError as error:
                raise AnsibleActionFail(f"The summary cannot be written: triton_output_file is {path!r}: {error.strerror}.") from error
        if self._value(task_vars, "triton_output") != "json":
            return {"changed": False, "msg": arguments["text"], "_ansible_verbose_always": True}
        # Other callbacks make the standard output a document of their own, with the results in it.
        if C.DEFAULT_STDOUT_CALLBACK.rpartition(".")[2] not in ("json", "jsonl"):
            display.display(line)
        return {"changed": False, "summary": summary}

    def _value(self, task_vars: dict, name: str) -> str:
        return str(self._templar.template(task_vars.get(name) or ""))
