"""Which endpoints of a pool are left out for what they did to us, and when they may try again.

Rule 1: an endpoint is ejected as `unreachable` (it refuses, or connections time out) or as
`failing` (it answers with errors, or not at all). At most half of a pool is ejected as failing.
Rule 2: an ejection lasts 10 s, doubling to 300 s; then one trial request decides.
Rule 3: panic: where fewer than half are left, those that are failing serve again, since an error
of everybody is nobody's own. The unreachable stay out as long as anything else can be reached.
Rule 4: what a request did that began before an ejection was over says nothing any more, however
late it comes: it neither ejects, nor lengthens an ejection, nor passes for the trial.

Pure: `now` is an argument, in seconds of any clock that only grows. One writer at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from discovery.balancing.window import Window

Outcome = Literal["answer", "limited", "abandoned", "error", "broken", "connect_timeout", "refused"]
Cause = Literal["unreachable", "failing"]

UNREACHABLE: tuple[Outcome, ...] = ("refused", "connect_timeout")
_WORDS: dict[Outcome, str] = {
    "refused": "refusals in a row",
    "connect_timeout": "connect timeouts in a row",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on an endpoint is ejected, and for how long."""

    refusals: int = 2
    connect_timeouts: int = 3
    failures: int = 5
    failing_part: float = 0.5
    least_requests: int = 20
    window_s: float = 10.0
    first_s: float = 10.0
    longest_s: float = 300.0


class Standing:
    """What one endpoint did lately, and whether it is ejected (`cause`), why and until when."""

    __slots__ = (
        "cause",
        "connect_timeouts",
        "failures",
        "lasts_s",
        "refusals",
        "returned_at",
        "trial_until",
        "until",
        "why",
        "window",
    )

    def __init__(self, limits: Limits) -> None:
        self.window = Window(limits.window_s)
        self.cause: Cause | None = None
        self.why = ""
        self.until = float("-inf")  # of the last ejection, over or not
        self.trial_until = 0.0  # a trial that has no result by then is given up
        self.lasts_s = 0.0
        self.returned_at = float("-inf")
        self.clear()

    def clear(self) -> None:
        """Nothing in a row."""
        self.refusals = self.connect_timeouts = self.failures = 0

    def awaits_trial(self, now: float) -> bool:
        """Whether it is ejected, has been so for long enough, and no trial is under way."""
        return self.cause is not None and self.until <= now and self.trial_until <= now


S = TypeVar("S")


class Ejection:
    """Judges outcomes. The standings are whoever's the pool is; nothing is kept here."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()

    def standing(self) -> Standing:
        """That of an endpoint of which nothing is known."""
        return Standing(self.limits)

    def saw(
        self,
        standing: Standing,
        outcome: Outcome,
        began_at: float,
        now: float,
        pool: Sequence[Standing],
    ) -> bool:
        """Take to account how a request went that began at `began_at`.

        Returns whether the endpoint left or came back through it.
        """
        if outcome == "abandoned" or began_at < standing.until:
            return False  # whoever gave up may have had reasons of their own
        if outcome in ("answer", "limited"):
            return self._good(standing, now)
        if standing.cause is not None:
            return self._failed_again(standing, outcome, now)
        standing.window.add(now, bad=1)
        standing.failures += 1
        standing.refusals = standing.refusals + 1 if outcome == "refused" else 0
        standing.connect_timeouts = (
            standing.connect_timeouts + 1 if outcome == "connect_timeout" else 0
        )
        verdict = self._verdict(standing, now, pool)
        if verdict is None or not _may_leave(verdict[0], pool):
            return False
        self._eject(standing, *verdict, now)
        return True

    def try_again(self, standing: Standing, now: float) -> None:
        """Begin its trial: the next outcome decides."""
        standing.trial_until = now + self.limits.first_s

    def _good(self, standing: Standing, now: float) -> bool:
        standing.clear()
        standing.window.add(now, good=1)
        if standing.cause is None:
            return False
        standing.cause = None
        standing.why = ""
        standing.returned_at = now
        standing.window = Window(self.limits.window_s)
        return True

    def _failed_again(self, standing: Standing, outcome: Outcome, now: float) -> bool:
        cause: Cause = "unreachable" if outcome in UNREACHABLE else "failing"
        self._eject(standing, cause, f"{standing.why.removesuffix(_STILL)}{_STILL}", now)
        return True

    def _verdict(
        self, standing: Standing, now: float, pool: Sequence[Standing]
    ) -> tuple[Cause, str] | None:
        limits = self.limits
        if standing.refusals >= limits.refusals:
            return "unreachable", f"{standing.refusals} {_WORDS['refused']}"
        if standing.connect_timeouts >= limits.connect_timeouts:
            return "unreachable", f"{standing.connect_timeouts} {_WORDS['connect_timeout']}"
        if standing.failures >= limits.failures:
            return "failing", f"{standing.failures} failures in a row"
        # The latest seconds alone may tell what the whole window does not yet.
        for total, bad in standing.window.recent(now):
            if total >= limits.least_requests and bad >= limits.failing_part * total:
                alone = not _is_shared(bad / total, standing, now, pool)
                return ("failing", f"{bad} of {total} requests failed") if alone else None
        return None

    def _eject(self, standing: Standing, cause: Cause, why: str, now: float) -> None:
        limits = self.limits
        # Who stayed in for twice as long as it was out last starts anew.
        well = now - standing.returned_at > 2 * standing.lasts_s and standing.cause is None
        lasts_s = limits.first_s if well else min(limits.longest_s, 2 * standing.lasts_s)
        standing.lasts_s = lasts_s
        standing.cause, standing.why = cause, why
        standing.until, standing.trial_until = now + lasts_s, 0.0


def _is_shared(part: float, standing: Standing, now: float, pool: Sequence[Standing]) -> bool:
    """Whether the others fail half as often, too, so that the fault is nobody's own."""
    others = [s.window for s in pool if s is not standing and s.cause is None]
    for window in others:
        window.move(now)
    total = sum(window.all for window in others)
    return total > 0 and 2 * sum(window.bad for window in others) >= part * total


_STILL = ", and again when tried"


def serving(members: Sequence[S], standings: Sequence[Standing]) -> list[S]:
    """Those that requests may go to, with panic as in rule 3. Never empty unless `members` is."""
    left = [m for m, s in zip(members, standings, strict=True) if s.cause is None]
    if 2 * len(left) >= len(members):
        return left
    reachable = [m for m, s in zip(members, standings, strict=True) if s.cause != "unreachable"]
    return reachable or list(members)


def _may_leave(cause: Cause, pool: Sequence[Standing]) -> bool:
    ejected = sum(s.cause is not None for s in pool)
    if ejected + 1 >= len(pool):
        return False
    failing = sum(s.cause == "failing" for s in pool)
    return cause == "unreachable" or 2 * (failing + 1) <= len(pool)
