"""The API of ECS fails for a day: what is answered, how old it is, and how often it is asked."""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from discovery.catalog.pace import LONGEST_REST_S
from discovery.dns import wire
from discovery.dns.answers import STALE, UNREACHABLE, Answer
from discovery.ecs.clients import NoConnection
from discovery.errors import SourceError, SourceThrottled, SourceUnreachable
from discovery.sources.disk import Disk, Remembered
from tests.made import NOW, FakeClock
from tests.scale.world import Reader, SimulatedEcs, cluster, most_at_once, throttled

HOUR_S = 3_600.0
INTERVAL_S = 10.0
ROUNDING_S = 0.1
SERVICES = 30
QUIET = NOW + 150.0  # by then everything is known and nothing changes
NAMES = tuple(f"service-{number:04}" for number in range(0, SERVICES, 3))
FAILURES = {
    "nobody answers": NoConnection("no answer"),
    "errors of AWS": SourceUnreachable("failed on the side of AWS"),
    "throttles": SourceThrottled("AWS throttles"),
}


@dataclass(slots=True)
class Day:
    """What was seen of an outage: some answers and ages, the calls made, and the recovery."""

    hours: int
    is_throttled: bool
    answers: list[Answer] = field(default_factory=list)
    ages: list[tuple[float, float]] = field(default_factory=list)  # as it is told, and as it is
    calls: list[float] = field(default_factory=list)
    learned_after_s: float = 0.0
    burst: int = 0
    usual: int = 0
    refused: int = 0


def lived(failure: SourceError, names: tuple[str, ...], hours: int) -> Day:
    """Some minutes that are good, hours that are not, and some minutes again."""
    clock = FakeClock()
    day = Day(hours, isinstance(failure, SourceThrottled))
    source = SimulatedEcs(cluster(SERVICES * 10), clock)
    reader = Reader(source, clock, names=names)
    reader.run(QUIET)
    day.usual = most_at_once(source.made, INTERVAL_S)
    source.made.clear()
    known = tuple(reader.snapshot.services.values())
    read_at = {s.key: clock.now - reader.snapshot.age_s(s, clock.now) for s in known}
    source.failure = failure
    for hour in range(1, hours + 1):
        reader.run(QUIET + hour * HOUR_S)
        day.answers += reader.asked(known)
        now, after = clock.now, reader.snapshot
        day.ages += [(after.age_s(s, now), now - read_at[s.key]) for s in known]
    day.calls = [made.at for made in source.made]
    source.made.clear()
    source.failure = None
    before = reader.snapshot.observed_at
    while reader.snapshot.observed_at == before:
        reader.step()
    back = QUIET + hours * HOUR_S
    day.learned_after_s = reader.snapshot.observed_at - back
    reader.run(back + 150.0)
    day.burst = most_at_once(source.made, INTERVAL_S)
    day.refused = throttled(source.made)
    return day


@pytest.fixture(scope="module", params=["whole", "names"])
def names(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What is read: whole clusters, or some names."""
    return NAMES if request.param == "names" else ()


@pytest.fixture(scope="module", params=FAILURES)
def day(request: pytest.FixtureRequest, names: tuple[str, ...]) -> Day:
    """An outage of 300 tasks in 30 services; a whole day of one kind, two hours of the others."""
    is_long = not names and request.param == "nobody answers"
    return lived(FAILURES[request.param], names, 23 if is_long else 2)


def test_every_known_name_goes_on_being_answered(day: Day) -> None:
    """With its addresses, and the word that they are old."""
    assert len(day.answers) >= day.hours * len(NAMES)
    assert all(answer.rcode == wire.NOERROR and answer.data for answer in day.answers)
    assert {answer.extended[0] for answer in day.answers if answer.extended} == {STALE}


def test_the_age_is_the_time_since_the_last_good_read(day: Day) -> None:
    """Failed reads make nothing younger."""
    assert all(told == pytest.approx(true) for told, true in day.ages)
    assert max(told for told, _ in day.ages) > day.hours * HOUR_S


def test_at_most_a_call_in_five_seconds_after_backing_off(day: Day) -> None:
    """However many services are known, in any hour; an API that is down is not helped by more."""
    for hour in range(day.hours):
        began = QUIET + hour * HOUR_S
        assert sum(began + 300.0 <= at < began + HOUR_S for at in day.calls) <= 0.2 * HOUR_S


def test_the_end_of_an_outage_is_noticed_within_one_interval(day: Day) -> None:
    """Whenever it ends: so far apart are the calls. Throttles are given three times as long."""
    late = [at for at in day.calls if at > QUIET + 300.0]
    longest_s = max(after - before for before, after in pairwise(late))
    assert longest_s <= (LONGEST_REST_S if day.is_throttled else INTERVAL_S) + ROUNDING_S
    assert day.learned_after_s <= longest_s + ROUNDING_S


def test_a_recovery_is_no_burst(day: Day) -> None:
    """Not more calls than a first read takes, and none that the account would refuse."""
    assert day.burst <= day.usual
    assert day.refused == 0


def test_an_outage_in_the_first_minute_costs_no_more() -> None:
    """Definitions that were left for later are not asked for once a second, all day."""
    clock = FakeClock()
    source = SimulatedEcs(cluster(SERVICES * 10), clock)
    reader = Reader(source, clock)
    reader.step()
    assert any(s.definitions_pending for s in reader.snapshot.services.values())
    source.failure = NoConnection("no answer")
    reader.run(NOW + 300.0)
    source.made.clear()
    reader.run(NOW + 300.0 + HOUR_S)
    assert len(source.made) <= 0.2 * HOUR_S


def test_after_25_hours_nothing_is_answered() -> None:
    """SERVFAIL, with the reason, for what is too old to send anybody there."""
    clock = FakeClock()
    source = SimulatedEcs(cluster(50), clock)
    reader = Reader(source, clock)
    reader.run(QUIET)
    known = tuple(reader.snapshot.services.values())
    source.failure = NoConnection("no answer")
    reader.run(QUIET + 25 * HOUR_S)
    answers = reader.asked(known)
    assert [answer.rcode for answer in answers] == [wire.SERVFAIL] * 5
    assert {answer.extended[0] for answer in answers if answer.extended} == {UNREACHABLE}


def test_a_restart_in_an_outage_answers_from_disk_without_a_call(tmp_path: Path) -> None:
    """At once, and as old as it is."""
    clock = FakeClock()
    source = SimulatedEcs(cluster(SERVICES * 10), clock)
    first = Remembered(source, Disk(tmp_path / "cache", "prod", clock=clock))
    reader = Reader(first, clock)
    first.snapshot = lambda: reader.snapshot
    reader.run(QUIET)
    known = tuple(reader.snapshot.services.values())
    read_at = reader.snapshot.observed_at
    first.close()
    clock.now = QUIET + 12 * HOUR_S
    down = SimulatedEcs(cluster(SERVICES * 10), clock)
    down.failure = NoConnection("no answer")
    second = Remembered(down, Disk(tmp_path / "cache", "prod", clock=clock))
    again = Reader(second, clock, least_epoch=second.next_epoch)
    second.snapshot = lambda: again.snapshot
    again.step()
    assert clock.now == pytest.approx(QUIET + 12 * HOUR_S, abs=ROUNDING_S)
    assert not down.made
    assert [(a.rcode, len(a.data)) for a in again.asked(known)] == [(wire.NOERROR, 10)] * SERVICES
    again.run(clock.now + HOUR_S)
    ages = [again.snapshot.age_s(service, clock.now) for service in known]
    assert ages == pytest.approx([clock.now - read_at] * SERVICES)
