"""Going direct while no hub answers: when, how often, and what is taken from whom."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from discovery.client.opening import opened
from discovery.ecs.source import EcsSource
from discovery.errors import BadSetting, SourceUnreachable
from discovery.events import Event, Listeners, Noticed
from discovery.model import Endpoint, Observation, Placement, Service
from discovery.settings import Settings
from discovery.sources.base import FixedSource, Hearing, Source, Wanted
from discovery.sources.fallback import SHARE, SURE_S, Fallback, Fleet, calls_of
from discovery.sources.sealed import Sealed
from discovery.written import ClusterSettings
from tests.made import NOW, FailingSource, FakeClock, observed, reading, service

LED = observed(reading(service("web", 1)))
DIRECT = observed(reading(service("web", 2)), at=NOW + 100)
DOWN = SourceUnreachable("hub http://a:1: no answer")


class FixedLeader(FixedSource):
    """A leader that says what it is told to, or fails."""

    def __init__(self, followers: int = 0) -> None:
        super().__init__(LED)
        self.followers = followers
        self.fails = False
        self.least_observed_at = 0.0

    def load(self, wanted: Wanted) -> Observation:
        """What was said, unless it fails."""
        if self.fails:
            raise DOWN
        return super().load(wanted)

    def seen(self, observed_at: float) -> None:
        """Keep it for the test."""
        self.least_observed_at = observed_at


class HearingLeader(FixedLeader):
    """A leader that can be made to hear of something."""

    news: Callable[[], None] = staticmethod(lambda: None)


class Rig:
    """A fallback between a leader and a direct source, on a clock that a test moves."""

    def __init__(self, followers: int = 0, path: Path | None = None, seed: int = 1) -> None:
        self.clock = FakeClock(0.0)
        self.leader = FixedLeader(followers)
        self.direct = FixedSource(DIRECT)
        self.opened = 0
        self.open: Callable[[], Source] = lambda: self.direct
        self.said: list[Event] = []
        self.source = Fallback(
            self.leader,
            self._open,
            chance=Random(seed),
            path=path,
            listeners=Listeners(self.said.append),
            monotonic=self.clock,
        )

    def _open(self) -> Source:
        self.opened += 1
        return self.open()

    def reads_at(self, until_s: float, step_s: float = 1.0) -> Iterator[float]:
        """When it reads directly, asked once a step."""
        while self.clock.now < until_s:
            before = len(self.direct.loads)
            with suppress(SourceUnreachable):
                self.source.load(None)
            if len(self.direct.loads) > before:
                yield self.clock.now
            self.clock.now += step_s


def test_while_somebody_leads_nothing_is_read_directly() -> None:
    """Not even made."""
    rig = Rig()
    assert rig.source.load(None) == LED
    assert list(rig.reads_at(100)) == []
    assert rig.opened == 0


def test_without_a_leader_it_goes_direct_at_the_fleets_pace() -> None:
    """Beginning at a time by chance; in between the leader's failure is what there is to say."""
    rig = Rig(followers=100)
    rig.source.load(None)
    rig.leader.fails = True
    pause_s = Fleet(100, calls_of(LED.clusters[0].services)).pause_s(10.0)
    reads = list(rig.reads_at(10 * pause_s))
    assert reads[0] <= pause_s
    assert {round(b - a) for a, b in pairwise(reads)} == {round(pause_s)}
    rig.clock.now = reads[-1] + 1
    with pytest.raises(SourceUnreachable, match="no answer"):
        rig.source.load(None)


CALLS = 4  # of one read of what such a fleet knows


def led_fleet(size: int) -> list[Rig]:
    """A fleet that was led, and is not led any more from now on."""
    rigs = [Rig(followers=size, seed=n) for n in range(size)]
    services = [service(f"s{n}", *range(n * 10, n * 10 + 10)) for n in range(20)]
    assert calls_of(services) == CALLS
    told = observed(reading(*services))
    for rig in rigs:
        rig.leader.say(told)
        rig.direct.say(told)
        rig.source.load(None)
        rig.leader.fails = True
    return rigs


def test_a_whole_fleet_stays_within_its_share() -> None:
    """A thousand that lose their hub in the same second, over any minute from then on."""
    reads = [at for rig in led_fleet(1_000) for at in rig.reads_at(900, step_s=10.0)]
    for minute in range(0, 900, 60):
        made = CALLS * sum(minute <= at < minute + 60 for at in reads)
        assert made <= 1.25 * SHARE * 60  # what is by chance is not even


