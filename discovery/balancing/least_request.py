"""Two distinct choices, the one with fewer requests in flight for its weight.

The first choice goes round by weight, the second is random, and the first wins a tie: without load
this is round robin exactly, and under load it is the power of two choices.
"""

from collections.abc import Collection, Sequence
from typing import ClassVar

from discovery.balancing.member import Member
from discovery.balancing.policy import Chance, untried
from discovery.balancing.round_robin import RoundRobin


class LeastRequest:
    """The less busy of two members."""

    by_key: ClassVar[bool] = False

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._round = RoundRobin(chance)

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
        first = self._round.choose(members)
        if not first.flights or len(members) == 1:
            return first
        second = another(members, first, self._chance)
        busy = len(second.flights) / second.weight < len(first.flights) / first.weight
        return second if busy else first


def another(members: Sequence[Member], first: Member, chance: Chance) -> Member:
    """A member chosen at random that is not the first; there are two at least."""
    second = members[int(chance.random() * len(members))]
    while second is first:
        second = members[int(chance.random() * len(members))]
    return second
