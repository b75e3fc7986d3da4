# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading

import botocore.loaders
import botocore.session
import pytest

MODELS = {"simple/config.pbtxt": 'name: "simple"', "simple/1/model.py": "x = 1", "other/1/model.onnx": "onnx", "simple/verify.yml": "cases: []"}


@pytest.fixture(scope="session")
def services():
    """The SDK's descriptions of its services, read once: reading them is most of a client's start."""
    return botocore.loaders.create_loader()


@pytest.fixture
def store(monkeypatch, services):
    """An S3 that is the only one the SDK knows of, without credentials from around."""
    # Not above: this file is read before pytest-ansible puts the collection in place.
    from ansible_collections.mlserving.triton.tests.unit.plugins.fake_s3 import S3

    monkeypatch.setattr(botocore.session, "create_loader", lambda *args: services)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with S3() as s3:
        threading.Thread(target=s3.serve_forever, args=(0.02,), daemon=True).start()
        yield s3
        s3.shutdown()


@pytest.fixture
def source(tmp_path):
    for name, text in MODELS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def run_repository(store, source, run_module, tmp_path_factory):
    """Run a module about a repository with the options that it needs for the store, and others; None leaves one out."""
    cache = tmp_path_factory.mktemp("cache")

    def call(module, check=False, **options):
        base = {
            "retry_seconds": 0,
            "url": "s3://s3.storage.svc:8333/models/demo",
            "endpoint_url": f"http://127.0.0.1:{store.server_port}",
            "access_key_id": "LABKEYID00001234",
            "secret_access_key": "not-a-real-key",
            "source": str(source),
            "cache_dir": str(cache),
        }
        return run_module(module, {key: value for key, value in (base | options).items() if value is not None}, check)

    return call