def test_a_fleet_whose_hub_comes_and_goes_stays_within_its_share() -> None:
    """A hub in a loop of restarts: up for a second, down for two; each time all lose it again."""
    rigs = led_fleet(200)
    reads: list[float] = []
    for second in range(300):
        for rig in rigs:
            rig.leader.fails = second % 3 > 0
            reads += rig.reads_at(second + 1.0)
    for minute in range(0, 300, 60):
        made = CALLS * sum(minute <= at < minute + 60 for at in reads)
        assert 0 < made <= SHARE * 60


def test_the_leader_is_followed_again_once_it_answers() -> None:
    """And nothing older than what was read meanwhile."""
    rig = Rig()
    rig.source.load(None)
    rig.leader.fails = True
    next(rig.reads_at(1e6, step_s=10))
    assert rig.leader.least_observed_at == DIRECT.observed_at
    rig.leader.fails = False
    assert rig.source.load(None) == LED
    rig.leader.fails = True
    with pytest.raises(SourceUnreachable):
        rig.source.load(None)


def test_what_was_read_directly_is_fresh_for_the_pace() -> None:
    """As wherever the pace is stretched by a budget."""
    rig = Rig(followers=1_000)
    rig.source.load(None)
    rig.leader.fails = True
    rig.clock.now = 1e6
    with pytest.raises(SourceUnreachable):
        rig.source.load(None)
    rig.clock.now = 2e6
    found = rig.source.load(None)
    assert found.clusters == DIRECT.clusters
    assert found.fresh_for_s == 3 * rig.source.fleet.pause_s(10.0) > 300


def test_what_a_direct_read_put_off_is_asked_of_the_same_source() -> None:
    """And of the leader's otherwise."""
    rig = Rig(followers=2)
    rig.source.load(None)
    rig.source.load_pending()
    assert (rig.leader.pending_loads, rig.direct.pending_loads) == (1, 0)
    rig.leader.fails = True
    next(rig.reads_at(1e6))
    rig.clock.now += rig.source.fleet.lot_s
    rig.source.load_pending()
    assert (rig.leader.pending_loads, rig.direct.pending_loads) == (1, 1)


def test_definitions_are_read_directly_at_the_fleets_pace_too() -> None:
    """Each of a thousand would read all of them: as many together as tasks and hosts may take."""
    rig = Rig(followers=1_000)
    rig.source.load(None)
    rig.leader.fails = True
    next(rig.reads_at(1e6))
    for _ in range(2):
        told = rig.source.load_pending()
        assert rig.direct.pending_loads == 0
        assert told.pending
        assert told.patience_s == pytest.approx(2_500)
    rig.clock.now += 2_500
    found = rig.source.load_pending()
    assert rig.direct.pending_loads == 1
    assert found.fresh_for_s == 3 * rig.source.fleet.pause_s(10.0)  # tasks are not read sooner
    assert rig.source.load_pending().pending
    assert rig.direct.pending_loads == 1


def test_direct_reads_put_definitions_off_no_further() -> None:
    """They may come more often than a lot of definitions."""
    rig = Rig(followers=1_000)
    rig.source.load(None)
    rig.leader.fails = True
    reads = rig.reads_at(1e6)
    next(reads)
    rig.clock.now += 2_400
    next(reads)
    rig.clock.now += 100
    rig.source.load_pending()
    assert rig.direct.pending_loads == 1


def test_going_direct_is_said_once_with_its_pace() -> None:
    """A person wonders about the calls, or why answers are old."""
    rig = Rig(followers=100)
    rig.source.load(None)
    rig.leader.fails = True
    assert len(list(rig.reads_at(500))) > 1
    (notice,) = rig.said
    assert isinstance(notice, Noticed)
    assert "every 20 s (100 sidecars, 2 calls each)" in notice.message


def test_the_size_of_the_fleet_outlives_a_restart(tmp_path: Path) -> None:
    """A restart in an outage goes by it; what is no such file is passed over."""
    path = tmp_path / "below" / "cache.fleet"
    Rig(followers=70, path=path).source.load(None)
    assert Rig(path=path).source.fleet == Fleet(70, 2)
    for content in (b"[]", b'{"followers":0}', b'{"followers":99999999}', b"\xff"):
        Sealed(path, "a fleet").write([content])
        assert Rig(path=path).source.fleet == Fleet()
    path.write_bytes(b"")
    assert Rig(path=path).source.fleet == Fleet()


