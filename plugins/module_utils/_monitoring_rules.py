# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules that Prometheus has of a release. PRIVATE to the collection."""

from __future__ import annotations

import datetime
import re

from ansible_collections.mlserving.triton.plugins.module_utils import _monitoring_alerts, _monitoring_records

DURATION = re.compile(r"^[0-9]+[smhdw]$")
MODEL = re.compile(r"^[^\"\\\s]+$")
QUANTILE = re.compile(r"^(0(\.[0-9]+)?|1)?$")
#: Kinds of things that end.
KINDS = ("certificate", "token")


def spec(options: dict) -> dict:
    """Return the spec of a PrometheusRule.

    :param options: the variables of the role without their prefix; see defaults/main.yml
    :raises ValueError: a variable cannot be used; the text names it
    """
    _check(options)
    groups = [
        {"name": f"triton-{options['release']}", "interval": f"{int(options['scrape_seconds'])}s", "rules": _monitoring_records.records(options)}
    ]
    rules = _monitoring_alerts.alerts(options) if options["alerts"] else []
    if rules:
        groups.append({"name": f"triton-{options['release']}-alerts", "rules": rules})
    return {"groups": groups}


def _check(options: dict) -> None:
    problems = [
        *(_number(options, name, 0, 1) for name in ("failure_ratio", "latency_target", "gpu_memory_ratio")),
        *(_number(options, name, 0, None) for name in ("pending_requests", "latency_ms", "scrape_seconds")),
        *(
            f"monitoring_{name}: there is no alert {alert!r}; there are {', '.join(_monitoring_alerts.NAMES)}"
            for name in ("alert_for", "alerts_off")
            for alert in options[name]
            if alert not in _monitoring_alerts.NAMES
        ),
        *(_duration(f"alert_for.{alert}", value) for alert, value in options["alert_for"].items()),
        *(_duration(f"expiry_notice.{kind}", options["expiry_notice"].get(kind)) for kind in KINDS),
        _duration("rate_window", options.get("rate_window") or "60s"),
        *(
            f"monitoring_{name}: a model is called {model!r}, and no model can be"
            for name in ("expected_models", "latency_ms_by_model")
            for model in options[name]
            if not MODEL.match(str(model))
        ),
        *(_number(options["latency_ms_by_model"], model, 0, None, "latency_ms_by_model.") for model in options["latency_ms_by_model"]),
        (
            None
            if QUANTILE.match(str(options["latency_quantile"]))
            else f"monitoring_latency_quantile is {options['latency_quantile']!r}: give a quantile such as 0.99, or nothing for the average"
        ),
        *(problem for number, pair in enumerate(options["burn_windows"]) for problem in _pair(f"burn_windows[{number}]", pair)),
        *(_expiration(f"expirations[{number}]", item) for number, item in enumerate(options["expirations"])),
    ]
    found = [problem for problem in problems if problem] or _out_of_reach(options)
    if found:
        raise ValueError("; ".join(found))


def _number(values: dict, name: str, low: float, high: float | None, prefix: str = "") -> str | None:
    try:
        if float(values[name]) > low and (high is None or float(values[name]) < high):
            return None
    except (TypeError, ValueError):
        pass
    allowed = f"a number greater than {low}" + (f" and less than {high}" if high is not None else "")
    return f"monitoring_{prefix}{name} is {values[name]!r}: give {allowed}"


def _duration(name: str, value) -> str | None:
    return None if DURATION.match(str(value)) else f"monitoring_{name} is {value!r}: give a number with s, m, h, d or w, such as 5m"


def _pair(name: str, pair: dict) -> list[str | None]:
    missing = {"long", "short", "factor", "severity"} - set(pair)
    if missing:
        return [f"monitoring_{name} lacks {', '.join(sorted(missing))}"]
    return [_duration(f"{name}.long", pair["long"]), _duration(f"{name}.short", pair["short"]), _number(pair, "factor", 0, None, f"{name}.")]


def _out_of_reach(options: dict) -> list[str]:
    """Return which factors the budget cannot be used up at, even if every request is slow: the alert would never fire."""
    if not options["alerts"] or _monitoring_alerts.LATENCY in options["alerts_off"]:
        return []
    target = options["latency_target"]
    most = 1 / (1 - float(target))
    return [
        f"monitoring_burn_windows[{number}].factor is {pair['factor']!r}, but with monitoring_latency_target {target!r} the budget is never used up more than "
        f"{most:.4g} times too fast: give a factor less than that, or a target greater than {1 - 1 / float(pair['factor']):.4g}"
        for number, pair in enumerate(options["burn_windows"])
        # 1 / (1 - 0.9) is a little more than 10 here.
        if float(pair["factor"]) >= most * (1 - 1e-9)
    ]


def _expiration(name: str, item: dict) -> str | None:
    if item.get("kind") not in KINDS or not MODEL.match(str(item.get("name") or "")):
        return f"monitoring_{name} is {item!r}: give name (without spaces), kind ({' or '.join(KINDS)}) and expires"
    try:
        if datetime.datetime.fromisoformat(str(item.get("expires"))).tzinfo:
            return None
    except ValueError:
        pass
    return f"monitoring_{name}.expires is {item.get('expires')!r}: give a time with its zone, such as 2027-01-31T12:00:00Z"
