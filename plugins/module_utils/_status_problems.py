# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a release, and what to do about it: pure functions. PRIVATE to the collection.

A problem is a dict: ``what`` and ``todo``, sentences.
"""

from __future__ import annotations

from ansible_collections.mlserving.triton.plugins.module_utils import _autoscaling_diagnosis, _pods, _rollout, _triton_log
from ansible_collections.mlserving.triton.plugins.module_utils._status import Seen

LOOK_AT_IT = "Read its log (kubectl logs), or collect everything in one file with triton_bundle=FILE.tar.gz."


def problems(seen: Seen, facts: dict) -> list[dict]:
    """Return what is wrong, what weighs most first.

    :param facts: as _status_facts.facts returns them
    """
    found = [*_of_replicas(seen, facts), *_of_servers(facts), *_of_models(facts), *_of_image(facts)]
    found += [*_of_service(facts), *_of_autoscaler(facts), *_of_secrets(facts)]
    found += [
        _problem(f"The account may not list {kind}, so they are not shown.", "Give it that right.") for kind in seen.unseen if kind != "namespace"
    ]
    return [{key: _triton_log.redact(text) for key, text in problem.items()} for problem in found]


def _problem(what: str, todo: str) -> dict:
    return {"what": what, "todo": todo}


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _of_replicas(seen: Seen, facts: dict) -> list[dict]:
    """Return why replicas are lacking, or the rollout goes on although none is."""
    rollout = facts["rollout"]
    lacking = rollout["wanted"] - rollout["ready"]
    if lacking <= 0 and rollout["complete"]:
        return []
    reasons = _reasons(seen)
    whats, todos = list(dict.fromkeys(what for what, todo in reasons)), list(dict.fromkeys(todo for what, todo in reasons))
    if lacking > 0:
        what = f"{lacking} of {_plural(rollout['wanted'], 'replica')} {'is' if lacking == 1 else 'are'} not ready"
        whats = whats or ["no pod has been made yet"]
    else:
        counts = f"{rollout['updated']} of {_plural(rollout['wanted'], 'replica')} updated, {rollout['available']} available, {len(facts['replicas'])} in all"
        what = f"The rollout of revision {rollout['revision']} is not complete, {counts}"
    return [_problem(": ".join(filter(None, (what, "; ".join(whats)))) + ".", " ".join(todos) or "Look again in a moment.")]


def _reasons(seen: Seen) -> list[tuple[str, str]]:
    """Return (why, what to do) of each pod that is not ready, and of what keeps pods from being made."""
    findings: dict = {}
    for finding in seen.findings():
        findings.setdefault(finding.subject.removeprefix("pod "), finding)
    reasons = [_reason(seen, pod, findings.pop(pod["metadata"]["name"], None)) for pod in seen.pods if not _pods.is_ready(pod)]
    return reasons + [(f"{finding.subject}: {finding.why}", finding.todo) for finding in findings.values()]


def _reason(seen: Seen, pod: dict, finding: _rollout.Finding | None) -> tuple[str, str]:
    log = seen.logs.get(pod["metadata"]["name"]) or ""
    known = _triton_log.explain(log)
    if finding and not (known and finding.cause in ("crash", "probe")):
        return f"{finding.subject}: {finding.why}", LOOK_AT_IT if finding.cause == "crash" else finding.todo
    why = f"{finding.subject}: {finding.why}" if finding else _pods.words(_pods.row(pod))
    known = known or _triton_log.explain_silence(log)
    return (f"{why}: {known.why}", known.todo) if known else (why, "Look again in a moment: it has shown no error yet.")


def _of_servers(facts: dict) -> list[dict]:
    silent = [replica for replica in facts["replicas"] if replica["ready"] and replica["problem"]]
    return [_problem(f"Replica {replica['name']} does not say how it is: {replica['problem']}.", LOOK_AT_IT) for replica in silent]


def _of_models(facts: dict) -> list[dict]:
    found = []
    for model in facts["models"]:
        name, others = f"Model {model['name']} version {model['version'] or '-'}", model["others"]
        failed = {pod: state for pod, state in others.items() if state.startswith("UNAVAILABLE")}
        words = _by_state(others)
        if others and model["ready"]:
            what = f"{name} is ready on {model['ready']} of {model['ready'] + len(others)} replicas only: {words}."
            todo = "Load it there, or restart that pod; with a repository that is polled, a replica that has just begun may follow by itself."
            found.append(_problem(what, todo))
        elif failed:
            found.append(_problem(f"{name} is not served: {words}.", "Correct the model by that reason and publish it again."))
    return found


def _by_state(others: dict[str, str]) -> str:
    states: dict = {}
    for pod, state in others.items():
        states.setdefault(state, []).append(pod)
    return "; ".join(f"{state} on {', '.join(pods)}" for state, pods in states.items())


def _of_image(facts: dict) -> list[dict]:
    if len(facts["image"]["digests"]) < 2 or not facts["rollout"]["complete"]:
        return []
    todo = "The tag was moved between their starts: restart the Deployment (kubectl rollout restart), or name the image by its digest."
    return [_problem(f"The replicas run {len(facts['image']['digests'])} different images of the same name.", todo)]


def _of_service(facts: dict) -> list[dict]:
    service = facts["service"]
    if service is None:
        return [_problem("The release has no Service of its name, so nothing leads to its replicas.", "Run playbooks/deploy.yml.")]
    if service["type"] == "LoadBalancer" and not service["http"]:
        todo = "See that a load balancer controller runs in the cluster, or choose another type with triton_service_type."
        return [_problem(f"The Service {service['name']} of type LoadBalancer has no address.", todo)]
    return []


def _of_autoscaler(facts: dict) -> list[dict]:
    found = facts["autoscaler"] or {"troubles": []}
    # That the number is at a limit may be as it should be.
    told = [trouble for trouble in found["troubles"] if not trouble.startswith("ScalingLimited")]
    failed = next((step for step in found.get("steps") or [] if step["ok"] is False), None)
    if told and failed:
        what = f"The autoscaler {found['name']} gets no metric. Step by step: {_autoscaling_diagnosis.sentence(found['steps'])}."
        return [_problem(what, failed["todo"])]
    return [_problem(f"The autoscaler {found['name']}: {'; '.join(told)}.", "Correct what it says: it does not scale until then.")] if told else []


def _of_secrets(facts: dict) -> list[dict]:
    expired = [secret for secret in facts["secrets"] if secret["expires_in"] is not None and secret["expires_in"] <= 0]
    todo = "Run playbooks/credentials.yml with new ones: a replica that starts now cannot read the models."
    return [_problem(f"The credentials in the Secret {secret['name']} have expired at {secret['expires']}.", todo) for secret in expired]
