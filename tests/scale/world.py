"""An account in simulated time: its API, what may read it, and when each call was made.

The calls that a source makes are those of the plan, within the budget; only the network is missing.
A source moves its clock while it waits for its share, as the real one waits.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from discovery.catalog.catalog import Catalog
from discovery.catalog.refresher import Refresher, Timing
from discovery.dns import wire
from discovery.dns.answers import Answer, answer
from discovery.dns.zone import Apex, Zone
from discovery.ecs.budget import QUOTAS, buckets
from discovery.ecs.caller import ATTEMPTS
from discovery.ecs.calls import CLUSTER_RESOURCES, Call, Postponed, Steps
from discovery.ecs.calls import Answer as Said
from discovery.ecs.clients import NoConnection
from discovery.ecs.memory import Memory, Scope
from discovery.ecs.plan import follow_up, reading
from discovery.errors import SourceThrottled
from discovery.model import ClusterReading, Observation, Service, Snapshot
from discovery.sources.base import Source, Wanted
from tests.ecs.fixed import SCOPE, FixedAws
from tests.made import FakeClock

APEX = Apex((b"ecs", b"internal"), 5, 2, ("127.0.0.1",))
LONGEST_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Made:
    """One request that went out: when, and in which throttle group."""

    at: float
    group: str


def cluster(tasks: int, mode: str = "bridge", **container_has: Any) -> FixedAws:
    """Services of ten tasks each, twenty tasks an instance."""
    aws = FixedAws()
    hosts = aws.add_hosts(max(1, tasks // 20))
    for number in range(tasks // 10):
        aws.add_service(f"service-{number:04}", 10, hosts, mode, **container_has)
    return aws


class SimulatedEcs:
    """A source over a fixed AWS. `failure`, while there is one, is the answer to every call."""

    labels = ("prod",)

    def __init__(self, aws: FixedAws, clock: FakeClock, scope: Scope = SCOPE) -> None:
        self.failure: Said | None = None
        self._scope = scope
        self.made: list[Made] = []
        self._aws = aws
        self._clock = clock
        self._memory = Memory()
        self._buckets = buckets()
        self._is_cold = True

    def load(self, wanted: Wanted) -> Observation:
        """One read by the plan's calls."""
        now, before = self._clock(), self._scarce()
        self._aws.calls.clear()
        names = None if wanted is None else wanted["prod"]
        found = self._held(reading(self._scope, self._memory, names, now))
        self._is_cold = False
        bucket, made = self._buckets[CLUSTER_RESOURCES], self._scarce() - before
        lot_s = bucket.standing(CLUSTER_RESOURCES, self._clock()).lot_s(made)
        rest_s = bucket.rest_s(self._clock(), made) if self._memory.pending else lot_s
        return self._observed(now, found, rest_s)

    def load_pending(self) -> Observation:
        """Definitions that were left for later."""
        now = self._clock()
        return self._observed(now, self._held(follow_up(self._scope, self._memory, now)), 0.0)

    def close(self) -> None:
        """Nothing to give back."""

    def _observed(self, now: float, found: ClusterReading, rest_s: float) -> Observation:
        return Observation(now, (found,), pending=self._memory.pending > 0, rest_s=rest_s)

    def _scarce(self) -> int:
        return sum(each.group == CLUSTER_RESOURCES for each in self.made)

    def _held(self, steps: Steps[ClusterReading]) -> ClusterReading:
        try:
            batch = next(steps)
            while True:
                began = self._clock.now
                said = [self._answered(call, began) for call in batch]
                batch = steps.send([each for each, _ in said])
                self._clock.now = max(at for _, at in said)
        except StopIteration as end:
            found: ClusterReading = end.value
            return found

    def _answered(self, call: Call, at: float) -> tuple[Said, float]:
        """The answer and when it came; tried again as the real caller does."""
        bucket = self._buckets[call.group]
        bucket.cold = self._is_cold
        said: Said = Postponed("our share is used up for now")
        throttles = failures = 0
        most_throttles, most_failures = ATTEMPTS if call.again else (1, 1)
        while throttles < most_throttles and failures < most_failures:
            wait_s = bucket.take(at, min(call.patience_s, LONGEST_WAIT_S))
            if wait_s is None:
                break
            at += wait_s
            self.made.append(Made(at, call.group))
            said = self.failure or self._aws.answer(call)
            if isinstance(said, SourceThrottled):
                throttles += 1
                bucket.throttled(at, at)
            elif isinstance(said, NoConnection):
                failures += 1
            else:
                break
        return said, at


class Reader:
    """A refresher without its thread, on a clock of its own, and what it publishes."""

    def __init__(
        self,
        source: Source,
        clock: FakeClock,
        *,
        seed: int = 1,
        names: Sequence[str] = (),
        least_epoch: int = 0,
    ) -> None:
        self.clock = clock
        self.catalog = Catalog(source.labels, clock=clock, least_epoch=least_epoch)
        timing = Timing(random.Random(seed), clock=clock, monotonic=clock)
        self.refresher = Refresher(source, self.catalog, timing, whole=not names)
        self._names = tuple(names)
        for name in names:
            self.refresher.ask(("prod", name), self.catalog.snapshot)

    @property
    def snapshot(self) -> Snapshot:
        """What is published."""
        return self.catalog.snapshot

    def step(self) -> None:
        """Move to when something is due, and do it; callers go on asking for what they use."""
        for name in self._names:
            self.refresher.use(("prod", name))
        self.clock.now = self._due + 0.001  # past all rounding
        self.refresher._step()

    def run(self, until: float) -> None:
        """Do all that is due until then."""
        while self._due <= until:
            self.step()
        self.clock.now = max(self.clock.now, until)

    @property
    def _due(self) -> float:
        pause_s = self.refresher._pause_s()
        return inf if pause_s is None else self.clock.now + pause_s

    def asked(self, services: Iterable[Service]) -> list[Answer]:
        """What the DNS server would say of the services' addresses now."""
        zone, now = Zone(self.snapshot, APEX), self.clock.now
        names = [wire.name_of(s.name.encode(), b"prod", *APEX.labels) for s in services]
        return [answer(zone, name, wire.A, now) for name in names]


def most_at_once(made: Sequence[Made], window_s: float) -> int:
    """The most calls in any window of so many seconds."""
    times = sorted(each.at for each in made)
    first = most = 0
    for last, at in enumerate(times):
        while times[first] <= at - window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


def throttled(made: Iterable[Made], bystanders: float = 0.0) -> int:
    """How many of these calls the account would have refused, each group by its own quota.

    A bystander makes so many calls a second in each group beside them.
    """
    levels: dict[str, tuple[float, float]] = {}
    refused = 0
    for each in sorted(made, key=lambda one: one.at):
        quota = QUOTAS[each.group]
        level, since = levels.get(each.group, (quota.burst, each.at))
        rate = quota.rate - bystanders
        level = min(quota.burst, level + (each.at - since) * rate)
        refused += level < 1
        levels[each.group] = (level - (level >= 1), each.at)
    return refused
