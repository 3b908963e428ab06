"""The one writer: a daemon thread that loads and publishes, for as long as somebody is interested.

Rule 1: nothing runs before the first `start`; a child after a fork starts its own thread on use.
Rule 2: loads never overlap, and everybody who waits for the same name waits for the same load.
Rule 3: no lock is held while the source loads or a listener is called.
Rule 4: whatever a load raises, the thread lives on, and what was known goes on being served.
"""

import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue

from cachetools import TTLCache

from discovery.balancing.policy import Chance
from discovery.catalog.catalog import Catalog
from discovery.catalog.checks import Checks
from discovery.catalog.loads import Demand, Key, Load
from discovery.catalog.schedule import Schedule
from discovery.errors import NotReady, SourceError
from discovery.events import Listeners, Refreshed, RefreshFailed
from discovery.model import ClusterReading, Observation, Snapshot
from discovery.overrides.watch import ByHand
from discovery.sources.base import Source, Wanted

_log = logging.getLogger("discovery")

NEGATIVES = 4_096  # bounds the negative answers that are kept

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Timing:
    """Clocks, chance and durations of a refresher. `clock` is epoch seconds."""

    chance: Chance
    interval_s: float = 10.0
    negative_ttl_s: float = 2.0
    clock: Clock = time.time
    monotonic: Clock = time.monotonic


