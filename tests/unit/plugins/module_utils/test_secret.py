# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64

from ansible_collections.mlserving.triton.plugins.module_utils import _secret

ID, KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
GOOD = {"region": "us-east-1", "access_key_id": ID, "secret_access_key": KEY}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_the_name_follows_the_content():
    first = _secret.manifest(GOOD, "ns", "demo")
    assert first == _secret.manifest(dict(reversed(GOOD.items())), "ns", "demo")
    assert first["immutable"] and first["metadata"]["name"] == f"demo-aws-{_secret.public(first)['digest']}"
    names = {_secret.manifest({**GOOD, **change}, "ns", "demo")["metadata"]["name"] for change in ({}, {"region": "eu-west-1"}, {"session_token": "t" * 20})}
    assert len(names) == 3


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
    assert not any(value in shown or encoded(value) in shown for value in GOOD.values())
