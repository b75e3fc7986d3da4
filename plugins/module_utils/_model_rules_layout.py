# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules on which files and directories a model has. The table is _model_rules.RULES. PRIVATE to the collection."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.mlserving.triton.plugins.module_utils._model_rules_view import LARGEST_VERSION, Hit, ModelView, Repository
from ansible_collections.mlserving.triton.plugins.module_utils._model_tree import CONFIG, MARKER, VERSION

ABOUT = re.compile(r"(README|LICEN[CS]E|NOTICE|CHANGELOG)", re.IGNORECASE)
#: core VersionsToLoad in src/model_lifecycle.cc reads a directory's name with stoll, which stops at the first character that is no digit.
LEADING_NUMBER = re.compile(r"[0-9]+")
#: core src/constants.h, server docs/user_guide/model_configuration.md: warm-up data, initial states, other configurations.
KNOWN_DIRECTORIES = ("configs", "warmup", "initial_state")


def source_is_a_model(repository: Repository) -> Iterator[Hit]:
    if CONFIG in repository.tree.strays:
        yield Hit(CONFIG, f"{CONFIG} lies beside the model directories, so the source itself looks like one model.", "Give the directory above it.")


def has_something_to_serve(model: ModelView) -> Iterator[Hit]:
    if not _holds_a_model(model) and not _nested(model) and CONFIG not in model.repository.tree.strays:
        yield Hit(
            model.name,
            f"{model.name} has neither a {CONFIG} nor a version directory with files, so Triton cannot tell what to serve.",
            f"Put the model's files into {model.name}/1/, or remove {model.name} if it is no model.",
        )


def is_not_nested(model: ModelView) -> Iterator[Hit]:
    nested = _nested(model)
    if not _holds_a_model(model) and nested:
        yield Hit(
            nested,
            f"The model lies one level too deep, in {nested}; Triton looks for {CONFIG} and version directories in {model.name}.",
            f"Move what is in {nested} up into {model.name}, or give {model.name} as the source.",
        )


def _holds_a_model(model: ModelView) -> bool:
    return model.has_config or any(model.model.versions.values()) or any(version in model.present for version in model.model.versions)


def _nested(model: ModelView) -> str | None:
    for directory in model.model.directories:
        below = [name.split("/")[1] for name in model.files if name.startswith(f"{directory}/")]
        if not VERSION.fullmatch(directory) and any(name == CONFIG or VERSION.fullmatch(name) for name in below):
            return model.path(directory)
    return None


def has_a_version(model: ModelView) -> Iterator[Hit]:
    if model.has_config and not model.model.versions and not any(_misread(model)):
        content = "an empty directory will do" if model.is_ensemble else "put the model's files into it"
        yield Hit(
            model.name,
            f"{model.name} has no version directory, so Triton has no version to load.",
            f"Create {model.name}/1; {content}.",
        )


def versions_hold_files(model: ModelView) -> Iterator[Hit]:
    if not model.has_config and not any(model.model.versions.values()):
        return
    for version in _empty_versions(model):
        if _needs_files(model):
            yield Hit(
                model.path(version),
                f"The version directory {model.path(version)} is empty, so this version cannot be loaded.",
                f"Put the model's files into {model.path(version)}, or remove it.",
            )


def empty_versions_are_kept(model: ModelView) -> Iterator[Hit]:
    for version in _empty_versions(model):
        if not _needs_files(model):
            yield Hit(
                model.path(version),
                f"An object store has no empty directories, so {model.path(version)}/{MARKER} is uploaded in place of {model.path(version)}.",
                "Nothing needs to be done.",
            )


def _needs_files(model: ModelView) -> bool:
    """Whether a version without a file is a fault; of an ensemble, and of a backend that is not known, it is none."""
    return bool(model.backend.files) if model.backend else not model.backend_name


def _empty_versions(model: ModelView) -> list[str]:
    return [version for version, count in model.model.versions.items() if not count and version not in model.present]


def versions_have_no_leading_zero(model: ModelView) -> Iterator[Hit]:
    for version in model.model.versions:
        if version.startswith("0") and version != "0":
            yield Hit(
                model.path(version),
                f"Triton ignores version directories that start with 0, such as {model.path(version)}.",
                f"Rename it, such as to {model.path(version.lstrip('0') or '0')}.",
            )


def versions_fit_a_number(model: ModelView) -> Iterator[Hit]:
    for directory in model.model.directories:
        number = LEADING_NUMBER.match(directory)
        if number and int(number[0]) > LARGEST_VERSION and not directory.startswith("0"):
            yield Hit(
                model.path(directory),
                f"Triton reads {directory} as a version that is larger than {LARGEST_VERSION}, and the whole server crashes.",
                f"Rename {model.path(directory)}, such as to {model.path('1')}.",
            )


def versions_are_plain_numbers(model: ModelView) -> Iterator[Hit]:
    for directory, version in _misread(model):
        yield Hit(
            model.path(directory),
            f"Triton reads the directory {model.path(directory)} as version {version}, and then finds nothing in {model.path(version)}.",
            f"Rename it to {model.path(version)}, or give it a name that starts with a letter.",
        )


