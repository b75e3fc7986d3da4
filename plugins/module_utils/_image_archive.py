# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes container images as the archive that `docker load` and `ctr images import` read, without a container engine.

PRIVATE to the collection. The format is the image specification v1.2 of the Docker project: a manifest.json that lists
images, each with a configuration and tar layers named by digest. Layers are written once however many images share them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile

CHUNK = 1 << 20


class ArchiveError(Exception):
    """An image cannot be written; the text names the file at fault."""


def write(destination: str, images: list[dict]) -> int:
    """Write the images to one archive at ``destination``, replacing it in one step. Return its size in bytes.

    An image has ``tags`` (list), ``layers`` (list) and optionally entrypoint, cmd (lists), env, labels (dicts), user, workdir and
    stop_signal. A layer is ``{"tar": path}`` or ``{"entries": [...]}``; an entry has ``dest`` (absolute path) and one of
    ``src`` (file or folder), ``content`` (text), ``link`` (target) or ``directory`` (true), and optionally mode (octal
    text), owner (uid used as gid too).

    :raises ArchiveError: a source is missing or an entry is not one of these
    """
    folder = os.path.dirname(destination)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".layers-") as scratch:
        written: dict[str, str] = {}
        manifest = []
        partial = os.path.join(scratch, "archive.tar")
        with tarfile.open(partial, "w") as archive:
            for image in images:
                digests = [_add_layer(archive, layer, scratch, written) for layer in image["layers"]]
                configuration = json.dumps(_configuration(image, digests), sort_keys=True).encode()
                name = f"{hashlib.sha256(configuration).hexdigest()}.json"
                _add_bytes(archive, name, configuration)
                manifest.append({"Config": name, "RepoTags": image["tags"], "Layers": [f"{digest}.tar" for digest in digests]})
            _add_bytes(archive, "manifest.json", json.dumps(manifest).encode())
        os.replace(partial, destination)
    return os.path.getsize(destination)


def _configuration(image: dict, digests: list[str]) -> dict:
    run = {
        "Entrypoint": image.get("entrypoint"),
        "Cmd": image.get("cmd"),
        "Env": [f"{key}={value}" for key, value in (image.get("env") or {}).items()],
        "User": image.get("user") or "",
        "WorkingDir": image.get("workdir") or "/",
        "Labels": image.get("labels") or {},
    }
    if image.get("stop_signal"):
        run["StopSignal"] = image["stop_signal"]
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created_by": "mlserving.triton lab"} for digest in digests],
    }


def _add_layer(archive: tarfile.TarFile, layer: dict, scratch: str, written: dict[str, str]) -> str:
    """Add a layer unless it is there, and return its SHA-256 in hex."""
    key = json.dumps(layer, sort_keys=True)
    if key in written:
        return written[key]
    path = layer.get("tar") or _tar_of(layer["entries"], scratch)
    if not os.path.exists(path):
        raise ArchiveError(f"the layer {path} does not exist.")
    digest = _sha256(path)
    if digest not in written.values():
        archive.add(path, arcname=f"{digest}.tar", filter=_plain)
    written[key] = digest
    return digest


def _tar_of(entries: list[dict], scratch: str) -> str:
    with tempfile.NamedTemporaryFile(dir=scratch, suffix=".tar", delete=False) as stream:
        with tarfile.open(fileobj=stream, mode="w") as layer:
            for entry in entries:
                _add_entry(layer, entry)
        return stream.name


def _add_entry(layer: tarfile.TarFile, entry: dict) -> None:
    destination = entry["dest"].lstrip("/")

    def settle(member: tarfile.TarInfo) -> tarfile.TarInfo:
        _plain(member)
        member.uid = member.gid = int(entry.get("owner") or 0)
        if entry.get("mode") and not member.isdir() and not member.issym():
            member.mode = int(entry["mode"], 8)
        return member

    if entry.get("src"):
        if not os.path.exists(entry["src"]):
            raise ArchiveError(f"{entry['src']}, meant for {entry['dest']} in the image, does not exist.")
        layer.add(os.path.realpath(entry["src"]), arcname=destination, filter=settle)
        return
    member = tarfile.TarInfo(destination)
    if entry.get("directory"):
        member.type, member.mode = tarfile.DIRTYPE, int(entry.get("mode") or "755", 8)
        layer.addfile(settle(member))
    elif entry.get("link"):
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry["link"], 0o777
        layer.addfile(settle(member))
    elif entry.get("content") is not None:
        content = entry["content"].encode()
        member.size, member.mode = len(content), 0o644
        layer.addfile(settle(member), io.BytesIO(content))
    else:
        raise ArchiveError(f"the entry for {entry['dest']} has none of src, content, link and directory.")


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Take out what differs between two builds of the same content."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
