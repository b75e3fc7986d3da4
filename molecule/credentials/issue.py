# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print temporary credentials of the lab's role reader as JSON. Usage: issue.py ENDPOINT, with lasting ones in the environment."""

from __future__ import annotations

import json
import sys

import boto3

sts = boto3.client("sts", endpoint_url=sys.argv[1], region_name="us-east-1")
answer = sts.assume_role(RoleArn="arn:aws:iam::000000000000:role/reader", RoleSessionName="triton")
print(json.dumps(answer["Credentials"], default=str))
