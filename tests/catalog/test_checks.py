"""Evidence on its way to what is published: who is looked at, when, and what readers see."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import Literal

import pytest

from discovery.catalog.catalog import Catalog
from discovery.catalog.checks import FIRST_S, MOST_VERIFIED, Checks
from discovery.catalog.connecting import Place
from discovery.catalog.refresher import Refresher, Timing
from discovery.errors import SourceUnreachable
from discovery.events import Checked, Event, Listeners
from discovery.health.evidence import VERIFY_S, Outcome, Result, Rules, subject_of
from discovery.health.probing import Standing
from discovery.model import Endpoint, Placement, Port, Service
from discovery.sources.base import FixedSource
from tests.made import NOW, FakeClock, endpoint, failed, observed, reading

OLD = Placement(started_at=NOW - 3_600, agent_connected=True)
YOUNG = Placement(started_at=NOW, agent_connected=True)


Tried = Result | Literal["untried"]


class Network:
    """What connecting to each host comes to; hosts that it does not know are not tried."""

    def __init__(self, **hosts: Result) -> None:
        self.hosts: dict[str, Tried] = {f"10.0.0.{n[1:]}": result for n, result in hosts.items()}
        self.tried: list[str] = []
        self.within_s: list[float] = []
        self.works = True
        self.failed = threading.Semaphore(0)

    def __call__(
        self, places: Iterable[Place], *, within_s: float = float("inf")
    ) -> Mapping[Place, Outcome]:
        """Connect to all of them at once."""
        self.within_s.append(within_s)
        places = list(places)
        if not self.works:
            self.failed.release()
            raise RuntimeError("a mistake")
        self.tried += [host for host, _ in places]
        return {p: _outcome(self.hosts[p[0]]) for p in places if p[0] in self.hosts}


def _outcome(result: Tried) -> Outcome:
    return result, "too many open files" if result == "untried" else ""


def service(placed: Placement, *numbers: int, name: str = "web") -> Service:
    """A service with an endpoint a number, whose tasks are all placed so."""
    endpoints = tuple(endpoint(n, name) for n in numbers)
    placements = {str(e.task_arn): placed for e in endpoints}
    port = Port(80)
    return Service(
        name, "demo", endpoints=endpoints, ports=(port,), default_port=port, placements=placements
    )


class Rig:
    """A refresher and its checks, without their threads, on a clock that stands still."""

    def __init__(self, *services: Service, network: Network, rules: Rules | None = None) -> None:
        self.clock = FakeClock()
        self.heard: list[Event] = []
        self.network = network
        listeners = Listeners(self.heard.append)
        self.checks = Checks(rules, listeners=listeners, clock=self.clock, connect=network)
        self.source = FixedSource(observed(reading(*services)))
        self.catalog = Catalog(
            ["demo"], adjustments=[self.checks.adjusted], listeners=listeners, clock=self.clock
        )
        timing = Timing(Random(1), clock=self.clock, monotonic=self.clock)
        self.refresher = Refresher(
            self.source, self.catalog, timing, whole=True, checks=self.checks
        )

    def round(self) -> int:
        """Look, and publish what follows."""
        looks = self.checks.round()
        self.catalog.adjust()
        return looks

    def load(self) -> None:
        """Read and publish."""
        self.refresher.load()

    @property
    def web(self) -> Service:
        """What is published of it."""
        return self.catalog.snapshot.services["demo", "web"]

    @property
    def hosts(self) -> list[str]:
        """Where readers are sent."""
        return [e.host for e in self.web.endpoints]


def test_the_young_are_looked_at_before_they_are_published() -> None:
    """So a first answer has no task that refuses, and waits for a bounded time at most."""
    rig = Rig(service(YOUNG, 1, 2), network=Network(h1="refused", h2="accepted"))
    rig.load()
    assert rig.hosts == ["10.0.0.2"]
    assert [x.reason for x in rig.web.exclusions] == ["starting: it refuses connections"]
    assert rig.network.within_s == [FIRST_S]


def test_others_cost_no_connection() -> None:
    """Neither at the first load nor later."""
    rig = Rig(service(OLD, 1, 2), network=Network())
    rig.load()
    assert rig.round() == 0
    assert rig.network.tried == []


def test_a_booting_task_is_tried_each_second_until_it_accepts() -> None:
    """Then it is published without a load, and left in peace."""
    rig = Rig(service(YOUNG, 1, 2), network=Network(h1="refused", h2="accepted"))
    rig.load()
    assert rig.round() == 0
    for second in range(1, 4):
        rig.clock.now = NOW + second
        assert rig.round() == 1
    assert rig.hosts == ["10.0.0.2"]
    rig.network.hosts["10.0.0.1"] = "accepted"
    rig.clock.now = NOW + 4
    rig.round()
    assert rig.hosts == ["10.0.0.1", "10.0.0.2"]
    rig.clock.now = NOW + 60
    assert rig.round() == 0
    assert len(rig.source.loads) == 1


def test_looks_that_change_nothing_leave_the_index() -> None:
    """Whoever waits for it is not woken each second."""
    rig = Rig(service(YOUNG, 1, 2), network=Network(h1="refused", h2="accepted"))
    rig.load()
    index, web = rig.catalog.snapshot.index, rig.web
    rig.clock.now = NOW + 1
    assert rig.round() == 1
    assert rig.catalog.snapshot.index == index
    assert rig.web is web


def test_a_callers_miss_is_looked_into_at_once() -> None:
    """Who refuses us, too, is out until it accepts."""
    rig = Rig(service(OLD, 1, 2), network=Network(h1="refused"))
    rig.load()
    rig.checks.doubt(endpoint(1))
    assert rig.round() == 1
    assert rig.hosts == ["10.0.0.2"]
    assert [x.reason for x in rig.web.exclusions] == ["it refuses connections"]
    rig.network.hosts["10.0.0.1"] = "accepted"
    rig.clock.now = NOW + 1
    rig.round()
    assert rig.hosts == ["10.0.0.1", "10.0.0.2"]


def test_a_callers_miss_alone_proves_nothing() -> None:
    """It may be the caller's own trouble; and the doubt ends with the first connection."""
    rig = Rig(service(OLD, 1, 2), network=Network(h1="accepted"))
    rig.load()
    rig.checks.doubt(endpoint(1))
    assert rig.round() == 1
    assert rig.hosts == ["10.0.0.1", "10.0.0.2"]
    rig.clock.now = NOW + 60
    assert rig.round() == 0


