# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run playbooks/awx.yml against the stand-in for AWX's API: looked at first, for the first time, again, after a change. Ends with the first that is wrong."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(pathlib.Path(__file__).parent)]
import api  # noqa: E402
import awx_data  # noqa: E402
from ansible.plugins.loader import init_plugin_loader  # noqa: E402

TOKEN, KEY = "token", "not-to-be-seen"
#: Tasks that make something.
TASKS = 12


def made(controller: api.Controller) -> dict[str, int]:
    """Return collection -> number of objects, but for the organization, which AWX brings."""
    return {name: len(objects) for name, objects in controller.objects.items() if objects and name != "organizations"}


def wanted(site: dict) -> dict[str, int]:
    """Return what the playbook's data says, as made() does."""
    counts: dict[str, int] = {}
    for module, _arguments in awx_data.tasks(**site):
        kind = module.removeprefix("awx.awx.")
        collection = "inventories" if kind == "inventory" else f"{kind}s"
        counts[collection] = counts.get(collection, 0) + 1
    return counts


class Runs:
    """Runs of the playbook against one controller."""

    def __init__(self, address: str, site: pathlib.Path):
        self._site = site
        self._environment = {
            **os.environ,
            "CONTROLLER_HOST": address,
            "CONTROLLER_OAUTH_TOKEN": TOKEN,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
        }

    def run(self, name: str, says: str, *arguments: str, fails: bool = False) -> None:
        """Run it; exit if it ends otherwise than it should, or does not say what it should."""
        began = time.monotonic()
        command = ["ansible-playbook", "playbooks/awx.yml", f"--extra-vars=@{self._site}", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        if (done.returncode != 0) != fails or says not in re.sub(r"\s+", " ", output):
            sys.exit(
                f"{name} ended with {done.returncode}, and should have {'failed' if fails else 'succeeded'} and said {says!r}:\n{output[-6000:]}"
            )
        if KEY in output:
            sys.exit(f"{name} shows a credential.")
        print(f"{name}: {time.monotonic() - began:.0f} s")


def judge(controller: api.Controller, site: dict) -> None:
    """Exit if what was made is not what the data says: how much of each, what is linked with what, and the questions."""
    if made(controller) != wanted(site):
        sys.exit(f"made: {made(controller)}, wanted: {wanted(site)}")
    names = {number: entry.get("identifier") or entry["name"] for objects in controller.objects.values() for number, entry in objects.items()}
    lists = {(names[number], field): sorted(names[other] for other in others) for (number, field), others in controller.lists.items() if others}
    expected = {}
    for _module, arguments in awx_data.tasks(**site):
        for field in api.RELATED:
            if isinstance(arguments.get(field), list) and arguments[field]:
                expected[(arguments.get("identifier") or arguments["name"], field)] = sorted(arguments[field])
    if lists != expected:
        sys.exit(f"linked: {lists}, wanted: {expected}")
    surveys = {names[number]: survey for number, survey in controller.surveys.items()}
    if surveys != {arguments["name"]: arguments["survey_spec"] for _module, arguments in awx_data.tasks(**site) if "survey_spec" in arguments}:
        sys.exit(f"surveys: {surveys}")


def main() -> None:
    init_plugin_loader()
    controller = api.Controller(ROOT)
    with tempfile.TemporaryDirectory() as folder, api.serving(controller) as address:
        kubeconfig, settings = pathlib.Path(folder, "kubeconfig"), pathlib.Path(folder, "site.json")
        kubeconfig.write_text(json.dumps({"users": [{"name": "lab", "user": {"token": KEY}}]}), encoding="utf-8")
        site = {
            "triton_awx_kubeconfig": str(kubeconfig),
            "triton_awx_access_key_id": "AKIDEXAMPLE",
            "triton_awx_secret_access_key": KEY,
            "triton_awx_region": "eu-west-1",
            "triton_awx_webhook_url": "https://hooks.example.com/triton",
        }
        settings.write_text(json.dumps(site), encoding="utf-8")
        runs = Runs(address, settings)
        runs.run("A look at an empty AWX", f"changed={TASKS} ", "--check")
        if made(controller):
            sys.exit(f"check mode made {made(controller)}")
        runs.run("The first time", "11 job templates are there in organization Default", "-vvvv")
        judge(controller, site)
        runs.run("Again, with the credentials as they are", "changed=0 ", "--extra-vars", '{"triton_awx_update_secrets": false}')
        before = json.dumps(controller.objects)
        change = '{"triton_awx_models_folder": "models", "triton_awx_verify_rule": "DTSTART:20270101T000000Z RRULE:FREQ=DAILY"}'
        runs.run("A look at a change, and at credentials that are written again", "changed=3 ", "--extra-vars", change, "--check")
        if json.dumps(controller.objects) != before:
            sys.exit("check mode changed something")
        runs.run(
            "An organization that is not there",
            "returned 0 items, expected 1",
            "--extra-vars",
            '{"triton_awx_organization": "Nowhere"}',
            "--check",
            fails=True,
        )


if __name__ == "__main__":
    main()
