# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns one input of a verification case, written as data, a file or a fill, into a tensor. PRIVATE to the collection.

An input is a dict: name, one of data, file, fill, and optionally datatype, shape, seed, scaling. What it leaves out comes from the
model's metadata, {"inputs": [{"name", "datatype", "shape"}]} as Triton's v2 protocol returns it, where -1 is a dimension left open.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os

from ansible_collections.mlserving.triton.plugins.module_utils import _tensors

try:
    import numpy
except ImportError:
    # The modules report it through _triton_client.IMPORT_ERROR before anything here is called.
    numpy = None

SOURCES = ("data", "file", "fill")
FILLS = ("zeros", "ones", "random")
SCALINGS = ("NONE", "INCEPTION", "VGG")
IMAGES = (".png", ".jpg", ".jpeg")
#: numpy has no BF16: it is float32 here, and who sends it makes BF16 of it (tritonclient itself does so before 2.70).
DTYPES = {**_tensors.DATATYPES, "BF16": "float32"}
#: Pixels are 0 to 255, which these do not hold.
NOT_FOR_PIXELS = ("BOOL", "INT8")
OPEN = -1
LARGEST_FILE = 64 * 2**20
#: A request ends at 2 GiB; this many values of FP64 fill it.
MOST_VALUES = 2**28
LARGEST_SEED = 2**32 - 1
#: Random floats are multiples of 1/256, which BF16 and FP16 hold exactly, so that none is rounded up to 1.
FLOAT_STEPS = 256
RANDOM_TEXT_LENGTH = 8


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """The tensor to build. ``shape`` may have open dimensions; ``where`` begins every error."""

    datatype: str
    shape: list[int]
    scaling: str
    where: str

    @property
    def dtype(self) -> str:
        return DTYPES[self.datatype]

    def closed(self, own=None) -> list[int]:
        """Return the shape with its open dimensions taken from ``own``, the source's shape, if that has the same rank; else 1.

        :raises CaseError: the tensor would not fit into a request
        """
        if own is None or len(own) != len(self.shape):
            own = [1] * len(self.shape)
        shape = [int(given) if wanted == OPEN else wanted for wanted, given in zip(self.shape, own)]
        if math.prod(shape) > MOST_VALUES:
            raise self.error(f"shape {shape} holds {math.prod(shape)} values, at most {MOST_VALUES} fit into a request. Choose a smaller shape.")
        return shape

    def error(self, text: str) -> _tensors.CaseError:
        return _tensors.CaseError(f"{self.where}: {text}")


def needs_metadata(tensor: dict) -> bool:
    """Whether the data type or the shape of this input have to come from the server."""
    return not tensor.get("datatype") or tensor.get("shape") is None


def build(tensor: dict, metadata: dict | None, folder: str, where: str):
    """Return (data type, array) of an input; the array is float32 for BF16, and holds bytes objects for BYTES.

    :param metadata: the model's, or None if ``tensor`` has datatype and shape
    :param folder: what ``file`` is relative to
    :param where: begins every error, such as "the case of model M, input N"
    :raises CaseError: the input contradicts itself or the metadata, or its file cannot be used
    """
    given = [source for source in SOURCES if tensor.get(source) is not None]
    if len(given) != 1:
        raise _tensors.CaseError(f"{where}: it has {' and '.join(given) or 'no values'}. Give exactly one of {', '.join(SOURCES)}.")
    scaling = tensor.get("scaling") or "NONE"
    if scaling not in SCALINGS:
        raise _tensors.CaseError(f"{where}: scaling is {scaling!r}. Choose one of {', '.join(SCALINGS)}.")
    wanted = _Wanted(*_declared(tensor, metadata, where), scaling, where)
    if given == ["file"]:
        array = _from_file(os.path.join(folder, tensor["file"]), wanted)
    else:
        _expect_no_scaling(wanted)
        array = _listed(tensor["data"], wanted) if given == ["data"] else _filled(tensor["fill"], tensor.get("seed"), wanted)
    return wanted.datatype, array


