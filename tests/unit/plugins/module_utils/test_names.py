# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.mlserving.triton.plugins.module_utils import _names


def both(names):
    return names["fullname"], names["metrics"]


def test_the_names_of_the_public_charts_example():
    assert _names.names("example") == {
        "app": "triton-inference-server",
        "fullname": "example-triton-inference-server",
        "metrics_app": "triton-inference-server-metrics",
        "metrics": "example-triton-inference-server-metrics",
        "chart": "triton-inference-server-1.0.0",
    }


@pytest.mark.parametrize("release", ["triton-inference-server", "my-triton-inference-server-2"])
def test_a_release_that_contains_the_charts_name_is_the_whole_name(release):
    assert both(_names.names(release)) == (release, f"{release}-metrics")


def test_a_name_override_replaces_the_charts_name_everywhere():
    names = _names.names("example", "llm")
    assert (names["app"], names["metrics_app"], *both(names)) == ("llm", "llm-metrics", "example-llm", "example-llm-metrics")
    assert names["chart"] == "triton-inference-server-1.0.0"
    assert both(_names.names("my-llm", "llm")) == ("my-llm", "my-llm-metrics")
    assert _names.names("triton-inference-server", "llm")["fullname"] == "triton-inference-server-llm"


def test_a_fullname_override_replaces_the_objects_names_only():
    names = _names.names("example", "llm", "exactly-this")
    assert (names["app"], *both(names)) == ("llm", "exactly-this", "exactly-this-metrics")


def test_names_are_cut_at_63_and_those_of_the_metrics_at_55():
    names = _names.names("r" * 53)
    assert names["fullname"] == "r" * 53 + "-triton-in" and len(names["fullname"]) == 63
    assert names["metrics"] == "r" * 53 + "-t-metrics" and len(names["metrics"]) == 63
    names = _names.names("x", "n" * 80)
    assert (names["app"], names["metrics_app"]) == ("n" * 63, "n" * 55 + "-metrics")
    assert both(_names.names("x", "", "f" * 80)) == ("f" * 63, "f" * 55 + "-metrics")


def test_a_cut_name_does_not_end_in_a_dash():
    assert both(_names.names("r" * 54)) == ("r" * 54 + "-triton-i", "r" * 54 + "-metrics")
    assert _names.names("x", "", "f" * 62 + "-more")["fullname"] == "f" * 62
