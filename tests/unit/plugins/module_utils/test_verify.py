# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import numpy
import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _verify


def prepare(datatype, shape, data, outputs=()):
    case = {"model": "m", "version": None, "inputs": [{"name": "A", "datatype": datatype, "shape": shape, "data": data}], "outputs": list(outputs)}
    return _verify.prepare([case])[0]


def compare(array, kind="FP32", **expected):
    case = prepare("BOOL", [1], [True], [{"name": "O"} | expected])
    return _verify.compare(case, {"O": (kind, numpy.array(array))})


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
    with pytest.raises(_verify.CaseError, match="the case of model m, input A") as caught:
        prepare(datatype, [2], data)
    assert words in str(caught.value)


def test_expected_data_must_fit_the_expected_shape():
    with pytest.raises(_verify.CaseError, match="output O: shape"):
        prepare("INT32", [1], [1], [{"name": "O", "shape": [3], "data": [1, 2]}])


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ([1.0, 2.0], {"data": [1, 2], "shape": [2], "datatype": "FP32"}),
        (numpy.array([0.1], "float32"), {"data": [0.1]}),
        ([1.0009], {"data": [1], "tolerance": 0.001}),
        ([[1.0], [2.0]], {"data": [[1], [2]]}),
        ([float("nan"), float("inf")], {"data": [float("nan"), float("inf")]}),
        ([5.0], {}),
    ],
)
def test_an_answer_within_the_tolerance_passes(array, expected):
    assert compare(array, **expected) == ""


@pytest.mark.parametrize(
    ("array", "datatype", "expected", "words"),
    [
        ([1, 7, 8], "INT32", {"data": [1, 2, 3]}, "O[1] is 7, expected 2 (tolerance 0); 2 of 3 values differ"),
        ([1.1], "FP32", {"data": [1], "tolerance": 0.05}, "O[0] is 1.1, expected 1 (tolerance 0.05)"),
        ([float("nan")], "FP32", {"data": [1], "tolerance": 9}, "O[0] is nan, expected 1"),
        ([2**53 + 1], "INT64", {"data": [2**53]}, "expected 9007199254740992"),
        ([1], "INT32", {"data": [1, 2]}, "O has 1 values, expected 2"),
        ([1], "INT32", {"shape": [1, 1]}, "O has the shape [1], expected [1, 1]"),
        ([1], "INT32", {"datatype": "INT64"}, "O has the data type INT32, expected INT64"),
        ([1], "INT32", {"data": ["cat"]}, "'cat' is not a value of type INT32"),
    ],
)
def test_a_difference_is_told_in_words(array, datatype, expected, words):
    assert words in compare(array, datatype, **expected)


def test_texts_and_missing_outputs():
    assert compare(numpy.array([b"cat"], object), "BYTES", data=["cat"]) == ""
    assert "O[0] is dog, expected cat" in compare(numpy.array([b"dog"], object), "BYTES", data=["cat"])
    case = prepare("BOOL", [1], [True], [{"name": "P"}])
    assert _verify.compare(case, {"O": ("INT32", numpy.array([1]))}) == "output P is missing; the answer has O"


def test_the_sample_shows_the_first_expected_output():
    case = prepare("BOOL", [1], [True], [{"name": "O"}])
    answer = {"A": ("INT32", numpy.array([9])), "O": ("INT32", numpy.arange(1, 9))}
    assert _verify.sample(case, answer) == "O[0:3]=1 2 3"
    assert _verify.sample(case, {"O": ("BYTES", numpy.array([b"x" * 30], object))}) == f"O[0:1]={'x' * 24}..."


def entry(name="m", state="READY", reason="", version="1"):
    return {"name": name, "version": version, "state": state, "reason": reason}


def test_models_are_judged():
    case = prepare("BOOL", [1], [True])
    models, problems = _verify.judge_models([entry(), entry("extra"), entry("m", "UNAVAILABLE", "unloaded", "0"), entry("new", "", "")], [case])
    assert [model["note"] for model in models] == ["", "no case", "not loaded", "not loaded"] and problems == []
    _models, problems = _verify.judge_models([entry("bad", "UNAVAILABLE", "Internal: out of memory")], [case])
    assert problems == ["model bad version 1 is UNAVAILABLE: Internal: out of memory", "model m is not in the repository index; it has: bad"]
    assert _verify.judge_models([entry("m", "", "")], [case])[1] == ["model m is in the repository but not loaded"]


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
    assert "pod-1: GRPC inference of m: O[0] is 2, expected 1" in text and "http://x: HTTP: no answer" in text
