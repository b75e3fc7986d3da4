# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rules look at: a tree with its configurations parsed, and for each model what Triton makes of it. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import functools

from ansible_collections.mlserving.triton.plugins.module_utils import _backends, _model_config
from ansible_collections.mlserving.triton.plugins.module_utils._model_tree import CONFIG, File, Model, Tree

#: A version is a C++ int64 in Triton.
LARGEST_VERSION = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Hit:
    """One place at which a rule is broken. ``file`` is below the tree's root; line and column count from 1."""

    file: str
    message: str
    cure: str
    line: int | None = None
    column: int | None = None


class Repository:
    """``models`` maps each model's name to its view."""

    def __init__(self, tree: Tree):
        self.tree = tree
        self.problems = frozenset(problem.name for problem in tree.problems)
        self.models = {model.name: ModelView(model, self) for model in tree.models}


class ModelView:
    """One model. ``config`` is its ModelConfig, an empty one if the model has none or none that can be read."""

    def __init__(self, model: Model, repository: Repository):
        self.model = model
        self.name = model.name
        self.repository = repository
        self.error: _model_config.ConfigError | None = None
        try:
            #: Tells where in config.pbtxt fields and strings stand.
            self.place = _model_config.parse(model.config or b"")
        except _model_config.ConfigError as error:
            self.error = error
            self.place = _model_config.parse(b"")

    @property
    def config(self):
        return self.place.message

    @functools.cached_property
    def is_known(self) -> bool:
        """Whether what the model is can be told: the directory and its config.pbtxt can be read, if there is one."""
        return not self.error and not self.repository.problems & {self.name, self.config_file}

    @property
    def has_config(self) -> bool:
        return self.model.config is not None

    @property
    def config_file(self) -> str:
        return f"{self.name}/{CONFIG}"

    @functools.cached_property
    def files(self) -> dict[str, File]:
        """Name within the model's directory -> file, markers left out."""
        start = len(self.name) + 1
        return {file.name[start:]: file for file in self.model.files if file.path}

    @functools.cached_property
    def present(self) -> frozenset[str]:
        """The names within the model's directory of all files, of their directories and of what could not be read."""
        start = len(self.name) + 1
        names = set(self.files) | {name[start:] for name in self.repository.problems if name.startswith(f"{self.name}/")}
        for name in list(names):
            while "/" in name:
                name = name.rpartition("/")[0]
                if name in names:
                    break
                names.add(name)
        return frozenset(names)

    @functools.cached_property
    def versions(self) -> tuple[int, ...]:
        """The versions that Triton sees, in order; those without a file too."""
        seen = (int(name) for name in self.model.versions if name == str(int(name)))
        return tuple(sorted(version for version in seen if version <= LARGEST_VERSION))

    @functools.cached_property
    def served(self) -> tuple[int, ...]:
        """The versions that the version policy lets Triton load, in order."""
        policy = self.config.version_policy
        if policy.HasField("specific"):
            return tuple(version for version in self.versions if version in policy.specific.versions)
        if policy.HasField("all"):
            return self.versions
        count = policy.latest.num_versions if policy.HasField("latest") else 1
        return self.versions[-count:] if count else ()

    @functools.cached_property
    def backend_name(self) -> str | None:
        first = min(self.model.directories, default="")
        content = {name.split("/")[1] for name in self.present if name.startswith(f"{first}/")} if first else ()
        return _backends.backend_name(self.name, self.config, content)

    @property
    def backend(self) -> _backends.Backend | None:
        """What is known of the model's backend."""
        return _backends.BACKENDS.get(self.backend_name or "")

    @property
    def is_ensemble(self) -> bool:
        return self.backend_name == _backends.ENSEMBLE

    @property
    def steps(self) -> list:
        return list(self.config.ensemble_scheduling.step) if self.is_ensemble else []

    @functools.cached_property
    def completes(self) -> bool:
        """Whether something may add the inputs and outputs that the configuration does not name."""
        if self.is_ensemble:
            return False
        if self.backend_name == "python":
            return any("auto_complete_config" in self._text(f"{version}/{name}") for version in self.versions for name in self.expected_files)
        return not self.backend or self.backend.completes is not False

    @property
    def expected_files(self) -> tuple[str, ...]:
        """The names of which one must be in each version directory."""
        if not self.backend or not self.backend.files:
            return ()
        return (self.config.default_model_filename,) if self.config.default_model_filename else self.backend.files

    def path(self, name: str) -> str:
        """Return the path below the tree's root of a file in the model's directory."""
        return f"{self.name}/{name}"

    def lines(self, name: str) -> int:
        """Return how many lines a text file in the model's directory has."""
        text = self._text(name)
        return text.count("\n") + (not text.endswith("\n") and bool(text))

    @functools.cached_property
    def codes(self) -> list[str]:
        """The Python files of a model whose backend runs them."""
        return [self._text(name) for name in self.files if name.endswith(".py")] if self.backend_name in ("python", "pytorch") else []

    def _text(self, name: str) -> str:
        try:
            return self.files[name].path.read_text(encoding="utf-8", errors="replace")
        except (KeyError, OSError):
            return ""
