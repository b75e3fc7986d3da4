# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One reason why a rollout cannot complete. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses

#: Seconds that a state must last which may pass by itself: no node is free, a quota is used up.
PATIENCE = 30
#: Seconds for what is certain unless it has only just been put right.
SOON = 2


@dataclasses.dataclass(frozen=True)
class Finding:
    """Why the rollout cannot complete.

    ``cause``: one machine word. ``subject``: the pod or object. ``why`` and ``todo``: sentences. ``patience``: seconds that
    it must last before it counts. ``container``: whose log tells more; ``running``: that container runs again, so that its
    previous log is meant; ``log_decides``: only a known signature in that log makes it certain. ``attempts``: how often
    the container has ended.
    """

    cause: str
    subject: str
    why: str
    todo: str
    patience: int = 0
    container: str = ""
    running: bool = False
    log_decides: bool = False
    attempts: int = 0
