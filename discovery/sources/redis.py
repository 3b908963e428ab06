"""Sidecars that share snapshots through Redis or Valkey: one reads ECS for all.

Rule 1: whoever holds the lease reads and publishes; it shows what the store took, as the others do.
Rule 2: others listen first and read then, so that nothing falls between; what they hear is a hint,
and the store is read once an interval in any case.
Rule 3: `(epoch, sequence)` only grows. A store that has less than is known lost something: it is
not believed, and is fenced, so that its holder comes back with an epoch over all that was seen.
Rule 4: who holds the lease and can read nothing, or publish nothing, lets go of it and rests.
Rule 5: the lease is renewed by a thread of its own, however long a read takes.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NoReturn

from discovery.balancing.policy import Chance
from discovery.catalog.guard import Guard
from discovery.catalog.merging import fresh_for_s, merged
from discovery.catalog.pace import Pace
from discovery.errors import SourceError, SourceMalformed, SourceUnreachable
from discovery.events import Listeners, SaidOnce
from discovery.model import Cluster, ClusterReading, Observation, Snapshot
from discovery.snapshots import Told
from discovery.sources.base import Hearing, Source, Wanted
from discovery.sources.hearsay import is_older, newest, observed, shifted
from discovery.sources.lease import Fitness, Terms, is_behind, least_epoch
from discovery.sources.publication import Shelf, heard, publication
from discovery.sources.store import Store
from discovery.sources.tenure import Tenure

LEAST_PERIOD_S = 0.2  # between two looks at the store, whatever it says
LEAST_FRESH_S = 30.0
LATE_S = 0.5  # after a lease's end, so that not all ask at once
EMPTY = "the store has no snapshot yet: nobody who may hold the lease has published one"


@dataclass(frozen=True, slots=True)
class Sharing:
    """How a store is shared. Times are seconds; `labels` are the clusters', the default first."""

    chance: Chance
    labels: Sequence[str]
    interval_s: float = 10.0
    terms: Terms = field(default_factory=Terms)
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


