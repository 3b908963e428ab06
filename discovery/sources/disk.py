"""The last good snapshot on disk, so that a restart in an outage answers at once.

Two files: `PATH` has the snapshot and is written when content changes; `PATH.times` has its newer
times, which is little. Both are documents as `/v1/snapshot` has them, of one publisher, as indices
of two processes do not compare.

Rule 1: what cannot be used is refused with the reason, and left where it is until it is replaced.
Rule 2: what is read is as old as it is; times that were not written make it older, never newer.
Rule 3: a disk that fails is said, and nothing else fails.
"""

import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from discovery.errors import SourceMalformed
from discovery.events import Listeners, SaidOnce
from discovery.model import Observation, Snapshot
from discovery.snapshots import Changes, document, told
from discovery.sources.base import Ordered, Source, Wanted
from discovery.sources.hearsay import observed
from discovery.sources.sealed import Sealed, reason

FUTURE_S = 5.0  # how far a clock may have been set back before ages mean nothing


class Disk:
    """One snapshot on disk. `identity` says what it is of: a file of something else is refused.

    From several threads at once the last one to write wins.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        identity: str,
        *,
        listeners: Listeners | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = Sealed(path, identity)
        self._times = Sealed(f"{os.fspath(path)}.times", identity)
        self._said = SaidOnce(listeners or Listeners())
        self._clock = clock
        self._name = uuid.uuid4().hex
        self._kept: Snapshot | None = None

    def read(self) -> Snapshot | None:
        """The snapshot that was kept last; `None`, and a notice why, where none can be used."""
        try:
            known = told(self._file.read())
        except FileNotFoundError:
            return None
        except (OSError, SourceMalformed) as error:
            self._refuse(reason(error))
            return None
        with suppress(OSError, SourceMalformed):  # times of an earlier snapshot, or none at all
            known = told(self._times.read(), known)
        ahead_s = known.snapshot.observed_at - self._clock()
        if ahead_s > FUTURE_S:
            self._refuse(f"it is from {ahead_s:.0f} s in the future")
            return None
        return known.snapshot

    def keep(self, snapshot: Snapshot) -> None:
        """Write what is new in it; nothing where nothing is. Blocks for as long as the disk."""
        if snapshot is self._kept or not snapshot.observed_at:
            return
        try:
            if self._kept is None or snapshot.index != self._kept.index:
                self._file.write(document(snapshot, self._clock(), publisher=self._name))
            elif snapshot.read_at != self._kept.read_at:
                changes, name = Changes(snapshot.index), self._name
                self._times.write(
                    document(snapshot, self._clock(), publisher=name, changes=changes)
                )
        except OSError as error:
            self._said.say(f"cache {self._file.path} cannot be written: {reason(error)}")
            return
        self._kept = snapshot
        self._said.over()

    def _refuse(self, why: str) -> None:
        self._said.say(f"cache {self._file.path} is not used: {why}")


class Remembered:
    """A source that begins with what was on disk, and has what is known kept there.

    `snapshot` is what is known by now; each load begins with keeping it, and so does `close`.
    """

    def __init__(self, source: Source, disk: Disk) -> None:
        self._source = source
        self._disk = disk
        self._begun = False
        self.found = disk.read()
        self.snapshot: Callable[[], Snapshot] = Snapshot
        self._labels = self.found.labels if self.found else ()
        if self.found is not None and isinstance(source, Ordered):
            source.seen(self.found.observed_at)

    @property
    def next_epoch(self) -> int:
        """The least epoch of a snapshot that comes after the one on disk."""
        return self.found.epoch + 1 if self.found else 0

    @property
    def labels(self) -> tuple[str, ...]:
        """Those of what was on disk, until the source says others."""
        return self._labels or self._source.labels

    def load(self, wanted: Wanted) -> Observation:
        """At first what was on disk, so that the source is asked next, at once."""
        if self._begun or self.found is None:
            self._disk.keep(self.snapshot())
            observation = self._source.load(wanted)
            self._labels = observation.labels or self._labels
            return observation
        self._begun = True
        observation = observed(self.found)
        return Observation(
            observation.observed_at, observation.clusters, again_s=0.0, labels=observation.labels
        )

    def load_pending(self) -> Observation:
        """See `Source.load_pending`."""
        return self._source.load_pending()

    def close(self) -> None:
        """See `Source.close`; keeps what is known."""
        self._disk.keep(self.snapshot())
        self._source.close()
