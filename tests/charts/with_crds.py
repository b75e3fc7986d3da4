# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy a chart and give the copy the custom resource definitions in a folder.

Without the descriptions in their schemas: Helm keeps the whole chart in a Secret, which holds 1 MiB.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil

import yaml


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Reads a lone = as text, which it is since YAML 1.2."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


def without_descriptions(node):
    """Return the node without the texts under description; a property of that name is no text and stays."""
    if isinstance(node, dict):
        return {key: without_descriptions(value) for key, value in node.items() if key != "description" or not isinstance(value, str)}
    return [without_descriptions(value) for value in node] if isinstance(node, list) else node


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("chart", "crds", "copy"):
        parser.add_argument(name, type=pathlib.Path)
    options = parser.parse_args()
    shutil.rmtree(options.copy, ignore_errors=True)
    shutil.copytree(options.chart, options.copy)
    (options.copy / "crds").mkdir()
    for path in options.crds.glob("*.yaml"):
        definition = without_descriptions(yaml.load(path.read_text(encoding="utf-8"), Loader))
        # JSON is YAML. Helm shows the files one after the other, as they are.
        (options.copy / "crds" / path.name).write_text("---\n" + json.dumps(definition), encoding="utf-8")


if __name__ == "__main__":
    main()
