# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a playbook takes, and what of the given variables it would not understand. PRIVATE to the collection.

A *book* is playbooks/vars/arguments.yml with, under ``specs``, the roles' options by role. An *option* is one of an argument spec.
"""

from __future__ import annotations

import difflib
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ansible.module_utils.common import validation

#: Below it, two names have little in common.
ALIKE = 0.8
#: From here on, a name of an inventory, which may well have names of its own with our prefixes, is a misspelling.
VERY_ALIKE = 0.9
#: Names up to this length are alike only in another case or spelling.
SHORT = 4
KINDS = {
    "int": (validation.check_type_int, "a whole number"),
    "float": (validation.check_type_float, "a number"),
    "bool": (validation.check_type_bool, "true or false"),
    "list": (validation.check_type_list, "a list"),
    "dict": (validation.check_type_dict, "a mapping"),
}
DOCS = "docs/variables.md lists all."


class Given(NamedTuple):
    """The variables as they came in.

    ``values``: by name, not templated. ``extra``: names of those from the command line. ``render``: gives a variable's value; raises if it has none.
    """

    values: Mapping[str, object]
    extra: frozenset[str]
    render: Callable[[str], object]


def load(root: pathlib.Path) -> dict:
    """Return the book of the collection in this folder."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    def read(path):
        return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)

    roles = {path.parts[-3]: read(path)["argument_specs"]["main"]["options"] for path in sorted(root.glob("roles/*/meta/argument_specs.yml"))}
    return {**read(root / "playbooks" / "vars" / "arguments.yml"), "specs": roles}


def words(root: pathlib.Path, prefixes: Iterable[str]) -> set[str]:
    """Return the variables with these prefixes that the roles and playbooks themselves set, documented or not."""
    name = rf"((?:{'|'.join(map(re.escape, prefixes))})\w+)"
    pattern = re.compile(rf"^[ -]*{name}:|register: {name}", re.MULTILINE)
    files = [path for folder in ("roles/*/tasks", "roles/*/vars", "playbooks", "awx") for path in root.glob(f"{folder}/**/*.yml")]
    return {word for path in files for match in pattern.findall(path.read_text(encoding="utf-8")) for word in match if word}


def taken(book: Mapping, playbook: str) -> dict[str, dict]:
    """Return the options of a playbook by variable: its own before the public chart's, those before its roles'."""
    entry = book["playbooks"][playbook]
    roles = {name: option for role in entry["roles"] for name, option in book["specs"].get(role, {}).items()}
    chart = book["chart"]["options"] if entry["chart"] else {}
    return {**roles, **chart, **entry.get("options", {}), **book["shared"]["options"]}


def prefixes(book: Mapping) -> tuple[str, ...]:
    return tuple(f"{role}_" for role in book["specs"])


def problems(book: Mapping, playbook: str, given: Given, internal: Callable[[], set[str]]) -> tuple[list[str], list[str]]:
    """Return (what must be corrected, what may be a mistake) of the variables, a sentence each.

    :param internal: gives the variables with our prefixes that the collection itself sets
    """
    options = taken(book, playbook)
    wrong, doubtful = misspelt(book, playbook, given, internal)
    for name, option in options.items():
        if name in given.values:
            strict = name in book["chart"]["options"] and option is book["chart"]["options"][name]
            wrong += value_problems(name, option, given, strict)
    return wrong + missing(book["playbooks"][playbook], given), doubtful


def misspelt(book: Mapping, playbook: str, given: Given, internal: Callable[[], set[str]]) -> tuple[list[str], list[str]]:
    """Return (what must be corrected, what may be a mistake) of the names of the variables."""
    entry, ours = book["playbooks"][playbook], prefixes(book)
    own = [*(book["chart"]["options"] if entry["chart"] else {}), *entry.get("options", {})]
    documented = {name for spec in book["specs"].values() for name in spec} | set(book["shared"]["options"])
    inner = inner_keys(book) if entry["chart"] else {}
    unknown = [name for name in given.values if not name.startswith(("_", "ansible_")) and name not in documented and name not in own]
    known = internal() if any(name.startswith(ours) for name in unknown) else set()
    bare = _bare(book, entry)
    wrong, doubtful, used = [], [], None
    for name in unknown:
        extra, prefixed = name in given.extra, name.startswith(ours)
        near = nearest(name, documented, ALIKE if extra else VERY_ALIKE) if prefixed else _near_ours(name, own, inner, extra)
        dotted = _dotted(name, own)
        if name in known or not (prefixed or near or dotted or (extra and name in bare)):
            continue
        used = mentioned(given.values) if used is None else used
        if name in used:
            continue
        shown = f"{name} ({'on the command line' if extra else 'in the inventory'})"
        if dotted:
            wrong.append(f"{shown}: a name with dots sets nothing. {_nested_advice(name, inner)}")
        elif near:
            wrong.append(f"{shown} is no variable of this collection. Did you mean {near}?")
        elif prefixed:
            (wrong if extra else doubtful).append(f"{shown} is no variable of this collection. {DOCS}")
        else:
            doubtful.append(f"{shown} sets nothing. Did you mean {bare[name]}?")
    return wrong, doubtful


