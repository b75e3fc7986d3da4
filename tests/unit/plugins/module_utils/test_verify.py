# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import numpy
import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _tensors, _verify


def prepare(datatype, shape, data, outputs=()):
    case = {"model": "m", "version": None, "inputs": [{"name": "A", "datatype": datatype, "shape": shape, "data": data}], "outputs": list(outputs)}
    return _verify.prepare([("", case)])[0]


@pytest.mark.parametrize(
    ("datatype", "data", "dtype", "values"),
    [
        ("INT32", [[1, "2"], [3, 4.0]], "int32", [[1, 2], [3, 4]]),
        ("UINT64", [0, 1, 2, 2**64 - 1], "uint64", [[0, 1], [2, 2**64 - 1]]),
        ("FP16", [0.5, 1, "2", -1], "float16", [[0.5, 1], [2, -1]]),
        ("BOOL", [True, "false", 1, 0], "bool", [[True, False], [True, False]]),
        ("BYTES", ["é", "", 1, "x"], "object", [["é".encode(), b""], [b"1", b"x"]]),
        ("FP64", [7], "float64", [[7, 7], [7, 7]]),
    ],
)
def test_yaml_values_become_tensors(datatype, data, dtype, values):
    kind, array = prepare(datatype, [2, 2], data).inputs["A"]
    assert kind == datatype and array.dtype == dtype and array.tolist() == values


@pytest.mark.parametrize(
    ("datatype", "data", "words"),
    [
        ("INT8", [300, 0], "does not fit into INT8"),
        ("INT32", [1.5, 0], "1.5 is not a value of type INT32"),
        ("FP32", ["x", 0], "'x' is not a value of type FP32"),
        ("BOOL", ["maybe", 0], "'maybe' is not a value of type BOOL"),
        ("INT32", [1, 2, 3], "holds 2 values, data has 3"),
    ],
)
def test_a_case_that_cannot_be_sent_is_named(datatype, data, words):
    with pytest.raises(_tensors.CaseError, match="the case of model m, input A") as caught:
        prepare(datatype, [2], data)
    assert words in str(caught.value)


def test_expected_data_must_fit_the_expected_shape():
    with pytest.raises(_tensors.CaseError, match="output O: shape"):
        prepare("INT32", [1], [1], [{"name": "O", "shape": [3], "data": [1, 2]}])


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ({"top": 5, "data": [1]}, "data would not be looked at beside top"),
        ({"contains": {}, "data": ["x"]}, "data would not be looked at beside contains"),
        ({"classes": [{"index": 1}], "shape": [1], "finite": True}, "shape, finite would not be looked at beside classes"),
    ],
)
def test_an_expectation_that_another_one_hides_is_refused(output, words):
    with pytest.raises(_tensors.CaseError, match=words):
        prepare("INT32", [1], [1], [{"name": "O", **output}])


def entry(name="m", state="READY", reason="", version="1"):
    return {"name": name, "version": version, "state": state, "reason": reason}


def test_models_are_judged():
    wanted = _verify.Wanted([prepare("BOOL", [1], [True])])
    models, problems = _verify.judge_models([entry(), entry("extra"), entry("m", "UNAVAILABLE", "unloaded", "0"), entry("new", "", "")], wanted)
    assert [model["note"] for model in models] == ["", "no case", "not loaded", "not loaded"] and problems == []
    _models, problems = _verify.judge_models([entry("bad", "UNAVAILABLE", "Internal: out of memory")], wanted)
    assert problems == ["model bad version 1 is UNAVAILABLE: Internal: out of memory"]
    assert _verify.missing([entry("bad", "UNAVAILABLE")], wanted) == ["model m is not in the repository index; it has: bad"]
    assert _verify.missing([entry("m", "", "")], wanted) == ["model m is in the repository but not loaded"]


def test_every_expected_version_must_be_loaded():
    wanted = _verify.Wanted([], versions={"m": ["2", "10"]})
    assert _verify.missing([entry(version="10"), entry(version="2"), entry(version="1")], wanted) == []
    unloaded = entry("m", "UNAVAILABLE", "unloaded", "2")
    assert _verify.missing([entry(version="1"), unloaded], wanted) == ["model m has version 1 loaded, expected 2, 10 too"]


