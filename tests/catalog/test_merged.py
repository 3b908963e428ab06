"""From one snapshot to the next."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.catalog.merging import changed_names, fresh_for_s, merged
from discovery.errors import (
    AccessDenied,
    CredentialsExpired,
    SourceThrottled,
    SourceUnreachable,
)
from discovery.model import Cluster, ClusterReading, Observation, Service, Snapshot
from tests.made import NOW, endpoint, failed, observed, reading, service

ERROR = SourceUnreachable("no answer")
EXPIRED = CredentialsExpired("the security token is expired")
EMPTY = Snapshot(epoch=1, clusters=(Cluster("demo"), Cluster("prod")))
LOADED = merged(EMPTY, observed(reading(service("web", 1, 2), service("api", 3))))


def names(snapshot: Snapshot) -> list[str]:
    return [s.full_name for s in snapshot.services.values()]


def test_a_complete_reading_replaces_what_was_known() -> None:
    """Services that are not in it are gone."""
    after = merged(LOADED, observed(reading(service("web", 7))))
    assert names(after) == ["web.demo"]
    assert [e.host for e in after.services["demo", "web"].endpoints] == ["10.0.0.7"]


def test_a_cluster_that_is_no_more_takes_its_services_along() -> None:
    """A hub may come to know fewer clusters."""
    prod = reading(service("web", 9, cluster="prod"), label="prod")
    known = merged(LOADED, observed(prod))
    after = merged(known, observed(prod, labels=("prod",)))
    assert names(after) == ["web.prod"]
    assert after.read_at.keys() == after.services.keys()


def test_another_cluster_is_not_touched() -> None:
    """A reading speaks of its own cluster only."""
    after = merged(LOADED, observed(reading(service("web", 9, cluster="prod"), label="prod")))
    assert names(after) == ["web.demo", "api.demo", "web.prod"]


@pytest.mark.parametrize(
    ("told", "left"),
    [
        (reading(complete=False, error=ERROR), ["web.demo", "api.demo"]),
        (reading(service("web", 4), complete=False), ["web.demo", "api.demo"]),
        (reading(complete=False, absent={"web"}), ["api.demo"]),
        (reading(complete=False, absent={"web"}, error=ERROR), ["api.demo"]),
        (reading(complete=True, unread={"api"}, error=ERROR), ["api.demo"]),
        (reading(complete=True), []),
    ],
)
def test_what_a_reading_leaves(told: ClusterReading, left: list[str]) -> None:
    """Only what was seen to be gone goes."""
    assert names(merged(LOADED, observed(told))) == left


def test_the_index_grows_by_one_with_content() -> None:
    """Blocking queries wait for this."""
    assert merged(LOADED, observed(reading(service("web", 1)))).index == LOADED.index + 1


def test_the_index_stays_when_only_times_move_on() -> None:
    """A read that changes nothing is no change, and ages start again."""
    again = observed(reading(service("web", 1, 2), service("api", 3)), at=NOW + 10)
    after = merged(LOADED, again)
    web = after.services["demo", "web"]
    assert after.index == LOADED.index
    assert LOADED.age_s(web, NOW + 11) == 11
    assert after.age_s(web, NOW + 11) == 1


def test_unchanged_services_stay_the_same_objects() -> None:
    """What is derived from one may be cached by its identity."""
    after = merged(LOADED, observed(reading(service("web", 1, 2), service("api", 4))))
    assert after.services["demo", "web"] is LOADED.services["demo", "web"]
    assert after.services["demo", "api"] is not LOADED.services["demo", "api"]


def test_since_when_reads_are_denied_is_known_until_one_succeeds() -> None:
    """An outage in between does not start it anew; an outage alone is no missing permission."""
    out = merged(LOADED, failed(ERROR, at=NOW + 10))
    assert [c.denied_since for c in out.clusters if c.label == "demo"] == [None]
    denied = merged(out, failed(AccessDenied("ecs:ListTasks"), at=NOW + 20))
    later = merged(merged(denied, failed(ERROR, at=NOW + 30)), failed(EXPIRED, at=NOW + 40))
    assert [c.denied_since for c in later.clusters if c.label == "demo"] == [NOW + 20]
    again = merged(later, observed(reading(service("web", 1)), at=NOW + 50))
    assert [c.denied_since for c in again.clusters if c.label == "demo"] == [None]


def test_events_that_come_while_reads_are_denied_are_no_read() -> None:
    """They tell of some services, and why the others are not read."""
    denied = AccessDenied("ecs:ListTasks")
    out = merged(LOADED, failed(denied, at=NOW + 10))
    told = replace(reading(service("web", 2), error=denied), observed_at=NOW)
    after = merged(out, observed(told, at=NOW + 20))
    assert [c.denied_since for c in after.clusters if c.label == "demo"] == [NOW + 10]


def test_a_services_own_time_counts_over_that_of_the_load() -> None:
    """A follower reads now what another one read before."""
    old = replace(service("web", 1), observed_at=NOW - 60)
    after = merged(EMPTY, observed(reading(old)))
    assert after.age_s(after.services["demo", "web"], NOW) == 60


@pytest.mark.parametrize(
    ("read_at", "told_at", "wanted"),
    [
        (NOW + 9, NOW + 9, NOW + 9),
        (NOW, NOW + 9, NOW),  # an event is no read
        (NOW - 60, NOW + 9, NOW),  # a slow one makes nothing older that was read meanwhile
        (None, NOW + 9, NOW + 9),
        (NOW - 60, NOW - 50, NOW - 50),  # the clock was set back
    ],
)
def test_the_snapshot_is_as_old_as_its_last_read(
    read_at: float | None, told_at: float, wanted: float
) -> None:
    """Whatever was taken in since."""
    told = replace(reading(service("web", 1)), observed_at=read_at)
    assert merged(LOADED, observed(told, at=told_at)).observed_at == wanted


def test_a_cluster_that_comes_to_be_known_is_a_change() -> None:
    """Not read yet and read but empty are different answers."""
    after = merged(EMPTY, observed(reading()))
    assert after.index == EMPTY.index + 1
    assert after.cluster("demo") == Cluster("demo", NOW)


def test_an_error_is_kept_as_a_sentence_and_leaves_with_the_next_success() -> None:
    """People ask why data is old."""
    broken = merged(LOADED, failed(SourceThrottled("slow down"), at=NOW + 5))
    assert broken.cluster("demo") == Cluster("demo", NOW, "slow down")
    assert broken.index == LOADED.index
    assert broken.observed_at == NOW
    healed = merged(broken, observed(reading(service("web", 1, 2), service("api", 3)), at=NOW + 9))
    assert healed.cluster("demo") == Cluster("demo", NOW + 9)


def test_a_label_first_seen_in_a_reading_is_known_from_then_on() -> None:
    """Files name their clusters themselves."""
    after = merged(EMPTY, observed(reading(service("x", 1, cluster="new"), label="new")))
    assert after.labels == ("demo", "prod", "new")


def test_the_source_may_say_which_clusters_there_are() -> None:
    """In its order; a placeholder that it does not name goes."""
    told = Observation(
        NOW, (reading(service("x", 1, cluster="new"), label="new"),), labels=("new",)
    )
    assert merged(EMPTY, told).labels == ("new",)


def test_changed_names_are_those_that_came_went_or_differ() -> None:
    """`Published` tells listeners just these."""
    after = merged(LOADED, observed(reading(service("web", 9), service("new", 4))))
    assert changed_names(LOADED, after) == ("web.demo", "api.demo", "new.demo")
    assert changed_names(after, after) == ()


some_services = st.lists(
    st.builds(
        lambda name, numbers: service(name, *numbers),
        st.sampled_from(["web", "api", "db", "Web"]),
        st.lists(st.integers(1, 9), max_size=3, unique=True),
    ),
    max_size=4,
    unique_by=lambda s: s.name,
)
some_names = st.frozensets(st.sampled_from(["web", "api", "db", "Web"]))


@given(before=some_services, told=some_services, unread=some_names)
def test_an_error_never_empties_a_service(
    before: list[Service], told: list[Service], unread: frozenset[str]
) -> None:
    """Whatever fails, a service is as it was unless it was read or seen to be gone."""
    known = merged(EMPTY, observed(reading(*before)))
    told = [s for s in told if s.name not in unread]
    after = merged(known, observed(reading(*told, complete=False, unread=unread, error=ERROR)))
    read = {s.name: s for s in told}
    for old in before:
        assert after.services[old.key] == read.get(old.name, old)


@given(st.lists(st.tuples(some_services, st.booleans(), st.booleans()), max_size=6))
def test_the_index_only_grows_and_tells_of_every_change(
    steps: list[tuple[list[Service], bool, bool]],
) -> None:
    """Equal indexes mean equal content; a greater one means that something differs."""
    now = EMPTY
    for services, complete, fails in steps:
        error = ERROR if fails else None
        told = Observation(NOW, (reading(*services, complete=complete, error=error),))
        after = merged(now, told)
        known = [c.observed_at is None for c in now.clusters]
        same = now.services == after.services and known == [
            c.observed_at is None for c in after.clusters
        ]
        assert after.index == now.index + (0 if same else 1)
        now = after


@pytest.mark.parametrize(
    ("observation", "found"),
    [
        (observed(reading(service("web", 1))), 30.0),
        (observed(reading(service("web", 1)), rest_s=20.0), 60.0),
        (observed(reading(service("web", 1)), pending=True), 600.0),
        (failed(ERROR), 600.0),
    ],
)
def test_only_a_whole_load_that_learned_anything_tells_the_pace(
    observation: Observation, found: float
) -> None:
    """Data is not stale before it was to be read again because somebody else failed meanwhile."""
    assert fresh_for_s(30.0, replace(LOADED, fresh_for_s=600.0), observation) == found


def test_health_is_content() -> None:
    """A verdict that changes is a change, though every address stays."""
    sick = replace(service("web"), endpoints=(endpoint(1, health="unhealthy"), endpoint(2)))
    after = merged(LOADED, observed(reading(sick, service("api", 3))))
    assert changed_names(LOADED, after) == ("web.demo",)
