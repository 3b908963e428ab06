"""What requests of one process share: pools by service, and the budget of retries."""

import os
from random import Random

import pytest

from discovery.balancing.round_robin import RoundRobin
from discovery.client import balancer as room
from discovery.client.allowance import Spent, allowance_by
from discovery.client.balancer import Balancer
from discovery.client.resolver import Resolver
from discovery.errors import NoEndpoints, UnknownPort
from discovery.sources.base import FixedSource
from tests.client.test_fork import in_child
from tests.made import FakeClock, observed, reading, service


def balancer(clock: FakeClock) -> Balancer:
    return Balancer(RoundRobin, Random(7), monotonic=clock)


def retries(of: Balancer) -> int:
    """How many it may make now."""
    route = of.route(of.pool("web"), lambda: (), None)
    return sum(route.may_retry(of.clock()) for _ in range(50))


def test_resolvers_of_a_process_share_its_budget() -> None:
    """A fifth of all requests, and one a second, whoever makes them."""
    clock = FakeClock(100.0)
    one, other = balancer(clock), balancer(clock)
    assert retries(one) == 10
    assert retries(other) == 0
    clock.now += 10.5
    assert retries(other) == 10


def test_another_clock_has_another_budget() -> None:
    """Times of two clocks cannot be compared."""
    assert retries(balancer(FakeClock(100.0))) == 10
    assert retries(balancer(FakeClock(5.0))) == 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_has_a_budget_of_its_own() -> None:
    """Its parent's lock may be held for ever, and its parent's requests are not its own."""
    clock = FakeClock(100.0)
    one = balancer(clock)
    assert retries(one) == 10
    with allowance_by(clock)._lock:
        assert in_child(lambda: retries(one) == 10)
    assert retries(one) == 0


def test_of_too_many_pools_the_least_used_goes() -> None:
    """The others keep their counters."""
    made = balancer(FakeClock())
    most = room._MOST_POOLS
    pools = [made.pool(n) for n in range(most)]
    assert made.pool(0) is pools[0]
    made.pool(most)
    assert len(made.pools) == most
    assert made.pool(0) is pools[0]
    assert made.pool(2) is pools[2]
    assert made.pool(1) is not pools[1]


@pytest.mark.parametrize(("name", "error"), [("_81._tcp.web", UnknownPort), ("empty", NoEndpoints)])
def test_a_name_that_leads_nowhere_makes_no_pool(name: str, error: type[Exception]) -> None:
    """Names come from whoever asks."""
    source = FixedSource(observed(reading(service("web", 1), service("empty"))))
    with Resolver(source=source, clock=FakeClock()) as resolver:
        for call in (resolver.pick, resolver.route):
            with pytest.raises(error):
                call(name)
        assert resolver._balancer.pools == ()


def test_requests_and_retries_are_counted() -> None:
    """Also the retries that the budget does not allow."""
    clock = FakeClock(100.0)
    one = balancer(clock)
    assert retries(one) == 10
    assert one.spent == Spent(requests=1, retries=10, refused=40)
