"""Sharing snapshots through a real Redis: who reads, what the others see, and what goes wrong."""

import os
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from discovery.catalog.catalog import Catalog
from discovery.errors import (
    AccessDenied,
    SourceError,
    SourceMalformed,
    SourceUnreachable,
)
from discovery.model import ClusterReading, Observation
from discovery.sources.base import FixedSource
from discovery.sources.lease import FAILING_S, Terms
from discovery.sources.publication import Publication
from discovery.sources.redis import RedisSource
from discovery.sources.store import Store, Where
from tests.made import NOW, FakeClock, HeldSource, failed, observed, reading, service
from tests.sources.hubs import TIMEOUT_S, until
from tests.sources.stores import Fleet, Server, serving

DOWN = SourceUnreachable("ECS does not answer")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real Redis."""
    with serving(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def fleet(server: Server) -> Iterator[Fleet]:
    """Sidecars of a cluster with the services `web` and `api`."""
    fleet = Fleet(server, service("web", 1, 2), service("api", 3))
    yield fleet
    fleet.close()


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The same with a server that the test may do anything to."""
    with serving(tmp_path_factory.mktemp("own")) as server:
        fleet = Fleet(server, service("web", 1, 2), service("api", 3))
        yield fleet
        fleet.close()


def hosts(observation: Observation, name: str = "web") -> list[str]:
    services = {s.name: s for r in observation.clusters for s in r.services}
    return [endpoint.host for endpoint in services[name].endpoints]


def loaded(member: RedisSource) -> Observation:
    """What it knows once a failure or two is over."""
    found: list[Observation] = []

    def learned() -> bool:
        try:
            found.append(member.load(None))
        except SourceError:
            return False
        return True

    until(learned, "a load")
    return found[-1]


# Who reads


def test_one_reads_ecs_and_all_know(fleet: Fleet) -> None:
    """Nobody but the lease's holder makes anything that reads ECS."""
    first, second = fleet.member(), fleet.member()
    assert hosts(first.load(None)) == hosts(second.load(None)) == ["10.0.0.1", "10.0.0.2"]
    assert (first.is_holder, second.is_holder, fleet.opened) == (True, False, 1)


def test_all_that_answers_depend_on_is_shared(fleet: Fleet) -> None:
    """Services equal to the holder's own, read when the holder read them."""
    first, second = fleet.member(), fleet.member()
    own, shared = first.load(None), second.load(None)
    assert {s.key: s for s in own.clusters[0].services} == {
        s.key: s for s in shared.clusters[0].services
    }
    assert shared.observed_at == pytest.approx(own.observed_at, abs=TIMEOUT_S)
    assert shared.clusters[0].explained


def test_a_change_is_heard_of_at_once(fleet: Fleet) -> None:
    """Long before the interval is over."""
    first, second = fleet.member(), fleet.member(interval_s=1_000.0)
    first.load(None)
    second.load(None)
    found: list[Observation] = []
    waiting = threading.Thread(target=lambda: found.append(second.load(None)))
    waiting.start()
    fleet.runs(service("web", 7))
    first.load(None)
    waiting.join(TIMEOUT_S)
    assert hosts(found[0]) == ["10.0.0.7"]


def test_a_change_that_nobody_was_told_of_is_found_within_an_interval(fleet: Fleet) -> None:
    """What is heard is a hint: a store that loses messages costs time only."""
    first, second = fleet.member(), fleet.member()
    first.load(None)
    second.load(None)
    fleet.client.client_kill_filter(_type="pubsub")
    fleet.runs(service("web", 7))
    first.load(None)
    until(lambda: hosts(loaded(second)) == ["10.0.0.7"])


def test_what_did_not_change_is_not_written_again(fleet: Fleet) -> None:
    """Newer times are a short document on top of the one that is there."""
    first, second = fleet.member(), fleet.member()
    first.load(None)
    content, changes = fleet.client.hmget(fleet.key("snapshot"), "content", "changes")
    assert changes == b""
    fleet.runs(service("web", 1, 2), service("api", 3))
    first.load(None)
    assert fleet.client.hget(fleet.key("snapshot"), "content") == content
    assert 0 < len(fleet.client.hget(fleet.key("snapshot"), "changes")) < len(content)
    assert second.load(None).observed_at == pytest.approx(NOW + 10, abs=5)


