# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _model_config

TEXT = """# name: "comment"
name: "simple"
input [
  { name: "INPUT" data_type: TYPE_FP32 dims: [ 4 ] }
]
parameters { key: "version_policy" value { string_value: "a # no comment" } }
version_policy { latest { num_versions: 2 } }
"""


def test_parses_what_triton_parses():
    message = _model_config.parse(TEXT.encode()).message
    assert message.name == "simple" and list(message.input[0].dims) == [4] and message.version_policy.latest.num_versions == 2
    assert message.parameters["version_policy"].string_value == "a # no comment"


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ('backend: "python"\ninput [ {{ } ]', 2, 10, "Expected identifier"),
        ('backend: "python"\nmax_batch_siz: 3', 2, 1, 'has no field named "max_batch_siz"'),
        ("input [\n  { data_type: TYPE_INT33 }\n]", 2, 16, "has no value named TYPE_INT33"),
        ('backend: "a"\nbackend: "b"', 2, 10, 'should not have multiple "backend" fields'),
        ("max_batch_size: many", 1, 17, "many"),
        ('\ufeffbackend: "python"', 1, 1, "Expected identifier"),
    ],
)
def test_says_where_a_text_does_not_parse(text, line, column, reason):
    with pytest.raises(_model_config.ConfigError) as error:
        _model_config.parse(text.encode())
    assert (error.value.line, error.value.column) == (line, column)
    assert reason in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("raw", [b"\x00\x01\xff", b"input [", b'name: "', b"{" * 5000, b'name: "\xff"', b"name: 'a\nb'"])
def test_whatever_is_no_configuration_is_one_error(raw):
    try:
        _model_config.parse(raw)
    except _model_config.ConfigError as error:
        assert str(error)


def test_finds_fields_and_strings_outside_of_comments():
    config = _model_config.parse(TEXT.encode())
    assert config.field("name") == (2, 1)
    assert config.string("INPUT") == (4, 11)
    assert config.field("version_policy") == (7, 1)
    assert config.string("comment") == config.field("backend") == (None, None)
