"""How many retries a process may make: a part of its requests, and a few a second in any case.

In an outage every request fails, and retrying each of them twice would treble the load on whatever
still stands. Pure: the time is an argument. One writer at a time.
"""

from discovery.balancing.window import Window

PART = 0.2
RESERVE_PER_S = 1.0
SPAN_S = 10.0


class RetryBudget:
    """A fifth of the last ten seconds' requests, and one a second."""

    def __init__(
        self, part: float = PART, reserve_per_s: float = RESERVE_PER_S, span_s: float = SPAN_S
    ) -> None:
        self._part = part
        self._reserve = reserve_per_s * span_s
        self._window = Window(span_s)

    def count(self, now: float) -> None:
        """A request that is no retry."""
        self._window.add(now, good=1)

    def take(self, now: float) -> bool:
        """Whether one more retry may be made now; it is counted if so."""
        window = self._window
        window.move(now)
        if window.bad + 1 > self._part * (window.all - window.bad) + self._reserve:
            return False
        window.add(now, bad=1)
        return True
