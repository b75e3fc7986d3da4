# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _credential_source, _front, _model_set, _pod_security, _serving, _serving_checks
from ansible_collections.mlserving.triton.tests.unit.plugins.serving_options import options

LABELS = {"app": "triton-inference-server", "release": "example"}
CREDENTIALS = _credential_source.pod("static", "example-aws-1", ("AWS_ACCESS_KEY_ID",))


def rendered(**changed):
    return _serving.deployment(options(**changed), CREDENTIALS, LABELS)


def spec(shaped):
    return {**shaped["pod"], "containers": [{"name": "triton", **shaped["container"]}, *shaped["sidecars"]]}


def test_the_defaults_are_the_public_charts_arguments_and_times():
    shaped = rendered()
    args = ["tritonserver", "--model-store=s3://models/demo", "--model-control-mode=poll", "--repository-poll-secs=5", "--exit-timeout-secs=30"]
    assert shaped["container"]["args"] == args
    assert shaped["container"]["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}} and shaped["pod"]["terminationGracePeriodSeconds"] == 40
    assert "resources" not in shaped["container"] and "tolerations" not in shaped["pod"]
    assert shaped["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize(
    ("changed", "drain", "server", "grace"),
    [
        ({}, 5, 5, 40),
        ({"drain_seconds": 0}, 0, 0, 35),
        ({"drain_seconds": "20", "exit_timeout": 10}, 20, 20, 35),
        ({"grpc_max_connection_age": 10}, 21, 21, 56),
        ({"front": True}, 10, 17, 52),
        ({"front": True, "grpc_max_connection_age": 60}, 10, 17, 52),
    ],
)
def test_the_times_of_the_way_out_follow_from_each_other(changed, drain, server, grace):
    given = options(**changed)
    assert (_serving.drain(given), _serving.server_drain(given), _serving.grace(given)) == (drain, server, grace)


def test_every_option_has_its_flag():
    args = rendered(
        model_control_mode="explicit",
        load_models=["a", "b"],
        more_model_repositories=["/more"],
        strict_readiness=False,
        exit_on_error=False,
        load_threads=2,
        log_verbose=1,
        rate_limit="off",
        cache_bytes=1024,
        metrics_config={"summary_latencies": True},
        grpc_max_connection_age=10,
        grpc_tls_secret="tls",
        restricted_apis=["model-repository", "trace"],
        server_args=["--log-info=true"],
    )["container"]["args"]
    assert args[:5] == [*_model_set.command([]), "tritonserver"]
    args = args[4:]
    assert args[2:] == [
        "--model-store=/more",
        "--model-control-mode=explicit",
        "--exit-timeout-secs=30",
        "--strict-readiness=false",
        "--exit-on-error=false",
        "--model-load-thread-count=2",
        "--log-verbose=1",
        "--rate-limit=off",
        "--cache-config=local,size=1024",
        "--metrics-config=summary_latencies=true",
        "--grpc-max-connection-age=10000",
        "--grpc-max-connection-age-grace=5000",
        "--grpc-use-ssl=1",
        "--grpc-server-cert=/etc/triton-tls/tls.crt",
        "--grpc-server-key=/etc/triton-tls/tls.key",
        "--http-restricted-api=model-repository,trace:triton-key=$(TRITON_RESTRICTED_KEY)",
        "--grpc-restricted-protocol=model-repository,trace:triton-key=$(TRITON_RESTRICTED_KEY)",
        "--log-info=true",
    ]
    owned = {flag for flags in _serving.FLAGS.values() for flag in flags}
    assert {arg.split("=")[0] for arg in args[1:-1]} <= owned


def test_memory_of_the_shared_segment_counts():
    found = _serving.resources(options(gpus="2", shm_size="1Gi", ephemeral_storage="20Gi", resources={"limits": {"memory": "8Gi"}}))
    assert found == {"limits": {"memory": str(9 * 2**30), "nvidia.com/gpu": 2}, "requests": {"ephemeral-storage": "20Gi"}}


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"gpus": 1}, {"tolerations": [_serving.GPU_TAINT]}),
        ({"gpus": 1, "tolerations": [{"operator": "Exists"}]}, {"tolerations": [{"operator": "Exists"}]}),
        ({"image_pull_secrets": ["a"]}, {"imagePullSecrets": [{"name": "a"}]}),
        ({"priority_class": "high", "runtime_class": "nvidia"}, {"priorityClassName": "high", "runtimeClassName": "nvidia"}),
        ({"service_account_token": True}, {"automountServiceAccountToken": True}),
    ],
)
def test_options_of_the_pod(changed, fields):
    pod = rendered(**changed)["pod"]
    assert {name: pod[name] for name in fields} == fields


