# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bucket of a model repository: made and marked, recognised, and taken back with all that it keeps. PRIVATE to the collection."""

from __future__ import annotations

from ansible_collections.mlserving.triton.plugins.module_utils._s3 import S3Error, Store

#: Marks a bucket as one that this collection made. The role model_repository gives amazon.aws.s3_bucket the same one.
TAG = {"Key": "mlserving.triton/managed-by", "Value": "model_repository"}
#: Stores without tags, buckets without any, and credentials that may not read them: they need not, unless the bucket is ours.
UNTAGGED = ("NoSuchTagSet", "NotImplemented", "MethodNotAllowed", "404", "NoSuchBucket", "AccessDenied")


def create(store: Store) -> list[str]:
    """Create the bucket and mark it as ours; return what to warn of.

    :raises S3Error: it cannot be created
    """
    where = {} if store.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": store.region}}
    # One that is ours by now was made by a run beside this one.
    if store.call("be created", "create_bucket", ("BucketAlreadyOwnedByYou",), **where) is None:
        return []
    try:
        store.call("be tagged", "put_bucket_tagging", Tagging={"TagSet": [TAG]})
    except S3Error as error:
        return [f"{error} The bucket works, but delete_bucket will keep it for lack of the tag."]
    return []


def is_ours(store: Store) -> bool:
    """Return whether the bucket carries our tag, as far as these credentials show."""
    answer = store.call("be asked for its tags", "get_bucket_tagging", UNTAGGED)
    return TAG in answer["TagSet"] if answer else False


def why_it_stays(store: Store, gone: set[str]) -> list[str]:
    """Return why the bucket is not to be deleted once the keys in ``gone`` are; empty if it may be.

    :raises S3Error: the store refuses or does not answer
    """
    if not is_ours(store):
        return [f"{store.where} does not carry the tag {TAG['Key']}={TAG['Value']}: it was not made by this collection."]
    for page in store.pages("be listed", "list_objects_v2"):
        for entry in page.get("Contents", ()):
            if entry["Key"] not in gone:
                return [f"{store.where} holds other objects, such as {entry['Key']}."]
    return []


def old_versions(store: Store, prefix: str) -> list[dict]:
    """Return what a bucket with versioning keeps below a prefix, as Store.delete_versions takes it; empty where there is none."""
    entries = []
    for page in store.pages("be listed with versions", "list_object_versions", ("NotImplemented", "MethodNotAllowed", "NoSuchBucket"), Prefix=prefix):
        entries += [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for kind in ("Versions", "DeleteMarkers") for entry in page.get(kind, ())]
    return entries


def abort_uploads(store: Store, prefix: str) -> None:
    """Throw away the parts of uploads below a prefix that were never finished."""
    for page in store.pages("be asked for unfinished uploads", "list_multipart_uploads", ("NotImplemented", "MethodNotAllowed", "NoSuchBucket"), Prefix=prefix):
        for upload in page.get("Uploads", ()):
            store.abort(upload["Key"], upload["UploadId"])


def delete(store: Store) -> list[str]:
    """Delete the bucket, and the versions and parts that a listing of objects does not show; return why it stays, if it does.

    :raises S3Error: the store refuses
    """
    abort_uploads(store, "")
    store.delete_versions(old_versions(store, ""))
    if store.call("be deleted", "delete_bucket", ("BucketNotEmpty", "NoSuchBucket")) is None:
        return [f"{store.where} is not empty: something was written to it meanwhile. Run again."]
    return []
