# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.mlserving.triton.plugins.module_utils import _credential_source

ID, KEY = "triton_aws_access_key_id", "triton_aws_secret_access_key"
S3, GS = "s3://models/demo", "gs://models/demo"


@pytest.mark.parametrize(
    ("wanted", "given", "account", "url", "expected"),
    [
        ("", {ID, KEY}, "", S3, "static"),
        ("", {ID, KEY}, "team", S3, "static"),
        ("", {"triton_google_credentials"}, "", GS, "static"),
        ("", {"triton_aws_profile"}, "", S3, "profile"),
        ("environment", set(), "", S3, "environment"),
        ("", {"triton_credentials_secret"}, "", S3, "existing"),
        ("", {"triton_service_account_annotations"}, "", S3, "service_account"),
        ("", set(), "team", S3, "service_account"),
        ("", {"triton_cloud_credentials"}, "", S3, "file"),
        ("", set(), "", S3, "none"),
        ("none", set(), "team", GS, "none"),
        ("", set(), "", "/models", "none"),
    ],
)
def test_one_source_is_found(wanted, given, account, url, expected):
    assert _credential_source.choose(wanted, given, account, url) == (expected, [])


@pytest.mark.parametrize(
    ("wanted", "given", "url", "expected"),
    [
        ("vault", set(), S3, "triton_credentials_source is 'vault'; allowed is one of environment, profile"),
        ("", {ID, KEY, "triton_credentials_secret"}, S3, f"but {ID}, {KEY} and triton_credentials_secret are given. Leave out one"),
        ("environment", {ID, KEY}, S3, f"but triton_credentials_source=environment and {ID}, {KEY} are given"),
        ("", {ID, KEY, "triton_service_account_annotations"}, S3, "are given: static variables in a pod win over its service account's identity"),
        ("service_account", {ID, KEY}, S3, "static variables in a pod win"),
        ("service_account", set(), S3, "set triton_service_account, triton_service_account_annotations or both"),
        ("existing", set(), S3, "triton_credentials_source is 'existing', which needs triton_credentials_secret."),
        ("none", {"triton_cloud_credentials"}, S3, "but triton_credentials_source=none and triton_cloud_credentials are given"),
        ("", {ID}, S3, f"{ID} is given without {KEY}. Give both."),
        ("", {KEY}, S3, f"{KEY} is given without {ID}. Give both."),
        ("", {ID, KEY}, GS, "is on Google Cloud Storage, and AWS credentials do not open it"),
        ("environment", set(), GS, "is on Google Cloud Storage"),
        ("", {"triton_google_credentials"}, S3, "is not at gs://"),
    ],
)
def test_what_contradicts_is_named(wanted, given, url, expected):
    _source, problems = _credential_source.choose(wanted, given, "", url)
    assert any(expected in problem for problem in problems), problems


def test_static_keys_are_the_whole_secret_as_environment():
    found = _credential_source.pod("static", "demo-aws-1", ("AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_SECRET_ACCESS_KEY"), "eu-west-1", url=S3)
    assert found == {"annotations": {}, "spec": {}, "container": {"envFrom": [{"secretRef": {"name": "demo-aws-1"}}]}}


def test_an_existing_secret_gives_only_the_keys_that_triton_reads_and_its_digest_rolls_the_pods():
    found = _credential_source.pod("existing", "theirs", ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "password"), "eu-west-1", digest="12", url=S3)
    assert [entry["name"] for entry in found["container"]["env"]] == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"]
    assert found["annotations"] == {"mlserving.triton/credentials-digest": "12"} and "envFrom" not in found["container"]


@pytest.mark.parametrize(("url", "variable"), [(S3, "TRITON_CLOUD_CREDENTIAL_PATH"), (GS, "GOOGLE_APPLICATION_CREDENTIALS")])
def test_a_file_is_mounted_where_its_variable_says(url, variable):
    found = _credential_source.pod("file", "demo-credentials", ("credentials.json",), url=url)
    (mount,), (volume,), (entry,) = found["container"]["volumeMounts"], found["spec"]["volumes"], found["container"]["env"]
    assert mount["name"] == volume["name"] and entry == {"name": variable, "value": f"{mount['mountPath']}/credentials.json"}
    assert volume["secret"]["secretName"] == "demo-credentials"


def test_a_service_account_leaves_static_variables_out():
    found = _credential_source.pod("service_account", region="eu-west-1", account="team", url=S3)
    assert found == {
        "annotations": {},
        "spec": {"serviceAccountName": "team"},
        "container": {"env": [{"name": "AWS_DEFAULT_REGION", "value": "eu-west-1"}]},
    }


def test_other_credentials_replace_the_old_ones_and_nothing_else():
    keys = ("AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_SECRET_ACCESS_KEY")
    theirs = {"name": "theirs", "secret": {"secretName": "tls"}}
    before = {
        "metadata": {"annotations": {"mlserving.triton/credentials-digest": "old", "team": "a"}},
        "spec": {
            "serviceAccountName": "team",
            "volumes": [{"name": "credentials", "secret": {"secretName": "old"}}, theirs],
            "containers": [
                {
                    "name": "triton",
                    "image": "x",
                    "env": [{"name": "HOME", "value": "/tmp"}, {"name": "TRITON_CLOUD_CREDENTIAL_PATH", "value": "/old"}],
                    "envFrom": [{"secretRef": {"name": "demo-aws-0123456789"}}, {"secretRef": {"name": "theirs"}}],
                    "volumeMounts": [{"name": "credentials", "mountPath": "/old"}],
                },
                {"name": "sidecar"},
            ],
        },
    }
    found = _credential_source.applied(before, _credential_source.pod("static", "demo-aws-abcdef0123", keys, url=S3))
    assert found == {
        "metadata": {"annotations": {"mlserving.triton/credentials-digest": None}},
        "spec": {
            "containers": [
                {
                    "name": "triton",
                    "image": "x",
                    "env": [{"name": "HOME", "value": "/tmp"}],
                    "envFrom": [{"secretRef": {"name": "theirs"}}, {"secretRef": {"name": "demo-aws-abcdef0123"}}],
                },
                {"name": "sidecar"},
            ],
            "volumes": [theirs],
        },
    }


def test_applying_what_is_there_changes_nothing():
    pod = _credential_source.pod("file", "demo-credentials-1", ("credentials.json",), region="eu-west-1", account="team", url=S3)
    template = {"metadata": {}, "spec": {"containers": [{"name": "triton", **pod["container"]}], **pod["spec"]}}
    assert _credential_source.applied(template, pod) == {"spec": template["spec"]}
