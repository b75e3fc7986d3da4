# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the tensors of a file that torch.save wrote before torch 1.6, without torch.

Such a file is five pickles (a magic number, the protocol, the system, the tensors by name, the keys of their storages) and
then, for each key, a count of elements and the elements themselves.
"""

from __future__ import annotations

import collections
import dataclasses
import pickle
import struct

import numpy

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
ELEMENTS = {"FloatStorage": numpy.dtype("<f4"), "LongStorage": numpy.dtype("<i8")}


class FormatError(Exception):
    """The file is not what torch.save wrote, or holds what this reader does not take."""


@dataclasses.dataclass
class Storage:
    """A run of elements; its values come after the pickles that name it."""

    dtype: numpy.dtype
    count: int
    values: numpy.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class View:
    """A tensor: a part of a storage. ``offset`` and ``strides`` are in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> numpy.ndarray:
        dtype = self.storage.dtype
        strides = [stride * dtype.itemsize for stride in self.strides]
        return numpy.ndarray(self.shape, dtype, self.storage.values, self.offset * dtype.itemsize, strides)


def rebuild_tensor(storage, offset, shape, strides, *_gradient):
    return View(storage, offset, tuple(shape), tuple(strides))


#: All that a pickle may name. Anything else could run code.
ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    **{("torch", name): dtype for name, dtype in ELEMENTS.items()},
}


class Unpickler(pickle.Unpickler):
    def __init__(self, stream):
        super().__init__(stream)
        self.storages: dict[str, Storage] = {}

    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise FormatError(f"the file names {module}.{name}, which is no part of a file of tensors.")
        return ALLOWED[module, name]

    def persistent_load(self, pid):
        kind, dtype, key, _location, count, _view = pid
        if kind != "storage":
            raise FormatError(f"the file refers to a {kind}; only storages are read.")
        return self.storages.setdefault(key, Storage(dtype, count))


def read(stream) -> dict[str, numpy.ndarray]:
    """Return the tensors by name.

    :param stream: a binary file, at its beginning
    :raises FormatError: it is something else
    """
    try:
        if Unpickler(stream).load() != MAGIC or Unpickler(stream).load() != PROTOCOL:
            raise FormatError("the file does not begin as torch.save began files before torch 1.6.")
        Unpickler(stream).load()
        tensors = Unpickler(stream)
        views = tensors.load()
        for key in Unpickler(stream).load():
            _fill(tensors.storages[key], stream)
        return {name: view.array() for name, view in views.items()}
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, struct.error) as error:
        raise FormatError(f"the file is damaged: {error}") from None


def _fill(storage: Storage, stream) -> None:
    (count,) = struct.unpack("<q", stream.read(8))
    data = stream.read(count * storage.dtype.itemsize)
    if count != storage.count or len(data) != count * storage.dtype.itemsize:
        raise FormatError(f"a storage should hold {storage.count} elements; {len(data)} bytes for {count} were found.")
    storage.values = numpy.frombuffer(data, storage.dtype)
