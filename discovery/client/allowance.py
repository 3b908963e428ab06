"""The retries that this process may make: one budget for all of its resolvers.

What still stands in an outage feels a process's retries together, however many resolvers make them.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from discovery.balancing.budget import RetryBudget

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Spent:
    """How many requests there were, how many retries, and how many of these were not allowed."""

    requests: int = 0
    retries: int = 0
    refused: int = 0


class Allowance:
    """A budget that threads share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._budget = RetryBudget()
        self._requests = self._retries = self._refused = 0

    def count(self, now: float) -> None:
        """A request that is no retry."""
        with self._lock:
            self._requests += 1
            self._budget.count(now)

    def take(self, now: float) -> bool:
        """Whether one more retry may be made now; it is counted if so."""
        with self._lock:
            allowed = self._budget.take(now)
            self._retries += allowed
            self._refused += not allowed
            return allowed

    @property
    def spent(self) -> Spent:
        """What was counted from the start."""
        with self._lock:
            return Spent(self._requests, self._retries, self._refused)


class _Registry:
    """One for each clock, as the times of two cannot be compared; a process has but one."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew, also in the child of a fork, whose lock may never be freed."""
        self._lock = threading.Lock()
        self._allowances: WeakKeyDictionary[Clock, Allowance] = WeakKeyDictionary()

    def allowance(self, clock: Clock) -> Allowance:
        """The allowance of all who go by this clock."""
        with self._lock:
            return self._allowances.setdefault(clock, Allowance())


_registry = _Registry()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_registry.forget)
allowance_by = _registry.allowance
