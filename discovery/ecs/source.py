"""ECS as a source: clusters, regions and roles, read by the plan's calls within the budget.

Rule 1: one thread loads at a time; each cluster is read on a thread of its own, and who is slow
holds up nobody: what it says is handed in by a later load.
Rule 2: what a thread of the parent may hold is made anew in the child of a fork.
Rule 3: every failure is an error in the reading of its cluster.
Rule 4: what events tell is taken in while a read waits for answers; of what is handed in, the later
outcome stands.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from math import inf
from queue import Empty, SimpleQueue

from discovery.ecs import pace
from discovery.ecs.budget import Standing
from discovery.ecs.caller import Caller
from discovery.ecs.calls import CLUSTER_RESOURCES, DEFINITIONS, Answer, Batch, Steps
from discovery.ecs.changes import Changes
from discovery.ecs.clients import Access, Clients
from discovery.ecs.clusters import DEADLINE_S, PROMPT_S, ReadCluster
from discovery.ecs.conversation import Conversation
from discovery.ecs.eventbridge import Told
from discovery.ecs.heard import Heard
from discovery.ecs.kept import beside
from discovery.ecs.memory import DENIED_FOR_S, Memory, Scope
from discovery.ecs.pace import Rest
from discovery.ecs.plan import follow_up, reading, update
from discovery.ecs.queues import queue_of
from discovery.errors import BadSetting
from discovery.events import Listeners, Noticed
from discovery.model import ClusterReading, Observation
from discovery.settings import Settings
from discovery.sources.base import Wanted
from discovery.written import ClusterSettings

NEWS_PATIENCE_S = 0.5  # how long a load goes on waiting while there is news to take in


class EcsSource:
    """Reads what runs from the ECS API. Loads by one thread at a time; `close` from any.

    `environment` stands in for the process's own; `clock` gives seconds since the epoch, for what
    is observed; `monotonic` seconds that only go on, for the budget. With `names_later` names of
    ports are read by `load_pending` alone, where all there is is wanted. `news` may be set: it is
    called, by any thread, when `load_pending` has changes to say that events told of.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        listeners: Listeners | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] = os.environ,
        names_later: bool = False,
    ) -> None:
        if not settings.clusters:
            raise BadSetting("clusters", (), "at least one cluster, such as prod or eu-west-1/prod")
        self._settings = settings
        self._names_later = names_later
        self._listeners = listeners or Listeners()
        self._clock, self._monotonic = clock, monotonic
        self._environment = environment
        self._said: dict[str, float] = {}
        self._kept = beside(settings.cache, environment, self._listeners, monotonic)
        self.news: Callable[[], None] = lambda: None
        self._changes: Changes | None = None
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
        self._recall()
        if self._changes is not None:
            self._changes.start()
        asked = [
            (each, None if wanted is None else wanted[each.scope.label])
            for each in self._clusters
            if wanted is None or wanted.get(each.scope.label)
        ]
        ended = self._ended()
        is_quiet = pace.is_quiet([cluster.last for cluster in self._clusters], self._is_hearing())
        for cluster, names in asked:
            steps = reading(cluster.scope, cluster.memory, names, now, is_quiet)
            self._begin(cluster, names, steps)
        clusters = [cluster for cluster, _ in asked]
        may_go_on = all(cluster.stands(names) for cluster, names in asked)
        ended += self._waited_for([(c, c.under_way) for c in clusters if c.under_way], may_go_on)
        self._sweep_ends(clusters)
        self._keep_definitions()
        words = [word for c, names in asked if (word := c.word(names)) is not None]
        return self._observation(now, (*ended, *words), self._rest.left_s)

    def load_pending(self) -> Observation:
        """Take in what events told, read definitions that were left for later, and nothing else."""
        now = self._clock()
        ended = self._ended()
        begun: list[_End] = []
        for cluster in self._clusters:
            self._begin_update(cluster, now)
            if cluster.update is not None:
                begun.append((cluster, cluster.update))
            elif cluster.last and cluster.last.pending and not cluster.under_way:
                steps = follow_up(cluster.scope, cluster.memory, now)
                self._begin(cluster, cluster.last.names, steps)
                begun += [(cluster, cluster.under_way)] if cluster.under_way else []
        ended += self._waited_for(begun, may_go_on=True)
        self._keep_definitions()
        # The rest after the last sweep goes on counting from its end.
        return self._observation(now, tuple(ended), self._rest.longest_s)

    def close(self) -> None:
        """Close connections; a load under way ends soon."""
        self._closed.set()
        self._ends.put(None)
        if self._changes is not None:
            self._changes.close()
        self._clients.close()

    def renew_after_fork(self) -> None:
        """In the child of a fork: threads, connections, and locks are the parent's."""
        self._renew(is_closed=self._closed.is_set())

    def _renew(self, is_closed: bool) -> None:
        self._closed = threading.Event()
        if is_closed:
            self._closed.set()
        self._ends: SimpleQueue[_End | None] = SimpleQueue()
        self._clients = Clients(self._environment)
        self._changes = self._followed()
        self._caller = Caller(
            self._clients, self._settings.share, self._listeners, self._monotonic, self._closed
        )
        self._rest = Rest(self._clock)
        self._is_recalled = False
        self._clusters = [self._cluster(each) for each in self._settings.clusters]

    def _cluster(self, each: ClusterSettings) -> ReadCluster:
        settings = self._settings
        scope = Scope(
            each.arn or each.name,
            each.label,
            settings.ip_family,
            settings.public_addresses,
            settings.target_health,
            self._names_later,
        )
        return ReadCluster(
            scope,
            Access(each.region, each.role_arn, each.external_id),
            Memory(heard=Heard() if self._changes is not None else None),
        )

    def _recall(self) -> None:
        """Before the first load: know the definitions that were kept."""
        if self._kept is None or self._is_recalled:
            return
        self._is_recalled = True
        known = self._kept.read()
        for cluster in self._clusters:
            cluster.memory.definitions.update(known)

    def _keep_definitions(self) -> None:
        if self._kept is not None:
            self._kept.keep([cluster.last for cluster in self._clusters])

    def _followed(self) -> Changes | None:
        """The queue of events, if there is one; in a child, unless its parent listens already."""
        if self._settings.events is None:
            return None
        if self._changes is not None and self._changes.is_started:
            self._listeners.emit(Noticed("events go to the parent process: clusters are polled"))
            return None
        queue = queue_of(self._settings.events)
        return Changes(
            queue,
            Access(queue.region or self._settings.clusters[0].region),
            self._clients,
            self._label_of,
            self._hear,
            listeners=self._listeners,
            monotonic=self._monotonic,
        )

    def _label_of(self, told: Told) -> str | None:
        """Which of our clusters an event is of.

        Of two of one name and region that which is read by a role of the event's account.
        """
        _, _, _, region, account, name = told.cluster.split(":", 5)
        for cluster in sorted(self._clusters, key=lambda c: c.access.account is None):
            scope, access = cluster.scope, cluster.access
            if scope.cluster.startswith("arn:"):
                is_ours = scope.cluster == told.cluster
            elif name == f"cluster/{scope.cluster}" and access.account in (account, None):
                is_ours = region == self._clients.client("ecs", access).meta.region_name
            else:
                is_ours = False
            if is_ours:
                return scope.label
        return None

    def _hear(self) -> None:
        """Events told of something: whoever waits for a read looks up, too."""
        self._ends.put(None)
        self.news()

    def _begin_update(self, cluster: ReadCluster, now: float) -> None:
        """Have what events told of a cluster taken in, once it was read for the first time."""
        if self._changes is None or cluster.update is not None or cluster.last is None:
            return
        news = self._changes.fetch(cluster.scope.label)
        if news is not None:
            steps = update(cluster.scope, cluster.memory, news, now)
            cluster.update = self._held(cluster, cluster.last.names, steps)

    def _begin(
        self, cluster: ReadCluster, names: frozenset[str] | None, steps: Steps[ClusterReading]
    ) -> None:
        """Have a cluster read, unless it is being read."""
        if cluster.under_way is None:
            cluster.under_way = self._held(cluster, names, steps)

    def _held(
        self, cluster: ReadCluster, names: frozenset[str] | None, steps: Steps[ClusterReading]
    ) -> Conversation:
        def answers(batch: Batch) -> list[Answer]:
            return self._caller.answers(cluster.access, batch, is_cold=cluster.last is None)

        label, memory, lock = cluster.scope.label, cluster.memory, cluster.lock
        held = Conversation(label, names, memory, lock, steps, answers, self._monotonic)
        held.start(lambda: self._ends.put((cluster, held)))
        return held

    def _waited_for(self, held: "list[_End]", may_go_on: bool = False) -> list[ClusterReading]:
        """What those say that end in time. Who was slow the last time is not waited for.

        With `may_go_on` nobody is for long, while there is news to take in.
        """
        readings: list[ClusterReading] = []
        prompt = [end for end in held if not end[0].is_slow] or held
        began = self._monotonic()
        while any(map(_is_on, prompt)) and not self._closed.is_set():
            limit_s = DEADLINE_S if all(map(_is_on, held)) else PROMPT_S
            if may_go_on and self._changes is not None and self._changes.waiting:
                limit_s = NEWS_PATIENCE_S
            left_s = began + limit_s - self._monotonic()
            try:
                end = self._ends.get(timeout=max(0.0, left_s))
            except Empty:
                break
            readings += self._ended_of(end)
        return readings

    def _ended(self) -> list[ClusterReading]:
        """What those said that have ended since the last load."""
        readings: list[ClusterReading] = []
        while True:
            try:
                readings += self._ended_of(self._ends.get_nowait())
            except Empty:
                return readings

    def _ended_of(self, end: "_End | None") -> list[ClusterReading]:
        if end is None:
            return []
        cluster, conversation = end
        conversation.join()
        outcome = conversation.outcome
        if outcome is None:
            return []
        if conversation is cluster.update:
            cluster.update, cluster.last = None, outcome.after(cluster.last)
            if self._changes is not None:
                self._changes.done(cluster.scope.label)
        else:
            cluster.under_way, cluster.last = None, outcome
        for message, at in outcome.notices.items():
            if at - self._said.get(message, -inf) >= DENIED_FOR_S:
                self._said[message] = at
                self._listeners.emit(Noticed(message))
        return [outcome.reading]

    def _observation(
        self, now: float, readings: tuple[ClusterReading, ...], rest_s: float
    ) -> Observation:
        lasts = [cluster.last for cluster in self._clusters]
        again_s = pace.again_s(lasts, self._is_hearing(), self._settings.interval_s)
        return Observation(
            observed_at=now,
            clusters=readings,
            pending=any(last.pending for last in lasts if last) or self._is_news_left(),
            patience_s=self._patience_s(),
            rest_s=rest_s,
            again_s=again_s,
            fresh_for_s=3 * max(again_s or 0.0, self._rest.cycle_s),
        )

    def _is_hearing(self) -> bool:
        return self._changes is not None and self._changes.is_alive

    def _patience_s(self) -> float:
        """Until our share allows for a lot of definitions: after each, all that is known is mapped.

        None of it where endpoints depend on any.
        """
        left = [(c, c.last) for c in self._clusters if c.last is not None and c.last.pending]
        if self._is_news_left() or any(last.reading.unread for _, last in left):
            return 0.0
        return max(
            (
                standing.lot_s(last.pending)
                for cluster, last in left
                for standing in self._caller.standings(cluster.access)
                if standing.group == DEFINITIONS
            ),
            default=0.0,
        )

    def _is_news_left(self) -> bool:
        """Whether to be asked again: events wait, or a read that nobody waits for will end."""
        if self._changes is None:
            return False
        return self._changes.waiting or any(c.under_way or c.update for c in self._clusters)

    def _sweep_ends(self, asked: Iterable[ReadCluster]) -> None:
        """Rest, so that sweeps of as many calls fit our share.

        Definitions that are left are read between sweeps, so until then the rest is a long one.
        """
        lasts = [(c.access, c.last) for c in asked if c.last is not None]
        made = [(access, last.scarce_calls) for access, last in lasts]
        is_pending = any(last.pending for _, last in lasts)
        rest_s = self._caller.rest_s(CLUSTER_RESOURCES, made, saves=is_pending)
        self._rest.begin(rest_s, max((last.seconds for _, last in lasts), default=0.0))


_End = tuple[ReadCluster, Conversation]


def _is_on(end: _End) -> bool:
    cluster, conversation = end
    return conversation in (cluster.under_way, cluster.update)


_alive: "weakref.WeakSet[EcsSource]" = weakref.WeakSet()


def _renew_all() -> None:
    for source in list(_alive):
        source.renew_after_fork()


os.register_at_fork(after_in_child=_renew_all)