def test_who_follows_reads_changes_only(fleet: Fleet) -> None:
    """One service of two differs, so one service is sent."""
    first, second = fleet.member(), fleet.member()
    first.load(None)
    second.load(None)
    fleet.runs(service("web", 7), service("api", 3))
    first.load(None)
    store = Store(Where("127.0.0.1", fleet.server.port), fleet.name)
    shelf = store.read("another", fleet.client.hget(fleet.key("snapshot"), "since").decode())
    assert shelf.changes
    assert shelf.content is None
    store.close()
    assert hosts(second.load(None)) == ["10.0.0.7"]
    assert hosts(second.load(None), "api") == ["10.0.0.3"]


def test_who_comes_later_reads_all_with_its_newest_times(fleet: Fleet) -> None:
    """Content, and the times on top of it."""
    first = fleet.member()
    first.load(None)
    fleet.runs(service("web", 7), service("api", 3))
    first.load(None)
    fleet.runs(service("web", 7), service("api", 3))
    first.load(None)
    late = fleet.member().load(None)
    assert hosts(late) == ["10.0.0.7"]
    assert late.clusters[0].services[0].observed_at == pytest.approx(NOW + 20, abs=5)


def test_the_number_of_sidecars_is_known_to_all(fleet: Fleet) -> None:
    """For the pace of direct reads, should the store be gone."""
    first, *others = (fleet.member() for _ in range(4))
    first.load(None)
    for other in others:
        other.load(None)
    first.load(None)
    assert [loaded(other) and other.followers for other in others] == [4, 4, 4]


def test_ages_are_true_whatever_the_clocks_say(fleet: Fleet) -> None:
    """They travel as ages, and only the store's clock counts in between."""
    first = fleet.member()
    fleet.clock.now += 40  # it was observed 40 s ago
    first.load(None)
    fleet.clock.now -= 7_200
    observation = fleet.member().load(None)
    assert fleet.clock.now - observation.observed_at == pytest.approx(40, abs=TIMEOUT_S)


# Losing and taking the lease


def test_who_stops_lets_another_read_at_once(fleet: Fleet) -> None:
    """It gives the lease back and tells the others."""
    first, second = fleet.member(), fleet.member(interval_s=1_000.0)
    first.load(None)
    second.load(None)
    found: list[Observation] = []
    waiting = threading.Thread(target=lambda: found.append(second.load(None)))
    waiting.start()
    first.close()
    waiting.join(TIMEOUT_S)
    assert found
    assert second.is_holder


def test_the_lease_of_the_dead_ends_by_itself(fleet: Fleet) -> None:
    """Then another one reads."""
    store = Store(Where("127.0.0.1", fleet.server.port), fleet.name)
    assert store.take("the dead", 0, 0.3)
    store.close()
    member = fleet.member()
    assert hosts(loaded(member)) == ["10.0.0.1", "10.0.0.2"]
    assert member.is_holder


def test_a_lease_is_renewed_however_long_a_read_takes(fleet: Fleet) -> None:
    """Several times as long as it lasts."""
    terms = Terms(1.0)
    slow = HeldSource(observed(reading(service("web", 1))))
    member = fleet.member(direct=slow, terms=terms)
    reading_thread = threading.Thread(target=lambda: member.load(None))
    reading_thread.start()
    assert slow.entered.acquire(timeout=TIMEOUT_S)
    value = fleet.client.get(fleet.key("lease"))
    times = [fleet.client.pttl(fleet.key("lease"))]

    def renewed() -> int:
        times.append(fleet.client.pttl(fleet.key("lease")))
        return sum(after > before for before, after in pairwise(times))

    until(lambda: renewed() >= 5)
    assert fleet.client.get(fleet.key("lease")) == value
    slow.let_go.release()
    reading_thread.join(TIMEOUT_S)
    assert member.is_holder