def test_the_start_up_probe_sends_what_is_mounted():
    shaped = rendered(probe_config="probe-1")
    assert shaped["container"]["startupProbe"]["exec"]["command"][:2] == ["bash", "-c"]
    assert {"name": "probe", "mountPath": "/etc/triton-probe", "readOnly": True} in shaped["container"]["volumeMounts"]
    assert rendered()["container"]["startupProbe"]["httpGet"]["path"] == "/v2/health/ready"


@pytest.mark.parametrize("seconds", [1, 25, 600, 3601])
def test_a_server_has_its_time_to_start(seconds):
    probe = rendered(probe_config="probe-1", startup_timeout=seconds)["container"]["startupProbe"]
    assert seconds <= probe["failureThreshold"] * _serving.WAIT < seconds + 10 and probe["timeoutSeconds"] >= 2 * _serving.WAIT + seconds // 10
    assert rendered(startup_timeout=seconds)["container"]["startupProbe"]["failureThreshold"] == seconds


def test_the_services_ports_lead_to_the_front_if_there_is_one():
    ports = _serving.service(options(service_ports=["http", "metrics"], service_node_ports={"http": 30343}))["ports"]
    assert [(port["port"], port["targetPort"], port.get("nodePort")) for port in ports] == [(8000, "http", 30343), (8002, "metrics", None)]
    assert [port["targetPort"] for port in _serving.service(options(front=True, service_ports=["http", "grpc", "metrics"]))["ports"]] == [
        "front-http",
        "front-grpc",
        "metrics",
    ]


@pytest.mark.parametrize(
    "changed", [{}, {"front": True, "front_tls_secret": "tls", "front_auth": "keys"}, {"shm_size": "1Gi", "read_only_root": True}]
)
def test_a_restricted_namespace_takes_the_pods(changed):
    assert _pod_security.violations(spec(rendered(**changed))) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"volumes": [{"name": "h", "hostPath": {"path": "/x"}}]}, "volume h is hostPath"),
        ({"sidecars": [{"name": "s"}]}, "container s does not drop ALL capabilities"),
        ({"sidecars": [{"name": "s", "securityContext": {"privileged": True, "runAsUser": 0}}]}, "container s is privileged"),
        ({"init_containers": [{"name": "i", "ports": [{"hostPort": 80}]}]}, "container i uses host port 80"),
    ],
)
def test_what_a_restricted_namespace_refuses_is_named(changed, words):
    assert words in _pod_security.violations(spec(rendered(**changed)))


