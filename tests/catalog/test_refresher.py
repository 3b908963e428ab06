"""The one writer: loads, settles what was asked for, and plans the next load."""

import threading
from collections.abc import Callable, Iterator
from random import Random

import pytest

from discovery.catalog.catalog import Catalog
from discovery.catalog.loads import UNUSED_S, Load
from discovery.catalog.pace import EARLY_S, LONGEST_RETRY_S
from discovery.catalog.refresher import Refresher, Timing
from discovery.catalog.schedule import HURRY_S
from discovery.errors import NotReady, SourceError, SourceUnreachable
from discovery.events import Event, Listeners, Published, Refreshed, RefreshFailed
from discovery.model import Observation
from discovery.sources.base import FixedSource, Source, Wanted
from tests.made import (
    NOW,
    FailingSource,
    FakeClock,
    HeldSource,
    NamingSource,
    failed,
    observed,
    only,
    reading,
    service,
)

Make = Callable[..., Refresher]
ERROR = SourceUnreachable("no answer")


class Rig:
    """A refresher without its thread, on clocks that stand still."""

    def __init__(self, source: Source, whole: bool = False) -> None:
        self.monotonic = FakeClock(0.0)
        self.heard: list[Event] = []
        listeners = Listeners(self.heard.append)
        self.catalog = Catalog(source.labels, listeners=listeners, clock=FakeClock())
        timing = Timing(Random(1), clock=FakeClock(), monotonic=self.monotonic)
        self.refresher = Refresher(source, self.catalog, timing, whole=whole, listeners=listeners)

    def ask(self, name: str, cluster: str = "demo") -> Load:
        """The load that will settle a name."""
        load = self.refresher.ask((cluster, name), self.catalog.snapshot)
        assert load is not None
        return load

    def asked(self, name: str) -> Load:
        """The load that settles a name, after it ended."""
        load = self.ask(name)
        self.refresher.load()
        assert load.ended
        return load


def test_a_first_load_on_demand_reads_only_what_is_asked() -> None:
    """And so does a later one: what is known waits for its turn."""
    source = NamingSource(service("web", 1), service("api", 2), service("db", 3))
    rig = Rig(source)
    rig.asked("web")
    rig.monotonic.now = 1.0
    rig.asked("api")
    assert source.loads == [only("web"), only("api")]
    assert set(rig.catalog.snapshot.services) == {("demo", "web"), ("demo", "api")}


def test_a_load_that_is_due_reads_all_names_in_use() -> None:
    """New ones with them, in one load."""
    source = NamingSource(service("web", 1), service("api", 2))
    rig = Rig(source)
    rig.asked("web")
    rig.monotonic.now = 60.0
    rig.asked("api")
    assert source.loads[-1] == only("web", "api")


def test_a_whole_reading_asks_for_everything() -> None:
    """`None` is what the source is told."""
    source = NamingSource(service("web", 1))
    rig = Rig(source, whole=True)
    rig.refresher.load()
    assert source.loads == [None]


def test_a_name_that_does_not_exist_is_not_read_again_by_itself() -> None:
    """It is remembered as absent for a short time, and costs no call."""
    source = NamingSource(service("web", 1))
    rig = Rig(source)
    load = rig.asked("wep")
    assert load.says_absent(("demo", "wep"))
    assert rig.refresher.lately(("demo", "wep")) is load
    rig.monotonic.now = 60.0
    rig.asked("web")
    assert source.loads[-1] == only("web")
    assert rig.refresher.lately(("demo", "wep")) is None


def test_names_that_nobody_asks_for_are_read_no_more_and_forgotten() -> None:
    """The next one to ask is answered by a load, not by old data."""
    source = NamingSource(service("web", 1), service("api", 2))
    rig = Rig(source)
    rig.asked("web")
    rig.asked("api")
    rig.monotonic.now = UNUSED_S
    rig.refresher.use(("demo", "api"))
    rig.monotonic.now = UNUSED_S + 1
    rig.refresher.load()
    assert source.loads[-1] == only("api")
    assert set(rig.catalog.snapshot.services) == {("demo", "api")}


def test_when_nobody_asks_for_anything_nothing_is_read() -> None:
    """The last name to go costs no call either, and then there is nothing to wake up for."""
    source = NamingSource(service("web", 1))
    rig = Rig(source)
    rig.asked("web")
    rig.monotonic.now = UNUSED_S + 1
    rig.refresher.load()
    assert len(source.loads) == 1
    assert rig.catalog.snapshot.services == {}
    assert due_in(rig) is None


