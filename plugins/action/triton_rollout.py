# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module of this name and show, while it waits, the lines on its progress that it appends to a file."""

from __future__ import annotations

import os
import tempfile
import threading

from ansible import constants as C
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()
#: Seconds between two looks at the file.
LOOK = 0.5


class ActionModule(ActionBase):
    """Shows progress where the module runs on this machine and as this user; elsewhere it only runs the module."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        if not self._can_show():
            wrap_async = self._task.async_val and not self._connection.has_native_async
            return self._execute_module(task_vars=task_vars, wrap_async=wrap_async)
        handle, path = tempfile.mkstemp(prefix="rollout-", dir=C.DEFAULT_LOCAL_TMP)
        os.close(handle)
        host, done = (task_vars or {}).get("inventory_hostname", ""), threading.Event()
        reader = threading.Thread(target=_show, args=(path, host, done), daemon=True)
        reader.start()
        try:
            self._task.environment = [*(self._task.environment or []), {"TRITON_ROLLOUT_PROGRESS": path}]
            return self._execute_module(task_vars=task_vars)
        finally:
            done.set()
            reader.join()
            os.unlink(path)

    def _can_show(self) -> bool:
        # The lines go to stderr, which leaves stdout to callbacks such as json; but stderr is often sent to the same place.
        machine = C.DEFAULT_STDOUT_CALLBACK.rpartition(".")[2] in ("json", "jsonl")
        local = self._connection.transport == "local" and not self._connection.become
        return local and not machine and not self._task.async_val and not self._task.no_log and not self._task.check_mode


def _show(path: str, host: str, done: threading.Event) -> None:
    """Show each whole line of the file until ``done`` is set; the file holds the module's lines only."""
    with open(path, encoding="utf-8") as file:
        rest, last = "", False
        while not last:
            last = done.wait(LOOK)
            *lines, rest = (rest + file.read()).split("\n")
            for line in lines:
                display.display(f"{host}: {line}" if host else line, stderr=True)
