# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong with AWS credentials before anybody is asked. PRIVATE to the collection.

No message of this file ever holds a value, only the name of the option that it came from.
"""

from __future__ import annotations

import base64
import binascii
import re

#: Option of the module -> key in the Secret, which is the environment variable that Triton reads.
KEYS = {
    "region": "AWS_DEFAULT_REGION",
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
}
#: What the public chart's values.yaml and README hold where the real value belongs.
PLACEHOLDERS = frozenset(
    ("AWS_REGION", "AWS_SECRET_KEY_ID", "AWS_SECRET_ACCESS_KEY", "REGION", "SECRECT_KEY_ID", "SECRET_KEY_ID", "SECRET_ACCESS_KEY")
)

AWS_KEY_ID = re.compile(r"(AKIA|ASIA)[A-Z0-9]{12,124}")
AWS_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
KEY_ID = re.compile(r"\w{3,128}", re.ASCII)
REGION = re.compile(r"[\w-]+", re.ASCII)


class CredentialsError(Exception):
    """The credentials cannot be right. The text says which option, why, and what to do."""


def credentials(options: dict, encoding: str = "plain", strip: bool = False) -> dict:
    """Return {option: plain text} of the options in KEYS that are given, checked.

    :param options: may hold every key of KEYS; None means not given
    :param encoding: ``plain`` or ``base64``; with the latter every given value is decoded once
    :param strip: remove white space around each value, before and after decoding
    :raises CredentialsError: a value cannot be right
    """
    values = {}
    for option in KEYS:
        if options.get(option) is None:
            continue
        value = options[option].strip() if strip else options[option]
        check_text(option, value)
        if encoding == "base64":
            value = decode(option, value)
            value = value.strip() if strip else value
        check(option, value, encoding)
        values[option] = value
    check_pair(values)
    return values


def decode(option: str, value: str) -> str:
    """Return the text that ``value`` encodes.

    :raises CredentialsError: it is not base64 of text
    """
    hint = "Encode it on one line with: printf %s VALUE | base64 -w0; or give it plain with encoding: plain."
    try:
        return base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        # The cause quotes the value.
        raise CredentialsError(f"{option} is not the base64 of a text, though encoding is base64. {hint}") from None


def check_text(option: str, value: str) -> None:
    """Look for what is wrong with a text whether it is plain or still encoded.

    :raises CredentialsError: it cannot be right
    """
    if not value:
        raise CredentialsError(f"{option} is empty. Give the real value.")
    if value != value.strip():
        raise CredentialsError(
            f"{option} has white space or a line break at its {'start' if value[0].isspace() else 'end'}, as left by echo without -n. "
            "Remove it, or set strip: true."
        )
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise CredentialsError(f"{option} holds control characters, such as a line break in its middle. Give it as one line of text.")
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        raise CredentialsError(f"{option} has quotes around it that are part of the value. Remove them.")
    if value in PLACEHOLDERS:
        raise CredentialsError(f"{option} is the placeholder text of the public chart. Give the real value.")


def check(option: str, value: str, encoding: str = "plain") -> None:
    """Look at one plain value by itself; ``encoding`` is how it was given.

    :raises CredentialsError: it cannot be right
    """
    check_text(option, value)
    if looks_encoded(option, value):
        if encoding == "base64":
            raise CredentialsError(f"{option} is encoded twice: after one decoding it is still base64. Encode it once.")
        raise CredentialsError(f"{option} is base64, though encoding is plain. Give it plain, or set encoding: base64.")
    if option == "region" and not REGION.fullmatch(value):
        raise CredentialsError("region has other characters than letters, digits, '-' and '_'. Give one such as us-east-1.")


def check_pair(values: dict) -> None:
    """Look at the key id and the key together; either may be missing.

    :raises CredentialsError: they are swapped, or the id cannot be one
    """
    if AWS_KEY_ID.fullmatch(values.get("secret_access_key", "")):
        raise CredentialsError(
            "secret_access_key looks like an access key id (AKIA... or ASIA...): access_key_id and secret_access_key seem to be swapped. "
            "Give the id as access_key_id and the 40 characters of the key as secret_access_key."
        )
    if not KEY_ID.fullmatch(values.get("access_key_id", "none")):
        raise CredentialsError("access_key_id cannot be one: it must be 3 to 128 letters, digits and '_'. Check that it is not another value.")


def looks_encoded(option: str, value: str) -> bool:
    """Return whether a plain value is the base64 of something that would itself be such a value."""
    try:
        text = base64.b64decode(value, validate=True).decode("ascii").strip()
    except (binascii.Error, ValueError):
        return False
    if option == "region":
        return bool(AWS_REGION.fullmatch(text))
    if option == "session_token":
        # Some stores' tokens are base64 of a document: only one that encodes a token again is wrong.
        return bool(re.fullmatch(r"[A-Za-z0-9+/=._-]{12,}", text))
    # By chance, 12 random bytes are all printable once in 100,000 values.
    return len(text) >= 12 and text.isprintable()
