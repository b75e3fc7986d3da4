# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong with credentials before anybody is asked. PRIVATE to the collection.

No message of this file ever holds a value, only the name of the option that it came from.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import re

#: Option of the module -> key in the Secret, which is the environment variable that Triton reads.
KEYS = {
    "region": "AWS_DEFAULT_REGION",
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
}
#: Key in the Secret of the file that TRITON_CLOUD_CREDENTIAL_PATH names.
CLOUD_FILE = "credentials.json"
#: What an entry for S3 in that file holds -> the option that means the same (Triton's src/filesystem/implementations/s3.h).
CLOUD_S3 = {"key_id": "access_key_id", "secret_key": "secret_access_key", "session_token": "session_token", "region": "region"}
#: What an entry for Azure holds (Triton's src/filesystem/implementations/as.h).
CLOUD_AS = ("account_str", "account_key", "auth_type", "client_id")
#: What the public chart's values.yaml and README hold where the real value belongs.
PLACEHOLDERS = frozenset(
    ("AWS_REGION", "AWS_SECRET_KEY_ID", "AWS_SECRET_ACCESS_KEY", "REGION", "SECRECT_KEY_ID", "SECRET_KEY_ID", "SECRET_ACCESS_KEY")
)
#: Bytes that a Secret's values may have together.
MOST_BYTES = 1 << 20

AWS_KEY_ID = re.compile(r"(AKIA|ASIA)[A-Z0-9]{12,124}")
AWS_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
#: Stores beside AWS have names of users there. A pasted secret key mostly has a slash, a plus or an equals sign.
KEY_ID = re.compile(r"[\w.@-]{3,128}", re.ASCII)
REGION = re.compile(r"[\w-]+", re.ASCII)
SECRET_KEY = re.compile(r"(?!\.\.|\.\Z)[-.\w]{1,253}", re.ASCII)
JWT = re.compile(r"[\w-]+\.([\w-]+)\.[\w-]+", re.ASCII)


class CredentialsError(Exception):
    """The credentials cannot be right. The text says which option, why, and what to do."""


def credentials(options: dict, encoding: str | None = "plain", strip: bool = False, names: dict | None = None) -> dict:
    """Return {option: plain text} of the options in KEYS that are given, checked.

    :param options: may hold every key of KEYS; None means not given
    :param encoding: ``plain`` or ``base64``; with the latter every given value is decoded once. None: plain, where there is no such option
    :param strip: remove white space around each value, before and after decoding
    :param names: option -> how messages call it, if not by its own name
    :raises CredentialsError: a value cannot be right
    """
    names = {**{option: option for option in KEYS}, **(names or {})}
    values = {}
    for option in KEYS:
        if options.get(option) is None:
            continue
        value = text(names[option], options[option], strip)
        if encoding == "base64":
            value = decode(names[option], value)
            value = value.strip() if strip else value
        check(option, value, encoding, names[option])
        values[option] = value
    check_pair(values, names)
    return values


def text(name: str, value, strip: bool = False) -> str:
    """Return ``value``, stripped if so told, if it can be a text that means something.

    :raises CredentialsError: it cannot
    """
    if not isinstance(value, str):
        raise CredentialsError(f"{name} is no text. Put it into quotes.")
    value = value.strip() if strip else value
    check_text(name, value)
    return value


def decode(name: str, value: str) -> str:
    """Return the text that ``value`` encodes.

    :raises CredentialsError: it is not base64 of text
    """
    try:
        return decode_bytes(name, value, "the base64 of a text").decode("utf-8")
    except UnicodeDecodeError:
        # The cause quotes the value.
        raise CredentialsError(_not_base64(name, "the base64 of a text")) from None


def decode_bytes(name: str, value: str, expected: str = "base64") -> bytes:
    """Return the bytes that ``value`` encodes.

    :raises CredentialsError: it is not base64
    """
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise CredentialsError(_not_base64(name, expected)) from None


def _not_base64(name: str, expected: str) -> str:
    hint = "Encode it on one line with: printf %s VALUE | base64 -w0; or give it plain with encoding: plain."
    return f"{name} is not {expected}, though encoding is base64. {hint}"


