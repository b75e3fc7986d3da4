# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which models a release's servers load: the set that new ones start with, and how a server gets from what it has to it. PRIVATE to the collection.

Nothing here talks to anybody. An index is what a server's repository index says: a list of name, version, state and reason. A set is a list of names, or
only "*", which is all that the repository has.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import os

#: Key of the ConfigMap, and annotations on it: whether all replicas had loaded what it holds, and of which repository that was.
KEY, AGREED, REPOSITORY = "models", "mlserving.triton/agreed", "mlserving.triton/repository"
#: Name of the volume in the pod, and where the server finds the set.
VOLUME, PATH = "model-set", "/etc/triton-models"
ALL = "*"
#: Turns the lines of the set into arguments. It needs bash, which the image's entry point needs too, and nothing else.
SCRIPT = f'while IFS= read -r name || [ "$name" ]; do [ -z "$name" ] || set -- "$@" "--load-model=$name"; done <{PATH}/{KEY} || exit; exec "$@"'


def command(args: list[str]) -> list[str]:
    """Return the server's command such that it starts with the set."""
    return ["bash", "-c", SCRIPT, "load-models", *args]


def config_map(fullname: str) -> str:
    return f"{fullname}-models"


def text(names: list[str]) -> str:
    return "".join(f"{name}\n" for name in names)


def names(content: str) -> list[str]:
    return [line for line in content.splitlines() if line]


def of_config_map(found: dict | None) -> list[str] | None:
    """Return the set that a ConfigMap holds; None if there is none."""
    return None if found is None else names((found.get("data") or {}).get(KEY) or "")


def repository(options: dict) -> str:
    """Return what tells the repositories of two deployments apart. The options are those of _serving."""
    given = [options[name] for name in ("model_repository", "model_volume", "model_volume_path", "more_model_repositories")]
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:10]


def to_apply(found: dict | None, options: dict) -> dict:
    """Return ``data`` and ``annotations`` of the ConfigMap before the rollout.

    A set that all replicas have loaded stays, so that a model that does not load breaks no new replica; servers of another repository start with the
    set that is asked for.

    :param found: the ConfigMap that is there
    """
    known = ((found or {}).get("metadata") or {}).get("annotations") or {}
    where = repository(options)
    if known.get(AGREED) == "true" and known.get(REPOSITORY) == where:
        return {"data": {KEY: found["data"][KEY]}, "annotations": {AGREED: "true", REPOSITORY: where}}
    return {"data": {KEY: text([str(name) for name in options["load_models"]])}, "annotations": {AGREED: "false", REPOSITORY: where}}


def problems(given: list[str]) -> list[str]:
    """Return what is wrong with a list of models, a sentence's end each."""
    found = [f"has {name!r}, which is no name of a model" for name in given if not name or name != name.strip() or "\n" in name or "/" in name]
    if ALL in given and len(given) > 1:
        found.append(f"has {ALL} and {len(given) - 1} more, but {ALL} is all models already and must stand alone")
    return found


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is asked for. ``models``: names, or only "*"; ``loaded``: or unloaded; ``exclusive``: and no others are to be loaded."""

    models: tuple
    loaded: bool = True
    exclusive: bool = False

    def of(self, index: list[dict]) -> list[str]:
        """Return the names at a server."""
        return sorted({entry["name"] for entry in index}) if ALL in self.models else list(dict.fromkeys(self.models))

    def to_load(self, index: list[dict]) -> list[str]:
        there = loaded(index)
        return [name for name in self.of(index) if name not in there] if self.loaded else []

    def to_unload(self, index: list[dict], needed: set) -> list[str]:
        """Return the models that have to go.

        :param needed: models that those which stay are made of
        """
        busy, asked = is_busy(index), self.of(index)
        if self.loaded:
            return sorted(busy - set(asked) - needed) if self.exclusive else []
        return [name for name in asked if name in busy]

    def set_after(self, before: list[str], index: list[dict]) -> list[str]:
        """Return the set that new servers start with from then on."""
        if self.loaded and (self.exclusive or ALL in self.models):
            return list(dict.fromkeys(self.models))
        if self.loaded:
            return before if ALL in before else list(dict.fromkeys([*before, *self.models]))
        if ALL in self.models:
            return []
        rest = [name for name in before if name not in self.models]
        # All but some is no pattern, so they are named.
        return sorted({entry["name"] for entry in index} - set(self.models)) if ALL in before else rest


def loaded(index: list[dict]) -> dict[str, list[str]]:
    """Return model -> versions that serve."""
    found: dict[str, list[str]] = {}
    for entry in index:
        if entry["state"] == "READY":
            found.setdefault(entry["name"], []).append(entry["version"])
    return {name: sorted(versions, key=lambda version: (len(version), version)) for name, versions in found.items()}


def is_busy(index: list[dict]) -> set[str]:
    """Return the models that serve, are on their way in or out, or have failed: those that are not at rest."""
    return {entry["name"] for entry in index if entry["state"] and not (entry["state"] == "UNAVAILABLE" and entry["reason"] in ("", "unloaded"))}


def reason(index: list[dict], model: str) -> str:
    """Return Triton's reason why a model is not loaded; nothing if there is none."""
    found = [entry["reason"] for entry in index if entry["name"] == model and entry["state"] == "UNAVAILABLE" and entry["reason"] != "unloaded"]
    return "; ".join(dict.fromkeys(" ".join(text.split()) for text in found if text))


