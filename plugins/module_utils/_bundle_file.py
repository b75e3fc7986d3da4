# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a support bundle: a tar.gz whose first file says what it is. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import time
import uuid

#: The first line of a bundle's first file, by which one is known.
MARK = "Support bundle of a release of Triton, made by mlserving.triton"
README = "README.txt"
ENDINGS = (".tar.gz", ".tgz")
#: Bytes of one file and of all of them, before they are packed.
MOST_OF_ONE, MOST_OF_ALL = 4 * 2**20, 64 * 2**20
CUT = "... cut here: the rest is left out ...\n"


class BundleError(Exception):
    """The file cannot be written; the text names it, the reason and what to do."""


def check(path: str) -> None:
    """Check that a bundle may be written there.

    :raises BundleError: it may not
    """
    if not path.endswith(ENDINGS):
        raise BundleError(f"The bundle's path is {path}; it has to end in {' or '.join(ENDINGS)}.")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise BundleError(f"The bundle's path is {path}, but there is no folder {folder}. Make it, or name another one.")
    if os.path.lexists(path) and not _is_bundle(path):
        raise BundleError(
            f"The bundle's path is {path}, where something else than a bundle lies. Nothing was overwritten: name another file, or remove it."
        )


def _is_bundle(path: str) -> bool:
    try:
        with tarfile.open(path, "r:gz") as archive:
            first = archive.next()
            content = archive.extractfile(first) if first and first.isfile() and os.path.basename(first.name) == README else None
            return content is not None and content.read(len(MARK)).decode("utf-8", "replace") == MARK
    except (OSError, EOFError, tarfile.TarError):
        return False


def fitting(files: dict[str, str]) -> tuple[dict[str, bytes], list[str]]:
    """Return (content of each file that fits, what was cut or left out, in words). What stands first is kept first; of a log the end is kept."""
    kept, notes, total = {}, [], 0
    for name, text in files.items():
        content = text.encode("utf-8", "replace")
        if len(content) > MOST_OF_ONE:
            notes.append(f"{name}: cut, it has {len(content)} bytes")
            content = CUT.encode() + content[-MOST_OF_ONE:] if name.endswith(".log") else content[:MOST_OF_ONE] + CUT.encode()
        if total + len(content) > MOST_OF_ALL:
            notes.append(f"{name}: left out, since all files together have more than {MOST_OF_ALL} bytes")
            continue
        kept[name], total = content, total + len(content)
    return kept, notes


def write(path: str, folder: str, files: dict[str, bytes]) -> int:
    """Write the files, README.txt first, for this user only, in place of a bundle that may be there; return the size in bytes.

    :param folder: in which they lie in the archive
    :raises BundleError: it cannot be written; what was there before is left as it was
    """
    partial = os.path.join(os.path.dirname(path) or ".", f".{os.path.basename(path)}.{uuid.uuid4().hex}")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as raw, tarfile.open(
            fileobj=raw, mode="w:gz", compresslevel=6
        ) as archive:
            for name in sorted(files, key=lambda name: name != README):
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mtime, entry.mode = len(files[name]), int(time.time()), 0o600
                archive.addfile(entry, io.BytesIO(files[name]))
        check(path)
        os.replace(partial, path)
        return os.path.getsize(path)
    except OSError as error:
        what = f"The bundle cannot be written to {path}: {error.strerror or error}."
        raise BundleError(f"{what} Name a file in a folder that this user may write to, on a disk with room.") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
