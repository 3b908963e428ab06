"""What is asked for, and what came of it. One owner, the refresher, which guards it by its lock.

Rule 1: a load takes with it everything asked for until it starts, so that first calls share it.
Rule 2: a name is unknown only where a load said so; a failed load says nothing.
Rule 3: names that nobody has asked for in `UNUSED_S` are not read any more.
"""

from collections.abc import Mapping

from discovery.errors import SourceError
from discovery.model import ClusterReading, Observation, Snapshot
from discovery.sources.base import Wanted

Key = tuple[str, str]  # cluster label, service name
UNUSED_S = 3_600.0


class Load:
    """One call of a source: what it reads and, once `ended`, what it said."""

    def __init__(self) -> None:
        self.wanted: Wanted = None
        self.everything = False  # asked to read all that is wanted, not only the new names
        self.ended = False
        self._readings: Mapping[str, ClusterReading] = {}

    def covers(self, key: Key) -> bool:
        """Whether it reads that service."""
        return self.wanted is None or key[1] in self.wanted.get(key[0], ())

    def end(self, observation: Observation) -> None:
        """Keep what the source said of each cluster, for those who wait for it."""
        self._readings = {reading.label: reading for reading in observation.clusters}
        self.ended = True

    def says_absent(self, key: Key) -> bool:
        """Whether this load saw that there is no such service."""
        label, name = key
        reading = self._readings.get(label)
        if reading is None:
            return True
        if name in reading.unread or any(name.lower() == s.name.lower() for s in reading.services):
            return False
        return reading.complete or reading.error is None or name in reading.absent

    def failure(self, key: Key) -> SourceError | None:
        """Why this load cannot say what there is of that service; `None` where it can."""
        reading = self._readings.get(key[0])
        return None if reading is None or self.says_absent(key) else reading.error

    def left_unread(self, key: Key) -> SourceError | None:
        """Why this service, which the load saw to exist, could not be read."""
        reading = self._readings.get(key[0])
        return reading.error if reading is not None and key[1] in reading.unread else None

    def first_failure(self) -> SourceError | None:
        """The first cluster's error, where there is one."""
        return next((r.error for r in self._readings.values() if r.error is not None), None)


class Demand:
    """The names in use, when each was last asked for, and those that wait to be read first."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole
        self._used_at: dict[Key, float] = {}
        self._new: set[Key] = set()

    @property
    def is_urgent(self) -> bool:
        """Whether names wait for their first load."""
        return bool(self._new)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to read."""
        return not (self.whole or self._used_at or self._new)

    def ask(self, key: Key) -> None:
        """Have this service read by the next load."""
        if not self.whole:
            self._new.add(key)

    def use(self, key: Key, now: float) -> None:
        """Remember that somebody still wants this service, which is known."""
        if not self.whole:
            self._used_at[key] = now

    def take(self, everything: bool) -> Wanted:
        """What the load that starts now is to read: the new names, or all in use."""
        if self.whole:
            self._new.clear()
            self._used_at.clear()
            return None
        keys = self._new | self._used_at.keys() if everything else self._new
        wanted: dict[str, set[str]] = {}
        for label, name in keys:
            wanted.setdefault(label, set()).add(name)
        self._new = set()
        return {label: frozenset(names) for label, names in wanted.items()}

    def settle(self, wanted: Wanted, snapshot: Snapshot, now: float) -> None:
        """After a load: names that exist are in use under their own spelling, others are not."""
        for label, names in (wanted or {}).items():
            for name in names:
                found = snapshot.named(label, name)
                used_at = self._used_at.pop((label, name), now)
                for service in found:
                    self._used_at[service.key] = max(used_at, self._used_at.get(service.key, 0.0))

    def drop_unused(self, now: float) -> frozenset[Key]:
        """Forget and return the names that nobody asked for lately."""
        unused = frozenset(k for k, at in self._used_at.items() if now - at > UNUSED_S)
        for key in unused:
            del self._used_at[key]
        return unused
