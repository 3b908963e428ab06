"""When to load next. Pure: chance is an argument, and times are durations."""

from collections.abc import Sequence
from dataclasses import dataclass

from discovery.balancing.policy import Chance
from discovery.errors import SourceError, SourceThrottled
from discovery.model import Observation

JITTER = 0.1  # of an interval, either way, so that many processes do not ask in step
EARLY_S = 1.0  # the pause where more can be had at once, or a second read has to agree
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 10.0  # the end of an outage is to be noticed as soon as any other change
LONGEST_REST_S = 30.0  # where we were asked to slow down


@dataclass(frozen=True, slots=True)
class Pace:
    """The pause before the next load, and how many loads have failed in a row."""

    interval_s: float
    pause_s: float = 0.0
    failures: int = 0

    def after(self, observation: Observation, doubted: bool, chance: Chance) -> "Pace":
        """The pace after a load: the interval, sooner or later where there is a reason."""
        errors = [r.error for r in observation.clusters if r.error is not None]
        if errors and not any(r.learned for r in observation.clusters):
            failures = self.failures + 1
            pause_s = _retry_s(self.interval_s, failures, errors, chance)
            return Pace(self.interval_s, max(pause_s, observation.rest_s), failures)
        pause_s = self.interval_s if observation.again_s is None else observation.again_s
        if doubted:
            pause_s = min(pause_s, EARLY_S)
        pause_s = max(pause_s, observation.rest_s)
        return Pace(self.interval_s, pause_s * (1 + JITTER * (2 * chance.random() - 1)))


def _retry_s(
    interval_s: float, failures: int, errors: Sequence[SourceError], chance: Chance
) -> float:
    """Doubling from a second, or from the interval where we were asked to slow down."""
    throttled = any(isinstance(error, SourceThrottled) for error in errors)
    first_s = max(FIRST_RETRY_S, interval_s) if throttled else FIRST_RETRY_S
    ceiling_s = max(LONGEST_REST_S if throttled else LONGEST_RETRY_S, interval_s)
    longest_s = min(ceiling_s, first_s * 2.0 ** min(failures - 1, 16))
    return longest_s * (0.5 + 0.5 * chance.random())