def _bare(book: Mapping, entry: Mapping) -> dict[str, str]:
    """Return the variables of the role triton that people give most, by their names without the prefix."""
    if "triton" not in entry["roles"]:
        return {}
    by_chart = [option["sets"] for option in book["chart"]["options"].values() if "sets" in option]
    names = ["triton_kubeconfig", "triton_context", *by_chart, *entry.get("assumes", [])]
    return {name.removeprefix("triton_"): name for name in names if name.startswith("triton_")}


def _near_ours(name: str, own: Sequence[str], inner: Mapping[str, str], extra: bool) -> str | None:
    """Return what a name without our prefixes was meant for; in an inventory, which others share, only what differs by case or separators."""
    if not extra:
        camel = [key for key in own if key != key.lower()]
        return next((key for key in camel if _plain(key) == _plain(name)), None)
    candidates = {**{key: key for key in own}, **{key: path for key, path in inner.items() if key != key.lower()}}
    found = nearest(name, candidates)
    # A part of a word of ours is somebody else's word.
    return candidates[found] if found and abs(len(_plain(found)) - len(_plain(name))) <= max(1, len(found) // 5) else None


def nearest(name: str, candidates: Iterable[str], alike: float = ALIKE) -> str | None:
    """Return the candidate that ``name`` was meant for, if there is one that is like it.

    >>> nearest("replicacount", ["replicaCount", "namespace"])
    'replicaCount'
    """
    plain = {_plain(candidate): candidate for candidate in candidates}
    if _plain(name) in plain:
        return plain[_plain(name)]
    long = [candidate for candidate in plain if len(candidate) > SHORT]
    found = difflib.get_close_matches(_plain(name), long, n=1, cutoff=alike)
    return plain[found[0]] if found else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def inner_keys(book: Mapping) -> dict[str, str]:
    """Return the chart's nested keys with their paths, such as {"imageName": "image.imageName"}."""
    return {key: f"{name}.{key}" for name, option in book["chart"]["options"].items() for key in option.get("options", {})}


def _dotted(name: str, own: Sequence[str]) -> bool:
    return "." in name and nearest(name.partition(".")[0], own) is not None


def _nested_advice(name: str, inner: Mapping[str, str]) -> str:
    path = nearest(name, inner.values())
    if not path:
        return f"Those of the public chart are {', '.join(inner.values())}."
    first, rest = path.split(".")
    return f'Write -e \'{{"{first}": {{"{rest}": ...}}}}\', or put it into a file: -e @config.yaml.'


def mentioned(values: Mapping[str, object]) -> set[str]:
    """Return every word in templates among the values: a variable that another one uses is no mistake."""
    found: set[str] = set()

    def look(value):
        if isinstance(value, str):
            if "{{" in value or "{%" in value:
                found.update(re.findall(r"(?<![\w.])\w+", value))
        elif isinstance(value, dict):
            for item in value.values():
                look(item)
        elif isinstance(value, list):
            for item in value:
                look(item)

    for name, value in values.items():
        if name not in ("hostvars", "vars", "groups") and not name.startswith("ansible_"):
            look(value)
    return found


def value_problems(name: str, option: Mapping, given: Given, strict: bool) -> list[str]:
    """Return what is wrong with the value of a variable; one that cannot be told yet is left to the task that uses it."""
    if option["type"] not in KINDS and not option.get("choices"):
        return []
    try:
        value = given.render(name)
    except Exception:  # pylint: disable=broad-exception-caught # whatever a template raises
        return []
    return check(name, option, value, strict)


def check(path: str, option: Mapping, value: object, strict: bool = False) -> list[str]:
    """Return what is wrong with a value, a sentence each.

    :param path: the variable with dots, as it appears in messages
    :param strict: whether text may stand for lists and mappings; if so, as modules take it
    """
    if value is None or value == "":
        return []
    convert, kind = KINDS.get(option["type"], (None, ""))
    if strict and option["type"] in ("list", "dict") and not isinstance(value, (list, dict)[option["type"] == "dict"]):
        example = f", with the keys {', '.join(option['options'])}" if option.get("options") else ""
        return [f"{path} is {_shown(option, value)}; allowed is {kind}{example}."]
    if convert:
        try:
            value = convert(value)
        except (TypeError, ValueError):
            return [f"{path} is {_shown(option, value)}; allowed is {kind}."]
    if option["type"] == "dict" and option.get("options"):
        return [sentence for key, inner in value.items() for sentence in _check_key(path, option["options"], str(key), inner, strict)]
    found = []
    for item in value if isinstance(value, list) else [value]:
        if option["type"] == "list" and option.get("elements") in ("int", "float", "dict"):
            found += check(f"an element of {path}", {"type": option["elements"], "no_log": option.get("no_log")}, item)
        # As Ansible compares them: by their text.
        if option.get("choices") and str(item) not in map(str, option["choices"]):
            found.append(f"{path} is {_shown(option, item)}; allowed is one of {', '.join(str(choice) or 'empty' for choice in option['choices'])}.")
    return found


def _check_key(path: str, options: Mapping, key: str, value: object, strict: bool) -> list[str]:
    if key in options:
        return check(f"{path}.{key}", options[key], value, strict)
    near = nearest(key, options)
    return [f"{path}.{key} is not known. {f'Did you mean {path}.{near}?' if near else f'{path} has the keys ' + ', '.join(options) + '.'}"]


def _shown(option: Mapping, value: object) -> str:
    secret = option.get("no_log") or any(inner.get("no_log") for inner in option.get("options", {}).values())
    if secret:
        return "of another form"
    text = repr(value) if isinstance(value, (int, float, bool)) else repr(str(value))
    return text if len(text) <= 80 else f"{text[:76]}...{text[-1]}"


def missing(entry: Mapping, given: Given) -> list[str]:
    """Return what a playbook needs and has not got."""
    options = entry.get("options", {})
    needed = [[name] for name, option in options.items() if option.get("required")] + entry.get("required_one_of", [])
    return [
        f"Say {' or '.join(f'-e {name}=VALUE' for name in names)}. {options.get(names[0], {}).get('description', '')}".rstrip()
        for names in needed
        if not any(_has(given, name) for name in names)
    ]


def _has(given: Given, name: str) -> bool:
    try:
        return name in given.values and given.render(name) not in (None, "", [], {})
    except Exception:  # pylint: disable=broad-exception-caught # there is something, and the task that uses it will say what is wrong with it
        return True


def left_out(playbook: str, skipped: Iterable[str], layout: object) -> list[str]:
    """Return what is wrong with skipping tags."""
    if playbook == "deploy" and "model_repository" in skipped and layout == "release":
        return ["--skip-tags model_repository: with model_repository_layout=release that role knows the URL of the release that Triton is to read."]
    return []


def assumed(book: Mapping, playbook: str, given: Given) -> tuple[dict[str, object], dict[str, object]]:
    """Return (the variables that have their defaults, those that the inventory sets), of the ones that a playbook tells about."""
    entry, defaults = book["playbooks"][playbook], {name: option.get("default") for spec in book["specs"].values() for name, option in spec.items()}
    set_by_chart = _set_by_chart(book["chart"]["options"], given) if entry["chart"] else set()
    by_default, by_inventory = {}, {}
    for name in entry.get("assumes", []):
        if name in given.extra or name in set_by_chart:
            continue
        if name == "model_repository_url" and (_has(given, "triton_model_volume") or "triton_model_volume" in set_by_chart):
            continue
        try:
            value = given.render(name) if name in given.values else defaults[name]
        except Exception:  # pylint: disable=broad-exception-caught # the task that uses it says what is wrong with it
            continue
        (by_default if value == defaults[name] else by_inventory)[name] = value
    return by_default, by_inventory


def _set_by_chart(options: Mapping, given: Given) -> set[str]:
    found = set()
    for name, option in options.items():
        if not _has(given, name):
            continue
        if "sets" in option:
            found.add(option["sets"])
        inner = option.get("options")
        value = given.render(name) if inner else None
        found |= {inner[key]["sets"] for key in value if key in inner} if isinstance(value, dict) else set()
    return found
