# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the variables that shape the Deployment and its Services, before anything changes. PRIVATE to the collection.

Each check returns sentences that name the variable, what came in, what is allowed and what to do. The options are those of _serving.
"""

from __future__ import annotations

import re

from ansible_collections.mlserving.triton.plugins.module_utils import _autoscaling, _front, _model_cache, _model_set, _serving

MODES = ("none", "poll", "explicit")
ROLLOUTS = ("surge", "in_place")
APIS = ("health", "metadata", "inference", "shared-memory", "model-config", "model-repository", "statistics", "trace", "logging")
PORTS = ("http", "grpc", "metrics")
#: Labels that are not for users: objects and pods are found by them.
OWN_LABELS = ("app", "release", "chart", "heritage", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/component")
#: Least and greatest value, and whether it may be empty.
NUMBERS = {
    "poll_seconds": (1, 86400),
    "load_threads": (0, 1024),
    "log_verbose": (0, 9),
    "cache_bytes": (0, 2**40),
    "exit_timeout": (1, 3600),
    "startup_timeout": (1, 86400),
    "min_ready_seconds": (0, 3600),
    "grpc_max_connection_age": (0, 86400),
    "grpc_max_connection_age_grace": (0, 3600),
}
CHOICES = {
    "model_control_mode": MODES,
    "rollout": ROLLOUTS,
    "rate_limit": ("", "off", "execution_count"),
    "service_external_traffic_policy": ("", "Cluster", "Local"),
    "service_session_affinity": ("None", "ClientIP"),
}
#: Of a Kubernetes field, what it must be and an example of it.
LISTS = {
    "tolerations": "[{key: nvidia.com/gpu, operator: Exists}]",
    "topology_spread_constraints": "[{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {...}}]",
    "volumes": "[{name: data, emptyDir: {}}]",
    "volume_mounts": "[{name: data, mountPath: /data}]",
    "env_from": "[{configMapRef: {name: settings}}]",
    "init_containers": "[{name: first, image: IMAGE}]",
    "sidecars": "[{name: beside, image: IMAGE}]",
}
AFFINITIES = ("nodeAffinity", "podAffinity", "podAntiAffinity")
TOLERATION = {"key", "operator", "value", "effect", "tolerationSeconds"}
EFFECTS = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
VOLUME_KINDS = ("persistentVolumeClaim", "nfs", "hostPath", "csi", "emptyDir", "configMap", "image")


def problems(options: dict) -> list[str]:
    """Return what is wrong, a sentence each; empty if all is well."""
    found = [*_numbers(options), *_choices(options), *_shapes(options)]
    if found:
        return found
    checks = (_server, _drain, _models, _services, _amounts, _front.problems, _model_cache.problems, _autoscaling.problems)
    return [problem for check in checks for problem in check(options)]


def _numbers(options: dict) -> list[str]:
    found = []
    for name, (least, most) in NUMBERS.items():
        value = options[name]
        if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,13}", str(value)) or not least <= int(value) <= most:
            found.append(f"triton_{name} is {value!r}; allowed is a whole number from {least} to {most}.")
    drain = options["drain_seconds"]
    if drain not in ("", None) and (isinstance(drain, bool) or not re.fullmatch(r"[0-9]{1,4}", str(drain))):
        found.append(f"triton_drain_seconds is {drain!r}; allowed is a whole number from 0 to 9999, or nothing, which computes it.")
    return found


def _choices(options: dict) -> list[str]:
    found = [
        f"triton_{name} is {options[name]!r}; allowed is one of {', '.join(repr(choice) if not choice else choice for choice in allowed)}."
        for name, allowed in CHOICES.items()
        if options[name] not in allowed
    ]
    for name, allowed in (("restricted_apis", APIS), ("service_ports", PORTS)):
        wrong = [str(entry) for entry in options[name] if entry not in allowed]
        if wrong:
            found.append(f"triton_{name} has {', '.join(wrong)}; allowed are {', '.join(allowed)}.")
    if not options["service_ports"]:
        found.append(f"triton_service_ports is empty; give at least one of {', '.join(PORTS)}.")
    return found


def _shapes(options: dict) -> list[str]:
    found = []
    for name, example in LISTS.items():
        if not isinstance(options[name], list) or not all(isinstance(entry, dict) for entry in options[name]):
            found.append(f"triton_{name} is {options[name]!r}; it must be a list of mappings as Kubernetes has it, such as {example}.")
    for name in ("init_containers", "sidecars", "volumes", "volume_mounts"):
        if isinstance(options[name], list) and any(isinstance(entry, dict) and not entry.get("name") for entry in options[name]):
            found.append(f"triton_{name} has an entry without a name; Kubernetes wants one in each, such as {LISTS[name]}.")
    for entry in options["tolerations"] if isinstance(options["tolerations"], list) else []:
        unknown = sorted(set(entry) - TOLERATION) if isinstance(entry, dict) else []
        if unknown:
            found.append(f"triton_tolerations has the field {', '.join(unknown)}; a toleration has {', '.join(sorted(TOLERATION))}.")
        elif isinstance(entry, dict) and entry.get("effect", "") not in EFFECTS:
            found.append(f"triton_tolerations has the effect {entry['effect']!r}; allowed is one of {', '.join(EFFECTS[1:])}.")
    wrong = sorted(set(options["affinity"]) - set(AFFINITIES)) if isinstance(options["affinity"], dict) else ["no mapping"]
    if wrong:
        found.append(f"triton_affinity has {', '.join(wrong)}; it is a mapping with {', '.join(AFFINITIES)} as Kubernetes has them.")
    for name in ("server_args", "load_models", "image_pull_secrets", "more_model_repositories"):
        if not isinstance(options[name], list) or not all(isinstance(entry, (str, int, float)) for entry in options[name]):
            found.append(f"triton_{name} is {options[name]!r}; it must be a list of texts.")
    return found


def _server(options: dict) -> list[str]:
    found = []
    owners = {flag: name for name, flags in _serving.FLAGS.items() for flag in flags}
    for arg in options["server_args"]:
        flag = str(arg).split("=", 1)[0].split(" ", 1)[0]
        if flag in owners:
            found.append(f"triton_server_args has {arg}, which {owners[flag]} sets. Set that variable in its place.")
        elif flag in _serving.FIXED_FLAGS:
            found.append(f"triton_server_args has {arg}, but the probes and Services know the ports 8000, 8001 and 8002. Leave it out.")
        elif not flag.startswith("-"):
            found.append(
                f"triton_server_args has {arg!r}, which is no flag of tritonserver. Write each as one text, such as --buffer-manager-thread-count=4."
            )
    mode = options["model_control_mode"]
    if options["load_models"] and mode != "explicit":
        found.append(f"triton_load_models is given, but triton_model_control_mode is {mode}. Set it to explicit, or leave triton_load_models out.")
    found += [f"triton_load_models {problem}." for problem in _model_set.problems([str(name) for name in options["load_models"]])]
    if "health" in options["restricted_apis"]:
        found.append("triton_restricted_apis has health, which the kubelet's probes need without a key. Leave it out.")
    if "inference" in options["restricted_apis"] and options["startup_inference"]:
        found.append("triton_restricted_apis has inference, but the start-up probe sends one without a key. Set triton_startup_inference to false.")
    return found


def _drain(options: dict) -> list[str]:
    least, drain = _serving.least_drain(options), _serving.drain(options)
    if int(options["grpc_max_connection_age"]) and not options["front"] and drain < least:
        return [
            f"triton_drain_seconds is {drain}, but with triton_grpc_max_connection_age at {options['grpc_max_connection_age']} a channel that is kept open "
            f"is told to go elsewhere after up to {least - _serving.PROPAGATION} s: {least} is the least with which no request is lost. "
            "Leave triton_drain_seconds empty, or set a shorter age."
        ]
    return []


def _models(options: dict) -> list[str]:
    found, volume = [], options["model_volume"]
    if volume:
        kinds = [kind for kind in volume if kind in VOLUME_KINDS] if isinstance(volume, dict) else []
        if len(kinds) != 1 or len(volume) != 1:
            found.append(
                f"triton_model_volume is {volume!r}; it must be one volume source as Kubernetes has it, one of {', '.join(VOLUME_KINDS)}, "
                "such as {persistentVolumeClaim: {claimName: models}}."
            )
        if options["model_repository_given"]:
            found.append(
                f"triton_model_volume is given and the model repository too ({options['model_repository']}): give one of the two. "
                "Further repositories go into triton_more_model_repositories."
            )
    elif options["model_volume_path"]:
        found.append("triton_model_volume_path is given without triton_model_volume. Give both, or neither.")
    return found


def _services(options: dict) -> list[str]:
    found, kind = [], options["service_type"]
    own = [name for name in options["labels"] if name in OWN_LABELS]
    if own:
        found.append(f"triton_labels has {', '.join(own)}, by which the release's objects are found. Choose other names.")
    outside = kind in ("LoadBalancer", "NodePort")
    if options["service_source_ranges"] and kind != "LoadBalancer":
        found.append(f"triton_service_source_ranges works with the type LoadBalancer only; triton_service_type is {kind}.")
    if options["service_external_traffic_policy"] and not outside:
        found.append(f"triton_service_external_traffic_policy works with LoadBalancer and NodePort only; triton_service_type is {kind}.")
    nodes = options["service_node_ports"]
    if nodes and not outside:
        found.append(f"triton_service_node_ports works with LoadBalancer and NodePort only; triton_service_type is {kind}.")
    for name, port in nodes.items():
        if name not in options["service_ports"] or not re.fullmatch(r"[0-9]{1,5}", str(port)) or not 1 <= int(port) <= 65535:
            found.append(f"triton_service_node_ports has {name}: {port}; allowed are port numbers for {', '.join(options['service_ports'])}.")
    for variable, needed in (("ingress", ("host",)), ("gateway", ("parent",))):
        value = options[variable]
        if value and "http" not in options["service_ports"]:
            found.append(
                f"triton_{variable} leads to the Service's port http, which triton_service_ports ({', '.join(options['service_ports'])}) leaves out."
            )
        if value and any(not value.get(field) for field in needed):
            found.append(f"triton_{variable} is {value!r}; it needs {', '.join(needed)}.")
    return found


def _amounts(options: dict) -> list[str]:
    found, given = [], options["resources"]
    unknown = sorted(set(given) - {"requests", "limits"})
    if unknown:
        found.append(f"triton_resources has {', '.join(unknown)}; allowed are requests and limits.")
    if options["gpu_resource"] in (given.get("limits") or {}) or options["gpu_resource"] in (given.get("requests") or {}):
        found.append(f"triton_resources has {options['gpu_resource']}, which triton_gpus sets. Leave it out there.")
    for name in ("shm_size", "ephemeral_storage"):
        try:
            _serving.quantity(options[name] or 0)
        except ValueError:
            found.append(f"triton_{name} is {options[name]!r}; allowed is an amount of bytes as Kubernetes has it, such as 2Gi.")
    try:
        _serving.quantity((given.get("limits") or {}).get("memory") or 0)
    except ValueError:
        found.append(f"triton_resources has the limit of memory {given['limits']['memory']!r}; allowed is an amount of bytes, such as 8Gi.")
    return found