def check_text(name: str, value: str) -> None:
    """Look for what is wrong with a text whether it is plain or still encoded.

    :raises CredentialsError: it cannot be right
    """
    if not value:
        raise CredentialsError(f"{name} is empty. Give the real value.")
    if value != value.strip():
        raise CredentialsError(
            f"{name} has white space or a line break at its {'start' if value[0].isspace() else 'end'}, as left by echo without -n. "
            "Remove it, or set strip: true."
        )
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise CredentialsError(f"{name} holds control characters, such as a line break in its middle. Give it as one line of text.")
    to_bytes(name, value)
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        raise CredentialsError(f"{name} has quotes around it that are part of the value. Remove them.")
    if value in PLACEHOLDERS:
        raise CredentialsError(f"{name} is the placeholder text of the public chart. Give the real value.")


def to_bytes(name: str, value: str) -> bytes:
    """Return the text as UTF-8.

    :raises CredentialsError: it came from bytes that are none
    """
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        raise CredentialsError(f"{name} holds bytes that are no UTF-8 text. Check where it comes from.") from None


def check(option: str, value: str, encoding: str | None = "plain", name: str | None = None) -> None:
    """Look at one plain value by itself; ``encoding`` is how it was given, ``name`` what messages call it.

    :raises CredentialsError: it cannot be right
    """
    name = name or option
    check_text(name, value)
    if looks_encoded(option, value):
        if encoding == "base64":
            raise CredentialsError(f"{name} is encoded twice: after one decoding it is still base64. Encode it once.")
        if encoding == "plain":
            raise CredentialsError(f"{name} is base64, though encoding is plain. Give it plain, or set encoding: base64.")
        raise CredentialsError(f"{name} is base64. Give it plain.")
    if option == "region" and not REGION.fullmatch(value):
        raise CredentialsError(f"{name} has other characters than letters, digits, '-' and '_'. Give one such as us-east-1.")


def check_pair(values: dict, names: dict) -> None:
    """Look at the values together; any may be missing. ``names`` holds what messages call them.

    :raises CredentialsError: they are swapped, the id cannot be one, or they do not belong together
    """
    key_id, key = names["access_key_id"], names["secret_access_key"]
    if AWS_KEY_ID.fullmatch(values.get("secret_access_key", "")):
        raise CredentialsError(
            f"{key} looks like an access key id (AKIA... or ASIA...): {key_id} and {key} seem to be swapped. "
            f"Give the id as {key_id} and the 40 characters of the key as {key}."
        )
    if not KEY_ID.fullmatch(values.get("access_key_id", "none")):
        raise CredentialsError(
            f"{key_id} cannot be one: it must be 3 to 128 letters, digits, '_', '-', '.' and '@'. Check that it is not another value."
        )
    if values.get("access_key_id", "").startswith(("AKIA", "ASIA")):
        check_aws(values, names)


def check_aws(values: dict, names: dict) -> None:
    """Look at an id that begins as those of AWS do, and at what came with it.

    :raises CredentialsError: they are incomplete, or of two issues
    """
    key_id, key, token = (names[option] for option in ("access_key_id", "secret_access_key", "session_token"))
    value = values["access_key_id"]
    # Compatible stores issue temporary ones too, such as SeaweedFS: with small letters, and keys of other lengths.
    is_aws = re.fullmatch(r"[A-Z0-9]+", value)
    if not is_aws and value.startswith("AKIA"):
        raise CredentialsError(f"{key_id} begins with AKIA, but has other characters than capital letters and digits. Copy it again.")
    if is_aws and len(value) != 20:
        why = "it was cut off" if len(value) < 20 else "it was pasted twice, or together with something else"
        raise CredentialsError(f"{key_id} begins with AKIA or ASIA, so it must have 20 characters, but has {len(value)}: {why}. Copy it again.")
    length = len(values.get("secret_access_key", 40 * "-"))
    if is_aws and length != 40:
        why = "it was cut off" if length < 40 else "it was pasted twice, or together with something else"
        raise CredentialsError(f"{key} must have 40 characters beside an id of AWS (AKIA... or ASIA...), but has {length}: {why}. Copy it again.")
    if value.startswith("ASIA") and "session_token" not in values:
        raise CredentialsError(
            f"{key_id} begins with ASIA, so it is of temporary credentials, which do not work without their token. "
            f"Give {token} too, or lasting credentials, whose id begins with AKIA."
        )
    if value.startswith("AKIA") and "session_token" in values:
        raise CredentialsError(
            f"{token} is given, but {key_id} begins with AKIA: such lasting credentials have no token, so these are of two issues. "
            f"Give the id (ASIA...) and the key that were issued with the token, or leave {token} out."
        )


