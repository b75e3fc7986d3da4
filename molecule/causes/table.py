# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the tables of docs/troubleshooting.md from vars/cases.yml and vars/recorded.yml, whose words are checked. Usage: table.py [--check]"""

from __future__ import annotations

import pathlib
import re
import sys

import yaml

HERE = pathlib.Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "troubleshooting.md"
#: What a page shows for what differs each time.
SHOWN = {"pod": "POD", "id": "ID", "number": "N", "times": "once", "log": "...", "likely": "", "any": "..."}


def table(cases: list[dict]) -> str:
    rows = ["| cause | message | cure |", "|---|---|---|"]
    for case in cases:
        message = re.sub(r"<(\w+)>", lambda found: SHOWN[found[1]], case["message"])
        rows.append(" | ".join([f"| {case['cause']} (`{case['kind']}`)", f"`{message}`".replace("|", "\\|"), f"{case['todo']} |"]))
    return "\n".join(rows)


def page(text: str) -> str:
    """Return the page with its tables as they have to be: each stands between two comments with the name of its file."""
    for name, key in (("cases", "cases"), ("recorded", "cases")):
        content = table(yaml.safe_load((HERE / "vars" / f"{name}.yml").read_text(encoding="utf-8"))[key])
        text = re.sub(rf"(?s)(<!-- {name} -->\n).*?(<!-- end -->)", lambda found, new=content: f"{found[1]}{new}\n{found[2]}", text)
    return text


def main() -> None:
    is_now = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        sys.exit(0 if page(is_now) == is_now else f"{PAGE} is not what the checked words make it: run {sys.argv[0]}")
    PAGE.write_text(page(is_now), encoding="utf-8")


if __name__ == "__main__":
    main()
