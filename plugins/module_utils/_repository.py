# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model repository in a bucket: looked at, published and taken back. PRIVATE to the collection.

Only publish and remove change the store.
"""

from __future__ import annotations

import dataclasses
import datetime
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.mlserving.triton.plugins.module_utils import _bucket, _repository_plan
from ansible_collections.mlserving.triton.plugins.module_utils._file_digest import Digests
from ansible_collections.mlserving.triton.plugins.module_utils._model_tree import CONFIG, File
from ansible_collections.mlserving.triton.plugins.module_utils._repository_plan import OF_RELEASES, Plan, Step
from ansible_collections.mlserving.triton.plugins.module_utils._repository_transfer import Transfer
from ansible_collections.mlserving.triton.plugins.module_utils._s3 import SHA256, Object, S3Error, Store
from ansible_collections.mlserving.triton.plugins.module_utils._s3_url import RELEASE, RELEASES, Location

LAYOUTS = ("in_place", "release")
#: How long the tree of a release that never got its manifest is left to the run that may still be writing it.
UNFINISHED_FOR = datetime.timedelta(days=1)


@dataclasses.dataclass(frozen=True)
class Release:
    """A tree below releases/; ``published`` is when its manifest was written, None for one that was never finished."""

    name: str
    published: datetime.datetime | None


@dataclasses.dataclass
class Publication:
    """What publishing has to do. ``url`` is what Triton is pointed at; ``bucket`` is false if there is none yet."""

    plan: Plan
    location: Location
    bucket: bool
    release: str = ""
    manifest: Step | None = None
    obsolete: tuple[str, ...] = ()
    obsolete_keys: tuple[list[str], list[str]] = ((), ())

    @property
    def url(self) -> str:
        return self.location.url

    @property
    def uploads(self) -> list[Step]:
        """The manifest comes last."""
        return [*self.plan.uploads, *([self.manifest] if self.manifest else [])]

    @property
    def bytes(self) -> int:
        """Size in bytes of what is uploaded."""
        return sum(step.file.size for step in self.uploads)

    @property
    def deleted(self) -> list[str]:
        return sorted((*self.plan.deleted, *self.obsolete_keys[0], *self.obsolete_keys[1]))

    @property
    def changed(self) -> bool:
        return bool(self.plan.steps or self.deleted or self.manifest or not self.bucket)


@dataclasses.dataclass(frozen=True)
class Removal:
    """What taking back has to do. ``kept`` says why the bucket stays, if it was to go."""

    keys: tuple[str, ...]
    existing: tuple[str, ...]
    bucket: bool
    kept: tuple[str, ...]
    prefixes: tuple[str, ...] = ()


class Repository:
    """A place in a bucket.

    :param digests: checksums of local files
    :param parallel: how many files are read and how many requests run at a time
    """

    def __init__(self, store: Store, location: Location, digests: Digests, parallel: int):
        self._store, self._location, self._digests, self._parallel = store, location, digests, parallel

    def _prefix(self, path: str = "") -> str:
        return self._location.key(path) if self._location.prefix or path else ""

    def objects(self) -> dict[str, Object] | None:
        """Return key -> object below the prefix, or None if there is no bucket."""
        listing = self._store.list(self._prefix())
        return listing.objects if listing else None

    def releases(self) -> list[Release] | None:
        """Return the releases, the latest first, then the unfinished ones; None if there is no bucket."""
        listing = self._store.list(self._prefix(f"{RELEASES}/"), "/")
        if listing is None:
            return None
        names = {
            self._location.name(key).removeprefix(f"{RELEASES}/").removesuffix(".json"): found.modified for key, found in listing.objects.items()
        }
        folders = {self._location.name(key).removeprefix(f"{RELEASES}/").rstrip("/") for key in listing.folders}
        found = [Release(name, modified) for name, modified in names.items() if RELEASE.fullmatch(name)]
        found.sort(key=lambda release: (release.published, release.name), reverse=True)
        return found + [Release(name, None) for name in sorted(folders - names.keys()) if RELEASE.fullmatch(name)]

    def plan_in_place(self, files: list[File], prune: bool) -> Publication:
        """Compare the files with what lies right below the prefix.

        :raises S3Error: the store refuses; or prune would empty the root of a bucket that is not ours
        :raises FileError: a file cannot be read, or changed
        """
        remote = self.objects()
        plan = _repository_plan.in_place(files, self._location, remote, self._digests, self._sums, prune)
        if plan.deleted and not self._location.prefix and not _bucket.is_ours(self._store):
            raise S3Error(
                f"{self._store.where} does not carry the tag {_bucket.TAG['Key']}={_bucket.TAG['Value']}, so nothing at its root is pruned. "
                "Give a url with a prefix, or prune: false."
            )
        return Publication(plan, self._location, remote is not None)

    def plan_release(self, files: list[File], keep: int, in_use: frozenset[str] = frozenset()) -> Publication:
        """Compare the files with the releases that are there.

        :param keep: how many complete releases stay, this one among them
        :param in_use: names of releases that stay beside those
        :raises S3Error: the store refuses
        :raises FileError: a file cannot be read, or changed
        """
        releases = self.releases()
        computed = self._digests.of(files)
        name = _repository_plan.release_digest(files, computed)
        location = self._location.below(f"{RELEASES}/{name}")
        complete = [release for release in releases or () if release.published]
        is_complete = any(release.name == name for release in complete)
        there = self._store.list(location.key("")).objects if releases is not None and any(each.name == name for each in releases) else {}
        known = {} if is_complete and len(there) == len(files) else self._known([release.name for release in complete][: keep + 1])
        plan = _repository_plan.release(files, location, computed, there, known, self._sums)
        # Written again if another one was published after it: the releases that stay are those that were published last.
        is_latest = any(release.name == name for release in complete if release.published == complete[0].published)
        manifest = None if is_latest else self._manifest(name, _repository_plan.manifest(name, files, computed))
        older = [release.name for release in complete if release.name != name][keep - 1 :]
        obsolete = [other for other in older if other not in in_use] + self._abandoned(releases or (), name)
        return Publication(plan, location, releases is not None, name, manifest, tuple(obsolete), self._keys_of(obsolete))

    def _known(self, names: list[str]) -> dict[str, tuple[str, Object]]:
        """Return sha256 -> (key, object) of what complete releases hold, the latest of them first."""
        known = {}
        with ThreadPoolExecutor(self._parallel) as pool:
            folders = pool.map(lambda name: self._store.list(self._prefix(f"{RELEASES}/{name}/")), names)
            manifests = pool.map(lambda name: self._store.read(self._prefix(f"{RELEASES}/{name}.json")), names)
            for name, listing, content in zip(names, folders, manifests):
                for sha256, (file, size) in _repository_plan.read_manifest(content).items():
                    key = self._prefix(f"{RELEASES}/{name}/{file}")
                    found = listing.objects.get(key) if listing else None
                    if found and found.size == size:
                        known.setdefault(sha256, (key, found))
        return known

    def _abandoned(self, releases: list[Release], current: str) -> list[str]:
        """Return the unfinished releases that no run can still be writing."""
        now, found = datetime.datetime.now(datetime.timezone.utc), []
        for release in releases:
            if release.published is None and release.name != current:
                listing = self._store.list(self._prefix(f"{RELEASES}/{release.name}/"))
                times = [each.modified for each in listing.objects.values()] if listing else []
                if times and now - max(times) > UNFINISHED_FOR:
                    found.append(release.name)
        return found

    def _keys_of(self, names: list[str]) -> tuple[list[str], list[str]]:
        """Return (manifests, other keys) of releases, in the order in which they are deleted."""
        listings = [self._store.list(self._prefix(f"{RELEASES}/{name}")) for name in names]
        manifests = {self._prefix(f"{RELEASES}/{name}.json") for name in names}
        folders = tuple(self._prefix(f"{RELEASES}/{name}/") for name in names)
        keys = sorted(key for listing in listings if listing for key in listing.objects if key in manifests or key.startswith(folders))
        return [key for key in keys if key in manifests], [key for key in keys if key not in manifests]

    def _sums(self, keys: list[str]) -> dict[str, str]:
        """Return key -> SHA-256 in the metadata of those objects that have it."""
        with ThreadPoolExecutor(self._parallel) as pool:
            found = dict(zip(keys, pool.map(self._store.metadata, keys)))
        return {key: metadata[SHA256] for key, metadata in found.items() if metadata and SHA256 in metadata}

    def publish(self, publication: Publication) -> list[str]:
        """Do what was planned; return what to warn of. What is served already is never damaged by a failure.

        :raises S3Error: the store refuses
        :raises FileError: a file cannot be read, or changed
        """
        warnings = [] if publication.bucket else _bucket.create(self._store)
        transfer = Transfer(self._store, self._digests, self._parallel)
        for stage in publication.plan.stages:
            transfer.run(stage)
        for keys in publication.plan.deletes:
            self._store.delete(keys)
        if publication.manifest:
            # Last of all: only with it is the release complete.
            transfer.run([publication.manifest])
        for keys in publication.obsolete_keys:
            self._store.delete(keys)
        return warnings

    def _manifest(self, release: str, content: bytes) -> Step:
        return Step(File("manifest", None, len(content), None, content), self._prefix(f"{RELEASES}/{release}.json"))

    def plan_removal(self, models: list[str] | None, with_bucket: bool) -> Removal:
        """Find what to delete: the objects of ``models`` and of all releases, or with None all below the prefix; and the bucket if it is ours.

        :raises S3Error: the store refuses; or the whole of a bucket that is not ours is meant
        """
        existing = self.objects()
        if existing is None:
            return Removal((), (), False, ())
        if models is None and not self._location.prefix and existing and not _bucket.is_ours(self._store):
            raise S3Error(
                f"{self._store.where} does not carry the tag {_bucket.TAG['Key']}={_bucket.TAG['Value']}, so not all of it is deleted. "
                "Give source to delete its models only, or a url with a prefix."
            )
        roots = tuple(self._location.key(f"{model}/") for model in models or ())
        keys = [key for key in existing if models is None or key.startswith(roots) or OF_RELEASES.fullmatch(self._location.name(key))]
        # Configurations and manifests first, so that nothing half-deleted looks whole.
        keys.sort(key=lambda key: (not key.endswith((f"/{CONFIG}", ".json")), key))
        kept = _bucket.why_it_stays(self._store, set(keys)) if with_bucket else []
        # Where uploads that were cut off may have left parts.
        prefixes = (self._prefix(),) if models is None else (*roots, self._prefix(f"{RELEASES}/"))
        return Removal(tuple(keys), tuple(sorted(existing)), with_bucket and not kept, tuple(kept), prefixes)

    def remove(self, removal: Removal) -> list[str]:
        """Do what was planned; return why the bucket stays, if it was to go.

        :raises S3Error: the store refuses
        """
        self._store.delete(list(removal.keys))
        for prefix in removal.prefixes:
            _bucket.abort_uploads(self._store, prefix)
        return _bucket.delete(self._store) if removal.bucket else []


def models(names: list[str]) -> list[dict]:
    """Return the models that lie in a repository, by the names of its objects: name, versions, whether there is a configuration, files."""
    found: dict[str, dict] = {}
    for name in names:
        model, _slash, rest = name.partition("/")
        if not rest:
            continue
        row = found.setdefault(model, {"name": model, "versions": set(), "config": False, "files": 0})
        row["files"] += 1
        row["config"] = row["config"] or rest == CONFIG
        version = rest.partition("/")[0]
        if version.isdigit() and "/" in rest:
            row["versions"].add(int(version))
    return [{**row, "versions": sorted(row["versions"])} for _name, row in sorted(found.items())]
