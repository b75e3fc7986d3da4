# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program helm: which one it is, and what a chart is, its failures in words. PRIVATE to the collection."""

from __future__ import annotations

import re

try:
    import yaml
except ImportError:
    yaml = None  # _cluster.from_module has ended the module with the pip line

#: Of the options in ARGUMENT_SPEC.
ARGUMENT_SPEC = {
    "chart": {
        "type": "dict",
        "options": {
            "ref": {"type": "str", "required": True},
            "repository": {"type": "str", "default": ""},
            "version": {"type": "str", "default": ""},
            "prefix": {"type": "str", "default": "chart"},
        },
    },
    "helm_binary": {"type": "str", "default": "helm"},
}
#: OCI registries work since then.
OLDEST = (3, 8)
#: The first kubernetes.core that can use Helm 4.
FOR_HELM_4 = (6, 4)


class HelmError(Exception):
    """Helm is not there, does not fit, or does not find the chart. The text says what to do."""


class Helm:
    """``run_command`` is that of an AnsibleModule, or takes and returns the same."""

    def __init__(self, run_command, binary: str):
        self._run, self._binary = run_command, binary

    def version(self) -> str:
        """Return the version, such as 3.20.1.

        :raises HelmError: it does not run
        """
        code, out, _errors = self._run([self._binary, "version", "--template", "{{.Version}}"], handle_exceptions=False)
        found = re.match(r"v(\d+(?:\.\d+)+)", out)
        if code or not found:
            raise HelmError(f"{self._binary} version ends with {code} and tells no version. Name another helm as monitoring_helm_binary.")
        return found[1]

    def show(self, what: str, chart: dict) -> list[dict]:
        """Return the documents of `helm show WHAT`.

        :param what: chart or crds
        :param chart: ref, repository and version
        :raises HelmError: there is no such chart
        """
        options = [f"--{name}={value}" for name, value in (("repo", chart["repository"]), ("version", chart["version"])) if value]
        code, out, errors = self._run([self._binary, "show", what, chart["ref"], *options])
        if code:
            raise HelmError(explain(errors, chart))
        return [document for document in yaml.load_all(out, _loader()) if document]

    def chart(self, chart: dict) -> dict:
        """Return what the chart says of itself.

        :raises HelmError: there is no such chart, or it has another version
        """
        found = self.show("chart", chart)[0]
        # Of a chart that is a file or a folder, helm takes whatever version it has.
        if chart["version"] and found["version"].lstrip("v") != chart["version"].lstrip("v"):
            raise HelmError(
                f"the chart {chart['ref']} has version {found['version']}, but monitoring_{chart['prefix']}_version is {chart['version']}. Set it to that, or "
                "get the other chart."
            )
        return found


def _loader():
    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        """Reads a lone = as text, which it is since YAML 1.2."""

    Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)
    return Loader


def fits(version: str, kubernetes_core: str) -> str:
    """Return why this helm cannot be used with that version of kubernetes.core; nothing if it can, or if the latter is not known."""
    number = tuple(int(part) for part in version.split("."))
    if number < OLDEST:
        return f"helm is {version}, which is too old: {'.'.join(map(str, OLDEST))} is the least. Install a newer one, or name it as monitoring_helm_binary."
    if number >= (4,) and kubernetes_core and tuple(int(part) for part in kubernetes_core.split(".")[:2]) < FOR_HELM_4:
        return (
            f"helm is {version}, which kubernetes.core {kubernetes_core} cannot use. Install kubernetes.core {'.'.join(map(str, FOR_HELM_4))} or newer, or "
            "name a Helm 3 as monitoring_helm_binary."
        )
    return ""


def explain(errors: str, chart: dict) -> str:
    """Return helm's complaint about a chart in words."""
    said = re.sub(r"\s+", " ", errors.strip().splitlines()[-1] if errors.strip() else "nothing").removeprefix("Error: ")
    ref, version, prefix = chart["ref"], chart["version"], f"monitoring_{chart['prefix']}"
    where = chart["repository"] or ref
    if re.search(r"cannot be reached|no such host|connection refused|dial tcp|i/o timeout|TLS|x509|failed to do request", said):
        return (
            f"the chart repository {where} cannot be reached ({said}). Check {prefix}_repository and the proxy, or give a chart that lies here: "
            f"{prefix}=FILE.tgz with {prefix}_repository empty."
        )
    if re.search(r"version .*not found|no chart version found|improper constraint|manifest unknown|: not found$", said, re.IGNORECASE):
        return f"there is no version {version} of the chart {ref} in {where} ({said}). Choose another {prefix}_version."
    return f"there is no chart {ref} ({said}). {prefix} is a name in {prefix}_repository, a folder, a .tgz file or an oci:// URL."