def test_a_name_written_in_another_case_is_used_under_its_own() -> None:
    """One service is never read under two names."""
    source = FixedSource(observed(reading(service("Web", 1))))
    rig = Rig(source)
    assert not rig.asked("web").says_absent(("demo", "web"))
    rig.monotonic.now = 60.0
    rig.refresher.load()
    assert source.loads[-1] == only("Web")


def test_a_failed_load_says_nothing_of_a_name() -> None:
    """Not absent, but failed, with the source's own error."""
    load = Rig(FailingSource(ERROR)).asked("web")
    assert not load.says_absent(("demo", "web"))
    assert load.failure(("demo", "web")) is ERROR


def test_one_cluster_that_fails_leaves_the_other_alone() -> None:
    """Readings are a cluster's own."""
    source = FixedSource(
        observed(reading(service("web", 1)), reading(label="prod", complete=False, error=ERROR))
    )
    rig = Rig(source, whole=True)
    load = rig.ask("web", "prod")
    rig.refresher.load()
    assert load.failure(("prod", "web")) is ERROR
    assert load.failure(("demo", "web")) is None
    assert [type(e) for e in rig.heard] == [Published, Refreshed, RefreshFailed]


def test_listeners_hear_what_a_load_learned() -> None:
    """Counts are of the cluster as it is known now."""
    rig = Rig(FixedSource(observed(reading(service("web", 1, 2), service("api", excluded=1)))))
    rig.refresher.read_whole()
    rig.refresher.load()
    assert rig.heard[-1] == Refreshed("demo", 2, 2, 1, 0.0)


def test_listeners_hear_how_old_it_was() -> None:
    """What a cache or a hub says was observed before the load."""
    rig = Rig(FixedSource(observed(reading(service("web", 1)), at=NOW - 40)))
    rig.refresher.read_whole()
    rig.refresher.load()
    assert rig.heard[-1] == Refreshed("demo", 1, 1, 0, 0.0, age_s=40.0)


