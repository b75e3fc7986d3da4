# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which playbook a task is of. PRIVATE to the collection."""

from __future__ import annotations

import pathlib

from ansible.playbook.task import Task


def name(task: Task) -> str:
    """Return the name of the file with the task's play, without its ending; of an imported playbook it is that one's."""
    return pathlib.Path(task.get_play().get_path().rpartition(":")[0]).stem
