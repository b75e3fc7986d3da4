# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import html.parser
import json
import pathlib
import xml.etree.ElementTree

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _verify, _verify_checks, _verify_page, _verify_report

SCHEMA = json.loads((pathlib.Path(__file__).parents[4] / "docs/verification-report.schema.json").read_text())
HOSTILE = "<b a=\"1\" c='2'>&amp; \x00\x1b[31m \ud800 \ufffe\n</title></script>"
VOID = {"meta", "br"}


def inference(protocol="http", message="", milliseconds=3, model="simple"):
    return {
        "model": model,
        "protocol": protocol,
        "ok": not message,
        "milliseconds": milliseconds,
        "outputs": "O[0:1]=1",
        "message": message,
        "skipped": "",
        "classes": [],
    }


def model(name="simple", state="READY", reason="", note="", version="1"):
    return {"name": name, "version": version, "state": state, "reason": reason, "note": note}


def report(target="pod-1", node="node-1", kind="replica", **values):
    return _verify.new_report(target, kind, node) | {"version": "2.51.0", "live": True, "ready": True, "models": [model()]} | values


def passing(target="pod-1", **values):
    return report(target, **{"inferences": [inference(), inference("grpc", milliseconds=5)]} | values)


def result(*targets, general=(), **values):
    problems = [*general, *(f"{target['target']}: {problem}" for target in targets for problem in target["problems"])]
    return {
        "changed": False,
        "ok": not problems,
        "targets": list(targets),
        "address": "",
        "problems": problems,
        "table": ["TARGET"],
        "release": "example",
        "namespace": "inference",
        "started": "2026-11-25T09:00:00Z",
        "seconds": 1.2,
    } | values


WRONG = report(
    "pod-2",
    models=[model(), model("bad", "UNAVAILABLE", "Internal: out of memory"), model("old", "", "", "not loaded")],
    inferences=[inference(), inference("grpc", "O[0] is 2, expected 1"), inference("grpc")],
    metrics={"ok": False, "message": "no counter of inferences"},
    problems=[
        "model bad version 1 is UNAVAILABLE: Internal: out of memory",
        "GRPC inference of simple: O[0] is 2, expected 1",
        "metrics: no counter of inferences",
        "containers with unready status",
    ],
)
SILENT = _verify.new_report("http://x:8000", "url") | {
    "problems": ["HTTP: no answer (connection refused)", "this was seen last, after 60 s of asking"],
}
EVIL = report(
    HOSTILE,
    node=HOSTILE,
    models=[model(HOSTILE)],
    inferences=[inference(message=HOSTILE, model=HOSTILE)],
    problems=[HOSTILE],
    metrics={"ok": False, "message": HOSTILE},
)
SAMPLES = {
    "passing": result(passing(metrics={"ok": True, "message": ""}), passing("http://x:8000", node="", kind="url")),
    "failing": result(passing(), WRONG, SILENT, general=["2 of 3 replicas are ready"]),
    "empty": result(),
    "hostile": result(EVIL, release=HOSTILE, namespace=HOSTILE, general=[HOSTILE]),
    "nameless": result(passing(), release=None, namespace=None, address=None),
}


def faults(value, schema, where="$"):
    """Return how a value violates the part of JSON Schema that ours is written in."""
    if "$ref" in schema:
        return faults(value, SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]], where)
    if "oneOf" in schema:
        return [] if sum(not faults(value, one, where) for one in schema["oneOf"]) == 1 else [f"{where}: not one of the alternatives"]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{where}: {value!r}"]
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "number": (int, float), "null": type(None)}
    if not isinstance(value, types[schema["type"]]) or (schema["type"] == "number" and isinstance(value, bool)):
        return [f"{where}: {value!r} is no {schema['type']}"]
    if schema["type"] == "object":
        found = [f"{where}: {key}" for key in (set(schema.get("required", ())) - set(value)) | (set(value) - set(schema["properties"]))]
        return found or [fault for key, item in value.items() for fault in faults(item, schema["properties"][key], f"{where}.{key}")]
    if schema["type"] == "array":
        return [fault for number, item in enumerate(value) for fault in faults(item, schema["items"], f"{where}[{number}]")]
    return []


