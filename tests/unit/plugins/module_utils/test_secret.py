# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _secret, _secret_references

ID, KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
GOOD = {"AWS_DEFAULT_REGION": b"us-east-1", "AWS_ACCESS_KEY_ID": ID.encode(), "AWS_SECRET_ACCESS_KEY": KEY.encode()}


def test_the_name_follows_the_content():
    first = _secret.manifest(GOOD, "ns", "demo")
    assert first == _secret.manifest(dict(reversed(GOOD.items())), "ns", "demo")
    assert first["immutable"] and first["metadata"]["name"] == f"demo-aws-{_secret.public(first)['digest']}"
    names = {
        _secret.manifest({**GOOD, **change}, "ns", "demo")["metadata"]["name"]
        for change in ({}, {"AWS_DEFAULT_REGION": b"eu-west-1"}, {"B": b"\xff"}, {"B": b"\\xff"})
    }
    assert len(names) == 4


def test_the_name_of_the_same_credentials_never_changes():
    assert _secret.manifest(GOOD, "ns", "demo")["metadata"]["name"] == "demo-aws-f95866ee71"


def test_the_name_says_whether_there_are_aws_keys():
    assert _secret.manifest({"credentials.json": b"{}"}, "ns", "demo")["metadata"]["name"].startswith("demo-credentials-")


def test_when_it_expires_is_no_part_of_the_name():
    secret = _secret.manifest(GOOD, "ns", "demo", expires="2026-01-31T12:00:00Z")
    assert secret["metadata"]["annotations"] == {"mlserving.triton/expires": "2026-01-31T12:00:00Z"}
    assert secret["metadata"]["name"] == _secret.manifest(GOOD, "ns", "demo")["metadata"]["name"]
    assert _secret.public(secret)["expires"] == "2026-01-31T12:00:00Z" and "expires" not in _secret.public(_secret.manifest(GOOD, "ns", "demo"))


def test_a_fixed_name_stays_mutable_and_our_labels_win():
    secret = _secret.manifest(GOOD, "ns", "demo", "aws-credentials", {"team": 7, _secret.MANAGED_BY: "somebody"})
    assert secret["metadata"]["name"] == "aws-credentials" and "immutable" not in secret
    assert secret["metadata"]["labels"] == {
        "team": "7",
        "app.kubernetes.io/managed-by": "mlserving.triton",
        "app.kubernetes.io/instance": "demo",
        "app.kubernetes.io/component": "credentials",
    }


def test_what_is_shown_holds_no_value():
    shown = str(_secret.public(_secret.manifest(GOOD, "ns", "demo")))
    assert not any(value.decode() in shown or base64.b64encode(value).decode() in shown for value in GOOD.values())


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [{"envFrom": [{"configMapRef": {"name": "other"}}, {"secretRef": {"name": "used"}}]}]},
        {"containers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "used", "key": "other"}}}]}]},
        {"initContainers": [{"envFrom": [{"secretRef": {"name": "used"}}]}]},
        {"ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "used"}}]}]},
        {"volumes": [{"name": "other", "emptyDir": {}}, {"name": "other", "secret": {"secretName": "used"}}]},
        {"volumes": [{"name": "other", "projected": {"sources": [{"configMap": {"name": "other"}}, {"secret": {"name": "used"}}]}}]},
        {"volumes": [{"name": "other", "csi": {"driver": "other", "nodePublishSecretRef": {"name": "used"}}}]},
        {"imagePullSecrets": [{"name": "used"}], "serviceAccountName": "other"},
    ],
)
def test_finds_what_a_pod_refers_to(spec):
    assert list(_secret_references.names_in(spec)) == ["used"]
