# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _helm

CHART = {"ref": "kube-prometheus-stack", "repository": "https://example.com/charts", "version": "88.5.3", "prefix": "chart"}


def helm(code=0, out="", errors=""):
    return _helm.Helm(lambda command, **options: (code, out, errors), "helm")


def test_the_version_is_read():
    assert helm(out="v3.20.1").version() == "3.20.1"
    # As one that was built from its module says.
    assert helm(out="v3.20").version() == "3.20"
    with pytest.raises(_helm.HelmError, match="tells no version"):
        helm(out="usage: helm").version()


@pytest.mark.parametrize(
    ("version", "kubernetes_core", "why"),
    [
        ("3.7.2", "6.2.0", "too old"),
        ("3.8.0", "6.2.0", ""),
        ("3.20", "", ""),
        ("4.1.0", "6.2.0", "which kubernetes.core 6.2.0 cannot use"),
        ("4.1.0", "6.4.0", ""),
        ("4.1.0", "", ""),
    ],
)
def test_which_helm_fits(version, kubernetes_core, why):
    found = _helm.fits(version, kubernetes_core)
    assert why in found and bool(found) == bool(why)


@pytest.mark.parametrize(
    ("errors", "says"),
    [
        ('Error: looks like "https://x" is not a valid chart repository or cannot be reached: dial tcp: connection refused', "cannot be reached"),
        ('Error: chart "kube-prometheus-stack" version "88.5.3" not found in https://x repository', "there is no version 88.5.3"),
        ("Error: repo kube not found", "there is no chart kube-prometheus-stack"),
        ("Error: non-absolute URLs should be in form of repo_name/path_to_chart, got: x", "there is no chart kube-prometheus-stack"),
        ("Error: ghcr.io/charts/kube-prometheus-stack:88.5.3: not found", "there is no version 88.5.3"),
    ],
)
def test_what_helm_complains_about_is_explained(errors, says):
    with pytest.raises(_helm.HelmError, match=says):
        helm(1, errors=errors).show("chart", CHART)


def test_a_local_chart_has_to_be_of_the_version_that_is_wanted():
    with pytest.raises(_helm.HelmError, match="has version 1.0.0, but monitoring_chart_version is 88.5.3"):
        helm(out="name: x\nversion: 1.0.0\n").chart(CHART)
    assert helm(out="name: x\nversion: v88.5.3\n").chart(CHART)["name"] == "x"


def test_a_lone_equals_sign_is_text():
    assert helm(out="enum: [=, '!=']\n---\nkind: x\n").show("crds", CHART) == [{"enum": ["=", "!="]}, {"kind": "x"}]
