# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks what a person put in, before anything changes. PRIVATE to the collection.

Each check returns a sentence that names the variable, what came in, what is allowed and what to do.
"""

from __future__ import annotations

import re

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
#: The Services' names begin with the release's, and a Service's begins with a letter.
SERVICE_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
#: Registry host and port, path, then tag and digest, as the distribution project's reference grammar has them.
IMAGE = re.compile(
    r"(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?)(?::[0-9]+)?/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")

#: Role variable -> key of the public chart's values, where people may have written it.
CHART_KEYS = {
    "triton_replicas": "replicaCount",
    "triton_namespace": "namespace",
    "triton_name_override": "nameOverride",
    "triton_fullname_override": "fullnameOverride",
    "triton_image": "image.imageName",
    "triton_image_pull_policy": "image.pullPolicy",
    "triton_gpus": "image.numGpus",
    "triton_service_type": "service.type",
    "model_repository_url": "image.modelRepositoryPath",
}


def problems(inputs: dict, chart: dict) -> list[str]:
    """Return what is wrong with the inputs, a sentence each; empty if all is well.

    :param inputs: role variables without their triton_ prefix, as they came in (text or numbers)
    :param chart: the public chart's values that were given, by role variable
    """
    found = [
        _whole_number("triton_replicas", inputs["replicas"]),
        _whole_number("triton_gpus", inputs["gpus"]),
        *names_problems(inputs),
        _image(inputs["image"]),
        _choice("triton_image_pull_policy", inputs["image_pull_policy"], PULL_POLICIES),
        _choice("triton_service_type", inputs["service_type"], SERVICE_TYPES),
    ]
    found += [
        f"{name} is {inputs[name.removeprefix('triton_')]!r} and the chart's {CHART_KEYS[name]} is {value!r}: give one of the two."
        for name, value in chart.items()
        if name.removeprefix("triton_") in inputs and str(inputs[name.removeprefix("triton_")]) != str(value)
    ]
    return [problem for problem in found if problem]


def names_problems(inputs: dict) -> list[str]:
    """Return what is wrong with those inputs that name a release, a sentence each."""
    found = [
        _label("triton_namespace", inputs["namespace"], 63),
        _label("triton_release", inputs["release"], 53, letter_first=True),
        _label("triton_name_override", inputs.get("name_override") or "x", 63),
        _label("triton_fullname_override", inputs.get("fullname_override") or "x", 63, letter_first=True),
    ]
    return [problem for problem in found if problem]


def shown(name: str) -> str:
    """Return the variable's name with the chart's beside it."""
    return f"{name} (the chart's {CHART_KEYS[name]})" if name in CHART_KEYS else name


def _whole_number(name: str, value: object) -> str | None:
    if re.fullmatch(r"[0-9]{1,6}", str(value)) and not isinstance(value, bool):
        return None
    return f"{shown(name)} is {value!r}; allowed is a whole number from 0 upwards, such as -e {name}=2."


def _label(name: str, value: object, longest: int, letter_first: bool = False) -> str | None:
    pattern = SERVICE_LABEL if letter_first else LABEL
    if pattern.fullmatch(str(value)) and len(str(value)) <= longest:
        return None
    ends = "starting with a letter and ending with a letter or digit" if letter_first else "starting and ending with a letter or digit"
    return (
        f"{shown(name)} is {value!r}; Kubernetes allows 1 to {longest} lower-case letters, digits and '-', "
        f"{ends}, such as {_suggestion(str(value), longest, letter_first)!r}."
    )


def _suggestion(value: str, longest: int, letter_first: bool) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", re.sub(r"([a-z0-9])([A-Z])", r"\1-\2", value).lower()).strip("-")
    if letter_first and words[:1].isdigit():
        words = f"triton-{words}"
    return words[:longest].strip("-") or "triton"


def _image(value: object) -> str | None:
    if IMAGE.fullmatch(str(value)):
        return None
    return f"{shown('triton_image')} is {value!r}; allowed is REGISTRY/NAME:TAG, such as nvcr.io/nvidia/tritonserver:26.07-py3."


def _choice(name: str, value: object, allowed: tuple[str, ...]) -> str | None:
    if value in allowed:
        return None
    return f"{shown(name)} is {value!r}; allowed is one of {', '.join(allowed)}."
