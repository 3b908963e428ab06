"""Versions that meet: hubs and who follows them, sidecars that share a store, files of before."""

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from discovery.errors import SourceMalformed, SourceUnreachable
from discovery.events import Listeners
from discovery.model import Observation
from discovery.sidecar.feed import Feed
from discovery.snapshots import FORMAT, FORMATS, told
from discovery.sources.base import FixedSource
from discovery.sources.disk import Disk
from discovery.sources.fallback import Fallback
from discovery.sources.publication import packed
from discovery.sources.scripts import LAYOUT
from discovery.sources.store import Store
from tests.made import NOW, FakeClock, failed, observed, reading, service
from tests.sources import examples
from tests.sources.hubs import TIMEOUT_S, Hub, asking_first, following, until
from tests.sources.stores import Fleet, Server, serving
from tests.sources.test_redis import loaded
from tests.sources.versions import FeedBefore, FeedOf, LaterStore, filed, later, least, more

WEB, API, OTHER = service("web", 1, 2), service("api", 3), service("web", 7)
HOSTS = {"web": ["10.0.0.1", "10.0.0.2"], "api": ["10.0.0.3"]}
FEEDS: dict[str, Callable[..., Feed]] = {
    "before": FeedBefore,
    "this": Feed,
    "after": partial(FeedOf, more),
}
hubs_of_all_versions = pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS)
each_format = pytest.mark.parametrize("number", FORMATS)


def endpoints(observation: Observation) -> dict[str, list[str]]:
    return {s.name: [e.host for e in s.endpoints] for r in observation.clusters for s in r.services}


# Documents


@each_format
def test_a_document_of_each_format_is_read_as_it_was_meant(number: int) -> None:
    """The present one and the one before it, whole and as changes, from their own octets."""
    whole = told(examples.path("snapshot", number).read_bytes())
    assert whole.snapshot == examples.SNAPSHOT
    assert (whole.publisher, whole.followers) == (examples.PUBLISHER, examples.FOLLOWERS)
    assert told(examples.path("changes", number).read_bytes(), whole).snapshot == examples.AFTER


def has(after: Any, before: Any) -> bool:
    """Whether all that was said before is still said, in the same words."""
    if isinstance(before, dict):
        return isinstance(after, dict) and all(
            key in after and has(after[key], value) for key, value in before.items()
        )
    if isinstance(before, list):
        return len(after) == len(before) and all(map(has, after, before))
    return bool(after == before and type(after) is type(before))


@pytest.mark.parametrize("kind", ["snapshot", "changes"])
def test_what_is_written_has_all_that_readers_of_this_format_know(kind: str) -> None:
    """Who changes or leaves out a member needs a new format, and examples of it."""
    before = json.loads(examples.path(kind).read_bytes())
    assert has(json.loads(examples.documents()[kind]), before)


@pytest.mark.parametrize("kind", ["snapshot", "changes"])
def test_members_that_nobody_knows_are_passed_over(kind: str) -> None:
    """Wherever a later version has more to say."""
    content = examples.path(kind).read_bytes()
    known = told(examples.path("snapshot").read_bytes())
    assert told(json.dumps(more(json.loads(content))).encode(), known) == told(content, known)


@pytest.mark.parametrize("content", [b'{"format": %d}', b'{"format":%d,"services":{"web":[]}}'])
def test_a_format_that_is_not_read_is_said_by_its_number(content: bytes) -> None:
    """Whatever shape it has; that alone tells what to do."""
    with pytest.raises(SourceMalformed, match=f"format {FORMAT + 1} is not one that this version"):
        told(content % (FORMAT + 1))


# Hubs


@hubs_of_all_versions
def test_hubs_of_all_versions_are_followed(feed: Callable[..., Feed]) -> None:
    """What is new, other and gone, as it is waited for."""
    with Hub(WEB, feed=feed) as hub:
        source = following(hub.url, interval_s=60)
        found = [source.load(None)]
        for services in ((WEB, API), (OTHER, API), (OTHER,)):
            waiting = threading.Thread(target=lambda: found.append(source.load(None)))
            waiting.start()
            until(lambda: hub.waits.waiting, "a blocking query")
            hub.say(*services)
            waiting.join(TIMEOUT_S)
        source.close()
    web, api, other = ({s.name: [e.host for e in s.endpoints]} for s in (WEB, API, OTHER))
    assert list(map(endpoints, found)) == [web, web | api, other | api, other]
    assert found[-1].clusters[0].services[0].default_port == OTHER.default_port