def looks_encoded(option: str, value: str) -> bool:
    """Return whether a plain value is the base64 of something that would itself be such a value."""
    try:
        decoded = base64.b64decode(value, validate=True).decode("ascii").strip()
    except (binascii.Error, ValueError):
        return False
    if option == "region":
        return bool(AWS_REGION.fullmatch(decoded))
    if option == "session_token":
        # Some stores' tokens are base64 of a document: only one that encodes a token again is wrong.
        return bool(re.fullmatch(r"[A-Za-z0-9+/=._-]{12,}", decoded))
    # By chance, 12 random bytes are all printable once in 100,000 values.
    return len(decoded) >= 12 and decoded.isprintable()


def expiry(token: str | None, told: str | None, token_name: str = "session_token", told_name: str = "expires") -> datetime.datetime | None:
    """Return when the credentials end, by what was told or by the token itself, whichever is first; None if neither says.

    :param told: a time in ISO 8601, in UTC if it names no zone
    :raises CredentialsError: it cannot be read, or is over
    """
    known = [moment for moment in (read_time(told, told_name) if told else None, claimed(token or "")) if moment]
    if not known:
        return None
    ends, now = min(known), datetime.datetime.now(datetime.timezone.utc)
    if ends <= now:
        raise CredentialsError(f"{token_name if token else 'the credentials'} expired at {utc(ends)} ({span(now - ends)} ago). Get new ones.")
    return ends


def read_time(told: str, name: str) -> datetime.datetime:
    """Return the time that is told in ISO 8601.

    :raises CredentialsError: it cannot be read
    """
    try:
        # Before Python 3.11 the zone Z is not taken.
        moment = datetime.datetime.fromisoformat(re.sub(r"[Zz]\Z", "+00:00", told.strip()))
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).astimezone(datetime.timezone.utc)
    except (ValueError, OverflowError):
        raise CredentialsError(f"{name} is no time in ISO 8601. Give one such as 2026-01-31T12:00:00Z.") from None


def claimed(token: str) -> datetime.datetime | None:
    """Return the end that a token claims for itself if it is a JWT, as those of some stores are; None if it is not or does not."""
    parts = JWT.fullmatch(token)
    if not parts:
        return None
    try:
        ends = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))["exp"]
        return None if isinstance(ends, bool) else datetime.datetime.fromtimestamp(ends, datetime.timezone.utc)
    except (ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError):
        return None