def expected(tensor: dict, folder: str, where: str):
    """Return the values of an expected output that stands in a file: an array, of bytes objects for texts, or a list of what JSON holds.

    :param tensor: with ``file``, and datatype and shape where the file does not tell them
    :raises CaseError: the file cannot be used
    """
    if tensor.get("datatype") and tensor.get("shape") is not None:
        return build({"name": tensor["name"], **{key: tensor[key] for key in ("file", "datatype", "shape")}}, None, folder, where)[1]
    path = os.path.join(folder, tensor["file"])
    wanted = _Wanted("", [], "NONE", f"{where}: file {tensor['file']}")
    extension = os.path.splitext(path)[1].lower()
    if extension not in (".npy", ".json"):
        raise wanted.error("give the output's datatype and shape, or use a .npy or .json file, which tells them.")
    content = _content(path, wanted)
    try:
        data = json.loads(content) if extension == ".json" else numpy.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # The decoder of numpy raises whatever a broken file leads it to.
        raise wanted.error(f"it cannot be read as {extension}: {error or type(error).__name__}. Write the file again.") from None
    if extension == ".json" and not isinstance(data, list):
        raise wanted.error("it must hold a list of values.")
    if extension == ".json":
        _expect_plain(data, wanted)
    if extension == ".npy" and data.dtype.kind in "SU":
        return _texts([text.encode() if isinstance(text, str) else text for text in data.reshape(-1).tolist()], list(data.shape))
    return data


def _declared(tensor: dict, metadata: dict | None, where: str) -> tuple[str, list[int]]:
    """Return (data type, shape with -1 for open dimensions), from the input and the metadata together."""
    known = _known(tensor["name"], metadata, where)
    datatype = tensor.get("datatype") or known.get("datatype")
    if not datatype or (tensor.get("shape") is None and not known):
        raise _tensors.CaseError(f"{where}: the model's metadata is not known. Give the input's datatype and shape.")
    if datatype not in DTYPES:
        raise _tensors.CaseError(f"{where}: the data type is {datatype!r}. It must be one of {', '.join(DTYPES)}.")
    if datatype != known.get("datatype", datatype):
        raise _tensors.CaseError(f"{where}: datatype is {datatype}, the model takes {known['datatype']}. Leave datatype out, or correct it.")
    given = None if tensor.get("shape") is None else _dimensions(tensor["shape"], where)
    models = _dimensions(known.get("shape", []), where) if known else given
    given = models if given is None else given
    if len(given) != len(models) or any(OPEN not in pair and pair[0] != pair[1] for pair in zip(given, models)):
        raise _tensors.CaseError(f"{where}: shape is {given}, the model takes {models} (-1: any). Leave shape out, or correct it.")
    return datatype, [known_dim if dim == OPEN else dim for dim, known_dim in zip(given, models)]


def _known(name: str, metadata: dict | None, where: str) -> dict:
    """Return the metadata of one input, empty if there is no metadata."""
    if metadata is None:
        return {}
    inputs = {entry["name"]: entry for entry in metadata.get("inputs") or []}
    if name not in inputs:
        raise _tensors.CaseError(f"{where}: the model has no input {name}; its inputs are: {', '.join(sorted(inputs)) or 'none'}. Correct the name.")
    return inputs[name]


def _dimensions(shape, where: str) -> list[int]:
    """Return a shape as numbers; metadata by gRPC has them as texts."""
    try:
        dimensions = [int(dimension) for dimension in shape]
    except (TypeError, ValueError):
        dimensions = [OPEN - 1]
    if isinstance(shape, str) or any(dimension < OPEN for dimension in dimensions):
        raise _tensors.CaseError(f"{where}: shape is {shape!r}. Give a list of numbers from 0; -1 leaves a dimension open.")
    return dimensions


def _expect_no_scaling(wanted: _Wanted) -> None:
    if wanted.scaling != "NONE":
        raise wanted.error(f"scaling {wanted.scaling} is for image files ({', '.join(IMAGES)}) that become numbers. Remove scaling.")


def _listed(data, wanted: _Wanted):
    """Return the array of a list, nested or flat; one single value fills it."""
    if not isinstance(data, list):
        raise wanted.error(f"the values are a {type(data).__name__}. Write a list, nested or flat.")
    shape = wanted.closed(_nesting(data))
    datatype, where = wanted.datatype, wanted.where
    if datatype == "BF16":
        datatype, where = "FP32", f"{where} (BF16 is written as FP32)"
    try:
        return _tensors.array(datatype, shape, data, where)
    except OverflowError:
        raise wanted.error(f"a value does not fit into {wanted.datatype}. Choose values within its range.") from None


def _nesting(data) -> list[int]:
    shape = []
    while isinstance(data, list):
        shape.append(len(data))
        data = data[0] if data else None
    return shape


