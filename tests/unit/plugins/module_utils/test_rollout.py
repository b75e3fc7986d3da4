# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _pods, _rollout
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_rollout import deployment, events, pod, replicaset

#: state -> cause, seconds of patience, whether the log decides, what reason and advice must say
EXPECTED = {
    "image_refused": ("image_pull", 0, False, "tritonserver:99.99-py3: not found", "name and tag"),
    "image_unreachable_again": ("image_pull", 0, False, "no such host", "does not reach the registry"),
    "image_never": ("image_pull", 0, False, "not present", "load it there"),
    "image_name": ("image_pull", 0, False, "Bad Name:1", "Correct the image's name"),
    "secret_missing": ("config", 0, False, 'secret "aws-credentials" not found', "Create the Secret"),
    "runtime_error": ("container_start", 0, False, "cuda>=13.0", "driver"),
    "out_of_memory": ("out_of_memory", 0, False, "it used more memory than its limit (512Mi)", "Raise the memory limit"),
    "ended_once": ("crash", 0, True, "exit code 1 (once)", "log"),
    "ended_and_running_again": ("crash", 0, True, "exit code 1 (once)", "log"),
    "killed_untold": ("out_of_memory", 0, False, "was killed (once): most likely it used more memory than its limit (512Mi)", "Raise the memory limit"),
    "killed_by_the_kubelet": ("crash", 0, False, "exit code 137, killed (once)", "log"),
    "killed_once": ("crash", 0, True, "exit code 137, killed (once)", "log"),
    "crash_loop": ("crash", 0, False, "exit code 1 (once)", "log"),
    "killed_by_probe": ("probe", 0, False, "failed startup probe", "more time"),
    "no_gpu": ("unschedulable", 30, False, "Insufficient nvidia.com/gpu", "maxSurge 0"),
    "volume_missing": ("config", 2, False, 'secret "nosuch" not found', "Create what is missing"),
}


def find(state, **of_deployment):
    return _rollout.findings(deployment((1, 1, 0), **of_deployment), replicaset(), [pod(state)], events(state))


@pytest.mark.parametrize("state", EXPECTED)
def test_a_pod_that_cannot_become_ready_is_explained(state):
    cause, patience, log_decides, why, todo = EXPECTED[state]
    found = find(state)[0]
    assert (found.cause, found.patience, found.log_decides, found.subject) == (cause, patience, log_decides, "pod demo-2-a")
    assert why in found.why and todo in found.todo


@pytest.mark.parametrize("states", [("image_has_failed_again", "image_is_waited_for_again"), ("no_program", "no_program_told")])
def test_the_words_do_not_depend_on_the_moment(states):
    first, second = (find(state)[0] for state in states)
    assert (first.cause, first.why, first.todo) == (second.cause, second.why, second.todo)


def test_room_that_a_leaving_pod_still_has_is_waited_for():
    told = _rollout.findings(deployment((1, 1, 0)), replicaset(), [pod("no_gpu")], [], leaving=True)
    assert told == [] and _rollout.findings(deployment((1, 1, 0)), replicaset(), [pod("no_gpu")], []) != []


@pytest.mark.parametrize(
    "state",
    ["image_unreachable_once", "image_backs_off_after_one_try", "mounted_at_last", "cache_not_synced", "node_on_its_way", "starting", "ready"],
)
def test_what_may_pass_by_itself_is_no_finding(state):
    assert [found for found in find(state) if not found.log_decides] == []


def test_the_log_of_the_run_that_ended_is_meant():
    assert find("ended_and_running_again")[0].running and not find("crash_loop")[0].running


@pytest.mark.parametrize(
    ("message", "cause", "patience"),
    [
        ("exceeded quota: q, requested: pods=1,requests.cpu=500m, used: pods=2,requests.cpu=1, limited: pods=2,requests.cpu=1", "quota", 30),
        ("exceeded quota: q, requested: requests.memory=2Gi, used: requests.memory=0, limited: requests.memory=1Gi", "quota", 0),
        ("exceeded quota: q, in words that are new", "quota", 30),
        ("failed quota: q: must specify limits.memory for: triton", "quota", 0),
        ('violates PodSecurity "restricted:latest": runAsNonRoot != true', "pod_security", 0),
        ('error looking up service account triton/x: serviceaccount "x" not found', "config", 2),
        ("something new", "pod_creation", 30),
    ],
)
def test_pods_that_cannot_be_created_are_explained(message, cause, patience):
    failed = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    found = _rollout.findings(deployment((0, 0, 0)), replicaset(conditions=[failed]), [], [])
    assert [(each.cause, each.patience) for each in found] == [(cause, patience)] and message in found[0].why


def test_a_deployment_that_stands_still_is_explained():
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    assert [found.cause for found in find("starting", conditions=[late])] == ["stuck", "progress_deadline"]
    assert [found.cause for found in find("starting", conditions=[late], observed=2)] == ["stuck"]
    assert [found.cause for found in find("starting", paused=True)] == ["paused", "stuck"]


def test_the_certain_comes_first():
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    assert [found.cause for found in find("secret_missing", conditions=[late])] == ["config", "progress_deadline"]


