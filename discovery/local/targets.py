"""Target groups and their targets: what a load balancer knows of an address, and how it judges it.

Pure decisions. A target is `initial` until its first check passes (healthy at once) or
`UnhealthyThresholdCount` checks in a row fail; afterwards the thresholds decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

Changed = Callable[[], None]
REGISTERING = "Elb.RegistrationInProgress"
CHECKING = "Elb.InitialHealthChecking"
DEREGISTERING = "Target.DeregistrationInProgress"
UNREGISTERED = "Target.NotRegistered"
UNUSED = "Target.NotInUse"
DISABLED = "Target.HealthCheckDisabled"
FAILED = "Target.FailedHealthChecks"
MISMATCH = "Target.ResponseCodeMismatch"
TIMEOUT = "Target.Timeout"

_TEXTS = {
    REGISTERING: "Target registration is in progress",
    CHECKING: "Initial health checks in progress",
    DEREGISTERING: "Target deregistration is in progress",
    UNREGISTERED: "Target is not registered to the target group",
    UNUSED: "Target is in an Availability Zone that is not enabled for the load balancer",
    DISABLED: "Health checks are disabled for the target group",
    FAILED: "Health checks failed",
    TIMEOUT: "Request timed out",
}


class Timer(Protocol):
    """A pending callback."""

    def cancel(self) -> None:
        """Forget it."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """One health check: `reason` is None when it passed, `status` the HTTP status it got."""

    reason: str | None = None
    status: int | None = None


@dataclass(slots=True, eq=False)
class Target:
    """A registered target: `id` is an instance id or an address, `address` where it listens."""

    id: str
    port: int
    address: str
    zone: str | None = None
    simulated: bool = False
    state: str = "initial"
    reason: str | None = REGISTERING
    description: str | None = _TEXTS[REGISTERING]
    passed: int = 0
    failed: int = 0
    timer: Timer | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What it is registered by."""
        return self.id, self.port

    def become(self, state: str, reason: str | None = None, description: str | None = None) -> None:
        """Be in another state; a healthy target has neither reason nor description."""
        self.state, self.reason = state, reason
        self.description = description or (_TEXTS[reason] if reason else None)

    def judge(self, outcome: Outcome, healthy: int, unhealthy: int) -> bool:
        """Count a check of a registered target; whether its state changed by it."""
        before = self.state
        if outcome.reason is None:
            self.passed, self.failed = self.passed + 1, 0
            if before == "initial" or self.passed >= healthy:
                self.become("healthy")
        else:
            self.passed, self.failed = 0, self.failed + 1
            if before == "unhealthy" or self.failed >= unhealthy:
                self.become("unhealthy", outcome.reason, _told(outcome))
        return self.state != before


def _told(outcome: Outcome) -> str | None:
    if outcome.reason == MISMATCH:
        return f"Health checks failed with these codes: [{outcome.status}]"
    return None


@dataclass(slots=True, eq=False)
class TargetGroup:
    """A target group; `settings` is what DescribeTargetGroups answers.

    One that was only ever named by a service, and never created, is `implied`: it checks by TCP
    connect, takes targets of both types and lets go of them at once. Targets in `closed_zones` are
    not used.
    """

    arn: str
    settings: dict[str, Any]
    implied: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    targets: dict[tuple[str, int], Target] = field(default_factory=dict)
    closed_zones: frozenset[str] = frozenset()

    @property
    def type(self) -> str:
        """`instance` or `ip`."""
        return str(self.settings["TargetType"])

    @property
    def checked(self) -> bool:
        """Whether health checks are enabled."""
        return bool(self.settings["HealthCheckEnabled"])

    @property
    def deregistration_delay_s(self) -> float:
        """How long a target drains, before scaling."""
        return float(self.attributes["deregistration_delay.timeout_seconds"])

    def health(self, target: Target) -> dict[str, str]:
        """The `TargetHealth` of a target."""
        if target.zone in self.closed_zones and target.state != "draining":
            return health("unused", UNUSED)
        return health(target.state, target.reason, target.description)


def health(state: str, reason: str | None, description: str | None = None) -> dict[str, str]:
    """A `TargetHealth`; members are absent where there is nothing to say."""
    if reason is None:
        return {"State": state}
    return {"State": state, "Reason": reason, "Description": description or _TEXTS[reason]}


def matches(matcher: str, status: int) -> bool:
    """Whether an HTTP status is one of a `Matcher` such as `200`, `200,302` or `200-299`."""
    for each in matcher.split(","):
        first, _, last = each.strip().partition("-")
        if int(first) <= status <= int(last or first):
            return True
    return False
