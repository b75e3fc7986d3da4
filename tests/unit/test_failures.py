# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tools/failures says at the end of Molecule's output."""

from __future__ import annotations

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).parents[2]
FAILED = """TASK [Ask] ****
fatal: [lab]: FAILED! =>\x20
    changed: false
    cmd:
    - ask
    msg: non-zero return code
    stderr: |-
        No answer
    stderr_lines:
    - No answer

PLAY RECAP ****
\x1b[31mlab\x1b[0m   : \x1b[32mok=1   \x1b[0m changed=0    unreachable=0    \x1b[31mfailed=1   \x1b[0m skipped=0    rescued=0    ignored=0
"""
SAID = """
What failed:

TASK [Ask]
    msg: non-zero return code
    stderr: |-
        No answer

"""


def failures(text: str) -> str:
    run = subprocess.run([ROOT / "tools" / "failures"], input=text, capture_output=True, text=True, check=True)
    assert run.stdout.startswith(text)
    return run.stdout.removeprefix(text)


def test_the_failed_task_is_said_again():
    assert failures(FAILED).strip() == SAID.strip()


def test_it_is_found_in_the_border_of_a_scenario_that_ran_beside_others():
    assert failures("".join(f"  \x1b[31m│\x1b[0m {line}\n" for line in FAILED.splitlines())).strip() == SAID.strip()


def test_a_rescued_failure_is_not_told():
    assert failures(FAILED.replace("failed=1", "failed=0")) == ""


def test_the_end_of_a_long_message_is_told():
    said = failures(FAILED.replace("No answer\n", "No answer" + " at all" * 300 + ", and that is why\n", 1))
    assert ", and that is why" in said and len(said) < 1000


def test_a_second_run_that_changed_something_is_said_once():
    told = "Idempotence test failed because of the following tasks:\n*  => Label the nodes\n*  => Put them in place\n"
    said = failures(f"\x1b[31mCRITICAL\x1b[0m {told}\x1b[32mINFO\x1b[0m more\n\x1b[31mERROR   \x1b[0m {told}\nINFO    Molecule executed 3 scenarios\n")
    assert said.strip() == f"What failed:\n\n{told}".strip()
