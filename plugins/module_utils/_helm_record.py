# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helm's record of a release, which it keeps in Secrets. PRIVATE to the collection.

A record holds the values and manifests of the chart, and with them credentials: nothing here returns more of it than is asked for.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import gzip
import json

from ansible_collections.mlserving.triton.plugins.module_utils import _cluster, _kube, _names

try:
    import yaml
except ImportError:
    yaml = None  # _cluster.from_module has ended the module with the pip line


@dataclasses.dataclass(frozen=True)
class Record:
    """The newest revision of a Helm release. ``secrets`` are the names of Helm's records, of all revisions; ``manifests`` may hold credentials."""

    name: str
    revision: int
    status: str
    chart: str
    secrets: tuple[str, ...]
    manifests: tuple = dataclasses.field(repr=False)

    def public(self) -> dict:
        """What may be shown."""
        objects = [f"{each['kind']} {each['metadata']['name']}" for each in self.manifests]
        return {"name": self.name, "revision": self.revision, "status": self.status, "chart": self.chart, "objects": objects}


def find(api, namespace: str, release: str) -> Record | None:
    """Return the record of the Helm release of the public chart; None if there is none, or of another chart.

    :raises _cluster.ClusterError: the Secrets may not be read, or the record is not as Helm writes it
    """
    selector = f"owner%3Dhelm,name%3D{release}"
    found = (_kube.get(api, f"/api/v1/namespaces/{namespace}/secrets?labelSelector={selector}", absent_is_empty=True) or {}).get("items") or []
    if not found:
        return None
    newest = max(found, key=lambda secret: int(secret["metadata"]["labels"]["version"]))
    record = decode(newest["data"]["release"], f"{namespace}/{newest['metadata']['name']}")
    chart = record["chart"]["metadata"]
    if chart["name"] != _names.CHART:
        return None
    return Record(
        name=release,
        revision=int(newest["metadata"]["labels"]["version"]),
        status=newest["metadata"]["labels"].get("status") or "unknown",
        chart=f"{chart['name']}-{chart.get('version', '')}",
        secrets=tuple(sorted(secret["metadata"]["name"] for secret in found)),
        manifests=tuple(each for each in yaml.safe_load_all(record["manifest"]) if each),
    )


def decode(data: str, where: str) -> dict:
    """Return the record that a Secret's ``data.release`` holds.

    :raises _cluster.ClusterError: it cannot be read
    """
    try:
        return json.loads(gzip.decompress(base64.b64decode(base64.b64decode(data))))
    except (ValueError, OSError, EOFError, binascii.Error):
        raise _cluster.ClusterError(f"the Secret {where} is labelled as Helm's record of a release, but cannot be read as one.") from None
