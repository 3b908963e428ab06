"""The owner of the evidence: connects where there is a reason to, and adjusts what is published.

Rule 1: nothing runs before the first `start`, and no thread before there is something to look at.
Rule 2: connecting is bounded: so many at once and a second, and a load waits for it for at most
`FIRST_S`, and only where tasks have just started.
Rule 3: evidence is swapped as a whole, so that it is read without a lock.
"""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Protocol

from discovery.catalog.connecting import Place, connected
from discovery.events import Checked, Listeners
from discovery.health.assessment import Assessment, assessed
from discovery.health.demotion import Demotions
from discovery.health.evidence import (
    Evidence,
    Outcome,
    Rules,
    Seen,
    Subject,
    after_looks,
    is_news,
    is_young,
    subject_of,
)
from discovery.health.probing import Standing
from discovery.model import Endpoint, Observation, Placement, Snapshot

_log = logging.getLogger("discovery")

FIRST_S = 1.0  # how long a load waits for tasks that have just started, all together
PAUSE_S = 0.5  # between rounds of looks
MOST_LOOKS = 200  # of one round
MOST_VERIFIED = 50  # of them those that only verify what is old, which no others crowd out
MOST_DOUBTS = 1_000
FORGET_S = 300.0  # an answer so old says nothing any more

Clock = Callable[[], float]


class Connect(Protocol):
    """Connects to places: `connected`, or what stands in for it."""

    def __call__(
        self, places: Iterable[Place], *, within_s: float = ...
    ) -> Mapping[Place, Outcome]:
        """What came of connecting to each place."""
        ...


class Companion(Protocol):
    """What gathers further evidence, and runs while the checks do."""

    def start(self) -> None:
        """Start, unless that was done."""
        ...

    def abandon(self) -> None:
        """End by itself, without blocking."""
        ...

    def close(self, timeout_s: float) -> None:
        """End, and wait for that."""
        ...

    def renew_after_fork(self) -> None:
        """In the child of a fork: threads are the parent's."""
        ...


