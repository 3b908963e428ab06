"""How soon a source wishes to read again, by what each of its clusters came to the last time.

Soon while deployments run, and rarely while events tell all that happens but health.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from discovery.ecs.conversation import Outcome

ROLLING_S = 5.0
SWEEP_S = 27.0  # with its jitter under 30 s


def again_s(lasts: Sequence[Outcome | None], is_hearing: bool, interval_s: float) -> float | None:
    """The seconds from one read to the next, where those of the interval do not suit.

    `is_hearing`: the queue of events answers. A cluster that was never read has no last outcome.
    """
    if is_quiet(lasts, is_hearing):
        return max(SWEEP_S, interval_s)
    is_rolling = any(last is not None and last.is_rolling for last in lasts)
    return min(ROLLING_S, interval_s) if is_rolling and not _is_told(lasts, is_hearing) else None


def is_quiet(lasts: Sequence[Outcome | None], is_hearing: bool) -> bool:
    """Whether events tell what happens in every cluster, and nothing is on its way in any."""
    busy = (last is not None and (last.is_rolling or last.is_starting) for last in lasts)
    return _is_told(lasts, is_hearing) and not any(busy)


def _is_told(lasts: Sequence[Outcome | None], is_hearing: bool) -> bool:
    return is_hearing and all(last is not None and last.is_told for last in lasts)


@dataclass(slots=True)
class Rest:
    """The rest after a sweep, and its cycle: how long the sweep and the rest take together.

    Times are seconds; `clock` gives those since the epoch. Used by one thread.
    """

    clock: Callable[[], float]
    longest_s: float = 0.0
    cycle_s: float = 0.0
    _until: float = field(default=-inf)

    @property
    def left_s(self) -> float:
        """What is left of it; a clock that was set back does not make it longer."""
        return min(self.longest_s, max(0.0, self._until - self.clock()))

    def begin(self, rest_s: float, sweep_s: float) -> None:
        """A sweep has ended that took so long.

        One of a few new names shortens neither the rest after the one before it nor its cycle.
        """
        left_s = self.left_s
        self.longest_s = max(left_s, rest_s)
        self._until = self.clock() + self.longest_s
        self.cycle_s = max(self.longest_s + sweep_s, self.cycle_s if left_s else 0.0)
