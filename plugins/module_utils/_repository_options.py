# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules about a model repository have in common: options, connection, lint. PRIVATE to the collection.

The options are documented in doc_fragments/_repository.py.
"""

from __future__ import annotations

import dataclasses
import os

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlserving.triton.plugins.module_utils import _credentials, _model_config, _model_lint, _model_tree, _s3, _s3_url
from ansible_collections.mlserving.triton.plugins.module_utils._file_digest import Digests, FileError
from ansible_collections.mlserving.triton.plugins.module_utils._repository import LAYOUTS, Publication, Repository
from ansible_collections.mlserving.triton.plugins.module_utils._s3_errors import S3Error

ARGUMENT_SPEC = {
    "url": {"type": "str"},
    "endpoint_url": {"type": "str"},
    "region": {"type": "str"},
    "addressing": {"type": "str", "choices": list(_s3.ADDRESSING), "default": "auto"},
    "ca_bundle": {"type": "path"},
    "profile": {"type": "str"},
    # An id is no secret, but until it is checked it may be the key in the wrong place.
    "access_key_id": {"type": "str", "no_log": True},
    "secret_access_key": {"type": "str", "no_log": True},
    "session_token": {"type": "str", "no_log": True},
    "retry_seconds": {"type": "int", "default": 60},
    "source": {"type": "path"},
    "layout": {"type": "str", "choices": list(LAYOUTS), "default": "in_place"},
    "keep": {"type": "int", "default": 3},
    "in_use": {"type": "list", "elements": "str", "default": []},
    "prune": {"type": "bool", "default": False},
    "strict": {"type": "bool", "default": False},
    "follow_external_links": {"type": "bool", "default": False},
    "parallel": {"type": "int", "default": 32},
    "cache_dir": {"type": "path"},
}
CONSTRAINTS = {
    "required_together": [("access_key_id", "secret_access_key")],
    "required_by": {"session_token": ("access_key_id",)},
    "mutually_exclusive": [("profile", "access_key_id")],
}
CREDENTIALS = ("access_key_id", "secret_access_key", "session_token")
ERRORS = (S3Error, FileError, _credentials.CredentialsError, _model_tree.TreeError)


def check(module: AnsibleModule) -> None:
    """End the module if an option cannot be used or a library is missing."""
    params = module.params
    if params["url"] and _s3.IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib(_s3.REQUIREMENT), exception=_s3.IMPORT_ERROR)
    if params["source"] and _model_config.IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib(_model_config.REQUIREMENT), exception=_model_config.IMPORT_ERROR)
    for name, least in (("parallel", 1), ("keep", 1), ("retry_seconds", 0)):
        if params[name] < least:
            module.fail_json(msg=f"{name} is {params[name]}. Expected {least} or more.")


def connect(module: AnsibleModule, location: _s3_url.Location) -> tuple[_s3.Store, Repository, Digests]:
    """Return (store, repository in it, checksums of local files); nothing is sent yet.

    :raises S3Error: no client can be made of the options
    :raises CredentialsError: a credential cannot be right
    """
    params = module.params
    credentials = _credentials.credentials({option: params[option] for option in CREDENTIALS})
    # Checked now. A short id left there would be masked in every key returned that happens to hold it.
    module.no_log_values.discard(params["access_key_id"])
    store = _s3.Store(
        location,
        credentials,
        endpoint_url=params["endpoint_url"],
        region=params["region"],
        parallel=params["parallel"],
        profile=params["profile"],
        addressing=params["addressing"],
        ca_bundle=params["ca_bundle"],
        retry_seconds=params["retry_seconds"],
    )
    digests = Digests(params["cache_dir"] or default_cache(), params["parallel"])
    return store, Repository(store, location, digests, params["parallel"]), digests


def plan(module: AnsibleModule, tree: _model_tree.Tree, repository: Repository) -> Publication:
    """Return what publishing the tree has to do in the layout that the options name."""
    if module.params["layout"] == "release":
        return repository.plan_release(tree.files, module.params["keep"], frozenset(module.params["in_use"]))
    return repository.plan_in_place(tree.files, module.params["prune"])


def default_cache() -> str:
    """Return the folder of the cache of checksums."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "mlserving-triton")


def _for_url(url: str | None):
    """Return a function that returns a finding as it counts for a repository at that URL, or None.

    Triton has the rule of names for stores with an endpoint only. Without a URL, that may be one.
    """
    endpoint = _s3_url.parse(url).endpoint if url else None

    def judged(finding: _model_lint.Finding) -> _model_lint.Finding | None:
        if finding.rule != "name-not-addressable" or endpoint:
            return finding
        return None if url else dataclasses.replace(finding, severity="warning")

    return judged


def lint(module: AnsibleModule) -> tuple[_model_tree.Tree, list[_model_lint.Finding], dict]:
    """Return the tree of ``source``, what the lint found, and both as the modules return them.

    :raises TreeError: there is no such tree
    """
    tree = _model_tree.read(module.params["source"], module.params["follow_external_links"])
    findings = [entry for entry in map(_for_url(module.params["url"]), _model_lint.lint(tree)) if entry]
    result = {
        "models": [model.name for model in tree.models],
        "findings": [finding.as_dict() for finding in findings],
        "table": _model_lint.table(findings),
    }
    return tree, findings, result
