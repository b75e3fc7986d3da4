# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache that the model repository is fetched into before the server starts. PRIVATE to the collection. The options are those of _serving."""

from __future__ import annotations

import re

#: Of the init container; credentials that are rotated go there too.
CONTAINER = "fetch-models"
CACHE, LINKS, SCRIPT = "/model-cache", "/models", "/etc/triton-fetch-models"
#: Where the server finds the repository: a link of this pod to one of the cache's folders.
REPOSITORY = f"{LINKS}/current"
VOLUME_KINDS = ("hostPath", "persistentVolumeClaim", "emptyDir", "ephemeral", "nfs", "csi")
#: As long as the server runs it holds a lock on what it serves from, by which others on the cache know that it is in use. Where the file system has no
#: locks, it runs without.
HOLD = f'exec 9<"$(readlink {REPOSITORY})/../complete"; flock --shared 9; exec "$@"'


def command(args: list[str]) -> list[str]:
    """Return the server's command such that it holds what it serves from."""
    return ["bash", "-c", HOLD, "hold", *args]


def container(options: dict, credentials: dict, security: dict) -> dict:
    """Return the init container; credentials as the filter credential_pod returns them."""
    own = credentials["container"]
    args = {"url": options["model_repository"], "cache": CACHE, "link": REPOSITORY}
    args |= {"parallel": options["model_cache_parallel"], "keep": options["model_cache_keep"]}
    found = {
        "name": CONTAINER,
        "image": options["model_cache_image"],
        "imagePullPolicy": options["image_pull_policy"],
        "command": ["python3", f"{SCRIPT}/fetch_models.py", *(f"--{name}={value}" for name, value in args.items())],
        "env": options["env"] + own.get("env", []),
        "envFrom": options["env_from"] + own.get("envFrom", []),
        "resources": options["model_cache_resources"],
        "securityContext": {**security, "readOnlyRootFilesystem": True},
        # What went wrong then stands in the pod's status too.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "fetch-models", "mountPath": SCRIPT, "readOnly": True},
            {"name": "model-cache", "mountPath": CACHE},
            {"name": "model-links", "mountPath": LINKS},
            # A certificate authority's file may be in one.
            *options["volume_mounts"],
            *own.get("volumeMounts", []),
        ],
    }
    return {name: value for name, value in found.items() if value}


def volumes(options: dict) -> tuple[list[dict], list[dict]]:
    """Return (the pod's volumes, the server's mounts)."""
    found = [
        {"name": "fetch-models", "configMap": {"name": options["model_cache_config"]}},
        {"name": "model-cache", **options["model_cache"]},
        {"name": "model-links", "emptyDir": {}},
    ]
    return found, [{"name": name, "mountPath": path, "readOnly": True} for name, path in (("model-cache", CACHE), ("model-links", LINKS))]


def problems(options: dict) -> list[str]:
    """Return what is wrong with the options of the cache, a sentence each."""
    cache, found = options["model_cache"], []
    if not cache:
        return []
    if not isinstance(cache, dict) or len(cache) != 1 or set(cache) - set(VOLUME_KINDS):
        found.append(
            f"triton_model_cache is {cache!r}; it must be one volume source as Kubernetes has it, one of {', '.join(VOLUME_KINDS)}, "
            "such as {hostPath: {path: /var/lib/triton-models, type: DirectoryOrCreate}}."
        )
    if options["model_volume"]:
        found.append("triton_model_cache and triton_model_volume are given, but a volume needs no cache. Give one of the two.")
    elif not str(options["model_repository"]).startswith("s3://"):
        found.append(f"triton_model_cache is given, but only repositories at s3:// can be cached, and this one is {options['model_repository']}.")
    if options["model_control_mode"] == "poll":
        found.append(
            "triton_model_cache is given and triton_model_control_mode is poll, its default, but a cached repository does not change under a running "
            "server. Set triton_model_control_mode to none; with model_repository_layout=release, new models are then a rollout."
        )
    for name, most in (("parallel", 128), ("keep", 1000)):
        value = options[f"model_cache_{name}"]
        if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,4}", str(value)) or not 1 <= int(value) <= most:
            found.append(f"triton_model_cache_{name} is {value!r}; allowed is a whole number from 1 to {most}.")
    return found