def test_old_data_is_verified_while_the_source_fails() -> None:
    """Who refuses leaves; what is only silent stays."""
    rig = Rig(service(OLD, 1, 2, 3), network=Network(h1="refused", h2="accepted", h3="silent"))
    rig.load()
    rig.source.say(failed(SourceUnreachable("no answer")))
    rig.clock.now = NOW + 61
    rig.load()
    rig.round()
    assert rig.hosts == ["10.0.0.2", "10.0.0.3"]


def test_verifying_is_spread_over_time() -> None:
    """A round takes only so many, and the next one goes on with others."""
    many = [service(OLD, *range(1, 250), name=name) for name in ("web", "api")]
    hosts: dict[str, Result] = {f"h{n}": "accepted" for n in range(1, 250)}
    rig = Rig(*many, network=Network(**hosts))
    rig.load()
    rig.source.say(failed(SourceUnreachable("no answer")))
    rig.clock.now = NOW + 61
    rig.load()
    assert [rig.round() for _ in range(3)] == [MOST_VERIFIED] * 3
    assert len(set(rig.network.tried)) == 3 * MOST_VERIFIED


def test_when_a_task_accepted_its_age_does_not_matter_any_more() -> None:
    """It is remembered from load to load."""
    rig = Rig(service(YOUNG, 1), network=Network(h1="accepted"))
    rig.load()
    for second in (10, 20, 30):
        rig.clock.now = NOW + second
        rig.load()
    assert rig.network.tried == ["10.0.0.1"]


