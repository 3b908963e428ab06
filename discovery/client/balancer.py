"""The pools of one resolver, and everything that its requests share: lock, clock, chance.

Rule 1: a pool belongs to a service's port, and is made when something of it is first chosen.
Rule 2: after a fork the child starts with no pools, since the requests under way are the parent's.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence

from discovery import documents
from discovery.balancing.member import Member
from discovery.balancing.policy import Chance, MakePolicy
from discovery.balancing.pool import Balancing, Pool
from discovery.client.allowance import Spent, allowance_by
from discovery.client.attempts import Missed, Route
from discovery.model import Endpoint, Identity

_MOST_POOLS = 10_000  # bounds what is kept for services that come and go


class Balancer:
    """Makes and keeps pools. All methods may be called from any thread."""

    def __init__(
        self,
        make_policy: MakePolicy,
        chance: Chance,
        balancing: Callable[[], Balancing] = Balancing,
        monotonic: Callable[[], float] = time.monotonic,
        missed: Missed = lambda endpoint, outcome: None,
    ) -> None:
        self._make_policy = make_policy
        self._chance = chance
        self._balancing = balancing
        self.clock = monotonic
        self._missed = missed
        self.renew_after_fork()
        _alive.add(self)

    def renew_after_fork(self) -> None:
        """In the child of a fork: the lock may be held, and what is under way is not ours."""
        self._lock = threading.Lock()
        self._pools: dict[object, Pool] = {}
        self._allowance = allowance_by(self.clock)

    def pool(self, key: object) -> Pool:
        """The pool of this key. Of too many, the one that was asked for least lately goes."""
        with self._lock:
            pool = self._pools.pop(key, None) or Pool(
                self._make_policy, self._chance, self.clock, self._balancing(), self._lock
            )
            self._pools[key] = pool
            if len(self._pools) > _MOST_POOLS:
                del self._pools[next(iter(self._pools))]
        return pool

    def route(
        self, pool: Pool, endpoints: Callable[[], tuple[Endpoint, ...]], key: str | None
    ) -> Route:
        """Where the attempts of one request go; the request is counted."""
        self._allowance.count(self.clock())
        may_retry = self._allowance.take
        return Route(pool, endpoints, may_retry, self._missed, self.clock, self._chance, key)

    def usage(self, endpoints: tuple[Endpoint, ...]) -> dict[Identity, documents.Document]:
        """What is known of those of the endpoints that requests went to."""
        wanted = {e.identity for e in endpoints}
        found: dict[Identity, list[Member]] = {}
        for pool in self.pools:
            for member in pool.members:
                if member.endpoint.identity in wanted:
                    found.setdefault(member.endpoint.identity, []).append(member)
        now = self.clock()
        return {identity: _usage(members, now) for identity, members in found.items()}

    @property
    def spent(self) -> Spent:
        """The requests and retries of this process, by this clock."""
        return self._allowance.spent

    @property
    def pools(self) -> tuple[Pool, ...]:
        """All pools that there are."""
        with self._lock:
            return tuple(self._pools.values())


def _usage(members: Sequence[Member], now: float) -> documents.Document:
    """Of an endpoint that may be a member of several pools, by the names that it was asked by."""
    latest = max(members, key=lambda m: m.sampled_at)
    ejected = [
        (m.standing.cause, m.standing.why, round(max(0.0, m.standing.until - now), 3))
        for m in members
        if m.standing.cause is not None
    ]
    in_flight = sum(m.in_flight for m in members)
    return documents.usage(in_flight, latest.latency_s, ejected[0] if ejected else None)


_alive: "weakref.WeakSet[Balancer]" = weakref.WeakSet()


def _renew_all() -> None:
    for balancer in list(_alive):
        balancer.renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
