# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Triton's credentials come from: exactly one source, and what the pod needs of it. PRIVATE to the collection."""

from __future__ import annotations

import re

from ansible_collections.mlserving.triton.plugins.module_utils import _model_cache
from ansible_collections.mlserving.triton.plugins.module_utils._credentials import CLOUD_FILE, KEYS

#: Source -> the role variables that belong to it. The first two are read where the playbook runs.
VARIABLES = {
    "environment": (),
    "profile": ("triton_aws_profile",),
    "static": ("triton_aws_access_key_id", "triton_aws_secret_access_key", "triton_aws_session_token", "triton_google_credentials"),
    "existing": ("triton_credentials_secret",),
    "service_account": ("triton_service_account_annotations",),
    "file": ("triton_cloud_credentials",),
    "none": (),
}
#: Where a file of credentials lies in the pod.
MOUNT = "/etc/triton-credentials"
#: Variable that tells Triton of such a file: one for several stores, and Google's own for gs://.
CLOUD_PATH, GOOGLE_PATH = "TRITON_CLOUD_CREDENTIAL_PATH", "GOOGLE_APPLICATION_CREDENTIALS"
VARIABLES_IN_POD = (CLOUD_PATH, GOOGLE_PATH, *KEYS.values())
#: A Secret of this collection's that is a pod's environment.
OWN_SECRET = re.compile(r".+-aws-[0-9a-f]{10}")
VOLUME = "credentials"
#: On the pod template: it makes the pods new when an existing Secret's content is.
DIGEST = "mlserving.triton/credentials-digest"


def choose(wanted: str, given: set[str], account: str, url: str) -> tuple[str, list[str]]:
    """Return (source, what is wrong).

    :param wanted: triton_credentials_source; empty takes the one whose variables are given
    :param given: names of the role variables that are not empty
    :param account: triton_service_account, which may stand beside any source
    :param url: of the model repository
    """
    if wanted and wanted not in VARIABLES:
        return "none", [f"triton_credentials_source is {wanted!r}; allowed is one of {', '.join(VARIABLES)}, or empty."]
    found = {source: [name for name in names if name in given] for source, names in VARIABLES.items()}
    sources = [source for source, names in found.items() if names]
    source = wanted or (sources[0] if sources else "service_account" if account else "none")
    others = [name for each in sources if each != source for name in found[each]]
    problems = []
    if others:
        mine = ", ".join(found[source]) or f"triton_credentials_source={source}"
        problems.append(
            f"Credentials come from one source, but {mine} and {', '.join(others)} are given{_why(source, others)}. Leave out one of the two."
        )
    problems += _incomplete(source, found[source], account)
    problems += _of_another_store(source, given, url)
    return source, problems


def _why(source: str, others: list[str]) -> str:
    if source == "service_account" or "triton_service_account_annotations" in others:
        return ": static variables in a pod win over its service account's identity"
    return ""


def _incomplete(source: str, found: list[str], account: str) -> list[str]:
    if source == "service_account" and not found and not account:
        return ["triton_credentials_source is 'service_account': set triton_service_account, triton_service_account_annotations or both."]
    needed = VARIABLES[source]
    if needed and not found and source != "service_account":
        return [f"triton_credentials_source is {source!r}, which needs {needed[0]}."]
    aws = [name for name in found if name.startswith("triton_aws_")]
    missing = [name for name in VARIABLES["static"][:2] if name not in found]
    if source == "static" and aws and missing:
        return [f"{aws[0]} is given without {missing[0]}. Give both."]
    return []


def _of_another_store(source: str, given: set[str], url: str) -> list[str]:
    on_google, google = url.startswith("gs://"), "triton_google_credentials" in given
    if on_google and (source in ("environment", "profile") or (source == "static" and not google)):
        return [
            f"The model repository {url} is on Google Cloud Storage, and AWS credentials do not open it. Set triton_google_credentials or another source."
        ]
    if google and not on_google:
        return [
            f"triton_google_credentials is given, but the model repository {url} is not at gs://. Leave it out, or put it into triton_cloud_credentials."
        ]
    return []


def pod(source: str, secret: str = "", keys: tuple[str, ...] = (), region: str = "", account: str = "", digest: str = "", url: str = "") -> dict:
    """Return what the pod template needs: ``annotations``, fields of the pod's ``spec`` and of its ``container``, without empty ones.

    :param secret: name of the Secret, if the source has one
    :param keys: its keys
    :param digest: of an existing Secret's content
    """
    env, sources, aws, mounted = [], [], [key for key in keys if key.startswith("AWS_")], CLOUD_FILE in keys
    if source == "existing" or mounted:
        env += [{"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}} for key in sorted(aws)]
    elif aws:
        sources.append({"secretRef": {"name": secret}})
    if mounted:
        env.append({"name": GOOGLE_PATH if url.startswith("gs://") else CLOUD_PATH, "value": f"{MOUNT}/{CLOUD_FILE}"})
    if region and KEYS["region"] not in keys:
        env.append({"name": KEYS["region"], "value": region})
    volume = {"name": VOLUME, "secret": {"secretName": secret, "items": [{"key": CLOUD_FILE, "path": CLOUD_FILE}]}}
    return {
        "annotations": _filled({DIGEST: digest}),
        "spec": _filled({"serviceAccountName": account, "volumes": [volume] if mounted else []}),
        "container": _filled(
            {"env": env, "envFrom": sources, "volumeMounts": [{"name": VOLUME, "mountPath": MOUNT, "readOnly": True}] if mounted else []}
        ),
    }


def applied(template: dict, pod: dict) -> dict:
    """Return the fields of a Deployment's pod template that new credentials change, whole, so that a merge patch replaces them.

    :param template: as it is in the cluster
    :param pod: what the function pod returns
    """
    spec, (first, *others) = template["spec"], template["spec"]["containers"]
    container = _with(first, pod["container"])
    before = spec.get("initContainers") or []
    fetching = [_with(entry, pod["container"]) if entry["name"] == _model_cache.CONTAINER else entry for entry in before]
    volumes = [entry for entry in spec.get("volumes") or [] if entry["name"] != VOLUME] + pod["spec"].get("volumes", [])
    account = {"serviceAccountName": pod["spec"]["serviceAccountName"]} if "serviceAccountName" in pod["spec"] else {}
    # In a merge patch, None takes a field away.
    annotations = {
        name: pod["annotations"].get(name) for name in {*pod["annotations"], *(template["metadata"].get("annotations") or {})} if name == DIGEST
    }
    return {
        **({"metadata": {"annotations": annotations}} if annotations else {}),
        "spec": {"containers": [container, *others], "volumes": volumes, **account, **({"initContainers": fetching} if before else {})},
    }


def _with(container: dict, new: dict) -> dict:
    """Return a container with other credentials."""
    env = [entry for entry in container.get("env") or [] if entry["name"] not in VARIABLES_IN_POD] + new.get("env", [])
    sources = [entry for entry in container.get("envFrom") or [] if not OWN_SECRET.fullmatch((entry.get("secretRef") or {}).get("name", ""))]
    mounts = [entry for entry in container.get("volumeMounts") or [] if entry["name"] != VOLUME] + new.get("volumeMounts", [])
    changed = {"env": env, "envFrom": sources + new.get("envFrom", []), "volumeMounts": mounts}
    return _filled({name: value for name, value in container.items() if name not in changed} | changed)


def _filled(fields: dict) -> dict:
    return {name: value for name, value in fields.items() if value}
