# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _monitoring_selectors
from ansible_collections.mlserving.triton.plugins.module_utils._monitoring_selectors import CannotMatch

FIXED = {"app.kubernetes.io/instance": "example", "tier": "gpu"}


def expression(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


@pytest.mark.parametrize(
    ("selector", "labels"),
    [
        ({}, {}),
        ({"matchLabels": {"release": "stack"}}, {"release": "stack"}),
        ({"matchLabels": {"tier": "gpu"}}, {}),
        (expression("role", "In", "a", "b"), {"role": "a"}),
        (expression("tier", "In", "cpu", "gpu"), {}),
        (expression("role", "Exists"), {"role": "true"}),
        (expression("tier", "Exists"), {}),
        (expression("role", "NotIn", "a"), {}),
        (expression("role", "DoesNotExist"), {}),
    ],
)
def test_labels_that_a_selector_wants(selector, labels):
    assert _monitoring_selectors.labels_for(selector, FIXED) == labels


@pytest.mark.parametrize(
    ("selector", "why"),
    [
        (None, "is not set, which selects nothing"),
        ({"matchLabels": {"tier": "cpu"}}, "wants tier=cpu, but the object has tier=gpu"),
        (expression("tier", "In", "cpu"), "wants tier=cpu"),
        (expression("tier", "NotIn", "gpu"), "wants the object to have tier NotIn ['gpu'], but it is 'gpu'"),
        (expression("tier", "DoesNotExist"), "wants the object to have tier DoesNotExist, but it is 'gpu'"),
        ({"matchLabels": {"role": "a"}, **expression("role", "In", "b")}, "wants the object to have role In ['b'], but it is 'a'"),
    ],
)
def test_selectors_that_cannot_match(selector, why):
    with pytest.raises(CannotMatch) as error:
        _monitoring_selectors.labels_for(selector, FIXED)
    assert why in str(error.value)


def test_a_namespace_is_selected_by_its_labels_or_as_ones_own():
    _monitoring_selectors.selects_namespace({}, "monitoring", "triton", {})
    _monitoring_selectors.selects_namespace(None, "triton", "triton", {})
    _monitoring_selectors.selects_namespace({"matchLabels": {"team": "a"}}, "monitoring", "triton", {"team": "a"})
    for selector, why in ((None, "its own namespace monitoring only, not triton"), ({"matchLabels": {"team": "a"}}, "team=a")):
        with pytest.raises(CannotMatch, match=why):
            _monitoring_selectors.selects_namespace(selector, "monitoring", "triton", {"team": "b"})


def test_all_that_does_not_fit_is_told_for_one_prometheus():
    spec = {"serviceMonitorSelector": {"matchLabels": {"release": "stack"}}, "serviceMonitorNamespaceSelector": {}, "ruleNamespaceSelector": {}}
    prometheus = {"metadata": {"namespace": "monitoring"}, "spec": spec}
    labels, reasons = _monitoring_selectors.fit(prometheus, ["ServiceMonitor", "PrometheusRule"], "triton", {}, FIXED)
    assert labels == {"ServiceMonitor": {"release": "stack"}} and reasons == ["ruleSelector is not set, which selects nothing"]