def test_the_table_and_the_message():
    def outcome(protocol, ok, time):
        return {"model": "m", "protocol": protocol, "ok": ok, "milliseconds": time, "outputs": "O[0:1]=1", "message": "" if ok else "differs"}

    good = _verify.new_report("pod-1", "replica", "node-1") | {
        "version": "2.51.0",
        "models": [entry()],
        "inferences": [outcome("http", True, 3), outcome("http", True, 12), outcome("grpc", False, 4)],
        "problems": ["GRPC inference of m: O[0] is 2, expected 1"],
    }
    silent = _verify.new_report("http://x", "url") | {"problems": ["HTTP: no answer (connection refused)"]}
    assert _verify.table([good, silent], ["http", "grpc"]) == [
        "TARGET    NODE    VERSION  MODELS  HTTP      GRPC        ANSWER",
        "pod-1     node-1  2.51.0   1/1     ok 12 ms  FAILED 1/1  O[0:1]=1",
        "http://x  -       -        0/0     -         -           -",
    ]
    text = _verify.message([good, silent], ["1 of 2 replicas are ready"])
    assert text.splitlines()[0] == "2 of 2 targets did not pass the verification."
    assert "pod-1 on node node-1: GRPC inference of m: O[0] is 2, expected 1" in text and "http://x: HTTP: no answer" in text


def test_models_of_the_source_are_wanted_too():
    assert _verify.missing([entry("a")], _verify.Wanted([], ("a", "b"))) == ["model b is not in the repository index; it has: a"]


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        ([{"name": "A", "datatype": "FP32"}, {"name": "B", "datatype": "BYTES"}], []),
        ([{"name": "A", "datatype": "INT8"}], ["model m: of its inputs, A is INT8, expected FP32 as in its config.pbtxt"]),
        ([{"name": "B", "datatype": "FP32"}], ["model m: of its inputs, A is missing; there are B, expected FP32 as in its config.pbtxt"]),
    ],
)
def test_metadata_is_held_against_the_configuration(served, expected):
    assert _verify.judge_metadata("m", {"inputs": {"A": "FP32"}}, {"inputs": served}) == expected


def test_names_that_were_not_given_are_the_models_only_ones():
    case = _verify.prepare([("", {"model": "m", "inputs": [{"fill": "zeros"}], "outputs": [{"top": 3}]})])[0]
    assert case.needs_metadata
    named = case.named({"inputs": [{"name": "A"}], "outputs": [{"name": "B"}]})
    assert named.tensors[0]["name"] == "A" and named.wanted == {"B": 3}
    with pytest.raises(_tensors.CaseError, match="one of its inputs has no name, and the model has 2: A, C. Name it."):
        case.named({"inputs": [{"name": "A"}, {"name": "C"}], "outputs": [{"name": "B"}]})


def test_replicas_that_disagree_are_named():
    case = _verify.prepare([("", {"model": "m", "inputs": [{"fill": "ones"}], "agree": True})])[0]

    def report(name, value):
        entry = {"model": "m", "protocol": "http", "ok": True, "milliseconds": 1}
        entry |= _verify.outcome(case, [{"O": ("INT32", numpy.array([value]))}], 1, None)
        return _verify.new_report(name, "replica") | {"inferences": [entry]}

    reports = [report("a", 1), report("b", 2), report("c", 1)]
    _verify.judge_agreement(reports, [case])
    assert [bool(entry["problems"]) for entry in reports] == [False, True, False] and not reports[1]["inferences"][0]["ok"]
    words = "it answered otherwise than most of the others (O[0:1]=2; a: O[0:1]=1), expected the same everywhere"
    assert reports[1]["problems"] == [f"HTTP inference of m: {words}"]


def test_the_responses_of_a_stream_need_no_names_and_may_be_none():
    given = {"model": "m", "stream": True, "inputs": [{"name": "A", "datatype": "INT32", "shape": [1], "data": [1]}]}
    case = _verify.prepare([("", given | {"responses": [{"outputs": [{"data": [7]}]}, {"outputs": [{"top": 2}]}]})])[0]
    assert case.needs_metadata
    named = case.named({"inputs": [{"name": "A"}], "outputs": [{"name": "B"}]})
    assert named.responses[0]["outputs"][0]["name"] == "B" and named.wanted == {"B": 2}
    silent = _verify.prepare([("", given | {"responses": []})])[0]
    assert _verify.outcome(silent, [], 1, None)["message"] == ""
    assert _verify.outcome(silent, [{"B": ("INT32", numpy.array([7]))}], 1, None)["message"] == "the stream had 1 response, expected 0"
    unsaid = _verify.prepare([("", given)])[0]
    assert _verify.outcome(unsaid, [], 1, None)["message"] == "the stream ended without a response"


