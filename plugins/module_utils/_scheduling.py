# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why no node takes a pod, from the nodes and from what the pods on them request: pure functions. PRIVATE to the collection.

Node and Pod are the dicts that the API returns, with their camelCase keys; amounts are Decimals in the resource's unit (cores, bytes, pieces).
"""

from __future__ import annotations

import dataclasses
from decimal import Decimal

UNITS = {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1)}
UNITS |= {unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)}
UNITS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)}
#: So many nodes are named one by one.
NAMED = 4
#: What a cluster autoscaler, or Karpenter, leaves on nodes, and how its own pods are called.
AUTOSCALER_KEYS = ("karpenter.sh/", "cluster-autoscaler.kubernetes.io/")
AUTOSCALER_PODS = ("cluster-autoscaler", "karpenter")


@dataclasses.dataclass(frozen=True)
class View:
    """All nodes and pods of the cluster; ``autoscaler``: nodes may be added by themselves, or it could not be found out."""

    nodes: list
    pods: list
    autoscaler: bool = False


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why one node does not take the pod: ``words`` to follow the node's name in the singular and the plural, or the ``resource`` that is
    short, with what is ``free`` of ``total``. ``always``: it would not even if nothing else ran on it.
    """

    singular: str = ""
    plural: str = ""
    resource: str = ""
    free: Decimal = Decimal(0)
    total: Decimal = Decimal(0)
    always: bool = True


def amount(text: object) -> Decimal:
    """Return a Kubernetes quantity, such as 100m, 2Gi or 1e3, as a number."""
    digits = str(text).rstrip("numkKMGTPEi")
    return Decimal(digits) * UNITS[str(text)[len(digits) :]]


def shown(resource: str, value: Decimal) -> str:
    """Return an amount as a person writes it: 1.25, 412Mi, 3."""
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        for unit in ("Gi", "Mi", "Ki"):
            if value >= UNITS[unit] or (unit == "Ki" and value):
                return f"{round(value / UNITS[unit], 1 if unit == 'Gi' else 0).normalize():f}{unit}"
        return "0"
    return f"{round(value, 2).normalize():f}"


def requests(pod: dict) -> dict[str, Decimal]:
    """Return what the pod requests of each resource, as the scheduler counts it."""
    spec, total, most = pod["spec"], {"pods": Decimal(1)}, {}
    for container in spec["containers"] + [each for each in spec.get("initContainers") or [] if each.get("restartPolicy") == "Always"]:
        _add(total, _of(container))
    for container in spec.get("initContainers") or []:
        for resource, value in _of(container).items():
            most[resource] = max(most.get(resource, Decimal(0)), value)
    found = {resource: max(total.get(resource, Decimal(0)), most.get(resource, Decimal(0))) for resource in {*total, *most}}
    _add(found, {resource: amount(value) for resource, value in (spec.get("overhead") or {}).items()})
    return found


def _of(container: dict) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    return {resource: amount(value) for resource, value in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items()}


def _add(total: dict, more: dict) -> None:
    for resource, value in more.items():
        total[resource] = total.get(resource, Decimal(0)) + value


def is_autoscaled(nodes: list[dict], pods: list[dict]) -> bool:
    """Whether something here looks like an autoscaler of nodes."""
    keys = [key for node in nodes for kind in ("labels", "annotations") for key in node["metadata"].get(kind) or {}]
    names = [pod["metadata"]["name"] for pod in pods]
    return any(key.startswith(AUTOSCALER_KEYS) for key in keys) or any(name.startswith(AUTOSCALER_PODS) for name in names)


def explain(pod: dict, view: View) -> tuple[str, bool]:
    """Return (why no node takes the pod, whether none would even if it were empty); no words if some node should take it.

    :param pod: one that no node has taken
    """
    refusals, used = {}, _used(view.pods)
    for node in view.nodes:
        refused = _refusals(pod, node, used.get(node["metadata"]["name"], {}))
        if not refused:
            return "", False
        refusals[node["metadata"]["name"]] = refused
    if not refusals:
        return "", False
    wanted = requests(pod)
    always = all(any(each.always for each in refused) for refused in refusals.values())
    # What holds for ever says more than what is in the way now.
    first = {name: next((each for each in refused if each.always), refused[0]) for name, refused in refusals.items()}
    short, others = {}, {}
    for name, refusal in first.items():
        group = short if refusal.resource else others
        group.setdefault(refusal.resource or (refusal.singular, refusal.plural), {})[name] = refusal
    parts = [_short(resource, wanted[resource], nodes, len(refusals)) for resource, nodes in sorted(short.items())]
    parts += [f"{_names(list(nodes))} {words[len(nodes) > 1]}" for words, nodes in others.items()]
    return "; ".join(parts), always