def test_the_defaults_have_no_problem():
    assert _serving_checks.problems(options()) == [] and _serving_checks.problems(options(front=True)) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"server_args": ["--log-verbose=3"]}, "triton_server_args has --log-verbose=3, which triton_log_verbose sets."),
        ({"server_args": ["--http-port=1"]}, "the probes and Services know the ports"),
        ({"server_args": ["verbose"]}, "is no flag of tritonserver"),
        ({"server_args": "--a=b"}, "must be a list of texts"),
        ({"grpc_max_connection_age": 10, "drain_seconds": 6}, "21 is the least with which no request is lost"),
        ({"drain_seconds": "soon"}, "triton_drain_seconds is 'soon'"),
        ({"exit_timeout": 0}, "triton_exit_timeout is 0; allowed is a whole number from 1 to 3600."),
        ({"model_control_mode": "watch"}, "allowed is one of none, poll, explicit"),
        ({"load_models": ["a"]}, "Set it to explicit"),
        ({"model_volume": {"nfs": {}}}, "give one of the two"),
        ({"model_volume": {"nfs": {}, "hostPath": {}}, "model_repository_given": False}, "must be one volume source"),
        ({"model_volume_path": "x"}, "without triton_model_volume"),
        ({"tolerations": [{"keys": "x"}]}, "has the field keys; a toleration has"),
        ({"tolerations": [{"effect": "Never"}]}, "has the effect 'Never'"),
        ({"tolerations": {"key": "x"}}, "must be a list of mappings"),
        ({"affinity": {"pods": 1}}, "triton_affinity has pods"),
        ({"volumes": [{"emptyDir": {}}]}, "an entry without a name"),
        ({"restricted_apis": ["health"]}, "which the kubelet's probes need"),
        ({"restricted_apis": ["inference"]}, "Set triton_startup_inference to false"),
        ({"restricted_apis": ["everything"]}, "triton_restricted_apis has everything"),
        ({"service_ports": []}, "give at least one"),
        ({"service_type": "ClusterIP", "service_source_ranges": ["10.0.0.0/8"]}, "works with the type LoadBalancer only"),
        ({"service_type": "ClusterIP", "service_external_traffic_policy": "Local"}, "LoadBalancer and NodePort only"),
        ({"service_node_ports": {"http": 99999}}, "allowed are port numbers"),
        ({"ingress": {"class_name": "nginx"}}, "it needs host"),
        ({"ingress": {"host": "triton.example.com"}, "service_ports": ["grpc"]}, "leads to the Service's port http"),
        ({"labels": {"app": "mine", "team": "vision"}}, "triton_labels has app, by which"),
        ({"gateway": {"hostnames": ["x"]}}, "it needs parent"),
        ({"resources": {"limit": {}}}, "allowed are requests and limits"),
        ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, "which triton_gpus sets"),
        ({"shm_size": "1 GB"}, "triton_shm_size is '1 GB'"),
        ({"front_rate": "10r/s"}, "but triton_front is false"),
        ({"front": True, "front_public": ["everything"]}, "triton_front_public has everything"),
        ({"front": True, "front_public": []}, "triton_front_public is empty"),
        ({"front": True, "front_keys": {"vision": 8}}, "a key of 8 characters for vision"),
        ({"front": True, "front_keys": {"a:b": 20}}, "the client 'a:b'"),
        ({"front": True, "front_keys": {"a": 20}, "front_keys_secret": "s"}, "Give one of the two"),
        ({"front": True, "front_rate": "fast"}, "triton_front_rate is 'fast'"),
        ({"front": True, "front_max_body": "big"}, "triton_front_max_body is 'big'"),
        ({"front": True, "front_workers": 0}, "triton_front_workers is 0"),
        ({"front": True, "grpc_tls_secret": "tls"}, "Give the Secret as triton_front_tls_secret"),
        ({"front": True, "front_public": ["trace"], "restricted_apis": ["trace"]}, "both have trace"),
    ],
)
def test_bad_input_is_named_with_what_to_do(changed, words):
    problems = _serving_checks.problems(options(**changed))
    assert any(words in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("path", "apis"),
    [
        ("/v2/models/m/infer", ["inference"]),
        ("/v2/models/m/versions/2/generate_stream", ["inference"]),
        ("/v2", ["metadata"]),
        ("/v2/models/m", ["metadata"]),
        ("/v2/models/m/stats", ["statistics"]),
        ("/v2/models/m/config", ["model-config"]),
        ("/v2/repository/index", ["model-repository"]),
        ("/v2/repository/models/m/load", ["model-repository"]),
        ("/v2/systemsharedmemory/region/a/register", ["shared-memory"]),
        ("/v2/logging", ["logging"]),
        ("/v2/models/m/trace/setting", ["trace"]),
        ("/metrics", []),
    ],
)
def test_each_path_belongs_to_its_api(path, apis):
    import re

    assert [api for api in _front.APIS if re.search(_front.public([api])["http"], path)] == apis


def test_keys_are_hashed_with_a_salt_and_always_alike():
    text = _front.hashed({"vision": "0123456789abcdef"}, "release")
    name, digest = text.strip().split(":{SSHA}")
    raw = base64.b64decode(digest)
    assert name == "vision" and raw[:20] == hashlib.sha1(b"0123456789abcdef" + raw[20:]).digest() and "0123456789" not in text
    assert text == _front.hashed({"vision": "0123456789abcdef"}, "release") != _front.hashed({"vision": "0123456789abcdef"}, "other")
