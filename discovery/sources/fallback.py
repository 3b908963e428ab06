"""Going direct while nobody leads: rarely enough that a whole fleet of us stays within its share.

Rule 1: whoever leads (a hub, a store) is asked first, each time; directly is read only while that
fails, and only so often that all followers together make `SHARE` calls a second; so it is with task
definitions that name ports, which have a quota of their own and are read between direct reads.
Rule 2: all of a fleet lose their leader at once, so the first direct read is at a time by chance.
Rule 3: what reads directly, and all that it loads, is made when it is needed first.
Rule 4: how many follow is kept on disk where there is a place, so that a restart knows it. A
smaller number is believed after a while only: whoever has just begun to lead knows few followers.
"""

import math
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Protocol

import msgspec

from discovery.balancing.policy import Chance
from discovery.errors import SourceError, SourceMalformed
from discovery.events import Listeners, Noticed
from discovery.model import Observation, Service
from discovery.sources.base import Hearing, Ordered, Source, Wanted
from discovery.sources.sealed import Sealed

SURE_S = 180.0  # a leader counts those who asked within two minutes
SHARE = 10.0  # calls a second of all followers, half of what ECS refills for an account
_PAGE = 100  # tasks or instances a call
_LOT = 25  # task definitions at once, half of the burst that ECS allows
_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Leader(Source, Ordered, Protocol):
    """A source that many follow."""

    @property
    def followers(self) -> int:
        """How many follow, 0 where that is not known."""
        ...


class Fleet(msgspec.Struct, frozen=True):
    """How many read, and how many calls each makes for it.

    Unless anybody said so: as many as this is built for, so that a fleet that never met its leader
    does not take an account's quota.
    """

    followers: _Count = 1_000
    calls: _Count = 21

    @property
    def lot_s(self) -> float:
        """The pause of each after as many task definitions as are read at once."""
        return self.followers * _LOT / SHARE

    def pause_s(self, interval_s: float) -> float:
        """The pause between direct reads of each."""
        return max(interval_s, self.followers * self.calls / SHARE)


def calls_of(services: Iterable[Service]) -> int:
    """How many calls of the scarce quota one read of these services takes."""
    tasks: set[str] = set()
    machines: set[str] = set()
    for service in services:
        tasks.update(e.task_arn for e in (*service.endpoints, *service.spares) if e.task_arn)
        tasks.update(e.task_arn for e in service.exclusions)
        machines.update(p.machine for p in service.placements.values() if p.machine)
    return max(1, 2 * math.ceil(len(tasks) / _PAGE) + math.ceil(len(machines) / _PAGE))


