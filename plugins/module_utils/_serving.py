# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role's variables come to in a Deployment: arguments, pod, times that depend on each other. PRIVATE to the collection.

The options are a dict: the role's variables without their triton_ prefix, as roles/triton/vars/main.yml collects them. What is empty is not set.
"""

from __future__ import annotations

import math

from ansible_collections.mlserving.triton.plugins.module_utils import _front, _model_cache, _model_set, _pod_security

#: Seconds until every node and load balancer knows that a pod is leaving.
PROPAGATION = 5
#: gRPC spreads the end of a connection by up to a tenth of its age.
JITTER = 1.1
#: Seconds between Triton's own end and the kubelet's.
MARGIN = 5
MODELS, TMP, SHM, TLS, PROBE = "/models", "/tmp", "/dev/shm", "/etc/triton-tls", "/etc/triton-probe"
GPU_TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
KEY_VARIABLE = "TRITON_RESTRICTED_KEY"
PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
#: Our option -> the flags that it sets, which triton_server_args must not repeat.
FLAGS = {
    "triton_model_repository": ("--model-repository", "--model-store"),
    "triton_model_control_mode": ("--model-control-mode",),
    "triton_poll_seconds": ("--repository-poll-secs",),
    "triton_load_models": ("--load-model",),
    "triton_strict_readiness": ("--strict-readiness",),
    "triton_exit_on_error": ("--exit-on-error",),
    "triton_load_threads": ("--model-load-thread-count",),
    "triton_log_verbose": ("--log-verbose",),
    "triton_rate_limit": ("--rate-limit",),
    "triton_cache_bytes": ("--cache-config", "--response-cache-byte-size"),
    "triton_metrics_config": ("--metrics-config",),
    "triton_exit_timeout": ("--exit-timeout-secs",),
    "triton_grpc_max_connection_age": ("--grpc-max-connection-age", "--grpc-max-connection-age-grace"),
    "triton_grpc_tls_secret": ("--grpc-use-ssl", "--grpc-server-cert", "--grpc-server-key"),
    "triton_restricted_apis": ("--http-restricted-api", "--grpc-restricted-protocol"),
}
#: The ports are the ones that probes and Services know.
FIXED_FLAGS = ("--http-port", "--grpc-port", "--metrics-port", "--allow-http", "--allow-grpc", "--allow-metrics", "--http-address", "--grpc-address")


def least_drain(options: dict) -> int:
    """Return the seconds for which a leaving pod has to go on answering so that nobody loses a request."""
    if options["front"]:
        return _front.DRAIN
    age = int(options["grpc_max_connection_age"])
    return PROPAGATION + (math.ceil(JITTER * age) + int(options["grpc_max_connection_age_grace"]) if age else 0)


def drain(options: dict) -> int:
    """Return the seconds of the pre-stop sleep: as given, else the least."""
    given = options["drain_seconds"]
    return least_drain(options) if given in ("", None) else int(given)


def server_drain(options: dict) -> int:
    """Return the seconds of the server's own pre-stop sleep: what stands before it ends before it does."""
    return drain(options) + (_front.SHUTDOWN + 2 if options["front"] else 0)


def grace(options: dict) -> int:
    """Return the pod's grace period: the drain, Triton's own time and a margin."""
    return server_drain(options) + int(options["exit_timeout"]) + MARGIN


def repositories(options: dict) -> list[str]:
    volume = options["model_volume"]
    first = f"{MODELS}/{options['model_volume_path']}".rstrip("/") if volume else options["model_repository"]
    first = _model_cache.REPOSITORY if options["model_cache"] else first
    return [first, *options["more_model_repositories"]]


def arguments(options: dict) -> list[str]:
    """Return the server's command, the program first."""
    mode = options["model_control_mode"]
    args = ["tritonserver", *(f"--model-store={url}" for url in repositories(options)), f"--model-control-mode={mode}"]
    if mode == "poll":
        args.append(f"--repository-poll-secs={options['poll_seconds']}")
    args.append(f"--exit-timeout-secs={options['exit_timeout']}")
    args += [f"--{flag}=false" for flag in ("strict-readiness", "exit-on-error") if not options[flag.replace("-", "_")]]
    if int(options["load_threads"]):
        args.append(f"--model-load-thread-count={options['load_threads']}")
    if int(options["log_verbose"]):
        args.append(f"--log-verbose={options['log_verbose']}")
    if options["rate_limit"]:
        args.append(f"--rate-limit={options['rate_limit']}")
    if int(options["cache_bytes"]):
        args.append(f"--cache-config=local,size={options['cache_bytes']}")
    args += [f"--metrics-config={name}={_word(value)}" for name, value in options["metrics_config"].items()]
    if int(options["grpc_max_connection_age"]):
        args.append(f"--grpc-max-connection-age={int(options['grpc_max_connection_age']) * 1000}")
        args.append(f"--grpc-max-connection-age-grace={int(options['grpc_max_connection_age_grace']) * 1000}")
    if options["grpc_tls_secret"]:
        args += ["--grpc-use-ssl=1", f"--grpc-server-cert={TLS}/tls.crt", f"--grpc-server-key={TLS}/tls.key"]
    if options["restricted_apis"]:
        # The kubelet puts the variable's value, from the Secret, in its place.
        apis, key = ",".join(options["restricted_apis"]), f"{options['restricted_key_name']}=$({KEY_VARIABLE})"
        args += [f"--http-restricted-api={apis}:{key}", f"--grpc-restricted-protocol={apis}:{key}"]
    args += [str(arg) for arg in options["server_args"]]
    args = _model_set.command(args) if mode == "explicit" else args
    return _model_cache.command(args) if options["model_cache"] else args


