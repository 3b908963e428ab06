"""Weighted round robin by static strides, as gRPC does it (its A58, "static stride scheduler").

The only state is a counter that moves on atomically. Its quotient by the number of members is a
generation, its remainder a candidate; a candidate of weight w is taken in w / max of the
generations, spread evenly, and skipped in the others.
"""

from collections.abc import Collection, Sequence
from itertools import count
from typing import ClassVar

from discovery.balancing.member import Member
from discovery.balancing.policy import Chance, untried

_FULL = 65_535  # the scaled weight of the heaviest member, which no generation skips
_HALF = _FULL // 2
_START = 1 << 20


class RoundRobin:
    """One member after the other, as often as its weight says, from a random start."""

    by_key: ClassVar[bool] = False

    def __init__(self, chance: Chance) -> None:
        self._turns = count(chance.randrange(_START))
        self._kept: tuple[Sequence[Member], tuple[int, ...] | None] = ((), None)

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
        pool, weights = self._kept
        if pool is not members:
            weights = _scaled(members)
            self._kept = (members, weights)
        size = len(members)
        if weights is None:
            return members[next(self._turns) % size]
        while True:
            generation, at = divmod(next(self._turns), size)
            if _takes(weights[at], at, generation):
                return members[at]


def _takes(weight: int, at: int, generation: int) -> bool:
    # Offsets by half a turn keep members of equal weight from all skipping the same generation.
    return (weight * generation + at * _HALF) % _FULL >= _FULL - weight


def _scaled(members: Sequence[Member]) -> tuple[int, ...] | None:
    """Weights scaled so that the greatest is `_FULL`; `None` where all are equal."""
    weights = [m.weight for m in members]
    greatest = max(weights)
    if min(weights) == greatest:
        return None
    return tuple(max(1, round(_FULL * w / greatest)) for w in weights)
