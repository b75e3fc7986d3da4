# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Kubernetes cluster a module acts on, and the connection to it.

PRIVATE to the collection. A cluster is always named: by a module option or by the environment. The in-cluster service
account is never used (a job pod of an automation controller runs in some other cluster), and an option and an
environment variable that name different API servers are an error.
"""

from __future__ import annotations

import dataclasses
import os
import traceback

from ansible.module_utils.basic import missing_required_lib

try:
    import kubernetes
    import kubernetes.client
    import kubernetes.config
    import urllib3
    import yaml

    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

#: The same names as kubernetes.core, so that one module_defaults mapping serves both collections.
ARGUMENT_SPEC = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
    "host": {"type": "str"},
    "api_key": {"type": "str", "no_log": True},
    "validate_certs": {"type": "bool", "aliases": ["verify_ssl"]},
    "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"]},
}
ENVIRONMENT = {
    "kubeconfig": "K8S_AUTH_KUBECONFIG",
    "context": "K8S_AUTH_CONTEXT",
    "host": "K8S_AUTH_HOST",
    "api_key": "K8S_AUTH_API_KEY",
    "validate_certs": "K8S_AUTH_VERIFY_SSL",
    "ca_cert": "K8S_AUTH_SSL_CA_CERT",
}
#: Seconds for connecting and for reading one answer of the API server.
REQUEST_TIMEOUT = (5, 30)
HOW_TO_NAME = (
    "Name one: `make lab` starts one on this machine, or pass -e triton_kubeconfig=FILE (with -e triton_context=NAME), "
    "set them for the host in your inventory, or set K8S_AUTH_KUBECONFIG or KUBECONFIG."
)


class ClusterError(Exception):
    """The cluster is not named, named twice, or does not answer. The text says what to do."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A named cluster. ``source`` says in words where the name came from."""

    source: str
    kubeconfig: str | None = None
    context: str | None = None
    host: str | None = None
    api_key: str | None = dataclasses.field(default=None, repr=False)
    validate_certs: bool | None = None
    ca_cert: str | None = None
    server: str = ""

    def public(self) -> dict:
        """What may be shown and handed to the next module: everything but the key."""
        shown = dataclasses.asdict(self)
        del shown["api_key"]
        return shown


def resolve(params: dict, environ: dict, origin: str = "the module's options") -> Target:
    """Return the one cluster that options and environment name.

    :param params: module parameters with the keys of ARGUMENT_SPEC
    :param environ: environment variables
    :param origin: in words, where the options' values come from
    :raises ClusterError: none named, or two different ones
    """
    given = _named({key: params.get(key) for key in ARGUMENT_SPEC}, origin)
    surroundings = _from_environment(_with_context(environ, given))
    if given and not (given.kubeconfig or given.host):
        # Only a context: it selects within the kubeconfig that the environment names, or the user's own.
        fallback = surroundings.kubeconfig if surroundings and surroundings.kubeconfig else "~/.kube/config"
        given = _with_server(dataclasses.replace(given, kubeconfig=os.path.expanduser(fallback)))
        if not (surroundings and surroundings.host):
            return given
    if given and surroundings and given.server != surroundings.server:
        raise ClusterError(
            f"two clusters are named: {given.source} names {given.server}, {surroundings.source} names {surroundings.server}. "
            f"Nothing was changed. Unset the environment variable, or remove the other setting, so that one is left."
        )
    target = given or surroundings
    if target is None:
        raise ClusterError(f"no cluster is named. {HOW_TO_NAME}")
    return target


def _with_context(environ: dict, given: Target | None) -> dict:
    """Return the environment with the given context, if it names the same kubeconfig and no context: that file's current one then says nothing."""
    kubeconfig = environ.get(ENVIRONMENT["kubeconfig"]) or environ.get("KUBECONFIG")
    if not given or given.host or given.kubeconfig not in (None, kubeconfig) or environ.get(ENVIRONMENT["context"]):
        return environ
    return {**environ, ENVIRONMENT["context"]: given.context}


def _named(values: dict, source: str) -> Target | None:
    if not any(values.get(key) for key in ("kubeconfig", "context", "host")):
        return None
    target = Target(source=source, **{key: value if value != "" else None for key, value in values.items()})
    if target.host or target.kubeconfig:
        return _with_server(target)
    return target


def _from_environment(environ: dict) -> Target | None:
    values = {key: environ.get(name) or None for key, name in ENVIRONMENT.items()}
    names = [ENVIRONMENT[key] for key in ("kubeconfig", "host") if values[key]]
    if not names and environ.get("KUBECONFIG"):
        values["kubeconfig"], names = environ["KUBECONFIG"], ["KUBECONFIG"]
    if not names:
        return None
    if values["validate_certs"] is not None:
        values["validate_certs"] = values["validate_certs"].lower() not in ("false", "no", "0", "off")
    return _named(values, f"the environment ({', '.join(names)})")


