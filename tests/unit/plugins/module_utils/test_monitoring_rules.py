# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of a release, without Prometheus; test_monitoring_promtool.py has what it says of them."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from ansible_collections.mlserving.triton.plugins.module_utils import _monitoring_alerts, _monitoring_rules

ROOT = pathlib.Path(__file__).parents[4]
DASHBOARD = ROOT / "roles" / "monitoring" / "files" / "dashboards" / "triton.json"
RECORDED = re.compile(r"triton:\w+:\w+")


def options(**more) -> dict:
    specs = yaml.safe_load((ROOT / "roles" / "monitoring" / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    defaults = {name.removeprefix("monitoring_"): option.get("default") for name, option in specs["argument_specs"]["main"]["options"].items()}
    return {**defaults, "namespace": "triton", "release": "example", "fullname": "example-triton", "scrape_seconds": 15, **more}


def rules(**more) -> list[dict]:
    return [rule for group in _monitoring_rules.spec(options(**more))["groups"] for rule in group["rules"]]


def expression(name: str, **more) -> str:
    return next(rule["expr"] for rule in rules(**more) if name in (rule.get("record"), rule.get("alert")))


def test_every_alert_has_its_section_and_its_row():
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", page, re.M) == re.findall(r"^\| \[(\w+)\]", page, re.M)
    assert sorted(re.findall(r"^## (\w+)$", page, re.M)) == _monitoring_alerts.NAMES
    rows = dict(re.findall(r"^\| \[(\w+)\]\S+ \| ([\w, ]+ \| \w+) \|", page, re.M))
    told = {}
    for rule in rules():
        if "alert" in rule:
            assert rule["annotations"]["runbook_url"].endswith(f"/docs/alerts.md#{rule['alert'].lower()}")
            told.setdefault(rule["alert"], []).append(rule)
    assert rows == {name: f"{', '.join(rule['labels']['severity'] for rule in same)} | {same[0]['for']}" for name, same in told.items()}


def test_what_is_shown_and_alerted_is_recorded_before():
    recorded: set[str] = set()
    for rule in rules():
        assert set(RECORDED.findall(rule["expr"])) <= recorded
        recorded.add(rule.get("record", ""))
    assert set(RECORDED.findall(DASHBOARD.read_text(encoding="utf-8"))) <= recorded


def test_every_rule_of_series_with_a_release_selects_it():
    for rule in rules():
        for series in re.findall(r"((?:triton:|nv_|up\b)[\w:]*)(\{[^}]*\})?", rule["expr"]):
            assert 'namespace="triton",release="example"' in series[1], rule


@pytest.mark.parametrize(
    ("given", "window"), [({}, "60s"), ({"scrape_seconds": 5}, "60s"), ({"scrape_seconds": 30}, "120s"), ({"rate_window": "5m"}, "5m")]
)
def test_a_window_has_four_scrapes(given, window):
    assert f"[{window}]" in expression("triton:requests:rate", **given)


def test_the_halves_of_an_outage_are_one_alert():
    """Prometheus fails a rule whose results differ in nothing but labels that the rule sets itself, such as release."""
    assert re.findall(r"max by \(([\w, ]+)\)", expression("TritonNoReadyReplica")) == ["namespace", "namespace"]


def test_a_model_with_an_objective_of_its_own():
    slow = expression("triton:slow_requests:rate", latency_ms=100, latency_ms_by_model={"urgent": 2.5})
    assert 'model="urgent"}) > bool 2500' in slow and 'model!="urgent"}) > bool 100000' in slow


def test_an_objective_for_a_quantile():
    assert 'triton:request_us:quantile{namespace="triton",release="example",quantile="0.99"}' in expression(
        "triton:slow_requests:rate", latency_quantile="0.99"
    )


def test_alerts_can_be_left_out():
    assert not [rule for rule in rules(alerts=False) if "alert" in rule]
    assert "TritonQueueGrowing" not in [rule.get("alert") for rule in rules(alerts_off=["TritonQueueGrowing"])]


def test_alerts_can_be_changed():
    changed = next(
        rule for rule in rules(alert_for={"TritonScrapeMissing": "1h"}, alert_labels={"team": "ml"}) if rule.get("alert") == "TritonScrapeMissing"
    )
    assert changed["for"] == "1h"
    assert changed["labels"] == {"severity": "warning", "namespace": "triton", "release": "example", "team": "ml"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"failure_ratio": 1.5}, "monitoring_failure_ratio is 1.5: give a number greater than 0 and less than 1"),
        ({"latency_target": "99%"}, "monitoring_latency_target is '99%': give a number greater than 0 and less than 1"),
        ({"pending_requests": "many"}, "monitoring_pending_requests is 'many': give a number greater than 0"),
        ({"latency_ms_by_model": {"a": 0}}, "monitoring_latency_ms_by_model.a is 0: give a number greater than 0"),
        ({"latency_ms_by_model": {'a"b': 1}}, "monitoring_latency_ms_by_model: a model is called 'a\"b', and no model can be"),
        ({"alerts_off": ["TritonDown"]}, "monitoring_alerts_off: there is no alert 'TritonDown'; there are TritonAutoscalerAtLimit, "),
        (
            {"alert_for": {"TritonScrapeMissing": "soon"}},
            "monitoring_alert_for.TritonScrapeMissing is 'soon': give a number with s, m, h, d or w, such as 5m",
        ),
        ({"rate_window": 90}, "monitoring_rate_window is 90: give a number with s, m, h, d or w, such as 5m"),
        ({"expiry_notice": {"token": "1h"}}, "monitoring_expiry_notice.certificate is None: give a number with s, m, h, d or w, such as 5m"),
        ({"latency_quantile": "p99"}, "monitoring_latency_quantile is 'p99': give a quantile such as 0.99, or nothing for the average"),
        ({"burn_windows": [{"long": "1h", "short": "5m"}]}, "monitoring_burn_windows[0] lacks factor, severity"),
        (
            {"latency_target": 0.9},
            "monitoring_burn_windows[0].factor is 14.4, but with monitoring_latency_target 0.9 the budget is never used up more than 10 times too fast: "
            "give a factor less than that, or a target greater than 0.9306",
        ),
        (
            {"expirations": [{"name": "s3", "kind": "key", "expires": "2027-01-31"}]},
            "give name (without spaces), kind (certificate or token) and expires",
        ),
        (
            {"expirations": [{"name": "s3", "kind": "token", "expires": "2027-01-31"}]},
            "monitoring_expirations[0].expires is '2027-01-31': give a time with its zone, such as 2027-01-31T12:00:00Z",
        ),
    ],
)
def test_what_cannot_be_used_is_named(given, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        _monitoring_rules.spec(options(**given))


def test_a_factor_out_of_reach_is_no_matter_without_its_alert():
    for given in ({"alerts": False}, {"alerts_off": ["TritonLatencyObjective"]}, {"burn_windows": []}):
        assert rules(latency_target=0.9, **given)


def test_the_dashboard_is_what_its_code_builds(tmp_path):
    subprocess.run([sys.executable, ROOT / "dashboards" / "build", tmp_path / "built.json"], check=True, timeout=60)
    assert (tmp_path / "built.json").read_text(encoding="utf-8") == DASHBOARD.read_text(encoding="utf-8"), "run make dashboards"
