# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of a release's objects, as the public chart (deploy/aws of triton-inference-server/server) makes them. PRIVATE to the collection."""

from __future__ import annotations

CHART = "triton-inference-server"
CHART_LABEL = "triton-inference-server-1.0.0"
#: Kubernetes allows 63 characters; the chart leaves room for its suffixes.
LONGEST, LONGEST_METRICS = 63, 55


def names(release: str, name_override: str = "", fullname_override: str = "") -> dict[str, str]:
    """Return app (label and container name), fullname (Deployment and Service), metrics_app, metrics (metrics Service) and chart (label)."""
    app = _cut(name_override or CHART, LONGEST)
    if fullname_override:
        full = fullname_override
    else:
        base = name_override or CHART
        full = release if base in release else f"{release}-{base}"
    return {
        "app": app,
        "fullname": _cut(full, LONGEST),
        "metrics_app": _cut(app, LONGEST_METRICS) + "-metrics",
        "metrics": _cut(full, LONGEST_METRICS) + "-metrics",
        "chart": CHART_LABEL,
    }


def _cut(text: str, length: int) -> str:
    return text[:length].rstrip("-")
