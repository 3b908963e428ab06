"""Names as ECS forms them: ARNs, task ids, ENI and instance ids.

Chance is an argument: the same `Random` gives the same ids.
"""

from __future__ import annotations

from random import Random
from uuid import UUID


class Ids:
    """Identifiers of one account and region."""

    def __init__(self, random: Random, region: str, account: str) -> None:
        self._random = random
        self.region = region
        self.account = account

    def hex(self, digits: int) -> str:
        """`digits` random hexadecimal digits."""
        return f"{self._random.getrandbits(4 * digits):0{digits}x}"

    def uuid(self) -> str:
        """A random UUID with dashes (attachments, events, containers)."""
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def deployment(self) -> str:
        """A deployment id as `startedBy` carries it: `ecs-svc/` and 19 digits."""
        return f"ecs-svc/{self._random.randrange(10**18, 10**19 - 1)}"

    def mac(self) -> str:
        """A locally administered MAC address, as ENIs have."""
        octets = [0x0A, *(self._random.randrange(256) for _ in range(5))]
        return ":".join(f"{octet:02x}" for octet in octets)

    def arn(self, resource: str, service: str = "ecs") -> str:
        """The ARN of a resource of this account and region."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


def last_part(arn_or_name: str) -> str:
    """The name or id at the end of an ARN, or the argument when it is none."""
    return arn_or_name.rsplit("/", 1)[-1] if arn_or_name.startswith("arn:") else arn_or_name
