# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Can a model repository on S3 be read with the credentials that a Secret holds? Asked from here. PRIVATE to the collection."""

from __future__ import annotations

import json

from ansible_collections.mlserving.triton.plugins.module_utils._credentials import CLOUD_FILE, CLOUD_S3, KEYS
from ansible_collections.mlserving.triton.plugins.module_utils._s3 import Store
from ansible_collections.mlserving.triton.plugins.module_utils._s3_errors import S3Error
from ansible_collections.mlserving.triton.plugins.module_utils._s3_url import Location


def of_secret(data: dict[str, str], url: str) -> dict[str, str]:
    """Return {option: value} of the credentials that Triton takes from a Secret's plain data for a repository.

    In a file of several stores the entry with the longest prefix of ``url`` counts, as in Triton.

    :raises S3Error: there are none for this repository
    """
    if CLOUD_FILE not in data:
        return {option: data[key] for option, key in KEYS.items() if key in data}
    try:
        entries = json.loads(data[CLOUD_FILE]).get("s3") or {}
    except (ValueError, AttributeError):
        raise S3Error(f"the Secret's {CLOUD_FILE} is no mapping in JSON. Correct it.") from None
    prefixes = [prefix for prefix in entries if url.startswith(prefix)]
    if not prefixes:
        raise S3Error(f"the file of credentials has no entry for {url}. Add one under s3, with a prefix of that URL or with an empty one.")
    entry = entries[max(prefixes, key=len)]
    return {option: entry[field] for field, option in CLOUD_S3.items() if entry.get(field)}


def read(store: Store, location: Location) -> str:
    """List the repository and open an object of it, and return that object's key.

    :raises S3Error: one of the two is refused, or there is nothing
    """
    page = store.call("be listed", "list_objects_v2", ("NoSuchBucket",), Prefix=location.key("") if location.prefix else "", MaxKeys=1)
    if page is None:
        raise S3Error(f"{store.where} does not exist.")
    if not page.get("Contents"):
        raise S3Error(f"{store.where} holds nothing below {location.prefix or 'its root'}. Check the path, and that the models were published there.")
    key = page["Contents"][0]["Key"]
    store.call(f"have {key} read", "get_object", Key=key)["Body"].close()
    return key
