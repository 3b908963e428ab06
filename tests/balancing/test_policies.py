"""What each policy promises."""

import threading
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from discovery.balancing.latency import Latency
from discovery.balancing.least_request import LeastRequest
from discovery.balancing.member import Member
from discovery.balancing.policy import MakePolicy
from discovery.balancing.random import WeightedRandom
from discovery.balancing.ring import Ring
from discovery.balancing.round_robin import RoundRobin
from discovery.model import Endpoint, Identity
from tests.balancing.made import members

POLICIES: list[MakePolicy] = [RoundRobin, WeightedRandom, LeastRequest, Latency, Ring]
BY_WEIGHT: list[MakePolicy] = [RoundRobin, WeightedRandom, LeastRequest, Latency]


def picks(make: MakePolicy, pool: tuple[Member, ...], times: int) -> Counter[Member]:
    policy = make(Random(7))
    return Counter(policy.choose(pool, 1.0) for _ in range(times))


@pytest.mark.parametrize("make", BY_WEIGHT)
@pytest.mark.parametrize(
    "weights", [(1, 1, 1), (1, 2, 3), (1, 1, 98), (0.5, 0.25), (1,), (100, 1), (3, 3, 1, 1)]
)
def test_members_are_chosen_by_weight(make: MakePolicy, weights: tuple[float, ...]) -> None:
    """Without load each one's part is its weight's part of the sum, within two in a hundred."""
    pool = members(*weights)
    counted = picks(make, pool, 20_000)
    for member, weight in zip(pool, weights, strict=True):
        assert counted[member] / 20_000 == pytest.approx(weight / sum(weights), abs=0.02)


