# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _rollout_progress
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_rollout import events, pod


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def told(tmp_path):
    """Return (progress, clock, a function that returns the lines so far)."""
    path, clock = tmp_path / "lines", Clock()
    path.touch()
    return _rollout_progress.Progress(str(path), clock), clock, lambda: path.read_text().splitlines()


def test_a_change_is_told_and_what_stays_is_told_at_times(told):
    progress, clock, lines = told
    progress.tell(2, [pod("ready", "a"), pod("starting", "b")], [], 0)
    assert lines() == ["1 of 2 replicas ready; pod b: starting, models are loaded (0 s)"]
    clock.now += 29
    progress.tell(2, [pod("ready", "a"), pod("starting", "b")], [], 0)
    assert len(lines()) == 1
    clock.now += 1
    progress.tell(2, [pod("ready", "a"), pod("starting", "b")], [], 0)
    assert lines()[1:] == ["1 of 2 replicas ready; pod b: starting, models are loaded (30 s)"]


def test_many_changes_are_one_line(told):
    progress, clock, lines = told
    progress.tell(1, [pod("starting")], [], 0)
    clock.now += 1
    progress.tell(1, [pod("crash_loop")], [], 0)
    assert len(lines()) == 1
    clock.now += 1
    progress.tell(1, [pod("crash_loop")], [], 1)
    assert lines()[1:] == ["0 of 1 replica ready; pod demo-2-a: CrashLoopBackOff (1 s); 1 of an earlier revision still there"]


def test_many_pods_are_told_by_what_they_do(told):
    progress, _clock, lines = told
    progress.tell(5, [pod("starting", name) for name in "abcd"] + [pod("out_of_memory", "e")], [], 0)
    assert lines() == ["0 of 5 replicas ready; 4 pods: starting, models are loaded (0 s); 1 pod: triton ended with exit code 137 (0 s)"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("image_refused", "ErrImagePull"),
        ("volume_missing", "waiting for a volume"),
        ("starting", "starting, models are loaded"),
        ("ended_once", "triton ended with exit code 1"),
    ],
)
def test_what_a_pod_does(state, words):
    assert _rollout_progress.doing(pod(state), events(state)) == words


def test_without_a_file_nothing_is_told():
    _rollout_progress.Progress(None).tell(1, [pod("starting")], [], 0)


def test_a_pod_without_a_node_and_one_that_pulls():
    waiting = pod("no_gpu")
    del waiting["spec"]["nodeName"]
    assert _rollout_progress.doing(waiting, []) == "waiting for a node"
    pulling = [{"reason": "Scheduled"}, {"reason": "Pulling"}]
    assert _rollout_progress.doing(pod("volume_missing"), pulling) == "pulling image"
