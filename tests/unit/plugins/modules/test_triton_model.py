# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both modules against servers and an API server in this process; the pods' ports are reached without a tunnel here."""

from __future__ import annotations

import base64
import contextlib
import threading
import time

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _model_control, _model_set, _serving, _tunnel
from ansible_collections.mlserving.triton.plugins.modules import triton_model, triton_model_info
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_triton import FakeTriton

PODS = "/api/v1/namespaces/triton/pods"
DEPLOYMENT = "/apis/apps/v1/namespaces/triton/deployments/demo"
STORED = "/api/v1/namespaces/triton/configmaps/demo-models"
SECRET = "a-key-that-nobody-sees"
REPOSITORY = ("simple", "other", "both")


def container(mode="explicit", **more):
    args = ["bash", "-c", "x", "load-models", "tritonserver", f"--model-control-mode={mode}"]
    return {"name": "t", "args": args, "ports": [{"name": "http", "containerPort": 8000}], **more}


def pod(name, ready=True, started="1", **more):
    return {
        "metadata": {"name": name, "namespace": "triton"},
        "spec": {"nodeName": "node-1", "containers": [container(**more)]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "t", "containerID": started, "restartCount": 0 if ready else 3, "state": {"running": {}}}],
        },
    }


def server():
    triton = FakeTriton()
    triton.index = [{"name": name} for name in REPOSITORY]
    triton.control("simple", "load", False)
    triton.orders.clear()
    return triton


class Lab(FakeCluster):
    """``tritons``: pod -> its server."""

    def __init__(self, stack):
        super().__init__()
        self.stack, self.tritons = stack, {}
        volumes = [{"name": _model_set.VOLUME, "configMap": {"name": "demo-models"}}]
        template = {"spec": {"containers": [container()], "volumes": volumes}}
        self.answers[DEPLOYMENT] = {"metadata": {}, "spec": {"selector": {"matchLabels": {"release": "demo"}}, "template": template}}
        self.answers[STORED] = {
            "metadata": {"resourceVersion": "1", "annotations": {_model_set.AGREED: "true"}},
            "data": {_model_set.KEY: "simple\n"},
        }
        self.answers[PODS] = {"items": []}
        for name in ("a", "b", "c"):
            self.start(name)

    def start(self, name, **more):
        self.tritons[name] = self.stack.enter_context(server())
        self.answers[PODS]["items"].append(pod(name, **more))
        return self.tritons[name]

    def ready(self):
        return {name: sorted(entry["name"] for entry in triton.index if entry.get("state") == "READY") for name, triton in self.tritons.items()}

    def orders(self):
        return {name: triton.orders for name, triton in self.tritons.items() if triton.orders}

    def set(self):
        return _model_set.of_config_map(self.answers[STORED])