@hubs_of_all_versions
def test_a_hub_is_followed_through_an_update(feed: Callable[..., Feed]) -> None:
    """On the same address, from each version to this one and back."""
    clock = FakeClock()
    with Hub(WEB, feed=feed) as hub:
        port = hub.port
        source = following(hub.url, clock=clock)
        assert set(endpoints(source.load(None))) == {"web"}
    clock.now += 10
    with Hub(WEB, API, port=port, now=clock.now):
        assert set(endpoints(source.load(None))) == {"web", "api"}
    clock.now += 10
    with Hub(OTHER, port=port, now=clock.now, feed=feed):
        assert endpoints(source.load(None)) == {"web": ["10.0.0.7"]}
    source.close()


@hubs_of_all_versions
def test_hubs_of_two_versions_stand_in_for_each_other(feed: Callable[..., Feed]) -> None:
    """Whichever is there is followed, and nothing that one has told is lost with the other."""
    clock = FakeClock()
    with Hub(WEB, API) as this, Hub(WEB, API, feed=feed) as other:
        source = following(this.url, other.url, clock=clock, seed=asking_first(0))
        assert endpoints(source.load(None)) == HOSTS
        this.close()
        other.clock.now = clock.now = NOW + 10
        assert endpoints(source.load(None)) == HOSTS
        other.say(OTHER, API)
        assert endpoints(source.load(None)) == HOSTS | {"web": ["10.0.0.7"]}
        with Hub(OTHER, port=this.port, now=NOW + 10):
            other.close()
            assert endpoints(source.load(None)) == {"web": ["10.0.0.7"]}
        source.close()


def test_a_hub_of_a_format_to_come_is_passed_by() -> None:
    """For one that can be understood; alone it is an error that says why, and no empty set."""
    to_come = partial(FeedOf, later)
    with Hub(WEB, feed=to_come) as hub, Hub(WEB) as understood:
        both = following(hub.url, understood.url, seed=asking_first(0))
        assert endpoints(both.load(None)) == {"web": ["10.0.0.1", "10.0.0.2"]}
        both.close()
        alone = following(hub.url)
        with pytest.raises(SourceMalformed, match=f"hub {hub.url}: format {FORMAT + 1} is not one"):
            alone.load(None)
        alone.close()


def test_while_only_a_format_to_come_is_spoken_ecs_is_read_directly() -> None:
    """Where there is a fallback, within its pace."""
    ecs = FixedSource(observed(reading(OTHER)), labels=("demo",))
    with Hub(WEB, feed=partial(FeedOf, later)) as hub:
        monotonic = FakeClock(0.0)
        source = Fallback(following(hub.url), lambda: ecs, chance=Random(1), monotonic=monotonic)
        with pytest.raises(SourceMalformed):
            source.load(None)
        monotonic.now = source.fleet.pause_s(10.0)
        assert endpoints(source.load(None)) == {"web": ["10.0.0.7"]}
        source.close()


