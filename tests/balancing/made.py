"""Members and pools with as little to say as a test needs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from random import Random

from discovery.balancing.member import Member
from discovery.balancing.policy import MakePolicy
from discovery.balancing.pool import Balancing, Pool
from discovery.balancing.round_robin import RoundRobin
from discovery.health.ejection import Ejection
from discovery.model import Endpoint
from tests.made import endpoint


def members(*weights: float) -> tuple[Member, ...]:
    """Members of these weights, relative to their mean, as a pool gives them to a policy."""
    mean = sum(weights) / len(weights)
    found = []
    for n, weight in enumerate(weights, 1):
        member = Member(endpoint(n, weight=weight), Ejection().standing(), 0.0)
        member.weight = weight / mean
        found.append(member)
    return tuple(found)


def endpoints(count: int) -> tuple[Endpoint, ...]:
    """So many endpoints of weight 1."""
    return tuple(endpoint(n) for n in range(1, count + 1))


def pool(
    make: MakePolicy = RoundRobin,
    balancing: Balancing | None = None,
    clock: Callable[[], float] = lambda: 0.0,
    lock: AbstractContextManager[object] | None = None,
) -> Pool:
    """A pool on a fixed chance."""
    return Pool(make, Random(7), clock, balancing, lock)
