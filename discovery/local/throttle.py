"""Token buckets as the real API has them: each group has one per account and region."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from discovery.local.errors import ApiError


@dataclass(frozen=True, slots=True)
class Group:
    """A bucket's size and its refill per second."""

    name: str
    burst: float
    rate_per_s: float


_RESOURCES = Group("cluster resources", 100, 20)
_SERVICES = Group("cluster services", 100, 20)
_DEFINITIONS = Group("task definitions", 50, 20)
_CLUSTERS = Group("clusters", 50, 20)

GROUPS = {
    "ListTasks": _RESOURCES,
    "DescribeTasks": _RESOURCES,
    "ListContainerInstances": _RESOURCES,
    "DescribeContainerInstances": _RESOURCES,
    "ListServices": _SERVICES,
    "DescribeServices": _SERVICES,
    "DescribeTaskDefinition": _DEFINITIONS,
    "ListClusters": _CLUSTERS,
    "DescribeClusters": _CLUSTERS,
}


class Throttle:
    """The buckets of one server; `enabled` may be changed at any time."""

    def __init__(self, clock: Callable[[], float], enabled: bool = True) -> None:
        self._clock = clock
        self._levels: dict[tuple[str, str], tuple[float, float]] = {}
        self.enabled = enabled

    def take(self, owner: str, operation: str) -> None:
        """Take a token for a call of `owner` (account and region), or ThrottlingException."""
        group = GROUPS.get(operation)
        if group is None or not self.enabled:
            return
        now = self._clock()
        level, since = self._levels.get((owner, group.name), (group.burst, now))
        level = min(group.burst, level + (now - since) * group.rate_per_s)
        if level < 1:
            self._levels[owner, group.name] = (level, now)
            raise ApiError("ThrottlingException", "Rate exceeded")
        self._levels[owner, group.name] = (level - 1, now)

    def reset(self) -> None:
        """Fill every bucket."""
        self._levels.clear()
