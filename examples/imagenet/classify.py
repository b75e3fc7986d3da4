# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a Triton server what is in a picture. Needs: pip install 'tritonclient[http,grpc]>=2.60,<3' 'pillow>=12,<14'

Takes a model that wants pixels (and prepares them as its scaling says) or one that wants the file itself, such as image_classifier.
"""

from __future__ import annotations

import argparse
import importlib
import pathlib
import sys

import numpy
from PIL import Image

#: What is taken away from each channel's values and what they are divided by then.
SCALINGS = {"NONE": (0, 1), "INCEPTION": (127.5, 127.5), "VGG": ((123, 117, 104), 1), "TRAINED": (127, 128)}


def pixels(picture: Image.Image, size: tuple[int, int], scaling: str) -> numpy.ndarray:
    """Return the picture as float32, height x width x 3; size is (height, width).

    TRAINED looks at the middle only, as efficientnet_lite0 was trained; the others squeeze the whole picture, as Triton's image client does.
    """
    picture, resampling = picture.convert("RGB"), Image.Resampling.BILINEAR
    if scaling == "TRAINED":
        side = max(int(224 / 256 * min(picture.size)), 1)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture, resampling = picture.crop((left, top, left + side, top + side)), Image.Resampling.BICUBIC
    shift, scale = SCALINGS[scaling]
    values = numpy.asarray(picture.resize(size[::-1], resampling), numpy.float32)
    return ((values - numpy.float32(shift)) / numpy.float32(scale)).astype(numpy.float32)


def tensor(paths: list[str], wanted: dict, planar: bool, scaling: str) -> numpy.ndarray:
    """Return the pictures as one batch for the input ``wanted`` of a model's metadata. ``planar``: the channels come first."""
    if wanted["datatype"] == "BYTES":
        return numpy.array([[pathlib.Path(path).read_bytes()] for path in paths], dtype=object)
    sides = [int(side) for side in wanted["shape"][-3:]]
    size = tuple(sides[1:] if planar else sides[:2])
    batch = numpy.stack([pixels(Image.open(path), size, scaling) for path in paths])
    return batch.transpose(0, 3, 1, 2) if planar else batch


def lines(classes) -> list[str]:
    """Return one line for each answer of the classification extension, VALUE:INDEX:LABEL."""
    found = (entry.decode().split(":", 2) for entry in classes)
    return [f"    {value} ({index}) = {''.join(label)}" for value, index, *label in found]


def labelled_lines(labels, scores) -> list[str]:
    return [f"    {score:.6f} = {label.decode()}" for label, score in zip(labels, scores)]


class Model:
    """A model of a server, by tritonclient's HTTP or gRPC client; both speak JSON in the same words."""

    def __init__(self, protocol: str, url: str, name: str):
        self.library = importlib.import_module(f"tritonclient.{protocol}")
        self.client = self.library.InferenceServerClient(url)
        self.name = name
        words = {"as_json": True} if protocol == "grpc" else {}
        self.metadata = self.client.get_model_metadata(name, **words)
        config = self.client.get_model_config(name, **words)
        self.config = config.get("config", config)

    def ask(self, batch: numpy.ndarray, count: int) -> list[list[str]]:
        """Return the best ``count`` answers for each picture, as lines."""
        entry = self.metadata["inputs"][0]
        given = self.library.InferInput(entry["name"], list(batch.shape), entry["datatype"])
        given.set_data_from_numpy(batch)
        outputs = {output["name"] for output in self.metadata["outputs"]}
        if {"LABEL", "SCORE"} <= outputs:
            result = self.client.infer(self.name, [given])
            return [labelled_lines(*pair)[:count] for pair in zip(result.as_numpy("LABEL"), result.as_numpy("SCORE"))]
        name = self.metadata["outputs"][0]["name"]
        result = self.client.infer(self.name, [given], outputs=[self.library.InferRequestedOutput(name, class_count=count)])
        return [lines(classes) for classes in result.as_numpy(name).reshape(len(batch), -1)]


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-u", "--url", help="HOST:PORT of the server (localhost:8000, with gRPC localhost:8001)")
    parser.add_argument("-i", "--protocol", choices=["http", "grpc"], type=str.lower, default="http")
    parser.add_argument("-m", "--model", default="efficientnet_lite0", help="the model's name (%(default)s)")
    parser.add_argument("-s", "--scaling", choices=SCALINGS, default="TRAINED", help="how pixels become numbers (%(default)s)")
    parser.add_argument("-c", "--classes", type=int, default=1, metavar="N", help="how many answers for each picture (%(default)s)")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a picture; several make one batch")
    chosen = parser.parse_args(given)
    chosen.url = chosen.url or {"http": "localhost:8000", "grpc": "localhost:8001"}[chosen.protocol]
    return chosen


def main() -> None:
    chosen = arguments()
    try:
        model = Model(chosen.protocol, chosen.url, chosen.model)
        planar = model.config["input"][0].get("format") != "FORMAT_NHWC"
        answers = model.ask(tensor(chosen.images, model.metadata["inputs"][0], planar, chosen.scaling), chosen.classes)
    except Exception as error:  # The clients raise their own kinds and those of the libraries below them.
        sys.exit(f"{chosen.model} at {chosen.url}: {error}")
    print(f"Request 0, batch size {len(chosen.images)}")
    for path, answer in zip(chosen.images, answers):
        print("\n".join([f"Image '{path}':", *answer]))


if __name__ == "__main__":
    main()
