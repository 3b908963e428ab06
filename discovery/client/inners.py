"""One inner transport an endpoint, kept while the endpoint is there and closed after its last use.

The default pool of an HTTP client keeps twenty idle connections for all hosts together, which is
too few for many endpoints; and what an endpoint leaves behind must not linger. A connection over
TLS was checked for one server name, so each name has transports of its own.
"""

import threading
from collections.abc import Callable
from typing import Any

from discovery.balancing.member import Member
from discovery.balancing.pool import Pool


class Inners:
    """The inner transports of one outer one. Returned lists are for the caller to close.

    Methods may be called from any thread and take a lock for a moment; nothing is opened or
    closed under it.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._by_use: dict[tuple[Member, str], Any] = {}
        self._versions: dict[Pool, int] = {}

    def of(self, member: Member, server_name: str) -> Any:
        """The transport to this member, by the name that TLS checks; made where there is none."""
        found = self._by_use.get((member, server_name))
        if found is None:
            made = self._make()
            with self._lock:
                found = self._by_use.setdefault((member, server_name), made)
        return found

    def unused(self, pool: Pool) -> list[Any]:
        """The transports whose endpoints have left and which nothing is under way on."""
        if self._versions.get(pool) == pool.version:
            return []
        self._versions[pool] = pool.version
        return self._pop()

    def left(self, member: Member) -> list[Any]:
        """The transports of a member that has left, after its last request ended."""
        return self._pop(member) if member.gone and not member.flights else []

    def all(self) -> list[Any]:
        """Every transport; there are none afterwards."""
        with self._lock:
            every = list(self._by_use.values())
            self._by_use.clear()
        return every

    def __len__(self) -> int:
        return len(self._by_use)

    def _pop(self, only: Member | None = None) -> list[Any]:
        with self._lock:
            gone = [
                use
                for use in self._by_use
                if use[0].gone and not use[0].flights and only in (None, use[0])
            ]
            return [self._by_use.pop(use) for use in gone]
