# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import collections
import os
import re

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _model_lint, _model_rules, _model_tree

INPUT = 'input [ { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] } ]\n'
OUTPUT = 'output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] } ]\n'
IO = INPUT + OUTPUT
PYTHON = 'backend: "python"\n' + IO
COMPLETING = "def auto_complete_config(config): ..."
DIRECTORY, PIPE = object(), object()
Link = collections.namedtuple("Link", "target")
GOOD = {"good/config.pbtxt": PYTHON, "good/1/model.py": "x"}


def python(config: str = PYTHON, **files) -> dict:
    return {"m/config.pbtxt": config, "m/1/model.py": "x", **{f"m/{name}": content for name, content in files.get("files", {}).items()}}


def model(config: str, *names: str) -> dict:
    return {"m/config.pbtxt": config, **{f"m/{name}": "x" for name in names}}


def bare(*names: str) -> dict:
    return {f"m/{name}": "x" for name in names}


def step(name="good", entry=("IN", "IN"), result=("OUT", "OUT"), version="model_version: -1") -> str:
    maps = "".join(f'{kind}_map {{ key: "{key}" value: "{value}" }} ' for kind, (key, value) in (("input", entry), ("output", result)))
    return f'{{ model_name: "{name}" {version} {maps}}}'


def ensemble(*steps: str, io: str = IO, extra: str = "", name: str = "m", declared: str = 'platform: "ensemble"\n') -> dict:
    config = f"{declared}{io}{extra}ensemble_scheduling {{ step [ {', '.join(steps)} ] }}"
    return {**GOOD, f"{name}/config.pbtxt": config, f"{name}/1/README": "x"}


def write(root, files: dict) -> str:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is DIRECTORY:
            path.mkdir()
        elif content is PIPE:
            os.mkfifo(path)
        elif isinstance(content, Link):
            path.symlink_to(content.target)
        else:
            path.write_text(content)
    return str(root)


TWO_INPUTS = PYTHON.replace("dims: [ 4 ] }", 'dims: [ 4 ] }, { name: "IN2" data_type: TYPE_FP32 dims: [ 4 ] }', 1)
LABELS = 'backend: "python"\n' + INPUT + OUTPUT.replace("dims: [ 4 ]", 'dims: [ 4 ] label_filename: "labels.txt"')
MENTIONING = 'parameters { key: "w" value { string_value: "$$TRITON_MODEL_DIRECTORY/weights.bin" } }\n' + PYTHON
SERVING_ALL = PYTHON + "version_policy { all { } }"
PYTORCH = 'backend: "pytorch"\n' + IO
DEEP = "/".join("d" * 200 for _element in range(4))

