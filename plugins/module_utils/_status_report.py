# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of a release, from the options of a module to the screen. PRIVATE to the collection."""

from __future__ import annotations

import datetime

from ansible_collections.mlserving.triton.plugins.module_utils import (
    _cluster,
    _inputs,
    _names,
    _status,
    _status_facts,
    _status_problems,
    _status_text,
)

#: doc_fragments/_release.py describes them.
ARGUMENT_SPEC = {
    "namespace": {"type": "str", "default": "default"},
    "release": {"type": "str", "required": True},
    "name_override": {"type": "str", "default": ""},
    "fullname_override": {"type": "str", "default": ""},
    "origin": {"type": "str", "default": "the module's options"},
    "timeout": {"type": "int", "default": 5},
}


def connect(module) -> tuple:
    """Return (API client, target) for a module that has both argument specs; ends the module with a message if an option is wrong."""
    problems = _inputs.names_problems(module.params)
    if problems:
        module.fail_json(msg=" ".join(problems))
    return _cluster.from_module(module, module.params["origin"])


def status(api, target: _cluster.Target, params: dict) -> tuple[dict, _status.Seen]:
    """Return (what the module triton_status_info returns, what was seen).

    :param params: with the keys of ARGUMENT_SPEC
    :raises _cluster.ClusterError: the cluster does not answer, or refuses to show the Deployment
    """
    namespace, release = params["namespace"], params["release"]
    names = _names.names(release, params["name_override"], params["fullname_override"])
    seen = _status.collect(api, target, namespace, release, names, params["timeout"])
    found = {
        "found": seen.deployment is not None,
        "release": release,
        "namespace": namespace,
        "deployment": names["fullname"],
        "problems": [],
        "hints": [],
    }
    found["cluster"] = {**target.public(), "version": seen.version}
    if seen.deployment is None:
        found["hints"] = hints(seen, namespace, names["fullname"])
    else:
        found |= _status_facts.facts(seen, release, datetime.datetime.now(datetime.timezone.utc))
        found["problems"] = _status_problems.problems(seen, found)
    found["healthy"] = found["found"] and not found["problems"]
    return {**found, "text": _status_text.screen(found)}, seen


def hints(seen: _status.Seen, namespace: str, deployment: str) -> list[str]:
    """Return what there is in place of a Deployment that is not there, in sentences."""
    if seen.namespace is None and "namespace" not in seen.unseen:
        lines = [f"There is no namespace {namespace}."]
    else:
        lines = [f"There is no Deployment {deployment} in namespace {namespace}."]
    left = [f"{kind} {entry['metadata']['name']}" for kind, entries in (("Service", seen.services), ("pod", seen.pods)) for entry in entries]
    if left:
        lines.append(f"Left of it: {', '.join(left)}.")
    if seen.elsewhere:
        lines.append(
            f"Releases of this collection in the cluster: {', '.join(f'{place}/{name}' for place, name in seen.elsewhere)} (NAMESPACE/RELEASE)."
        )
    return lines
