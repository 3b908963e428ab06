"""Holders that are paused, killed and cut off at any moment, against a real store, in made-up time.

Time is one clock for all. The store's own clock is made to agree: whenever time moves, the lease's
rest is shortened, and what was published grows older, by as much.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from discovery.errors import AccessDenied, SourceError, SourceUnreachable
from discovery.model import Observation, Service
from discovery.sources.base import Wanted
from discovery.sources.lease import Terms
from discovery.sources.redis import RedisSource, Sharing
from discovery.sources.store import Store, Where
from tests.made import NOW, FakeClock, endpoint, failed, observed, reading, service
from tests.sources.stores import Server, serving

MEMBERS = 5
DEEPEST = 3  # pauses within pauses
LASTS_S = 15_000.0  # so long that real time does not count
TERMS = Terms(LASTS_S)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real store."""
    with serving(tmp_path_factory.mktemp("redis")) as server:
        yield server


class CutStore(Store):
    """A store that may be out of reach, or lose the reply to what it did."""

    is_cut = False
    loses_reply = False

    def _eval(self, script: str, *arguments: object) -> Any:
        self._refuse()
        reply = super()._eval(script, *arguments)
        if self.loses_reply:
            self.loses_reply, self.is_cut = False, True
            self._refuse()
        return reply

    def listen(self) -> bool:
        self._refuse()
        return super().listen()

    def followers(self) -> int:
        return 0 if self.is_cut else super().followers()

    def _refuse(self) -> None:
        if self.is_cut:
            raise SourceUnreachable("cut off")