def _filled(fill: str, seed: int | None, wanted: _Wanted):
    """Return zeros, ones or random values: integers from 0 to 9, floats of [0, 1), lower-case ASCII texts.

    Everything comes of RandomState.random_sample, whose stream numpy keeps the same in all versions.
    """
    if fill not in FILLS:
        raise wanted.error(f"fill is {fill!r}. Choose one of {', '.join(FILLS)}.")
    seed = 0 if seed is None else seed
    if not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise wanted.error(f"seed is {seed!r}. Choose a whole number from 0 to {LARGEST_SEED}.")
    shape = wanted.closed()
    count = math.prod(shape)
    if wanted.datatype == "BYTES":
        return _texts(_random_texts(seed, count) if fill == "random" else [{"zeros": b"", "ones": b"1"}[fill]] * count, shape)
    if fill != "random":
        return numpy.full(shape, FILLS.index(fill), dtype=wanted.dtype)
    real = wanted.dtype.startswith("float")
    steps = FLOAT_STEPS if real else 2 if wanted.datatype == "BOOL" else 10
    numbers = numpy.floor(numpy.random.RandomState(seed).random_sample(count) * steps)
    return (numbers / steps if real else numbers).astype(wanted.dtype).reshape(shape)


def _random_texts(seed: int, count: int) -> list[bytes]:
    letters = numpy.random.RandomState(seed).random_sample((count, RANDOM_TEXT_LENGTH)) * 26 + ord("a")
    return [row.tobytes() for row in letters.astype("uint8")]


def _texts(values: list[bytes], shape: list[int]):
    """Return an array of bytes objects; numpy's own constructors take trailing zero bytes away."""
    array = numpy.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(shape)


def _from_file(path: str, wanted: _Wanted):
    """Return the array of a file, read as its extension says."""
    wanted = dataclasses.replace(wanted, where=f"{wanted.where}, file {path}")
    extension = os.path.splitext(path)[1].lower()
    if extension not in READERS:
        raise wanted.error(f"the extension {extension!r} is not known. Use one of {', '.join(READERS)}.")
    if extension not in IMAGES or wanted.datatype == "BYTES":
        _expect_no_scaling(wanted)
    content = _content(path, wanted)
    try:
        return READERS[extension](content, wanted)
    except _tensors.CaseError:
        raise
    except Exception as error:  # The decoders raise whatever a broken file leads them to, SyntaxError and MemoryError among it.
        raise wanted.error(f"it cannot be read as {extension}: {error or type(error).__name__}. Write the file again.") from None


