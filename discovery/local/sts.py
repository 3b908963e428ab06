"""STS GetCallerIdentity and AssumeRole, and who a request comes from.

Any role may be assumed unless one was declared with an external id; the credentials of a role act
in the account of its ARN.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from discovery.local.errors import ApiError
from discovery.local.state import Document
from discovery.local.world import World

_ROLE = re.compile(r"arn:aws[\w-]*:iam::(\d{12}):role/(?:[\w+=,.@/-]*/)?([\w+=,.@-]+)$")
_DEFAULT_DURATION_S = 3600


@dataclass(frozen=True, slots=True)
class Caller:
    """Who signed a request."""

    account: str
    arn: str
    user_id: str


class Identities:
    """The callers one server knows, by access key, and the roles that want an external id."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._callers: dict[str, Caller] = {}
        self._external_ids: dict[str, str] = {}

    def caller(self, access_key: str | None) -> Caller:
        """The assumed role of the key, else the one user."""
        known = self._callers.get(access_key or "")
        user = f"arn:aws:iam::{self._account}:user/local"
        return known or Caller(self._account, user, "AIDALOCALECS00000000")

    def add_role(self, arn: str, external_id: str) -> None:
        """Declare a role that is only assumed with this external id."""
        self._external_ids[arn] = external_id

    def assume(self, arn: str, session: str, external_id: str | None, key: str) -> Caller:
        """Make `key` a key of the role; AccessDenied for a wrong external id."""
        found = _ROLE.match(arn)
        if found is None:
            raise ApiError("ValidationError", f"{arn} is invalid")
        if self._external_ids.get(arn, external_id) != external_id:
            raise ApiError(
                "AccessDenied",
                f"User: {self.caller(None).arn} is not authorized to perform: sts:AssumeRole on "
                f"resource: {arn}",
                403,
            )
        account, name = found.groups()
        assumed = f"arn:aws:sts::{account}:assumed-role/{name}/{session}"
        self._callers[key] = Caller(account, assumed, f"AROALOCALECS00000000:{session}")
        return self._callers[key]


def get_caller_identity(caller: Caller) -> Document:
    """GetCallerIdentity."""
    return {"UserId": caller.user_id, "Account": caller.account, "Arn": caller.arn}


def assume_role(world: World, identities: Identities, form: Document) -> Document:
    """AssumeRole."""
    arn, session = str(form.get("RoleArn")), str(form.get("RoleSessionName"))
    key = "ASIA" + world.ids.hex(16).upper()
    external_id = form.get("ExternalId")
    caller = identities.assume(arn, session, None if external_id is None else str(external_id), key)
    until = world.run.clock() + float(form.get("DurationSeconds") or _DEFAULT_DURATION_S)
    return {
        "Credentials": {
            "AccessKeyId": key,
            "SecretAccessKey": world.ids.hex(40),
            "SessionToken": world.ids.hex(128),
            "Expiration": datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        "AssumedRoleUser": {"AssumedRoleId": caller.user_id, "Arn": caller.arn},
        "PackedPolicySize": 6,
    }
