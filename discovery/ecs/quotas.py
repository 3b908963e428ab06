"""The budgets of this process: one for each account and region, shared by all who read there."""

import os
import threading

from discovery.ecs.budget import Standing, buckets

Identity = tuple[str, str]


class Budget:
    """The buckets of one identity in one region. All methods may be called from any thread."""

    def __init__(self, share: float) -> None:
        self._lock = threading.Lock()
        self._buckets = buckets(share)

    def take(self, group: str, now: float, patience_s: float) -> float | None:
        """Seconds to wait before a call; `None` where that is beyond its patience."""
        with self._lock:
            return self._buckets[group].take(now, patience_s)

    def throttled(self, group: str, started: float, now: float) -> float:
        """AWS throttled a call of the group that was started then: what is left of our share."""
        with self._lock:
            self._buckets[group].throttled(started, now)
            return self._buckets[group].factor

    def rest_s(self, group: str, now: float, count: int, saves: bool) -> float:
        """How long to rest before `count` calls: until all, or a lot, can be made at once."""
        with self._lock:
            bucket = self._buckets[group]
            return bucket.rest_s(now, count) if saves else bucket.standing(group, now).lot_s(count)

    def standings(self, now: float) -> tuple[Standing, ...]:
        """How every throttle group stands."""
        with self._lock:
            return tuple(each.standing(group, now) for group, each in self._buckets.items())

    def warm(self, is_cold: bool) -> None:
        """Use the steady share, or that of a first read."""
        with self._lock:
            for bucket in self._buckets.values():
                bucket.cold = is_cold


class _Registry:
    """All budgets of this process: several sources of one account share one quota."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew, also in the child of a fork, whose lock may never be freed."""
        self._lock = threading.Lock()
        self._budgets: dict[Identity, Budget] = {}

    def budget(self, identity: Identity, share: float) -> Budget:
        """The budget of an identity; the first to ask decides the share."""
        with self._lock:
            return self._budgets.setdefault(identity, Budget(share))

    def standings(self, now: float) -> dict[tuple[str, str], Standing]:
        """How all budgets stand, by endpoint and group; of several identities the one worst off."""
        with self._lock:
            budgets = tuple(self._budgets.items())
        found: dict[tuple[str, str], Standing] = {}
        for (_, endpoint), budget in budgets:
            for standing in budget.standings(now):
                key = endpoint, standing.group
                if key not in found or standing.tokens < found[key].tokens:
                    found[key] = standing
        return found


_registry = _Registry()
os.register_at_fork(after_in_child=_registry.forget)
budget_of = _registry.budget
standings = _registry.standings