def test_a_lease_that_cannot_be_renewed_is_given_up_before_it_ends(own: Fleet) -> None:
    """By the holder's own clock alone; the store need not be asked."""
    monotonic = FakeClock(0.0)
    member = own.member(terms=Terms(1_000.0), monotonic=monotonic)
    member.load(None)
    own.server.stop()
    monotonic.now = 899.0
    member.renew()
    assert member.is_holder
    monotonic.now = 900.0
    assert not member.is_holder


def test_who_lost_the_lease_while_it_read_shows_what_the_others_see(fleet: Fleet) -> None:
    """What it read is older than what the next holder reads, and is used by nobody."""
    slow = HeldSource(observed(reading(service("web", 66))))
    paused, other = fleet.member(direct=slow), fleet.member()
    found: list[Observation] = []
    thread = threading.Thread(target=lambda: found.append(paused.load(None)))
    thread.start()
    assert slow.entered.acquire(timeout=TIMEOUT_S)
    fleet.client.delete(fleet.key("lease"))
    other.load(None)
    slow.let_go.release()
    thread.join(TIMEOUT_S)
    assert hosts(found[0]) == ["10.0.0.1", "10.0.0.2"]
    assert not paused.is_holder
    assert slow.closed


def test_a_holder_of_before_is_refused_though_the_next_has_published_nothing(
    fleet: Fleet,
) -> None:
    """Fencing goes by the epoch that was given last, not by what was published last."""
    store = Store(Where("127.0.0.1", fleet.server.port), fleet.name)
    first = store.take("first", 0, 100.0)
    assert first is not None
    fleet.client.delete(fleet.key("lease"))
    second = store.take("second", 0, 100.0)
    assert second is not None
    assert second > first
    late = Publication(first, 1, "first", "stamp", "", 0.0, b"content", b"")
    assert store.publish(late) is False
    assert not fleet.client.exists(fleet.key("snapshot"))
    assert store.renew("first", first, 100.0) is False
    store.close()


def test_nobody_takes_a_lease_that_is_held(fleet: Fleet) -> None:
    """And only its holder can give it back."""
    store = Store(Where("127.0.0.1", fleet.server.port), fleet.name)
    first = store.take("first", 0, 100.0)
    assert first is not None
    assert store.take("second", 0, 100.0) is None
    store.release("second", first)
    assert store.take("second", 0, 100.0) is None
    store.release("first", first)
    assert store.take("second", 0, 100.0)
    store.close()


def test_the_next_holder_goes_on_from_what_was_published(fleet: Fleet) -> None:
    """A cluster that it cannot read stays as it was, for all."""
    first = fleet.member()
    first.load(None)
    first.close()
    second = fleet.member(direct=FixedSource(failed(DOWN, at=NOW + 10), labels=("demo",)))
    third = fleet.member()
    observation = second.load(None)
    assert second.is_holder
    assert hosts(observation) == hosts(third.load(None)) == ["10.0.0.1", "10.0.0.2"]


class HearingSource(FixedSource):
    """A fixed source that can be made to hear of something."""

    news: Callable[[], None] = staticmethod(lambda: None)


def test_what_the_holders_source_hears_of_is_read_and_published(fleet: Fleet) -> None:
    """Only the holder consumes events; everybody has what they tell."""
    hearing = HearingSource(observed(reading(service("web", 1))), labels=("demo",))
    first, second = fleet.member(direct=hearing), fleet.member()
    heard: list[str] = []
    first.news = lambda: heard.append("news")
    first.load(None)
    second.load(None)
    hearing.say(observed(reading(service("web", 9)), at=NOW + 10))
    hearing.news()
    assert heard == ["news"]
    assert hosts(first.load_pending()) == ["10.0.0.9"]
    assert hosts(loaded(second)) == ["10.0.0.9"]


# What goes wrong with ECS


