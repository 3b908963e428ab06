"""The published state: one snapshot, swapped whole, and whoever waits for the next.

Rule 1: publication is one attribute assignment of a frozen object; readers take no lock.
Rule 2: the index grows by one where content changes, that is services, cluster labels, or a
cluster's list becoming known; where only times or errors change it stays, and ages move on.
Rule 3: `merged` is the only way from one reading to the next; an error never empties a service.
Rule 4: what is published is what was read after each of the `adjustments`, in their order: pure
functions that take away, weigh or add. They see all that was read, each time, and never their own
results. Whoever owns what an adjustment goes by calls `adjust` when that changed.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from discovery.catalog.bell import Bell
from discovery.catalog.guard import held_back, is_doubtful
from discovery.catalog.history import History
from discovery.errors import AccessDenied, CredentialsExpired
from discovery.events import Listeners, Published
from discovery.model import Cluster, ClusterReading, Observation, Service, Snapshot

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
        self._doubted: frozenset[str] = frozenset()
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
            doubted = frozenset(
                reading.label
                for reading in observation.clusters
                if reading.label not in self._doubted and is_doubtful(known, reading)
            )
            read = {reading.label for reading in observation.clusters if reading.error is None}
            self._doubted = (self._doubted - read) | doubted
            # Where the source's budget stretches the pace, data of that age is still fresh. The
            # rest of a load that only adds to the one before says nothing about the pace.
            stretched_s = known.fresh_for_s if observation.pending else 0.0
            paced_s = max(3 * observation.rest_s, observation.fresh_for_s, stretched_s)
            fresh_for_s = max(self._fresh_for_s, paced_s)
            after = merged(known, _believed(observation, doubted))
            after = self._swap(replace(after, fresh_for_s=fresh_for_s))
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


def merged(previous: Snapshot, observation: Observation) -> Snapshot:
    """The snapshot that follows from what was observed. Pure.

    Services read unchanged stay the same objects; their times are in `read_at`. A reading's error
    leaves every service as it was that the reading does not name as read or absent.
    """
    services = dict(previous.services)
    read_at = dict(previous.read_at)
    clusters = {cluster.label: cluster for cluster in previous.clusters}
    for reading in observation.clusters:
        for key in _gone(services, reading):
            del services[key]
            read_at.pop(key, None)
        for service in reading.services:
            services[service.key] = service
            read_at[service.key] = service.observed_at or observation.observed_at
        clusters[reading.label] = _cluster(
            clusters.get(reading.label), reading, reading.observed_at or observation.observed_at
        )
    if observation.labels:
        clusters = _in_order(clusters, observation.labels)
    learned = any(reading.learned for reading in observation.clusters)
    after = replace(
        previous,
        observed_at=observation.observed_at if learned else previous.observed_at,
        clusters=tuple(clusters.values()),
        services=services,
        read_at=read_at,
    )
    return following(previous, after)


def following(before: Snapshot, after: Snapshot) -> Snapshot:
    """`after` as the snapshot that comes after `before`. Pure.

    Its services that are equal to those before are the same objects, and its index is the next one
    where content changed.
    """
    services = {
        key: old if (old := before.services.get(key)) == service and old is not None else service
        for key, service in after.services.items()
    }
    changed = not _same_content(before, after.clusters, services)
    sequence = before.sequence + 1 if changed else before.sequence
    return replace(after, sequence=sequence, services=services)


def changed_names(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """The full names of the services that came, went or differ."""
    keys = dict.fromkeys([*before.services, *after.services])
    pairs = ((before.services.get(key), after.services.get(key)) for key in keys)
    return tuple(
        service.full_name
        for old, new in pairs
        if old is not new and (service := new or old) is not None
    )


def _believed(observation: Observation, doubted: frozenset[str]) -> Observation:
    if not doubted:
        return observation
    readings = tuple(held_back(r) if r.label in doubted else r for r in observation.clusters)
    return replace(observation, clusters=readings)


def _gone(services: dict[Key, Service], reading: ClusterReading) -> list[Key]:
    read = {service.name for service in reading.services}
    return [
        (cluster, name)
        for cluster, name in services
        if cluster == reading.label
        and name not in read
        and (name in reading.absent or (reading.complete and name not in reading.unread))
    ]


def _in_order(clusters: dict[str, Cluster], labels: Sequence[str]) -> dict[str, Cluster]:
    """The clusters that there are, as the source orders them; what it does not name is gone."""
    return {label: clusters.get(label) or Cluster(label) for label in labels}


def _cluster(known: Cluster | None, reading: ClusterReading, at: float) -> Cluster:
    known = known or Cluster(reading.label)
    return Cluster(
        reading.label,
        observed_at=at if reading.complete else known.observed_at,
        error=str(reading.error) if reading.error else None,
        heard=reading.heard or known.heard,
        denied_since=_denied_since(known, reading, at),
    )


def _denied_since(known: Cluster, reading: ClusterReading, at: float) -> float | None:
    """An outage meanwhile does not end it; a read that learns something does."""
    if reading.learned:
        return None
    is_denied = isinstance(reading.error, AccessDenied | CredentialsExpired)
    return known.denied_since or (at if is_denied else None)


def _same_content(
    before: Snapshot, clusters: Iterable[Cluster], services: Mapping[Key, Service]
) -> bool:
    if [_known(c) for c in before.clusters] != [_known(c) for c in clusters]:
        return False
    if before.services.keys() != services.keys():
        return False
    return all(services[key] is service for key, service in before.services.items())


def _known(cluster: Cluster) -> tuple[str, bool]:
    return cluster.label, cluster.observed_at is not None