class Member:
    """A sidecar, what its ECS says, and what it has shown: versions of the truth only grow."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.is_paused = False
        self.version = 0
        self.stores: list[CutStore] = []
        sharing = Sharing(world.random, ["demo"], 0.0, TERMS, world.clock, world.clock)
        self.source = RedisSource(self._store, sharing, lambda: self)
        self.labels = ("demo",)

    def step(self) -> None:
        """Look once, as its refresher would do."""
        if self.is_paused:
            return
        self.source.renew()
        with suppress(SourceError):
            self._show(self.source.load(None))

    def load(self, wanted: Wanted) -> Observation:
        """What ECS says to it; between that and its publication anything may happen."""
        version, at = self.world.version, self.world.clock.now
        if self.world.random.random() < 0.2:
            self.world.count["pauses"] += 1
            self.is_paused = True
            self.world.go_on(self.world.random.randrange(4))
            self.is_paused = False
        elif self.world.random.random() < 0.2:
            self.world.pass_time(TERMS.renewed_after_s)
            self.source.renew()
        if self.world.random.random() < 0.15:
            errors = [SourceUnreachable("ECS is down"), AccessDenied("ecs:ListTasks")]
            return failed(self.world.random.choice(errors), at=at)
        return observed(reading(_web(version)), at=at)

    def load_pending(self) -> Observation:
        """Nothing."""
        return observed()

    def close(self) -> None:
        """Nothing to give back."""

    def cut(self, is_cut: bool) -> None:
        """Cut it off, or let it reach the store again."""
        self.stores[-1].is_cut = is_cut

    def kill(self) -> None:
        """End it without a word: the lease, if it has it, is not given back."""
        self.cut(True)
        self.source.close()

    def _store(self) -> Store:
        self.stores.append(CutStore(Where("127.0.0.1", self.world.server.port), self.world.name))
        return self.stores[-1]

    def _show(self, observation: Observation) -> None:
        found = {s.name: s for r in observation.clusters for s in r.services}
        assert found, "a service was emptied"
        (shown,) = found["web"].endpoints
        version = int(shown.labels["version"])
        assert version >= self.version, f"member {self.number} went back"
        self.version = version
        self.world.count["shown"] += 1


class World:
    """Some members, the truth, and what goes wrong."""

    def __init__(self, server: Server, seed: int, *, is_forgetful: bool = False) -> None:
        self.server = server
        self.name = f"fence{seed}"
        self.random = Random(seed)
        self.clock = FakeClock(NOW)
        self.version = 1
        self.count: Counter[str] = Counter()
        self.publishers: dict[int, str] = {}
        self.highest = (0, 0)
        self.is_forgetful = is_forgetful
        self.kept: dict[str, bytes] = {}
        self.kept_at = NOW
        self.client = server.client()
        prefix = f"ecs-discovery:1:{{{self.name}}}:"
        self.lease, self.epoch, self.snapshot = (
            prefix + kind for kind in ("lease", "epoch", "snapshot")
        )
        self.depth = 0
        self.members = [Member(self, number) for number in range(MEMBERS)]

    @property
    def faults(self) -> int:
        """How often something went wrong."""
        return sum(self.count[kind] for kind in ("pauses", "kills", "cuts", "losses"))

    def go_on(self, steps: int) -> None:
        """Have anybody do something, or anything happen, so many times."""
        if self.depth == DEEPEST:
            return
        self.depth += 1
        try:
            for _ in range(steps):
                self._one()
        finally:
            self.depth -= 1

    def pass_time(self, seconds: float) -> None:
        """Move all clocks, the store's too."""
        self.clock.now += seconds
        left = self.client.pttl(self.lease) - round(seconds * 1_000)
        if left > 0:
            self.client.pexpire(self.lease, left)
        else:
            self.client.delete(self.lease)
        if self.client.exists(self.snapshot):
            self._grow_older(seconds)

    def close(self) -> None:
        """End everybody, and the server's memory of it."""
        for member in self.members:
            member.kill()
        self.client.delete(self.lease, self.epoch, self.snapshot)
        self.client.close()

    def _one(self) -> None:
        chance = self.random.random()
        member = self.random.choice(self.members)
        if chance < 0.4:
            member.step()
            self._check()
        elif chance < 0.44:
            self.pass_time(3.0)  # so that versions are further apart than clocks may be
            self.version += 1
        elif chance < 0.5:
            self.pass_time(self.random.choice([3.0, 3_000.0, 6_000.0, 20_000.0]))
        elif chance < 0.75:
            self._cut(member)
        elif chance < 0.96 or self.depth > 1:
            self._pause(member)
        elif not member.is_paused:
            self._kill(member)

    def _grow_older(self, seconds: float) -> None:
        self.client.hincrby(self.snapshot, "observed", -round(seconds * 1_000))

    def _cut(self, member: Member) -> None:
        store = member.stores[-1]
        if store.is_cut or self.random.random() < 0.3:
            store.is_cut = store.loses_reply = False
            return
        self.count["cuts"] += 1
        if self.random.random() < 0.5:
            store.loses_reply = True
        else:
            store.is_cut = True

    def _pause(self, member: Member) -> None:
        """A pause between two looks; those within one are in `Member.load`."""
        if member.is_paused:
            return
        self.count["pauses"] += 1
        member.is_paused = True
        self.go_on(self.random.randrange(3))
        member.is_paused = False

    def _kill(self, member: Member) -> None:
        if self.is_forgetful and self.random.random() < 0.5:
            self._lose()
            return
        self.count["kills"] += 1
        member.kill()
        self.members[self.members.index(member)] = Member(self, member.number)

    def _lose(self) -> None:
        """The store is as it was some time ago, as after a failover to a replica that lagged."""
        self.count["losses"] += 1
        keys = (self.lease, self.epoch, self.snapshot)
        now = {key: self.client.dump(key) for key in keys}
        for key in keys:
            self.client.delete(key)
            if (value := self.kept.get(key)) is not None:
                self.client.restore(key, round(LASTS_S * 500) if key == self.lease else 0, value)
        if self.kept.get(self.snapshot) is not None:
            self._grow_older(self.clock.now - self.kept_at)
        self.kept, self.kept_at = (now if self.random.random() < 0.5 else {}), self.clock.now

    def _check(self) -> None:
        epoch, sequence, publisher = self.client.hmget(
            self.snapshot, "epoch", "sequence", "publisher"
        )
        if epoch is None or self.is_forgetful:
            return
        place = int(epoch), int(sequence)
        assert place >= self.highest, "the store went back"
        self.highest = place
        assert self.publishers.setdefault(place[0], publisher.decode()) == publisher.decode()
        self.count["published"] += 1


def _web(version: int) -> Service:
    said = endpoint(labels={"version": str(version)})
    return replace(service("web"), endpoints=(said,))


@pytest.mark.parametrize("seed", range(4))
def test_no_reader_goes_back_and_an_epoch_has_one_publisher(server: Server, seed: int) -> None:
    """2,500 pauses, kills and cuts with each seed, in the middle of reads and of publications."""
    world = World(server, seed)
    try:
        while world.faults < 2_500:
            world.go_on(50)
    finally:
        world.close()
    assert world.count["shown"] > 500
    assert len(world.publishers) > 50


def test_no_reader_goes_back_where_the_store_does(server: Server) -> None:
    """The same with a store that time and again is as it was a while ago."""
    world = World(server, seed=100, is_forgetful=True)
    try:
        while world.faults < 1_000:
            world.go_on(50)
    finally:
        world.close()
    assert world.count["losses"] > 10
    assert world.count["shown"] > 200
