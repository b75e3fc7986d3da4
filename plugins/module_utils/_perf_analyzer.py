# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures with NVIDIA's perf_analyzer, where it is installed. PRIVATE to the collection.

Its packages on PyPI from 2.58 on need glibc 2.38; elsewhere pip installs an empty placeholder, 0.1.0. The package's launcher ends with 0 whatever happened,
so that only the file it writes says that it measured.
"""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from ansible_collections.mlserving.triton.plugins.module_utils import _load_request, _triton_client, _verify
from ansible_collections.mlserving.triton.plugins.module_utils._load_request import Address, LoadError

try:
    import tritonclient.grpc
    import tritonclient.http
    from tritonclient.utils import InferenceServerException
except ImportError:
    tritonclient = None  # The modules report it through _triton_client.IMPORT_ERROR before anything here is called.

NAME = "perf_analyzer"
#: It measures in windows, and averages over so many.
WINDOWS = 3
#: Any deviation between the windows will do: the time for a step is given.
STABILITY = 999
#: Seconds that it may take beside the windows.
SPARE_SECONDS = 60
#: Heading in its file -> key of a latency, in microseconds there.
LATENCIES = {"Avg latency": "mean", **{f"p{percent} latency": f"p{percent}" for percent in (50, 90, 95, 99)}}


def find() -> tuple[str, str]:
    """Return (its path or nothing, why it cannot be used or nothing)."""
    path = shutil.which(NAME) or shutil.which(NAME, path=os.path.dirname(sys.executable))
    if not path:
        return "", f"{NAME} is neither on PATH nor beside {sys.executable}"
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"{path} does not run: {error}"
    if "Version" not in said.stdout + said.stderr or "not found" in said.stderr:
        return "", f"{path} does not run: {_last_line(said.stderr) or 'it says nothing'}"
    return path, ""


def unfit(case: _verify.Case, secure: bool, fresh: bool, headers: bool) -> str:
    """Return why it cannot send this load, an empty text if it can.

    :param headers: whether there are any: they hold keys, and it takes them on its command line only
    """
    reasons = {"headers": headers, "TLS": secure, "fresh connections": fresh, "JSON": case.json, "classes": any(case.wanted.values())}
    found = [name for name, there in reasons.items() if there]
    return f"{NAME} is not used with {', '.join(found)}" if found else ""


def largest_batch(case: _verify.Case, protocol: str, place: Address, access: _triton_client.Access) -> int:
    """Return the model's max_batch_size; of 0, the first dimension of its tensors is none of a batch.

    :raises LoadError: the server does not tell it
    """
    library = {"http": tritonclient.http, "grpc": tritonclient.grpc}[protocol]
    options = {"as_json": True} if protocol == "grpc" else {}
    try:
        with library.InferenceServerClient(place.name + place.path) as client:
            config = client.get_model_config(case.model, case.version, headers=access.headers_for(protocol), **options)
    except (OSError, InferenceServerException) as error:
        raise LoadError(f"{place.name} does not tell the configuration of model {case.model}: {error}. Choose the tool builtin.") from None
    return int(config.get("config", config).get("max_batch_size", 0))


def data(inputs: dict, batch: int) -> dict:
    """Return the content of the file it reads its inputs from; of a batch each part is an entry.

    :param inputs: name -> (data type, array)
    :param batch: how many there are in the first dimension of all, 0 if that is none of a batch
    """
    entries = []
    for number in range(batch or 1):
        entry = {}
        for name, (datatype, array) in inputs.items():
            part = array[number] if batch else array
            shape = list(part.shape) if hasattr(part, "shape") else []
            if datatype == "BYTES":
                entry[name] = {"content": [text.decode() for text in part.reshape(-1)], "shape": shape}
            else:
                entry[name] = {"b64": base64.b64encode(_load_request.raw(datatype, part)).decode(), "shape": shape}
        entries.append(entry)
    return {"data": entries}


class Runner:
    """Measures one case at one address."""

    def __init__(self, path: str, protocol: str, place: Address, case: _verify.Case, inputs: dict, largest_batch: int):
        self._path, self._protocol, self._place, self._case = path, protocol, place, case
        self._batch = len(next(iter(inputs.values()))[1]) if largest_batch else 0
        self._inputs = data(inputs, self._batch)

    def command(self, folder: str, concurrency: int, seconds: float) -> list[str]:
        address = self._place.name + self._place.path
        words = [self._path, "-m", self._case.model, "-i", self._protocol, "-u", address, "-b", str(self._batch or 1)]
        words += ["-x", self._case.version] if self._case.version else []
        words += ["--input-data", os.path.join(folder, "inputs.json"), "--concurrency-range", f"{concurrency}:{concurrency}"]
        words += ["--measurement-interval", str(max(1, round(seconds * 1000 / WINDOWS))), "--max-trials", str(WINDOWS)]
        words += ["--stability-percentage", str(STABILITY), "--warmup-request-count", str(10 * concurrency)]
        return [*words, "-f", os.path.join(folder, "out.csv"), "--verbose-csv"]

    def measure(self, concurrency: int, seconds: float) -> dict:
        """Return throughput, latency (mean and percentiles in milliseconds), sent and lost.

        :raises LoadError: it did not measure; the text ends with what it said
        """
        with tempfile.TemporaryDirectory(prefix="perf-analyzer-") as folder:
            with open(os.path.join(folder, "inputs.json"), "w", encoding="utf-8") as stream:
                json.dump(self._inputs, stream)
            words, most = self.command(folder, concurrency, seconds), seconds + SPARE_SECONDS
            try:
                said = subprocess.run(words, capture_output=True, text=True, timeout=most, check=False)
            except subprocess.TimeoutExpired:
                raise LoadError(f"{NAME} did not end within {most:.0f} seconds.") from None
            except OSError as error:
                raise LoadError(f"{NAME} does not run: {error}. Choose the tool builtin.") from None
            try:
                with open(os.path.join(folder, "out.csv"), encoding="utf-8") as stream:
                    rows = list(csv.DictReader(stream))
            except OSError:
                raise LoadError(f"{NAME} did not measure: {_last_line(said.stderr) or _last_line(said.stdout) or 'it says nothing'}") from None
        return parsed(rows, said.stdout)


def parsed(rows: list[dict], said: str) -> dict:
    """Return what :meth:`Runner.measure` returns.

    :param rows: of its file
    :param said: its output
    :raises LoadError: the file is not as expected
    """
    try:
        latency = {key: float(rows[0][heading]) / 1000 for heading, key in LATENCIES.items()}
        throughput = float(rows[0]["Inferences/Second"])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise LoadError(f"{NAME} wrote a file that is not as expected: {type(error).__name__} {error}. Choose the tool builtin.") from None
    counted = re.search(r"Request count: (\d+)", said)
    return {"throughput": throughput, "latency": latency, "sent": int(counted.group(1)) if counted else 0, "lost": 0}


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
