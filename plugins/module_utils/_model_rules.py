# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules that a tree of models is checked by: a table. PRIVATE to the collection.

In a source, "run" means that server 2.51.0, with its Python backend, was given a model with this fault; what it did follows.
core, server and so on are the repositories of triton-inference-server in which the behaviour stands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from ansible_collections.mlserving.triton.plugins.module_utils import _model_rules_config as config
from ansible_collections.mlserving.triton.plugins.module_utils import _model_rules_files as files
from ansible_collections.mlserving.triton.plugins.module_utils import _model_rules_layout as layout
from ansible_collections.mlserving.triton.plugins.module_utils import _model_rules_references as references
from ansible_collections.mlserving.triton.plugins.module_utils._model_rules_view import Hit

#: What a rule looks at: each model of which it is known what it is, each model, or the tree.
MODEL, ANY_MODEL, TREE = "model", "any model", "tree"


@dataclasses.dataclass(frozen=True)
class Rule:
    """``checks`` is what holds where the rule is kept; ``source`` says where it is known from that Triton needs it."""

    id: str
    family: str
    severity: str
    checks: str
    function: Callable[..., Iterator[Hit]]
    source: str
    of: str = MODEL


def _rows(family: str, *rows: tuple) -> tuple[Rule, ...]:
    return tuple(Rule(row[0], family, *row[1:]) for row in rows)


