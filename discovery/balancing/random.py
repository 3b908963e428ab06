"""Weighted random choice: no state but the sums of the last pool's weights."""

from bisect import bisect
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import ClassVar

from discovery.balancing.member import Member
from discovery.balancing.policy import Chance, untried

_Sums = tuple[Sequence[Member], tuple[float, ...]]


class WeightedRandom:
    """Each member with a probability in proportion to its weight."""

    by_key: ClassVar[bool] = False

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._kept: _Sums = ((), ())  # one reference, so that threads swap it whole

    def choose(
        self,
        members: Sequence[Member],
        now: float = 0.0,
        key: str | None = None,
        tried: Collection[Member] = (),
    ) -> Member:
        """See `Policy.choose`."""
        if tried:
            members = untried(members, tried)
        pool, sums = self._kept
        if pool is not members:
            sums = tuple(accumulate(m.weight for m in members))
            self._kept = (members, sums)
        # `random()` is below 1, but rounding can bring the product up to the whole sum.
        return members[bisect(sums, self._chance.random() * sums[-1], hi=len(sums) - 1)]
