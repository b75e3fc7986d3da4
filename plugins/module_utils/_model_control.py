# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading and unloading models on every replica of a release, in parallel and within one deadline. PRIVATE to the collection."""

from __future__ import annotations

import base64
import concurrent.futures
import dataclasses
import re
import time

from ansible_collections.mlserving.triton.plugins.module_utils import _kube, _model_set, _pods, _serving, _triton_client, _verify_target

try:
    import kubernetes.client
except ImportError:
    # The modules report it through _cluster.from_module before anything here is called.
    kubernetes = None

#: Options of the modules that ask every replica of a Deployment for its models; documented in doc_fragments/_replicas.py.
ARGUMENT_SPEC = {
    "namespace": {"type": "str", "default": "default"},
    "deployment": {"type": "str", "required": True},
    "restricted_key": {
        "type": "dict",
        "no_log": False,
        "options": {"name": {"type": "str", "required": True}, "value": {"type": "str", "required": True, "no_log": True}},
    },
    "timeout": {"type": "int", "default": 600},
    "parallel": {"type": "int", "default": 8},
}
#: Seconds between two looks at a server, which has no way to tell that something changed.
PAUSE = 0.2
#: Times that new replicas are looked for after the set was written.
ROUNDS = 10
MODE = "--model-control-mode"


class ControlError(Exception):
    """Models could not be brought to what was asked for. ``replicas``: what each has."""

    def __init__(self, text: str, replicas: list | None = None):
        super().__init__(text)
        self.replicas = replicas or []


@dataclasses.dataclass
class Replica:
    """One replica.

    ``mode``: how it controls models, as far as its arguments tell. ``started``: what tells one start of the server from the next. ``patience``: seconds for
    which it may be busy before the kubelet takes it for not ready. ``starting``: it may answer later. ``waiting``: why it was not asked, since it has not
    started. ``gone``: its pod was deleted meanwhile. ``was`` and ``index``: its repository index, before and now. ``problem``: what did not work.
    """

    target: _verify_target.Target
    mode: str
    started: str
    patience: float
    starting: bool = False
    waiting: str = ""
    gone: bool = False
    was: list = dataclasses.field(default_factory=list)
    index: list = dataclasses.field(default_factory=list)
    loaded: list = dataclasses.field(default_factory=list)
    unloaded: list = dataclasses.field(default_factory=list)
    restored: list = dataclasses.field(default_factory=list)
    problem: str = ""

    def row(self) -> dict:
        """Return what the modules tell of it."""
        return {
            "replica": self.target.name,
            "node": self.target.node,
            "waiting": self.waiting,
            "models": self.index,
            "loaded": self.loaded,
            "unloaded": self.unloaded,
            "restored": self.restored,
            "problem": self.problem,
        }