def test_an_error_is_never_an_empty_set(fleet: Fleet) -> None:
    """Everybody keeps what was known, is told why, and sees it grow older."""
    first, second = fleet.member(), fleet.member()
    first.load(None)
    second.load(None)
    fleet.clock.now += 10
    fleet.ecs.say(failed(DOWN, at=fleet.clock.now))
    first.load(None)
    observation = second.load(None)
    assert hosts(observation) == ["10.0.0.1", "10.0.0.2"]
    assert str(observation.clusters[0].error) == str(DOWN)
    assert observation.clusters[0].services[0].observed_at == pytest.approx(NOW, abs=5)


def test_in_an_outage_the_holder_reads_less_and_less(fleet: Fleet) -> None:
    """Nobody else reads at all."""
    first, second = fleet.member(), fleet.member()
    first.load(None)
    fleet.ecs.say(failed(DOWN, at=NOW + 10))
    pauses = [first.load(None).again_s or 0.0 for _ in range(6)]
    assert pauses[-1] > 4 * pauses[0]
    second.load(None)
    assert fleet.opened == 1


def test_who_may_not_read_leaves_it_to_who_may(fleet: Fleet) -> None:
    """At once, and it follows from then on."""
    denied = AccessDenied("ecs:ListTasks")
    first = fleet.member(direct=FixedSource(failed(denied), labels=("demo",)))
    second = fleet.member()
    with pytest.raises(AccessDenied):
        first.load(None)
    assert hosts(second.load(None)) == ["10.0.0.1", "10.0.0.2"]
    assert hosts(first.load(None)) == ["10.0.0.1", "10.0.0.2"]
    assert any("ecs:ListTasks" in said for said in fleet.said)


def test_a_fleet_that_may_not_read_says_why(fleet: Fleet) -> None:
    """And not only that nothing was published."""
    denied = AccessDenied("ecs:ListTasks")
    member = fleet.member(direct=FixedSource(failed(denied), labels=("demo",)))
    for _ in range(2):
        with pytest.raises(AccessDenied):
            member.load(None)


def test_a_cluster_that_is_empty_all_at_once_is_read_a_second_time(fleet: Fleet) -> None:
    """Before anybody is told of it."""
    first, second = fleet.member(), fleet.member()
    first.load(None)
    fleet.runs()
    observation = first.load(None)
    assert hosts(observation) == ["10.0.0.1", "10.0.0.2"]
    assert observation.again_s is not None
    assert observation.again_s <= 1.1
    first.load(None)
    assert second.load(None).clusters[0].services == ()


# What goes wrong with the store


def test_a_store_that_is_gone_is_an_error_for_all(own: Fleet) -> None:
    """The holder shows nothing, either, that others cannot see."""
    first, second = own.member(), own.member()
    first.load(None)
    second.load(None)
    own.server.stop()
    own.runs(service("web", 7))
    for member in (first, second):
        with pytest.raises(SourceUnreachable, match=f"store redis://127.0.0.1:{own.server.port}"):
            member.load(None)


def test_a_store_that_comes_back_empty_goes_on_where_it_was(own: Fleet) -> None:
    """Epochs grow over all that anybody has seen, and the restart is told."""
    first, second = own.member(), own.member()
    first.load(None)
    second.load(None)
    before = int(own.client.get(own.key("epoch")))
    own.server.stop()
    own.server.start()
    own.runs(service("web", 7))
    until(lambda: hosts(loaded(first)) == hosts(loaded(second)) == ["10.0.0.7"])
    assert int(own.client.get(own.key("epoch"))) > before
    assert any("restarted or failed over" in said for said in own.said)


def test_a_store_that_lost_what_it_had_is_not_believed(fleet: Fleet) -> None:
    """Who knows more says so there; its holder comes back at once, with an epoch over all.

    So it is where the clock of the store of before was ahead.
    """
    terms = Terms(1_000.0)
    ahead = fleet.client.time()[0] + 100_000
    fleet.client.set(fleet.key("epoch"), ahead - 1)
    knowing = fleet.member(terms=terms)
    knowing.load(None)
    kinds = ("lease", "epoch", "snapshot")
    fleet.client.delete(*map(fleet.key, kinds))
    behind = FixedSource(observed(reading(service("web", 66)), at=NOW - 100), labels=("demo",))
    new = fleet.member(direct=behind, terms=terms)
    assert hosts(new.load(None)) == ["10.0.0.66"]
    assert int(fleet.client.get(fleet.key("epoch"))) < ahead
    with pytest.raises(SourceUnreachable, match="lost"):
        knowing.load(None)  # it has the lease no more, as it learns when it publishes
    assert int(fleet.client.get(fleet.key("epoch"))) == ahead
    behind.say(observed(reading(service("web", 7)), at=NOW + 100))
    fleet.clock.now += 100
    new.load(None)
    until(lambda: hosts(loaded(knowing)) == ["10.0.0.7"])
    assert int(fleet.client.get(fleet.key("epoch"))) == ahead + 1


