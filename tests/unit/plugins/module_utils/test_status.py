# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _status_facts, _status_problems, _status_server, _status_text
from ansible_collections.mlserving.triton.plugins.module_utils._status import Seen
from ansible_collections.mlserving.triton.tests.unit.plugins import fake_release, fake_rollout

NOW = datetime.datetime.fromisoformat(fake_release.NOW.replace("Z", "+00:00"))
ANSWER = {"version": "2.51.0", "requests": _status_server.counted({}), "problem": ""}


def seen(pods, answers=None, **more):
    listed = fake_release.answers(pods)
    replicasets, services = (listed[path]["items"] for path in (f"{fake_release.APPS}/replicasets", f"{fake_release.CORE}/services"))
    servers = {pod["metadata"]["name"]: ANSWER | {"models": index} for pod, index in zip(pods, answers or [[]] * len(pods))}
    fields = {"deployment": listed[fake_release.DEPLOYMENT], "replicasets": replicasets, "pods": pods, "services": services, "servers": servers}
    return Seen(**fields | more)


def judged(look):
    facts = _status_facts.facts(look, "demo", NOW)
    return facts, [problem["what"] for problem in _status_problems.problems(look, facts)]


def screen(look):
    facts, _problems = judged(look)
    head = {"found": True, "release": "demo", "namespace": "triton", "deployment": fake_release.NAME}
    head["cluster"] = {"server": "https://192.0.2.9", "version": "v1.35.4", "context": "lab", "source": "the inventory"}
    return _status_text.screen({**facts, **head, "problems": _status_problems.problems(look, facts), "hints": []})