class RedisSource:
    """What the fleet knows, by way of a store; read by ourselves while the lease is ours.

    `direct` makes the source to read then; it is called by the holder only. `stored` makes the
    connections, in each process anew.
    """

    def __init__(
        self,
        stored: Callable[[], Store],
        how: Sharing,
        direct: Callable[[], Source],
        *,
        listeners: Listeners | None = None,
    ) -> None:
        self._stored = stored
        self._how = how
        self._make = direct
        self._said = SaidOnce(listeners or Listeners())
        self._closed = False
        self._inherited: list[object] = []
        self._told: Told | None = None  # what the store said last, in its publisher's clock
        self._known: Told | None = None  # what was taken last, in ours
        self._stamp = ""
        self._since = float("-inf")  # when what a fallback has shown was observed
        self._fitness = Fitness()
        self._failure: SourceError = SourceUnreachable(EMPTY)
        self._refused: SourceError | None = None  # why we cannot have the lease
        self.news: Callable[[], None] = lambda: None
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._name = f"{socket.gethostname()}:{self._pid}:{uuid.uuid4().hex[:12]}"
        self._lock = threading.Lock()  # held while loading
        self._store = self._stored()
        self._store.met = self._said.say
        self._tenure = Tenure(self._store, self._name, self._how.terms, self._how.monotonic)
        self._direct: Source | None = None
        self._base: Snapshot | None = None  # while the lease is ours: what to go on from
        self._sent: Snapshot | None = None  # what the store has for certain
        self._published = 0
        self._guard, self._pace = Guard(), Pace(self._how.interval_s)
        self._lease_left_s: float | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Those of what was taken last; before that, those that were configured."""
        return (self._known.snapshot.labels if self._known else ()) or tuple(self._how.labels)

    @property
    def followers(self) -> int:
        """How many share the store, as far as is known."""
        return self._told.followers if self._told else 0

    @property
    def is_holder(self) -> bool:
        """Whether the lease is ours."""
        return self._tenure.held is not None

    def seen(self, observed_at: float) -> None:
        """Take nothing from now on that was observed before, in seconds since the epoch."""
        self._since = max(self._since, observed_at)

    def renew(self) -> None:
        """Renew the lease where it is time to. A thread does so by itself as long as it is ours."""
        self._tenure.renew()

    def load(self, wanted: Wanted) -> Observation:
        """Read for all while the lease is ours; else wait for news, or for an interval."""
        self._refuse_inheritance()
        try:
            with self._lock:
                return self._loaded()
        finally:
            if self._closed:
                self.close()

    def load_pending(self) -> Observation:
        """See `Source.load_pending`; only who reads for all puts anything off."""
        self._refuse_inheritance()
        with self._lock:
            led = self._led(lambda source: source.load_pending()) if self.is_holder else None
            return led or Observation(self._how.clock())

    def close(self) -> None:
        """Let go of the lease and end the wait under way; close connections when it has ended."""
        self._closed = True
        if self._pid != os.getpid():
            return  # the lease and all connections are the parent's
        self._store.end()
        self._tenure.close()
        if (direct := self._direct) is not None:
            direct.close()
        if self._lock.acquire(blocking=False):
            try:
                self._store.close()
            finally:
                self._lock.release()

    def _refuse_inheritance(self) -> None:
        if self._pid != os.getpid():
            self._inherited += [self._store, self._tenure, self._direct]  # neither used nor closed
            self._renew()

    def _loaded(self) -> Observation:
        """Who takes the lease reads at once, and who loses it follows at once."""
        for is_patient in (not self.is_holder, False):
            led = self._led(_all) if self.is_holder else None
            if led is not None:
                return led
            self._step_down()
            followed = self._followed(is_patient)
            if followed is not None:
                return followed
        raise self._failure

    # Following

    def _followed(self, is_patient: bool) -> Observation | None:
        """What the store has, after news or an interval; `None` where the lease is ours now."""
        began = self._how.monotonic()
        is_new = self._store.listen()
        if is_patient and not is_new and self._known is not None:
            self._store.wait(self._wait_s())
        shelf = self._store.read(self._stamp, self._told.token if self._told else "")
        if self._has_taken(shelf):
            return None
        if is_patient and not shelf.stamp and self._known is None:
            self._store.wait(self._wait_s())  # for the first word of whoever holds the lease
            shelf = self._store.read("", "")
        taken = self._taken(shelf).snapshot
        is_stale = self._how.clock() - taken.observed_at > taken.fresh_for_s
        if is_stale and shelf.lease_left_s is None and self._refused is not None:
            raise self._refused  # nobody leads
        observation = observed(taken)
        return replace(
            observation,
            again_s=max(0.0, LEAST_PERIOD_S - (self._how.monotonic() - began)),
            fresh_for_s=observation.fresh_for_s + self._how.interval_s,
        )

    def _wait_s(self) -> float:
        """An interval at most; less where the lease ends before."""
        chance = self._how.chance
        longest_s = self._how.interval_s * (0.8 + 0.2 * chance.random())
        if self._lease_left_s is None:
            return longest_s
        return min(longest_s, self._lease_left_s + LATE_S * chance.random())

    def _taken(self, shelf: Shelf) -> Told:
        """What the store says, in our clock, where it is no older than what is known."""
        if not shelf.stamp:
            if self._known is not None:
                self._distrust(self._known.snapshot.epoch)
            raise self._fitness.why or SourceUnreachable(EMPTY)
        try:
            found = heard(shelf, self._stamp, self._told)
        except SourceMalformed:
            self._forget()  # so that all of it is asked for next
            raise
        if self._known is not None and is_behind(found, self._known):
            self._distrust(least_epoch(found, self._known))
        # With a greater epoch, too, where the store has lost something and who reads now knows no
        # better.
        taken = self._accepted(found, shelf)
        if taken is None:
            raise SourceUnreachable("what the store has is older than what is known already")
        return taken

    def _accepted(self, found: Told, shelf: Shelf) -> Told | None:
        """What the store says, in our clock, from now on known; `None` where that is older."""
        now = self._how.clock()
        by_s = now - shelf.age_s - found.snapshot.observed_at
        taken = replace(found, snapshot=shifted(found.snapshot, by_s))
        if is_older(taken, self._known, self._since, now):
            return None
        self._told, self._stamp, self._known = found, shelf.stamp, newest(self._known, taken)
        return self._known

    def _distrust(self, epoch: int) -> NoReturn:
        """The store has forgotten what is known: believe nothing of it before a new epoch."""
        self._forget()
        why = "the store has lost what was published: waiting for a new epoch"
        try:
            self._store.fence(epoch)
        except SourceError as error:  # a user that may only follow, say
            raise SourceUnreachable(f"{why}, and it cannot be fenced: {error}") from error
        raise SourceUnreachable(why)

    def _forget(self) -> None:
        self._told, self._stamp = None, ""

    # Reading for all

    def _has_taken(self, shelf: Shelf) -> bool:
        """Ask for the lease where nobody has it; with it, go on from the newest that is known."""
        self._lease_left_s = shelf.lease_left_s
        now = self._how.monotonic()
        if shelf.lease_left_s is not None or self._fitness.is_resting(now) or self._closed:
            return False
        try:
            if not self._tenure.take(self._known.snapshot.epoch if self._known else 0):
                return False
        except SourceUnreachable:
            raise
        except SourceError as error:  # a user that may only follow, say
            self._fitness = self._fitness.resting(error, now, self._how.chance)
            self._refused = SourceError(f"this sidecar cannot have the lease: {error}")
            self._said.say(str(self._refused))
            return False
        self._refused = None
        try:
            self._store.deaf()
            self._forget()
            shelf = self._store.read("", "")
        except SourceError:
            self._tenure.let_go()
            raise
        with suppress(SourceMalformed):  # what cannot be read is replaced
            found = heard(shelf, self._stamp, self._told)
            if self._known is None or not is_behind(found, self._known):
                self._accepted(found, shelf)
        self._begin()
        return True

    def _begin(self) -> None:
        """Publications of this lease start from what is known, as far as it is of our clusters."""
        held, labels = self._tenure.held, tuple(self._how.labels)
        known = self._known.snapshot if self._known else Snapshot()
        self._base = replace(
            known,
            epoch=held.epoch if held else 0,
            sequence=0,
            clusters=tuple(known.cluster(label) or Cluster(label) for label in labels),
            services={key: s for key, s in known.services.items() if key[0] in labels},
            read_at={key: at for key, at in known.read_at.items() if key[0] in labels},
        )
        self._sent = None
        self._guard, self._pace = Guard(), Pace(self._how.interval_s)
        self._said.say("this sidecar reads ECS for all that share the store")

    def _step_down(self) -> None:
        if self._base is None:
            return
        self._base = None
        direct, self._direct = self._direct, None
        if direct is not None:
            direct.close()
        self._said.say("this sidecar does not read ECS for others any more")

    def _led(self, read: Callable[[Source], Observation]) -> Observation | None:
        """What we read and the store took; `None`, and a failure, where that is not to be shown."""
        base = self._base
        if base is None or not self.is_holder:
            self._failure = SourceUnreachable("the lease is not ours any more")
            return None
        observation = self._read(read)
        believed, doubted = self._guard.believed(base, observation)
        fresh_s = fresh_for_s(max(LEAST_FRESH_S, 3 * self._how.interval_s), base, observation)
        after = replace(merged(base, believed), fresh_for_s=fresh_s)
        self._pace = self._pace.after(observation, bool(doubted), self._how.chance)
        try:
            is_published = not after.observed_at or self._has_published(after)
        except SourceError as error:  # the store is gone, or takes nothing, as one that is full
            self._is_unfit_after(self._failing(SourceUnreachable(str(error))))
            raise
        if not is_published:
            self._tenure.let_go()
            self._failure = SourceUnreachable("the lease was lost while we read")
            return None
        if self._is_unfit_after(observation):
            return None
        if not after.observed_at:
            raise self._failure
        return replace(
            observed(after),
            pending=observation.pending,
            patience_s=observation.patience_s,
            rest_s=observation.rest_s,
            again_s=self._pace.pause_s,
        )

    def _read(self, read: Callable[[Source], Observation]) -> Observation:
        labels = tuple(self._how.labels)
        if self._direct is None:
            self._direct = self._make()
            if isinstance(self._direct, Hearing):
                self._direct.news = self._hear
        try:
            return replace(read(self._direct), labels=labels)
        except SourceError as error:
            return self._failing(error)

    def _failing(self, error: SourceError) -> Observation:
        labels = tuple(self._how.labels)
        readings = tuple(ClusterReading(label, error=error) for label in labels)
        return Observation(self._how.clock(), readings, labels=labels)

    def _is_unfit_after(self, observation: Observation) -> bool:
        now = self._how.monotonic()
        self._fitness = self._fitness.after(observation, now, self._how.chance)
        self._failure = self._fitness.why or self._failure
        if not self._fitness.is_resting(now):
            return False
        self._tenure.let_go()
        self._said.say(f"this sidecar cannot read ECS for others: {self._failure}")
        return True

    def _has_published(self, after: Snapshot) -> bool:
        """Have the store take it. What failed may have been taken: its index is not used again."""
        before, self._sent, self._base = self._sent, None, after
        self._published += 1
        followers = self._store.followers() + 1
        for since in (before, None):
            new = publication(
                after,
                since,
                publisher=self._name,
                number=self._published,
                followers=followers,
                now=self._how.clock(),
            )
            is_taken = self._store.publish(new)
            if is_taken is not None:
                break
        if is_taken:
            self._sent, self._stamp = after, new.stamp
            self._told = self._known = Told(after, self._name, followers)
        return bool(is_taken)

    def _hear(self) -> None:
        self.news()


def _all(source: Source) -> Observation:
    return source.load(None)