class Page(html.parser.HTMLParser):
    """A page's tags, texts and attributes; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts[tag][-1] += data

    def cells(self):
        """Return the picture as a list of (class, tooltip)."""
        tips = iter(text for text in self.texts.get("title", [])[1:])
        return [(attrs["href"][1:], next(tips)) for tag, attrs in self.tags if tag == "use"]


def suites(sample):
    root = xml.etree.ElementTree.fromstring(_verify_report.as_junit(sample).encode())
    assert root.tag == "testsuites"
    for suite in root:
        for count, tag in {"tests": "testcase", "failures": "testcase/failure", "errors": "testcase/error", "skipped": "testcase/skipped"}.items():
            assert int(suite.get(count)) == len(suite.findall(tag))
        names = [case.get("name") for case in suite]
        assert len(names) == len(set(names))
    for count in ("tests", "failures", "errors", "skipped"):
        assert int(root.get(count)) == sum(int(suite.get(count)) for suite in root)
    return root


@pytest.mark.parametrize("name", SAMPLES)
def test_json_follows_the_schema(name):
    text = _verify_report.as_json(SAMPLES[name])
    assert faults(json.loads(text), SCHEMA) == []
    assert text == _verify_report.as_json(json.loads(text)) and text.startswith('{\n  "ok": ')


@pytest.mark.parametrize("name", SAMPLES)
def test_json_follows_the_schema_as_jsonschema_reads_it(name):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(_verify_report.as_json(SAMPLES[name])))


def test_the_schema_requires_all_that_is_written():
    for part in (SCHEMA, *SCHEMA["$defs"].values()):
        assert part["required"] == list(part["properties"])


def test_json_keeps_every_value():
    written = json.loads(_verify_report.as_json(SAMPLES["failing"]))
    assert written["targets"][1] == WRONG and written["targets"][0]["metrics"] is None
    assert written["problems"] == SAMPLES["failing"]["problems"] and "changed" not in written


def test_junit_of_a_target_that_passes():
    root = suites(SAMPLES["passing"])
    assert (root.get("tests"), root.get("failures"), root.get("errors"), root.get("time")) == ("9", "0", "0", "1.200")
    first, second = root
    assert first.attrib == {
        "name": "pod-1",
        "tests": "5",
        "failures": "0",
        "errors": "0",
        "skipped": "0",
        "time": "0.008",
        "timestamp": "2026-11-25T09:00:00Z",
        "hostname": "node-1",
    }
    assert [case.get("name") for case in first] == [
        "server live and ready",
        "model simple version 1",
        "simple over http",
        "simple over grpc",
        "metrics",
    ]
    assert [case.get("time") for case in first] == ["0.000", "0.000", "0.003", "0.005", "0.000"]
    assert {case.get("classname") for case in first} == {"pod-1"} and second.get("hostname") == ""


def test_junit_of_a_target_that_fails():
    _first, wrong, silent, general = suites(SAMPLES["failing"])
    bad = {case.get("name"): case[0].get("message") for case in wrong if case.find("failure") is not None}
    assert bad == {
        "model bad version 1": "UNAVAILABLE: Internal: out of memory",
        "simple over grpc": "O[0] is 2, expected 1",
        "metrics": "no counter of inferences",
        "target": "containers with unready status",
    }
    assert [case.get("name") for case in wrong if case.find("skipped") is not None] == ["model old version 1"]
    assert "simple over grpc (2)" in [case.get("name") for case in wrong]
    assert [(case.get("name"), case[0].tag) for case in silent] == [("server live and ready", "error")]
    assert silent[0][0].get("message") == "HTTP: no answer (connection refused); this was seen last, after 60 s of asking"
    assert (general.get("name"), general[0][0].get("message")) == ("inference/example", "2 of 3 replicas are ready")


@pytest.mark.parametrize(
    ("values", "messages"),
    [
        ({"problems": ["the server says that it is not ready"]}, {"server live and ready": "the server says that it is not ready"}),
        ({"ready": False}, {"server live and ready": "the server is not ready"}),
        ({"problems": ["GRPC: no answer"]}, {"target": "GRPC: no answer"}),
        ({"models": [model(state="")]}, {"model simple version 1": "no state"}),
        (
            {"inferences": [inference(message="no answer")], "problems": ["HTTP inference of simple: no answer; the pod has gone"]},
            {"simple over http": "no answer"},
        ),
        (
            {"problems": ["model m is in the repository but not loaded", "model n is not in the repository index; it has: m"]},
            {"target": "model m is in the repository but not loaded; model n is not in the repository index; it has: m"},
        ),
    ],
)
def test_every_problem_is_told_once(values, messages):
    [suite] = suites(result(report(**values)))
    assert {case.get("name"): case[0].get("message") for case in suite if len(case)} == messages


def test_a_verification_without_targets_is_no_green_report():
    assert len(suites(result())) == 0
    [suite] = suites(result(general=["no pod has the labels release=example in namespace inference"]))
    assert suite.get("failures") == "1"
    [suite] = suites(result(passing(), ok=False))[1:]
    assert "names no problem" in suite[0][0].get("message")


def test_junit_replaces_what_xml_does_not_allow():
    text = _verify_report.as_junit(SAMPLES["hostile"])
    assert not _verify_checks.FORBIDDEN.search(text)
    [suite, _general] = suites(SAMPLES["hostile"])
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").replace("\ud800", "\ufffd").replace("\ufffe", "\ufffd")
    assert suite.get("name") == shown and suite.findall("testcase/failure")[0].get("message") == shown


@pytest.mark.parametrize("name", SAMPLES)
def test_the_page_needs_nothing_besides_itself(name):
    page = Page(_verify_report.as_html(SAMPLES[name]))
    assert not {tag for tag, _attrs in page.tags} & {"script", "link", "img", "iframe", "object", "image", "foreignobject", "b"}
    for _tag, attrs in page.tags:
        assert not [key for key in attrs if key == "src" or key.startswith("on")] and attrs.get("href", "#").startswith("#")
    assert "url(" not in page.texts["style"][0] and "@import" not in page.texts["style"][0]
    anchors = {attrs["href"][1:] for _tag, attrs in page.tags if "href" in attrs}
    assert anchors <= {attrs.get("id") for _tag, attrs in page.tags}


def test_the_page_escapes_everything():
    text = _verify_report.as_html(SAMPLES["hostile"])
    page = Page(text)
    assert not _verify_checks.FORBIDDEN.search(text) and "</script>" not in text and len(page.texts["h1"]) == 1
    assert HOSTILE.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").replace("\ud800", "\ufffd").replace("\ufffe", "\ufffd") in page.texts["td"]


def test_the_page_of_a_verification_that_passed():
    page = Page(_verify_report.as_html(SAMPLES["passing"]))
    assert page.texts["h1"] == ["\u2714 PASSED: 2 of 2 targets of inference/example pass every check"]
    assert "Nothing failed." in page.texts["p"] and "table" not in page.texts
    assert page.cells() == [
        ("p", "pod-1, server live and ready: passed"),
        ("p", "pod-1, model simple version 1: passed"),
        ("p", "pod-1, simple over http: passed"),
        ("p", "pod-1, simple over grpc: passed"),
        ("p", "pod-1, metrics: passed"),
        ("p", "http://x:8000, server live and ready: passed"),
        ("p", "http://x:8000, model simple version 1: passed"),
        ("p", "http://x:8000, simple over http: passed"),
        ("p", "http://x:8000, simple over grpc: passed"),
        ("s", "http://x:8000, metrics: not asked"),
    ]
    assert "pod-1 grpc: 5 ms, 1 case" in page.texts["title"]


def test_the_page_of_a_verification_that_failed():
    page = Page(_verify_report.as_html(SAMPLES["failing"]))
    assert page.texts["h1"] == ["\u2718 FAILED: 1 of 3 targets of inference/example pass every check"]
    rows = [page.texts["td"][start : start + 5] for start in range(0, len(page.texts["td"]), 5)]
    assert ["", "", "", "", "2 of 3 replicas are ready"] in rows
    assert ["pod-2", "node-1", "grpc", "simple", "O[0] is 2, expected 1got O[0:1]=1"] in rows
    assert ["pod-2", "node-1", "", "bad", "model bad version 1: UNAVAILABLE: Internal: out of memory"] in rows
    assert rows[-1][0] == "http://x:8000" and "connection refused" in rows[-1][4]
    cells = dict((tip, kind) for kind, tip in page.cells())
    assert cells["pod-2, simple over grpc: 1 of 2 failed: O[0] is 2, expected 1"] == "f"
    assert cells["pod-2, model old version 1: skipped"] == "s" and cells["http://x:8000, simple over http: not asked"] == "s"


def test_the_page_without_targets():
    page = Page(_verify_report.as_html(result()))
    assert "There was no target." in page.texts["p"] and "No inference was run." in page.texts["p"]


def test_minimum_median_and_maximum():
    times = [inference(milliseconds=value) for value in (0, 2.5, 7, 12, 60000)]
    page = Page(_verify_report.as_html(result(passing(inferences=times))))
    assert "pod-1 http: 0/7/60000 ms, 5 cases" in page.texts["title"] and "0/7/60000 ms" in page.texts["text"]


def test_hundreds_of_cases_share_columns():
    many = [inference(protocol, model=f"model-{number}") for number in range(150) for protocol in ("http", "grpc")]
    page = Page(_verify_report.as_html(result(passing(inferences=many))))
    assert page.cells()[2:] == [("p", "pod-1, http: 150 of 150 passed"), ("p", "pod-1, grpc: 150 of 150 passed")]


@pytest.mark.parametrize("fail", [False, True])
def test_a_thousand_targets_stay_small(fail):
    message = "OUTPUT0[0] is 12, expected 1 (tolerance 0); 16 of 16 values differ" if fail else ""
    problems = [f"{protocol} inference of simple: {message}" for protocol in ("HTTP", "GRPC")] + ["0 of 1 containers ready"] if fail else []
    targets = [
        passing(
            f"example-triton-inference-server-5d8c7bd7f4-{number:05x}",
            node=f"gpu-node-{number // 8}.example.internal",
            models=[model(f"model-{place}") for place in range(10)],
            inferences=[inference(protocol, message) for protocol in ("http", "grpc") for _case in range(20)],
            problems=problems,
            metrics={"ok": True, "message": ""},
        )
        for number in range(1000)
    ]
    text = _verify_report.as_html(result(*targets))
    page = Page(text)
    assert len(text.encode()) < 1_100_000
    assert len({tip for _kind, tip in page.cells()}) == 1000 * (6 if fail else 5)
    assert len(page.texts.get("tr", [])) == (_verify_page.MAX_FAILURES + 1 if fail else 0)
    assert ("more are in verification.json" in text) is fail


def test_the_files_are_written(tmp_path):
    folder = tmp_path / "a" / "b"
    paths = _verify_report.write(str(folder), SAMPLES["failing"])
    assert paths == [str(folder / f"verification.{kind}") for kind in ("json", "xml", "html")]
    _verify_report.write(str(folder), SAMPLES["hostile"])
    assert sorted(path.name for path in folder.iterdir()) == ["verification.html", "verification.json", "verification.xml"]
    assert json.loads((folder / "verification.json").read_text("utf-8"))["namespace"] == HOSTILE
    assert (folder / "verification.xml").read_text("utf-8") == _verify_report.as_junit(SAMPLES["hostile"])


def test_a_folder_below_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(_verify_report.ReportError) as caught:
        _verify_report.write(str(tmp_path / "file" / "reports"), SAMPLES["passing"])
    assert str(tmp_path / "file" / "reports") in str(caught.value) and "Not a directory" in str(caught.value) and "Name a folder" in str(caught.value)


def test_a_failed_write_leaves_the_files_of_before(tmp_path):
    _verify_report.write(str(tmp_path), SAMPLES["passing"])
    (tmp_path / "verification.json").unlink()
    (tmp_path / "verification.json").mkdir()
    before = (tmp_path / "verification.html").read_text("utf-8")
    with pytest.raises(_verify_report.ReportError, match="verification.json"):
        _verify_report.write(str(tmp_path), SAMPLES["failing"])
    assert (tmp_path / "verification.html").read_text("utf-8") == before and len(list(tmp_path.iterdir())) == 3