class Checks:
    """Gathers evidence and applies it. Methods may be called from any thread.

    `adjust` is called, without a lock held, when what is published may have to change.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        listeners: Listeners | None = None,
        clock: Clock = time.time,
        connect: Connect = connected,
    ) -> None:
        self._rules = rules or Rules()
        self._listeners = listeners or Listeners()
        self._clock = clock
        self._connect = connect
        self._evidence = Evidence()
        self._read = Snapshot()
        self._found = Assessment()
        self._demotions = Demotions()
        self._pruned_at = 0.0
        self._doubts: deque[Subject] = deque(maxlen=MOST_DOUBTS)
        self._adjust: Callable[[], None] | None = None
        self._closed = False
        self.companion: Companion | None = None
        self.renew_after_fork()

    def renew_after_fork(self) -> None:
        """In the child of a fork: lock, queue and thread are the parent's."""
        self._lock = threading.Lock()
        self._pokes: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        if self.companion is not None:
            self.companion.renew_after_fork()

    @property
    def read(self) -> Snapshot:
        """What was read last, before anything was adjusted."""
        return self._read

    def adjusted(self, snapshot: Snapshot, now: float) -> Snapshot:
        """The snapshot as the evidence has it; an adjustment of the catalog."""
        self._read = snapshot
        found = self._assess(snapshot, now)
        if found.looks:
            self._wake()
        return self._demotions.applied(snapshot, found.verdicts)

    def _assess(self, snapshot: Snapshot, now: float) -> Assessment:
        """May be of two threads at a time: each goes on from a whole assessment."""
        self._found = found = assessed(snapshot, self._evidence, self._rules, now, self._found)
        return found

    def _assess_again(self) -> None:
        """What was read last; whatever is read meanwhile must not be left with looks of before."""
        read: Snapshot | None = None
        while read is not self._read:
            read = self._read
            self._assess(read, self._clock())

    def look_first(self, observation: Observation) -> None:
        """Look at tasks that started since the last load, before it is published."""
        now, seen = self._clock(), self._evidence.seen
        subjects = [
            subject
            for reading in observation.clusters
            for service in reading.services
            for endpoint in service.endpoints
            if endpoint.protocol == "tcp"
            and is_young(
                endpoint,
                service.placements.get(endpoint.task_arn or "", Placement()),
                self._rules,
                now,
            )
            and (subject := subject_of(endpoint)) not in seen
        ]
        if subjects:
            self._look(subjects, FIRST_S)

    def doubt(self, endpoint: Endpoint) -> None:
        """A caller could not connect to this endpoint: see for ourselves. Never waits."""
        self._doubts.append(subject_of(endpoint))
        self._wake()

    def stands(self, standings: Mapping[Subject, Standing]) -> None:
        """How probes stand by now; all others stay as they were."""
        with self._lock:
            probed = {**self._evidence.probed, **standings}
            changed = any(
                standing.is_failing != self._failed(subject)
                for subject, standing in standings.items()
            )
            self._evidence = replace(self._evidence, probed=probed)
        if changed:
            self._tell()

    def standing(self, subject: Subject) -> Standing:
        """How a probe stood last."""
        return self._evidence.probed.get(subject, Standing())

    def start(self, adjust: Callable[[], None]) -> None:
        """From now on look by ourselves, in a thread that starts when it has something to do."""
        self._adjust = adjust
        if self._found.looks or self._doubts:
            self._wake()
        if self.companion is not None:
            self.companion.start()

    def abandon(self) -> None:
        """Have the thread end by itself; takes no lock, never blocks."""
        self._closed = True
        self._pokes.put(None)
        if self.companion is not None:
            self.companion.abandon()

    def close(self, timeout_s: float = 5.0) -> None:
        """End the thread, and wait for it."""
        self.abandon()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)
        if self.companion is not None:
            self.companion.close(timeout_s)

    def _wake(self) -> None:
        if self._adjust is None or self._closed:
            return
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    thread = threading.Thread(
                        target=self._run, name="discovery-checks", daemon=True
                    )
                    self._thread = thread
                    thread.start()
        self._pokes.put(None)

    def _run(self) -> None:
        while not self._closed:
            self._sleep(self._pause_s())
            try:
                if not self._closed and self.round():
                    self._sleep_out(PAUSE_S)
            except Exception:  # a mistake of ours must not end the looking
                _log.exception("checking endpoints failed")
                self._sleep_out(1.0)

    def _pause_s(self) -> float | None:
        """Seconds until the next look; `None` while there is none."""
        if self._doubts:
            return 0.0
        first = min((look.at for look in self._found.looks), default=None)
        return None if first is None else min(60.0, max(0.0, first - self._clock()))

    def _sleep(self, pause_s: float | None) -> None:
        with contextlib.suppress(Empty):
            self._pokes.get(timeout=pause_s)
            while True:
                self._pokes.get_nowait()

    def _sleep_out(self, pause_s: float) -> None:
        """Sleep even if somebody pokes, so that no crowd of callers makes us hurry more."""
        ends_at = time.monotonic() + pause_s
        while not self._closed and (left_s := ends_at - time.monotonic()) > 0:
            with contextlib.suppress(Empty):
                self._pokes.get(timeout=left_s)

    def round(self) -> int:
        """Take in doubts, make the looks that are due, and have the result published.

        The number of looks. One caller at a time.
        """
        if self._take_doubts():
            self._assess_again()
        now = self._clock()
        due = [look for look in self._found.looks if look.at <= now]
        urgent = [look.subject for look in due if look.is_urgent]
        others = [look.subject for look in due if not look.is_urgent][:MOST_VERIFIED]
        subjects = [*urgent[: MOST_LOOKS - len(others)], *others]
        if subjects and self._look(subjects):
            self._tell()
        elif subjects:
            self._assess_again()
        return len(subjects)

    def _take_doubts(self) -> bool:
        taken: dict[Subject, float] = {}
        with contextlib.suppress(IndexError):
            while True:
                taken[self._doubts.popleft()] = self._clock()
        if taken:
            with self._lock:
                doubted = {**self._evidence.doubted, **taken}
                self._evidence = replace(self._evidence, doubted=doubted)
        return bool(taken)

    def _look(self, subjects: list[Subject], within_s: float = float("inf")) -> bool:
        """Connect to them; whether anything may follow from it that did not before."""
        began = time.monotonic()
        found = self._connect([(host, port) for _, host, port in subjects], within_s=within_s)
        seconds = time.monotonic() - began
        outcomes = {s: found[s[1:]] for s in subjects if s[1:] in found}
        now = self._clock()
        with self._lock:
            before = self._evidence
            self._evidence = after = after_looks(self._pruned(before, now), outcomes, now)
        for result, _ in found.values():
            self._listeners.emit(Checked("connect", result, seconds))
        return is_news(before, after, outcomes)

    def _pruned(self, evidence: Evidence, now: float) -> Evidence:
        """Without what is not there any more, and without answers that are long ago."""
        if 0 <= now - self._pruned_at < FORGET_S / 5:
            return evidence
        self._pruned_at = now
        there = {
            subject_of(e): self._read.read_at.get(key, s.observed_at)
            for key, s in self._read.services.items()
            for e in s.endpoints
        }
        recent = now - FORGET_S
        return Evidence(
            {
                subject: seen
                for subject, seen in evidence.seen.items()
                if seen.at > recent or (subject in there and _still_counts(seen, there[subject]))
            },
            {subject: at for subject, at in evidence.doubted.items() if subject in there},
            {
                subject: standing
                for subject, standing in evidence.probed.items()
                if subject in there
            },
            {subject: why for subject, why in evidence.untried.items() if subject in there},
        )

    def _failed(self, subject: Subject) -> bool:
        return self._evidence.probed.get(subject, Standing()).is_failing

    def _tell(self) -> None:
        if self._adjust is not None:
            self._adjust()


def _still_counts(seen: Seen, read_at: float) -> bool:
    """Whether what was seen long ago is still held against an endpoint that was read then."""
    return seen.result != "accepted" or (seen.refused_at is not None and seen.refused_at > read_at)
