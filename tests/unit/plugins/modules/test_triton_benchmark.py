# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a Triton in this process."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree

import numpy
import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _benchmark, _benchmark_report, _cluster, _load_request, _perf_analyzer, _service
from ansible_collections.mlserving.triton.plugins.modules import triton_benchmark
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_triton import FakeTriton

CASE = {
    "model": "simple",
    "inputs": [{"name": "INPUT0", "data": [0, 1, 2, 3]}, {"name": "INPUT1", "data": [1]}],
    "outputs": [{"name": "OUTPUT0", "data": [1, 2, 3, 4]}],
}
CSV = """Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p95 latency,p99 latency,Avg latency,request/response,response wait
{0},2697.14,1,600,1005,1549,3571,729,1,722"""
#: What perf_analyzer does, as far as the module sees it.
ANALYZER = f"""#!{sys.executable}
import sys
if sys.argv[1:] == ["--version"]:
    print("Perf Analyzer Version 2.60.0")
else:
    options = dict(zip(sys.argv, sys.argv[1:]))
    if "refuse" in __file__:
        print("Failed to maintain requested inference load. Worker thread(s) failed to generate concurrent requests.", file=sys.stderr)
        sys.exit(0)
    print("    Request count: 19900")
    open(options["-f"], "w").write({CSV!r}.format(options["--concurrency-range"].partition(":")[0]))
"""


@pytest.fixture
def triton():
    with FakeTriton() as server:
        yield server


@pytest.fixture
def benchmark(run_module, triton, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *args, **more: None)

    def call(check=False, **options):
        base = {"url": triton.http, "case": CASE, "concurrency": [1, 2], "seconds": 0.3, "warm_up": 0.1, "timeout": 5}
        return run_module(triton_benchmark, {key: value for key, value in (base | options).items() if value is not None}, check)

    return call


def test_both_protocols_and_a_report(benchmark, triton, tmp_path):
    result = benchmark(grpc_url=triton.grpc, report=str(tmp_path / "report"))
    assert result["ok"] and not result["changed"] and result["tool"] == "builtin" and "perf_analyzer is neither on PATH" in result["notes"][0]
    assert [(step["protocol"], step["concurrency"]) for step in result["steps"]] == [("http", 1), ("http", 2), ("grpc", 1), ("grpc", 2)]
    assert all(step["throughput"] > 0 and step["lost"] == 0 and step["latency"]["p99"] > 0 for step in result["steps"])
    assert len(result["table"]) == 5 and set(result["best"]) == {"http", "grpc"} and triton.answered > 10
    assert result["reports"] == [str(tmp_path / "report" / name) for name in ("benchmark.json", "benchmark.html", "benchmark.svg")]
    written = json.loads((tmp_path / "report/benchmark.json").read_text())
    assert written["steps"] == result["steps"] and written["ok"] and written["addresses"] == {"http": triton.http, "grpc": triton.grpc}
    page = (tmp_path / "report/benchmark.html").read_text()
    assert xml.etree.ElementTree.parse(tmp_path / "report/benchmark.svg").getroot().get("width") == "1040"
    assert page.count("<svg") == 2 and "PASSED: benchmark of simple" in page and 'class="grpc p99"' in page


def test_thresholds_fail_after_the_report(benchmark, tmp_path):
    result = benchmark(least_throughput=1e9, slowest_p99=1000, concurrency=[1], report=str(tmp_path))
    assert result["failed"] and "no concurrency reaches 1e+09 inferences/s with a p99 of 1000 ms at most; the nearest is" in result["msg"]
    assert not json.loads((tmp_path / "benchmark.json").read_text())["ok"] and "FAILED" in (tmp_path / "benchmark.html").read_text()


def test_check_mode_sends_nothing(benchmark, triton):
    result = benchmark(check=True)
    assert "Check mode: no load was sent. It would be 2 steps" in result["notes"][-1] and result["steps"] == [] and triton.answered == 0


def test_a_model_without_a_case_gets_random_values_and_one_with_it_its_own(benchmark, triton, tmp_path):
    result = benchmark(case=None, model="simple", concurrency=[1])
    assert result["inputs"] == "random values" and result["steps"][0]["sent"] > 0
    (tmp_path / "simple").mkdir()
    (tmp_path / "simple/verify.yml").write_text(json.dumps([{key: value for key, value in CASE.items() if key != "model"}]))
    assert benchmark(case=None, model="simple", source=str(tmp_path), concurrency=[1])["inputs"] == f"the first case of {tmp_path}/simple/verify.yml"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": [0]}, "concurrency is [0]; it must be a list of numbers from 1 to 1024"),
        ({"concurrency": []}, "concurrency is []"),
        ({"seconds": 0}, "seconds is 0; it must be above 0."),
        ({"warm_up": -1}, "warm_up is -1; it must be at least 0."),
        ({"url": "ftp://x"}, "it must be like http://"),
        ({"protocols": ["grpc"]}, "There is no address for any of the protocols"),
        ({"case": CASE | {"stream": True}}, "is a stream; a load needs one request"),
        ({"case": None}, "one of the following is required: case, model"),
        ({"tool": "perf_analyzer"}, "tool is perf_analyzer: perf_analyzer is neither on PATH"),
        ({"ca_file": "/nowhere"}, "ca_file is /nowhere, which cannot be read"),
        ({"case": CASE | {"outputs": [{"name": "OUTPUT0", "data": [9]}]}}, "no load was sent, as one inference before it failed"),
    ],
)
def test_bad_input_is_refused_before_any_load(benchmark, triton, options, message):
    assert message in benchmark(**options)["msg"] and triton.answered <= 1


