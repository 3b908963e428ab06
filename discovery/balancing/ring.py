"""Consistent hashing with bounded load: equal keys go to the same member while it can take them.

Every member has a fixed number of points for its weight, whatever the others have, so that one
that comes or goes moves only the keys it takes or leaves.
"""

from bisect import bisect
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import compress
from math import ceil
from operator import itemgetter
from typing import ClassVar

from discovery.balancing.member import Member
from discovery.balancing.policy import Chance

POINTS = 320  # for an endpoint of weight 1; with 160 some get over 1.2 times their part of the keys
MOST_POINTS = 32_000  # of one endpoint, however heavy
BOUND = 1.25  # times the mean of requests in flight, above which a key goes to the next member
_PER_DIGEST = 8


@dataclass(frozen=True, slots=True)
class _Kept:
    """The ring of these members, each with as many points as `counts` says, in order."""

    members: Sequence[Member] = ()
    counts: Mapping[Member, int] = field(default_factory=dict)
    points: Sequence[int] = ()
    owners: Sequence[Member] = ()


class Ring:
    """The member that a key belongs to; the next one on the ring where that is too busy."""

    by_key: ClassVar[bool] = True

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._kept = _Kept()  # one reference, so that threads swap it whole

    def choose(
        self,
        members: Sequence[Member],
        now: float = 0.0,
        key: str | None = None,
        tried: Collection[Member] = (),
    ) -> Member:
        """See `Policy.choose`. Without a key, any."""
        kept = self._kept
        if kept.members is not members:
            kept = self._kept = _followed(kept, members)
        hashed = _hash(key) if key is not None else int(self._chance.random() * 2**64)
        around = _distinct(kept.owners, bisect(kept.points, hashed))
        return _first_free(members, around, tried)


def _followed(kept: _Kept, members: Sequence[Member]) -> _Kept:
    """The ring of other members: those that stay keep their points, so only news costs much."""
    counts = {member: _count(member) for member in members}
    if counts == kept.counts:
        return replace(kept, members=members)
    stay = {member for member, count in counts.items() if kept.counts.get(member) == count}
    kept_on = [owner in stay for owner in kept.owners]
    news = sorted(
        ((p, m) for m, n in counts.items() if m not in stay for p in _points_of(_title(m), n)),
        key=itemgetter(0),
    )
    points, owners = list(compress(kept.points, kept_on)), list(compress(kept.owners, kept_on))
    return _Kept(members, counts, *_inserted(news, points, owners))


def _inserted(
    news: Sequence[tuple[int, Member]], points: list[int], owners: list[Member]
) -> tuple[list[int], list[Member]]:
    """Points in order, with others, in order too, among them; what lies between is copied whole."""
    all_points: list[int] = []
    all_owners: list[Member] = []
    done = 0
    for point, owner in news:
        at = bisect(points, point, done)
        all_points += points[done:at]
        all_owners += owners[done:at]
        all_points.append(point)
        all_owners.append(owner)
        done = at
    return all_points + points[done:], all_owners + owners[done:]


def _count(member: Member) -> int:
    # The endpoint's own weight: keys must not wander while a new member starts slowly.
    return max(1, min(MOST_POINTS, round(POINTS * member.endpoint.weight)))


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


def _distinct(owners: Sequence[Member], at: int) -> Iterator[Member]:
    seen = set()
    for n in range(at, at + len(owners)):
        owner = owners[n % len(owners)]
        if owner not in seen:
            seen.add(owner)
            yield owner


def _title(member: Member) -> str:
    return "\0".join(str(part) for part in member.endpoint.identity)


def _points_of(title: str, count: int) -> list[int]:
    """The first so many points of this title, always the same ones."""
    points: list[int] = []
    for n in range(-(-count // _PER_DIGEST)):
        digest = blake2b(f"{n}\0{title}".encode(), digest_size=8 * _PER_DIGEST).digest()
        points.extend(int.from_bytes(digest[at : at + 8]) for at in range(0, len(digest), 8))
    return points[:count]


def _hash(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest())
