# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.mlserving.triton.plugins.module_utils import _summary

TEXT = """example in namespace triton: 4 replicas
Address     http://127.0.0.1 (HTTP); for example: curl http://127.0.0.1/v2/models/simple
Next        ansible-playbook playbooks/scale.yml -e replicaCount=5
            ansible-playbook playbooks/verify.yml
"""


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        (TEXT, ["ansible-playbook playbooks/scale.yml -e replicaCount=5", "ansible-playbook playbooks/verify.yml"]),
        ("Next    read it\n        ansible-playbook playbooks/verify.yml", ["ansible-playbook playbooks/verify.yml"]),
        ("Next: make lab", ["make lab"]),
        ("    ansible-playbook before.yml\nnothing follows", []),
    ],
)
def test_what_to_run_next(text, commands):
    assert _summary.next_commands(text) == commands


def test_a_summary():
    built = _summary.build("verify", "lab", True, TEXT, {"replicas": 4}, {"triton_namespace": "triton"})
    assert built["playbook"] == "verify" and built["check_mode"] is True and built["facts"] == {"replicas": 4}
    assert built["text"] == TEXT.strip().splitlines()


def test_hosts_do_not_write_over_each_others_file():
    assert _summary.path_for("out/summary.json", "west", True) == pathlib.Path("out/summary.json")
    assert _summary.path_for("out/summary.json", "west", False) == pathlib.Path("out/summary-west.json")


def test_the_file_is_whole_or_as_it_was(tmp_path):
    file = tmp_path / "summary.json"
    _summary.write(file, "{}\n")
    _summary.write(file, '{"a": 1}\n')
    assert file.read_text(encoding="utf-8") == '{"a": 1}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    with pytest.raises(OSError):
        _summary.write(tmp_path / "none" / "summary.json", "{}")