@pytest.mark.parametrize(
    "seconds, words",
    [
        (None, "?"),
        (-3, "0s"),
        (59, "59s"),
        (119, "119s"),
        (150, "2m30s"),
        (700, "11m"),
        (3 * 3600 + 60, "3h1m"),
        (30 * 3600, "30h"),
        (3 * 86400, "3d"),
        (10**7, "115d"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds, words):
    assert _status_text.duration(seconds) == words


@pytest.mark.parametrize(
    "args, expected",
    [
        ([], []),
        (["--http-restricted-api=statistics:name=literal"], [("name", "literal", "", "")]),
        (["--http-restricted-api", "statistics,logging:name=$(KEY)"], [("name", "", "demo-key", "key")]),
        (["--http-restricted-api=a:name=$(NOSUCH)"], [("name", "", "", "")]),
        (["--http-restricted-api=a:one=1", "--http-restricted-api=b:two=2"], [("one", "1", "", ""), ("two", "2", "", "")]),
    ],
)
def test_the_keys_are_read_off_the_pod(args, expected):
    pod = fake_release.pod("a", spec={"containers": [fake_release.container(args=args)]})
    assert [(key.header, key.value, key.secret, key.field) for key in _status_server.keys(pod)] == expected


def test_statistics_of_several_models_are_one_average_of_requests():
    def model(name, count, ns, failed=0):
        return {
            "name": name,
            "version": "1",
            "inference_stats": {"success": {"count": count, "ns": ns}, "queue": {"count": count, "ns": ns // 2}, "fail": {"count": failed}},
        }

    found = _status_server.counted({"model_stats": [model("a", 1, 2_000_000), model("b", 3, 18_000_000, 2), {"name": "c"}]})
    assert {key: found[key] for key in ("success", "failed", "average_ms", "queue_ms")} == {
        "success": 4,
        "failed": 2,
        "average_ms": 5.0,
        "queue_ms": 2.5,
    }
    assert found["models"][2] == {"name": "c", "version": "", "success": 0, "failed": 0, "average_ms": None, "queue_ms": None}


def test_equal_warnings_of_several_pods_are_one_and_the_newest_is_first():
    warnings = [
        fake_release.event("demo-a", "probe of demo-a failed", "2026-11-25T09:58:00Z", count=2),
        fake_release.event("demo-b", "probe of demo-b failed", "2026-11-25T09:59:00Z"),
        fake_release.event("demo-a", "other", "2026-11-25T09:58:30Z", series={"count": 7, "lastObservedTime": "2026-11-25T09:59:30Z"}),
    ]
    rows = [(row["object"], row["message"], row["count"], row["age"]) for row in _status_facts.events(warnings, NOW)]
    assert rows == [("Pod demo-a", "other", 7, 30), ("2 Pods", "probe of demo-b failed", 3, 60)]
    many = [fake_release.event("x", f"message {number}", f"2026-11-25T09:00:{number:02}Z") for number in range(20)]
    assert len(_status_facts.events(many, NOW)) == 10


def test_a_replica_that_failed_after_a_whole_rollout_is_no_rollout():
    look = seen([fake_release.pod("a"), fake_release.pod("b", ready=False, state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}})])
    facts, problems = judged(look)
    assert facts["rollout"]["complete"] and facts["rollout"]["ready"] == 1
    assert problems == [
        f"1 of 2 replicas is not ready: pod {fake_release.NAME}-abc-b: container triton was killed (once): the node ran out of memory."
    ]


def test_a_rollout_that_hangs_says_why_though_all_replicas_serve():
    pods = [fake_release.pod("a"), fake_release.pod("b", ready=False)]
    look = seen(pods)
    look.deployment["spec"]["replicas"] = 1
    look.deployment["status"] |= {"updatedReplicas": 1, "conditions": [fake_release.condition("Progressing", "True", reason="ReplicaSetUpdated")]}
    (problem,) = judged(look)[1]
    assert problem.startswith(
        "The rollout of revision 2 is not complete, 1 of 1 replica updated, 1 available, 2 in all: pod demo-triton-inference-server-abc-b: container triton"
    )


def test_replicas_of_which_there_is_no_pod_yet():
    look = seen([])
    look.deployment["spec"]["replicas"] = 3
    assert "3 of 3 replicas are not ready: no pod has been made yet." in judged(look)[1]


def test_scaled_to_0_is_no_problem():
    look = seen([])
    assert judged(look)[1] == [] and "0 of 0 replicas ready, scaled to 0" in screen(look)


def test_a_model_that_no_replica_serves_is_a_problem_unless_nobody_asked_for_it():
    def entry(name, state, reason=""):
        return {"name": name, "version": "1", "state": state, "reason": reason}

    index = [
        entry("good", "READY"),
        entry("bad", "UNAVAILABLE", "Internal: no such file"),
        entry("idle", "UNAVAILABLE", "unloaded"),
        entry("new", "LOADING"),
    ]
    look = seen([fake_release.pod("a"), fake_release.pod("b")], [index, index])
    names = [f"{fake_release.NAME}-abc-{letter}" for letter in "ab"]
    assert judged(look)[1] == [f"Model bad version 1 is not served: UNAVAILABLE: Internal: no such file on {', '.join(names)}."]
    assert "idle" in screen(look)


def test_different_images_under_one_name_are_told():
    other = fake_release.pod("b", imageID="registry/x@sha256:" + 64 * "b")
    assert judged(seen([fake_release.pod("a"), other]))[1] == ["The replicas run 2 different images of the same name."]


@pytest.mark.parametrize(
    "kind, http, grpc",
    [("ClusterIP", f"http://{fake_release.NAME}.triton.svc:8000", f"{fake_release.NAME}.triton.svc:8001"), ("LoadBalancer", "", "")],
)
def test_the_services_address(kind, http, grpc):
    look = seen([fake_release.pod("a")])
    look.services[0] |= {"status": {}, "spec": look.services[0]["spec"] | {"type": kind}}
    facts, problems = judged(look)
    assert (facts["service"]["http"], facts["service"]["grpc"]) == (http, grpc)
    assert [problem.endswith("has no address.") for problem in problems] == ([True] if kind == "LoadBalancer" else [])


def test_an_autoscaler_that_cannot_scale_is_a_problem():
    conditions = [
        fake_release.condition("ScalingActive", "False", message="no metrics"),
        fake_release.condition("ScalingLimited", "True", message="at the most"),
    ]
    scaler = {
        "metadata": {"name": "demo"},
        "spec": {"minReplicas": 2, "maxReplicas": 8},
        "status": {"currentReplicas": 1, "desiredReplicas": 2, "conditions": conditions},
    }
    look = seen([fake_release.pod("a")], autoscalers=[scaler])
    facts, problems = judged(look)
    assert problems == ["The autoscaler demo: ScalingActive is False: no metrics."]
    assert {key: facts["autoscaler"][key] for key in ("min", "max", "current", "desired")} == {"min": 2, "max": 8, "current": 1, "desired": 2}
    assert "demo, 2 to 8 replicas, 1 now, 2 wanted; ScalingActive is False: no metrics; ScalingLimited is True: at the most" in " ".join(
        screen(look).split()
    )


def test_an_autoscaler_of_a_release_that_is_scaled_to_zero_is_no_problem():
    disabled = fake_release.condition("ScalingActive", "False", reason="ScalingDisabled", message="the replica count of the target is zero")
    scaler = {"metadata": {"name": "demo"}, "spec": {"maxReplicas": 8}, "status": {"conditions": [disabled]}}
    facts, problems = judged(seen([fake_release.pod("a")], autoscalers=[scaler]))
    assert (facts["autoscaler"]["troubles"], problems) == ([], [])


def test_a_wide_table_becomes_two():
    pods = [fake_release.pod("a", spec={"nodeName": "ip-10-0-123-231.eu-central-1.compute.internal"})]
    lines = screen(seen(pods)).splitlines()
    assert max(map(len, lines)) <= 100 and sum(line.startswith("REPLICA") for line in lines) == 2


def test_the_cached_repository_is_the_one_that_was_fetched():
    fetching = {"name": "fetch-models", "command": ["python3", "fetch_models.py", "--url=s3://bucket/models", "--cache=/c"]}
    spec = {"initContainers": [fetching], "containers": [fake_release.container(args=["--model-store=/models/current"])]}
    assert _status_facts.repository(spec) == {"url": "s3://bucket/models", "release": ""}


@pytest.mark.parametrize(("metadata", "causes"), [({}, ["unschedulable"]), ({"deletionTimestamp": "2026-11-23T15:00:00Z"}, [])])
def test_room_that_a_leaving_pod_still_has_is_no_fault(metadata, causes):
    rolling = {"deployment": fake_rollout.deployment((1, 1, 0)), "replicasets": [fake_rollout.replicaset()]}
    found = Seen(**rolling, pods=[fake_rollout.pod("no_gpu")], leftovers=[fake_rollout.pod("ready", "demo-1-a", "r-1", **metadata)]).findings()
    assert [finding.cause for finding in found] == causes
