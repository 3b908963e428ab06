"""The published state: one snapshot, swapped whole, and whoever waits for the next.

Rule 1: publication is one attribute assignment of a frozen object; readers take no lock.
Rule 2: what is published is what was read after each of the `adjustments`, in their order: pure
functions that take away, weigh or add. They see all that was read, each time, and never their own
results. Whoever owns what an adjustment goes by calls `adjust` when that changed.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from discovery.catalog.bell import Bell
from discovery.catalog.guard import Guard
from discovery.catalog.history import History
from discovery.catalog.merging import changed_names, following, fresh_for_s, merged
from discovery.events import Listeners, Published
from discovery.model import Cluster, Observation, Snapshot

Key = tuple[str, str]
Adjustment = Callable[[Snapshot, float], Snapshot]  # of what was read, and seconds since the epoch


class Catalog:
    """Owns the published snapshot. `snapshot` may be read from any thread at any time."""

    def __init__(
        self,
        labels: Iterable[str],
        *,
        fresh_for_s: float = 30.0,
        stale_limit_s: float = 86_400.0,
        listeners: Listeners | None = None,
        bell: Bell | None = None,
        adjustments: Sequence[Adjustment] = (),
        least_epoch: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.bell = bell or Bell()
        self.history = History()
        self._adjustments = tuple(adjustments)
        self._clock = clock
        self._listeners = listeners or Listeners()
        self._fresh_for_s = fresh_for_s
        self._lock = threading.Lock()  # one writer at a time; readers never take it
        self._guard = Guard()
        self.snapshot = Snapshot(
            epoch=max(int(clock()), least_epoch),
            clusters=tuple(Cluster(label) for label in labels),
            fresh_for_s=fresh_for_s,
            stale_limit_s=stale_limit_s,
        )
        self._read = self.snapshot  # as it was read, before the adjustments

    @property
    def read(self) -> Snapshot:
        """What was read, before the adjustments."""
        return self._read

    def publish(self, observation: Observation) -> frozenset[str]:
        """Merge what was observed and publish it; the labels whose reading needs a second one."""
        with self._lock:
            known, before = self._read, self.snapshot
            believed, doubted = self._guard.believed(known, observation)
            fresh_s = fresh_for_s(self._fresh_for_s, known, observation)
            after = self._swap(replace(merged(known, believed), fresh_for_s=fresh_s))
        self._tell(before, after)
        return doubted

    def adjust(self) -> None:
        """Publish what was read as the adjustments have it by now."""
        with self._lock:
            before = self.snapshot
            after = self._swap(self._read)
        self._tell(before, after)

    def forget(self, keys: Iterable[Key]) -> None:
        """Stop knowing these services, which nobody asks for any more."""
        with self._lock:
            known, before = self._read, self.snapshot
            gone = frozenset(keys) & known.services.keys()
            if not gone:
                return
            services = {k: s for k, s in known.services.items() if k not in gone}
            read_at = {k: at for k, at in known.read_at.items() if k not in gone}
            left = replace(known, services=services, read_at=read_at)
            after = self._swap(following(known, left))
            self.history.forget(gone)
        self._tell(before, after)

    def renew_after_fork(self) -> None:
        """In the child of a fork: locks and waiters belong to threads that are not here.

        The snapshot becomes an equal one, so that whoever cached by its identity looks again.
        """
        self._lock = threading.Lock()
        self.bell.renew_after_fork()
        self.snapshot = replace(self.snapshot)

    def _swap(self, read: Snapshot) -> Snapshot:
        """Publish what was read, adjusted, and return that; the lock is held."""
        adjusted, now = read, self._clock()
        for adjustment in self._adjustments:
            adjusted = adjustment(adjusted, now)
        before = self.snapshot
        self._read = read
        self.snapshot = following(before, adjusted) if self._adjustments else read
        if self.snapshot.index != before.index:
            self.history.note(before, self.snapshot, now)
        return self.snapshot

    def _tell(self, before: Snapshot, after: Snapshot) -> None:
        self.bell.ring()
        if after.index != before.index:
            self._listeners.emit(Published(after.index, changed_names(before, after)))
