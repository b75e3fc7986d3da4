# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import math

import numpy
import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _case_text, _record

METADATA = {"inputs": [{"name": name, "datatype": "INT32", "shape": [-1, 4]} for name in ("A", "B")]}


def how(datatype="FP32", **options):
    return _record.How({"O": datatype}, **options)


def answer(datatype, values, shape=None):
    dtype = {"BYTES": object, "BF16": "float32", "BOOL": bool}.get(datatype) or {"F": "float", "I": "int", "U": "uint"}[
        datatype[0]
    ] + datatype.lstrip("FPINTU")
    array = numpy.array(values, dtype=dtype)
    return {"O": (datatype, array if shape is None else array.reshape(shape))}


def classes(*texts, shape=None):
    return {"O": ("BYTES", numpy.array([text.encode() for text in texts], dtype=object).reshape(shape or [len(texts)]))}


def read_back(output):
    text = _case_text.render({"inputs": [], "outputs": [output.entry]})
    return _case_text.parse(text, "verify.yml")[0]


def refusal(function, *arguments):
    with pytest.raises(_record.RecordError) as raised:
        function(*arguments)
    return str(raised.value)


@pytest.mark.parametrize(
    "datatype, values, written",
    [
        ("FP32", [0.1, 1 / 3, 1e-30, 3.0], [0.1, 0.33333334, 1e-30, 3.0]),
        ("FP64", [1 / 3, 1e300], [1 / 3, 1e300]),
        ("FP16", [0.1, 65504], [0.1, 65500.0]),
        ("FP32", [math.inf, -math.inf], [math.inf, -math.inf]),
        ("INT64", [2**63 - 1, -(2**63)], [2**63 - 1, -(2**63)]),
        ("UINT64", [2**64 - 1], [2**64 - 1]),
        ("BOOL", [True, False], [True, False]),
        ("BYTES", ["é".encode(), b"true", b"two\nlines", b"", b"\x00"], ["é", "true", "two\nlines", "", "\x00"]),
        ("INT32", [], []),
    ],
)
def test_values_are_written_so_that_the_same_answer_passes(datatype, values, written):
    found = answer(datatype, values)
    [output] = _record.recorded_outputs("m", found, how(datatype))
    assert output.kind == "values" and output.entry["data"] == written and output.entry["shape"] == [len(values)]
    assert not _record.problem_of(read_back(output), [found])
    if values:
        other = answer(datatype, [*values[:-1], b"x" if datatype == "BYTES" else 7])
        assert "O[" in _record.problem_of(read_back(output), [other])


def test_not_a_number_passes_as_itself():
    found = answer("FP32", [math.nan, 1.0])
    [output] = _record.recorded_outputs("m", found, how())
    assert not _record.problem_of(read_back(output), [found])
    assert "O[0] is 2" in _record.problem_of(read_back(output), [answer("FP32", [2, 1])])


def test_only_floats_have_a_tolerance():
    options = {"tolerance": 0.01, "relative": 0.1}
    assert (
        _record.recorded_outputs("m", answer("FP32", [1]), how(**options))[0].entry | options
        == _record.recorded_outputs("m", answer("FP32", [1]), how(**options))[0].entry
    )
    assert "tolerance" not in _record.recorded_outputs("m", answer("INT32", [1]), how("INT32", **options))[0].entry


@pytest.mark.parametrize(
    "found, options, why",
    [
        (answer("FP32", [0] * 65), {}, "it has 65 values, more than 64"),
        (answer("FP32", [0]), {"shape_only": True}, "shape_only is true"),
        (answer("BYTES", [b"\xff"]), {"datatype": "BYTES"}, "bytes that are not UTF-8"),
    ],
)
def test_a_shape_alone_says_why(found, options, why):
    [output] = _record.recorded_outputs("m", found, how(**options))
    assert output.kind == "shape" and why in output.why and "data" not in output.entry
    assert not _record.problem_of(read_back(output), [found])


def test_of_many_numbers_it_is_recorded_that_they_are_finite():
    assert _record.recorded_outputs("m", answer("FP32", [0] * 65), how())[0].entry["finite"]
    for found, options in (
        (answer("FP32", [math.nan] * 65), {}),
        (answer("INT32", [0] * 65), {"datatype": "INT32"}),
        (answer("FP32", [0]), {"shape_only": True}),
    ):
        assert set(_record.recorded_outputs("m", found, how(**options))[0].entry) == {"name", "datatype", "shape"}


def test_classes_are_recorded_in_place_of_values():
    found = classes("0.75:2:a: b", "0.25:0")
    options = how(top=2, tolerance=0.01)
    assert options.requested == {"O": 2} and how("BYTES", top=2).requested == {"O": 0}
    [output] = _record.recorded_outputs("m", found, options)
    assert output.entry == {"name": "O", "classes": [{"index": 2, "label": "a: b", "value": 0.75}, {"index": 0, "value": 0.25}], "tolerance": 0.01}
    assert not _record.problem_of(read_back(output), [found])
    batch = _record.recorded_outputs("m", classes("1:0", "0:1", "1:1", "0:0", shape=[2, 2]), options)[0].entry
    assert batch["top"] == 2 and len(batch["classes"]) == 4
    assert "with classes" in refusal(_record.recorded_outputs, "m", answer("FP32", [1]), options)