#: rule, a tree that breaks it and no other, the nearest tree that has no finding
PAIRS = [
    ("source-is-model", {"config.pbtxt": PYTHON, "1/model.py": "x"}, python()),
    ("model-empty", {**GOOD, "m/notes.txt": "x"}, {**GOOD, **python()}),
    ("model-empty", {**GOOD, "m/1": DIRECTORY}, GOOD),
    ("model-nested", {"m/m/config.pbtxt": PYTHON, "m/m/1/model.py": "x"}, python()),
    ("model-nested", {"m/copy/1/model.onnx": "x"}, bare("1/model.onnx")),
    ("version-missing", {"m/config.pbtxt": PYTHON}, python()),
    ("version-missing", {k: v for k, v in ensemble(step()).items() if "README" not in k}, ensemble(step())),
    ("version-empty", {**python(), "m/2": DIRECTORY}, {**python(), "m/2/model.py": "x"}),
    ("version-empty", {**model("", "1/model.onnx"), "m/2/.gitkeep": ""}, model("", "1/model.onnx", "2/model.onnx")),
    ("version-kept", {**ensemble(step()), "m/2": DIRECTORY}, ensemble(step())),
    ("version-kept", {**model('backend: "tensorrtllm"'), "m/1": DIRECTORY}, model('backend: "tensorrtllm"', "1/README")),
    ("version-kept", {**model('backend: "identity"'), "m/1": DIRECTORY}, model('backend: "identity"', "1/README")),
    ("version-leading-zero", {**python(), "m/02/model.py": "x"}, {**python(), "m/2/model.py": "x"}),
    ("version-leading-zero", model(PYTHON, "01/model.py"), model(PYTHON, "0/model.py")),
    ("version-too-large", python(files={"9223372036854775808/model.py": "x"}), python(files={"9223372036854775807/model.py": "x"})),
    ("version-too-large", python(files={"99999999999999999999-old/model.py": "x"}), python(files={"old-99999999999999999999/model.py": "x"})),
    ("version-misread", python(files={"2-old/model.py": "x"}), python(files={"old-2/model.py": "x"})),
    ("version-misread", model(PYTHON, "1a/model.py"), model(PYTHON, "1/model.py", "1a/model.py")),
    ("model-file-missing", model(PYTHON, "1/other.py"), python()),
    (
        "model-file-missing",
        model('default_model_filename: "a.py"\n' + PYTHON, "1/model.py"),
        model('default_model_filename: "a.py"\n' + PYTHON, "1/a.py"),
    ),
    ("model-file-missing", model('backend: "onnxruntime"', "1/net.onnx"), model('backend: "onnxruntime"', "1/model.onnx")),
    (
        "model-file-missing",
        model('backend: "onnxruntime"', "1/model.onnx/w.bin"),
        model('backend: "onnxruntime"', "1/model.onnx/model.onnx", "1/model.onnx/w"),
    ),
    ("model-file-missing", model('platform: "tensorrt_plan"', "1/net.plan"), model('platform: "tensorrt_plan"', "1/model.plan")),
    (
        "model-file-missing",
        model('backend: "tensorrt" cc_model_filenames [ { key: "7.5" value: "t4.plan" }, { key: "8.0" value: "a100.plan" } ]', "1/t4.plan"),
        model(
            'backend: "tensorrt" cc_model_filenames [ { key: "7.5" value: "t4.plan" }, { key: "8.0" value: "a100.plan" } ]',
            "1/t4.plan",
            "1/a100.plan",
        ),
    ),
    ("model-file-missing", model('backend: "openvino"', "1/model.xml"), model('backend: "openvino"', "1/model.xml", "1/model.bin")),
    (
        "model-file-missing",
        model('backend: "tensorflow"', "1/model.savedmodel/x"),
        model('backend: "tensorflow"', "1/model.savedmodel/saved_model.pb"),
    ),
    ("model-file-missing", model(PYTORCH, "1/net.pt"), model(PYTORCH, "1/model.pt2")),
    ("model-file-missing", model('backend: "vllm"', "1/config.json"), model('backend: "vllm"', "1/model.json")),
    ("model-file-missing", model('backend: "dali"', "1/pipeline.py"), model('backend: "dali"', "1/dali.py")),
    ("model-file-missing", model(PYTHON, "1/x"), model('backend: "my_own"', "1/x")),
    ("model-file-empty", {**python(), "m/1/model.py": ""}, {**python(), "m/1/other.py": ""}),
    ("stray-file", {**python(), "weights.bin": "x"}, {**python(), "README.md": "x", "LICENSE": "x"}),
    ("unknown-entry", python(files={"weights.bin": "x"}), python(MENTIONING, files={"weights.bin": "x"})),
    ("unknown-entry", python(files={"names.txt": "x"}), {**python(files={"names.txt": "x"}), "m/1/model.py": "open('../names.txt')"}),
    ("unknown-entry", python(files={"data/x.bin": "x"}), python(files={"warmup/x.bin": "x", "configs/a100.pbtxt": "x", "initial_state/x": "x"})),
    ("unknown-entry", model('backend: "onnxruntime"', "1/model.onnx", "a.py"), python(files={"a.py": "x", "tools/b.py": "x", ".hidden": "x"})),
    ("unknown-entry", model("", "1/model.onnx", "notes.md"), model("", "1/model.onnx", "README.md")),
    ("config-syntax", python("backend: python\n" + IO), python()),
    ("config-name", python('name: "n"\n' + PYTHON), python('name: "m"\n' + PYTHON)),
    ("backend-unknown", model(IO, "1/model.bin"), model(IO, "1/model.onnx")),
    ("backend-unknown", bare("1/model.bin"), {"m.identity/1/model.bin": "x"}),
    ("platform-unknown", python('platform: "python"\n' + IO), python()),
    ("platform-unknown", model('platform: "onnx"', "1/model.onnx"), model('platform: "onnxruntime_onnx"', "1/model.onnx")),
    (
        "platform-contradicts",
        model('backend: "onnxruntime" platform: "tensorrt_plan"', "1/model.onnx"),
        model('backend: "onnxruntime" platform: "onnxruntime_onnx"', "1/model.onnx"),
    ),
    ("platform-contradicts", model(PYTORCH + 'platform: "pytorch"', "1/model.pt"), python('platform: "pytorch"\n' + PYTHON)),
    ("ensemble-platform", ensemble(step(), declared=""), ensemble(step())),
    ("ensemble-platform", ensemble(step(), declared='platform: "ensemble" backend: "python"\n'), ensemble(step())),
    ("ensemble-setting", ensemble(step(), extra="instance_group [ { kind: KIND_CPU } ]\n"), ensemble(step(), extra="max_batch_size: 0\n")),
    ("ensemble-setting", ensemble(step(), extra="optimization { }\n"), ensemble(step())),
    ("config-missing", bare("1/model.pt"), bare("1/model.onnx")),
    ("tensors-missing", python('backend: "python"'), {**python('backend: "python"'), "m/1/model.py": COMPLETING}),
    ("tensors-missing", bare("1/model.py"), {"m/1/model.py": COMPLETING}),
    ("tensors-missing", model('backend: "pytorch"', "1/model.pt"), model(PYTORCH, "1/model.pt")),
    ("tensor-incomplete", python(PYTHON.replace("dims: [ 4 ]", "", 1)), {**python(PYTHON.replace("dims: [ 4 ]", "", 1)), "m/1/model.py": COMPLETING}),
    ("tensor-incomplete", python(PYTHON.replace("data_type: TYPE_FP32", "", 1)), python()),
    ("tensor-incomplete", python(PYTHON.replace('name: "IN"', "")), model('backend: "onnxruntime" input [ { name: "a" } ]', "1/model.onnx")),
    ("tensor-dims", python(PYTHON.replace("[ 4 ]", "[ 0 ]", 1)), python(PYTHON.replace("[ 4 ]", "[ 1 ]", 1))),
    ("tensor-dims", python(PYTHON.replace("[ 4 ]", "[ -2 ]", 1)), python(PYTHON.replace("[ 4 ]", "[ -1 ]", 1))),
    (
        "tensor-dims",
        python(PYTHON.replace("[ 4 ]", "[ 4 ] reshape { shape: [ 0 ] }", 1)),
        python(PYTHON.replace("[ 4 ]", "[ 1 ] reshape { shape: [ ] }", 1)),
    ),
    ("tensor-twice", python(PYTHON + INPUT), python(PYTHON.replace('"OUT"', '"IN"'))),
    ("label-file-missing", python(LABELS), python(LABELS, files={"labels.txt": "a\nb\nc\nd"})),
    ("label-file-missing", {**GOOD, **python(LABELS.replace("labels.txt", "../good/config.pbtxt"))}, python()),
    ("label-file-short", python(LABELS, files={"labels.txt": "a\nb\nc\n"}), python(LABELS, files={"labels.txt": "a\nb\nc\nd\n"})),
    ("label-file-short", python(LABELS, files={"labels.txt": ""}), python(LABELS.replace("[ 4 ]", "[ -1 ]"), files={"labels.txt": "a"})),
    (
        "version-policy",
        python(PYTHON + "version_policy { specific { versions: [ 2 ] } }"),
        python(PYTHON + "version_policy { specific { versions: [ 1 ] } }"),
    ),
    ("version-policy", python(PYTHON + "version_policy { specific { } }"), python(SERVING_ALL)),
    ("version-policy", python(PYTHON + "version_policy { latest { } }"), python(PYTHON + "version_policy { latest { num_versions: 3 } }")),
    ("batch-size", python(PYTHON + "max_batch_size: -1"), python(PYTHON + "max_batch_size: 0")),
    (
        "batch-size",
        python(PYTHON + "max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 4, 8 ] }"),
        python(PYTHON + "max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 4, 8 ] }"),
    ),
    (
        "batch-size",
        python(PYTHON + "max_batch_size: 2 sequence_batching { oldest { preferred_batch_size: [ 4 ] } }"),
        python(PYTHON + "max_batch_size: 4 sequence_batching { oldest { preferred_batch_size: [ 4 ] } }"),
    ),
    ("batch-size", python(PYTHON + "dynamic_batching { preferred_batch_size: [ 4 ] }"), python()),
    ("batching-without-size", python(PYTHON + "dynamic_batching { }"), python(PYTHON + "max_batch_size: 1 dynamic_batching { }")),
    ("batching-without-size", python(PYTHON + "dynamic_batching { }"), model("dynamic_batching { }", "1/model.onnx")),
    ("ensemble-without-steps", ensemble(), ensemble(step())),
    ("ensemble-without-steps", model('platform: "ensemble"\n' + IO, "1/README"), ensemble(step())),
    ("step-incomplete", ensemble('{ model_name: "good" model_version: -1 }'), ensemble(step())),
    ("step-incomplete", ensemble(step("")), ensemble(step())),
    ("step-model-unknown", ensemble(step("none")), ensemble(step("good"))),
    ("step-version-unknown", ensemble(step(version="model_version: 2")), ensemble(step(version="model_version: 1"))),
    ("step-version-unknown", ensemble(step(version="")), {**ensemble(step(version="")), "good/0/model.py": "x", "good/config.pbtxt": SERVING_ALL}),
    (
        "step-version-unknown",
        {**ensemble(step(version="model_version: 1")), "good/2/model.py": "x"},
        {**ensemble(step(version="model_version: 2")), "good/2/model.py": "x"},
    ),
    ("ensemble-cycle", ensemble(step("m")), ensemble(step())),
    (
        "ensemble-cycle",
        {**ensemble(step("b"), name="a"), **ensemble(step("a"), name="b")},
        {**ensemble(step("b"), name="a"), **ensemble(step(), name="b")},
    ),
    ("tensor-not-provided", ensemble(step(entry=("IN", "X"))), ensemble(step())),
    (
        "tensor-not-provided",
        ensemble(step(entry=("IN", "A"), result=("OUT", "B")), step(entry=("IN", "B"), result=("OUT", "A")), step()),
        ensemble(step(result=("OUT", "A")), step(entry=("IN", "A"))),
    ),
    (
        "tensor-not-provided",
        ensemble(step(entry=("IN", "A"), result=("OUT", "A")), step()),
        ensemble(step(entry=("IN", "B")), step(entry=("IN", "A"), result=("OUT", "B")), step(result=("OUT", "A"))),
    ),
    (
        "tensor-not-provided",
        ensemble(step(entry=("IN", "C"))),
        ensemble(step(result=("OUT", "A")), step(entry=("IN", "A"), result=("OUT", "B")), step(entry=("IN", "B"))),
    ),
    ("output-not-produced", ensemble(step(result=("OUT", "Y"))), ensemble(step())),
    ("tensor-unused", ensemble(step(), step(result=("OUT", "Y"))), ensemble(step(result=("OUT", "Y")), step(entry=("IN", "Y")))),
    ("tensor-unused", ensemble(step(), io=INPUT.replace('"IN"', '"IN3"') + IO), ensemble(step())),
    ("tensor-two-sources", ensemble(step(), step()), ensemble(step())),
    ("step-tensor-unknown", ensemble(step(entry=("X", "IN"))), ensemble(step())),
    (
        "step-tensor-unknown",
        ensemble(step(result=("X", "OUT"))),
        {**ensemble(step(result=("X", "OUT"))), "good/1/model.py": COMPLETING},
    ),
    (
        "step-input-unmapped",
        {**ensemble(step()), "good/config.pbtxt": TWO_INPUTS},
        {**ensemble(step()), "good/config.pbtxt": TWO_INPUTS.replace('name: "IN2"', 'name: "IN2" optional: true')},
    ),
    ("tensor-type", ensemble(step(), io=IO.replace("FP32", "INT32", 1)), ensemble(step())),
    ("name-not-addressable", python(files={"1/a b.txt": "x"}), python(files={"1/a_b.txt": "x"})),
    ("name-not-addressable", {"m+1/config.pbtxt": PYTHON, "m+1/1/model.py": "x"}, {"m-1/config.pbtxt": PYTHON, "m-1/1/model.py": "x"}),
    ("name-not-addressable", python(files={"1/\u00e4": "x"}), python(files={"1/.\u00e4": "x"})),
    ("name-too-long", python(files={f"1/{DEEP}/{'f' * 100}": "x"}), python(files={f"1/{DEEP}/{'f' * 80}": "x"})),
    ("name-case", {**GOOD, "Good/config.pbtxt": PYTHON, "Good/1/model.py": "x"}, {**GOOD, **python()}),
    ("file-unreadable", python(files={"1/unreadable": "x"}), python(files={"1/readable": "x"})),
    ("file-unreadable", python(files={"1/model.py": Link("unreadable"), "1/unreadable": "x"}), python()),
    ("link-dangling", {**python(), "m/1/model.py": Link("none")}, {**python(), "m/1/model.py": Link("a.py"), "m/1/a.py": "x"}),
    ("link-dangling", {**GOOD, "m": Link("none")}, {**GOOD, "m": Link("good")}),
    ("link-loop", python(files={"1/loop": Link("..")}), python(files={"1/no_loop": Link("model.py")})),
    ("link-external", {**python(), "m/1/model.py": Link(__file__)}, {**GOOD, **python(), "m/1/model.py": Link("../../good/1/model.py")}),
    ("link-external", {**GOOD, "m": Link(os.path.dirname(__file__))}, GOOD),
    ("file-special", python(files={"1/pipe": PIPE}), python(files={"1/pipe": "x"})),
]


