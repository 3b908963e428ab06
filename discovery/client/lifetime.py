"""When a connection through an upstream's port has to end, and whether cleanly.

Rule 1: a connection is owed something while bytes are held back for a slow reader, while the client
spoke last, or while one side has ended and the other has not. It is never ended cleanly then, since
a clean end says that all is complete.
Rule 2: one that should end (its task is stopping, or it is too old) ends in its next quiet moment,
and the longer it takes the shorter a moment counts as quiet; after the grace time it is cut.

Pure: `now` is an argument, in seconds of any clock that only grows.
"""

from dataclasses import dataclass
from typing import Literal

End = Literal["close", "cut"]
_SHORTEST_PART = 0.1  # of `quiet_s`, at the end of the grace time
_YOUNGEST_PART = 0.8  # of `age_s`


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """Seconds and counts of a listener. `age_s` is made shorter at random by up to a fifth.

    A quiet moment is `quiet_s` without a byte in either direction and nothing owed. `half_s` is how
    long nothing may pass once one side has ended. `connections` is the most at a time, fewer where
    the process may not open so many files.
    """

    connect_s: float = 0.5
    idle_s: float = 3_600.0
    half_s: float = 60.0
    age_s: float = 3_600.0
    quiet_s: float = 1.0
    grace_s: float = 20.0
    connections: int = 4_096
    sweep_s: float = 0.25


class Lifetime:
    """What a connection's end depends on; `chance` in [0, 1) spreads the ends of equal ages."""

    __slots__ = ("_ending_since", "_ends_at", "_limits", "asked", "moved_at")

    def __init__(self, limits: UpstreamLimits, now: float, chance: float) -> None:
        self._limits = limits
        self._ends_at = now + limits.age_s * (_YOUNGEST_PART + (1.0 - _YOUNGEST_PART) * chance)
        self._ending_since: float | None = None
        self.moved_at = now  # when the last byte passed
        self.asked = False  # whether it came from the client

    def end(self, now: float, *, leaving: bool, held: bool, half: bool) -> End | None:
        """How it ends now, if it does.

        `leaving` says that its task is going, `held` that bytes wait for a slow reader, `half` that
        one side has ended.
        """
        limits = self._limits
        if now - self.moved_at >= (min(limits.half_s, limits.idle_s) if half else limits.idle_s):
            return "cut" if self._is_owed(held, half) else "close"
        if leaving or now >= self._ends_at:
            self._ending_since = now if self._ending_since is None else self._ending_since
        if self._ending_since is None:
            return None
        spent = (now - self._ending_since) / limits.grace_s if limits.grace_s > 0 else 1.0
        if self.is_quiet(now, held=held, half=half, spent=spent):
            return "close"
        return "cut" if spent >= 1.0 else None

    def is_quiet(self, now: float, *, held: bool, half: bool, spent: float = 1.0) -> bool:
        """Whether ending it cleanly does no harm; `spent` is the part of the grace time."""
        enough_s = self._limits.quiet_s * max(_SHORTEST_PART, 1.0 - spent)
        return not self._is_owed(held, half) and now - self.moved_at >= enough_s

    def _is_owed(self, held: bool, half: bool) -> bool:
        return held or half or self.asked