def _content(path: str, wanted: _Wanted) -> bytes:
    if not os.path.isfile(path):
        raise wanted.error("there is no such file. Correct the path; it is relative to the folder of the case.")
    try:
        with open(path, "rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise wanted.error(f"it cannot be opened: {error.strerror}. Make it readable.") from None
    if len(content) > LARGEST_FILE:
        raise wanted.error(f"it is larger than {LARGEST_FILE // 2**20} MiB. Use a smaller one.")
    return content


def _from_npy(content: bytes, wanted: _Wanted):
    """Return the array of a .npy file, in exactly the wanted shape."""
    array = numpy.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    shape = wanted.closed(array.shape)
    if list(array.shape) != shape:
        raise wanted.error(f"its shape is {list(array.shape)}, the input's is {wanted.shape} (-1: any). Save the array in that shape.")
    if wanted.datatype == "BYTES" and array.dtype.kind in "SU":
        return _texts([text.encode() if isinstance(text, str) else text for text in array.reshape(-1).tolist()], shape)
    if wanted.datatype == "BYTES" or not _tensors.converts(array, wanted.dtype):
        raise wanted.error(f"its {array.dtype} values do not fit into {wanted.datatype} without loss. Save the array as {_saved_as(wanted)}.")
    return numpy.ascontiguousarray(array, dtype=wanted.dtype).reshape(shape)


def _saved_as(wanted: _Wanted) -> str:
    return "texts (numpy S or U)" if wanted.datatype == "BYTES" else wanted.dtype


def _from_json(content: bytes, wanted: _Wanted):
    data = json.loads(content)
    _expect_plain(data, wanted)
    return _listed(data, wanted)


def _expect_plain(data, wanted: _Wanted) -> None:
    for value in _tensors.flat(data) if isinstance(data, list) else []:
        if not isinstance(value, (str, int, float)):
            raise wanted.error(f"it holds {value!r} among its values. Write numbers, texts, true and false in lists, nested or flat.")


def _from_text(content: bytes, wanted: _Wanted):
    """Return the whole file, as it is, as every value of the tensor."""
    if wanted.datatype != "BYTES":
        raise wanted.error(f"it becomes one text, the input is {wanted.datatype}. Use a .npy, .json or .bin file.")
    shape = wanted.closed()
    return _texts([content] * math.prod(shape), shape)


def _from_raw(content: bytes, wanted: _Wanted):
    """Return the array of little-endian bytes without a header."""
    if wanted.datatype == "BYTES":
        raise wanted.error("raw bytes have no bounds between texts. For BYTES use a .txt, .json or .npy file.")
    shape = wanted.closed()
    stored = numpy.dtype("uint16" if wanted.datatype == "BF16" else wanted.dtype).newbyteorder("<")
    size = math.prod(shape) * stored.itemsize
    if len(content) != size:
        raise wanted.error(
            f"it has {len(content)} bytes; {wanted.datatype} of shape {shape} takes {size}. Correct the file, or give the input's shape."
        )
    if wanted.datatype == "BOOL" and content.strip(b"\0\1"):
        raise wanted.error("it has bytes other than 0 and 1, which BOOL does not. Correct the file, or the data type.")
    array = numpy.frombuffer(content, dtype=stored).reshape(shape)
    if wanted.datatype == "BF16":
        # BF16 is the upper half of a float32.
        return (array.astype("uint32") << numpy.uint32(16)).view("float32")
    return array.astype(wanted.dtype)


def _from_image(content: bytes, wanted: _Wanted):
    """Return an image as Triton's image client prepares it (the whole picture squeezed to H x W); for BYTES the file itself.

    The shape is [C, H, W] or [H, W, C], with or without a batch in front, every place of which gets the image. An open H or W is the image's own.
    """
    if wanted.datatype == "BYTES":
        return _from_text(content, wanted)
    planar = _is_planar(wanted)
    if wanted.datatype in NOT_FOR_PIXELS or (wanted.scaling != "NONE" and not wanted.dtype.startswith("float")):
        raise wanted.error(
            f"an image with the scaling {wanted.scaling} does not fit into {wanted.datatype}. "
            "Floats hold every scaling; UINT8 and the wider integers hold NONE: choose such an input or scaling."
        )
    image = _pillow(wanted)
    # Only the decoders the extensions name, not all that Pillow has.
    picture = image.open(io.BytesIO(content), formats=["PNG", "JPEG"])
    channels = wanted.shape[-3 if planar else -1]
    sides = [picture.height, picture.width]
    shape = wanted.closed([1] * (len(wanted.shape) - 3) + ([channels, *sides] if planar else [*sides, channels]))
    height, width = shape[-2:] if planar else shape[-3:-1]
    picture = picture.convert("L" if channels == 1 else "RGB").resize((width, height), image.Resampling.BILINEAR)
    pixels = _scaled(numpy.array(picture).reshape(height, width, channels).astype(wanted.dtype), wanted.scaling)
    return numpy.array(numpy.broadcast_to(pixels.transpose(2, 0, 1) if planar else pixels, shape), order="C")


def _is_planar(wanted: _Wanted) -> bool:
    """Whether the channels come before height and width; they are the dimension that is 1 or 3."""
    first, last = (wanted.shape[place] in (1, 3) if len(wanted.shape) in (3, 4) else False for place in (-3, -1))
    if first == last:
        raise wanted.error(
            f"shape {wanted.shape} does not tell where an image's channels are: [C, H, W] or [H, W, C], with or without a batch in front, "
            "where C is 1 or 3 and W or H is not. Give such a shape, or prepare the tensor as a .npy file."
        )
    return first


def _pillow(wanted: _Wanted):
    try:
        from PIL import Image
    except ImportError:
        raise wanted.error("images need Pillow on the machine that runs the verification: pip install pillow") from None
    return Image


def _scaled(pixels, scaling: str):
    """Return pixels, height x width x channels, scaled in their own data type."""
    if scaling == "INCEPTION":
        return pixels / 127.5 - 1
    if scaling == "VGG":
        return pixels - numpy.array((128,) if pixels.shape[-1] == 1 else (123, 117, 104), dtype=pixels.dtype)
    return pixels


READERS = {
    ".npy": _from_npy,
    ".json": _from_json,
    ".txt": _from_text,
    ".bin": _from_raw,
    ".raw": _from_raw,
    **dict.fromkeys(IMAGES, _from_image),
}
