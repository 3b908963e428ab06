"""How many calls we may make, so that a quota which others need too is never used up by us.

One bucket a throttle group: half the quota's burst, then a tenth of its rate, a quarter while cold,
as what is read once for ever always is. A throttle halves both rates, however many calls it meets
at once; they come back slowly. Time is an argument, in seconds of any clock that only goes on. A
bucket is not thread-safe: its owner serialises.
"""

from dataclasses import dataclass, field

from discovery.ecs import calls

BURST_SHARE, STEADY_SHARE, COLD_SHARE = 0.5, 0.1, 0.25
RAISE, RAISE_AFTER_S = 0.1, 10.0
LEAST_FACTOR = 1 / 16


@dataclass(frozen=True, slots=True)
class Quota:
    """What AWS allows an account in a region: a burst of calls, then a rate per second.

    `is_for_once`: what its calls tell never changes, so that all of them belong to a first read.
    """

    burst: float
    rate: float
    is_for_once: bool = False


# Amazon ECS API Reference, "Throttling"; Elastic Load Balancing User Guide, "Request throttling"
# (non-mutating actions of version 2). Those of EC2, SSM and service deployments are estimates on
# the safe side of EC2's non-mutating bucket (100 / 20) and of SSM's smallest default.
QUOTAS = {
    calls.CLUSTER_RESOURCES: Quota(100, 20),
    calls.SERVICES: Quota(100, 20),
    calls.DEFINITIONS: Quota(50, 20, is_for_once=True),
    calls.CLUSTERS: Quota(50, 20),
    calls.DEPLOYMENTS: Quota(50, 10),
    calls.EC2: Quota(100, 20),
    calls.SSM: Quota(40, 10),
    calls.TARGETS: Quota(40, 10),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How our share of a throttle group stands.

    `tokens` of `capacity` calls may be made at once, less than 0 while calls wait; `rate` a second
    come back; `factor` is what throttles have left of our share, 1 without any.
    """

    group: str
    tokens: float
    capacity: float
    rate: float
    factor: float

    def lot_s(self, count: int) -> float:
        """Seconds until so many calls can be made at once, or as many as ever can."""
        return max(0.0, (min(count, self.capacity) - self.tokens) / self.rate)


@dataclass(slots=True)
class Bucket:
    """Our share of one quota; `share` scales it."""

    quota: Quota
    share: float = 1.0
    factor: float = 1.0
    cold: bool = True
    _tokens: float = field(init=False)
    _at: float | None = field(init=False, default=None)
    _changed_at: float = field(init=False, default=0.0)
    _halved_at: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._tokens = self.capacity

    @property
    def capacity(self) -> float:
        """Calls that may be made at once; never less than one."""
        return max(1.0, self.quota.burst * BURST_SHARE * self.share)

    @property
    def rate(self) -> float:
        """Calls a second that come back."""
        part = COLD_SHARE if self.cold or self.quota.is_for_once else STEADY_SHARE
        return self.quota.rate * part * self.share * self.factor

    def take(self, now: float, patience_s: float) -> float | None:
        """Take one call's token, now or ahead of time: the seconds to wait before the call.

        `None`, and nothing is taken, where that is longer than `patience_s`.
        """
        wait_s = self.rest_s(now, 1)
        if wait_s > patience_s:
            return None
        self._tokens -= 1.0
        return wait_s

    def rest_s(self, now: float, count: int) -> float:
        """How long to rest so that `count` calls can follow, were it more than a full bucket."""
        self._refill(now)
        return max(0.0, (count - self._tokens) / self.rate)

    def standing(self, group: str, now: float) -> Standing:
        """How it stands now."""
        self._refill(now)
        return Standing(group, self._tokens, self.capacity, self.rate, self.factor)

    def throttled(self, started: float, now: float) -> None:
        """AWS said no to a call that was started then: half as fast, and nothing at once.

        Calls that were under way when we slowed down say nothing of the slower pace.
        """
        if started < self._halved_at:
            return
        self._refill(now)
        self._tokens = min(self._tokens, 0.0)
        self.factor = max(LEAST_FACTOR, self.factor / 2)
        self._changed_at = self._halved_at = now

    def _refill(self, now: float) -> None:
        if self._at is None:
            self._at = self._changed_at = now
        elapsed = max(0.0, now - self._at)
        self._at = max(self._at, now)
        self._tokens = min(self.capacity, self._tokens + elapsed * self.rate)
        while self.factor < 1.0 and now - self._changed_at >= RAISE_AFTER_S:
            self.factor = min(1.0, self.factor + RAISE)
            self._changed_at += RAISE_AFTER_S


def buckets(share: float = 1.0) -> dict[str, Bucket]:
    """A full bucket for each throttle group."""
    return {group: Bucket(quota, share) for group, quota in QUOTAS.items()}