@pytest.mark.parametrize("make", POLICIES)
class TestEveryPolicy:
    """The contract of `Policy.choose`."""

    def test_another_pool_is_taken_up_at_once(self, make: MakePolicy) -> None:
        """A member that left is never chosen from what was kept of the last pool."""
        policy = make(Random(7))
        first, second = members(1, 5), members(1, 1, 3)[1:]
        for pool in (first, second, first, second):
            assert {policy.choose(pool, 1.0) for _ in range(200)} == set(pool)

    def test_policies_made_apart_start_apart(self, make: MakePolicy) -> None:
        """Many clients that start together do not all begin with the same member."""
        pool = members(1, 1, 1, 1)
        assert len({make(Random(seed)).choose(pool, 1.0) for seed in range(50)}) == 4

    def test_none_is_tried_twice_while_there_is_another(self, make: MakePolicy) -> None:
        """Retries go elsewhere; when all were tried, anywhere."""
        policy, pool = make(Random(7)), members(1, 1, 1)
        for tried in (pool[:1], pool[1:], pool[::2]):
            for n in range(50):
                assert policy.choose(pool, 1.0, f"{n}", tried) not in tried
        assert policy.choose(pool, 1.0, "key", pool) in pool

    def test_threads_may_share_it(self, make: MakePolicy) -> None:
        """Pools that change under way never lead outside the pool that was given."""
        policy, strangers = make(Random(7)), []
        pools = [members(1, 2), members(3, 1, 1, 1), members(1)]

        def choose(turn: int) -> None:
            for n in range(300):
                pool = pools[(turn + n) % 3]
                if policy.choose(pool, 1.0) not in pool:
                    strangers.append(turn)

        threads = [threading.Thread(target=choose, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert strangers == []


@pytest.mark.parametrize("make", [RoundRobin, LeastRequest, Latency])
def test_idle_members_take_turns(make: MakePolicy) -> None:
    """With equal weights and no load any n picks in a row are n members."""
    policy, pool = make(Random(7)), members(1, 1, 1)
    chosen = [policy.choose(pool, 1.0) for _ in range(30)]
    assert all(len(set(chosen[n : n + 3])) == 3 for n in range(28))


def test_round_robin_spreads_a_light_member_evenly() -> None:
    """Every tenth pick or so, and never a burst."""
    policy, pool = RoundRobin(Random(7)), members(9, 1)
    at = [n for n in range(1_000) if policy.choose(pool) is pool[1]]
    gaps = [later - earlier for earlier, later in pairwise(at)]
    assert min(gaps) >= 9
    assert max(gaps) <= 11


@pytest.mark.parametrize("make", [LeastRequest, Latency])
def test_of_two_the_less_busy_is_chosen(make: MakePolicy) -> None:
    """Requests in flight count."""
    policy, pool = make(Random(7)), members(1, 1)
    pool[0].flights.append(None)
    assert {policy.choose(pool, 1.0) for _ in range(20)} == {pool[1]}


@pytest.mark.parametrize("make", [LeastRequest, Latency])
def test_a_heavier_member_may_be_busier(make: MakePolicy) -> None:
    """Two in flight at three times the weight are less than one."""
    policy, pool = make(Random(7)), members(3, 1)
    pool[0].flights.extend([None, None])
    pool[1].flights.append(None)
    assert {policy.choose(pool, 1.0) for _ in range(20)} == {pool[0]}


class TestLatency:
    """The default policy."""

    @pytest.mark.parametrize(("slower", "goes"), [(1.3, True), (3.0, False)])
    def test_only_a_real_difference_counts(self, slower: float, goes: bool) -> None:
        """Noise does not make all clients chase the same member; being slow is noticed."""
        policy, pool = Latency(Random(7)), members(1, 1, 1)
        for _ in range(30):
            for member, latency_s in zip(pool, (0.01, 0.01, 0.01 * slower), strict=True):
                member.sample(latency_s, 1.0)
        assert (pool[2] in {policy.choose(pool, 1.0) for _ in range(60)}) == goes

    def test_a_slow_member_that_is_not_used_becomes_ordinary_again(self) -> None:
        """Its evidence fades, so that it gets a request to prove itself."""
        policy, pool = Latency(Random(7)), members(1, 1, 1)
        for now in range(60):
            for member in pool[:2]:
                member.sample(0.01, float(now))
        pool[2].sample(0.1, 0.0)
        assert pool[2] not in {policy.choose(pool, 1.0) for _ in range(60)}
        assert pool[2] in {policy.choose(pool, 60.0) for _ in range(60)}

    def test_an_unknown_member_counts_as_the_median(self) -> None:
        """It is neither flooded nor starved."""
        policy, pool = Latency(Random(7)), members(1, 1, 1)
        for member in pool[:2]:
            member.sample(0.01, 1.0)
        counted = Counter(policy.choose(pool, 1.0) for _ in range(300))
        assert counted[pool[2]] == 100


class TestRing:
    """Consistent hashing with bounded load."""

    def test_equal_keys_stay_together(self) -> None:
        """Whichever policy object, that is process, is asked."""
        pool = members(1, 1, 1, 1)
        for key in ("a", "b", "c", "d"):
            assert len({Ring(Random(seed)).choose(pool, key=key) for seed in range(5)}) == 1

    def test_only_the_keys_of_who_left_move(self) -> None:
        """All others stay where they were."""
        pool, ring = members(*[1] * 10), Ring(Random(7))
        keys = [f"key {n}" for n in range(2_000)]
        before = {key: ring.choose(pool, key=key) for key in keys}
        left = pool[:3] + pool[4:]
        moved = [key for key in keys if ring.choose(left, key=key) is not before[key]]
        assert moved
        assert {before[key] for key in moved} == {pool[3]}

    def test_a_member_too_busy_passes_keys_on(self) -> None:
        """At 1.25 times the mean in flight the next member takes the key."""
        pool, ring = members(1, 1, 1, 1), Ring(Random(7))
        owner = ring.choose(pool, key="hot")
        owner.flights.extend([None] * 8)
        assert ring.choose(pool, key="hot") is not owner
        owner.flights.clear()
        assert ring.choose(pool, key="hot") is owner

    def test_weight_is_the_part_of_the_keys(self) -> None:
        """Three times the points get about three times the keys."""
        pool, ring = members(3, 1), Ring(Random(7))
        counted = Counter(ring.choose(pool, key=f"{n}") for n in range(4_000))
        assert counted[pool[0]] / counted[pool[1]] == pytest.approx(3.0, rel=0.25)

    def test_a_ring_that_followed_is_the_ring_made_anew(self) -> None:
        """Callers agree, whether or not they saw who came, left, came back or weighs more."""
        everybody, ring, chance = members(*[1] * 12), Ring(Random(7)), Random(3)
        keys = [f"key {n}" for n in range(100)]
        for _ in range(20):
            pool = tuple(chance.sample(everybody, chance.randrange(1, 13)))
            changed = chance.choice(everybody)
            changed.endpoint = replace(changed.endpoint, weight=chance.choice([0.5, 1.0, 3.0]))
            anew = Ring(Random(1))
            for key in keys:
                assert ring.choose(pool, key=key) is anew.choose(pool, key=key)

    def test_only_those_that_come_are_hashed(self) -> None:
        """Equal members in another tuple, as at each step of a slow start, cost next to nothing."""
        hashed: list[str] = []

        class Noted(Endpoint):
            """Says when its identity, that points are made of, is asked for."""

            @property
            def identity(self) -> Identity:
                hashed.append(self.host)
                return super().identity

        pool, ring = members(1, 1, 1), Ring(Random(7))
        for n, member in enumerate(pool):
            member.endpoint = Noted(f"{n}", 80, task_arn=f"{n}")
        ring.choose(pool[:2], key="a")
        ring.choose((pool[0], pool[1]), key="a")
        ring.choose(pool, key="a")
        ring.choose(pool[1:], key="a")
        assert hashed == ["0", "1", "2"]
