# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which labels an object needs so that a Prometheus of the operator takes it up. PRIVATE to the collection."""

from __future__ import annotations

#: What an object is -> the fields of a Prometheus' spec that select it and its namespace.
FIELDS = {
    "ServiceMonitor": ("serviceMonitorSelector", "serviceMonitorNamespaceSelector"),
    "PodMonitor": ("podMonitorSelector", "podMonitorNamespaceSelector"),
    "PrometheusRule": ("ruleSelector", "ruleNamespaceSelector"),
}


class CannotMatch(Exception):
    """No label that we may set makes the selector match. The text says why."""


def labels_for(selector: dict | None, fixed: dict) -> dict:
    """Return the labels that an object needs beside ``fixed``, which are not ours to change.

    :raises CannotMatch: there are none
    """
    if selector is None:
        raise CannotMatch("is not set, which selects nothing")
    wanted = dict(selector.get("matchLabels") or {})
    expressions = selector.get("matchExpressions") or []
    for entry in expressions:
        key, values = entry["key"], entry.get("values") or []
        if entry["operator"] == "In":
            wanted.setdefault(key, fixed[key] if fixed.get(key) in values else values[0])
        elif entry["operator"] == "Exists":
            wanted.setdefault(key, fixed.get(key, "true"))
    for key, value in wanted.items():
        if fixed.get(key, value) != value:
            raise CannotMatch(f"wants {key}={value}, but the object has {key}={fixed[key]}")
    _check(expressions, {**fixed, **wanted})
    return {key: value for key, value in wanted.items() if key not in fixed}


def selects_namespace(selector: dict | None, own: str, namespace: str, labels: dict) -> None:
    """Do nothing if a Prometheus in the namespace ``own`` looks into ``namespace``, which has these labels.

    :raises CannotMatch: it does not
    """
    if selector is None:
        if namespace != own:
            raise CannotMatch(f"is not set, which selects its own namespace {own} only, not {namespace}")
        return
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            raise CannotMatch(f"wants the namespace {namespace} to have {key}={value}")
    _check(selector.get("matchExpressions") or [], labels, f"the namespace {namespace}")


def _check(expressions: list[dict], labels: dict, whose: str = "the object") -> None:
    for entry in expressions:
        key, operator, values = entry["key"], entry["operator"], entry.get("values") or []
        value = labels.get(key)
        fits = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[operator]
        if not fits:
            raise CannotMatch(f"wants {whose} to have {key} {operator} {values or ''}".rstrip() + f", but it is {value!r}")


def fit(prometheus: dict, kinds: list[str], namespace: str, namespace_labels: dict, fixed: dict) -> tuple[dict[str, dict], list[str]]:
    """Return ({kind: labels that its objects need}, why others cannot be selected) for one Prometheus object."""
    labels, reasons = {}, []
    own = prometheus["metadata"]["namespace"]
    for kind in kinds:
        for number, field in enumerate(FIELDS[kind]):
            selector = prometheus["spec"].get(field)
            try:
                if number:
                    selects_namespace(selector, own, namespace, namespace_labels)
                else:
                    labels[kind] = labels_for(selector, fixed)
            except CannotMatch as error:
                reasons.append(f"{field} {selector if selector is not None else ''}".rstrip() + f" {error}")
    return labels, reasons