def state(index: list[dict], model: str) -> str:
    """Return in a word what a server has of a model: its versions, or the state of one that does not serve; "-" if it is not loaded."""
    versions = loaded(index).get(model)
    if versions:
        return ",".join(versions)
    if model not in is_busy(index):
        return "-"
    found = next(entry["state"] for entry in index if entry["name"] == model and entry["state"])
    return "FAILED" if found == "UNAVAILABLE" else found


def differences(replicas: list[dict], names_of_set: list[str] | None) -> list[str]:
    """Return where a replica has something else than most of the others, and which models new replicas load that most have not, a sentence each.

    :param replicas: dicts of which ``replica``, ``waiting`` and ``models``, the index, count; those that wait are left out
    """
    asked, found = [entry for entry in replicas if not entry["waiting"]], []
    for model in sorted({entry["name"] for replica in asked for entry in replica["models"]} | (set(names_of_set or ()) - {ALL})):
        states = {replica["replica"]: state(replica["models"], model) for replica in asked}
        if not states:
            continue
        # Of two halves, the one that serves counts as most.
        most = max(collections.Counter(states.values()).items(), key=lambda entry: (entry[1], entry[0] != "-"))[0]
        found += [f"{name}: model {model} {_words(has)}, most replicas: {_words(most)}" for name, has in states.items() if has != most]
        if names_of_set is not None and (model in names_of_set or ALL in names_of_set) and not most[0].isdigit():
            found.append(f"model {model} {_words(most)} on most replicas, but new ones load it")
    return found


def _words(has: str) -> str:
    return {"-": "is not loaded", "FAILED": "has failed"}.get(has) or (f"has version {has}" if has[0].isdigit() else f"is {has}")


def table(replicas: list[dict], names_of_set: list[str] | None) -> list[str]:
    """Return a line for each model below a heading, with a column for each replica and one for the set.

    Replicas are called by what their names do not have in common.
    """
    pods = [replica["replica"] for replica in replicas]
    common = os.path.commonprefix([pod.rpartition("-")[0] + "-" for pod in pods]) if pods else ""
    common = common[: common.rfind("-") + 1]
    indexes = [replica["models"] for replica in replicas]
    models = sorted({entry["name"] for index in indexes for entry in index} | (set(names_of_set or ()) - {ALL}))
    rows = [["MODEL", *(pod.removeprefix(common) for pod in pods), *(["NEW REPLICAS"] if names_of_set is not None else [])]]
    for model in models:
        cells = ["?" if replica["waiting"] else state(replica["models"], model) for replica in replicas]
        new = [] if names_of_set is None else ["load" if model in names_of_set or ALL in names_of_set else "-"]
        rows.append([model, *cells, *new])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
