#!/usr/bin/env python
"""Load a release until it has all its replicas, then let it go; report the seconds of each step and the lost requests as JSON.

python molecule/autoscaling/load_and_watch.py KUBECONFIG NAMESPACE DEPLOYMENT
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile
import time

from kubernetes import client, config

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLIENTS, FEW, MOST, LEAST = 12, 1, 3, 1
#: Seconds until it must have happened.
UP, DOWN = 120, 120


def load(url: str, clients: int, pause: float, folder: pathlib.Path) -> tuple[subprocess.Popen, pathlib.Path]:
    """Start clients that ask until the returned file exists."""
    stop = folder / f"stop-{clients}"
    argv = [sys.executable, str(ROOT / "benchmarks/load.py"), "--url", url, "--connections", "fresh", "--clients", str(clients), "--processes", "1"]
    argv += ["--model", "paced", "--models", str(ROOT / "molecule/autoscaling/models"), "--pause", str(pause), "--stop-file", str(stop)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True), stop


def main() -> int:
    kubeconfig, namespace, name = sys.argv[1:]
    config.load_kube_config(kubeconfig)
    apps, core = client.AppsV1Api(), client.CoreV1Api()

    def count() -> tuple[int, int]:
        found = apps.read_namespaced_deployment(name, namespace)
        return found.spec.replicas, found.status.ready_replicas or 0

    def seconds_until(condition, limit: float) -> float:
        begin = time.monotonic()
        while not condition(*count()):
            if time.monotonic() - begin > limit:
                raise SystemExit(f"after {limit} s there are {count()} (wanted, ready) replicas")
            time.sleep(0.25)
        return round(time.monotonic() - begin, 1)

    url = f"http://{address(core, namespace, name)}"
    with tempfile.TemporaryDirectory() as scratch:
        # Somebody asks all the time: replicas leave under load, too.
        few, end = load(url, FEW, 0.1, pathlib.Path(scratch))
        many, enough = load(url, CLIENTS, 0.0, pathlib.Path(scratch))
        figures = {"wanted_after": seconds_until(lambda wanted, ready: wanted > LEAST, UP)}
        figures["all_ready_after"] = round(figures["wanted_after"] + seconds_until(lambda wanted, ready: ready == MOST, UP), 1)
        figures["most"] = count()[1]
        time.sleep(5)
        enough.touch()
        report = json.loads(many.communicate()[0])
        figures["back_after"] = seconds_until(lambda wanted, ready: wanted == LEAST and ready == LEAST, DOWN)
        figures["least"] = count()[0]
        gone = "app=triton-inference-server"
        begin = time.monotonic()
        while len(core.list_namespaced_pod(namespace, label_selector=gone).items) > LEAST and time.monotonic() - begin < DOWN:
            time.sleep(0.25)
        end.touch()
        other = json.loads(few.communicate()[0])
    figures |= {key: report[key] + other[key] for key in ("sent", "lost")}
    print(json.dumps(figures))
    return 0


def address(core, namespace: str, name: str) -> str:
    service = core.read_namespaced_service(name, namespace)
    ports = {port.port: port.node_port for port in service.spec.ports}
    node = core.list_node(label_selector="node-role.kubernetes.io/control-plane").items[0]
    return next(entry.address for entry in node.status.addresses if entry.type == "InternalIP") + f":{ports[8000]}"


if __name__ == "__main__":
    sys.exit(main())
