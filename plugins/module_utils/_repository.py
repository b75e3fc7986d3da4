# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model repository in a bucket: what differs from a local tree, the transfer, and taking it back.

PRIVATE to the collection. Nothing here changes the store but create_bucket, transfer, delete and delete_bucket.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib

from ansible_collections.mlserving.triton.plugins.module_utils._model_tree import CONFIG, File
from ansible_collections.mlserving.triton.plugins.module_utils._s3 import Location, S3Error, Store, code_of

try:
    from boto3.s3.transfer import TransferConfig, create_transfer_manager
    from botocore.exceptions import ClientError
except ImportError:
    # Reported by the module, through _s3.IMPORT_ERROR.
    ClientError = Exception

#: Bytes. Below it a file is one request, whose ETag is the file's MD5 on most stores.
MULTIPART_FROM = 64 * 1024 * 1024
#: The most keys that one DeleteObjects request takes.
DELETE_AT_ONCE = 1000
TAG = {"Key": "managed-by", "Value": "mlserving.triton"}


@dataclasses.dataclass(frozen=True)
class Object:
    """An object as a listing shows it; ``size`` is in bytes."""

    size: int
    etag: str


@dataclasses.dataclass(frozen=True)
class Upload:
    """What a transfer has to do. ``existing`` holds the keys below the prefix, or is None if there is no bucket."""

    files: tuple[File, ...]
    unchanged: int
    existing: tuple[str, ...] | None

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


@dataclasses.dataclass(frozen=True)
class Removal:
    """What taking back has to do. ``kept`` says why the bucket stays, if it was to go."""

    keys: tuple[str, ...]
    existing: tuple[str, ...] | None
    bucket: bool
    kept: tuple[str, ...]


def listing(store: Store, location: Location) -> dict[str, Object] | None:
    """Return {key: Object} below the prefix, or None if the bucket does not exist.

    :raises S3Error: the store refuses or does not answer
    """
    objects = {}
    with store.explained("be listed"):
        try:
            for entry in _entries(store, location.key("") if location.prefix else ""):
                objects[entry["Key"]] = Object(entry["Size"], entry.get("ETag", "").strip('"'))
        except ClientError as error:
            if code_of(error) != "NoSuchBucket":
                raise
            return None
    return objects


def _entries(store: Store, prefix: str):
    for page in store.client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket, Prefix=prefix):
        yield from page.get("Contents", ())


def plan_upload(store: Store, location: Location, files: list[File], parallel: int) -> Upload:
    """Compare the files with what lies in the bucket.

    :raises S3Error: the store refuses, or a file cannot be read
    """
    existing = listing(store, location)
    if existing is None:
        return Upload(tuple(files), 0, None)

    def is_same(file: File) -> bool:
        key = location.key(file.name)
        return key in existing and _is_same(store, key, existing[key], file)

    with store.explained("be compared with the source"), concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        try:
            same = list(pool.map(is_same, files))
        except OSError as error:
            raise _unreadable(error) from None
    changed = tuple(file for file, unchanged in zip(files, same) if not unchanged)
    return Upload(changed, len(files) - len(changed), tuple(sorted(existing)))


def _is_same(store: Store, key: str, remote: Object, file: File) -> bool:
    if remote.size != file.size:
        return False
    if "-" not in remote.etag and remote.etag == _hash(file, "md5"):
        return True
    # The ETag of several parts, or of an encrypted object, is no MD5 of the content: ask for the sum that transfer() leaves.
    metadata = store.client.head_object(Bucket=store.bucket, Key=key).get("Metadata", {})
    return "sha256" in metadata and metadata["sha256"] == _hash(file, "sha256")


