"""What a pool promises: who serves, what survives, what is counted."""

import gc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from discovery.balancing.latency import Latency
from discovery.balancing.policy import MakePolicy
from discovery.balancing.pool import Balancing, Pool
from discovery.balancing.ring import Ring
from discovery.balancing.round_robin import RoundRobin
from discovery.balancing.subsets import subset
from discovery.balancing.zones import parts
from discovery.health.ejection import Outcome
from discovery.model import Endpoint
from tests.balancing.made import endpoints, members, pool
from tests.made import FakeClock, endpoint


def hosts(chosen: Pool, among: tuple[Endpoint, ...], now: float, times: int = 400) -> Counter[str]:
    return Counter(chosen.choose(among, now).endpoint.host for _ in range(times))


def eject(chosen: Pool, among: tuple[Endpoint, ...], host: str, now: float) -> None:
    """Have it refuse twice."""
    member = next(m for m in chosen.members if m.endpoint.host == host)
    for _ in range(2):
        chosen.board(member, now).end("refused", now)


@pytest.mark.parametrize("make", [RoundRobin, Latency])
class TestCounters:
    """What is known of an endpoint."""

    def test_they_survive_a_snapshot(self, make: MakePolicy) -> None:
        """By identity: an equal endpoint in another tuple is the same member."""
        it = pool(make)
        member = it.choose(endpoints(2), 0.0)
        flight = it.board(member, 0.0)
        flight.end("answer", 0.25)
        it.choose(endpoints(2), 0.5)
        assert member in it.members
        assert member.in_flight == 1
        assert member.latency_s == 0.25

    def test_another_address_is_another_member(self, make: MakePolicy) -> None:
        """A container restarted in place has another host port, and nothing against it."""
        it, before = pool(make), endpoints(1)
        member = it.choose(before, 0.0)
        eject(it, before, "10.0.0.1", 0.0)
        after = (replace(before[0], port=40_000),)
        assert it.choose(after, 1.0) is not member
        assert member.gone

    def test_in_flight_ends_once(self, make: MakePolicy) -> None:
        """However often it is closed."""
        it = pool(make)
        member = it.choose(endpoints(1), 0.0)
        first, second = it.board(member, 0.0), it.board(member, 0.0)
        for flight in (first, first, second, first):
            flight.close()
        assert member.in_flight == 0

    def test_an_outcome_counts_once(self, make: MakePolicy) -> None:
        """The first one."""
        it, among = pool(make), endpoints(3)
        flight = it.board(it.choose(among, 0.0), 0.0)
        for _ in range(5):
            flight.end("refused", 0.0)
        assert flight.member.standing.cause is None

    def test_reading_the_same_again_changes_nothing(self, make: MakePolicy) -> None:
        """Equal endpoints in another tuple are no reason to look at any of them again."""
        it = pool(make)
        it.choose(endpoints(3), 0.0)
        version, serving = it.version, it.members
        it.choose(endpoints(3), 1.0)
        assert it.version == version
        assert it.members is serving


class TestBodies:
    """Answers whose bodies break off."""

    def test_it_counts_when_it_breaks(self) -> None:
        """Not when its headers came: long ago is forgotten, now is not."""
        clock = FakeClock(0.0)
        it, among = pool(clock=clock), endpoints(3)
        flights = [it.board(it.choose(among, 0.0), 0.0) for _ in range(60)]
        for flight in flights:
            flight.end("answer", 0.1)
        clock.now = 60.0
        member = flights[0].member
        for flight in [f for f in flights if f.member is member][:5]:
            flight.broke()
        assert member.standing.cause == "failing"
        assert member.standing.until == 70.0

    def test_it_costs_the_penalty(self) -> None:
        """However long the body went well."""
        clock = FakeClock(3_600.0)
        it = pool(clock=clock)
        flight = it.board(it.choose(endpoints(1), 0.0), 0.0)
        flight.end("answer", 0.1)
        flight.broke()
        assert flight.member.latency_s == pytest.approx(5.0)


