# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an answer is what is expected of it. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import hashlib
import re

from ansible_collections.mlserving.triton.plugins.module_utils import _json, _tensors
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


def compare_each(outputs: list[dict], responses: list[dict] | None, answers: list[dict]) -> str:
    """Return how the responses of a stream differ from what is expected, as :func:`compare` does.

    :param outputs: what every response must fulfil, where ``responses`` is None
    :param responses: what is expected of each one, {"outputs": [...]}, in their order
    """
    if responses is not None and len(answers) != len(responses):
        return f"the stream had {len(answers)} response{'s' * (len(answers) != 1)}, expected {len(responses)}"
    if responses is None and not answers:
        return "the stream ended without a response"
    for place, answer in enumerate(answers):
        problem = compare(outputs if responses is None else responses[place].get("outputs") or [], answer)
        if problem:
            return f"response {place + 1} of {len(answers)}: {problem}"
    return ""


def _compare_output(expected: dict, datatype: str, array) -> str:
    name = expected["name"]
    if expected.get("datatype") and datatype != expected["datatype"]:
        return f"{name} has the data type {datatype}, expected {expected['datatype']}"
    if expected.get("shape") is not None and list(array.shape) != expected["shape"]:
        return f"{name} has the shape {list(array.shape)}, expected {expected['shape']}"
    if expected.get("finite") and datatype.startswith(("FP", "BF")) and not numpy.isfinite(array.astype("float64")).all():
        place = int(numpy.argmin(numpy.isfinite(array.astype("float64").reshape(-1))))
        return f"{name}[{place}] is {_text(array.reshape(-1)[place])}, expected a finite number"
    if expected.get("pattern") is not None or expected.get("contains") is not None:
        return _compare_texts(expected, datatype, array)
    if expected.get("data") is None:
        return ""
    return _compare_values(expected, datatype, array.reshape(-1))


def _compare_texts(expected: dict, datatype: str, array) -> str:
    """Hold each text of an output against a regular expression or a structure of JSON."""
    name = expected["name"]
    if datatype != "BYTES":
        return f"{name} has the data type {datatype}, expected BYTES, which alone holds texts"
    for place, text in enumerate(array.reshape(-1).tolist()):
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        if expected.get("pattern") is not None and not re.search(expected["pattern"], text):
            return f"{name}[{place}] is {_text(text.encode())}, expected a text in which {expected['pattern']} is found"
        problem = _json.mismatch(expected["contains"], text, _tolerance(expected)) if expected.get("contains") is not None else ""
        if problem:
            return f"{name}[{place}] {problem}"
    return ""


def _tolerance(expected: dict) -> Tolerance:
    return Tolerance(expected.get("tolerance") or 0.0, expected.get("relative") or 0.0)


def _compare_values(expected: dict, datatype: str, got) -> str:
    """Hold a flat array against the expected values: a nested list, or an array that was read from a file."""
    name, allowed = expected["name"], _tolerance(expected)
    given = expected["data"]
    wanted = flat(given) if isinstance(given, list) else given.reshape(-1)
    if not isinstance(given, list) and datatype != "BYTES" and not _holds(datatype, given):
        return f"{name} is {datatype}, the expected values in its file are {given.dtype}"
    if len(got) != len(wanted):
        return f"{name} has {len(got)} values, expected {len(wanted)}"
    try:
        values = [value_of(datatype, value, f"expected {name}") for value in wanted] if isinstance(wanted, list) else wanted
        same = _same(got, values, datatype, allowed)
    except CaseError as error:
        return str(error)
    if same.all():
        return ""
    first = int(numpy.argmin(same))
    differ = int(len(same) - same.sum())
    return f"{name}[{first}] is {_text(got[first])}, expected {_text(values[first])} ({allowed}); {differ} of {len(values)} values differ"


def _holds(datatype: str, given) -> bool:
    """Whether the values of an array can be those of an output; of real numbers the nearest ones are meant."""
    dtype = numpy.dtype(DATATYPES.get(datatype, "float32"))
    return given.dtype.kind == dtype.kind == "f" or _tensors.converts(given, dtype)


def _rounded_to_bf16(array):
    """Return float32 values, each as the nearest one that BF16 has, the upper half of a float32."""
    bits = array.view("uint32")
    nearest = (bits + (numpy.uint32(0x7FFF) + ((bits >> numpy.uint32(16)) & numpy.uint32(1)))) & numpy.uint32(0xFFFF0000)
    return numpy.where(numpy.isnan(array), array, nearest.view("float32"))


def _same(got, wanted, datatype: str, allowed: Tolerance):
    """Return for each value whether it is the expected one, as an array of bool; both have the same length."""
    if datatype in ("BYTES", "BOOL"):
        return numpy.array([bool(is_ == should) for is_, should in zip(got, wanted)], dtype=bool)
    if not datatype.startswith(("FP", "BF")):
        # Python's integers have no bounds: the difference of two INT64 may not fit into one.
        pairs = zip((int(value) for value in got), (int(value) for value in wanted))
        same = [is_ == should or abs(is_ - should) <= allowed.absolute + allowed.relative * min(abs(should), 2**64) for is_, should in pairs]
        return numpy.array(same, dtype=bool)
    # An expectation of 0.1 means the nearest number that the type has.
    with numpy.errstate(over="ignore"):
        wanted = numpy.array(wanted, dtype=DATATYPES.get(datatype, "float32"))
        wanted = _rounded_to_bf16(wanted) if datatype == "BF16" else wanted
    return numpy.isclose(numpy.asarray(got).astype("float64"), wanted.astype("float64"), rtol=allowed.relative, atol=allowed.absolute, equal_nan=True)


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
    allowed = _tolerance(expected)
    for place, (is_, should) in enumerate(zip(got, wanted), 1):
        same = all(should.get(field) is None or should[field] == is_[field] for field in ("index", "label"))
        if not same or (should.get("value") is not None and not _same([is_["value"]], [should["value"]], "FP64", allowed)[0]):
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