@pytest.fixture(autouse=True)
def unreadable(monkeypatch):
    """Make every file named unreadable so; for root there is none."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "unreadable" not in os.path.realpath(path) and access(path, mode))


def lint(tmp_path, files: dict) -> list:
    source = tmp_path / "source"
    return _model_lint.lint(_model_tree.read(write(source, files)))


@pytest.mark.parametrize(("rule", "bad"), [(rule, bad) for rule, bad, _good in PAIRS])
def test_a_broken_tree_has_this_finding_alone(tmp_path, rule, bad):
    findings = lint(tmp_path, bad)
    assert {finding.rule for finding in findings} == {rule}, _model_lint.table(findings)
    severity = next(known.severity for known in _model_rules.RULES if known.id == rule)
    for finding in findings:
        assert finding.severity == severity and finding.message.endswith(".") and finding.cure.endswith(".")


@pytest.mark.parametrize(("rule", "good"), [(rule, good) for rule, _bad, good in PAIRS])
def test_the_nearest_good_tree_has_none(tmp_path, rule, good):
    findings = lint(tmp_path, good)
    assert findings == [], _model_lint.table(findings)


def test_every_rule_has_a_pair():
    assert {rule.id for rule in _model_rules.RULES} == {rule for rule, _bad, _good in PAIRS}


def test_the_table_is_whole():
    ids = [rule.id for rule in _model_rules.RULES]
    assert len(ids) == len(set(ids)) and all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in ids)
    for rule in _model_rules.RULES:
        assert rule.severity in _model_lint.SEVERITIES and rule.family in ("layout", "config", "references", "names", "files")
        assert rule.checks and rule.source and rule.of in (_model_rules.MODEL, _model_rules.ANY_MODEL, _model_rules.TREE)


def test_a_link_out_of_the_tree_is_fine_on_demand(tmp_path):
    source = write(tmp_path, {**python(), "m/1/model.py": Link(__file__)})
    assert _model_lint.lint(_model_tree.read(source, follow_external_links=True)) == []


def test_a_name_that_cannot_be_addressed_is_named_once(tmp_path):
    files = {"m+1/config.pbtxt": PYTHON, "m+1/1/model.py": "x", "m+1/1/a b": "x"}
    assert [finding.file for finding in lint(tmp_path, files)] == ["m+1"]


def test_a_circle_is_named_once_and_what_leads_to_it_is_not(tmp_path):
    files = {**ensemble(step("c"), name="b"), **ensemble(step("b"), name="c"), **ensemble(step("b"), name="a")}
    (finding,) = lint(tmp_path, files)
    assert finding.file == "b/config.pbtxt" and "b -> c -> b" in finding.message


def test_an_ensemble_of_a_model_that_cannot_be_told_has_no_finding_of_its_own(tmp_path):
    findings = lint(tmp_path, {**ensemble(step()), "good/config.pbtxt": "{"})
    assert [(finding.file, finding.rule) for finding in findings] == [("good/config.pbtxt", "config-syntax")]
