# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes secrets out of objects and texts that are to be shown to others. PRIVATE to the collection.

By name: what is called like a secret loses its value. By value: what stands in a Secret of the release, or under such a name, is taken out
wherever it stands, in the usual encodings too. By form: what _triton_log.redact knows.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from ansible_collections.mlserving.triton.plugins.module_utils import _credentials, _triton_log

SHOWN = "(redacted)"
SECRET_NAME = re.compile(r"(?i)secret|token|passw|credential|auth|key|signature|cookie|dsn")
#: A name and its value within a text, such as a line of a configuration file or of JSON.
ASSIGNMENT = re.compile(r"""(?P<name>[\w.-]+)["']?\s*[:=]\s*["']?(?P<value>[^"'\s,}]+)""")
#: An option, and one with its value; the key of Triton's restricted APIs. $(VARIABLE) is no secret.
OPTION = re.compile(r"--?\w[\w-]*")
ARGUMENT = re.compile(r"(?<![\w-])(?P<name>--?\w[\w-]*)=(?!\$\()(?P<value>\S+)")
RESTRICTED = re.compile(r"(?P<name>--(?:http-restricted-api|grpc-restricted-protocol)[= ][^=\s]*)=(?!\$\()(?P<value>\S+)")
SECRET_OPTION = re.compile(r"(?i)secret|token|passw|credential|key")
#: Of the API's own bookkeeping; the first holds the object as it was applied, secrets included.
ANNOTATIONS_OUT = ("kubectl.kubernetes.io/last-applied-configuration",)
#: Shorter values are no secrets, and stand in many words.
SHORTEST = 6
#: Keys of a Secret whose values are no secrets.
OPEN_KEYS = frozenset((_credentials.KEYS["region"],))


def values_of_secret(secret: dict) -> Iterator[str]:
    """Yield what is secret in a Secret: each value, its lines, and what is called like a secret within it."""
    for key, encoded in (secret.get("data") or {}).items():
        if key not in OPEN_KEYS:
            text = base64.b64decode(encoded).decode("utf-8", "replace")
            yield text
            yield from (line.strip() for line in text.splitlines())
            yield from (found["value"] for found in ASSIGNMENT.finditer(text) if SECRET_NAME.search(found["name"]))


def values_in(part) -> Iterator[str]:
    """Yield what is secret in an object: values of variables and headers that are called so, and keys among arguments."""
    if isinstance(part, dict):
        if _is_named_value(part):
            yield part["value"]
        for value in part.values():
            yield from values_in(value)
    elif isinstance(part, list):
        yield from (value for value, hidden in zip(part, _hidden(part)) if hidden)
        for value in part:
            yield from values_in(value)
    elif isinstance(part, str):
        yield from (found["value"] for found in RESTRICTED.finditer(part))
        yield from (found["value"] for found in ARGUMENT.finditer(part) if SECRET_OPTION.search(found["name"]))


def _hidden(words: list) -> list[bool]:
    """Return for each entry of a list whether it is the value of the option before it that is called like a secret."""
    return [isinstance(word, str) and _is_secret_option(before) for before, word in zip([None, *words], words)]


def _is_secret_option(word) -> bool:
    return isinstance(word, str) and bool(OPTION.fullmatch(word) and SECRET_OPTION.search(word))


def _without_value(found: re.Match) -> str:
    return f"{found['name']}={SHOWN}" if SECRET_OPTION.search(found["name"]) else found.group()


def _is_named_value(part: dict) -> bool:
    return isinstance(part.get("value"), str) and isinstance(part.get("name"), str) and bool(SECRET_NAME.search(part["name"]))


def forms(value: str) -> list[str]:
    """Return how a value may be written; a part of base64 is the same wherever the value begins in a longer text."""
    raw, escaped = value.encode(), json.dumps(value)[1:-1]
    shifted = [base64.b64encode(b"=" * shift + raw).decode()[4:-4] for shift in (1, 2)]
    found = [value, base64.b64encode(raw).decode().rstrip("="), *shifted, quote(value, safe=""), escaped, json.dumps(escaped)[1:-1]]
    return [form for form in found if len(form) >= SHORTEST]


class Cleaner:
    """Takes these values out, and what looks like a secret.

    :param values: of secrets
    """

    def __init__(self, values: Iterable[str]):
        known = {value.strip() for value in values}
        self._forms = sorted({form for value in known if len(value) >= SHORTEST for form in forms(value)}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        for form in self._forms:
            text = text.replace(form, SHOWN)
        text = RESTRICTED.sub(rf"\g<name>={SHOWN}", text)
        return _triton_log.redact(ARGUMENT.sub(_without_value, text))

    def object(self, part):
        """Return an object of the API, or a part of one, without secrets and without the API's bookkeeping."""
        if isinstance(part, str):
            return self.text(part)
        if isinstance(part, list):
            return [SHOWN if hidden else self.object(value) for value, hidden in zip(part, _hidden(part))]
        if not isinstance(part, dict):
            return part
        if _is_named_value(part):
            return {**{key: self.object(value) for key, value in part.items()}, "value": SHOWN}
        return {self.text(key): self._field(key, value) for key, value in part.items() if key != "managedFields"}

    def _field(self, key: str, value):
        if key == "binaryData" and isinstance(value, dict):
            # Packed: what is in it cannot be seen.
            return {self.text(name): f"({len(content)} characters, left out)" for name, content in value.items()}
        if key in ("annotations", "data") and isinstance(value, dict):
            kept = {name: content for name, content in value.items() if name not in ANNOTATIONS_OUT}
            return {
                self.text(name): SHOWN if SECRET_NAME.search(name) and isinstance(content, str) else self.object(content)
                for name, content in kept.items()
            }
        return self.object(value)
