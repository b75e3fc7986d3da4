#!/usr/bin/env python
"""Send one inference again and again from several clients; report how many were answered, how fast, and what failed.

Runs from a checkout:

    python benchmarks/load.py --url http://172.18.255.201:8000 --model simple --clients 8 --seconds 60 --report load.json

In the background, while something else happens, it goes on until --stop-file appears or it gets SIGTERM or SIGINT, and then writes its report. It ends with
1 if a request was lost, and with 2 if no load was made.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import signal
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.mlserving.triton.plugins.module_utils import (  # noqa: E402
    _load,
    _load_request,
    _tensors,
    _triton_client,
    _verify,
    _verify_cases,
)

#: A load that nobody stops ends after so many seconds.
LONGEST = 3600.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="http://HOST:PORT, or HOST:PORT for gRPC, with grpcs:// before it for TLS")
    parser.add_argument("--protocol", choices=("http", "grpc"), default="http")
    parser.add_argument("--connections", choices=("kept", "fresh"), default="kept", help="kept open, or a new one for each request")
    parser.add_argument("--clients", type=int, default=8, help="how many ask at a time (default: 8)")
    parser.add_argument("--seconds", type=float, help=f"end after so many seconds (default: 10, or {LONGEST:.0f} with --count or --stop-file)")
    parser.add_argument("--count", type=int, help="end after so many requests")
    parser.add_argument("--stop-file", type=pathlib.Path, metavar="FILE", help="end when this file appears")
    parser.add_argument("--warm-up", type=float, default=0.0, metavar="SECONDS", help="requests that are not counted, before (default: 0)")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="for one request (default: 10)")
    parser.add_argument("--pause", type=float, default=0.0, metavar="SECONDS", help="of each client after an answer (default: 0)")
    parser.add_argument("--wait", type=float, default=10.0, metavar="SECONDS", help="for a server that does not answer yet (default: 10)")
    parser.add_argument("--model", default="simple", help="the model to ask (default: simple)")
    parser.add_argument(
        "--models", default=str(ROOT / "examples" / "models"), metavar="FOLDER", help="where MODEL/verify.yml holds its inputs and outputs"
    )
    parser.add_argument(
        "--case", type=json.loads, metavar="JSON", help="inputs and outputs in place of these, as the module triton_verify has a case"
    )
    parser.add_argument("--header", action="append", default=[], metavar="NAME=VALUE", help="to send with each request")
    parser.add_argument("--ca-file", default="", help="certificates (PEM) to trust")
    parser.add_argument("--processes", type=int, help="that share the clients (default: one for each core)")
    parser.add_argument("--report", type=pathlib.Path, metavar="FILE", help="write the report here (default: to the output)")
    return parser.parse_args()


def make(options: argparse.Namespace, stop) -> dict:
    """Make the load; return its report.

    :raises Exception: those that main() knows
    """
    if options.case is not None:
        case, inputs = _verify.prepare([(os.getcwd(), {"model": options.model, **options.case})])[0], "--case"
    else:
        case, inputs = _load_request.case_of(options.model, options.models)
    headers = dict(entry.partition("=")[::2] for entry in options.header)
    endless = options.count is not None or options.stop_file
    job = _load_request.job(
        case,
        options.protocol,
        options.url,
        time.monotonic() + options.wait,
        _triton_client.Access(ca=options.ca_file, headers=headers),
        fresh=options.connections == "fresh",
        clients=options.clients,
        seconds=options.seconds if options.seconds is not None else (LONGEST if endless else 10.0),
        count=options.count,
        warm_up=options.warm_up,
        timeout=options.timeout,
        pause=options.pause,
    )
    about = {"url": options.url, "protocol": options.protocol, "connections": options.connections, "clients": options.clients}
    return about | {"model": case.model, "inputs": inputs} | _load.run(job, stop, options.processes)


def main() -> int:
    options, signals = arguments(), []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: signals.append(signal.Signals(received).name))

    def stop() -> str:
        return signals[0] if signals else "stop file" if options.stop_file and options.stop_file.exists() else ""

    if _triton_client.IMPORT_ERROR:
        print(f"Install {_triton_client.REQUIREMENT}.", file=sys.stderr)
        return 2
    try:
        report = make(options, stop)
    except (_load_request.LoadError, _verify_cases.CasesError, _tensors.CaseError) as error:
        print(error, file=sys.stderr)
        return 2
    text = json.dumps(report, indent=2) + "\n"
    if options.report:
        # Whoever waits for the file finds it whole.
        partial = options.report.with_name(f".{options.report.name}.part")
        partial.write_text(text, encoding="utf-8")
        partial.replace(options.report)
    else:
        sys.stdout.write(text)
    return 1 if report["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
