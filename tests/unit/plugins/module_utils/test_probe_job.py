# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logs are those of server 2.51.0."""

from __future__ import annotations

import pytest
from ansible_collections.mlserving.triton.plugins.module_utils import _probe_job

STARTS = 'W1125 07:43:26.220681 7 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory"\n'
NOT_FOUND = "E1125 07:43:26.351200 7 manager.cc:1415] \"failed to poll model 'mlserving-triton-probe': model not found in any model repository.\"\n"
ENDS = "error: creating server: "


@pytest.mark.parametrize(
    ("log", "opened", "says"),
    [
        (NOT_FOUND + ENDS + "Internal - failed to load all models", True, ""),
        (
            ENDS + "Internal - Unable to create S3 filesystem client. Check account credentials. Exception: '' Message: 'No response body.'",
            False,
            "The S3 storage refused access to the model repository. Triton prints this for wrong keys, a wrong region",
        ),
        (ENDS + "Invalid argument - repository path is not a valid directory", False, "path does not exist, or holds nothing"),
        ("tritonserver: error while loading shared libraries: libdcgm.so.4: cannot open", False, "lacks the library libdcgm.so.4"),
        ("", False, "Triton ended without opening it. It said: nothing"),
    ],
)
def test_what_triton_said_is_the_verdict(log, opened, says):
    found = _probe_job.verdict(STARTS + log)
    assert found.opened is opened and says in found.text


def test_the_job_is_triton_with_what_the_pods_get_and_no_replica_of_the_release():
    pod = {"annotations": {}, "spec": {"serviceAccountName": "team"}, "container": {"envFrom": [{"secretRef": {"name": "demo-aws-1"}}]}}
    job = _probe_job.manifest("triton", "demo", "s3://models/demo", "tritonserver:1", "Never", pod, 90)
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["args"][:2] == ["tritonserver", "--model-store=s3://models/demo"] and container["envFrom"] == pod["container"]["envFrom"]
    assert spec["serviceAccountName"] == "team" and job["spec"]["backoffLimit"] == 0 and job["spec"]["activeDeadlineSeconds"] == 90
    assert not {"app", "release"} & job["spec"]["template"]["metadata"]["labels"].keys()