@pytest.fixture
def lab(monkeypatch):
    for name in (*_cluster.ENVIRONMENT.values(), "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_model_control, "PAUSE", 0.02)

    class Tunnel(contextlib.nullcontext):
        forbidden = False

        def __init__(self, _api, _namespace, name, _port):
            self.problem = "" if any(entry["metadata"]["name"] == name for entry in found.answers[PODS]["items"]) else f'pods "{name}" not found'
            super().__init__(found.tritons[name].http.removeprefix("http://"))

    monkeypatch.setattr(_tunnel, "Tunnel", Tunnel)
    with contextlib.ExitStack() as stack, Lab(stack) as found:
        yield found


@pytest.fixture
def run(lab, run_module):
    def call(*models, module=triton_model, check=False, **options):
        base = {"host": lab.url, "namespace": "triton", "deployment": "demo", "timeout": 20}
        return run_module(module, base | options | ({"models": list(models)} if module is triton_model else {}), check)

    return call


def test_a_model_is_loaded_on_every_replica_and_on_those_to_come(run, lab):
    result = run("other")
    assert result["changed"] and result["set"] == lab.set() == ["simple", "other"] and result["differs"] == []
    assert lab.ready() == dict.fromkeys("abc", ["other", "simple"])
    assert [replica["loaded"] for replica in result["replicas"]] == [["other"]] * 3
    assert result["table"][0].split() == ["MODEL", "a", "b", "c", "NEW", "REPLICAS"]
    assert result["diff"]["after"]["replicas"]["a"] == ["other", "simple"]
    again = run("other")
    assert not again["changed"] and lab.orders() == dict.fromkeys("abc", [("load", "other")])


def test_a_model_is_unloaded_on_every_replica(run, lab):
    assert run("simple", state="unloaded")["changed"] and lab.set() == [] and lab.ready() == dict.fromkeys("abc", [])
    assert not run("simple", state="unloaded")["changed"]


def test_all_models_are_one_pattern_for_new_replicas(run, lab):
    assert run("*")["set"] == ["*"] and lab.ready() == dict.fromkeys("abc", sorted(REPOSITORY))
    assert run("other", state="unloaded")["set"] == ["both", "simple"]


def test_exclusive_leaves_what_an_ensemble_is_made_of(run, lab):
    for triton in lab.tritons.values():
        triton.ensembles = {"both": ["other"]}
    ahead = run("both", exclusive=True, check=True)
    assert ahead["changed"] and ahead["replicas"][0]["unloaded"] == ["simple"] and not lab.orders() and lab.set() == ["simple"]
    result = run("both", exclusive=True)
    assert lab.ready() == dict.fromkeys("abc", ["both", "other"]) and lab.set() == ["both"] and result["replicas"][0]["unloaded"] == ["simple"]
    assert not run("both", exclusive=True)["changed"]


def test_a_broken_model_is_tried_on_one_replica_which_is_put_back(run, lab):
    for triton in lab.tritons.values():
        triton.broken = {"both": "Internal: no weights"}
    result = run("other", "both")
    assert result["failed"] and not result["changed"] and lab.set() == ["simple"]
    assert "Every replica has what it had before.\na: model both: Internal: no weights" in result["msg"]
    assert list(lab.orders()) == ["a"] and lab.ready() == dict.fromkeys("abc", ["simple"])
    assert result["replicas"][0]["restored"] == ["other"]
    # A failure that stays in the index keeps the server from being ready.
    assert all(entry.get("reason", "") in ("", "unloaded") for entry in lab.tritons["a"].index)


def test_replicas_on_which_it_loaded_are_put_back_and_what_was_loaded_stays(run, lab):
    lab.tritons["a"].control("other", "load", False)
    lab.tritons["c"].broken = {"other": "Internal: no room"}
    result = run("other")
    assert result["failed"] and "c: model other: Internal: no room" in result["msg"] and "1 of 3 replicas" in result["msg"]
    assert lab.ready() == {"a": ["other", "simple"], "b": ["simple"], "c": ["simple"]} and lab.set() == ["simple"]
    assert [replica["restored"] for replica in result["replicas"]] == [[], ["other"], []]


def test_what_cannot_be_cleared_is_told(run, lab):
    triton = lab.tritons["a"]
    triton.broken = {"other": "Internal: no room"}
    refuse = triton.control
    triton.control = lambda model, order, replaced: refuse(model, order, False)
    result = run("other")
    assert "not ready until its pod is deleted" in result["msg"] and "Every replica has" not in result["msg"]


@pytest.mark.parametrize(
    ("models", "options", "words"),
    [
        (["nothere"], {}, "nothere is not in the model repository, as a tells; it has: both, other, simple."),
        ([], {}, "models is empty."),
        (["a/b"], {}, "models has 'a/b', which is no name"),
        (["*", "other"], {}, "must stand alone"),
        (["other"], {"exclusive": True, "state": "unloaded"}, "exclusive is given with state unloaded"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_changes(run, lab, models, options, words):
    result = run(*models, **options)
    assert result["failed"] and result["msg"].startswith("Nothing was changed.") and words in result["msg"] and not lab.orders()


def test_a_server_that_decides_by_itself_is_told(run, lab):
    lab.answers[PODS]["items"][1]["spec"]["containers"] = [container("poll")]
    result = run("other")
    assert (
        "b runs with triton_model_control_mode poll" in result["msg"] and "triton_model_control_mode=explicit" in result["msg"] and not lab.orders()
    )


def test_a_replica_that_starts_meanwhile_gets_the_same(run, lab):
    def start(path):
        if path.endswith("/load") and "new" not in lab.tritons:
            lab.start("new")

    lab.tritons["c"].on_request = start
    result = run("other")
    assert lab.ready()["new"] == ["other", "simple"] and len(result["replicas"]) == 4


def test_a_replica_that_started_anew_meanwhile_gets_the_same(run, lab):
    def restart(path):
        if path.endswith("/load"):
            lab.tritons["a"].index[1] = {"name": "other"}
            lab.answers[PODS]["items"][0] = pod("a", started="2")

    lab.tritons["c"].on_request = restart
    run("other")
    assert lab.ready()["a"] == ["other", "simple"]


def test_a_replica_that_is_deleted_meanwhile_is_left_out(run, lab):
    def delete(path):
        if path.endswith("/load") and len(lab.answers[PODS]["items"]) == 3:
            lab.answers[PODS]["items"].pop()
            lab.tritons["c"].die()

    lab.tritons["a"].on_request = delete
    result = run("other")
    assert result["changed"] and [replica["replica"] for replica in result["replicas"]] == ["a", "b"]


def test_a_replica_that_has_not_started_is_not_waited_for(run, lab):
    lab.start("new", ready=False).die()
    result = run("other")
    assert result["changed"] and "not ready" in result["replicas"][3]["waiting"] and result["differs"] == []


@pytest.mark.parametrize(("stored", "model", "state"), [("simple\n", "misspelt", "loaded"), ("*\n", "other", "unloaded")])
def test_without_a_replica_to_ask_the_set_stays(run, lab, stored, model, state):
    lab.answers[PODS] = {"items": []}
    lab.answers[STORED]["data"][_model_set.KEY] = stored
    result = run(model, state=state)
    assert result["failed"] and "No replica runs that could be asked" in result["msg"] and lab.set() == stored.split()


def test_a_ready_replica_that_does_not_answer_stops_it(run, lab):
    lab.tritons["b"].die()
    result = run("other", timeout=1)
    assert result["failed"] and result["msg"].startswith("Not every replica answers.\nb: no answer") and not lab.orders()


def test_never_all_replicas_load_for_long_at_the_same_time(run, lab):
    for name in ("d", "e"):
        lab.start(name)
    for entry in lab.answers[PODS]["items"]:
        entry["spec"]["containers"][0]["readinessProbe"] = {"periodSeconds": 0}
    busy, most, lock = [], [], threading.Lock()

    def load(model, order, replaced, control):
        with lock:
            busy.append(model)
            most.append(len(busy))
        time.sleep(0.1)
        control(model, order, replaced)
        busy.pop()

    for triton in lab.tritons.values():
        triton.control = lambda *order, control=triton.control: load(*order, control)
    assert run("other")["changed"] and most[0] == 1 and max(most) == 2 and len(most) == 5


def test_the_key_of_the_restricted_apis_is_found_and_not_shown(run, lab):
    shown = lab.answers[DEPLOYMENT]["spec"]["template"]["spec"]["containers"][0]
    shown["args"].append(f"--http-restricted-api=model-repository:the-key=$({_serving.KEY_VARIABLE})")
    shown["env"] = [{"name": _serving.KEY_VARIABLE, "valueFrom": {"secretKeyRef": {"name": "demo-key", "key": "key"}}}]
    lab.answers["/api/v1/namespaces/triton/secrets/demo-key"] = {"data": {"key": base64.b64encode(SECRET.encode()).decode()}}
    result = run("other")
    assert lab.tritons["a"].headers["http"]["the-key"] == SECRET and SECRET not in str(result)
    run("other", restricted_key={"name": "given", "value": "x"})
    assert lab.tritons["a"].headers["http"]["given"] == "x"


def test_a_deployment_of_somebody_else_has_no_set(run, lab):
    del lab.answers[DEPLOYMENT]["spec"]["template"]["spec"]["volumes"]
    assert run("other")["set"] is None and lab.ready()["a"] == ["other", "simple"] and lab.set() == ["simple"]


def test_the_list_says_who_differs(run, lab):
    lab.tritons["b"].control("simple", "unload", False)
    result = run(module=triton_model_info)
    assert not result["changed"] and result["set"] == ["simple"] and [replica["replica"] for replica in result["replicas"]] == ["a", "b", "c"]
    assert result["differs"] == ["b: model simple is not loaded, most replicas: has version 1"]
    assert result["table"][-1].split() == ["simple", "1", "-", "1", "load"]
    for triton in lab.tritons.values():
        triton.control("simple", "unload", False)
    assert run(module=triton_model_info)["differs"] == ["model simple is not loaded on most replicas, but new ones load it"]
