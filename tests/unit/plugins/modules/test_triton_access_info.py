# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against an API server and an S3 store in this process; the Job itself is run in the lab."""

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _probe_job
from ansible_collections.mlserving.triton.plugins.modules import triton_access_info
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_cluster import FakeCluster
from ansible_collections.mlserving.triton.tests.unit.plugins.fake_s3 import Failure, Stored

KEY = "a-secret-key-of-40-characters-0123456789"
SECRET = "/api/v1/namespaces/triton/secrets/demo-aws-1"
POD = {"spec": {}, "container": {}}


def secret(**data):
    return {"metadata": {"name": "demo-aws-1"}, "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}}


@pytest.fixture
def cluster(monkeypatch):
    for name in (*_cluster.ENVIRONMENT.values(), "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    with FakeCluster() as server:
        server.answers[SECRET] = secret(AWS_ACCESS_KEY_ID="triton", AWS_SECRET_ACCESS_KEY=KEY, AWS_DEFAULT_REGION="us-east-1")
        yield server


@pytest.fixture
def run(cluster, store, run_module):
    store.buckets["models"] = {"demo/simple/1/model.py": Stored()}

    def call(**options):
        base = {"host": cluster.url, "namespace": "triton", "url": "s3://models/demo", "endpoint_url": f"http://127.0.0.1:{store.server_port}"}
        return run_module(triton_access_info, {**base, "secret": "demo-aws-1", **options})

    return call


@pytest.fixture
def job(monkeypatch):
    """What the Job says; ``ran`` holds the manifests."""

    class Job:
        ran, verdict = [], _probe_job.Verdict(True)

        def run(self, _api, manifest, _seconds):
            self.ran.append(manifest)
            return self.verdict

    found = Job()
    found.ran = []
    monkeypatch.setattr(_probe_job, "run", found.run)
    return found


def test_the_repository_is_listed_and_an_object_opened(run, store):
    result = run()
    assert (result["proven"], result["method"], result["key"], result["changed"]) == (True, "controller", "demo/simple/1/model.py", False)
    assert store.writes() == [] and len(store.requests) == 2


@pytest.mark.parametrize(
    ("failure", "objects", "expected"),
    [
        (Failure(403, "SignatureDoesNotMatch", line="GET"), 1, "secret_access_key does not belong to the access key id"),
        (Failure(403, "AccessDenied", line="GET /models/demo/simple"), 1, "cannot have demo/simple/1/model.py read: "),
        (None, 0, "holds nothing below demo. Check the path"),
        (Failure(404, "NoSuchBucket", line="GET"), 1, "does not exist"),
    ],
)
def test_what_is_refused_is_said_in_words(run, store, failure, objects, expected):
    store.failure = failure
    store.buckets["models"] = dict(list(store.buckets["models"].items())[:objects])
    message = run()["msg"]
    assert message.startswith("Triton cannot open s3://models/demo with the credentials in the Secret demo-aws-1: ") and expected in message
    assert KEY not in message


def test_a_store_that_does_not_answer_here_is_asked_in_the_cluster(run, job):
    nowhere = {"endpoint_url": "http://127.0.0.1:9", "image": "tritonserver:1", "pod": POD}
    assert run(**nowhere)["method"] == "cluster" and len(job.ran) == 1
    assert "the store does not answer" in run(**nowhere, method="controller")["msg"] and len(job.ran) == 1
    assert "that needs image and pod" in run(endpoint_url="http://127.0.0.1:9")["msg"]


def test_the_pods_own_identity_is_tried_in_the_cluster(run, job):
    own = {"secret": None, "image": "tritonserver:1", "pod": POD}
    assert run(**own) | {"seconds": 0} == run(**own) | {"seconds": 0} and len(job.ran) == 2
    job.verdict = _probe_job.Verdict(False, "The S3 storage refused access.")
    assert run(**own)["msg"] == "Triton cannot open s3://models/demo with its pods' own identity: The S3 storage refused access."
    job.verdict = _probe_job.Verdict(None, "The Job came to no end in time: pod x: Pending.")
    unknown = run(**own)
    assert not unknown["proven"] and any("is not known yet. The Job came to no end" in text for text in unknown["warnings"])
    assert not run(secret=None, method="controller")["proven"]


def test_of_a_file_of_several_stores_the_entry_for_the_repository_is_tried(run, cluster):
    file = {"s3": {"": {"key_id": "triton", "secret_key": KEY, "region": "us-east-1"}}}
    cluster.answers[SECRET] = secret(**{"credentials.json": json.dumps(file)})
    found = run()
    assert found["proven"] and KEY not in json.dumps(found)
    cluster.answers[SECRET] = secret(**{"credentials.json": json.dumps({"s3": {"s3://other": {}}})})
    assert "no entry for s3://models/demo" in run()["msg"]


def test_keys_that_are_not_in_the_secret_are_not_looked_for_here(run, cluster, job):
    cluster.answers[SECRET] = secret(password="x")
    assert run(image="tritonserver:1", pod=POD)["method"] == "cluster" and len(job.ran) == 1


def test_a_secret_that_may_not_be_read_is_named(run, cluster):
    cluster.answers[SECRET] = 403
    assert "reading the Secret triton/demo-aws-1" in run()["msg"]
