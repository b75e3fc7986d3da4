#!/usr/bin/env python
# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a Prometheus every query of a dashboard, and end with 1 if one has no answer that is not said to have none.

What is said to have none and has one is an error too, so that the list stays true. With --answers, what came is written for dashboards/draw.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import sys
import time
import urllib.parse
import urllib.request

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _kube  # noqa: E402

LABEL_VALUES = re.compile(r"^label_values\((?P<series>.*), *(?P<label>\w+)\)$")
#: Seconds between two values of a graph.
STEP = 5
#: How often a question is asked while the API server has no answer.
ATTEMPTS = 5


class Prometheus:
    """The API of a Prometheus at an address, or of a Service (NAMESPACE/NAME:PORT) behind the API server of a cluster."""

    def __init__(self, url: str, kubeconfig: str, service: str):
        self._url, self._api = url, None
        if service:
            self._api = _cluster.connect(_cluster.resolve({"kubeconfig": kubeconfig}, {}))
            self._path = "/api/v1/namespaces/{}/services/{}/proxy".format(*service.split("/"))

    def get(self, path: str, **parameters):
        """Return the data of an answer. Failures are raised."""
        path = f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        if not self._api:
            with urllib.request.urlopen(self._url + path, timeout=30) as answer:
                return json.load(answer)["data"]
        for _attempt in range(ATTEMPTS - 1):
            try:
                return _kube.get(self._api, self._path + path)["data"]
            except _kube.RequestError as error:
                if not error.transient:
                    raise
            time.sleep(1)
        return _kube.get(self._api, self._path + path)["data"]


def filled(query: str, values: dict[str, str]) -> str:
    """Put values in place of the dashboard's variables."""
    return re.sub(r"\$(\w+)", lambda name: values[name[1]], query)


def variable(prometheus: Prometheus, query: str, values: dict[str, str]) -> list[str]:
    """Return what a variable offers."""
    asked = LABEL_VALUES.match(query)
    if not asked:
        raise ValueError(f"this kind of query is not known here: {query}")
    return prometheus.get(f"label/{asked['label']}/values", **{"match[]": filled(asked["series"], values)})


def panels(dashboard: dict):
    """Give (row, panel) for each panel that has queries."""
    row = ""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        else:
            yield row, panel


def numbers(series: list[dict]) -> int:
    """Count the values that are numbers."""
    return sum(value not in ("NaN", "+Inf", "-Inf") for one in series for _when, value in one["values"])


def asked(prometheus: Prometheus, dashboard: dict, values: dict[str, str], seconds: float) -> tuple[list[dict], list[str]]:
    """Ask everything.

    :return: (rows as dashboards/draw takes them, what is wrong with the variables)
    """
    wrong = []
    for one in dashboard["templating"]["list"]:
        if one["type"] == "query":
            offered = variable(prometheus, one["query"], values)
            if not offered or (not one.get("multi") and values[one["name"]] not in offered):
                wrong.append(f"variable {one['name']}: {one['query']} offers {offered}")
    now = time.time()
    answers = []
    for row, panel in panels(dashboard):
        for target in panel["targets"]:
            query = filled(target["expr"], values)
            series = prometheus.get("query_range", query=query, start=now - seconds, end=now, step=STEP)["result"]
            about = {"row": row, "panel": panel["title"], "type": panel["type"], "unit": panel["fieldConfig"]["defaults"].get("unit", "short")}
            answers.append({**about, "legend": target.get("legendFormat", ""), "query": query, "series": series})
    return answers, wrong


def judged(answers: list[dict], exempt: dict[str, str]) -> list[str]:
    """Return what is wrong with the answers."""
    titles = {answer["panel"] for answer in answers}
    wrong = [f"there is no panel {title!r} to be exempt" for title in exempt if title not in titles]
    for answer in answers:
        found = numbers(answer["series"])
        if not found and answer["panel"] not in exempt:
            wrong.append(f"{answer['row']} / {answer['panel']} has no value: {answer['query']}")
        if found and answer["panel"] in exempt:
            wrong.append(f"{answer['row']} / {answer['panel']} has values, and is said to have none: {exempt[answer['panel']]}")
    return wrong


def parser(about: str) -> argparse.ArgumentParser:
    """Return a parser with what says where the Prometheus is and what it is asked about."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--url", default="", help="of the Prometheus")
    made.add_argument("--kubeconfig", help="of the cluster, in place of --url")
    made.add_argument("--service", default="", metavar="NAMESPACE/NAME:PORT", help="of the Prometheus in that cluster")
    made.add_argument("--set", action="append", default=[], metavar="VARIABLE=VALUE", help="of the dashboard; others are all")
    made.add_argument("--patience", type=float, default=0, metavar="SECONDS", help="ask again for so long while something is wrong (default: 0)")
    return made


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--dashboard", type=pathlib.Path, required=True)
    arguments.add_argument("--exempt", type=pathlib.Path, required=True, help="YAML: title of a panel that has no values here -> why")
    arguments.add_argument("--seconds", type=float, default=60, help="how far to look back (default: 60)")
    arguments.add_argument("--answers", type=pathlib.Path, help="where to write what came")
    options = arguments.parse_args()
    dashboard = json.loads(options.dashboard.read_text(encoding="utf-8"))
    exempt = yaml.safe_load(options.exempt.read_text(encoding="utf-8"))
    values = {one["name"]: one.get("allValue", "") for one in dashboard["templating"]["list"]} | dict(one.split("=", 1) for one in options.set)
    prometheus = Prometheus(options.url, options.kubeconfig, options.service)
    until = time.monotonic() + options.patience
    while True:
        answers, wrong = asked(prometheus, dashboard, values, options.seconds)
        wrong += judged(answers, exempt)
        if not wrong or time.monotonic() >= until:
            break
        time.sleep(2)
    if options.answers:
        options.answers.write_text(
            json.dumps({"title": dashboard["title"], "values": values, "answers": answers, "exempt": exempt}), encoding="utf-8"
        )
    print("\n".join(wrong) or f"{len(answers)} queries of panels and {len(variables(dashboard))} of variables answered, {len(exempt)} panels exempt")
    return bool(wrong)


def variables(dashboard: dict) -> list[str]:
    return [one["name"] for one in dashboard["templating"]["list"] if one["type"] == "query"]


if __name__ == "__main__":
    sys.exit(main())