def test_a_leader_that_has_just_begun_knows_few_followers() -> None:
    """One that starts again and again must not have each of them take itself for one of few."""
    rig = Rig(followers=500)
    rig.source.load(None)
    for _ in range(3):
        rig.leader.fails = True
        with suppress(SourceUnreachable):
            rig.source.load(None)
        rig.leader.fails, rig.leader.followers = False, 2
        rig.clock.now += SURE_S / 2
        rig.source.load(None)
        assert rig.source.fleet.followers == 500
    rig.clock.now += SURE_S
    rig.source.load(None)
    assert rig.source.fleet.followers == 2
    rig.leader.followers = 900
    rig.source.load(None)
    assert rig.source.fleet.followers == 900


def test_a_part_of_what_runs_does_not_make_the_work_look_small() -> None:
    """As while a leader that has just begun could read one cluster of several."""
    rig = Rig()
    many = tuple(service(f"s{n}", *range(n * 10, n * 10 + 10)) for n in range(20))
    rig.leader.say(observed(reading(*many)))
    rig.source.load(None)
    rig.leader.say(observed(reading(service("web", 1), complete=False, error=DOWN)))
    rig.source.load(None)
    assert rig.source.fleet.calls == 4
    rig.leader.say(LED)
    rig.source.load(None)
    assert rig.source.fleet.calls == 2


def test_a_direct_read_that_breaks_is_not_repeated_at_once() -> None:
    """Whatever it raises: the fleet's pace is kept."""
    rig = Rig(followers=1_000)
    rig.source.load(None)
    rig.leader.fails = True
    direct = FailingSource(DOWN)
    rig.open = lambda: direct
    for rig.clock.now in range(600):
        with suppress(SourceUnreachable):
            rig.source.load(None)
    assert direct.loads <= 3


def test_what_the_leader_hears_of_is_passed_on() -> None:
    """As by the events that the holder of a lease consumes."""
    leader = HearingLeader()
    source = Fallback(leader, lambda: FixedSource(DIRECT), chance=Random(1))
    heard: list[str] = []
    assert isinstance(source, Hearing)
    source.news = lambda: heard.append("news")
    leader.news()
    assert heard == ["news"]


def test_a_fleet_that_nobody_counted_counts_as_a_large_one() -> None:
    """A thousand that never met their hub do not take the account's quota."""
    assert Fleet().pause_s(10.0) == 2_100


def test_calls_are_those_of_one_read() -> None:
    """A list and a description of tasks, and the instances."""
    endpoints = tuple(
        Endpoint("10.0.0.1", n + 1, task_arn=f"arn:{n}", service="web") for n in range(201)
    )
    placements = {f"arn:{n}": Placement(machine=f"i-{n % 101}") for n in range(201)}
    assert calls_of([Service("web", "demo", endpoints=endpoints, placements=placements)]) == 8
    assert calls_of([]) == 1


def test_closing_closes_both() -> None:
    """And nothing is read directly any more."""
    rig = Rig()
    rig.leader.fails = True
    rig.source.close()
    assert list(rig.reads_at(1e6, step_s=100)) == []


def test_a_fallback_has_to_know_what_to_read() -> None:
    """A hub may tell of many clusters; which ones are ours is for the settings to say."""
    with pytest.raises(BadSetting, match="clusters"):
        opened("http://hub:8053", Settings(fallback="ecs"), Listeners())
    named = Settings(fallback="ecs", clusters=(ClusterSettings("prod"),))
    source = opened("http://hub:8053", named, Listeners())
    assert isinstance(source, Fallback)
    assert source.labels == ("prod",)
    source.close()


def test_who_reads_directly_leaves_the_queue_of_events_alone() -> None:
    """It has one consumer, and of these there are as many as followers."""
    clusters = (ClusterSettings("prod", region="eu-west-1"),)
    named = Settings(fallback="ecs", clusters=clusters, events="changes")
    source = opened("http://hub:8053", named, Listeners())
    assert isinstance(source, Fallback)
    direct = source._open()
    assert isinstance(direct, EcsSource)
    assert direct._changes is None
    direct.close()
    source.close()


def test_what_reads_directly_is_not_loaded_before_it_is_needed() -> None:
    """Most followers never read by themselves."""
    program = """
import sys
from discovery.client.opening import opened
from discovery.events import Listeners
from discovery.settings import Settings
from discovery.written import ClusterSettings
settings = Settings(clusters=(ClusterSettings("prod"),), fallback="ecs")
opened("http://127.0.0.1:1", settings, Listeners()).close()
assert "discovery.ecs.source" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
