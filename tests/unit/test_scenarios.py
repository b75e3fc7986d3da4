# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which scenarios tools/scenarios runs, and what it says at the end: with a program in Molecule's place that says what each of them is told to."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

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
SAID = """TASK [Ask]
    msg: non-zero return code
    stderr: |-
        No answer
"""
TOGETHER = ["deploy", "scale"]
ALONE = ["adopt", "autoscaling", "cleanup", "device_plugin", "gpu_node", "models", "secrets", "traffic"]
#: Says of each scenario what is next in its list: nothing for a good end, else a failed run's output. As Molecule does, it stops at a failure unless told to
#: go on, and keeps no account of what it has not begun.
MOLECULE = """#!{python}
import json, os, pathlib, sys
file = pathlib.Path({file!r})
state = json.loads(file.read_text())
arguments = sys.argv[1:]
names = [a.partition("=")[2] for a in arguments if a.startswith("--scenario-name=")]
if "--all" in arguments:
    out = [a.partition("=")[2] for a in arguments if a.startswith("--exclude=")]
    names = [name for name in sorted({everything}) if name not in out]
state["runs"].append([arguments[0], *names])
code = 0
for name in names:
    print(f"\\x1b[36mINFO    \\x1b[0m \\x1b[32m{{name}}\\x1b[0m \\u279c \\x1b[33mverify\\x1b[0m: \\x1b[36mExecuting\\x1b[0m")
    says = state["says"].get(name) or [""]
    said = says.pop(0)
    print(said)
    print(f"ERROR    [{{name}} > verify] Executed: {{'Failed' if said else 'Successful'}}")
    code = code or bool(said)
    if said and "--continue-on-failure" not in arguments:
        break
file.write_text(json.dumps(state))
sys.exit(code)
"""


@pytest.fixture
def scenarios(tmp_path):
    """Return a function that runs the tool: (exit status, what it said after all of Molecule's output, Molecule's runs)."""

    def run(*names: str, **says: str | list[str]) -> tuple[int, str, list[list[str]]]:
        file, program = tmp_path / "state.json", tmp_path / "molecule"
        file.write_text(json.dumps({"runs": [], "says": {name: [said] if isinstance(said, str) else said for name, said in says.items()}}))
        program.write_text(MOLECULE.format(python=sys.executable, file=str(file), everything=[*TOGETHER, *ALONE, "default"]))
        program.chmod(0o755)
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run([sys.executable, ROOT / "tools" / "scenarios", *names], capture_output=True, text=True, env=environment, check=False)
        words = "\nWhat failed"
        said = words + done.stdout.partition(words)[2] if words in done.stdout else ""
        return done.returncode, said + done.stderr, json.loads(file.read_text())["runs"]

    return run


def test_a_good_run_takes_the_lab_down(scenarios):
    code, said, runs = scenarios()
    assert (code, runs) == (0, [["test", "default", *TOGETHER], ["test", *ALONE], ["destroy", "default"]])
    assert said == ""


def test_one_that_fails_once_passes_alone_and_is_told(scenarios):
    code, said, runs = scenarios(deploy=FAILED)
    assert (code, runs[2:]) == (0, [["test", "deploy"], ["destroy", "default"]])
    assert said.startswith(f"\nWhat failed at first, of deploy:\n\n{SAID}") and "Alone, all of it passed." in said


def test_one_that_fails_twice_fails_the_run_and_leaves_the_lab(scenarios):
    code, said, runs = scenarios(deploy=[FAILED, FAILED.replace("No answer", "Still none")])
    assert (code, runs[2:]) == (1, [["test", "deploy"]])
    assert "What failed again, of deploy:" in said and "Still none" in said.partition("again")[2] and "make lab-down" in said


def test_the_others_run_behind_one_that_failed(scenarios):
    code, _said, runs = scenarios(cleanup=FAILED, models=FAILED)
    assert code == 0
    assert runs[1:] == [["test", *ALONE], ["test", *ALONE[3:]], ["test", *ALONE[6:]], ["test", "cleanup", "models"], ["destroy", "default"]]


def test_one_whose_worker_crashed_is_tried_again_too(scenarios):
    """Molecule names it in its last line only."""
    code, said, runs = scenarios(deploy=f"{FAILED}\x1b[31mCRITICAL\x1b[0m Scenarios failed: deploy, scale\n", scale=["", FAILED])
    assert (code, runs[2]) == (1, ["test", "deploy", "scale"])
    assert "What failed at first, of deploy, scale:" in said and "What failed again, of scale:" in said


def test_many_failures_are_not_by_chance(scenarios):
    code, said, runs = scenarios(deploy=FAILED, scale=FAILED, adopt=FAILED, traffic=FAILED)
    assert code == 1 and len(runs) == 3 and said.startswith("\nWhat failed:\n")


def test_one_that_is_named_has_no_second_try(scenarios):
    code, said, runs = scenarios("deploy", deploy=FAILED)
    assert (code, runs) == (1, [["test", "deploy"]])
    assert said.startswith(f"\nWhat failed:\n\n{SAID}")


def test_without_a_lab_nothing_is_tried_again(scenarios):
    code, said, runs = scenarios(default=FAILED)
    assert code == 1 and len(runs) == 1 and SAID.strip() in said


def test_a_failure_is_found_in_the_border_of_a_scenario_that_ran_beside_others(scenarios):
    _code, said, _runs = scenarios("deploy", deploy="".join(f"  \x1b[31m│\x1b[0m {line}\n" for line in FAILED.splitlines()))
    assert SAID.strip() in said


def test_a_rescued_failure_is_not_told(scenarios):
    _code, said, _runs = scenarios("deploy", deploy=FAILED.replace("failed=1", "failed=0"))
    assert "nothing that Molecule gives words for" in said


def test_the_end_of_a_long_message_is_told(scenarios):
    _code, said, _runs = scenarios("deploy", deploy=FAILED.replace("No answer\n", "No answer" + " at all" * 300 + ", and that is why\n", 1))
    assert ", and that is why" in said and len(said) < 1100


def test_a_second_run_that_changed_something_is_said_once(scenarios):
    told = "Idempotence test failed because of the following tasks:\n*  => Label the nodes\n*  => Put them in place\n"
    said = f"\x1b[31mCRITICAL\x1b[0m {told}\x1b[32mINFO\x1b[0m more\n\x1b[31mERROR   \x1b[0m {told}\nINFO    Molecule executed 3 scenarios\n"
    assert scenarios("deploy", deploy=said)[1].startswith(f"\nWhat failed:\n\n{told}")
