"""Consistent hashing with bounded load: equal keys go to the same member while it can take them.

Every member has a fixed number of points for its weight, whatever the others have, so that one
that comes or goes moves only the keys it takes or leaves.
"""

from bisect import bisect
from collections.abc import Collection, Iterator, Sequence
from hashlib import blake2b
from math import ceil
from typing import ClassVar

from discovery.balancing.member import Member
from discovery.balancing.policy import Chance

POINTS = 320  # for an endpoint of weight 1; with 160 some get over 1.2 times their part of the keys
MOST_POINTS = 32_000  # of one endpoint, however heavy
BOUND = 1.25  # times the mean of requests in flight, above which a key goes to the next member
_PER_DIGEST = 8
_Kept = tuple[Sequence[Member], list[int], list[Member]]


class Ring:
    """The member that a key belongs to; the next one on the ring where that is too busy."""

    by_key: ClassVar[bool] = True

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._kept: _Kept = ((), [], [])
        self._points: dict[str, list[int]] = {}

    def choose(
        self,
        members: Sequence[Member],
        now: float = 0.0,
        key: str | None = None,
        tried: Collection[Member] = (),
    ) -> Member:
        """See `Policy.choose`. Without a key, any."""
        pool, points, owners = self._kept
        if pool is not members:
            points, owners = self._ring(members)
            self._kept = (members, points, owners)
        at = bisect(points, _hash(key) if key is not None else int(self._chance.random() * 2**64))
        return _first_free(members, _distinct(owners, at), tried)

    def _ring(self, members: Sequence[Member]) -> tuple[list[int], list[Member]]:
        known, kept = self._points, {}
        ring: list[tuple[int, int]] = []
        for n, member in enumerate(members):
            # The endpoint's own weight: keys must not wander while a new member starts slowly.
            wanted = max(1, min(MOST_POINTS, round(POINTS * member.endpoint.weight)))
            title = _title(member)
            points = known.get(title, [])
            if len(points) < wanted:
                points = _points_of(title, wanted)
            kept[title] = points
            ring.extend((point, n) for point in points[:wanted])
        self._points = kept
        ring.sort()
        return [point for point, _ in ring], [members[n] for _, n in ring]


def _first_free(
    members: Sequence[Member], around: Iterator[Member], tried: Collection[Member]
) -> Member:
    first: Member | None = None
    most: int | None = None
    for member in around:
        if member in tried:
            continue
        first = first or member
        busy = len(member.flights)
        if not busy:
            return member
        if most is None:
            most = ceil(BOUND * (sum(len(m.flights) for m in members) + 1) / len(members))
        if busy < most:
            return member
    return first or members[0]


def _distinct(owners: list[Member], at: int) -> Iterator[Member]:
    seen = set()
    for n in range(at, at + len(owners)):
        owner = owners[n % len(owners)]
        if owner not in seen:
            seen.add(owner)
            yield owner


def _title(member: Member) -> str:
    return "\0".join(str(part) for part in member.endpoint.identity)


def _points_of(title: str, wanted: int) -> list[int]:
    points: list[int] = []
    for n in range(-(-wanted // _PER_DIGEST)):
        digest = blake2b(f"{n}\0{title}".encode(), digest_size=8 * _PER_DIGEST).digest()
        points.extend(int.from_bytes(digest[at : at + 8]) for at in range(0, len(digest), 8))
    return points


def _hash(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest())