def test_an_inference_may_not_take_longer_than_told():
    case = prepare("BOOL", [1], [True])
    answer = [{"O": ("INT32", numpy.array([1]))}]
    assert _verify.outcome(case, answer, 21, 20)["message"] == "it took 21 ms, expected 20 at most"
    assert _verify.outcome(case, answer, 20, 20)["message"] == ""


def case(**more):
    return _verify.prepare([("", {"model": "m", **more})])[0]


INPUTS = [{"name": "A", "datatype": "INT32", "shape": [1], "data": [1]}]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "it has no inputs. Give inputs, or steps for a stateful model."),
        ({"inputs": [], "steps": []}, "it has no inputs"),
        ({"inputs": INPUTS, "responses": []}, "it has responses, which only a stream has several of"),
        ({"stream": True, "steps": [{"inputs": INPUTS}]}, "it has stream and steps. Leave one of them out."),
        ({"steps": [{"inputs": []}]}, "it has no inputs"),
        ({"inputs": INPUTS, "outputs": [{"name": "O", "pattern": "("}]}, "output O: pattern is (, which is no regular expression"),
    ],
)
def test_a_case_that_contradicts_itself_is_named(more, words):
    with pytest.raises(_tensors.CaseError, match="the case of model m") as caught:
        case(**more)
    assert words in str(caught.value)


def test_the_steps_of_a_sequence_share_what_the_case_says():
    found = case(version="2", json=True, steps=[{"inputs": INPUTS}, {"inputs": INPUTS, "outputs": [{"name": "O"}]}])
    assert [(step.version, step.json) for step in found.steps] == [("2", True)] * 2 and found.steps[1].wanted == {"O": 0}


def test_names_of_a_streams_responses_are_the_models_only_ones():
    found = case(inputs=INPUTS, stream=True, responses=[{"outputs": [{"top": 2}]}, {}])
    assert found.needs_metadata
    assert found.named({"outputs": [{"name": "O"}]}).wanted == {"O": 2}


def test_expected_values_of_a_file_lie_beside_the_case(tmp_path):
    numpy.save(tmp_path / "a.npy", numpy.array([1, 2], "int32"))
    found = _verify.prepare([(str(tmp_path), {"model": "m", "inputs": INPUTS, "outputs": [{"name": "O", "file": "a.npy"}]})])[0]
    answer = {"O": ("INT32", numpy.array([1, 3], "int32"))}
    assert _verify.outcome(found, [answer], 1, None)["message"] == "O[1] is 3, expected 2 (tolerance 0); 1 of 2 values differ"


def test_all_responses_of_a_stream_must_agree():
    found = case(inputs=INPUTS, stream=True, agree=True)
    first, second = ([{"O": ("INT32", numpy.array([value]))} for value in values] for values in ((1, 2), (3, 2)))
    assert _verify.outcome(found, first, 1, None)["digest"] != _verify.outcome(found, second, 1, None)["digest"]


@pytest.mark.parametrize(
    ("problem", "advice"),
    [
        ("HTTP inference of m: O[0] is 2, expected 1 (tolerance 0); 1 of 1 values differ", "A server answered with other values"),
        ("HTTP inference of m: the server refused: unexpected inference output 'P' for model 'm' (400)", "Correct what is named above"),
        (
            "HTTP inference of m: the server refused: Stub process 'm_0_0' is not healthy. (500)",
            "The process that runs the model's Python code has died",
        ),
        ("the server says that it is not live; HTTP: the answer is not Triton's (status 403)", "Correct the address"),
    ],
)
def test_the_last_line_says_what_to_do(problem, advice):
    report = _verify.new_report("http://x", "url") | {"problems": [problem]}
    assert _verify.message([report], []).splitlines()[-1].startswith(advice)
