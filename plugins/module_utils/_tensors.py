# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values as people write them, and tensors made of them. PRIVATE to the collection."""

from __future__ import annotations

import math

try:
    import numpy
except ImportError:
    # The modules report it through _triton_client.IMPORT_ERROR before anything here is called.
    numpy = None

#: Triton data type -> name of the numpy type; BYTES is an array of objects.
DATATYPES = {
    "BOOL": "bool",
    **{f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BYTES": "object",
}


class CaseError(Exception):
    """A case cannot be sent as it is written; the text names the case and what to write."""


def array(datatype: str, shape: list[int], data: list, where: str):
    values = [value_of(datatype, value, where) for value in flat(data)]
    if len(values) == 1:
        # One value fills the tensor, so that an image need not be written out.
        values *= math.prod(shape)
    expect_count(values, shape, where)
    try:
        return numpy.array(values, dtype=DATATYPES[datatype]).reshape(shape)
    except OverflowError:
        raise CaseError(f"{where}: a value does not fit into {datatype}. Choose values within its range.") from None


def flat(data: list) -> list:
    return [leaf for item in data for leaf in (flat(item) if isinstance(item, list) else [item])]


def expect_count(values: list, shape: list[int], where: str) -> None:
    wanted = math.prod(shape)
    if len(values) != wanted:
        raise CaseError(f"{where}: shape {shape} holds {wanted} values, data has {len(values)}. Correct the one or the other.")


def value_of(datatype: str, value, where: str):
    """Return a YAML value as numpy takes it for this data type; texts that hold numbers come out of templates."""
    try:
        if datatype == "BYTES":
            return str(value).encode()
        if datatype == "BOOL":
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if datatype.startswith(("FP", "BF")):
            return float(value)
        if isinstance(value, float) and not value.is_integer():
            raise ValueError
        return int(value)
    except OverflowError:
        raise CaseError(f"{where}: a value does not fit into {datatype}. Choose values within its range.") from None
    except (ValueError, TypeError, KeyError):
        raise CaseError(f"{where}: {value!r} is not a value of type {datatype}. Write it as that type.") from None


def converts(array, dtype: str) -> bool:
    """Whether every value of ``array`` is a value of the numpy type ``dtype`` too."""
    dtype = numpy.dtype(dtype)
    if array.dtype.kind not in "biuf":
        return False
    if array.dtype == dtype or not array.size:
        return True
    if array.dtype.kind == dtype.kind == "f":
        with numpy.errstate(all="ignore"):
            return numpy.array_equal(array.astype(dtype).astype(array.dtype), array, equal_nan=True)
    if array.dtype.kind == "f" and not (numpy.isfinite(array) & (array == numpy.trunc(array))).all():
        return False
    if dtype.kind == "f":
        exact = 2 ** (numpy.finfo(dtype).nmant + 1)
        low, high = -exact, exact
    else:
        low, high = (0, 1) if dtype.kind == "b" else (numpy.iinfo(dtype).min, numpy.iinfo(dtype).max)
    # As Python's numbers: numpy's comparison of int64 and uint64 goes through float64 in its older versions.
    return low <= int(array.min()) and int(array.max()) <= high
