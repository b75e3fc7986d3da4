# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a text of JSON holds what is expected of it. PRIVATE to the collection.

Of an object the keys that are expected must be there, others may be; a list must have the same length; numbers may differ by the tolerance; all else
must be equal.
"""

from __future__ import annotations

import json
import math

#: How much of a value stands in a message.
SHOWN_CHARACTERS = 60


def mismatch(expected, text: str, allowed) -> str:
    """Return what differs, such as "has 3 at $.choices[0].index, expected 2"; an empty text if nothing does.

    :param allowed: with the numbers ``absolute`` and ``relative``
    """
    try:
        got = json.loads(text)
    except (ValueError, RecursionError):
        return f"is no JSON: {_cut(text)}"
    return _compare(expected, got, allowed, "$")


def _compare(expected, got, allowed, path: str) -> str:
    if isinstance(expected, dict) and isinstance(got, dict):
        for key, value in expected.items():
            if key not in got:
                return f"has no {path}.{key}; {path} has {', '.join(sorted(got)) or 'no key'}"
            if problem := _compare(value, got[key], allowed, f"{path}.{key}"):
                return problem
        return ""
    if isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            return f"has {len(got)} entries at {path}, expected {len(expected)}"
        return next((problem for place, pair in enumerate(zip(expected, got)) if (problem := _compare(*pair, allowed, f"{path}[{place}]"))), "")
    return "" if _equal(expected, got, allowed) else f"has {_shown(got)} at {path}, expected {_shown(expected)} (tolerance {allowed.absolute:g})"


def _shown(value) -> str:
    # YAML has values that JSON lacks, such as dates.
    return _cut(json.dumps(value, ensure_ascii=False, default=str))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def _equal(expected, got, allowed) -> bool:
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (expected, got))
    if numbers and expected != got:
        try:
            return (math.isnan(expected) and math.isnan(got)) or abs(expected - got) <= allowed.absolute + allowed.relative * abs(expected)
        except OverflowError:  # JSON's whole numbers have no bounds.
            return False
    if numbers:
        return True
    return type(expected) is type(got) and expected == got