def utc(moment: datetime.datetime) -> str:
    """Return the moment as 2026-01-31T12:00:00Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def span(length: datetime.timedelta) -> str:
    """Return the length in words, such as "3 hours"."""
    seconds = int(length.total_seconds())
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}{'' if seconds < 2 * size else 's'}"
    return "less than a minute"


def first_expiry(token: str | None, told: str | None, file: dict, token_name: str, told_name: str) -> datetime.datetime | None:
    """Return when the first of all credentials ends (see expiry); ``file`` is what cloud_credentials returned."""
    entries = file.get("s3", {}).items()
    ends = [expiry(token, told, token_name, told_name)]
    ends += [expiry(entry.get("session_token"), None, f"cloud_credentials.s3[{json.dumps(prefix)}].session_token") for prefix, entry in entries]
    return min((moment for moment in ends if moment), default=None)


def cloud_credentials(file: dict, strip: bool = False) -> dict:
    """Return the content of Triton's file of credentials, checked.

    :param file: ``gs``, ``s3`` and ``as``, each {"" or a prefix such as s3://bucket: entry}; a value of None means not given
    :raises CredentialsError: Triton would not understand it, or a value cannot be right
    """
    known = {"gs": _gs_entry, "s3": _s3_entry, "as": _as_entry}
    check_keys("cloud_credentials", file, tuple(known))
    checked: dict = {}
    for store, entries in file.items():
        name = f"cloud_credentials.{store}"
        if not isinstance(entries, dict) or not entries:
            raise CredentialsError(f'{name} must map "" (any bucket) or prefixes such as {store}://bucket to credentials. Mend it or leave it out.')
        for prefix, entry in entries.items():
            where = f"{name}[{json.dumps(prefix)}]"
            if prefix and not prefix.startswith(f"{store}://"):
                raise CredentialsError(f'{where} is no prefix of this store. Give "" (any bucket), or one that begins with {store}://.')
            checked.setdefault(store, {})[prefix] = known[store](where, entry, strip)
    return checked


def check_keys(name: str, mapping: object, known: tuple[str, ...]) -> None:
    """Look at the keys of a part of the file.

    :raises CredentialsError: it is no mapping, or has a key that Triton does not know
    """
    if not isinstance(mapping, dict) or not mapping:
        raise CredentialsError(f"{name} must be a mapping with some of {', '.join(known)}.")
    unknown = sorted(str(key) for key in mapping.keys() - set(known))
    if unknown:
        raise CredentialsError(f"{name} has what Triton does not know: {', '.join(unknown)}. It may have {', '.join(known)}.")


def _gs_entry(where: str, entry: object, strip: bool) -> str:
    return text(where, entry, strip)


def _as_entry(where: str, entry: dict, strip: bool) -> dict:
    check_keys(where, entry, CLOUD_AS)
    return {key: text(f"{where}.{key}", value, strip) for key, value in entry.items() if value is not None}


def _s3_entry(where: str, entry: dict, strip: bool) -> dict:
    check_keys(where, entry, (*CLOUD_S3, "profile"))
    names = {option: f"{where}.{key}" for key, option in CLOUD_S3.items()}
    values = credentials({option: entry.get(key) for key, option in CLOUD_S3.items()}, None, strip, names)
    if values.keys() - {"region"} and not values.keys() >= {"access_key_id", "secret_access_key"}:
        raise CredentialsError(f"{where} needs key_id and secret_key if it has one of them or session_token. Give both, or a profile in their place.")
    checked = {key: values[option] for key, option in CLOUD_S3.items() if option in values}
    if entry.get("profile") is not None:
        checked["profile"] = text(f"{where}.profile", entry["profile"], strip)
    return checked


def content(values: dict, data: dict, file: dict, encoding: str = "plain") -> dict[str, bytes]:
    """Return the content of the Secret, {key: bytes}.

    :param values: what credentials returned
    :param data: further keys and values, the values as ``encoding`` says
    :param file: what cloud_credentials returned
    :raises CredentialsError: a key or a value of ``data`` cannot be, a key is given twice, or all is too large
    """
    found = {KEYS[option]: value.encode("utf-8") for option, value in values.items()}
    if file:
        found[CLOUD_FILE] = json.dumps(file, sort_keys=True, separators=(",", ":")).encode("utf-8")
    for key, value in data.items():
        name = f"data[{json.dumps(key)}]"
        if not SECRET_KEY.fullmatch(key):
            raise CredentialsError(f"{name}: a Secret cannot have this key. Take up to 253 letters, digits, '-', '_' and '.', no '..' at the start.")
        if key in found:
            raise CredentialsError(f"{key} is given twice, by data and by {_option_of(key)}. Leave one of them out.")
        if not isinstance(value, str):
            raise CredentialsError(f"{name} is no text. Put it into quotes, or use the filter to_json for a document.")
        if not value:
            raise CredentialsError(f"{name} is empty. Give the real value, or leave the key out.")
        found[key] = decode_bytes(name, value) if encoding == "base64" else to_bytes(name, value)
    size = sum(map(len, found.values()))
    if size > MOST_BYTES:
        raise CredentialsError(f"the values have {size} bytes together; a Secret holds at most {MOST_BYTES}. Give less in data.")
    return found


def _option_of(key: str) -> str:
    return {variable: option for option, variable in KEYS.items()}.get(key, "cloud_credentials")