class TestServing:
    """Who is chosen at all."""

    def test_an_answer_of_before_the_ejection_is_no_trial(self) -> None:
        """However late it comes."""
        it, among = pool(), endpoints(4)
        old = it.board(it.choose(among, 0.0), 0.0)
        eject(it, among, old.member.endpoint.host, 0.0)
        old.end("answer", 10.5)
        assert old.member.standing.cause == "unreachable"

    def test_endpoints_that_all_leave_meanwhile_are_no_harm(self) -> None:
        """Somebody takes up that there is none while another is about to rebuild."""

        class Overtaken:
            """A lock that is got only after somebody else had it."""

            then: Callable[[], None] | None = None

            def __enter__(self) -> None:
                then, self.then = self.then, None
                if then is not None:
                    then()

            def __exit__(self, *_: object) -> None:
                pass

        lock = Overtaken()
        it, among = pool(lock=lock), endpoints(2)
        it.choose(among, 0.0)
        it.choose(more := endpoints(3), 1.0)  # the third starts slowly
        lock.then = lambda: it.take((), 2.0)
        assert it.choose(more, 2.0).gone
        assert it.members == ()

    def test_an_ejected_endpoint_gets_nothing_until_its_trial(self) -> None:
        """Then one request; its success brings it back."""
        it, among = pool(balancing=Balancing(slow_start_s=0.0)), endpoints(4)
        it.choose(among, 0.0)
        eject(it, among, "10.0.0.1", 0.0)
        assert hosts(it, among, 9.9)["10.0.0.1"] == 0
        trial = it.choose(among, 10.1)
        assert trial.endpoint.host == "10.0.0.1"
        assert hosts(it, among, 10.2)["10.0.0.1"] == 0
        it.board(trial, 10.1).end("answer", 10.3)
        assert hosts(it, among, 10.4)["10.0.0.1"] == 100

    def test_a_failed_trial_doubles_the_time(self) -> None:
        """Out for twenty seconds then."""
        it, among = pool(), endpoints(4)
        it.choose(among, 0.0)
        eject(it, among, "10.0.0.1", 0.0)
        it.board(it.choose(among, 10.0), 10.0).end("refused", 10.0)
        assert hosts(it, among, 29.9)["10.0.0.1"] == 0
        assert it.choose(among, 30.0).endpoint.host == "10.0.0.1"

    def test_a_request_that_cannot_be_repeated_is_no_trial(self) -> None:
        """Unless no other comes for a while."""
        it, among = pool(), endpoints(4)
        it.choose(among, 0.0)
        eject(it, among, "10.0.0.1", 0.0)
        chosen = [it.choose(among, 11.0, retriable=False) for _ in range(40)]
        assert "10.0.0.1" not in {m.endpoint.host for m in chosen}
        assert it.choose(among, 15.1, retriable=False).endpoint.host == "10.0.0.1"

    def test_a_trial_without_a_result_is_given_up(self) -> None:
        """Whoever was chosen for it may never have sent anything."""
        it, among = pool(), endpoints(4)
        it.choose(among, 0.0)
        eject(it, among, "10.0.0.1", 0.0)
        assert it.choose(among, 10.0).endpoint.host == "10.0.0.1"
        assert it.choose(among, 20.0).endpoint.host == "10.0.0.1"

    def test_weight_zero_serves_only_alone(self) -> None:
        """None of the traffic, but never no endpoint at all."""
        idle, busy = endpoint(1, weight=0.0), endpoint(2)
        assert set(hosts(pool(), (idle, busy), 0.0)) == {"10.0.0.2"}
        assert set(hosts(pool(), (idle,), 0.0)) == {"10.0.0.1"}

    def test_who_comes_later_starts_slowly(self) -> None:
        """From a tenth of its weight to all of it in ten seconds."""
        it, old = pool(), endpoints(4)
        it.choose(old, 0.0)
        new = endpoints(5)
        parts = [hosts(it, new, now, 4_100)["10.0.0.5"] / 4_100 for now in (1.0, 6.0, 11.0)]
        assert parts[0] == pytest.approx(0.1 / 4.1, abs=0.005)
        assert parts[1] == pytest.approx(0.5 / 4.5, abs=0.01)
        assert parts[2] == pytest.approx(0.2, abs=0.005)

    def test_slow_start_goes_on_however_the_endpoints_are_handed_in(self) -> None:
        """Equal ones in two tuples in turns, as two readers of snapshots have them."""
        it, both = pool(), (endpoints(5), endpoints(5))
        it.choose(endpoints(4), 0.0)
        for n in range(200):
            it.choose(both[n % 2], n / 10)
        assert {m.weight for m in it.members} == {1.0}

    def test_who_is_there_at_first_is_not_new(self) -> None:
        """A process that starts knows nothing, and has no reason to be careful."""
        assert set(hosts(pool(), endpoints(4), 0.0).values()) == {100}

    @pytest.mark.parametrize("outcome", ["answer", "limited", "abandoned"])
    def test_being_slow_or_left_ejects_nobody(self, outcome: Outcome) -> None:
        """Only failures do."""
        it, among = pool(), endpoints(3)
        member = it.choose(among, 0.0)
        for _ in range(30):
            it.board(member, 0.0).end(outcome, 1.0)
        assert member.standing.cause is None


