"""Whose turn it is to read for all, and what of a shared store may be believed. Pure.

Several sidecars share a store. One holds a lease, reads ECS and publishes; the others read the
store. The lease is for thrift; order comes from `(epoch, sequence)`: each lease has an epoch of its
own, greater than all before it, and what has a lesser one than is known is refused, by the store
and by readers. So a holder that was paused can do no harm, however late it wakes.
Source: M. Kleppmann, "How to do distributed locking" (2016), on fencing tokens.
"""

from dataclasses import dataclass, replace

from discovery.balancing.policy import Chance
from discovery.errors import (
    AccessDenied,
    ClusterNotFound,
    CredentialsExpired,
    CredentialsMissing,
    RegionMissing,
    SourceError,
)
from discovery.model import Observation
from discovery.snapshots import Told

FAILING_S = 60.0  # how long an outage may last before another sidecar tries
FIRST_REST_S = 60.0
LONGEST_REST_S = 960.0
_OURS = AccessDenied | CredentialsMissing | CredentialsExpired | RegionMissing | ClusterNotFound


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a lease lasts after its last renewal, in seconds."""

    lasts_s: float = 15.0

    @property
    def renewed_after_s(self) -> float:
        """When to renew it, so that two renewals may fail."""
        return self.lasts_s / 3

    @property
    def sure_s(self) -> float:
        """For how long its holder believes in it: clocks may differ in speed, and never so much."""
        return self.lasts_s * 0.9


@dataclass(frozen=True, slots=True)
class Held:
    """A lease as its holder knows it.

    `asked_at` is its own monotonic clock before it asked for the lease or its renewal: the store
    counts from later, so that the holder gives up before anybody else can be given the lease.
    """

    epoch: int
    asked_at: float
    terms: Terms

    def is_sure(self, now: float) -> bool:
        """Whether nobody else can hold it yet."""
        return now < self.asked_at + self.terms.sure_s

    def renewed_in_s(self, now: float) -> float:
        """How long its renewal can wait."""
        return max(0.0, self.asked_at + self.terms.renewed_after_s - now)


@dataclass(frozen=True, slots=True)
class Fitness:
    """Whether we are fit to hold the lease, by how our reads went; times are monotonic.

    Who cannot read must not keep the lease from who can: without a permission at once, in what may
    be an outage for all after a while, since then nobody reads more often for it.
    """

    failing_since: float | None = None
    why: SourceError | None = None
    rests: int = 0
    rests_until: float = float("-inf")

    def is_resting(self, now: float) -> bool:
        """Whether not to ask for the lease, or to let go of it."""
        return now < self.rests_until

    def after(self, observation: Observation, now: float, chance: Chance) -> "Fitness":
        """The fitness after a read: one that learned anything is a success."""
        errors = [r.error for r in observation.clusters if r.error is not None and not r.learned]
        if not observation.clusters:
            return self
        if len(errors) < len(observation.clusters):
            return Fitness()
        since = now if self.failing_since is None else self.failing_since
        failing = replace(self, failing_since=since, why=errors[0])
        if now - since < FAILING_S and not all(isinstance(error, _OURS) for error in errors):
            return failing
        return self.resting(errors[0], now, chance)

    def resting(self, why: SourceError, now: float, chance: Chance) -> "Fitness":
        """A rest from now on, twice as long as the one before."""
        longest_s = min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** min(self.rests, 16))
        until = now + longest_s * (0.5 + 0.5 * chance.random())
        return Fitness(why=why, rests=self.rests + 1, rests_until=until)


def is_behind(found: Told, known: Told) -> bool:
    """Whether a store that says this has lost what it once said, as after a failover.

    An epoch has one publisher; another one of the same epoch means that epochs were given twice.
    """
    one, other = found.snapshot, known.snapshot
    if one.epoch == other.epoch and found.publisher != known.publisher:
        return True
    return (one.epoch, one.sequence) < (other.epoch, other.sequence)


def least_epoch(found: Told, known: Told) -> int:
    """The least epoch that may be in force in a store that is behind: over one given twice."""
    epoch = known.snapshot.epoch
    is_given_twice = found.snapshot.epoch == epoch and found.publisher != known.publisher
    return epoch + 1 if is_given_twice else epoch