def test_what_is_gone_is_forgotten() -> None:
    """What is remembered does not grow with tasks that come and go."""
    rig = Rig(service(YOUNG, 1), network=Network(h1="refused", h2="accepted"))
    rig.load()
    rig.source.say(observed(reading(service(YOUNG, 2)), at=NOW + 400))
    rig.clock.now = NOW + 400
    rig.load()
    rig.checks.doubt(endpoint(2))
    rig.round()
    assert "10.0.0.1" not in repr(rig.checks._evidence)


def test_a_probe_that_fails_takes_its_endpoint_out() -> None:
    """As connections do, with its own reason."""
    rig = Rig(service(OLD, 1, 2), network=Network())
    rig.load()
    failing = Standing(is_failing=True, why="GET /health: status 500")
    rig.checks.stands({subject_of(endpoint(1)): failing})
    rig.catalog.adjust()
    assert rig.hosts == ["10.0.0.2"]
    assert [x.reason for x in rig.web.exclusions] == ["its probe fails: GET /health: status 500"]


def test_looks_are_told_as_events() -> None:
    """For whoever counts them."""
    rig = Rig(service(YOUNG, 1), network=Network(h1="refused"))
    rig.load()
    assert [e.result for e in rig.heard if isinstance(e, Checked)] == ["refused"]


# The thread.


@pytest.fixture
def running() -> Iterable[Callable[[Rig], Rig]]:
    """Starts the thread of a rig, and ends it."""
    started: list[Rig] = []

    def start(rig: Rig) -> Rig:
        started.append(rig)
        rig.checks.start(rig.catalog.adjust)
        return rig

    yield start
    for rig in started:
        rig.checks.close()


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "discovery-checks"]


def test_without_a_reason_there_is_no_thread(running: Callable[[Rig], Rig]) -> None:
    """Most processes never have one."""
    rig = running(Rig(service(OLD, 1), network=Network()))
    rig.load()
    assert threads() == []


def test_the_thread_publishes_what_it_sees(running: Callable[[Rig], Rig]) -> None:
    """A reader that waits for the next snapshot gets it without a load."""
    rig = running(Rig(service(OLD, 1, 2), network=Network(h1="refused", h2="accepted")))
    rig.load()
    rig.checks.doubt(endpoint(1))
    assert rig.catalog.bell.wait(lambda: rig.hosts == ["10.0.0.2"], 30)
    assert len(rig.source.loads) == 1


def test_the_thread_outlives_a_mistake(running: Callable[[Rig], Rig]) -> None:
    """Whatever connecting raises."""
    rig = running(Rig(service(OLD, 1, 2), network=Network(h1="refused")))
    rig.load()
    rig.network.works = False
    rig.checks.doubt(endpoint(1))
    assert rig.network.failed.acquire(timeout=30)
    rig.network.works = True
    assert rig.catalog.bell.wait(lambda: rig.hosts == ["10.0.0.2"], 30)


def test_closing_ends_the_thread(running: Callable[[Rig], Rig]) -> None:
    """And nothing starts another one."""
    rig = running(Rig(service(OLD, 1), network=Network(h1="refused")))
    rig.load()
    rig.checks.doubt(endpoint(1))
    rig.checks.close(30)
    rig.checks.doubt(endpoint(1))
    assert threads() == []


def test_an_endpoint_that_was_never_read_is_not_looked_at() -> None:
    """A miss may come after its task is gone."""
    rig = Rig(service(OLD, 1), network=Network(h9="refused"))
    rig.load()
    rig.checks.doubt(replace(endpoint(9)))
    assert rig.round() == 0


def test_a_restart_in_place_is_a_new_boot(running: Callable[[Rig], Rig]) -> None:
    """Another port is another place: what was seen at the first one does not hold."""
    rig = Rig(service(YOUNG, 1, 2), network=Network(h1="accepted", h2="accepted"))
    rig.load()
    moved: Endpoint = replace(endpoint(1), port=40_000)
    other = replace(service(YOUNG, 1, 2), endpoints=(moved, endpoint(2)))
    rig.network.hosts["10.0.0.1"] = "refused"
    rig.source.say(observed(reading(other)))
    rig.load()
    assert rig.hosts == ["10.0.0.2"]


