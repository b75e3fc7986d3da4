# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a verification as files: JSON, JUnit XML and a page of HTML. PRIVATE to the collection.

A result is a dict: ok, targets (the reports of _verify, each with metrics besides: None, or ok and message), address, problems,
table, release, namespace, started (UTC, such as 2026-11-25T09:00:00Z), seconds. docs/verification-report.schema.json describes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
import xml.etree.ElementTree

from ansible_collections.mlserving.triton.plugins.module_utils import _verify
from ansible_collections.mlserving.triton.plugins.module_utils._verify_checks import Check, checked_targets, clean, full_name, general_problems
from ansible_collections.mlserving.triton.plugins.module_utils._verify_page import as_html

#: Key -> what stands for a value that is not there; further keys, such as the module's "changed", stay out of the files.
RESULT = {"ok": False, "release": "", "namespace": "", "address": "", "latency": {}, "started": "", "seconds": 0, "problems": [], "targets": [], "table": []}
REPORT = _verify.new_report("", "")
MODEL = {"name": "", "version": "", "state": "", "reason": "", "note": ""}
INFERENCE = {"model": "", "protocol": "", "ok": False, "milliseconds": 0, "outputs": "", "message": "", "skipped": "", "classes": ()}
METRICS = {"ok": False, "message": ""}


class ReportError(Exception):
    """The files cannot be written; the text names the folder, the reason and what to do."""


def as_json(result: dict) -> str:
    """Return the result as indented JSON; the same result gives the same text."""
    whole = _pick(RESULT, result)
    whole["targets"] = [_pick(REPORT, report) for report in whole["targets"]]
    for report in whole["targets"]:
        report["models"] = [_pick(MODEL, entry) for entry in report["models"]]
        report["inferences"] = [_pick(INFERENCE, entry) for entry in report["inferences"]]
        report["metrics"] = _pick(METRICS, report["metrics"]) if report["metrics"] else None
    return json.dumps(whole, indent=2) + "\n"


def _pick(defaults: dict, given: dict) -> dict:
    return {key: default if given.get(key) is None else given[key] for key, default in defaults.items()}


def as_junit(result: dict) -> str:
    """Return the result as JUnit XML: a testsuite for each target, and one for problems of no target if there are any."""
    root = xml.etree.ElementTree.Element("testsuites")
    for report, checks in checked_targets(result):
        _add_suite(root, result, report["target"], report["node"], checks)
    general = general_problems(result)
    if general:
        checks = [Check(f"problem {number}", "target", "target", "failed", text) for number, text in enumerate(general, 1)]
        _add_suite(root, result, full_name(result) or "verification", "", checks)
    _set(root, name=f"verification of {full_name(result)}" if full_name(result) else "verification")
    for count in ("tests", "failures", "errors", "skipped"):
        _set(root, **{count: str(sum(int(suite.get(count)) for suite in root))})
    _set(root, time=f"{result.get('seconds') or 0:.3f}")
    xml.etree.ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.etree.ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_suite(root, result: dict, name: str, node: str, checks: list[Check]) -> None:
    """Add one testsuite; a name that comes again gets a number, as CI systems take tests of one name for one test."""
    suite, seen = xml.etree.ElementTree.SubElement(root, "testsuite"), {}
    outcomes = [check.outcome for check in checks]
    _set(suite, name=name, tests=str(len(checks)), failures=str(outcomes.count("failed")), errors=str(outcomes.count("error")))
    _set(suite, skipped=str(outcomes.count("skipped")), time=f"{sum(check.seconds for check in checks):.3f}")
    _set(suite, timestamp=result.get("started") or "", hostname=node)
    for check in checks:
        seen[check.name] = seen.get(check.name, 0) + 1
        number = f" ({seen[check.name]})" if seen[check.name] > 1 else ""
        case = xml.etree.ElementTree.SubElement(suite, "testcase")
        _set(case, classname=name, name=check.name + number, time=f"{check.seconds:.3f}")
        if check.outcome != "passed":
            tag = "failure" if check.outcome == "failed" else check.outcome
            detail = xml.etree.ElementTree.SubElement(case, tag)
            _set(detail, message=check.message)
            if check.bad:
                detail.text = clean(check.message + (f"\ngot {check.got}" if check.got else ""))


def _set(element, **attributes: str) -> None:
    for name, value in attributes.items():
        element.set(name, clean(value))


FILES = {"verification.json": as_json, "verification.xml": as_junit, "verification.html": as_html}


def write(folder: str, result: dict) -> list[str]:
    """Write the three files into the folder, which is made if need be; return their paths.

    :raises ReportError: the folder or a file cannot be written; files from before are left as they were
    """
    partial = {}
    try:
        os.makedirs(folder, exist_ok=True)
        for name, form in FILES.items():
            text = form(result)
            partial[name] = os.path.join(folder, f".{name}.{uuid.uuid4().hex}")
            with open(partial[name], "x", encoding="utf-8", newline="\n") as file:
                file.write(text)
        for name in FILES:
            os.replace(partial[name], os.path.join(folder, name))
        return [os.path.join(folder, name) for name in FILES]
    except OSError as error:
        what = f"The report cannot be written into the folder {folder}: {error.strerror or error} ({error.filename or folder})."
        raise ReportError(f"{what} Name a folder that this user may write to, on a disk with room, or correct that one.") from error
    finally:
        for path in partial.values():
            with contextlib.suppress(OSError):
                os.unlink(path)
