"""What followers are told: whole documents, changes, compression, and how many follow."""

import asyncio
import gzip
from dataclasses import replace

import pytest

from discovery.model import Cluster, Service, Snapshot
from discovery.sidecar.feed import (
    FOLLOWING_S,
    MOST_DOCUMENTS,
    MOST_GONE,
    Changed,
    Feed,
    Said,
    takes_gzip,
)
from discovery.snapshots import Changes, Told, token_of, told
from tests.made import NOW, FakeClock, service

WEB, API = service("web", 1), service("api", 2)


def holding(*services: Service, sequence: int = 1) -> Snapshot:
    return Snapshot(
        epoch=7,
        sequence=sequence,
        observed_at=NOW,
        clusters=(Cluster("demo", NOW),),
        services={s.key: s for s in services},
        read_at={s.key: NOW for s in services},
    )


@pytest.fixture
def feed() -> Feed:
    """A feed of a publisher called p."""
    return Feed("p", clock=FakeClock(), monotonic=FakeClock())


def said(feed: Feed, snapshot: Snapshot, token: str | None = None) -> Said:
    return asyncio.run(feed.said(snapshot, token, compressed=False))


def read(feed: Feed, snapshot: Snapshot, known: Told | None = None) -> Told:
    """What a follower knows after one more answer."""
    return told(said(feed, snapshot, known.token if known else None).body, known)


def test_who_knows_nothing_is_told_everything(feed: Feed) -> None:
    """And by whom."""
    found = read(feed, holding(WEB, API))
    assert found == Told(holding(WEB, API), "p", 0)


def test_who_knows_an_earlier_index_is_told_what_changed(feed: Feed) -> None:
    """Services that are new, other or gone, over several snapshots that it did not see."""
    known = read(feed, holding(WEB, API))
    other = service("web", 1, 3)
    new = service("new", 4)
    said(feed, holding(other, API, sequence=2))
    after = holding(other, new, sequence=3)
    content = said(feed, after, known.token).body
    assert b'"since"' in content
    assert b'"api"' in content.partition(b'"services"')[0]  # gone
    assert told(content, known) == Told(after, "p", 0)


def test_who_is_up_to_date_is_told_times_only(feed: Feed) -> None:
    """However many services there are."""
    known = read(feed, holding(WEB, API))
    later = replace(holding(WEB, API), read_at=dict.fromkeys([WEB.key, API.key], NOW + 10))
    content = said(feed, later, known.token).body
    assert content.endswith(b'"services":[]}\n')
    assert told(content, known).snapshot == later


@pytest.mark.parametrize(
    "token", [None, "", "p", "p.", "p.x", "p.1", "q.7340033", "p." + "9" * 30, "p.-1", "p.²"]
)
def test_who_knows_something_else_is_told_everything(feed: Feed, token: str | None) -> None:
    """What another publisher said, or nonsense."""
    assert told(said(feed, holding(WEB), token).body).snapshot == holding(WEB)


def test_a_document_is_made_once_for_all_who_ask(feed: Feed) -> None:
    """A thousand followers who are woken together are sent the same octets."""
    snapshot = holding(WEB)

    async def ask() -> list[Said]:
        asking = (feed.said(snapshot, None, compressed=True) for _ in range(50))
        return list(await asyncio.gather(*asking))

    answers = asyncio.run(ask())
    assert len({id(answer) for answer in answers}) == 1
    assert told(gzip.decompress(answers[0].body)).snapshot == snapshot


def test_documents_of_changes_are_bounded(feed: Feed) -> None:
    """Who is behind by something that few others are is told everything."""
    said(feed, holding(WEB))
    latest = holding(WEB, sequence=MOST_DOCUMENTS + 10)

    async def ask() -> list[bytes]:
        tokens = [token_of("p", holding(sequence=n).index) for n in range(1, MOST_DOCUMENTS + 10)]
        return [(await feed.said(latest, token, compressed=False)).body for token in tokens]

    bodies = asyncio.run(ask())
    assert b'"since"' in bodies[0]
    assert told(bodies[-1]).snapshot == latest
    assert len(set(bodies)) <= MOST_DOCUMENTS + 1  # and the whole one


def test_the_name_of_a_document_is_another_where_the_document_is(feed: Feed) -> None:
    """Also where only times differ."""
    first = said(feed, holding(WEB)).etag
    assert first == said(feed, holding(WEB)).etag
    assert first != said(feed, replace(holding(WEB), read_at={WEB.key: NOW + 1})).etag


def test_changes_before_the_first_look_are_not_known() -> None:
    """Nor those of an index that is yet to come."""
    changed = Changed()
    changed.look(holding(WEB, sequence=5))
    changed.look(holding(WEB, API, sequence=6))
    at = holding(sequence=5).index
    assert changed.since(at - 1) is None
    assert changed.since(at + 2) is None
    assert changed.since(at) == Changes(at, frozenset({API.key}))


def test_what_is_gone_is_remembered_up_to_a_bound() -> None:
    """Beyond it everybody starts anew."""
    changed = Changed()
    many = [service(f"s{n}") for n in range(MOST_GONE + 1)]
    changed.look(holding(*many))
    changed.look(holding(sequence=2))
    assert changed.since(holding().index) is None
    assert changed.since(holding(sequence=2).index) is not None


def test_a_service_that_came_back_is_not_gone() -> None:
    """It is among those that changed."""
    changed = Changed()
    for sequence, services in enumerate(((WEB, API), (WEB,), (WEB, API)), start=1):
        changed.look(holding(*services, sequence=sequence))
    at = holding().index
    assert changed.since(at) == Changes(at, frozenset({API.key}), ())


def test_followers_are_counted_by_name_for_as_long_as_they_ask() -> None:
    """However often each asks; who gives no name is none."""
    clock = FakeClock()
    feed = Feed("p", clock=clock, monotonic=clock)
    for name in ("a", "b", "a", None, "", "x" * 1_000):
        feed.met(name)
    assert feed.followers == 2
    clock.now += FOLLOWING_S / 2
    feed.met("a")
    clock.now += FOLLOWING_S / 2
    assert feed.followers == 1
    assert read(feed, holding(WEB)).followers == 1


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("gzip", True),
        ("br, GZip;q=0.5", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, br", False),
    ],
)
def test_compression_is_for_those_who_take_it(accepted: str, taken: bool) -> None:
    """As their `Accept-Encoding` says."""
    assert takes_gzip(accepted) is taken


def test_tokens_tell_publishers_apart() -> None:
    """Two hubs that began in the same second have the same epoch."""
    assert token_of("p", 3) != token_of("q", 3)
