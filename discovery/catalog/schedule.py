"""What a refresher does next, and when. It has one owner, which guards it by its lock.

Times are those of one monotonic clock, handed in; chance is an argument. A load that is due comes
before what the last one put off.
"""

import math

from discovery.balancing.policy import Chance
from discovery.catalog.pace import EARLY_S, Pace
from discovery.model import Observation

HURRY_S = 1.0  # the shortest pause between loads that hurried calls can bring about
NEWS_S = 0.2  # the pause before news of the source: what comes together is taken in together


class Schedule:
    """When the next load of all that is wanted is due, and the next of what was put off."""

    def __init__(self, interval_s: float, chance: Chance, now: float) -> None:
        self._pace = Pace(interval_s)
        self._chance = chance
        self._due = now
        self._began = -math.inf
        self._is_failing = False  # the last load learned nothing
        self._pending_at: float | None = None  # when to have the source read what it put off
        self._has_news = False  # the source heard of something since it was last asked

    def is_due(self, now: float) -> bool:
        """Whether all that is wanted is to be loaded."""
        return now >= self._due

    def load_in_s(self, now: float, is_urgent: bool) -> float:
        """Seconds until a load; new names that are urgent do not wait for the others' turn."""
        if is_urgent:
            return max(0.0, self._began + HURRY_S - now) if self._is_failing else 0.0
        return max(0.0, self._due - now)

    def pending_in_s(self, now: float) -> float:
        """Seconds until the source is asked for what it put off."""
        return math.inf if self._pending_at is None else max(0.0, self._pending_at - now)

    def at_once(self, now: float) -> None:
        """Have a load be due."""
        self._due = min(self._due, now)

    def hurry(self, now: float) -> None:
        """Have a load be due soon; how often that is said makes no difference."""
        self._due = min(self._due, max(now, self._began + HURRY_S))

    def hear(self, now: float) -> None:
        """The source has heard of changes by itself."""
        self._has_news = True
        soon = now + NEWS_S
        self._pending_at = min(self._pending_at or soon, soon)

    def begin(self, now: float, everything: bool) -> None:
        """A load begins: of all that is wanted, or of new names only."""
        self._began = now
        if everything:
            self._due = math.inf  # whoever hurries from here on wants another load

    def end(self, observation: Observation, everything: bool, doubted: bool, now: float) -> float:
        """A load has ended; the seconds that it took."""
        pace = self._pace.after(observation, doubted, self._chance)
        self._is_failing = pace.failures > 0
        if everything:
            self._pace = pace
        if everything or doubted:
            self._due = min(self._due, now + pace.pause_s)
        # else only new names were read, and the others' turn comes when it would have come
        self._put_off(observation, now)
        return now - self._began

    def begin_pending(self) -> None:
        """The source is asked for what it put off."""
        self._pending_at, self._has_news = None, False

    def end_pending(self, observation: Observation, doubted: bool, now: float) -> None:
        """It has said that."""
        self._put_off(observation, now)
        if doubted:
            self._due = min(self._due, now + EARLY_S)

    def renew_after_fork(self, now: float, interval_s: float) -> None:
        """In the child of a fork, which has no news and loads by itself within an interval."""
        self._due = min(self._due, now + interval_s)
        self.begin_pending()

    def _put_off(self, observation: Observation, now: float) -> None:
        if observation.pending:
            self._pending_at = now + max(EARLY_S, observation.patience_s)
        elif not self._is_failing:  # who learned nothing knows of nothing that was put off, either
            self._pending_at = None
        if self._has_news:
            self._pending_at = now + NEWS_S
