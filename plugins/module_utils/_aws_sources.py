# Copyright (c) the mlserving.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS credentials from where they are: options, the environment, a profile of the AWS configuration files. PRIVATE to the collection.

No message of this file ever holds a value.
"""

from __future__ import annotations

import dataclasses
import datetime
import os

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.mlserving.triton.plugins.module_utils import _credentials
from ansible_collections.mlserving.triton.plugins.module_utils._credentials import CredentialsError

try:
    import botocore.exceptions
    import botocore.session
except ImportError:
    botocore = None  # only a profile needs it

REQUIREMENT = "boto3>=1.38"
NEEDED = ("access_key_id", "secret_access_key", "region")
#: Option -> environment variables that hold it, the first one counts.
ENVIRONMENT = {
    "access_key_id": ("AWS_ACCESS_KEY_ID",),
    "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"),
    "region": ("AWS_DEFAULT_REGION", "AWS_REGION"),
}
EXPIRATION = "AWS_CREDENTIAL_EXPIRATION"
#: Places where the SDK looks that are none of a profile.
NOT_OF_A_PROFILE = ("env", "ec2-credentials-file", "boto-config", "container-role", "iam-role")


@dataclasses.dataclass(frozen=True)
class Found:
    """AWS credentials: {option: text}, how messages call them, and when they end as far as that was told."""

    values: dict
    names: dict
    told: str | None = None
    told_name: str = "expires"


def read(params: dict) -> Found:
    """Return the AWS credentials that the options name, checked; there may be none.

    :param params: values_from, profile, the four options of _credentials.KEYS, expires, encoding, strip, data and cloud_credentials
    :raises CredentialsError: they are missing or cannot be right
    """
    source = params["values_from"]
    if params["profile"] is not None and source != "profile":
        raise CredentialsError(f"profile is given, but values_from is {source}. Set values_from: profile, or leave profile out.")
    if source == "options":
        return from_options(params)
    beside = [option for option in ("access_key_id", "secret_access_key", "session_token") if params[option] is not None]
    if beside:
        raise CredentialsError(f"values_from is {source}, but {', '.join(beside)} is given too. Leave out one of the two.")
    found = from_environment(params, dict(os.environ)) if source == "environment" else from_profile(params)
    # The option counts, whatever the other place says.
    others = {option: value for option, value in found.values.items() if option != "region" or params["region"] is None}
    values = _credentials.credentials(others, None, params["strip"], found.names)
    values |= _credentials.credentials({"region": params["region"]}, params["encoding"], params["strip"])
    return dataclasses.replace(found, values=values)


def from_options(params: dict) -> Found:
    """Return the AWS credentials of the options, none if there is something else to write.

    :raises CredentialsError: some are missing, or one cannot be right
    """
    given = [option for option in ("access_key_id", "secret_access_key", "session_token") if params[option] is not None]
    missing = [option for option in NEEDED if params[option] is None]
    if missing and (given or not (params["data"] or params["cloud_credentials"])):
        raise CredentialsError(
            f"state is present, and missing: {', '.join(missing)}. Give access_key_id, secret_access_key and region, "
            "or take them by values_from: environment or profile, or give data or cloud_credentials in their place."
        )
    return Found(_credentials.credentials(params, params["encoding"], params["strip"]), {}, params["expires"])


def from_environment(params: dict, environ: dict) -> Found:
    """Return the AWS credentials of the environment, not checked yet.

    :raises CredentialsError: some are missing
    """
    variables = {option: next((name for name in names if environ.get(name)), None) for option, names in ENVIRONMENT.items()}
    missing = [ENVIRONMENT[option][0] for option in ("access_key_id", "secret_access_key") if not variables[option]]
    problems = []
    if missing:
        problems.append(
            f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not set where the module runs. "
            "Set what is missing there, such as by an AWS credential of the automation controller or the task's environment"
        )
    if params["region"] is None and not variables["region"]:
        problems.append(
            "neither AWS_DEFAULT_REGION nor AWS_REGION is set where the module runs. "
            "An AWS credential of an automation controller sets no region: give the option region"
        )
    if problems:
        raise CredentialsError(f"values_from is environment: {'; '.join(problems)}.")
    values = {option: environ[name] for option, name in variables.items() if name}
    names = {option: f"the environment variable {name}" for option, name in variables.items() if name}
    # For the messages about one that is missing.
    names.setdefault("session_token", "AWS_SESSION_TOKEN")
    told, told_name = (params["expires"], "expires") if params["expires"] else (environ.get(EXPIRATION), f"the environment variable {EXPIRATION}")
    return Found(values, names, told, told_name)


def from_profile(params: dict) -> Found:
    """Return the AWS credentials of a profile, not checked yet.

    :raises CredentialsError: there is no such profile, or it has no credentials or no region
    """
    profile = params["profile"]
    if not profile:
        raise CredentialsError("values_from is profile, but profile is not given. Name one of the AWS configuration files.")
    if botocore is None:
        raise CredentialsError(missing_required_lib(REQUIREMENT))
    session = botocore.session.Session(profile=profile)
    try:
        resolver = session.get_component("credential_provider")
        for place in NOT_OF_A_PROFILE:
            resolver.remove(place)
        credentials = resolver.load_credentials()
        frozen = credentials and credentials.get_frozen_credentials()
        region = session.get_scoped_config().get("region")
    except botocore.exceptions.ProfileNotFound:
        raise CredentialsError(f"there is no profile {profile!r} where the module runs. There are: {_profiles(session)}.") from None
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError, ValueError, KeyError) as error:
        # Its text may hold what a credential process said.
        code = getattr(error, "response", {}).get("Error", {}).get("Code") or type(error).__name__
        raise CredentialsError(
            f"the profile {profile!r} gives no credentials ({code}). Try where the module runs: aws sts get-caller-identity --profile {profile}"
        ) from None
    if not frozen:
        raise CredentialsError(f"the profile {profile!r} has no credentials. Add them, such as with: aws configure --profile {profile}")
    if not region and params["region"] is None:
        raise CredentialsError(f"the profile {profile!r} has no region. Give the option region.")
    values = {"access_key_id": frozen.access_key, "secret_access_key": frozen.secret_key, "session_token": frozen.token, "region": region}
    names = {option: f"the {option} of the profile {profile!r}" for option in values}
    return Found({option: value for option, value in values.items() if value}, names, _first(params["expires"], credentials))


def _first(told: str | None, credentials: "botocore.credentials.Credentials") -> str | None:
    """Return the earlier of the times that the option and the SDK tell."""
    # The SDK has no public name for it; only credentials that it issues anew have it.
    ends = getattr(credentials, "_expiry_time", None)
    if not isinstance(ends, datetime.datetime):
        return told
    return min(ends, _credentials.read_time(told, "expires")).isoformat() if told else ends.isoformat()


def _profiles(session: "botocore.session.Session") -> str:
    try:
        return ", ".join(sorted(session.available_profiles)) or "none"
    except botocore.exceptions.BotoCoreError:
        return "none that can be read"
