"""How long answers take lately, and from when on one is late. Pure: times are arguments.

What was broken off counts with the time that it had taken by then: it would have taken longer, so
leaving it out would have ever more requests look late.
"""

from collections import deque
from dataclasses import dataclass

_EVERY = 16  # the part of all times is worked out anew after so many


@dataclass(frozen=True, slots=True)
class Hedging:
    """Which requests count as late: those that took longer than `part` of the last `span` did.

    Nothing is late before `least` times are known.
    """

    part: float = 0.95
    least: int = 50
    span: int = 500


class Pace:
    """The last times to an answer's headers of one pool. Any thread may note and ask.

    `late_s` is from when on a request is late.
    """

    def __init__(self, hedging: Hedging) -> None:
        self._hedging = hedging
        self._times: deque[float] = deque(maxlen=hedging.span)
        self._noted = 0
        self.late_s: float | None = (
            None  # from when on a request is late; `None` before it is known
        )

    def note(self, took_s: float) -> None:
        """Take one time into account."""
        self._times.append(took_s)
        self._noted += 1
        is_known = self._noted >= self._hedging.least
        if is_known and (self.late_s is None or self._noted % _EVERY == 0):
            times = sorted(self._times.copy())
            self.late_s = times[min(len(times) - 1, int(self._hedging.part * len(times)))]
