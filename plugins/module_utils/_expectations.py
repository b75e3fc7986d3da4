# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an answer is what is expected of it. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import hashlib

from ansible_collections.mlserving.triton.plugins.module_utils._tensors import DATATYPES, CaseError, flat, value_of

try:
    import numpy
except ImportError:
    # The modules report it through _triton_client.IMPORT_ERROR before anything here is called.
    numpy = None

#: How many values of an answer stand in the table, and how much of a text value.
SAMPLE_VALUES = 3
SAMPLE_CHARACTERS = 24


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """By how much a number may differ: ``absolute`` plus ``relative`` times the expected one."""

    absolute: float
    relative: float

    def __str__(self) -> str:
        return f"tolerance {self.absolute:g}" + (f" + {self.relative:g} of it" if self.relative else "")


def compare(outputs: list[dict], answer: dict) -> str:
    """Return in words how the answer differs from what is expected of the outputs; an empty text when it does not.

    :param outputs: the option outputs of a case
    :param answer: name -> (data type, array)
    """
    if not answer:
        return "the answer has no outputs"
    for expected in outputs:
        name = expected["name"]
        if name not in answer or answer[name][1] is None:
            return f"output {name} is missing; the answer has {', '.join(sorted(answer))}"
        top = expected.get("top") or expected.get("classes")
        problem = _compare_classes(expected, answer[name][1]) if top else _compare_output(expected, *answer[name])
        if problem:
            return problem
    return ""


def _compare_output(expected: dict, datatype: str, array) -> str:
    name = expected["name"]
    if expected.get("datatype") and datatype != expected["datatype"]:
        return f"{name} has the data type {datatype}, expected {expected['datatype']}"
    if expected.get("shape") is not None and list(array.shape) != expected["shape"]:
        return f"{name} has the shape {list(array.shape)}, expected {expected['shape']}"
    if expected.get("data") is None:
        return ""
    got, wanted = array.reshape(-1), flat(expected["data"])
    if len(got) != len(wanted):
        return f"{name} has {len(got)} values, expected {len(wanted)}"
    allowed = Tolerance(expected.get("tolerance") or 0.0, expected.get("relative") or 0.0)
    try:
        values = [value_of(datatype, value, f"expected {name}") for value in wanted]
    except CaseError as error:
        return str(error)
    wrong = [place for place, (is_, should) in enumerate(zip(got, values)) if not _same(is_, should, datatype, allowed)]
    if not wrong:
        return ""
    first = wrong[0]
    return f"{name}[{first}] is {_text(got[first])}, expected {_text(values[first])} ({allowed}); {len(wrong)} of {len(values)} values differ"


def _same(got, wanted, datatype: str, allowed: Tolerance) -> bool:
    if datatype in ("BYTES", "BOOL"):
        return got == wanted
    if not datatype.startswith(("FP", "BF")):
        return abs(int(got) - wanted) <= allowed.absolute + allowed.relative * abs(wanted)
    # An expectation of 0.1 means the nearest number that the type has.
    wanted = numpy.array(wanted, dtype=DATATYPES[datatype])
    return bool(numpy.isclose(float(got), float(wanted), rtol=allowed.relative, atol=allowed.absolute, equal_nan=True))


def classes(array) -> list[dict]:
    """Return what the classification extension answered, the best first: value, index and label; of a batch one list after the other.

    :raises ValueError: an entry is none of "VALUE:INDEX" and "VALUE:INDEX:LABEL"
    """
    found = []
    for entry in array.reshape(-1):
        value, index, *label = entry.decode("utf-8", "replace").split(":", 2)
        found.append({"value": float(value), "index": int(index), "label": label[0] if label else ""})
    return found


def _compare_classes(expected: dict, array) -> str:
    name, wanted = expected["name"], expected.get("classes") or []
    try:
        got = classes(array)
    except (ValueError, AttributeError):
        return f"{name} was not answered with classes; the output must be numbers, and the model no ensemble of other servers"
    if len(got) < len(wanted):
        return f"{name} has {len(got)} classes, expected {len(wanted)}"
    allowed = Tolerance(expected.get("tolerance") or 0.0, expected.get("relative") or 0.0)
    for place, (is_, should) in enumerate(zip(got, wanted), 1):
        same = all(should.get(field) is None or should[field] == is_[field] for field in ("index", "label"))
        if not same or (should.get("value") is not None and not _same(is_["value"], should["value"], "FP64", allowed)):
            said = ", ".join(f"{field} {value}" for field, value in should.items() if value is not None)
            return f"{name}: place {place} is {is_['label'] or is_['index']} ({is_['index']}, {is_['value']:g}), expected {said} ({allowed})"
    return ""


def digest(answer: dict) -> str:
    """Return a digest of all values of an answer, which is the same for the same values."""
    total = hashlib.sha256()
    for name in sorted(answer):
        datatype, array = answer[name]
        content = b"\0".join(map(bytes, array.reshape(-1))) if datatype == "BYTES" else b"" if array is None else array.tobytes()
        total.update(f"{name} {datatype} {getattr(array, 'shape', '')}".encode() + content)
    return total.hexdigest()[:16]


def sample(outputs: list[dict], answer: dict) -> str:
    """Return the begin of the answer's first output of interest, such as "OUTPUT0[0:3]=1 3 5"."""
    names = [expected["name"] for expected in outputs if expected["name"] in answer] or sorted(answer)
    if not names or answer[names[0]][1] is None:
        return ""
    values = answer[names[0]][1].reshape(-1)[:SAMPLE_VALUES]
    return f"{names[0]}[0:{len(values)}]={' '.join(_text(value) for value in values)}"


def _text(value) -> str:
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
        return text if len(text) <= SAMPLE_CHARACTERS else text[:SAMPLE_CHARACTERS] + "..."
    if isinstance(value, (bool, numpy.bool_)):
        return str(bool(value)).lower()
    return f"{value:g}" if isinstance(value, (float, numpy.floating)) else str(value)