class Release:
    """The replicas of a Deployment.

    :param key: (name, value) of the key of the restricted APIs; without it the Deployment tells
    :param deadline: on the monotonic clock, for everything together
    :raises _kube.RequestError: there is no such Deployment, or the cluster did not answer
    """

    def __init__(self, api, namespace: str, deployment: str, key: tuple, deadline: float, parallel: int):
        self._api, self._core, self._namespace = api, kubernetes.client.CoreV1Api(api), namespace
        self._deadline, self._parallel = deadline, max(1, parallel)
        what = f"reading the Deployment {deployment} in namespace {namespace}"
        self._deployment = _kube.call(what, kubernetes.client.AppsV1Api(api).read_namespaced_deployment, deployment, namespace)
        labels = self._deployment["spec"]["selector"].get("matchLabels") or {}
        self._selector = ",".join(f"{name}={value}" for name, value in labels.items())
        self._access = _triton_client.Access(key=key or self._key())
        self._reach = _verify_target.Reach(api)
        volumes = self._deployment["spec"]["template"]["spec"].get("volumes") or []
        self._config_map = next((volume["configMap"]["name"] for volume in volumes if volume["name"] == _model_set.VOLUME), "")

    def _key(self) -> tuple:
        """Return (name, value) of the key that the role gave the server; nothing if it has none."""
        container = _container(self._deployment["spec"]["template"])
        named = [entry for entry in container.get("env") or [] if entry["name"] == _serving.KEY_VARIABLE]
        found = re.search(rf":([^:=\s]+)=\$\({_serving.KEY_VARIABLE}\)", " ".join(_words(container)))
        if not (named and found):
            return ()
        where = named[0]["valueFrom"]["secretKeyRef"]
        secret = _kube.call(f"reading the Secret {where['name']}", self._core.read_namespaced_secret, where["name"], self._namespace)
        return found.group(1), base64.b64decode(secret["data"][where["key"]]).decode()

    def stored(self) -> dict | None:
        """Return the ConfigMap with the set that new replicas start with; None if the Deployment has none."""
        if not self._config_map:
            return None
        return _kube.call(f"reading the ConfigMap {self._config_map}", self._core.read_namespaced_config_map, self._config_map, self._namespace)

    def store(self, found: dict, names: list[str]) -> None:
        """Write the set, as one that all replicas have loaded."""
        body = {
            # Whoever wrote it meanwhile is not overwritten.
            "metadata": {"resourceVersion": found["metadata"]["resourceVersion"], "annotations": {_model_set.AGREED: "true"}},
            "data": {_model_set.KEY: _model_set.text(names)},
        }
        _kube.call(f"writing the ConfigMap {self._config_map}", self._core.patch_namespaced_config_map, self._config_map, self._namespace, body)

    def replicas(self, known: tuple | list = ()) -> list[Replica]:
        """Return the replicas that are there, asked for their models.

        :param known: replicas, of which those that have not started anew since are left out
        :raises ControlError: one that is ready does not answer
        """
        seen = {(replica.target.name, replica.started) for replica in known if not replica.waiting}
        found = [self._replica(pod) for pod in _verify_target.replicas(self._api, self._namespace, self._selector)]
        found = [replica for replica in found if (replica.target.name, replica.started) not in seen]
        self._each(found, lambda replica: self._look(replica, patient=replica.starting if known else replica.target.patient))
        found = [replica for replica in found if not replica.gone]
        silent = [replica for replica in found if replica.problem]
        if silent:
            raise ControlError(_lines("Not every replica answers.", silent), found)
        return found

    def _replica(self, pod: dict) -> Replica:
        target = _verify_target.pod_target(self._api, pod, ["http"], reach=self._reach, access=self._access)
        status = next((entry for entry in _pods.statuses(pod) if entry["name"] == _pods.serving(pod)), {})
        mode = re.search(rf"{MODE}[= ](\S+)", " ".join(_words(_container(pod))))
        row = _pods.row(pod)
        starting = bool(row["node"]) and not _pods.has_failed(row)
        return Replica(target, mode.group(1) if mode else "", status.get("containerID") or "", _patience(_container(pod)), starting)

    def _look(self, replica: Replica, patient: bool) -> None:
        try:
            replica.was = replica.index = self._ask(replica, lambda client: client.index(), patient)
        except _triton_client.TritonError as error:
            if error.connection and not replica.target.patient and not patient:
                replica.waiting = replica.target.fault or str(error)
            else:
                replica.problem = str(error)

    def _each(self, replicas: list[Replica], function) -> None:
        with concurrent.futures.ThreadPoolExecutor(max_workers=self._parallel) as pool:
            list(pool.map(function, replicas))

    def _ask(self, replica: Replica, question, patient: bool = True):
        """Return what the function returns of a client; a server that does not answer is asked again until the deadline, if that is wanted.

        :raises _triton_client.TritonError: it refused, or did not answer
        """
        target = replica.target
        while True:
            refusal = target.reach.refusal
            way = target.openers["http"]()
            try:
                with way as address, _triton_client.HttpClient(address, self._deadline, target.access) as client:
                    return question(client)
            except _triton_client.TritonError as error:
                if way.forbidden and not refusal:
                    # Others may have found out in the meantime.
                    target.reach.refusal = target.reach.refusal or way.problem
                    continue
                replica.gone = bool(re.search(r"pods \S+ not found", way.problem))
                if replica.gone or not error.connection or way.forbidden or not patient or time.monotonic() + PAUSE >= self._deadline:
                    raise _triton_client.TritonError(f"{error}{f'; {way.problem}' if way.problem else ''}", error.connection) from None
            time.sleep(PAUSE)

    def load(self, replicas: list[Replica], wanted: _model_set.Wanted) -> None:
        """Load what is missing; each replica's problem says what did not work.

        A server that loads is not ready, and neither is one whose model has failed. So one replica tries first, and if that takes so long that the kubelet
        takes it for not ready, the others do it in two halves.
        """
        lacking = sorted((replica for replica in replicas if wanted.to_load(replica.index)), key=lambda replica: replica.target.patient)
        started = time.monotonic()
        self._each(lacking[:1], lambda replica: self._load(replica, wanted))
        rest = lacking[1:]
        half = len(rest) if time.monotonic() - started < min((replica.patience for replica in rest), default=0) else -(-len(rest) // 2)
        for wave in (rest[:half], rest[half:]):
            if not _failed(lacking):
                self._each(wave, lambda replica: self._load(replica, wanted))

    def _load(self, replica: Replica, wanted: _model_set.Wanted) -> None:
        for model in wanted.to_load(replica.index):
            sent: list = []
            try:
                self._ask(replica, lambda client, model=model, sent=sent: _load(client, model, sent, self._deadline))
            except _triton_client.TritonError as error:
                replica.problem = f"model {model}: {_reason(str(error))}"
                return
            replica.loaded.append(model)

    def unload(self, replicas: list[Replica], wanted: _model_set.Wanted) -> None:
        """Unload what has to go; each replica's problem says what did not work."""

        def bring(replica: Replica) -> None:
            try:
                index = self._ask(replica, lambda client: client.index())
                names = self._to_unload(replica, wanted, index)
                self._ask(replica, lambda client: _unload(client, names, self._deadline))
                replica.unloaded += [name for name in names if name in _model_set.loaded(index)]
            except _triton_client.TritonError as error:
                replica.problem = str(error)

        self._each(replicas, bring)

    def foresee(self, replicas: list[Replica], wanted: _model_set.Wanted) -> None:
        """Note on each replica what would be loaded and unloaded."""

        def ahead(replica: Replica) -> None:
            replica.loaded = wanted.to_load(replica.index)
            try:
                replica.unloaded = self._to_unload(replica, wanted, replica.index)
            except _triton_client.TritonError as error:
                replica.problem = str(error)

        self._each(replicas, ahead)

    def _to_unload(self, replica: Replica, wanted: _model_set.Wanted, index: list[dict]) -> list[str]:
        """Return what has to go; what models that stay are made of stays too."""
        names = wanted.to_unload(index, set())
        if not (names and wanted.loaded):
            return names
        staying = set(wanted.of(index)) & set(_model_set.loaded(index))
        return wanted.to_unload(index, self._ask(replica, lambda client: _needed(client, staying)))

    def restore(self, replicas: list[Replica]) -> None:
        """Take back what was loaded, and what failed to load, so that each replica has what it had before."""

        def bring(replica: Replica) -> None:
            try:
                index = self._ask(replica, lambda client: client.index())
                now = _model_set.is_busy(index) - _model_set.is_busy(replica.was)
                self._ask(replica, lambda client: _unload(client, sorted(now), self._deadline))
                replica.restored, replica.loaded = replica.loaded, []
            except _triton_client.TritonError as error:
                replica.problem = "; ".join(filter(None, (replica.problem, f"it could not be put back: {error}")))

        self._each(replicas, bring)

    def refresh(self, replicas: list[Replica]) -> None:
        """Ask each again for what it has."""

        def bring(replica: Replica) -> None:
            try:
                replica.index = self._ask(replica, lambda client: client.index())
            except _triton_client.TritonError as error:
                replica.problem = replica.problem or str(error)

        self._each(replicas, bring)


def from_options(api, params: dict, deadline: float) -> Release:
    """Return the release that a module's options name.

    :raises _kube.RequestError: there is no such Deployment, or the cluster did not answer
    """
    key = (params["restricted_key"]["name"], params["restricted_key"]["value"]) if params["restricted_key"] else ()
    return Release(api, params["namespace"], params["deployment"], key, deadline, params["parallel"])


def _container(pod: dict) -> dict:
    return next(entry for entry in pod["spec"]["containers"] if entry["name"] == _pods.serving(pod))


def _patience(container: dict) -> float:
    """Return half of the seconds after which the readiness probe of a container counts as failed, with Kubernetes' defaults."""
    probe = container.get("readinessProbe") or {}
    return probe.get("periodSeconds", 10) * (probe.get("failureThreshold", 3) - 1) / 2


def _words(container: dict) -> list[str]:
    return [*(container.get("command") or []), *(container.get("args") or [])]


def _load(client, model: str, sent: list, deadline: float) -> None:
    """Load a model, or wait for one that is on its way.

    :param sent: not empty once the request was sent: if its answer was lost, the index tells how it went
    :raises _triton_client.TritonError: it does not load, or the server did not answer
    """
    if sent:
        index = _settled(client, {model}, ("LOADING",), deadline)
        if model in _model_set.loaded(index):
            return
        if reason := _model_set.reason(index, model):
            raise _triton_client.TritonError(reason)
    sent.append(model)
    client.load(model)


def _unload(client, models: list[str], deadline: float) -> None:
    """Unload models and wait until their last requests are answered.

    A model that has failed keeps its server from being ready, and unloading it does not change that: an empty model takes its place first.

    :raises _triton_client.TritonError: the server refused it or did not answer, or the time is up
    """
    index = client.index() if models else []
    for model in models:
        if _model_set.state(index, model) == "FAILED":
            try:
                client.stand_in(model, [entry["version"] for entry in index if entry["name"] == model])
            except _triton_client.TritonError as error:
                raise _triton_client.TritonError(
                    f"its failure of {model} stays in the server, which is not ready until its pod is deleted ({error})", error.connection
                ) from None
        client.unload(model)
    left = _model_set.is_busy(_settled(client, set(models), ("READY", "UNLOADING", "LOADING"), deadline)) if models else set()
    if left & set(models):
        raise _triton_client.TritonError(f"{', '.join(sorted(left & set(models)))} could not be unloaded in time")


def _settled(client, models: set, states: tuple, deadline: float) -> list[dict]:
    """Return the index once none of the models is in one of these states, or when the time is up."""
    while True:
        index = client.index()
        if not any(entry["name"] in models and entry["state"] in states for entry in index) or time.monotonic() + PAUSE >= deadline:
            return index
        time.sleep(PAUSE)


def _needed(client, models: set) -> set:
    """Return the models that those are made of, as ensembles, over all steps."""
    found, ahead = set(), set(models)
    while ahead:
        parts = set(client.parts(ahead.pop()))
        ahead |= parts - found - models
        found |= parts
    return found


def _reason(told: str) -> str:
    """Return Triton's own reason out of the text of a refusal."""
    told = re.sub(r"^the server refused: (load failed for model '[^']*': )?(version \d+ is at UNAVAILABLE state: )?", "", told)
    return re.sub(r"[ ;]*\(\d+\)$", "", told)


def _failed(replicas: list[Replica]) -> list[Replica]:
    return [replica for replica in replicas if replica.problem and not replica.gone]


def _lines(first: str, replicas: list[Replica]) -> str:
    where: dict[str, list] = {}
    for replica in replicas:
        where.setdefault(replica.problem, []).append(replica.target.name)
    return "\n".join([first, *(f"{', '.join(names)}: {problem}" for problem, names in where.items())])


def check(replicas: list[Replica], wanted: _model_set.Wanted) -> None:
    """Refuse what cannot be done, before anything changes.

    :raises ControlError: a server takes no orders, or has no such model
    """
    asked = [replica for replica in replicas if not replica.waiting]
    other = [replica for replica in asked if replica.mode not in ("", "explicit")]
    if other:
        raise ControlError(
            f"Nothing was changed. {other[0].target.name} runs with triton_model_control_mode {other[0].mode}, in which Triton decides by itself which "
            "models it loads. Deploy with triton_model_control_mode=explicit first.",
            replicas,
        )
    for replica in asked if wanted.loaded else []:
        there = sorted({entry["name"] for entry in replica.index})
        unknown = [name for name in wanted.of(replica.index) if name not in there]
        if unknown:
            raise ControlError(
                f"Nothing was changed. {', '.join(unknown)} is not in the model repository, as {replica.target.name} tells; it has: "
                f"{', '.join(there) or 'no model'}. Correct the name, or publish the model first.",
                replicas,
            )


def bring(release: Release, wanted: _model_set.Wanted, check_only: bool = False) -> dict:
    """Bring every replica, and those that start meanwhile, to what is wanted, and the set of new ones too.

    :returns: ``replicas``, and the set ``before`` and ``after``, None if the Deployment has none
    :raises ControlError: it could not be done; what each replica has stands in it
    :raises _kube.RequestError: the cluster refused or did not answer
    """
    stored, replicas = release.stored(), release.replicas()
    check(replicas, wanted)
    before = _model_set.of_config_map(stored)
    asked = [replica for replica in replicas if not replica.waiting]
    if not asked and not wanted.exclusive and (wanted.loaded or _model_set.ALL in (before or [])):
        raise ControlError(
            "Nothing was changed. No replica runs that could be asked which models there are. Scale up first, or wait for one.", replicas
        )
    index = asked[0].index if asked else []
    after = None if before is None else wanted.set_after(before, index)
    if check_only:
        release.foresee(asked, wanted)
        failed = _failed(asked)
        if failed:
            raise ControlError(_lines("Not every replica answers.", failed), replicas)
        return {"replicas": replicas, "before": before, "after": after}
    _converge(release, asked, wanted, put_back=True)
    if stored and (after != before or (stored["metadata"].get("annotations") or {}).get(_model_set.AGREED) != "true"):
        release.store(stored, after)
    for _round in range(ROUNDS):
        new = release.replicas(known=replicas)
        fresh = [replica for replica in new if not replica.waiting]
        replicas = [replica for replica in replicas if replica.target.name not in {other.target.name for other in new}] + new
        if not fresh:
            break
        _converge(release, fresh, wanted, put_back=False)
    return {"replicas": [replica for replica in replicas if not replica.gone], "before": before, "after": after}


def _converge(release: Release, replicas: list[Replica], wanted: _model_set.Wanted, put_back: bool) -> None:
    release.load(replicas, wanted)
    failed = _failed(replicas)
    if failed:
        if put_back:
            release.restore(replicas)
        release.refresh(replicas)
        end = "Every replica has what it had before." if put_back and not any("put back" in replica.problem for replica in replicas) else ""
        raise ControlError(_lines(f"{len(failed)} of {len(replicas)} replicas could not load what was asked for. {end}".rstrip(), failed), replicas)
    release.unload(replicas, wanted)
    release.refresh(replicas)
    failed = _failed(replicas)
    if failed:
        raise ControlError(_lines(f"{len(failed)} of {len(replicas)} replicas could not unload what was asked for.", failed), replicas)