class TestLatencies:
    """What an outcome says of the time to expect."""

    @pytest.mark.parametrize(
        ("outcome", "want_s"),
        [("answer", 0.001), ("error", 0.2), ("limited", 0.4), ("broken", 5.0), ("refused", 5.0)],
    )
    def test_failing_quickly_is_not_being_quick(self, outcome: Outcome, want_s: float) -> None:
        """An error after 1 ms takes no less than usual, no answer at all costs five seconds."""
        it = pool()
        member = it.choose(endpoints(1), 0.0)
        member.sample(0.2, 0.0)
        it.board(member, 0.0).end(outcome, 0.001)
        fresh_s = member.total_s - 0.2
        assert fresh_s == pytest.approx(want_s, rel=0.05)


class TestZones:
    """Own zone first."""

    @pytest.mark.parametrize(
        ("capacity", "callers", "want"),
        [
            ({"a": 5, "b": 5}, None, {"a": 1.0}),
            ({"a": 8, "b": 2}, None, {"a": 1.0}),
            ({"a": 2, "b": 8}, None, {"a": 0.4, "b": 0.6}),
            ({"b": 5, "c": 5}, None, {"b": 0.5, "c": 0.5}),
            ({"a": 2, "b": 3, "c": 7}, None, {"a": 0.5, "c": 0.5}),
            ({"a": 5, "b": 5}, {"a": 3.0, "b": 1.0}, {"a": 2 / 3, "b": 1 / 3}),
        ],
    )
    def test_a_zone_keeps_what_it_can_carry(
        self, capacity: dict[str, float], callers: dict[str, float] | None, want: dict[str, float]
    ) -> None:
        """The rest goes where capacity is left over."""
        assert parts(capacity, "a", callers) == pytest.approx(want)

    def test_traffic_stays_at_home(self) -> None:
        """With as many endpoints there as elsewhere."""
        among = tuple(endpoint(n, zone="ab"[n % 2]) for n in range(1, 9))
        chosen = hosts(pool(balancing=Balancing(zone="a")), among, 0.0)
        assert set(chosen) == {e.host for e in among if e.zone == "a"}

    def test_a_retry_may_leave_the_zone(self) -> None:
        """When everything at home was tried."""
        it = pool(balancing=Balancing(zone="a"))
        among = (endpoint(1, zone="a"), endpoint(2, zone="b"))
        first = it.choose(among, 0.0)
        assert first.endpoint.zone == "a"
        assert it.choose(among, 0.0, tried=[first]).endpoint.zone == "b"

    def test_a_zone_whose_endpoints_are_all_ejected_gives_its_traffic_away(self) -> None:
        """Better far than failing."""
        among = tuple(endpoint(n, zone="a" if n < 2 else "b") for n in range(1, 5))
        it = pool(balancing=Balancing(zone="a"))
        it.choose(among, 0.0)
        eject(it, among, "10.0.0.1", 0.0)
        assert "10.0.0.1" not in hosts(it, among, 1.0)

    def test_a_ring_is_one_over_all_zones(self) -> None:
        """Callers in different zones have to agree."""
        among = tuple(endpoint(n, zone="ab"[n % 2]) for n in range(1, 9))
        for key in "abcdefgh":
            owners = {
                pool(Ring, Balancing(zone=zone)).choose(among, 0.0, key).endpoint.host
                for zone in ("a", "b")
            }
            assert len(owners) == 1


BLUE_GREEN = (*(endpoint(n, weight=10.0) for n in range(1, 9)), endpoint(9, weight=20.0))
SIDES = {e.identity: "green" if n == 8 else "blue" for n, e in enumerate(BLUE_GREEN)}


def green_part(it: Pool, seconds: int, took_s: Callable[[str], float]) -> float:
    """The part of 100 requests a second that goes to the green side, which is 10.0.0.9."""
    count = 0
    for n in range(100 * seconds):
        now = n / 100
        member = it.choose(BLUE_GREEN, now)
        host = member.endpoint.host
        with it.board(member, now) as flight:
            flight.end("answer", now + took_s(host))
        count += host == "10.0.0.9"
    return count / (100 * seconds)


