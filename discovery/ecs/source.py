"""ECS as a source: clusters, regions and roles, read by the plan's calls within the budget.

Rule 1: one thread loads at a time; each cluster is read on a thread of its own, and who is slow
holds up nobody: what it says is handed in by a later load.
Rule 2: what a thread of the parent may hold is made anew in the child of a fork.
Rule 3: every failure is an error in the reading of its cluster.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from queue import Empty, SimpleQueue

from discovery.ecs.budget import Standing
from discovery.ecs.caller import Caller
from discovery.ecs.calls import CLUSTER_RESOURCES, Answer, Batch, Steps
from discovery.ecs.clients import Access, Clients
from discovery.ecs.conversation import Conversation, Outcome
from discovery.ecs.memory import DENIED_FOR_S, Memory, Scope
from discovery.ecs.plan import follow_up, reading
from discovery.errors import BadSetting, SourceUnreachable
from discovery.events import Listeners, Noticed
from discovery.model import ClusterReading, Observation
from discovery.settings import ClusterSettings, Settings
from discovery.sources.base import Wanted

PROMPT_S = 3.0  # how long one cluster that has been read waits for the others
DEADLINE_S = 120.0  # how long a load waits at all, and an old reading stands for one under way
ROLLING_S = 5.0  # the pace while a deployment runs


@dataclass(slots=True)
class _Cluster:
    """One cluster as it is read: with what access, what is remembered, and what is under way."""

    scope: Scope
    access: Access
    memory: Memory
    under_way: Conversation | None = None
    last: Outcome | None = None

    @property
    def is_slow(self) -> bool:
        """Whether its last read was none to wait for."""
        return self.last is not None and self.last.seconds > PROMPT_S

    def word(self, names: frozenset[str] | None) -> ClusterReading | None:
        """What a load that asked for these names can say of it; `None` where that was said.

        While a read takes long, what the one before it said still holds, but not for ever.
        """
        is_same = self.last is not None and self.last.names == names
        if self.under_way is None:
            return None if is_same else self._busy("was being read when more was asked")
        age_s = self.under_way.age_s
        if self.last and is_same and self.last.reading.error is None and age_s < DEADLINE_S:
            return replace(self.last.reading, complete=False)
        return self._busy(f"is still being read after {age_s:.0f} s")

    def _busy(self, why: str) -> ClusterReading:
        error = SourceUnreachable(f"cluster {self.scope.label} {why}")
        return ClusterReading(self.scope.label, error=error)


class EcsSource:
    """Reads what runs from the ECS API. Loads by one thread at a time; `close` from any.

    `environment` stands in for the process's own; `clock` gives seconds since the epoch, for what
    is observed; `monotonic` seconds that only go on, for the budget.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        listeners: Listeners | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        if not settings.clusters:
            raise BadSetting("clusters", (), "at least one cluster, such as prod or eu-west-1/prod")
        self._settings = settings
        self._listeners = listeners or Listeners()
        self._clock, self._monotonic = clock, monotonic
        self._environment = environment
        self._said: dict[str, float] = {}
        self._renew(is_closed=False)
        _alive.add(self)

    def __repr__(self) -> str:
        state = "closed" if self._closed.is_set() else ", ".join(self.labels)
        return f"<EcsSource [{state}]>"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the configured clusters, the default first."""
        return tuple(cluster.label for cluster in self._settings.clusters)

    @property
    def budgets(self) -> dict[str, tuple[Standing, ...]]:
        """How our share of each throttle group stands, by cluster; may be asked from any thread."""
        return {c.scope.label: self._caller.standings(c.access) for c in self._clusters}

    def load(self, wanted: Wanted) -> Observation:
        """Read what is wanted of each cluster; a cluster that is not in `wanted` is left alone.

        Returns when all are read, or when those are that can be in time.
        """
        now = self._clock()
        asked = [
            (each, None if wanted is None else wanted[each.scope.label])
            for each in self._clusters
            if wanted is None or wanted.get(each.scope.label)
        ]
        ended = self._ended()
        for cluster, names in asked:
            self._begin(cluster, names, reading(cluster.scope, cluster.memory, names, now))
        clusters = [cluster for cluster, _ in asked]
        ended += self._waited_for(clusters)
        self._sweep_ends(clusters)
        words = [word for c, names in asked if (word := c.word(names)) is not None]
        return self._observation(now, (*ended, *words), self._rest_s())

    def load_pending(self) -> Observation:
        """Read the definitions that the last load left for later, and nothing else."""
        now = self._clock()
        ended = self._ended()
        asked = [c for c in self._clusters if c.last and c.last.pending and not c.under_way]
        for cluster in asked:
            names = cluster.last.names if cluster.last else None
            self._begin(cluster, names, follow_up(cluster.scope, cluster.memory, now))
        ended += self._waited_for(asked)
        # The rest after the last sweep goes on counting from its end.
        return self._observation(now, tuple(ended), self._longest_rest_s)

    def close(self) -> None:
        """Close connections; a load under way ends soon."""
        self._closed.set()
        self._ends.put(None)
        self._clients.close()

    def renew_after_fork(self) -> None:
        """In the child of a fork: threads, connections, and locks are the parent's."""
        self._renew(is_closed=self._closed.is_set())

    def _renew(self, is_closed: bool) -> None:
        self._closed = threading.Event()
        if is_closed:
            self._closed.set()
        self._ends: SimpleQueue[_Cluster | None] = SimpleQueue()
        self._clients = Clients(self._environment)
        self._caller = Caller(
            self._clients, self._settings.share, self._listeners, self._monotonic, self._closed
        )
        self._rested_at = float("-inf")
        self._longest_rest_s = 0.0
        self._clusters = [self._cluster(each) for each in self._settings.clusters]

    def _cluster(self, each: ClusterSettings) -> _Cluster:
        settings = self._settings
        scope = Scope(
            each.arn or each.name,
            each.label,
            settings.ip_family,
            settings.public_addresses,
            settings.target_health,
        )
        return _Cluster(
            scope,
            Access(each.region, each.role_arn, each.external_id),
            Memory(),
        )

    def _begin(
        self, cluster: _Cluster, names: frozenset[str] | None, steps: Steps[ClusterReading]
    ) -> None:
        """Have a cluster read, unless it is being read."""
        if cluster.under_way is not None:
            return

        def answers(batch: Batch) -> list[Answer]:
            return self._caller.answers(cluster.access, batch, is_cold=cluster.last is None)

        cluster.under_way = Conversation(
            cluster.scope.label, names, cluster.memory, steps, answers, self._monotonic
        )
        cluster.under_way.start(partial(self._ends.put, cluster))

    def _waited_for(self, asked: list[_Cluster]) -> list[ClusterReading]:
        """What those say that end in time. Who was slow the last time is not waited for."""
        readings: list[ClusterReading] = []
        prompt = [cluster for cluster in asked if not cluster.is_slow] or asked
        began = self._monotonic()
        while any(cluster.under_way for cluster in prompt) and not self._closed.is_set():
            limit_s = DEADLINE_S if all(cluster.under_way for cluster in asked) else PROMPT_S
            left_s = began + limit_s - self._monotonic()
            try:
                cluster = self._ends.get(timeout=max(0.0, left_s))
            except Empty:
                break
            readings += self._ended_of(cluster)
        return readings

    def _ended(self) -> list[ClusterReading]:
        """What those said that have ended since the last load."""
        readings: list[ClusterReading] = []
        while True:
            try:
                readings += self._ended_of(self._ends.get_nowait())
            except Empty:
                return readings

    def _ended_of(self, cluster: _Cluster | None) -> list[ClusterReading]:
        if cluster is None or cluster.under_way is None:
            return []
        cluster.under_way.join()
        cluster.last, cluster.under_way = cluster.under_way.outcome, None
        if cluster.last is None:
            return []
        for message, at in cluster.last.notices.items():
            if at - self._said.get(message, -inf) >= DENIED_FOR_S:
                self._said[message] = at
                self._listeners.emit(Noticed(message))
        return [cluster.last.reading]

    def _observation(
        self, now: float, readings: tuple[ClusterReading, ...], rest_s: float
    ) -> Observation:
        lasts = [cluster.last for cluster in self._clusters if cluster.last is not None]
        rolling = any(last.is_rolling for last in lasts)
        return Observation(
            observed_at=now,
            clusters=readings,
            pending=any(last.pending for last in lasts),
            rest_s=rest_s,
            again_s=min(ROLLING_S, self._settings.interval_s) if rolling else None,
        )

    def _rest_s(self) -> float:
        """What is left of the rest; a clock that was set back does not make it longer."""
        return min(self._longest_rest_s, max(0.0, self._rested_at - self._clock()))

    def _sweep_ends(self, asked: Iterable[_Cluster]) -> None:
        """Note until when to rest so that a sweep of as many calls fits our share."""
        made = [(c.access, c.last.scarce_calls) for c in asked if c.last is not None]
        # A load of a few new names does not shorten the rest after the sweep before it.
        self._longest_rest_s = max(self._rest_s(), self._caller.rest_s(CLUSTER_RESOURCES, made))
        self._rested_at = self._clock() + self._longest_rest_s


_alive: "weakref.WeakSet[EcsSource]" = weakref.WeakSet()


def _renew_all() -> None:
    for source in list(_alive):
        source.renew_after_fork()


os.register_at_fork(after_in_child=_renew_all)