def _hash(file: File, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(file.path, "rb") as stream:
        while chunk := stream.read(1024 * 1024):
            digest.update(chunk)
    return digest.hexdigest()


def _unreadable(error: OSError) -> S3Error:
    return S3Error(f"{error.filename} cannot be read: {error.strerror}. Nothing that depends on it was transferred; run again.")


def create_bucket(store: Store) -> list[str]:
    """Create the bucket and mark it as ours; return what to warn of.

    :raises S3Error: it cannot be created
    """
    where = {} if store.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": store.region}}
    with store.explained("be created"):
        store.client.create_bucket(Bucket=store.bucket, **where)
    try:
        with store.explained("be tagged"):
            store.client.put_bucket_tagging(Bucket=store.bucket, Tagging={"TagSet": [TAG]})
    except S3Error as error:
        return [f"{error} The bucket works, but delete_bucket will keep it for lack of the tag."]
    return []


def transfer(store: Store, location: Location, files: tuple[File, ...], parallel: int) -> None:
    """Upload the files, every configuration after all other files: a Triton that polls must not see it without its versions.

    :raises S3Error: the store refuses, or a file cannot be read
    """
    config = TransferConfig(
        multipart_threshold=MULTIPART_FROM, multipart_chunksize=MULTIPART_FROM, max_concurrency=parallel, preferred_transfer_client="classic"
    )
    last = [file for file in files if is_config(file)]
    first = [file for file in files if not is_config(file)]
    with store.explained("be written to"), create_transfer_manager(store.client, config) as manager:
        for group in (first, last):
            try:
                _send(store, location, group, manager, parallel)
            except OSError as error:
                raise _unreadable(error) from None


def is_config(file: File) -> bool:
    """Return whether a file is a model's configuration: MODEL/config.pbtxt."""
    return file.name.split("/")[1:] == [CONFIG]


def _send(store: Store, location: Location, files: list[File], manager, parallel: int) -> None:
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        sums = pool.map(lambda file: _hash(file, "sha256"), files)
        sent = [
            manager.upload(str(file.path), store.bucket, location.key(file.name), {"Metadata": {"sha256": digest}})
            for file, digest in zip(files, sums)
        ]
    for future in sent:
        future.result()


def plan_removal(store: Store, location: Location, models: list[str] | None, with_bucket: bool) -> Removal:
    """Find what to delete: the objects of ``models``, or with None all below the prefix, and the bucket if it is ours.

    :raises S3Error: the store refuses; or the whole of a bucket that is not ours is meant
    """
    existing = listing(store, location)
    if existing is None:
        return Removal((), None, False, ())
    if models is None and not location.prefix and existing and not is_ours(store):
        raise S3Error(
            f"{store.where} does not carry the tag {TAG['Key']}={TAG['Value']}, so not all of it is deleted. "
            "Give source to delete its models only, or a url with a prefix."
        )
    roots = tuple(location.key(f"{model}/") for model in models or ())
    keys = tuple(sorted(key for key in existing if models is None or key.startswith(roots)))
    kept = _why_bucket_stays(store, set(keys)) if with_bucket else []
    return Removal(keys, tuple(sorted(existing)), with_bucket and not kept, tuple(kept))


def is_ours(store: Store) -> bool:
    """Return whether the bucket carries our tag."""
    with store.explained("be asked for its tags"):
        try:
            return TAG in store.client.get_bucket_tagging(Bucket=store.bucket)["TagSet"]
        except ClientError as error:
            if code_of(error) in ("NoSuchTagSet", "NotImplemented", "404"):
                return False
            raise


def _why_bucket_stays(store: Store, gone: set[str]) -> list[str]:
    if not is_ours(store):
        return [f"{store.where} does not carry the tag {TAG['Key']}={TAG['Value']}: it was not made by this collection."]
    with store.explained("be listed"):
        other = next((entry["Key"] for entry in _entries(store, "") if entry["Key"] not in gone), None)
    return [f"{store.where} holds other objects, such as {other}."] if other else []


def delete(store: Store, keys: tuple[str, ...]) -> None:
    """Delete the objects.

    :raises S3Error: the store refuses to delete some of them
    """
    for start in range(0, len(keys), DELETE_AT_ONCE):
        batch = [{"Key": key} for key in keys[start : start + DELETE_AT_ONCE]]
        with store.explained("have objects deleted"):
            answer = store.client.delete_objects(Bucket=store.bucket, Delete={"Objects": batch, "Quiet": True})
        if errors := answer.get("Errors"):
            raise S3Error(f"{store.where} kept {len(errors)} objects that were to be deleted, the first is {errors[0].get('Key')}: {errors[0].get('Code')}.")


def delete_bucket(store: Store) -> list[str]:
    """Delete the bucket; return why it stays if something is left in it that a listing does not show.

    :raises S3Error: the store refuses
    """
    with store.explained("be deleted"):
        try:
            store.client.delete_bucket(Bucket=store.bucket)
        except ClientError as error:
            if code_of(error) != "BucketNotEmpty":
                raise
            return [f"{store.where} is not empty to the store: it may keep old versions of objects."]
    return []