@pytest.mark.parametrize(
    ("arguments", "complete"),
    [
        ({"counts": (4, 4, 4), "replicas": 4}, True),
        ({"counts": (5, 4, 4), "replicas": 4}, False),
        ({"counts": (4, 4, 3), "replicas": 4}, False),
        ({"counts": (4, 3, 4), "replicas": 4}, False),
        ({"counts": (4, 4, 4), "replicas": 4, "observed": 2}, False),
        ({"counts": (1, 1, 1), "replicas": None}, True),
        ({"counts": (), "replicas": 0}, True),
    ],
)
def test_complete_means_every_replica_new_and_available(arguments, complete):
    assert _rollout.is_complete(deployment(**arguments)) is complete


def test_only_the_newest_revision_is_judged():
    old, new, foreign = replicaset(1), replicaset(2), replicaset(2, owner="other")
    assert _rollout.newest(deployment(), [foreign, old, new]) is new
    assert _rollout.newest(deployment(observed=2), [new]) is None
    assert _rollout.newest(deployment(), [old]) is None
    pods = [
        pod("crash_loop", "old", owner="r-1"),
        pod("starting", "new"),
        pod("starting", "going", deletionTimestamp="2026-11-23T15:00:00Z"),
    ]
    assert [each["metadata"]["name"] for each in _rollout.pods_of(new, pods)] == ["new"]
    assert _rollout.pods_of(None, pods) == []


def test_the_last_state_is_told():
    warning = {"type": "Warning", "reason": "Unhealthy", "message": "Readiness probe failed", "involvedObject": {"name": "demo-2-a"}}
    unavailable = {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable", "message": "no"}
    text = "\n".join(_rollout.last_seen(deployment((2, 1, 0), conditions=[unavailable]), None, [pod("crash_loop")], [warning]))
    assert "replicas: 1 wanted, 1 updated, 0 available, 2 in all" in text
    assert "has made no ReplicaSet" in text
    assert "condition Available=False: MinimumReplicasUnavailable: no" in text
    assert "pod demo-2-a on node node-1: Running, not ready, 1 restart, CrashLoopBackOff (back-off 10s" in text
    assert "event Unhealthy on demo-2-a: Readiness probe failed" in text


def test_a_row_shows_the_schedulers_words():
    seen = _pods.row(pod("no_gpu"))
    assert (seen["phase"], seen["ready"], seen["reason"]) == ("Pending", False, "Unschedulable") and "nvidia.com/gpu" in seen["message"]


def test_the_name_of_a_pod_that_was_never_made_is_left_out():
    failed = {"type": "ReplicaFailure", "status": "True", "message": 'pods "demo-2-x7k2p" is forbidden: violates PodSecurity "restricted:latest"'}
    found = _rollout.findings(deployment((0, 0, 0)), replicaset(conditions=[failed]), [], [])
    assert found[0].why == 'no pod can be created: violates PodSecurity "restricted:latest"'


def test_an_init_container_that_succeeded_in_the_end_is_no_finding():
    done = pod("starting")
    done["spec"]["initContainers"] = [{"name": "fetch-models"}]
    ended = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    done["status"]["initContainerStatuses"] = [
        {"name": "fetch-models", "restartCount": 2, "state": ended, "lastState": {"terminated": {"exitCode": 1}}}
    ]
    assert [found.container for found in _rollout.findings(deployment((1, 1, 0)), replicaset(), [done], [])] == ["triton"]
    done["status"]["initContainerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    found = _rollout.findings(deployment((1, 1, 0)), replicaset(), [done], [])[0]
    assert found.why == "init container fetch-models ended with exit code 1 (2 times)" and not found.log_decides


@pytest.mark.parametrize(
    ("started", "message", "cause"),
    [
        (False, "Startup probe failed: the inference of simple was answered with status 500: {}\n", "probe"),
        # The start-up probe has passed since.
        (True, "Startup probe failed: the inference of simple was answered with status 500: {}\n", "stuck"),
        (True, "Readiness probe failed: HTTP probe failed with statuscode: 400", "not_ready"),
        (False, 'Startup probe failed: Get "http://10.0.0.1:8000/": dial tcp 10.0.0.1:8000: connect: connection refused', "stuck"),
    ],
)
def test_what_the_probes_say_of_a_server_that_runs(started, message, cause):
    running = pod("starting")
    running["status"]["containerStatuses"][0]["started"] = started
    about = {"name": "demo-2-a", "fieldPath": "spec.containers{triton}"}
    told = [{"metadata": {}, "type": "Warning", "reason": "Unhealthy", "message": message, "involvedObject": about}]
    assert [found.cause for found in _rollout.findings(deployment((1, 1, 0)), replicaset(), [running], told)] == [cause]


def test_only_one_log_of_those_that_start_is_read():
    pods = [pod("starting", name) for name in ("demo-2-a", "demo-2-b")]
    assert [found.subject for found in _rollout.findings(deployment((2, 2, 0), replicas=2), replicaset(), pods, [])] == ["pod demo-2-a"]
