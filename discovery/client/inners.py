"""One inner transport an endpoint, kept while the endpoint is there and closed after its last use.

The default pool of an HTTP client keeps twenty idle connections for all hosts together, which is
too few for many endpoints; and what an endpoint leaves behind must not linger. A connection over
TLS was checked for one server name, so each name has transports of its own.
"""

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from discovery.balancing.member import Member
from discovery.balancing.pool import Pool


class Inners:
    """The inner transports of one outer one. Returned lists are for the caller to close.

    Methods may be called from any thread. There is no lock, which a fork could leave held: each
    step on the dict is one that others see whole or not at all.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._by_use: dict[tuple[Member, str], Any] = {}
        self._versions: WeakKeyDictionary[Pool, int] = WeakKeyDictionary()

    def of(self, member: Member, server_name: str) -> Any:
        """The transport to this member, by the name that TLS checks; made where there is none."""
        found = self._by_use.get((member, server_name))
        if found is None:
            found = self._by_use.setdefault((member, server_name), self._make())
        return found

    def unused(self, pool: Pool) -> list[Any]:
        """The transports whose endpoints have left and which nothing is under way on."""
        if self._versions.get(pool) == pool.version:
            return []
        self._versions[pool] = pool.version
        return self._popped(lambda member: member.gone and not member.flights)

    def left(self, member: Member) -> list[Any]:
        """The transports of a member that has left, after its last request ended."""
        if not member.gone or member.flights:
            return []
        return self._popped(lambda other: other is member and not other.flights)

    def all(self) -> list[Any]:
        """Every transport; there are none afterwards."""
        return self._popped(lambda _: True)

    def __len__(self) -> int:
        return len(self._by_use)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._by_use.values()))

    def _popped(self, wanted: Callable[[Member], bool]) -> list[Any]:
        uses = [use for use in list(self._by_use) if wanted(use[0])]
        found = [self._by_use.pop(use, None) for use in uses]
        return [inner for inner in found if inner is not None]