def _with_server(target: Target) -> Target:
    if target.host:
        return dataclasses.replace(target, server=target.host.rstrip("/"))
    context, server = read_kubeconfig(target.kubeconfig, target.context, target.source)
    return dataclasses.replace(target, context=context, server=server)


def read_kubeconfig(paths: str, context: str | None, source: str) -> tuple[str, str]:
    """Return (context, API server URL) of a kubeconfig; ``paths`` may be a list joined by the path separator.

    :raises ClusterError: no such file, not a kubeconfig, or no such context
    """
    clusters, contexts, current = {}, {}, None
    found = [path for path in paths.split(os.pathsep) if path and os.path.exists(os.path.expanduser(path))]
    if not found:
        raise ClusterError(f"the kubeconfig {paths}, named by {source}, does not exist. {HOW_TO_NAME}")
    for path in found:
        try:
            with open(os.path.expanduser(path), encoding="utf-8") as stream:
                content = yaml.safe_load(stream)
            if not content.keys() & {"clusters", "contexts", "kind"}:
                raise KeyError("clusters")
            # The first entry of a name counts, within a file and across files, as in the client library.
            clusters = {entry["name"]: entry["cluster"] for entry in reversed(content.get("clusters") or [])} | clusters
            contexts = {entry["name"]: entry["context"] for entry in reversed(content.get("contexts") or [])} | contexts
            current = current or content.get("current-context")
        except (yaml.YAMLError, AttributeError, KeyError, TypeError, UnicodeDecodeError):
            # The parser's own text may quote the file, keys included.
            raise ClusterError(f"{path}, named by {source}, is not a kubeconfig.") from None
        except OSError as error:
            raise ClusterError(f"the kubeconfig {path}, named by {source}, cannot be read: {error.strerror}.") from None
    name = context or current
    if name not in contexts:
        allowed = ", ".join(sorted(contexts)) or "none"
        lacking = f"no context {name!r}" if name else "no current context, and none was named"
        raise ClusterError(f"the kubeconfig {paths}, named by {source}, has {lacking}. It has: {allowed}.")
    cluster = clusters.get((contexts[name] or {}).get("cluster")) or {}
    if not cluster.get("server"):
        raise ClusterError(f"the context {name!r} of {paths}, named by {source}, names no API server.")
    return name, cluster["server"].rstrip("/")


def connect(target: Target) -> "kubernetes.client.ApiClient":
    """Return an API client for the cluster; nothing is sent yet.

    :raises ClusterError: the kubeconfig cannot be used
    """
    if target.host:
        configuration = kubernetes.client.Configuration(host=target.host)
        if target.api_key:
            configuration.api_key = {"authorization": f"Bearer {target.api_key}"}
    else:
        configuration = kubernetes.client.Configuration()
        try:
            kubernetes.config.load_kube_config(target.kubeconfig, target.context, client_configuration=configuration, persist_config=False)
        except (kubernetes.config.ConfigException, ValueError):
            # ValueError: data that is not base64.
            raise ClusterError(f"the context {target.context!r} of {target.kubeconfig}, named by {target.source}, cannot be used.") from None
    if target.validate_certs is not None:
        configuration.verify_ssl = target.validate_certs
    if target.ca_cert:
        configuration.ssl_ca_cert = target.ca_cert
    # A list of a kind whose CRD has just been made is put off with 429 and the seconds until it may be asked for again.
    configuration.retries = urllib3.Retry(8, connect=1, read=1)
    return kubernetes.client.ApiClient(configuration)


def version(api: "kubernetes.client.ApiClient", target: Target) -> str:
    """Return the API server's version, such as v1.35.4.

    :raises ClusterError: it does not answer
    """
    from urllib3.exceptions import HTTPError

    try:
        return kubernetes.client.VersionApi(api).get_code(_request_timeout=REQUEST_TIMEOUT).git_version
    except kubernetes.client.ApiException as error:
        raise ClusterError(
            f"the cluster {target.server}, named by {target.source}, refused the request: {error.status} {error.reason}. "
            "Check the credentials in the kubeconfig."
        ) from None
    except HTTPError as error:
        reason = getattr(error, "reason", None) or error
        raise ClusterError(
            f"the cluster {target.server}, named by {target.source}, does not answer ({type(reason).__name__}). "
            "Check that it runs and that this machine reaches it; for the lab: make lab."
        ) from None


def from_module(module, origin: str = "the module's options") -> tuple["kubernetes.client.ApiClient", Target]:
    """Return (API client, target) for a module that has ARGUMENT_SPEC; ends the module with a message if there is none."""
    if IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("kubernetes"), exception=IMPORT_ERROR)
    try:
        target = resolve(module.params, dict(os.environ), origin)
        return connect(target), target
    except ClusterError as error:
        module.fail_json(msg=str(error))