class TestSides:
    """While a deployment shifts traffic, each revision gets its part."""

    @pytest.mark.parametrize("slow_s", [0.001, 0.01, 0.1])
    @pytest.mark.parametrize("zone", [None, "a"])
    def test_a_side_gets_its_part_however_quick_it_is(
        self, slow_s: float, zone: str | None
    ) -> None:
        """Latency decides within a side only."""
        it = pool(Latency, Balancing(zone=zone))
        it.divide(SIDES)
        part = green_part(it, 40, lambda host: slow_s if host == "10.0.0.9" else 0.01)
        assert part == pytest.approx(0.2, abs=0.02)

    def test_without_sides_the_slower_one_gets_less(self) -> None:
        """Or the test above would show nothing."""
        it = pool(Latency)
        part = green_part(it, 40, lambda host: 0.1 if host == "10.0.0.9" else 0.01)
        assert part < 0.1

    def test_a_side_that_starts_slowly_gets_its_part(self) -> None:
        """The part is the deployment's to say."""
        it = pool(Latency)
        it.choose(BLUE_GREEN[:8], 0.0)
        it.divide(SIDES)
        part = green_part(it, 9, lambda host: 0.01)
        assert part == pytest.approx(0.2, abs=0.05)

    def test_a_side_whose_endpoints_are_all_ejected_gives_its_part_away(self) -> None:
        """Its requests would fail."""
        it = pool(Latency)
        it.divide(SIDES)
        it.choose(BLUE_GREEN, 0.0)
        eject(it, BLUE_GREEN, "10.0.0.9", 0.0)
        assert "10.0.0.9" not in hosts(it, BLUE_GREEN, 1.0)

    def test_a_retry_may_go_to_the_other_side(self) -> None:
        """When everything on one was tried."""
        it = pool(Latency)
        it.divide(SIDES)
        it.choose(BLUE_GREEN, 0.0)
        tried = [m for m in it.members if SIDES[m.endpoint.identity] == "green"]
        for _ in range(100):
            assert it.choose(BLUE_GREEN, 0.0, tried=tried) not in tried

    def test_when_the_deployment_is_over_the_pool_is_one_again(self) -> None:
        """From the next choice on."""
        it = pool(Latency)
        it.divide(SIDES)
        green_part(it, 1, lambda host: 0.01)
        it.divide({})
        part = green_part(it, 40, lambda host: 0.1 if host == "10.0.0.9" else 0.01)
        assert part < 0.1


class TestSubsets:
    """A client's part of a large pool."""

    def test_few_are_all_used(self) -> None:
        """Up to the limit nothing is left out."""
        few = members(*[1] * 100)
        assert subset(few, "me") == few

    def test_many_are_cut_to_the_limit(self) -> None:
        """Of 1,000 a client holds connections to 100."""
        among = tuple(endpoint(1, task_arn=f"t{n}", port=n) for n in range(1_000))
        it = pool()
        assert len({it.choose(among, 0.0) for _ in range(1_000)}) == 100

    def test_one_that_leaves_changes_one_place(self) -> None:
        """And none where it was not used."""
        many = members(*[1] * 300)
        before = set(subset(many, "me"))
        for n in (0, 5, 150, 299):
            after = set(subset(many[:n] + many[n + 1 :], "me"))
            assert len(before - after) <= 1
            assert before - after <= {many[n]}

    def test_clients_take_different_parts(self) -> None:
        """Together they use everything."""
        many = members(*[1] * 300)
        assert len(set().union(*(subset(many, f"{n}") for n in range(20)))) > 295


def test_a_flight_that_is_lost_is_nobodys_load_after_close() -> None:
    """`repr` shows what is under way."""
    it = pool()
    flight = it.board(it.choose(endpoints(2), 0.0), 0.0)
    assert "1 in flight" in repr(it)
    flight.close()
    del flight
    gc.collect()
    assert "0 in flight" in repr(it)


def test_ejections_are_counted() -> None:
    """Each time that one leaves, and none for coming back."""
    it, among = pool(RoundRobin), endpoints(3)
    it.choose(among, 0.0)
    eject(it, among, "10.0.0.1", 0.0)
    assert it.ejections == 1
    member = next(m for m in it.members if m.endpoint.host == "10.0.0.1")
    it.board(member, 11.0).end("answer", 11.1)
    assert it.ejections == 1
    eject(it, among, "10.0.0.1", 60.0)
    assert it.ejections == 2
