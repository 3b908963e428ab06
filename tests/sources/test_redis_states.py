"""Several clusters in one real store, which loses what it has; clocks that step; anything at once.

Two groups of sidecars share the store, one of two clusters and one of a third; each group has a
lease of its own. Time is made up, as in `test_redis_fencing`; real is the store.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from discovery.catalog.catalog import Catalog
from discovery.errors import AccessDenied, SourceError, SourceUnreachable
from discovery.model import ClusterReading, Observation, Service
from discovery.sources.base import Wanted
from discovery.sources.lease import LONGEST_REST_S, Terms
from discovery.sources.redis import RedisSource, Sharing
from discovery.sources.scripts import keys
from discovery.sources.store import Store, Where
from tests.made import NOW, FakeClock, endpoint, reading, service
from tests.sources.stores import Server, serving
from tests.sources.test_redis_fencing import CutStore

GROUPS = (("demo", "prod"), ("dev",))
MEMBERS = 2  # of each group
LASTS_S = 15_000.0  # so long that real time does not count
APART_S = 3.0  # between two versions: more than clocks may differ by
KINDS = ("lease", "epoch", "snapshot")
ERRORS = {"down": SourceUnreachable("ECS is down"), "denied": AccessDenied("ecs:ListTasks")}
fates = st.dictionaries(
    st.sampled_from([label for labels in GROUPS for label in labels]), st.sampled_from(list(ERRORS))
)
members = st.integers(0, len(GROUPS) * MEMBERS - 1)
labels = st.sampled_from([label for each in GROUPS for label in each])
spans = st.sampled_from([3.0, 3_000.0, 6_000.0, 20_000.0])
steps = st.sampled_from([-3_600.0, -60.0, -2.0, 2.0, 60.0, 3_600.0])
meanwhile = st.lists(st.tuples(st.sampled_from(["look", "change", "wait"]), members), max_size=3)


class Member:
    """A sidecar: what its ECS says to it, what it shows, and that it never shows less."""

    def __init__(self, world: "Shared", group: tuple[str, ...], number: int) -> None:
        self._world = world
        self.labels = self.group = group
        self.step_s = 0.0  # of its own clock
        self.is_busy = False
        self.fates: dict[str, str] = {}
        self.meanwhile: list[tuple[str, int]] = []
        self.stores: list[CutStore] = []
        self._seen: dict[str, int] = {}
        self._index = 0
        self._publishers: dict[int, str] = {}
        sharing = Sharing(
            Random(number), group, 0.0, Terms(LASTS_S), self._clock, self._world.monotonic
        )
        self.source = RedisSource(self._store, sharing, lambda: self)
        self.catalog = Catalog(group, clock=self._clock)

    def look(self) -> None:
        """Do as its refresher does."""
        if self.is_busy:
            return
        self.source.renew()
        with suppress(SourceError):
            self.catalog.publish(self.source.load(None))
            self._check()

    def load(self, wanted: Wanted) -> Observation:
        """What ECS says of each cluster, as of when the read began."""
        at, versions = self._clock(), dict(self._world.versions)
        self.is_busy = True
        for what, number in self.meanwhile:
            self._world.act(what, number)
        self.is_busy = False
        readings = (
            ClusterReading(label, error=ERRORS[self.fates[label]])
            if label in self.fates
            else reading(_web(label, versions[label]), label=label)
            for label in self.group
        )
        return Observation(at, tuple(readings))

    def load_pending(self) -> Observation:
        """Nothing."""
        return Observation(self._clock())

    def close(self) -> None:
        """Nothing to give back."""

    def shows(self) -> dict[str, int]:
        """The version of each cluster that callers are given."""
        found = self.catalog.snapshot.services.values()
        return {s.cluster: int(e.labels["version"]) for s in found for e in s.endpoints}

    def _check(self) -> None:
        shown, index = self.shows(), self.catalog.snapshot.index
        assert index >= self._index, "the index went back"
        for label, version in self._seen.items():
            assert shown.get(label, -1) >= version, f"{label} went back, or was emptied"
        known = self.source._known
        if known is not None:
            publisher = self._publishers.setdefault(known.snapshot.epoch, known.publisher)
            assert publisher == known.publisher, "two publishers of one epoch were believed"
        self._seen, self._index = shown, index

    def _clock(self) -> float:
        return self._world.monotonic() + self.step_s

    def _store(self) -> Store:
        at = Where("127.0.0.1", self._world.server.port)
        self.stores.append(CutStore(at, ",".join(self.group)))
        return self.stores[-1]


class Shared(RuleBasedStateMachine):
    """The truth, the store, and whoever shares it."""

    server: ClassVar[Server]

    def __init__(self) -> None:
        super().__init__()
        self.monotonic = FakeClock(NOW)
        self.versions = {label: 1 for group in GROUPS for label in group}
        self.client = self.server.client()
        self.client.flushall()
        self.publishers: dict[tuple[str, int], str] = {}
        self.has_lost = False
        self.restarts = 0
        self.replica: dict[str, bytes] = {}
        self.replicated_at = NOW
        self.members = [
            Member(self, group, number) for group in GROUPS for number in range(MEMBERS)
        ]

    # What ought to happen

    @rule(numbers=st.lists(members, min_size=1, max_size=8), fates=fates, meanwhile=meanwhile)
    def look(
        self, numbers: list[int], fates: dict[str, str], meanwhile: list[tuple[str, int]]
    ) -> None:
        """Some look; whoever reads for all may be paused by that, and the others go on."""
        for number in numbers:
            member = self.members[number]
            member.fates, member.meanwhile = fates, meanwhile
            member.look()
            member.fates, member.meanwhile = {}, []

    @rule(label=labels)
    def change(self, label: str) -> None:
        """Something else runs in a cluster; a replica of the store lags behind by as much."""
        self._replicate()
        self._pass(APART_S)
        self.versions[label] += 1

    @rule(seconds=spans)
    def wait(self, seconds: float) -> None:
        """Time passes, for everybody."""
        self._pass(seconds)

    # What ought not

    @rule(number=members, loses_reply=st.booleans())
    def cut(self, number: int, loses_reply: bool) -> None:
        """Somebody cannot reach the store, or will not hear what became of his next request."""
        store = self.members[number].stores[-1]
        store.is_cut, store.loses_reply = not loses_reply, loses_reply

    @rule(number=members)
    def heal(self, number: int) -> None:
        """He can reach it again."""
        store = self.members[number].stores[-1]
        store.is_cut = store.loses_reply = False

    @rule(number=members)
    def kill(self, number: int) -> None:
        """Somebody ends without a word, and is started again."""
        before = self.members[number]
        self._end(before)
        self.members[number] = Member(self, before.group, number)

    @rule(number=members, by_s=steps)
    def step(self, number: int, by_s: float) -> None:
        """Somebody's clock is set."""
        self.members[number].step_s += by_s

    @rule(group=st.sampled_from(GROUPS), kind=st.sampled_from(KINDS))
    def evict(self, group: tuple[str, ...], kind: str) -> None:
        """The store is full, and forgets a key."""
        self.has_lost = self.has_lost or kind != "lease"
        self.client.delete(_key(group, kind))

    @rule()
    def flush(self) -> None:
        """Somebody empties the store, which goes on."""
        self.has_lost = True
        self.client.flushall()

    @precondition(lambda self: not self.restarts)
    @rule()
    def fail_over_to_nothing(self) -> None:
        """The store is another one by now, with another run id and nothing in it."""
        self.has_lost = True
        self.restarts += 1
        self.client.close()
        self.server.stop()
        self.server.start()
        self.client = self.server.client()

    @rule()
    def fail_over(self) -> None:
        """The replica takes over, as it was when it last heard of anything."""
        self.has_lost = True
        self.client.flushall()
        passed_s = self.monotonic.now - self.replicated_at
        for key, value in self.replica.items():
            rest_ms = round((LASTS_S / 2 - passed_s) * 1_000) if key.endswith("lease") else 0
            if rest_ms >= 0:
                self.client.restore(key, rest_ms, value)
        self._grow_older(passed_s)

    @rule(by_s=steps)
    def step_of_the_store(self, by_s: float) -> None:
        """The store's clock is set: leases end sooner or later, what it has is older or newer."""
        self._grow_older(by_s)
        for group in GROUPS:
            self._shorten(_key(group, "lease"), by_s)

    @invariant()
    def an_epoch_has_one_publisher(self) -> None:
        """Of those that the store took, for as long as it forgot nothing."""
        for group in GROUPS:
            epoch, publisher = self.client.hmget(_key(group, "snapshot"), "epoch", "publisher")
            if epoch is not None and not self.has_lost:
                known = self.publishers.setdefault((group[0], int(epoch)), publisher)
                assert known == publisher

    def teardown(self) -> None:
        """When all is well again everybody ends in the truth."""
        try:
            for member in self.members:
                store = member.stores[-1]
                store.is_cut = store.loses_reply = False
            self._pass(LASTS_S + LONGEST_REST_S)
            for group in GROUPS:  # where the store's clock was set back it lasts for longer
                self.client.delete(_key(group, "lease"))
            for _ in range(4):  # the lease is taken, lost things are fenced, it is taken anew
                for member in self.members:
                    self._pass(APART_S)
                    member.look()
            for member in self.members:
                assert member.shows() == {label: self.versions[label] for label in member.group}
        finally:
            for member in self.members:
                self._end(member)
            self.client.close()

    def act(self, what: str, number: int) -> None:
        """Do one thing while somebody reads."""
        member = self.members[number]
        if what == "look":
            member.look()
        elif what == "change":
            self.change(member.group[0])
        else:
            self._pass(LASTS_S if number % 2 else LASTS_S / 3)

    def _replicate(self) -> None:
        found = [_key(group, kind) for group in GROUPS for kind in KINDS]
        self.replica = {key: value for key in found if (value := self.client.dump(key))}
        self.replicated_at = self.monotonic.now

    def _end(self, member: Member) -> None:
        member.stores[-1].is_cut = True
        member.source.close()

    def _pass(self, seconds: float) -> None:
        self.monotonic.now += seconds
        self._grow_older(seconds)
        for group in GROUPS:
            self._shorten(_key(group, "lease"), seconds)

    def _shorten(self, lease: str, by_s: float) -> None:
        left_ms = self.client.pttl(lease)
        if left_ms > 0:
            self.client.pexpire(lease, max(0, left_ms - round(by_s * 1_000)))

    def _grow_older(self, by_s: float) -> None:
        for group in GROUPS:
            if self.client.exists(_key(group, "snapshot")):
                self.client.hincrby(_key(group, "snapshot"), "observed", -round(by_s * 1_000))


def _key(group: tuple[str, ...], kind: str) -> str:
    return keys(",".join(group))[KINDS.index(kind)]


def _web(cluster: str, version: int) -> Service:
    said = endpoint(cluster=cluster, labels={"version": str(version)})
    return replace(service("web", cluster=cluster), endpoints=(said,))


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A real store."""
    with serving(tmp_path_factory.mktemp("redis")) as Shared.server:
        yield


TestShared: Any = Shared.TestCase
TestShared.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