def test_a_service_is_asked_at_its_address_if_it_has_one(benchmark, triton, monkeypatch):
    monkeypatch.setattr(_cluster, "from_module", lambda module: (None, {}))
    monkeypatch.setattr(_service, "address", lambda api, namespace, name, deadline: (triton.http, triton.grpc) if name == "balanced" else None)
    assert benchmark(url=None, service="balanced", concurrency=[1])["addresses"] == {"http": triton.http, "grpc": triton.grpc}
    refused = benchmark(url=None, service="inner", namespace="inference")["msg"]
    assert "The Service inference/inner is not of type LoadBalancer" in refused and "Give url and grpc_url" in refused


@pytest.fixture
def analyzer(tmp_path, monkeypatch):
    def make(name="perf_analyzer"):
        path = tmp_path / name
        path.write_text(ANALYZER)
        path.chmod(0o755)
        monkeypatch.setattr("shutil.which", lambda *args, **more: str(path))
        monkeypatch.setattr(_perf_analyzer, "largest_batch", lambda *args: 0)

    return make


def test_perf_analyzer_is_used_if_it_is_there(benchmark, analyzer):
    analyzer()
    result = benchmark(concurrency=[2])
    assert result["tool"] == "perf_analyzer" and result["notes"] == []
    step = result["steps"][0]
    assert step["throughput"] == 2697.14 and step["sent"] == 19900 and step["cores"] is None
    assert step["latency"] == {"mean": 0.729, "p50": 0.6, "p90": 1.005, "p95": 1.549, "p99": 3.571}
    assert "perf_analyzer is not used with fresh connections" in benchmark(concurrency=[2], connections="fresh")["notes"][0]


def test_perf_analyzer_that_does_not_measure_is_told(benchmark, analyzer):
    analyzer("refuse")
    result = benchmark(concurrency=[2])
    assert result["failed"] and "HTTP with 2 at a time: perf_analyzer did not measure: Failed to maintain requested inference load" in result["msg"]


def test_perf_analyzers_inputs_with_and_without_a_batch():
    pair = numpy.array([[1, 2], [3, 4]], "int32")
    texts = numpy.array([b"a", b"b"], dtype=object).reshape(2, 1)
    whole = _perf_analyzer.data({"N": ("INT32", pair)}, 0)
    assert whole == {"data": [{"N": {"b64": "AQAAAAIAAAADAAAABAAAAA==", "shape": [2, 2]}}]}
    parts = _perf_analyzer.data({"N": ("INT32", pair), "T": ("BYTES", texts)}, 2)["data"]
    assert [part["T"] for part in parts] == [{"content": ["a"], "shape": [1]}, {"content": ["b"], "shape": [1]}]
    assert [part["N"] for part in parts] == [{"b64": "AQAAAAIAAAA=", "shape": [2]}, {"b64": "AwAAAAQAAAA=", "shape": [2]}]


def step(protocol="http", concurrency=1, throughput=100.0, p99=5.0, **more):
    latency = {key: p99 for key in ("mean", "p50", "p90", "p95", "p99")} if throughput else {}
    found = {"throughput": throughput, "latency": latency, "sent": 10, "lost": 0, "failed": {}, "cores": 0.1, "problem": ""}
    return {"protocol": protocol, "concurrency": concurrency, "tool": "builtin"} | found | more


def test_throughput_and_p99_have_to_be_reached_at_the_same_concurrency():
    steps = [step(throughput=100, p99=5), step(concurrency=8, throughput=500, p99=50)]
    assert _benchmark.judge(steps, _benchmark.Thresholds(500, 50)) == _benchmark.judge(steps, _benchmark.Thresholds(100, 5)) == []
    assert _benchmark.judge(steps, _benchmark.Thresholds(500, 5)) == [
        "HTTP: no concurrency reaches 500 inferences/s with a p99 of 5 ms at most; the nearest is 100 inferences/s with a p99 of 5 ms, at concurrency 1"
    ]


def test_failures_and_steps_that_were_not_measured():
    steps = [step(lost=2, failed={"reset": 2}), step("grpc", throughput=0.0, problem="it ended")]
    assert _benchmark.judge(steps, _benchmark.Thresholds(most_failures=1)) == [
        "HTTP with 1 at a time: 2 of 10 requests failed, at most 1 may: reset (2)",
        "GRPC with 1 at a time: it ended",
    ]
    assert _benchmark.judge(steps[:1], _benchmark.Thresholds(most_failures=2)) == []
    assert _benchmark.table(steps)[1].endswith("2/10") and _benchmark.table(steps)[2].endswith("not measured")


def test_the_page_escapes_and_needs_no_measured_step():
    result = {key: "" for key in _benchmark_report.KEYS} | {
        "model": "<b>",
        "addresses": {},
        "notes": [],
        "problems": ["<i>"],
        "seconds": 5,
        "ok": False,
    }
    page = _benchmark_report.as_html(result | {"steps": [step(throughput=0.0, problem="<u>")]})
    assert "<b>" not in page and "<i>" not in page and "<u>" not in page and "<svg" not in page
    assert [_benchmark_report._round_up(value) for value in (0, 0.3, 7, 1100, 2600)] == [1, pytest.approx(0.3), 8, 1500, 3000]


def test_a_bytes_and_a_bf16_tensor_over_grpc():
    texts = numpy.array([b"ab"], dtype=object)
    assert _load_request.raw("BYTES", texts) == b"\x02\0\0\0ab"
    assert _load_request.raw("BF16", numpy.array([[1.0, -2.0]], "float32")) == b"\x80\x3f\x00\xc0"