def test_a_missing_output_is_named():
    assert "model m did not answer its output O" in refusal(_record.recorded_outputs, "m", {"X": ("FP32", numpy.zeros(1))}, how())


@pytest.mark.parametrize(
    "first, other, options, says",
    [
        (answer("FP32", [1, 2]), answer("FP32", [1, 2.1]), {"relative": 0.01}, "in run 2 of 2 O[1] is 2.1, at first 2.0; 1 of 2 values differ"),
        (answer("INT32", [1]), answer("INT32", [2]), {"tolerance": 9}, "O[0] is 2, at first 1"),
        (answer("BYTES", [b"a"]), answer("BYTES", [b"b"]), {"datatype": "BYTES"}, "O[0] is b, at first a"),
        (answer("FP32", [1]), answer("FP32", [1, 2]), {"shape_only": True}, "O is FP32 [2], at first FP32 [1]. Its shapes differ too"),
        (answer("FP32", [0.0] * 100), answer("FP32", [0.0] * 99 + [1]), {}, "O[99] is 1.0, at first 0.0"),
        (answer("FP32", [1]), answer("FP32", [1.0001]), {"agree": True, "relative": 0.01}, "record it without agree"),
    ],
)
def test_a_model_that_answers_differently_is_refused(first, other, options, says):
    message = refusal(_record.expect_the_same, "m", [first, other], how(**options))
    assert "model m answered the same inputs" in message and says in message


@pytest.mark.parametrize(
    "first, other, options",
    [
        (answer("FP32", [1, math.nan]), answer("FP32", [1.0001, math.nan]), {"relative": 0.01}),
        (answer("FP32", [1]), answer("FP32", [2]), {"shape_only": True}),
        (answer("BF16", [1]), answer("BF16", [1]), {"agree": True}),
    ],
)
def test_what_may_differ_is_accepted(first, other, options):
    _record.expect_the_same("m", [first, other], how(**options))


def test_what_a_model_is_sent_by_default_differs_from_input_to_input():
    inputs = _record.default_inputs(METADATA)
    assert [tensor["name"] for tensor in inputs] == ["A", "B"]
    sent = _record.sent_by("m", {"inputs": inputs}, ".", METADATA)
    assert sent["A"][1].shape == (1, 4) and (sent["A"][1] != sent["B"][1]).any()


@pytest.mark.parametrize(
    "tensor, entry",
    [
        ({"fill": "random", "seed": 3}, {"fill": "random", "seed": 3}),
        ({"fill": "ones", "seed": 0}, {"fill": "ones"}),
        ({"data": [["1", 2]], "seed": 0}, {"data": [1, 2]}),
        ({"file": "x.png", "scaling": "VGG"}, {"file": "beside.png", "scaling": "VGG"}),
        ({"file": "x.npy", "scaling": "NONE"}, {"file": "beside.png"}),
    ],
)
def test_an_input_is_recorded_with_type_and_shape_as_sent(tensor, entry):
    recorded = _record.recorded_input({"name": "A", **tensor}, "INT32", numpy.zeros((1, 2), "int32"), "beside.png" if "file" in tensor else None)
    assert recorded == {"name": "A", "datatype": "INT32", "shape": [1, 2], **entry}


def test_cases_that_send_the_same_are_found_however_they_are_written():
    sent = _record.sent_by("m", {"inputs": [{"name": "A", "fill": "ones"}, {"name": "B", "fill": "zeros"}]}, ".", METADATA)
    same = {"inputs": [{"name": "B", "data": [0]}, {"name": "A", "datatype": "INT32", "shape": [1, 4], "data": [[1, 1, 1, 1]]}]}
    assert _record.same_tensors(_record.sent_by("m", same, ".", METADATA), sent)
    assert not _record.same_tensors(_record.sent_by("m", {"inputs": [{"name": "A", "fill": "ones"}]}, ".", METADATA), sent)
    for case in (
        {"model": "other", **same},
        {"inputs": "text"},
        {"inputs": [1]},
        {"inputs": [{"name": "C", "fill": "ones"}]},
        {"inputs": [{"fill": "ones"}]},
        {},
    ):
        assert _record.sent_by("m", case, ".", METADATA) is None


def test_cases_differ_in_what_they_hold_but_the_answer():
    case = {"inputs": [1], "outputs": [{"name": "O", "data": [1]}]}
    assert _record.skeleton(case) == _record.skeleton({"model": "m", "inputs": [2], "agree": False, "outputs": [{"name": "O", "data": [2]}]})
    for other in (
        {"outputs": [{"name": "O"}]},
        {"outputs": [{"name": "O", "data": [1], "tolerance": 1}]},
        {**case, "version": 1},
        {**case, "agree": True},
    ):
        assert _record.skeleton(case) != _record.skeleton(other)


def test_unknown_outputs_are_refused():
    metadata = {"outputs": [{"name": "O", "datatype": "FP32"}, {"name": "P", "datatype": "BYTES"}]}
    assert _record.chosen_outputs("m", metadata, None) == {"O": "FP32", "P": "BYTES"}
    assert _record.chosen_outputs("m", metadata, ["P"]) == {"P": "BYTES"}
    assert "model m has no output X; its outputs are: O, P" in refusal(_record.chosen_outputs, "m", metadata, ["X"])