@pytest.mark.parametrize(
    "query",
    ["", "?index=1&wait=0s", "?index=1&wait=0s&known=x.1", "?a_later_word=1&known=x.2&format=2"],
)
def test_followers_of_other_versions_are_told_all_that_they_understand(query: str) -> None:
    """Of the one before, which knows nothing of changes, and of those to come, which say more."""
    with Hub(WEB) as hub:
        request = urllib.request.Request(f"{hub.url}/v1/snapshot{query}", headers={"X-Later": "1"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            said = answer.read()
            assert float(answer.headers["X-Discovery-Age"]) == 0
    assert told(json.dumps(least(json.loads(said))).encode()).snapshot.services == {WEB.key: WEB}


# Stores


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real Redis."""
    with serving(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def fleet(server: Server) -> Iterator[Fleet]:
    """Sidecars of a cluster that share it."""
    fleet = Fleet(server, WEB, API)
    yield fleet
    fleet.close()


def test_sidecars_of_two_versions_share_a_store_while_they_are_updated(fleet: Fleet) -> None:
    """One after the other reads for all, and all know what it read."""
    follower = fleet.member()
    for host, store in enumerate((Store, LaterStore, Store, LaterStore), start=1):
        holder = fleet.member(store=store)
        fleet.runs(service("web", host), API)
        holder.load(None)
        assert holder.is_holder
        for number in (host, host + 10):
            fleet.runs(service("web", number), API)
            wanted = {"web": [f"10.0.0.{number}"], "api": ["10.0.0.3"]}
            assert endpoints(holder.load(None)) == wanted
            for member in (follower, fleet.member()):
                until(lambda member=member, wanted=wanted: endpoints(loaded(member)) == wanted)  # type: ignore[misc]  # each has its own
        holder.close()


@each_format
def test_what_a_store_has_in_each_format_is_read_and_gone_on_from(
    fleet: Fleet, number: int
) -> None:
    """As it was when that format was new."""
    epoch = examples.AFTER.epoch
    fleet.client.set(fleet.key("epoch"), epoch)
    fleet.client.set(fleet.key("lease"), f"{epoch} another")
    fleet.client.hset(fleet.key("snapshot"), mapping=examples.published(number))
    ecs = FixedSource(failed(SourceUnreachable("no answer")), labels=("prod",))
    follower = fleet.member(labels=("prod",), direct=ecs)
    wanted = {"web": ["10.0.0.9"]}
    assert endpoints(follower.load(None)) == wanted
    assert follower.followers == examples.FOLLOWERS
    fleet.client.delete(fleet.key("lease"))
    assert endpoints(follower.load(None)) == wanted
    assert follower.is_holder
    assert endpoints(fleet.member(labels=("prod",)).load(None)) == wanted


def test_a_store_has_other_keys_for_another_format() -> None:
    """So that in an update each version reads what it can, under a lease of its own."""
    assert LAYOUT >= FORMAT


def test_a_format_to_come_in_a_store_is_refused(fleet: Fleet) -> None:
    """With the reason; what is known stays in force."""
    holder, follower = fleet.member(), fleet.member()
    holder.load(None)
    content = packed([json.dumps(later({})).encode()])
    fleet.client.hset(fleet.key("snapshot"), "content", content)
    with pytest.raises(SourceMalformed, match=f"format {FORMAT + 1}"):
        follower.load(None)


# Files


def cache(
    folder: Path, number: int, say: Callable[[Any], Any] | None = None
) -> tuple[Disk, list[str]]:
    """A cache of that format, maybe as another version writes it, and what is said of it."""
    for kind in ("cache", "cache.times"):
        content = examples.path(kind, number).read_bytes()
        (folder / kind).touch(mode=0o600)
        (folder / kind).write_bytes(filed(say, content) if say else content)
    said: list[str] = []
    hear = Listeners(lambda event: said.append(str(event)))
    clock = FakeClock(examples.AT + 20)
    return Disk(folder / "cache", examples.IDENTITY, listeners=hear, clock=clock), said


@each_format
@pytest.mark.parametrize("say", [None, more], ids=["this", "more"])
def test_a_cache_of_each_format_is_read(
    tmp_path: Path, number: int, say: Callable[[Any], Any] | None
) -> None:
    """After an update, and after going back from one."""
    disk, said = cache(tmp_path, number, say)
    assert disk.read() == replace(
        examples.SNAPSHOT,
        read_at={**examples.SNAPSHOT.read_at, examples.WEB.key: examples.AT + 10},
    )
    assert said == []


def test_a_cache_of_a_format_to_come_is_left_alone(tmp_path: Path) -> None:
    """A start without it is a start; the reason is said."""
    disk, said = cache(tmp_path, FORMAT, later)
    assert disk.read() is None
    assert f"format {FORMAT + 1} is not one" in said[0]
