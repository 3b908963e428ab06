"""What is remembered of how services changed."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from discovery.catalog.catalog import Catalog
from discovery.catalog.history import History, changes
from discovery.model import Change, Exclusion, Happening, Service, Snapshot
from tests.made import NOW, FakeClock, endpoint, observed, reading, service


def snapshot(*services: Service, sequence: int = 0) -> Snapshot:
    return Snapshot(sequence=sequence, services={s.key: s for s in services})


def said(before: Service | None, after: Service | None) -> list[tuple[str, str | None, str]]:
    """Kind, task and reason of each change."""
    return [(c.kind, c.task_arn, c.reason) for c in changes(before, after, NOW, 7)]


def out(of: Service, *exclusions: Exclusion) -> Service:
    return replace(of, exclusions=exclusions)


def test_a_new_service_is_one_change_however_many_tasks_it_has() -> None:
    """A first load of 10,000 tasks is not 10,000 changes."""
    assert said(None, service("web", 1, 2, excluded=1)) == [
        ("appeared", None, "with 2 endpoints and 1 excluded")
    ]


def test_a_service_that_is_gone_is_one_change() -> None:
    """With all its endpoints."""
    assert said(service("web", 1, 2), None) == [
        ("gone", None, "the service is not listed any more")
    ]


def test_an_endpoint_that_leaves_has_the_reason_of_its_exclusion() -> None:
    """It is the reason that `explain` gives at that moment."""
    after = out(service("web", 2), Exclusion("arn:task/1", "desiredStatus STOPPED by deployment"))
    assert said(service("web", 1, 2), after) == [
        ("left", "arn:task/1", "desiredStatus STOPPED by deployment")
    ]


def test_an_endpoint_that_leaves_without_a_word_says_so() -> None:
    """The task was not described any more."""
    assert said(service("web", 1, 2), service("web", 2)) == [
        ("left", "arn:task/1", "its task is not listed any more")
    ]


def test_an_exclusion_of_another_container_is_not_the_reason() -> None:
    """Only one of the same container, or of the whole task."""
    after = out(service("web"), Exclusion("arn:task/1", "it crashed", "other", 99))
    assert said(service("web", 1), after) == [
        ("left", "arn:task/1", "its task is not listed any more")
    ]


def test_an_endpoint_that_joins_says_why_it_was_out() -> None:
    """Where that was known."""
    before = out(service("web"), Exclusion("arn:task/1", "starting: no verdict yet"))
    assert said(before, service("web", 1, 2)) == [
        ("joined", "arn:task/1", "it runs; before: starting: no verdict yet"),
        ("joined", "arn:task/2", "it runs"),
    ]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"port": 32_769}, "address 10.0.0.1:32768 → 10.0.0.1:32769"),
        ({"health": "unhealthy"}, "health unknown → unhealthy"),
        ({"weight": 0.5}, "weight 1.0 → 0.5"),
        ({"labels": {"a": "b"}}, "labels"),
        ({"weight": 2.0, "zone": "z"}, "weight 1.0 → 2.0, zone unknown → z"),
    ],
)
def test_an_endpoint_that_changes_says_what(members: dict[str, object], reason: str) -> None:
    """From what to what."""
    before = service("web", 1)
    after = replace(before, endpoints=(replace(endpoint(1), **members),))  # type: ignore[arg-type]
    assert said(before, after) == [("changed", "arn:task/1", reason)]


def test_a_task_that_is_kept_out_is_told_once() -> None:
    """Again only with another reason."""
    none = service("web", 1)
    starting = out(none, Exclusion("arn:task/2", "starting"))
    failing = out(none, Exclusion("arn:task/2", "its health check fails"))
    assert said(none, starting) == [("excluded", "arn:task/2", "starting")]
    assert said(starting, starting) == []
    assert said(starting, failing) == [("excluded", "arn:task/2", "its health check fails")]


def kept(history: History, name: str = "web") -> list[Happening]:
    return [c.kind for c in history.of(("demo", name))]


def flapping(history: History, times: Iterable[int], name: str = "web") -> None:
    """A service that loses and gets an endpoint by turns."""
    for n in times:
        one, two = service(name, 1), service(name, 1, 2)
        before, after = (one, two) if n % 2 else (two, one)
        history.note(snapshot(before), snapshot(after, sequence=n), NOW + n)


def test_the_oldest_changes_of_a_service_are_forgotten() -> None:
    """The newest stay."""
    history = History(per_service=3)
    flapping(history, range(10))
    assert [c.at - NOW for c in history.of(("demo", "web"))] == [7, 8, 9]


def test_where_all_are_too_many_the_quietest_service_is_forgotten() -> None:
    """Not the one that changes most."""
    history = History(per_service=3, in_all=6)
    flapping(history, range(3), "quiet")
    flapping(history, range(3), "web")
    flapping(history, range(3), "api")
    assert (kept(history, "quiet"), len(kept(history)), len(kept(history, "api"))) == ([], 3, 3)
    flapping(history, range(3), "quiet")
    assert (len(kept(history, "quiet")), kept(history)) == (3, [])


def catalog(clock: FakeClock) -> Catalog:
    return Catalog(["demo"], clock=clock)


def test_the_catalog_notes_what_it_publishes() -> None:
    """With the index of the snapshot in which it can be seen, and the time."""
    clock = FakeClock()
    it = catalog(clock)
    it.publish(observed(reading(service("web", 1))))
    clock.now = NOW + 10
    it.publish(observed(reading(service("web", 1, 2)), at=NOW + 10))
    it.publish(observed(reading(service("web", 1, 2)), at=NOW + 20))
    _, last = it.history.of(("demo", "web"))
    assert last == Change(
        NOW + 10, it.snapshot.index, "joined", "it runs", "arn:task/2", None, 80, "10.0.0.2:32768"
    )


def test_a_service_that_is_gone_keeps_its_history() -> None:
    """It is what somebody wants to know then; names are compared without case."""
    it = catalog(FakeClock())
    it.publish(observed(reading(service("web", 1), service("api", 2))))
    it.publish(observed(reading(service("api", 2), explained=True)))
    (key,) = it.history.named("DEMO", "Web")
    assert [c.kind for c in it.history.of(key)] == ["appeared", "gone"]


def test_what_nobody_asks_for_any_more_has_no_history() -> None:
    """It did not go: we stopped looking."""
    it = catalog(FakeClock())
    it.publish(observed(reading(service("web", 1))))
    it.forget([("demo", "web")])
    assert it.history.of(("demo", "web")) == ()
