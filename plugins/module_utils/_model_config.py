# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model's config.pbtxt, parsed as Triton parses it. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import re
import traceback
import typing as t


def _load_messages():
    """Return tritonclient's model_config_pb2 without its package, whose start loads all of gRPC and takes longer than a lint."""
    package = importlib.util.find_spec("tritonclient")
    if package is None:
        raise ImportError("No module named 'tritonclient'")
    path = os.path.join(next(iter(package.submodule_search_locations)), "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("tritonclient_model_config_pb2", path)
    messages = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(messages)
    except FileNotFoundError as error:
        raise ImportError(str(error)) from None
    return messages


try:
    from google.protobuf import text_format

    model_config_pb2 = _load_messages()
    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

REQUIREMENT = "tritonclient[http,grpc]>=2.60 numpy"
QUOTED_OR_COMMENT = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|#[^\n]*")
Place = t.Tuple[t.Optional[int], t.Optional[int]]


class ConfigError(Exception):
    """The text is no model configuration. ``line`` and ``column`` count from 1 and may be unknown."""

    def __init__(self, text: str, line: int | None, column: int | None):
        super().__init__(text)
        self.line = line
        self.column = column


@dataclasses.dataclass(frozen=True)
class Config:
    """``message`` is an inference.ModelConfig, ``text`` what it was parsed from."""

    message: object
    text: str

    @functools.cached_property
    def _code(self) -> str:
        return QUOTED_OR_COMMENT.sub(lambda found: " " * len(found[0]) if found[0].startswith("#") else found[0], self.text)

    def field(self, name: str) -> Place:
        """Return line and column of the first field of this name."""
        return self._place(rf"(?<![\w\"']){re.escape(name)}(?=\s*[:{{\[<])")

    def string(self, value: str) -> Place:
        """Return line and column of the first string of this value."""
        return self._place(rf"[\"']{re.escape(value)}[\"']")

    def _place(self, pattern: str) -> Place:
        found = re.search(pattern, self._code)
        if not found:
            return None, None
        start = found.start()
        return self._code.count("\n", 0, start) + 1, start - self._code.rfind("\n", 0, start)


def parse(raw: bytes) -> Config:
    """Return the configuration that ``raw`` holds.

    :raises ConfigError: it does not parse
    """
    text = raw.decode("utf-8", errors="replace")
    message = model_config_pb2.ModelConfig()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        reason = re.sub(r"^\d+:\d+ : ", "", " ".join(str(error).split())).rstrip(".")
        raise ConfigError(reason, error.GetLine(), error.GetColumn()) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(" ".join(str(error).split()) or type(error).__name__, None, None) from None
    return Config(message, text)