def test_one_that_accepted_before_is_looked_at_again_when_a_caller_misses_it() -> None:
    """What was seen before the miss does not answer it."""
    rig = Rig(service(YOUNG, 1, 2), network=Network(h1="accepted", h2="accepted"))
    rig.load()
    rig.network.hosts["10.0.0.1"] = "refused"
    rig.clock.now = NOW + 1
    rig.checks.doubt(endpoint(1))
    assert rig.round() == 1
    assert rig.hosts == ["10.0.0.2"]
    assert [x.reason for x in rig.web.exclusions] == ["it refuses connections"]


def test_without_sockets_of_our_own_the_young_are_admitted() -> None:
    """It is said, and they are tried again, which then counts."""
    network = Network()
    rig = Rig(service(YOUNG, 1, 2), network=network)
    network.hosts = {"10.0.0.1": "untried", "10.0.0.2": "accepted"}
    rig.load()
    assert rig.hosts == ["10.0.0.1", "10.0.0.2"]
    note = rig.web.notes[endpoint(1).identity]
    assert note == "it is young and cannot be tried: too many open files"
    network.hosts["10.0.0.1"] = "refused"
    assert rig.round() == 1
    assert rig.hosts == ["10.0.0.2"]


def test_who_refused_since_the_last_read_is_out_until_the_next() -> None:
    """Whoever accepts there meanwhile may be another service's task."""
    rig = Rig(service(OLD, 1, 2), network=Network(h1="refused"))
    rig.load()
    rig.clock.now = NOW + 1
    rig.checks.doubt(endpoint(1))
    rig.round()
    rig.network.hosts["10.0.0.1"] = "accepted"
    rig.clock.now = NOW + 3
    rig.round()
    assert rig.hosts == ["10.0.0.2"]
    (out,) = rig.web.exclusions
    assert out.reason == (
        "it refused connections since it was read, and it accepts connections: "
        "it may be another one by now"
    )
    rig.source.say(observed(reading(service(OLD, 1, 2)), at=NOW + 4))
    rig.load()
    assert rig.hosts == ["10.0.0.1", "10.0.0.2"]


def test_a_refusal_is_remembered_for_as_long_as_nothing_is_read() -> None:
    """Though what else was seen long ago is forgotten."""
    rig = Rig(service(OLD, 1, 2), network=Network(h1="refused", h2="accepted"))
    rig.load()
    rig.clock.now = NOW + 1
    rig.checks.doubt(endpoint(1))
    rig.round()
    rig.network.hosts["10.0.0.1"] = "accepted"
    for _ in range(100):
        rig.clock.now += 30
        rig.round()
    assert rig.hosts == ["10.0.0.2"]


def test_looks_that_find_all_as_before_publish_nothing() -> None:
    """Though they go on, every other second, while what is known is old."""
    rig = Rig(service(OLD, 1, 2), network=Network(h1="accepted", h2="accepted"))
    rig.load()
    told: list[float] = []
    rig.clock.now = NOW + 100
    rig.catalog.adjust()
    rig.checks.abandon()  # no thread of its own: the rounds are made here
    rig.checks.start(lambda: told.append(rig.clock.now))
    for _ in range(4):
        rig.checks.round()
        rig.clock.now += VERIFY_S
    assert len(rig.network.tried) == 8
    assert told == [NOW + 100]


def test_what_is_read_during_a_look_is_looked_at() -> None:
    """Another thread publishes whenever it likes; the young of its read are tried again, too."""
    network = Network()
    network.hosts |= {f"10.0.0.{n}": "refused" for n in range(1, 10)}
    rig = Rig(service(YOUNG, 1), network=network)
    rig.load()
    rig.clock.now += 1
    numbers, asked = [1], rig.clock

    def clock() -> float:
        rig.checks._clock = asked
        numbers.append(numbers[-1] + 1)
        rig.source.say(observed(reading(service(YOUNG, *numbers))))
        rig.load()
        rig.checks._clock = clock if numbers[-1] < 9 else asked
        return asked()

    rig.checks._clock = clock
    rig.checks.round()
    rig.checks._clock = asked
    rig.network.tried.clear()
    rig.clock.now += 1
    rig.checks.round()
    assert set(rig.network.tried) == {f"10.0.0.{n}" for n in numbers}