def _short(resource: str, wanted: Decimal, nodes: dict[str, Refusal], of: int) -> str:
    asks = f"it requests {shown(resource, wanted)} of {resource}"
    if not any(refusal.total for refusal in nodes.values()):
        return f"{asks}, which {'no node has' if len(nodes) == of else _names(list(nodes)) + (' has' if len(nodes) == 1 else ' have') + ' none of'}"
    have = {name: each for name, each in nodes.items() if each.total}
    free = {name: f"{shown(resource, each.free)} free of {shown(resource, each.total)}" for name, each in have.items()}
    if len(nodes) <= NAMED:
        return f"{asks}; " + ", ".join(f"node {name} has {free.get(name, 'none')}" for name in nodes)
    best = max(have, key=lambda name: have[name].free)
    return f"{asks}; of the {len(have)} nodes that have any {best} has the most: {free[best]}"


def _names(nodes: list[str]) -> str:
    if len(nodes) == 1:
        return f"node {nodes[0]}"
    if len(nodes) <= NAMED:
        return f"nodes {', '.join(nodes[:-1])} and {nodes[-1]}"
    return f"{len(nodes)} nodes ({', '.join(nodes[: NAMED - 1])}, ...)"


def _used(pods: list[dict]) -> dict[str, dict]:
    """Return node -> resource -> what the pods on it request; a finished pod holds nothing."""
    found: dict = {}
    for pod in pods:
        if pod["spec"].get("nodeName") and pod["status"].get("phase") not in ("Succeeded", "Failed"):
            _add(found.setdefault(pod["spec"]["nodeName"], {}), requests(pod))
    return found


def _refusals(pod: dict, node: dict, used: dict[str, Decimal]) -> list[Refusal]:
    """Return every reason for which this node does not take the pod that can be told from the two and what is used of it."""
    spec, labels = pod["spec"], node["metadata"].get("labels") or {}
    found = []
    missing = [f"{key}={value}" for key, value in (spec.get("nodeSelector") or {}).items() if labels.get(key) != value]
    if missing:
        found.append(_lacks(f"the label{'s' * (len(missing) > 1)} {', '.join(missing)}, which it selects"))
    terms = (((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get(
        "nodeSelectorTerms"
    )
    if terms and not any(_matches(term, node) for term in terms):
        wanted = " or ".join(" and ".join(_expression(each) for each in _expressions(term)) for term in terms)
        found.append(Refusal(f"does not match its node affinity ({wanted})", f"do not match its node affinity ({wanted})"))
    for taint in node["spec"].get("taints") or []:
        if taint["effect"] != "PreferNoSchedule" and not any(_tolerates(each, taint) for each in spec.get("tolerations") or []):
            # Kubernetes itself sets and removes these with the node's state.
            passing = taint["key"].startswith(("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/"))
            text = f"the taint {taint['key']}{'=' + taint['value'] if taint.get('value') else ''}:{taint['effect']}, which it does not tolerate"
            found.append(Refusal(f"has {text}", f"have {text}", always=not passing))
    has = node["status"].get("allocatable") or {}
    for resource, value in sorted(requests(pod).items()):
        total = amount(has.get(resource, 0))
        if value > total - used.get(resource, Decimal(0)):
            free = max(total - used.get(resource, Decimal(0)), Decimal(0))
            found.append(Refusal(resource=resource, free=free, total=total, always=value > total))
    return found


def _lacks(what: str) -> Refusal:
    return Refusal(f"lacks {what}", f"lack {what}")


def _expressions(term: dict) -> list[dict]:
    return (term.get("matchExpressions") or []) + (term.get("matchFields") or [])


def _expression(entry: dict) -> str:
    values = ", ".join(entry.get("values") or [])
    return f"{entry['key']} {entry['operator']}" + (f" {values}" if values else "")


def _matches(term: dict, node: dict) -> bool:
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    checks = [_holds(each, labels) for each in term.get("matchExpressions") or []] + [_holds(each, fields) for each in term.get("matchFields") or []]
    return bool(checks) and all(checks)


def _holds(entry: dict, labels: dict) -> bool:
    operator, values, value = entry["operator"], entry.get("values") or [], labels.get(entry["key"])
    if operator in ("Gt", "Lt"):
        if value is None or not value.lstrip("-").isdigit():
            return False
        return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    return {"In": value in values, "NotIn": value not in values, "Exists": value is not None, "DoesNotExist": value is None}[operator]


def _tolerates(toleration: dict, taint: dict) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]) or toleration.get("key") not in (None, "", taint["key"]):
        return False
    return toleration.get("operator") == "Exists" or (toleration.get("value") or "") == (taint.get("value") or "")