RULES = (
    *_rows(
        "layout",
        ("source-is-model", "error", "the source holds models and is none", layout.source_is_a_model, "server docs/user_guide/model_repository.md", TREE),
        ("model-empty", "error", "a directory is a model", layout.has_something_to_serve, "run: could not determine backend"),
        ("model-nested", "error", "a model does not lie a level too deep", layout.is_not_nested, "run: could not determine backend"),
        ("version-missing", "error", "a model has a version directory", layout.has_a_version, "run: at least one version must be available"),
        ("version-empty", "error", "a version directory holds files", layout.versions_hold_files, "run: as without the model's file"),
        ("version-kept", "info", "which empty directories get a marker", layout.empty_versions_are_kept, "run: an ensemble needs an empty one"),
        ("version-leading-zero", "error", "a version has no leading zero", layout.versions_have_no_leading_zero, "run: ignored"),
        ("version-too-large", "error", "a version is an int64", layout.versions_fit_a_number, "run: the server ends with std::out_of_range"),
        ("version-misread", "error", "no other directory is read as a version", layout.versions_are_plain_numbers, "run: 1a is version 1"),
        ("model-file-missing", "error", "the backend's file is there", layout.model_file_is_there, "run: hangs without model.py; _backends for the others"),
        ("model-file-empty", "error", "the backend's file is not empty", layout.model_file_is_not_empty, "run: an empty model.py has no class"),
        ("stray-file", "warning", "files lie in a model", layout.files_lie_in_a_model, "server docs/user_guide/model_repository.md", TREE),
        ("unknown-entry", "warning", "a model holds what Triton looks at", layout.entries_are_known, "server docs/user_guide/model_repository.md"),
    ),
    *_rows(
        "config",
        ("config-syntax", "error", "config.pbtxt parses", config.config_parses, "run: failed to read text proto", ANY_MODEL),
        ("config-name", "error", "name is the directory's", config.name_is_the_directory, "run: directory name must equal model name"),
        ("backend-unknown", "error", "backend or platform can be told", config.backend_can_be_told, "run: could not determine backend"),
        ("platform-unknown", "error", "platform is known", config.platform_is_known, "run: unexpected platform type"),
        ("platform-contradicts", "error", "platform belongs to backend", config.platform_fits_the_backend, "run: unexpected 'platform' and 'backend' pair"),
        ("ensemble-platform", "error", "an ensemble has its platform and no backend", config.ensemble_is_declared, "run: refused both"),
        ("ensemble-setting", "error", "an ensemble has no instances", config.ensemble_has_no_instances, "run: instance group should not be specified"),
        ("config-missing", "error", "config.pbtxt is there if it is needed", config.config_is_there, "server docs/user_guide/model_configuration.md"),
        ("tensors-missing", "warning", "inputs and outputs are declared", config.tensors_are_declared, "run: loads, with neither"),
        ("tensor-incomplete", "error", "a tensor has name, data_type and dims", config.tensors_are_complete, "run: must specify 'dims'"),
        ("tensor-dims", "error", "a dimension is positive or -1", config.dims_are_valid, "run: dimension must be integer >= 1, or -1"),
        ("tensor-twice", "warning", "a tensor is declared once", config.tensor_names_are_unique, "run: loads; core src/model.cc keeps the first"),
        ("label-file-missing", "error", "the label file is there", config.label_files_are_there, "run: failed to open text file"),
        ("label-file-short", "warning", "each class has a label", config.labels_suffice, "core src/label_provider.cc"),
        ("version-policy", "error", "the versions of the policy are there", config.version_policy_can_be_met, "run: no version is available"),
        ("batch-size", "error", "batch sizes fit", config.batch_sizes_fit, "run: preferred size must be <= max batch size"),
        ("batching-without-size", "warning", "batching has a size", config.batching_has_a_size, "run: loads; core src/dynamic_batch_scheduler.cc"),
    ),
    *_rows(
        "references",
        ("ensemble-without-steps", "error", "an ensemble has steps", references.ensemble_has_steps, "run: must specify 'step'"),
        ("step-incomplete", "error", "a step has model and maps", references.steps_are_complete, "run: must specify 'input_map'"),
        ("step-model-unknown", "error", "a step's model is there", references.step_models_exist, "run: models that are not available"),
        ("step-version-unknown", "error", "a step's version is served", references.step_versions_exist, "run: required version 0 is not loaded"),
        ("ensemble-cycle", "error", "ensembles form no circle", references.ensembles_have_no_cycle, "run: circular dependency", TREE),
        ("tensor-not-provided", "error", "a step's inputs come from somewhere", references.step_inputs_are_provided, "run: is not connected"),
        ("output-not-produced", "error", "an output is a step's result", references.outputs_are_produced, "run: ensemble output is not used"),
        ("tensor-unused", "error", "every ensemble tensor is used", references.tensors_are_used, "run: ensemble tensor is unused"),
        ("tensor-two-sources", "error", "a tensor has one source", references.tensors_have_one_source, "run: can appear in an output map only once"),
        ("step-tensor-unknown", "error", "a step maps what its model has", references.step_tensors_exist, "run: mapping to non-existing input"),
        ("step-input-unmapped", "error", "a step maps every input", references.step_inputs_are_mapped, "run: is not mapped to any ensemble tensors"),
        ("tensor-type", "error", "a tensor has one type", references.types_agree, "run: inconsistent data type"),
    ),
    *_rows(
        "names",
        ("name-not-addressable", "error", "Triton can address a name", files.names_are_addressable, "core src/filesystem/implementations/s3.h", ANY_MODEL),
        ("name-too-long", "error", "a name fits an object store", files.names_are_short, "Amazon S3 user guide, object key names", ANY_MODEL),
        ("name-case", "warning", "two models' names differ by more than case", files.names_differ_by_more_than_case, "none of Triton's: it serves both", TREE),
    ),
    *_rows(
        "files",
        ("file-unreadable", "error", "files can be read", files.is_readable, "nothing could be uploaded", TREE),
        ("link-dangling", "error", "links lead somewhere", files.link_leads_somewhere, "nothing could be uploaded", TREE),
        ("link-loop", "error", "links form no loop", files.link_is_no_loop, "the upload would not end", TREE),
        ("link-external", "error", "links stay in the source", files.link_stays_inside, "what lies outside may be private", TREE),
        ("file-special", "error", "files are regular", files.is_regular, "nothing could be uploaded", TREE),
    ),
)