def test_an_epoch_that_was_given_twice_is_given_up_by_all(fleet: Fleet) -> None:
    """The store lost it, and its clock was behind: who knew the first holder is heard."""
    epoch = fleet.client.time()[0] + 100_000
    fleet.client.set(fleet.key("epoch"), epoch - 1)
    terms = Terms(1_000.0)
    first, knowing = fleet.member(terms=terms), fleet.member()
    first.load(None)
    knowing.load(None)
    fleet.client.delete(*map(fleet.key, ("lease", "snapshot")))
    fleet.client.set(fleet.key("epoch"), epoch - 1)
    fleet.runs(service("web", 7))
    second = fleet.member(terms=terms)
    second.load(None)
    assert int(fleet.client.get(fleet.key("epoch"))) == epoch
    with pytest.raises(SourceUnreachable, match="lost"):
        knowing.load(None)
    second.load(None)
    assert hosts(loaded(knowing)) == ["10.0.0.7"]
    assert int(fleet.client.get(fleet.key("epoch"))) > epoch


def test_no_cluster_goes_back_where_the_store_did(fleet: Fleet) -> None:
    """It lost what was read of `prod` last, and who reads now cannot read `prod`.

    Who knew better keeps that, and publishes it once its turn to read has come.
    """
    labels = ("demo", "prod")

    def reads(demo: int, prod: int | None, at: float) -> FixedSource:
        said = reading(service("web", prod or 0, cluster="prod"), label="prod")
        failing = ClusterReading("prod", error=DOWN)
        readings = (reading(service("web", demo)), said if prod else failing)
        return FixedSource(observed(*readings, at=at), labels=labels)

    first = fleet.member(direct=(ecs := reads(1, 1, NOW)), labels=labels)
    knowing = fleet.member(direct=reads(4, None, NOW + 60), labels=labels)
    catalog = Catalog(labels, clock=fleet.clock)
    first.load(None)
    snapshot = fleet.client.dump(fleet.key("snapshot"))
    fleet.clock.now += 30
    ecs.say(reads(2, 2, NOW + 30).load(None))
    first.load(None)
    catalog.publish(knowing.load(None))
    fleet.client.restore(fleet.key("snapshot"), 0, snapshot, replace=True)
    fleet.client.hincrby(fleet.key("snapshot"), "observed", -60_000)
    fleet.client.delete(fleet.key("lease"))
    fleet.clock.now += 30
    other = fleet.member(direct=reads(3, None, NOW + 60), labels=labels)
    other.load(None)
    catalog.publish(loaded(knowing))
    shown = {key[0]: s.endpoints[0].host for key, s in catalog.snapshot.services.items()}
    assert shown == {"demo": "10.0.0.3", "prod": "10.0.0.2"}
    other.close()
    until(lambda: loaded(knowing) and knowing.is_holder)
    assert "10.0.0.2" in str(loaded(fleet.member(labels=labels)).clusters[1].services)


def test_who_can_publish_nothing_lets_go_of_the_lease(own: Fleet) -> None:
    """The store is full, or has too few replicas: nobody leads, which a fallback has to know."""
    monotonic = FakeClock(0.0)
    terms = Terms(1_000.0)
    first, second = own.member(terms=terms, monotonic=monotonic), own.member()
    first.load(None)
    second.load(None)
    own.client.config_set("maxmemory", 1)
    own.runs(service("web", 7))
    for _ in range(2):
        with pytest.raises(SourceUnreachable, match=r"it refuses: .*maxmemory"):
            first.load(None)
        monotonic.now += FAILING_S
    assert not own.client.exists(own.key("lease"))
    with pytest.raises(SourceUnreachable, match=r"it refuses: .*maxmemory"):
        second.load(None)
    own.client.config_set("maxmemory", 0)
    assert hosts(loaded(second)) == ["10.0.0.7"]