def _word(value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def resources(options: dict) -> dict:
    """Return the container's resources; memory that /dev/shm may take is added to the limit of memory, as it is counted there."""
    found = {kind: dict(options["resources"].get(kind) or {}) for kind in ("requests", "limits")}
    if int(options["gpus"]):
        found["limits"][options["gpu_resource"]] = int(options["gpus"])
    if options["ephemeral_storage"]:
        found["requests"].setdefault("ephemeral-storage", options["ephemeral_storage"])
    if options["shm_size"] and found["limits"].get("memory"):
        total = quantity(found["limits"]["memory"]) + quantity(options["shm_size"])
        found["limits"]["memory"] = str(total)
    return filled(found)


def quantity(text: object) -> int:
    """Return a Kubernetes quantity of bytes, such as 2Gi, as a number.

    :raises ValueError: it is none
    """
    units = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    digits = str(text).rstrip("kKMGTi")
    unit = str(text)[len(digits) :]
    if unit not in units:
        raise ValueError(f"{text!r} is no quantity of bytes, such as 2Gi")
    return int(float(digits) * units[unit])


def volumes(options: dict) -> tuple[list[dict], list[dict]]:
    """Return (the pod's volumes, the server's mounts)."""
    found, mounts = [], []

    def add(name: str, path: str, source: dict, **more) -> None:
        found.append({"name": name, **source})
        mounts.append({"name": name, "mountPath": path, **more})

    if options["read_only_root"]:
        # Triton copies the models of a store there.
        add("tmp", TMP, {"emptyDir": {"sizeLimit": options["ephemeral_storage"]} if options["ephemeral_storage"] else {}})
    if options["shm_size"]:
        add("shm", SHM, {"emptyDir": {"medium": "Memory", "sizeLimit": options["shm_size"]}})
    if options["model_volume"]:
        add("models", MODELS, options["model_volume"], readOnly=True)
    if options["model_cache"]:
        found, mounts = [each + more for each, more in zip((found, mounts), _model_cache.volumes(options))]
    if options["grpc_tls_secret"]:
        add("tls", TLS, {"secret": {"secretName": options["grpc_tls_secret"]}}, readOnly=True)
    if options["model_control_mode"] == "explicit":
        add(_model_set.VOLUME, _model_set.PATH, {"configMap": {"name": options["model_set_config"]}}, readOnly=True)
    if options["probe_config"]:
        add("probe", PROBE, {"configMap": {"name": options["probe_config"], "defaultMode": 0o444}}, readOnly=True)
    return found + options["volumes"], mounts + options["volume_mounts"]


#: Seconds in which a server that is busy answers whether it is ready, or alive; Kubernetes' own 1 s would stop one that only has much to do.
PROBE_TIMEOUT = 5
#: Seconds for which the start-up probe waits for the server's port before it fails.
WAIT = 10
#: Says that a wrong answer was told.
TOLD = f"{SHM}/.mlserving-told"
#: Sends each request that is mounted. It needs bash, coreutils and cmp, which Triton's images have. It waits for the port by itself, and after a wrong answer
#: that was told before: Kubernetes tells of some 25 failures of a pod, then of one in five minutes, and a process is started for each. A request that the
#: server does not take (4xx) is of a model that has changed since; the verification tells of that, and a pod that restarts at night starts. The bytes that an
#: answer must end with are there only for models that cannot change under a pod.
PROBE_SCRIPT = (
    f'bad() {{ echo "the inference of $1 was answered with $2"; [ ! -e {TOLD} ] || sleep {WAIT}; touch {TOLD}; exit 1; }}; '
    f"SECONDS=0; until (exec 3<>/dev/tcp/127.0.0.1/8000) 2>/dev/null || [ $SECONDS -ge {WAIT} ]; do sleep 0.2; done; "
    f'for request in {PROBE}/*; do answer="{PROBE}/.${{request##*/}}"; '
    'exec 3<>/dev/tcp/127.0.0.1/8000 || exit 1; cat "$request" >&3; status=; read -r _ status _ <&3; '
    'case "$status" in 200) if [ -f "$answer" ] && ! tail -c "$(wc -c <"$answer")" <&3 | cmp -s - "$answer"; then '
    'bad "${request##*/}" "other values than its golden case expects"; fi;; '
    '4??) ;; *) said=; while read -r line || [ "$line" ]; do said=$line; done <&3; '
    'bad "${request##*/}" "status $status: $said";; esac; exec 3>&-; done'
)


def probes(options: dict) -> dict:
    """Return the server's probes. Triton opens its ports only when every model is loaded, which the first one waits for."""
    ready, timeout = {"httpGet": {"path": "/v2/health/ready", "port": "http"}}, int(options["startup_timeout"])
    first = {**ready, "failureThreshold": timeout}
    if options["probe_config"]:
        # Within one probe it waits for the port, all golden cases are answered, and it waits after a wrong answer.
        first = {
            "exec": {"command": ["bash", "-c", PROBE_SCRIPT]},
            "timeoutSeconds": 2 * WAIT + max(10, timeout // 10),
            "failureThreshold": -(-timeout // WAIT),
        }
    return {
        "startupProbe": {**first, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"path": "/v2/health/live", "port": "http"}, "timeoutSeconds": PROBE_TIMEOUT},
        "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": PROBE_TIMEOUT},
    }


def security(options: dict) -> dict:
    """Return the security context of a container that a namespace with the level "restricted" accepts."""
    return _pod_security.CONTAINER | ({"readOnlyRootFilesystem": True} if options["read_only_root"] else {})


def container(options: dict, credentials: dict) -> dict:
    """Return the server's container without its name and image; credentials as the filter credential_pod returns them."""
    _volumes, mounts = volumes(options)
    env = list(options["env"])
    if options["restricted_apis"]:
        env.append({"name": KEY_VARIABLE, "valueFrom": {"secretKeyRef": {"name": options["restricted_key_secret"], "key": "key"}}})
    ports = [{"name": name, "containerPort": number, "protocol": "TCP"} for name, number in PORTS.items()]
    return filled(
        {
            "args": arguments(options),
            "env": env + credentials["container"].get("env", []),
            "envFrom": options["env_from"] + credentials["container"].get("envFrom", []),
            "volumeMounts": mounts + credentials["container"].get("volumeMounts", []),
            "resources": resources(options),
            # Until every node and load balancer knows that the pod is leaving, requests still come, and are answered.
            "lifecycle": {"preStop": {"sleep": {"seconds": server_drain(options)}}} if server_drain(options) else {},
            "ports": ports,
            "securityContext": security(options),
            **probes(options),
        }
    )


def pod(options: dict, credentials: dict, labels: dict) -> dict:
    """Return the fields of the pod's spec besides its server.

    :param labels: that the release's pods are found by
    """
    tolerations = list(options["tolerations"]) or ([GPU_TAINT] if int(options["gpus"]) else [])
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": labels}}
    found, _mounts = volumes(options)
    fetching = [_model_cache.container(options, credentials, security(options))] if options["model_cache"] else []
    return {
        **credentials["spec"],
        "terminationGracePeriodSeconds": grace(options),
        "automountServiceAccountToken": bool(options["service_account_token"]),
        "securityContext": _pod_security.POD,
        **filled(
            {
                "volumes": found + credentials["spec"].get("volumes", []) + (_front.volumes(options) if options["front"] else []),
                "imagePullSecrets": [{"name": name} for name in options["image_pull_secrets"]],
                "initContainers": options["init_containers"] + fetching,
                "nodeSelector": options["node_selector"],
                "tolerations": tolerations,
                "affinity": options["affinity"],
                "topologySpreadConstraints": options["topology_spread_constraints"] or [spread],
                "priorityClassName": options["priority_class"],
                "runtimeClassName": options["runtime_class"],
            }
        ),
    }


def strategy(options: dict) -> dict:
    """Return how pods are replaced: a new one first, or an old one first where there is no room for one more."""
    surge = options["rollout"] == "surge"
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1 if surge else 0, "maxUnavailable": 0 if surge else 1}}