def _misread(model: ModelView) -> Iterator[tuple[str, str]]:
    for directory in model.model.directories:
        number = LEADING_NUMBER.match(directory)
        if number and number[0] != directory and not directory.startswith("0") and int(number[0]) <= LARGEST_VERSION:
            if number[0] not in model.model.versions:
                yield directory, number[0]


def model_file_is_there(model: ModelView) -> Iterator[Hit]:
    for version in _versions_with_content(model):
        for wanted in _wanted(model):
            if not any(f"{version}/{name}" in model.present for name in wanted):
                names = " or ".join(wanted)
                yield Hit(
                    model.path(str(version)),
                    f"{model.path(str(version))} has no {names}, which the backend {model.backend.name} loads{_waiting(model)}.",
                    f"Name the model's file so, or name the file that is there in default_model_filename of {model.config_file}.",
                )
        yield from _incomplete(model, version)


def _waiting(model: ModelView) -> str:
    # run: the stub ends at once and the server waits for it without a word in the log
    return "; the server may then hang while it starts" if model.backend.name == "python" else ""


def _wanted(model: ModelView) -> list[tuple[str, ...]]:
    """Return groups of names; of each group one is to be in every version directory."""
    if not model.expected_files:
        return []
    if model.backend.by_capability and model.config.cc_model_filenames:
        return [(name,) for name in sorted(set(model.config.cc_model_filenames.values()))]
    return [model.expected_files]


def _versions_with_content(model: ModelView) -> list[int]:
    return [version for version in model.versions if str(version) in model.present]


def _incomplete(model: ModelView, version: int) -> Iterator[Hit]:
    """A model of several files of which one is missing."""
    for name in (name for wanted in _wanted(model) for name in wanted):
        file, backend = f"{version}/{name}", model.backend
        if file not in model.present:
            continue
        is_directory = any(other.startswith(f"{file}/") for other in model.files)
        missing = None
        if backend.companion and name.endswith(backend.companion[0]):
            missing = file.removesuffix(backend.companion[0]) + backend.companion[1]
        elif backend.inside and is_directory and (backend.inside != "saved_model.pb" or f"{file}/saved_model.pbtxt" not in model.present):
            missing = f"{file}/{backend.inside}"
        if missing and missing not in model.present:
            yield Hit(
                model.path(missing),
                f"{model.path(missing)} is missing, which belongs to {model.path(file)}.",
                f"Add {model.path(missing)}.",
            )


def model_file_is_not_empty(model: ModelView) -> Iterator[Hit]:
    names = {name for wanted in _wanted(model) for name in wanted}
    for version in model.versions:
        for name in sorted(names):
            file = model.files.get(f"{version}/{name}")
            if file and not file.size:
                yield Hit(
                    file.name,
                    f"{file.name} is empty, so the backend {model.backend.name} cannot load it.",
                    "Put the model into it; a copy or a download may have been cut off.",
                )


def files_lie_in_a_model(repository: Repository) -> Iterator[Hit]:
    for name in repository.tree.strays:
        if name != CONFIG and not ABOUT.match(name):
            yield Hit(
                name,
                f"{name} lies beside the model directories, so it belongs to no model and is not uploaded.",
                "Move it into the model's directory that needs it, or out of the source.",
            )


def entries_are_known(model: ModelView) -> Iterator[Hit]:
    misread = {directory for directory, _version in _misread(model)}
    nested = _nested(model) if not _holds_a_model(model) else None
    files = [name for name in model.files if "/" not in name]
    for name in (*files, *model.model.directories):
        if name in misread or model.path(name) == nested or not _holds_a_model(model):
            continue
        if not _is_known_file(model, name) if name in model.files else not _is_known_directory(model, name):
            yield Hit(
                model.path(name),
                f"Triton takes no notice of {model.path(name)}, which neither {CONFIG} nor the model's code mentions.",
                f"Move it into a version directory if the model needs it, or out of {model.name}.",
            )


def _is_known_file(model: ModelView, name: str) -> bool:
    if name == CONFIG or ABOUT.match(name) or _is_mentioned(model, name):
        return True
    # core src/backend_model.cc, python_backend README: a backend's library and the Python stub may lie in the model's directory
    if name.startswith("libtriton_") or name == "triton_python_backend_stub":
        return True
    return name.endswith(".py") and model.backend_name in ("python", "pytorch")


def _is_known_directory(model: ModelView, name: str) -> bool:
    if VERSION.fullmatch(name) or name in KNOWN_DIRECTORIES or _is_mentioned(model, name):
        return True
    number = LEADING_NUMBER.match(name)
    if number and int(number[0]) > LARGEST_VERSION:
        return True
    return model.backend_name == "python" and any(file.startswith(f"{name}/") and file.endswith(".py") for file in model.files)


def _is_mentioned(model: ModelView, name: str) -> bool:
    """Whether the configuration names it, or the code of a model in Python, which may open any file beside it."""
    mention = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])")
    return bool(mention.search(model.place.text)) or any(mention.search(code) for code in model.codes)