def test_a_damaged_publication_is_refused(fleet: Fleet) -> None:
    """By its checksum; what is known stays in force."""
    first, second = fleet.member(), fleet.member()
    first.load(None)
    content = bytearray(fleet.client.hget(fleet.key("snapshot"), "content"))
    content[-1] ^= 1
    fleet.client.hset(fleet.key("snapshot"), "content", bytes(content))
    with pytest.raises(SourceMalformed, match="checksum"):
        second.load(None)


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("snapshot", {"stamp": "x", "since": "", "observed": "y", "content": "z", "changes": ""}),
        ("snapshot", {"stamp": "x"}),
        ("snapshot", "a text"),
        ("epoch", "a text"),
    ],
)
def test_keys_that_are_none_of_ours_are_errors(
    fleet: Fleet, kind: str, damage: str | dict[str, str]
) -> None:
    """Never a traceback, and never an empty set."""
    if isinstance(damage, str):
        fleet.client.set(fleet.key(kind), damage)
    else:
        fleet.client.hset(fleet.key(kind), mapping=damage)
    fleet.client.set(fleet.key("lease"), "1 another")
    if kind == "epoch":
        fleet.client.delete(fleet.key("lease"))
    with pytest.raises(SourceError):
        fleet.member().load(None)


def test_a_holder_replaces_what_cannot_be_read(fleet: Fleet) -> None:
    """So that a damaged store heals by itself."""
    fleet.client.hset(
        fleet.key("snapshot"),
        mapping={"stamp": "x", "since": "", "observed": "1", "content": "z", "changes": ""},
    )
    first, second = fleet.member(), fleet.member()
    assert hosts(first.load(None)) == hosts(second.load(None)) == ["10.0.0.1", "10.0.0.2"]


def test_a_publication_that_is_too_large_is_not_read(fleet: Fleet) -> None:
    """It stays in the store; the reader is told."""
    first, second = fleet.member(), fleet.member()
    first.load(None)
    fleet.client.hset(fleet.key("snapshot"), "content", b"x" * (33 << 20))
    with pytest.raises(SourceError, match="over 33554432 bytes"):
        second.load(None)


# Life


def test_closing_ends_a_wait(fleet: Fleet) -> None:
    """And leaves no thread behind."""
    fleet.member().load(None)
    member = fleet.member(interval_s=1_000.0)
    member.load(None)
    waiting = threading.Thread(target=lambda: member.load(None))
    waiting.start()
    member.close()
    waiting.join(TIMEOUT_S)
    assert not waiting.is_alive()


def test_a_closed_holder_leaves_no_thread(fleet: Fleet) -> None:
    """Nor its lease."""
    member = fleet.member()
    member.load(None)
    member.close()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("discovery-lease")])
    assert not fleet.client.exists(fleet.key("lease"))


def test_the_child_of_a_fork_has_no_part_in_its_parents_lease(fleet: Fleet) -> None:
    """It follows, and closing it gives nothing back."""
    member = fleet.member()
    member.load(None)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            found = member.load(None)
            status = 0 if hosts(found) and not member.is_holder else 2
            member.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert fleet.client.exists(fleet.key("lease"))
    member.load(None)
    assert member.is_holder


def test_nothing_older_than_what_was_read_directly_is_taken(fleet: Fleet) -> None:
    """After a fallback the store has to catch up first."""
    first, second = fleet.member(), fleet.member()
    fleet.clock.now += 10  # what is published was observed 10 s ago
    first.load(None)
    second.seen(NOW + 10)
    with pytest.raises(SourceUnreachable, match="older"):
        second.load(None)
    fleet.runs(service("web", 7), after_s=20)
    first.load(None)
    assert hosts(loaded(second)) == ["10.0.0.7"]