def deployment(options: dict, credentials: dict, labels: dict) -> dict:
    """Return what the template of the Deployment prints: ``pod``, ``container``, ``strategy``, ``min_ready``, ``annotations`` and ``labels``."""
    return {
        "pod": pod(options, credentials, labels),
        "container": container(options, credentials),
        "sidecars": ([_front.container({**options, "front_drain": drain(options)})] if options["front"] else []) + options["sidecars"],
        "strategy": strategy(options),
        "annotations": {**credentials["annotations"], **options["pod_annotations"]},
        "labels": {**options["pod_labels"], **labels},
    }


def service(options: dict) -> dict:
    """Return the fields of the Service's spec without its selector."""
    nodes = options["service_node_ports"]
    ports = [
        {
            "name": f"{name}-inference-server",
            "port": number,
            "targetPort": f"front-{name}" if options["front"] and name in _front.PORTS else name,
            "protocol": "TCP",
        }
        | ({"nodePort": int(nodes[name])} if name in nodes else {})
        for name, number in PORTS.items()
        if name in options["service_ports"]
    ]
    return filled(
        {
            "type": options["service_type"],
            "ports": ports,
            "loadBalancerSourceRanges": options["service_source_ranges"],
            "externalTrafficPolicy": options["service_external_traffic_policy"],
            "sessionAffinity": options["service_session_affinity"],
        }
    )


def filled(fields: dict) -> dict:
    """Return the fields that are set; False and 0 are, empty texts, lists and mappings are not."""
    return {name: value for name, value in fields.items() if value not in (None, "", [], {}, ())}
