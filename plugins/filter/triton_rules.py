# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: triton_rules
short_description: The recording and alerting rules of a release
version_added: "0.1.0"
author:
  - The mlserving.triton authors (@mlserving)
description:
  - Turns the variables of the role C(monitoring) into the spec of a PrometheusRule. Every average is a rate over a rate.
  - The rules select series by the labels C(namespace) and C(release); kube-state-metrics, cert-manager and NVIDIA's exporter add to them where they are.
positional: _input
options:
  _input:
    description:
      - The role's variables without the prefix C(monitoring_), with C(release), C(namespace), C(fullname) (of the Deployment and its autoscaler) and
        C(scrape_seconds).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what is alerted
  ansible.builtin.debug:
    msg: "{{ (options | mlserving.triton.triton_rules).groups | map(attribute='rules') | flatten | selectattr('alert', 'defined') | map(attribute='alert') }}"
"""

RETURN = r"""
_value:
  description: Spec of a PrometheusRule.
  type: dict
  sample:
    groups:
      - name: triton-example
        interval: 15s
        rules:
          - record: triton:requests:rate
            expr: sum by (namespace, release, pod, model, version) (rate(nv_inference_request_success{namespace="triton",release="example"}[60s]))
"""

from ansible.errors import AnsibleFilterError

from ansible_collections.mlserving.triton.plugins.module_utils import _monitoring_rules


def triton_rules(options: dict) -> dict:
    try:
        return _monitoring_rules.spec(options)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    def filters(self) -> dict:
        return {"triton_rules": triton_rules}