class Fallback:
    """What `leader` says, and while it fails what a source made by `direct` says, at times."""

    def __init__(
        self,
        leader: Leader,
        direct: Callable[[], Source],
        *,
        chance: Chance,
        interval_s: float = 10.0,
        path: str | os.PathLike[str] | None = None,
        listeners: Listeners | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leader = leader
        self._open = direct
        self._direct: Source | None = None
        self._chance = chance
        self._interval_s = interval_s
        self._file = None if path is None else Sealed(path, "a fleet")
        self._listeners = listeners or Listeners()
        self._monotonic = monotonic
        counted = _read(self._file)
        self._fleet = self._kept = counted or Fleet()
        self._is_counted = counted is not None
        self._due: float | None = None  # when to read directly next; `None` while we are led
        self._rest_due = 0.0  # when to read directly what was put off
        self._led_since: float | None = None  # without a break
        self.news: Callable[[], None] = lambda: None
        if isinstance(leader, Hearing):
            leader.news = self._hear
        self._was_direct = False
        self._closed = False

    @property
    def labels(self) -> tuple[str, ...]:
        """See `Source.labels`."""
        return self._leader.labels

    @property
    def fleet(self) -> Fleet:
        """What is known of the fleet."""
        return self._fleet

    def load(self, wanted: Wanted) -> Observation:
        """What the leader says; without one what there is, where it is our turn to look."""
        try:
            observation = self._leader.load(wanted)
        except SourceError:
            self._led_since = None
            if not self._is_our_turn():
                raise
            return self._read_directly(wanted)
        self._due, self._was_direct = None, False
        if self._led_since is None:
            self._led_since = self._monotonic()
        self._learn(observation, self._leader.followers)
        return observation

    def load_pending(self) -> Observation:
        """What the last load put off, of whoever made it; of a direct read at the fleet's pace."""
        if self._direct is None or not self._was_direct:
            return self._leader.load_pending()
        wait_s = self._rest_due - self._monotonic()
        if wait_s > 0:
            return replace(self._leader.load_pending(), pending=True, patience_s=wait_s)
        self._rest_due = self._monotonic() + self._fleet.lot_s
        fresh_for_s = 3 * self._fleet.pause_s(self._interval_s)
        return replace(self._direct.load_pending(), fresh_for_s=fresh_for_s)

    def seen(self, observed_at: float) -> None:
        """See `Ordered.seen`."""
        self._leader.seen(observed_at)

    def close(self) -> None:
        """See `Source.close`."""
        self._closed = True
        self._leader.close()
        if self._direct is not None:
            self._direct.close()

    def _hear(self) -> None:
        self.news()

    def _is_our_turn(self) -> bool:
        now = self._monotonic()
        if self._due is None:
            self._due = now + self._fleet.pause_s(self._interval_s) * self._chance.random()
            self._was_direct = False
        return now >= self._due and not self._closed

    def _read_directly(self, wanted: Wanted) -> Observation:
        if self._direct is None:
            self._direct = self._open()
        if not self._was_direct:
            self._say()
            self._rest_due = self._monotonic() + self._fleet.lot_s
        self._was_direct = True
        self._due = self._monotonic() + self._fleet.pause_s(self._interval_s)
        observation = self._direct.load(wanted)
        if any(reading.learned for reading in observation.clusters):
            self._leader.seen(observation.observed_at)
            self._learn(observation)
        pause_s = self._fleet.pause_s(self._interval_s)
        self._due = self._monotonic() + pause_s
        labels = (*self._leader.labels, *observation.labels, *self._direct.labels)
        return replace(observation, labels=tuple(dict.fromkeys(labels)), fresh_for_s=3 * pause_s)

    def _learn(self, observation: Observation, followers: int = 0) -> None:
        """Remember how large the fleet and its work are; on disk where they differ by much."""
        services = [s for reading in observation.clusters for s in reading.services]
        calls = calls_of(services) if services else 0
        since, known = self._led_since, self._fleet
        is_sure = since is not None and self._monotonic() - since >= SURE_S
        are_all_here = followers and (is_sure or not self._is_counted)
        are_all_read = all(r.complete and r.error is None for r in observation.clusters)
        self._fleet = Fleet(
            followers if are_all_here else max(followers, known.followers),
            calls if calls and are_all_read else max(calls, known.calls),
        )
        self._is_counted = self._is_counted or followers > 0
        before, now = self._kept, self._fleet
        if self._file is not None and (
            abs(now.followers - before.followers) * 10 > before.followers
            or abs(now.calls - before.calls) * 10 > before.calls
        ):
            self._kept = now
            with suppress(OSError):  # it makes us slower after a restart, or quicker by little
                self._file.write([msgspec.json.encode(now)])

    def _say(self) -> None:
        fleet, pause_s = self._fleet, self._fleet.pause_s(self._interval_s)
        self._listeners.emit(
            Noticed(
                f"nobody leads: ECS is read directly every {pause_s:.0f} s"
                f" ({fleet.followers} sidecars, {fleet.calls} calls each)"
            )
        )


def _read(file: Sealed | None) -> Fleet | None:
    try:
        return msgspec.json.decode(file.read(), type=Fleet) if file else None
    except (OSError, SourceMalformed, msgspec.DecodeError, UnicodeDecodeError):
        return None
