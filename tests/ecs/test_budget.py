"""Our share of the API's rate limits, with a clock that is an argument."""

from math import inf

import pytest

from discovery.ecs.budget import Bucket, Quota, Standing, buckets
from discovery.ecs.calls import CLUSTER_RESOURCES, CLUSTERS, DEFINITIONS, SERVICES

CLUSTER = Quota(100, 20)


def bucket(*, cold: bool = False, share: float = 1.0) -> Bucket:
    """A full bucket of the scarcest quota."""
    return Bucket(CLUSTER, share, cold=cold)


def drained(*, cold: bool = False, share: float = 1.0) -> Bucket:
    """A bucket without a token at time 0."""
    empty = bucket(cold=cold, share=share)
    while empty.take(0.0, 0.0) is not None:
        pass
    return empty


@pytest.mark.parametrize(
    ("group", "burst", "steady"),
    [
        (CLUSTER_RESOURCES, 50, 2.0),
        (SERVICES, 50, 2.0),
        (CLUSTERS, 25, 2.0),
    ],
)
def test_a_group_allows_half_the_burst_and_a_tenth_of_the_rate(
    group: str, burst: int, steady: float
) -> None:
    """The rest of the quota is for others."""
    one = buckets()[group]
    one.cold = False
    assert one.capacity == burst
    assert one.rate == steady


def test_what_never_changes_is_always_read_as_at_first() -> None:
    """Definitions are asked for once each: the sooner all are known, the sooner that ends."""
    one = buckets()[DEFINITIONS]
    one.cold = False
    assert (one.capacity, one.rate) == (25, 5.0)


def test_a_burst_goes_out_at_once() -> None:
    """Then calls wait for the rate."""
    one = bucket()
    assert [one.take(0.0, inf) for _ in range(50)] == [0.0] * 50
    assert one.take(0.0, inf) == pytest.approx(0.5)
    assert one.take(0.0, inf) == pytest.approx(1.0)


@pytest.mark.parametrize(("cold", "wait_s"), [(True, 0.2), (False, 0.5)])
def test_a_cold_start_may_use_a_quarter_of_the_rate(cold: bool, wait_s: float) -> None:
    """5 calls a second instead of 2."""
    assert drained(cold=cold).take(0.0, inf) == pytest.approx(wait_s)


def test_tokens_come_back_with_time_and_never_beyond_the_burst() -> None:
    """A night's rest is worth one burst."""
    one = drained()
    assert one.take(10.0, 0.0) == 0.0
    assert one.rest_s(86_400.0, 50) == 0.0
    assert one.rest_s(86_400.0, 60) == pytest.approx(5.0)


def test_impatient_calls_take_nothing() -> None:
    """They are postponed, and leave the token to others."""
    one = drained()
    assert one.take(0.0, 0.4) is None
    assert one.take(0.0, 0.5) == pytest.approx(0.5)


def test_a_sweep_of_20_calls_fits_every_10_seconds() -> None:
    """1,000 tasks at the default interval, for ever."""
    one = drained()
    for n in range(1, 100):
        assert all(one.take(10.0 * n, inf) == 0.0 for _ in range(20))
        assert one.rest_s(10.0 * n, 20) <= 10.0


def test_a_larger_sweep_stretches_the_interval() -> None:
    """10,000 tasks need 200 calls: 100 seconds at 2 a second, of which it takes the last 75."""
    one = drained()
    rest_s = one.standing("ecs", 0.0).lot_s(200)
    assert rest_s == pytest.approx(25.0)
    waits = [one.take(rest_s, inf) for _ in range(200)]
    assert waits[:50] == [0.0] * 50
    assert waits[-1] == pytest.approx(75.0)
    assert drained().rest_s(0.0, 200) == pytest.approx(100.0)


def test_a_throttle_halves_the_rate_and_empties_the_bucket() -> None:
    """Whoever else uses the quota needs it more."""
    one = bucket()
    one.throttled(0.0, 0.0)
    assert one.rate == 1.0
    assert one.take(0.0, inf) == pytest.approx(1.0)
    one.throttled(1.0, 1.0)
    assert one.rate == 0.5


def test_a_bucket_says_how_it_stands() -> None:
    """Calls that took their token ahead of time are seen as a debt."""
    one = drained()
    one.take(0.0, inf)
    one.throttled(0.0, 0.0)
    found = one.standing("ec2", 0.0)
    assert found == Standing("ec2", -1.0, 50.0, 1.0, 0.5)


def test_throttles_of_calls_that_were_under_way_together_count_once() -> None:
    """They say nothing of the pace that the first of them brought about."""
    one = bucket()
    for at in (0.1, 0.2, 0.3):
        one.throttled(0.0, at)
    assert one.rate == 1.0
    one.throttled(0.2, 0.4)
    assert one.rate == 0.5


def test_the_rate_comes_back_slowly() -> None:
    """A tenth every ten seconds without another throttle."""
    one = bucket()
    one.throttled(0.0, 0.0)
    rates = []
    for at in (9.0, 10.0, 20.0, 50.0, 500.0):
        one.rest_s(at, 1)
        rates.append(round(one.rate, 6))
    assert rates == [1.0, 1.2, 1.4, 2.0, 2.0]


def test_the_rate_never_reaches_zero() -> None:
    """However often we are throttled."""
    one = bucket()
    for at in range(100):
        one.throttled(float(at), float(at))
    assert one.rate == pytest.approx(2.0 / 16)


@pytest.mark.parametrize(
    ("share", "capacity", "rate"), [(2.0, 100, 4.0), (0.1, 5, 0.2), (0.001, 1, 0.002)]
)
def test_the_share_scales_burst_and_rate(share: float, capacity: float, rate: float) -> None:
    """But one call is always possible."""
    one = bucket(share=share)
    assert one.capacity == pytest.approx(capacity)
    assert one.rate == pytest.approx(rate)


def test_a_clock_that_stands_still_or_turns_back_gives_nothing() -> None:
    """Monotonic clocks do not, but a bucket must not break if one did."""
    one = drained()
    one.take(10.0, 0.0)
    before = one.rest_s(10.0, 50)
    assert one.rest_s(5.0, 50) == before


def test_a_lot_is_what_there_is_to_make_or_a_full_bucket() -> None:
    """Seconds until that can be made at once."""
    standing = Standing("ec2", tokens=5.0, capacity=25.0, rate=5.0, factor=1.0)
    assert [standing.lot_s(count) for count in (3, 5, 15, 25, 1_000)] == [0.0, 0.0, 2.0, 4.0, 4.0]
