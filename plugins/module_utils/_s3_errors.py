# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an S3 store's errors mean, and which of them may pass. PRIVATE to the collection."""

from __future__ import annotations

try:
    import botocore.exceptions as kinds
except ImportError:
    kinds = None  # reported by the modules, through _s3.IMPORT_ERROR

#: Error code of a store -> what it means and what to do. {id} names the key id, {region} the bucket's region where the store tells it.
MEANINGS = {
    "InvalidAccessKeyId": "the store does not know the {id}. Check access_key_id, and that the credentials belong to this store.",
    "SignatureDoesNotMatch": "secret_access_key does not belong to the {id}. Check it for a missing or an extra character.",
    "AccessDenied": "the {id} may not do this. It needs s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on the bucket, "
    "s3:CreateBucket to make it, and the bucket may belong to somebody else.",
    "ExpiredToken": "the temporary credentials of the {id} have expired. Get new ones.",
    "InvalidToken": "session_token does not belong to the {id}. Give the id, the key and the token of one issue.",
    "RequestTimeTooSkewed": "this machine's clock differs too much from the store's. Set the clock.",
    "AuthorizationHeaderMalformed": "the request was signed for another region. Set region to the bucket's{region}; Triton is given the same.",
    "PermanentRedirect": "the bucket is in another region. Set region to the bucket's{region}; Triton is given the same.",
    "IllegalLocationConstraintException": "the bucket cannot be made in that region from here. Set region to the one meant{region}.",
    "BucketAlreadyExists": "a bucket of that name belongs to somebody else. Take another name.",
    "NoSuchBucket": "the bucket does not exist.",
    "EntityTooLarge": "an object is larger than the store takes.",
    "BadDigest": "what arrived is not what was sent: the way to the store damages data.",
    "InternalError": "the store failed to do it: it may be stopping, or its disk may be full. Look at the store's own log.",
    "XMinioStorageFull": "the store's disk is full. Make room there, then run again.",
    "QuotaExceeded": "the bucket's quota is used up. Make room there, then run again.",
    "SlowDown": "the store is overloaded. Run again later, or with a smaller parallel.",
    "ServiceUnavailable": "the store is not ready. Run again later.",
    "301": "the bucket is in another region. Set region to the bucket's{region}.",
    "400": "the store refuses without a reason; expired credentials and a wrong region do that. Check both{region}.",
    "403": "the {id} is refused. Check the credentials and the bucket's policy.",
    "404": "it does not exist.",
    "502": "something in front of the store answers, and the store does not. Check that it runs.",
    "503": "the store, or something in front of it, is not ready. Run again later.",
    "504": "something in front of the store answers, and the store does not. Check that it runs.",
    "507": "the store's disk is full. Make room there, then run again.",
}
#: Codes and HTTP statuses that may pass when the same request is sent again.
TRANSIENT = frozenset(
    ("InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException", "BadDigest", "OperationAborted", "Throttling")
)
TRANSIENT_STATUS = frozenset((408, 429, 500, 502, 503, 504))


class S3Error(Exception):
    """The URL cannot be used or the store refuses. The text says what to do."""


class NoAnswerError(S3Error):
    """The store could not be reached from here."""


def explained(error: Exception, start: str, key_id: str) -> S3Error:
    """Return an SDK's error in words; ``start`` begins the sentence."""
    return (NoAnswerError if _is_no_answer(error) else S3Error)(f"{start}: {meaning(error, key_id)}")


def _is_no_answer(error: Exception) -> bool:
    return isinstance(error, (kinds.ConnectionError, kinds.HTTPClientError)) and not isinstance(error, kinds.SSLError)


def code_of(error: Exception) -> str:
    """Return the store's error code of a ClientError."""
    return error.response.get("Error", {}).get("Code", "")


def is_transient(error: Exception) -> bool:
    """Return whether the same request may succeed later."""
    if isinstance(error, kinds.ClientError):
        return code_of(error) in TRANSIENT or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in TRANSIENT_STATUS
    return _is_no_answer(error)


def meaning(error: Exception, key_id: str) -> str:
    """Return what an SDK's error means and what to do, in one line; of the key id only its end is shown."""
    if isinstance(error, kinds.ClientError):
        return _refusal(error, key_id)
    if isinstance(error, (kinds.NoCredentialsError, kinds.PartialCredentialsError)):
        return "no credentials were found. Give access_key_id and secret_access_key, or set the AWS variables, profile or role of the SDK."
    if isinstance(error, kinds.ProfileNotFound):
        return f"{one_line(str(error))}. Check profile against ~/.aws/config and ~/.aws/credentials."
    if isinstance(error, kinds.SSLError):
        return "the TLS connection failed. Check that the endpoint speaks https and that its certificate is trusted (ca_bundle)."
    if _is_no_answer(error):
        return f"the store does not answer ({type(error).__name__}). Check that it runs and that this machine reaches it; else set endpoint_url."
    return one_line(str(error))


def _refusal(error: Exception, key_id: str) -> str:
    code = code_of(error) or "no code"
    details = error.response.get("Error", {})
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = details.get("Region") or headers.get("x-amz-bucket-region")
    said = one_line(details.get("Message", ""))
    if code not in MEANINGS:
        return f"{code}: {said or 'no reason given'}"
    ending = f" ending in {key_id[-4:]}" if len(key_id) >= 12 else ""
    text = MEANINGS[code].format(id=f"access key id{ending}", region=f", {region}" if region else "")
    return f"{text} ({code}{': ' + said if code == 'InternalError' and said else ''})"


def one_line(text: str) -> str:
    return " ".join(text.split())[:200]
