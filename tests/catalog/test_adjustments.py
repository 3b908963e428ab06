"""What is published is what was read, adjusted."""

from dataclasses import replace

from discovery.catalog.catalog import Adjustment, Catalog
from discovery.events import Event, Listeners, Published
from discovery.model import Snapshot
from tests.made import NOW, FakeClock, observed, reading, service


def without(name: str, until: float) -> Adjustment:
    """An adjustment that empties a service for a while."""

    def adjusted(snapshot: Snapshot, now: float) -> Snapshot:
        key = ("demo", name)
        if now >= until or key not in snapshot.services:
            return snapshot
        empty = replace(snapshot.services[key], endpoints=())
        return replace(snapshot, services={**snapshot.services, key: empty})

    return adjusted


def catalog(*adjustments: Adjustment, clock: FakeClock, heard: list[Event]) -> Catalog:
    return Catalog(
        ["demo"], adjustments=adjustments, listeners=Listeners(heard.append), clock=clock
    )


def hosts(of: Catalog, name: str = "web") -> list[str]:
    return [e.host for e in of.snapshot.services["demo", name].endpoints]


def test_readers_see_it_adjusted_and_the_next_reading_does_not() -> None:
    """An adjustment starts from what was read each time, so it ends when it ends."""
    clock = FakeClock()
    it = catalog(without("web", NOW + 5), clock=clock, heard=[])
    it.publish(observed(reading(service("web", 1, 2))))
    assert hosts(it) == []
    clock.now = NOW + 10
    it.publish(observed(reading(service("web", 1, 2))))
    assert hosts(it) == ["10.0.0.1", "10.0.0.2"]


def test_adjusting_anew_needs_no_reading() -> None:
    """While the source fails, too."""
    clock = FakeClock()
    it = catalog(without("web", NOW + 5), clock=clock, heard=[])
    it.publish(observed(reading(service("web", 1))))
    clock.now = NOW + 5
    it.adjust()
    assert hosts(it) == ["10.0.0.1"]


def test_the_index_moves_with_what_is_published_only() -> None:
    """Adjusting to the same content is no change, and tells nobody."""
    clock, heard = FakeClock(), list[Event]()
    it = catalog(without("web", NOW + 5), clock=clock, heard=heard)
    it.publish(observed(reading(service("web", 1), service("api", 2))))
    first, api = it.snapshot.index, it.snapshot.services["demo", "api"]
    it.adjust()
    it.publish(observed(reading(service("web", 7), service("api", 2))))
    assert it.snapshot.index == first
    clock.now = NOW + 5
    it.adjust()
    assert it.snapshot.index == first + 1
    assert it.snapshot.services["demo", "api"] is api
    told = [(e.index, e.changed) for e in heard if isinstance(e, Published)]
    assert told == [(first, ("web.demo", "api.demo")), (first + 1, ("web.demo",))]


def test_an_adjusted_service_that_stays_equal_stays_the_same_object() -> None:
    """What is derived from it may be cached by its identity."""
    it = catalog(without("web", NOW + 5), clock=FakeClock(), heard=[])
    it.publish(observed(reading(service("web", 1))))
    web = it.snapshot.services["demo", "web"]
    it.publish(observed(reading(service("web", 1)), at=NOW + 1))
    assert it.snapshot.services["demo", "web"] is web


def test_they_apply_in_order() -> None:
    """Each sees what those before it made."""
    seen: list[int] = []

    def counting(snapshot: Snapshot, now: float) -> Snapshot:
        seen.append(sum(len(s.endpoints) for s in snapshot.services.values()))
        return snapshot

    it = catalog(counting, without("web", NOW + 5), counting, clock=FakeClock(), heard=[])
    it.publish(observed(reading(service("web", 1, 2))))
    assert seen == [2, 0]


def test_the_guard_goes_by_what_was_read() -> None:
    """Tasks that an adjustment took away are no tasks that vanished, nor the other way round."""
    it = catalog(without("web", NOW + 5), clock=FakeClock(), heard=[])
    it.publish(observed(reading(service("web", 1))))
    assert it.publish(observed(reading())) == {"demo"}
    assert it.publish(observed(reading())) == frozenset()


def test_what_is_forgotten_stays_forgotten() -> None:
    """In what was read as in what is published."""
    it = catalog(without("web", NOW + 5), clock=FakeClock(), heard=[])
    it.publish(observed(reading(service("web", 1), service("api", 2))))
    it.forget([("demo", "web")])
    it.adjust()
    assert set(it.snapshot.services) == {("demo", "api")}
