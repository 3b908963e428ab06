"""Which endpoint the requests of a name go to: of those that it leads to, one of its pool.

Rule 1: a name that leads nowhere makes no pool.
Rule 2: nothing here waits.
"""

from collections import Counter

from discovery.balancing.pool import Pool
from discovery.client.attempts import Route
from discovery.client.balancer import Balancer
from discovery.client.lookup import Found, Lookup
from discovery.errors import NoEndpoints
from discovery.model import Endpoint, Service

_MOST_REASONS = 5


class Picks:
    """Balances what was found. All methods may be called from any thread."""

    def __init__(self, lookup: Lookup, balancer: Balancer) -> None:
        self._lookup = lookup
        self._balancer = balancer

    def one(self, found: Found, key: str | None) -> Endpoint:
        """One endpoint, of which nothing is learned. Raises `NoEndpoints`."""
        endpoints = _some(found)
        pool, now = self._pool(found), self._balancer.clock()
        return pool.choose(endpoints, now, key, (), False).endpoint

    def route(self, found: Found, name: str, key: str | None) -> Route:
        """Where one request's attempts go, each by what is known then. Raises `NoEndpoints`."""

        def endpoints() -> tuple[Endpoint, ...]:
            return _some(self._lookup.glance(name) or found)

        _some(found)
        return self._balancer.route(self._pool(found), endpoints, key)

    def update(self, found: Found) -> None:
        """Have the pool's members be what was found."""
        endpoints = found.endpoints()
        self._pool(found).take(endpoints, self._balancer.clock())

    def _pool(self, found: Found) -> Pool:
        # After a fork the snapshot is another one, and so is everything that was found in it.
        if found.kept is None:
            found.kept = self._balancer.pool(found.pool)
            found.kept.divide(found.sides)
        return found.kept


def _some(found: Found) -> tuple[Endpoint, ...]:
    endpoints = found.endpoints()
    if not endpoints:
        raise NoEndpoints(found.service.full_name, _reasons(found.service))
    return endpoints


def _reasons(service: Service) -> list[str]:
    """Why nothing can be called, the most frequent reasons first, each with its count."""
    counted = Counter(exclusion.reason for exclusion in service.exclusions)
    most = counted.most_common(_MOST_REASONS)
    return [f"{count} × {reason}" if count > 1 else reason for reason, count in most]
