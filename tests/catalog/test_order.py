"""Nothing older after something newer: for each service, whoever said it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.catalog.merging import merged
from discovery.catalog.order import SLACK_S
from discovery.model import Cluster, ClusterReading, Observation, Service, Snapshot
from discovery.sources.hearsay import observed
from tests.made import NOW, service

EMPTY = Snapshot(epoch=1, clusters=(Cluster("demo"), Cluster("prod")))


def read(name: str, at: float, *numbers: int, cluster: str = "demo") -> Service:
    return replace(service(name, *numbers, cluster=cluster), observed_at=at)


def said(
    *services: Service, listed_at: float | None, now: float, label: str = "demo"
) -> Observation:
    """What a publisher knew of a cluster, whose list it read at `listed_at`, as of `now`."""
    keys = {s.key: s for s in services}
    return observed(Snapshot(1, 1, now, (Cluster(label, listed_at),), keys))


def hosts(snapshot: Snapshot) -> dict[str, list[str]]:
    return {s.full_name: [e.host for e in s.endpoints] for s in snapshot.services.values()}


KNOWN_SERVICES = (read("web", NOW, 1), read("api", NOW, 2))
KNOWN = merged(EMPTY, said(*KNOWN_SERVICES, listed_at=NOW, now=NOW))


def test_a_service_that_another_publisher_read_earlier_stays() -> None:
    """Though that publisher has read another one later."""
    other = said(read("web", NOW + 9, 11), read("api", NOW - 50, 12), listed_at=NOW, now=NOW + 9)
    after = merged(KNOWN, other)
    assert hosts(after) == {"web.demo": ["10.0.0.11"], "api.demo": ["10.0.0.2"]}
    assert after.read_at == {("demo", "web"): NOW + 9, ("demo", "api"): NOW}


def test_an_earlier_list_takes_nothing_away_and_brings_nothing_back() -> None:
    """`api` is not in it yet, and `old` was gone when the newer one was read."""
    other = said(
        read("web", NOW + 9, 11), read("old", NOW - 50, 3), listed_at=NOW - 50, now=NOW + 9
    )
    after = merged(KNOWN, other)
    assert hosts(after) == {"web.demo": ["10.0.0.11"], "api.demo": ["10.0.0.2"]}
    assert after.clusters[0].observed_at == NOW


def test_a_service_read_earlier_stays_where_no_list_was_ever_read() -> None:
    """Two publishers that may list nothing know each service by name, one of them later."""
    known = merged(EMPTY, said(*KNOWN_SERVICES, listed_at=None, now=NOW))
    other = (read("web", NOW - 50, 11), read("api", NOW + 9, 12), read("new", NOW - 50, 3))
    after = merged(known, said(*other, listed_at=None, now=NOW + 9))
    assert hosts(after) == {
        "web.demo": ["10.0.0.1"],
        "api.demo": ["10.0.0.12"],
        "new.demo": ["10.0.0.3"],
    }


def test_a_list_outlives_the_words_of_who_has_none() -> None:
    """What it read before the list, and is not in the list, was gone; what it read later is new."""
    other = said(read("old", NOW - 50, 3), read("new", NOW + 9, 4), listed_at=None, now=NOW + 9)
    assert hosts(merged(KNOWN, other)) == {
        "web.demo": ["10.0.0.1"],
        "api.demo": ["10.0.0.2"],
        "new.demo": ["10.0.0.4"],
    }


def test_a_later_list_does_both() -> None:
    """As always."""
    after = merged(KNOWN, said(read("new", NOW + 9, 3), listed_at=NOW + 9, now=NOW + 9))
    assert hosts(after) == {"new.demo": ["10.0.0.3"]}


def test_what_is_known_from_the_future_stands_in_nobodys_way() -> None:
    """The clock was set back by an hour, and reads go on."""
    now = NOW - 3_600
    after = merged(KNOWN, said(read("web", now, 11), listed_at=now, now=now))
    assert hosts(after) == {"web.demo": ["10.0.0.11"]}


def test_times_that_went_over_a_network_may_differ_a_little() -> None:
    """Events tell new content of an old read."""
    at = NOW - 0.9 * SLACK_S
    after = merged(KNOWN, said(read("web", at, 11), listed_at=at, now=NOW))
    assert hosts(after) == {"web.demo": ["10.0.0.11"]}


def test_what_is_in_a_list_of_now_is_there_however_old_its_read() -> None:
    """As a service that events told of, on top of a read of some time ago."""
    later = Observation(NOW + 9, (ClusterReading("demo", KNOWN_SERVICES, complete=True),))
    known = merged(KNOWN, later)
    new = (*KNOWN_SERVICES, read("new", NOW, 3))
    after = merged(known, Observation(NOW + 20, (ClusterReading("demo", new, complete=True),)))
    assert hosts(after)["new.demo"] == ["10.0.0.3"]


CLUSTERS = ("demo", "prod")
Words = dict[str, tuple[int, bool]]
READS = st.tuples(st.integers(0, 20), st.booleans())  # when, and whether of a list
TIMES = st.dictionaries(st.sampled_from(CLUSTERS), READS, min_size=1)


@given(st.lists(st.tuples(TIMES, st.integers(0, 20)), max_size=8))
def test_whoever_speaks_no_service_goes_back(words: list[tuple[Words, int]]) -> None:
    """Each publisher has read each cluster at some time, some more lately than others.

    `web` says when it was read by the number of its endpoint.
    """
    known, now = EMPTY, NOW
    for times, later in words:
        now = max(now, NOW + 10 * (max(at for at, _ in times.values()) + later))
        readings = tuple(
            said(
                read("web", NOW + 10 * at, at, cluster=label),
                listed_at=NOW + 10 * at if is_listed else None,
                now=now,
                label=label,
            ).clusters[0]
            for label, (at, is_listed) in times.items()
        )
        after = merged(known, Observation(now, readings, labels=CLUSTERS))
        for key, at in after.read_at.items():
            assert at >= known.read_at.get(key, 0.0)
            (shown,) = after.services[key].endpoints
            assert shown.host == f"10.0.0.{(at - NOW) / 10:.0f}"
        known = after


@pytest.mark.parametrize("label", CLUSTERS)
def test_what_was_never_read_is_taken(label: str) -> None:
    """However old it is."""
    after = merged(
        EMPTY, said(read("web", 5.0, 1, cluster=label), listed_at=5.0, now=NOW, label=label)
    )
    assert hosts(after) == {f"web.{label}": ["10.0.0.1"]}