class Refresher:
    """Loads from a source into a catalog. All methods may be called from any thread."""

    def __init__(
        self,
        source: Source,
        catalog: Catalog,
        timing: Timing,
        *,
        whole: bool = False,
        listeners: Listeners | None = None,
        checks: Checks | None = None,
        by_hand: ByHand | None = None,
    ) -> None:
        self._source = source
        self._catalog = catalog
        self._checks = checks
        self._by_hand = by_hand
        self._timing = timing
        self._listeners = listeners or Listeners()
        self._demand = Demand(whole or (by_hand is not None and by_hand.has_aliases))
        self._schedule = Schedule(timing.interval_s, timing.chance, timing.monotonic())
        self._sweep: Load | None = None  # the last load of whole clusters that ended
        self._closed = False
        self._renew()
        _alive.add(self)

    def _renew(self) -> None:
        """Make everything that a fork must not share with the parent's threads."""
        self._lock = threading.Lock()
        # Its `put` may be called anywhere, in a finalizer too; an Event's `set` could deadlock.
        self._pokes: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._current: Load | None = None
        self._next = Load()
        self._negative: TTLCache[Key, Load] = TTLCache(
            NEGATIVES, self._timing.negative_ttl_s, self._timing.monotonic
        )

    @property
    def is_running(self) -> bool:
        """Whether the thread was started in this process."""
        return self._thread is not None

    @property
    def is_whole(self) -> bool:
        """Whether whole clusters are read, not only the names asked for."""
        return self._demand.whole

    @property
    def is_closed(self) -> bool:
        """Whether nothing will be loaded any more."""
        return self._closed

    def start(self) -> None:
        """Start the thread unless it runs or the refresher is closed."""
        with self._lock:
            if self._thread is not None or self._closed:
                return
            self._thread = threading.Thread(target=self._run, name="discovery", daemon=True)
            self._thread.start()
        if self._checks is not None:
            self._checks.start(self._catalog.adjust)

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop the thread, wait for the load under way, and close the source."""
        self.abandon()
        self._source.close()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)
        if self._checks is not None:
            self._checks.close(timeout_s)
        self._catalog.bell.ring()

    def abandon(self) -> None:
        """Have the thread end by itself and close the source; takes no lock, never blocks."""
        self._closed = True
        self._pokes.put(None)
        if self._checks is not None:
            self._checks.abandon()

    def lately(self, key: Key) -> Load | None:
        """The load whose word on a service that is not known still holds, where there is one.

        Whole clusters: the last one, until the next, which errors put off by its back-off. A name
        on demand: the one that lately found no such service, or failed, for a short time.
        """
        with self._lock:
            return self._sweep if self._demand.whole else self._negative.get(key)

    def ask(self, key: Key, seen: Snapshot) -> Load | None:
        """The load that will settle whether this service exists: the one under way, or the next.

        `None` where another snapshot than `seen` was published since: it may hold the answer.
        """
        with self._lock:
            self._refuse_closed()
            if self._current is not None and self._current.covers(key):
                return self._current
            if self._catalog.snapshot is not seen:
                return None
            self._demand.ask(key)
            if self._demand.whole:
                self._schedule.hurry(self._timing.monotonic())
            load = self._next
        self._pokes.put(None)
        return load

    def ask_all(self) -> Load:
        """A load of all that is wanted which starts after this call, at once."""
        with self._lock:
            self._refuse_closed()
            load = self._next
            if self._demand.is_empty:
                load = Load()
                load.end(Observation(self._timing.clock()))
            load.everything = True
            self._schedule.at_once(self._timing.monotonic())
        self._pokes.put(None)
        return load

    def use(self, key: Key) -> None:
        """Go on reading this service, which is known."""
        with self._lock:
            self._demand.use(key, self._timing.monotonic())

    def read_whole(self) -> None:
        """From now on read whole clusters."""
        with self._lock:
            if self._demand.whole:
                return
            self._demand.whole = True
            self._schedule.at_once(self._timing.monotonic())
        self._pokes.put(None)

    def hurry(self) -> None:
        """Load soon, because something looks wrong; calls in quick succession count once."""
        with self._lock:
            self._schedule.hurry(self._timing.monotonic())
        self._pokes.put(None)

    def news(self) -> None:
        """The source has heard of changes by itself: have it take them in, soon."""
        with self._lock:
            self._schedule.hear(self._timing.monotonic())
        self._pokes.put(None)

    def load(self) -> Observation:
        """Load once, in the calling thread, publish, and tell everybody. One caller at a time."""
        load, everything, unused = self._begin()
        try:
            self._catalog.forget(unused)
            observation = self._read(load.wanted)
            if self._checks is not None:
                self._checks.look_first(observation)
            doubted = self._catalog.publish(observation)
            seconds = self._end(load, observation, everything, bool(doubted))
        finally:
            self._current = None
            self._catalog.bell.ring()
        self._tell(observation, seconds)
        return observation

    def load_pending(self) -> Observation:
        """Have the source read what its last load put off, as `load` does; nobody waits for it."""
        with self._lock:
            began = self._timing.monotonic()
            self._schedule.begin_pending()
        observation = self._asked(self._source.load_pending, self._source.labels)
        if self._checks is not None:
            self._checks.look_first(observation)
        doubted = self._catalog.publish(observation)
        with self._lock:
            ended = self._timing.monotonic()
            self._schedule.end_pending(observation, bool(doubted), ended)
        self._tell(observation, ended - began)
        return observation

    def _begin(self) -> tuple[Load, bool, frozenset[Key]]:
        """The load, whether it is one of all that is wanted, and the names to forget."""
        with self._lock:
            now = self._timing.monotonic()
            load, self._next = self._next, Load()
            everything = load.everything or self._demand.whole or self._schedule.is_due(now)
            unused = self._demand.drop_unused(now) if everything else frozenset()
            load.wanted = self._demand.take(everything)
            self._current = load
            self._schedule.begin(now, everything)
            return load, everything, unused

    def _end(self, load: Load, observation: Observation, everything: bool, doubted: bool) -> float:
        """Settle what was asked, plan the next load; the seconds that this one took."""
        with self._lock:
            ended = self._timing.monotonic()
            load.end(observation)
            self._demand.settle(load.wanted, self._catalog.snapshot, ended)
            self._remember(load)
            return self._schedule.end(observation, everything, doubted, ended)

    def _run(self) -> None:
        if self._by_hand is not None:
            self._by_hand.start(self._decided_by_hand)
        try:
            self._refresh()
        finally:
            if self._by_hand is not None:
                self._by_hand.close()
            self._source.close()

    def _decided_by_hand(self) -> None:
        """Other decisions are in force; what an alias stands for may be any service."""
        if self._by_hand is not None and self._by_hand.has_aliases:
            self.read_whole()
        self._catalog.adjust()

    def _refresh(self) -> None:
        while not self._closed:
            pause_s = self._pause_s()
            if pause_s is None or pause_s > 0:
                self._sleep(pause_s)
                continue
            try:
                self._step()
            except Exception:  # a mistake of ours must not end the refreshing
                _log.exception("a refresh failed")
                self._sleep(self._timing.interval_s)
                self.hurry()

    def _sleep(self, pause_s: float | None) -> None:
        with contextlib.suppress(Empty):
            self._pokes.get(timeout=pause_s)
            while True:
                self._pokes.get_nowait()

    def _step(self) -> None:
        """A load that is due comes before what the last one put off."""
        with self._lock:
            is_load_due = not self._load_in_s()
        if is_load_due:
            self.load()
        else:
            self.load_pending()

    def _pause_s(self) -> float | None:
        """Seconds until something is due; `None` while there is nothing to load."""
        with self._lock:
            load_in_s = self._load_in_s()
            if load_in_s is None:
                return None
            return min(load_in_s, self._schedule.pending_in_s(self._timing.monotonic()))

    def _load_in_s(self) -> float | None:
        if self._demand.is_empty:
            return None
        is_urgent = self._demand.is_urgent and not self._next.everything
        return self._schedule.load_in_s(self._timing.monotonic(), is_urgent)

    def _read(self, wanted: Wanted) -> Observation:
        if wanted is not None and not wanted:
            return Observation(self._timing.clock())
        labels = self._source.labels if wanted is None else tuple(wanted)
        return self._asked(partial(self._source.load, wanted), labels)

    def _asked(self, read: Callable[[], Observation], labels: tuple[str, ...]) -> Observation:
        """What the source says, or the failure of all that was asked for."""
        try:
            return read()
        except SourceError as exc:
            failed = exc
        except Exception as exc:  # a source's mistake is a failed load, not an empty one
            _log.exception("the source failed in a way it should not")
            failed = SourceError(f"the source failed: {type(exc).__name__}: {exc}")
        readings = tuple(ClusterReading(label, error=failed) for label in labels)
        return Observation(self._timing.clock(), readings)

    def _remember(self, load: Load) -> None:
        if load.wanted is None:
            self._sweep = load
            return
        for label, names in load.wanted.items():
            for name in names:
                if not self._catalog.snapshot.named(label, name):
                    self._negative[label, name] = load

    def _refuse_closed(self) -> None:
        if self._closed:
            raise NotReady("the resolver is closed")

    def _tell(self, observation: Observation, seconds: float) -> None:
        snapshot = self._catalog.snapshot
        for reading in observation.clusters:
            if reading.error is not None and not self._closed:  # closing ends a read: no failure
                self._listeners.emit(RefreshFailed(reading.label, reading.error))
            if reading.error is None or reading.services:
                age_s = max(0.0, self._timing.clock() - seconds - observation.observed_at)
                self._listeners.emit(_refreshed(snapshot, reading.label, seconds, age_s))

    def renew_after_fork(self) -> None:
        """In the child of a fork: there is no thread here, and locks may be held for ever."""
        self._renew()
        self._schedule.renew_after_fork(self._timing.monotonic(), self._timing.interval_s)
        self._catalog.renew_after_fork()
        if self._checks is not None:
            self._checks.renew_after_fork()


def _refreshed(snapshot: Snapshot, label: str, seconds: float, age_s: float) -> Refreshed:
    of_cluster = [s for s in snapshot.services.values() if s.cluster == label]
    endpoints = sum(len(s.endpoints) for s in of_cluster)
    excluded = sum(len(s.exclusions) for s in of_cluster)
    return Refreshed(label, len(of_cluster), endpoints, excluded, seconds, age_s)


_alive: "weakref.WeakSet[Refresher]" = weakref.WeakSet()


def _renew_all() -> None:
    for refresher in list(_alive):
        refresher.renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
