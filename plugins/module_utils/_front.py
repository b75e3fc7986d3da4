# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy that may stand before Triton in each pod. PRIVATE to the collection. The options are those of _serving."""

from __future__ import annotations

import base64
import hashlib
import re

from ansible_collections.mlserving.triton.plugins.module_utils import _pod_security

#: Seconds for which it tells clients that keep connections to come back elsewhere; measured: none was left after it.
DRAIN = 10
#: Seconds that it gives the requests that it still has, once it is told to end.
SHUTDOWN = 5
PORTS = {"http": 9000, "grpc": 9001}
CONFIG, TLS, KEYS = "/etc/triton-front", "/etc/triton-front-tls", "/etc/triton-front-keys"
LEAST_KEY = 16
_MODEL = "/v2/models/[^/]+(/versions/[0-9]+)?"
#: API -> (paths, gRPC methods), as regular expressions.
APIS = {
    "inference": (f"{_MODEL}/(infer|generate|generate_stream|ready)", "Model(Infer|StreamInfer|Ready)"),
    "metadata": (f"/v2|{_MODEL}|{_MODEL}/ready", "(Server|Model)Metadata|ModelReady"),
    "statistics": (f"/v2/models/stats|{_MODEL}/stats", "ModelStatistics"),
    "model-config": (f"{_MODEL}/config", "ModelConfig"),
    "model-repository": ("/v2/repository/.+", "Repository(Index|ModelLoad|ModelUnload)"),
    "shared-memory": ("/v2/(system|cuda)sharedmemory/.+", "(System|Cuda)SharedMemory(Status|Register|Unregister)"),
    "trace": (f"/v2/trace/setting|{_MODEL}/trace/setting", "TraceSetting"),
    "logging": ("/v2/logging", "LogSettings"),
}
HEALTH = "Server(Live|Ready)"


def public(apis: list[str]) -> dict[str, str]:
    """Return the regular expressions of what is public: ``http`` for paths, ``grpc`` and ``health`` for those of methods.

    ``shutdown``: the seconds of SHUTDOWN.
    """
    service = "^/inference.GRPCInferenceService"
    return {
        "http": f"^({'|'.join(APIS[api][0] for api in apis)})$",
        "grpc": f"{service}/({'|'.join(APIS[api][1] for api in apis)})$",
        "health": f"{service}/{HEALTH}$",
        "shutdown": str(SHUTDOWN),
    }


def container(options: dict) -> dict:
    """Return its container."""
    scheme = {"scheme": "HTTPS"} if options["front_tls_secret"] else {}
    leave = f"touch /tmp/leaving; sleep {options['front_drain']}; {_nginx()} -s quit; while [ -e /tmp/nginx.pid ]; do sleep 0.2; done"
    found = {
        "name": "front",
        "image": options["front_image"],
        # After a restart in its pod it is not on its way out.
        "command": ["sh", "-c", f"rm -f /tmp/leaving; exec {_nginx()}"],
        "ports": [{"name": f"front-{name}", "containerPort": number, "protocol": "TCP"} for name, number in PORTS.items()],
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", leave]}}},
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": "front-http", **scheme}, "periodSeconds": 2, "timeoutSeconds": 5},
        "livenessProbe": {"tcpSocket": {"port": "front-http"}, "timeoutSeconds": 5},
        "securityContext": _pod_security.CONTAINER | {"readOnlyRootFilesystem": True},
        "volumeMounts": [
            {"name": "front", "mountPath": CONFIG, "readOnly": True},
            {"name": "front-tmp", "mountPath": "/tmp"},
            *([{"name": "front-tls", "mountPath": TLS, "readOnly": True}] if options["front_tls_secret"] else []),
            *([{"name": "front-keys", "mountPath": KEYS, "readOnly": True}] if options["front_auth"] else []),
        ],
    }
    return found | ({"resources": options["front_resources"]} if options["front_resources"] else {})


def _nginx() -> str:
    return f"nginx -e /dev/stderr -c {CONFIG}/nginx.conf"


def volumes(options: dict) -> list[dict]:
    found = [{"name": "front", "configMap": {"name": options["front_config"]}}, {"name": "front-tmp", "emptyDir": {}}]
    if options["front_tls_secret"]:
        found.append({"name": "front-tls", "secret": {"secretName": options["front_tls_secret"]}})
    if options["front_auth"]:
        # The front reads it with each request: other keys are valid a minute after they are written, without a new pod.
        found.append({"name": "front-keys", "secret": {"secretName": options["front_auth"], "items": [{"key": "auth", "path": "auth"}]}})
    return found


def problems(options: dict) -> list[str]:
    """Return what is wrong with the options of the front, a sentence each."""
    if not options["front"]:
        return [
            f"triton_{name} is given, but triton_front is false. Set it to true, or leave triton_{name} out."
            for name in ("front_tls_secret", "front_keys", "front_keys_secret", "front_rate")
            if options[name]
        ]
    found = []
    unknown = [str(api) for api in options["front_public"] if api not in APIS]
    if unknown:
        found.append(f"triton_front_public has {', '.join(unknown)}; allowed are {', '.join(APIS)}.")
    if not options["front_public"]:
        found.append("triton_front_public is empty, which leaves nothing to serve. Give inference at least.")
    if options["front_keys"] and options["front_keys_secret"]:
        found.append("triton_front_keys and triton_front_keys_secret are given. Give one of the two.")
    for name, length in options["front_keys"].items():
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", str(name)):
            found.append(f"triton_front_keys has the client {name!r}; allowed are 1 to 64 letters, digits, '.', '_' and '-'.")
        if length < LEAST_KEY:
            found.append(
                f"triton_front_keys has a key of {length} characters for {name}; it takes {LEAST_KEY} at least. Make one: openssl rand -hex 24"
            )
    if not re.fullmatch(r"[0-9]+[kmgKMG]?", str(options["front_max_body"])):
        found.append(f"triton_front_max_body is {options['front_max_body']!r}; allowed is a size as nginx writes it, such as 64m, or 0 for any.")
    if options["front_rate"] and not re.fullmatch(r"[1-9][0-9]*r/[sm]", str(options["front_rate"])):
        found.append(f"triton_front_rate is {options['front_rate']!r}; allowed is a rate as nginx writes it, such as 100r/s or 600r/m.")
    for name in ("front_burst", "front_timeout", "front_workers"):
        if not re.fullmatch(r"[1-9][0-9]{0,5}", str(options[name])):
            found.append(f"triton_{name} is {options[name]!r}; allowed is a whole number from 1 upwards.")
    if options["grpc_tls_secret"]:
        found.append(
            "triton_front is true and triton_grpc_tls_secret is given: the front ends TLS for gRPC too. Give the Secret as triton_front_tls_secret."
        )
    if options["restricted_apis"]:
        both = sorted(set(options["restricted_apis"]) & set(options["front_public"]) - {"inference"})
        if both:
            found.append(f"triton_front_public and triton_restricted_apis both have {', '.join(both)}. Leave it out of one of the two.")
    return found


def hashed(keys: dict[str, str], salt: str) -> str:
    """Return the keys in the format of htpasswd, salted SHA-1: keys are long and random, so that a slow hash would only slow each request.

    :param salt: the same keys with the same salt give the same text
    """
    lines = []
    for name, key in sorted(keys.items()):
        own = hashlib.sha256(f"{salt}/{name}".encode()).digest()[:8]
        lines.append(f"{name}:{{SSHA}}{base64.b64encode(hashlib.sha1(str(key).encode() + own).digest() + own).decode()}")  # noqa: S324
    return "\n".join(lines) + "\n"
