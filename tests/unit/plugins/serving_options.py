# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of _serving as the role's defaults have them."""

from __future__ import annotations

import pathlib

import yaml

ROLE = pathlib.Path(__file__).parents[3] / "roles/triton"


def options(**changed) -> dict:
    """Return the defaults, those that were changed, and what the role settles; with a model repository, and without GPUs."""
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    names = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))["__triton_options"]
    settled = {"model_repository_given": True, "probe_config": "", "restricted_key_secret": "key", "front_config": "conf"}
    settled |= {"front_auth": "", "model_set_config": "models"}
    given = {name: defaults[f"triton_{name}"] for name in names if f"triton_{name}" in defaults}
    return {**given, **settled, "gpus": 0, "model_repository": "s3://models/demo", **changed}