def test_a_source_that_breaks_its_promise_is_a_failed_load(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever it raises, nothing is emptied, and the mistake is logged."""
    rig = Rig(FailingSource(ZeroDivisionError("oops")))
    failure = rig.asked("web").failure(("demo", "web"))
    assert isinstance(failure, SourceError)
    assert "ZeroDivisionError: oops" in str(failure)
    assert "the source failed" in caplog.text


def due_in(rig: Rig) -> float | None:
    return rig.refresher._pause_s()


def test_nothing_is_loaded_before_something_is_asked() -> None:
    """On demand there may be nothing to do at all."""
    rig = Rig(NamingSource())
    assert due_in(rig) is None
    rig.ask("web")
    assert due_in(rig) == 0


def test_the_next_load_is_due_after_the_interval() -> None:
    """Give or take a tenth."""
    rig = Rig(FixedSource(observed(reading(service("web", 1)))), whole=True)
    assert due_in(rig) == 0
    rig.refresher.load()
    assert 9 <= (due_in(rig) or 0) <= 11


def test_hurried_loads_keep_a_distance() -> None:
    """However often somebody hurries."""
    rig = Rig(FixedSource(observed(reading(service("web", 1)))), whole=True)
    rig.refresher.load()
    for _ in range(5):
        rig.refresher.hurry()
    assert due_in(rig) == HURRY_S


def test_new_names_wait_a_moment_while_the_source_fails() -> None:
    """Many callers with many names do not make loads that fail any faster."""
    rig = Rig(FailingSource(ERROR))
    rig.asked("web")
    rig.ask("api")
    assert due_in(rig) == HURRY_S


def test_new_names_do_not_put_off_the_turn_of_others() -> None:
    """A steady stream of new names must not starve the refresh."""
    source = NamingSource(*(service(f"s{n}", n) for n in range(1, 40)))
    rig = Rig(source)
    for second in range(1, 40):
        rig.monotonic.now = float(second)
        rig.asked(f"s{second}")
    whole = [sum(map(len, (w or {}).values())) for w in source.loads]
    assert max(whole) > 20
    assert 3 <= sum(1 for count in whole if count > 1) <= 5


def test_a_doubted_loss_is_read_again_soon() -> None:
    """A second read settles it within a second or so."""
    source = FixedSource(observed(reading(service("web", 1))), observed(reading()))
    rig = Rig(source, whole=True)
    rig.refresher.load()
    rig.refresher.load()
    assert rig.catalog.snapshot.services
    assert (due_in(rig) or 9) <= 1.1
    rig.refresher.load()
    assert not rig.catalog.snapshot.services


def test_asking_for_all_of_nothing_is_done_at_once() -> None:
    """Nothing in use, nothing to read."""
    rig = Rig(NamingSource())
    assert rig.refresher.ask_all().ended


def test_what_is_better_had_together_is_asked_for_after_its_patience() -> None:
    """Each time costs as much, however little there is."""
    said = observed(reading(service("web", 1)), pending=True, patience_s=5.0)
    rig = Rig(FixedSource(said, said), whole=True)
    rig.refresher.load()
    assert due_in(rig) == 5.0


def test_a_load_that_fails_meanwhile_takes_nothing_off_what_is_pending() -> None:
    """As while nobody leads a fleet, and each looks for a leader more often than it may read."""

    class FailingOnce(FixedSource):
        def load(self, wanted: Wanted) -> Observation:
            if self.loads:
                raise ERROR
            return super().load(wanted)

    said = observed(reading(service("web", 1)), pending=True, patience_s=2_500.0)
    source = FailingOnce(said, observed(reading(service("web", 1, 2))))
    rig = Rig(source, whole=True)
    rig.refresher.load()
    rig.monotonic.now = 2_499.5
    rig.refresher.load()
    assert due_in(rig) == 0.5
    rig.monotonic.now = 2_500.0
    rig.refresher._step()
    assert len(rig.catalog.snapshot.services["demo", "web"].endpoints) == 2


@pytest.mark.parametrize("hurried", [Refresher.hurry, Refresher.ask_all])
def test_who_hurries_during_a_load_gets_another_one(
    hurried: Callable[[Refresher], object],
) -> None:
    """What the load under way reads may be older than the reason to hurry."""

    class Hurrying(FixedSource):
        def load(self, wanted: Wanted) -> Observation:
            hurried(rig.refresher)
            return super().load(wanted)

    rig = Rig(Hurrying(observed(reading(service("web", 1)))), whole=True)
    rig.refresher.load()
    assert (due_in(rig) or 0) <= HURRY_S


def test_what_is_pending_is_asked_for_soon_and_alone() -> None:
    """The next load is due when it would have been."""
    source = FixedSource(
        observed(reading(service("web", 1)), pending=True), observed(reading(service("web", 1, 2)))
    )
    rig = Rig(source, whole=True)
    rig.refresher.load()
    assert due_in(rig) == EARLY_S
    rig.monotonic.now = EARLY_S
    rig.refresher._step()
    assert (len(source.loads), source.pending_loads) == (1, 1)
    assert len(rig.catalog.snapshot.services["demo", "web"].endpoints) == 2
    assert 7 <= (due_in(rig) or 0) <= 10


@pytest.mark.parametrize("hurried", [Refresher.hurry, Refresher.ask_all])
def test_who_hurries_gets_a_load_while_something_is_pending(
    hurried: Callable[[Refresher], object],
) -> None:
    """What cannot be had yet is no excuse to read nothing."""
    source = FixedSource(observed(reading(service("web", 1)), pending=True))
    rig = Rig(source, whole=True)
    rig.refresher.load()
    rig.monotonic.now = EARLY_S
    hurried(rig.refresher)
    assert due_in(rig) == 0
    rig.refresher._step()
    assert (len(source.loads), source.pending_loads) == (2, 0)


def test_a_failure_of_what_is_pending_takes_nothing_back() -> None:
    """And the thread goes on."""

    class Failing(FixedSource):
        def load_pending(self) -> Observation:
            raise ERROR

    rig = Rig(Failing(observed(reading(service("web", 1)), pending=True)), whole=True)
    rig.refresher.load()
    rig.refresher.load_pending()
    assert rig.catalog.snapshot.services["demo", "web"].endpoints
    assert rig.heard[-1] == RefreshFailed("demo", ERROR)


def test_an_asker_whose_snapshot_is_old_looks_again() -> None:
    """A load that ended between its looking and its asking is not repeated."""
    rig = Rig(NamingSource(service("web", 1)))
    seen = rig.catalog.snapshot
    rig.asked("web")
    assert rig.refresher.ask(("demo", "web"), seen) is None


@pytest.fixture
def running() -> Iterator[Make]:
    """Makes refreshers with their threads, which are gone afterwards."""
    made: list[Refresher] = []

    def make(
        source: Source, *, whole: bool = True, listeners: Listeners | None = None
    ) -> Refresher:
        catalog = Catalog(source.labels, listeners=listeners)
        made.append(Refresher(source, catalog, Timing(Random(1)), whole=whole, listeners=listeners))
        return made[-1]

    yield make
    for refresher in made:
        refresher.close()
        assert refresher._thread is None or not refresher._thread.is_alive()


def test_there_is_no_thread_before_the_start(running: Make) -> None:
    """And one only, however often it is started."""
    before = threading.active_count()
    refresher = running(FixedSource(observed(reading(service("web", 1)))))
    assert threading.active_count() == before
    for _ in range(3):
        refresher.start()
    assert threading.active_count() == before + 1


def test_waiters_are_woken_when_the_load_ends(running: Make) -> None:
    """Also those that asked while it was under way."""
    source = HeldSource(observed(reading(service("web", 1))))
    refresher = running(source)
    refresher.start()
    assert source.entered.acquire(timeout=10)
    load = refresher.ask(("demo", "web"), refresher._catalog.snapshot)
    assert load is not None
    source.let_go.release()
    assert refresher._catalog.bell.wait(lambda: load.ended, 10)


def test_a_listener_that_raises_does_not_end_the_refreshing(running: Make) -> None:
    """It is told again next time."""
    heard = threading.Semaphore(0)

    def broken(event: Event) -> None:
        heard.release()
        raise RuntimeError("a listener's mistake")

    listeners = Listeners(broken)
    refresher = running(NamingSource(service("web", 1)), listeners=listeners)
    refresher.start()
    assert heard.acquire(timeout=10)
    load = refresher.ask_all()
    assert refresher._catalog.bell.wait(lambda: load.ended, 10)


def test_the_thread_outlives_a_mistake_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next load is as good as any."""
    nonsense = Observation(NOW, (None,))  # type: ignore[arg-type]  # what no source may say
    source = FixedSource(nonsense, observed(reading(service("web", 1))), labels=("demo",))
    catalog = Catalog(source.labels)
    refresher = Refresher(source, catalog, Timing(Random(1), interval_s=0.01), whole=True)
    refresher.start()
    try:
        assert catalog.bell.wait(lambda: bool(catalog.snapshot.services), 10)
    finally:
        refresher.close()
    assert "a refresh failed" in caplog.text


def test_a_closed_refresher_loads_no_more(running: Make) -> None:
    """It says so, and its source is closed."""
    source = HeldSource(observed(reading(service("web", 1))))
    refresher = running(source)
    refresher.close()
    refresher.start()
    with pytest.raises(NotReady, match="closed"):
        refresher.ask(("demo", "web"), refresher._catalog.snapshot)
    assert source.closed
    assert not refresher.is_running


def test_a_read_that_closing_ends_is_no_failure(running: Make) -> None:
    """A hub's, say, whose wait is broken off: nobody is told that it gave no answer."""

    class Broken(HeldSource):
        def load(self, wanted: Wanted) -> Observation:
            super().load(wanted)
            raise ERROR

    heard: list[Event] = []
    source = Broken(observed(reading(service("web", 1))))
    refresher = running(source, listeners=Listeners(heard.append))
    refresher.start()
    assert source.entered.acquire(timeout=10)
    refresher.close()
    assert not any(isinstance(event, RefreshFailed) for event in heard)


def test_an_abandoned_refresher_ends_by_itself_and_closes_its_source(running: Make) -> None:
    """A resolver that nobody holds any more leaves no thread."""
    source = HeldSource(observed(reading(service("web", 1))))
    source.let_go.release(1_000)
    refresher = running(source)
    refresher.start()
    assert source.entered.acquire(timeout=10)
    refresher.abandon()
    assert refresher._thread is not None
    refresher._thread.join(10)
    assert source.closed


def test_expired_failures_are_told_apart_from_absence() -> None:
    """What exists and could not be read is neither there nor absent."""
    load = Load()
    load.end(observed(reading(unread={"web"}, error=ERROR), at=NOW))
    assert load.left_unread(("demo", "web")) is ERROR
    assert load.failure(("demo", "web")) is ERROR
    assert load.says_absent(("demo", "api"))
    assert load.failure(("demo", "api")) is None


def test_failing_loads_back_off_and_heal() -> None:
    """The pause grows with each failure and is the interval again after a success."""
    source = FixedSource(failed(ERROR), failed(ERROR), failed(ERROR), failed(ERROR), failed(ERROR))
    rig = Rig(source, whole=True)
    pauses = []
    for _ in range(5):
        rig.refresher.load()
        pauses.append(due_in(rig) or 0)
    assert pauses == sorted(pauses)
    assert pauses[-1] >= LONGEST_RETRY_S / 2
    source.say(observed(reading(service("web", 1))))
    rig.refresher.load()
    assert 9 <= (due_in(rig) or 0) <= 11
