"""What a balancing policy is: it chooses one member of several.

Rule 1: a policy decides and nothing else: chance and time are given to it, and the counters that
it compares (requests in flight, latency) belong to the members' pool.
Rule 2: one policy serves one pool (a service's port), so its state never mixes two pools.
Rule 3: `choose` is called from any thread, often; it takes no lock and never blocks.
"""

from collections.abc import Callable, Collection, Sequence
from typing import ClassVar, Protocol

from discovery.balancing.member import Member


class Chance(Protocol):
    """Where randomness comes from; `random.Random` is one."""

    def random(self) -> float:
        """A number from 0 up to, but not including, 1."""
        ...

    def randrange(self, stop: int, /) -> int:
        """A whole number from 0 up to, but not including, `stop`."""
        ...


class Policy(Protocol):
    """Chooses among the members of one pool.

    `by_key` says that the key decides and equal keys belong together, so that the pool neither
    divides its members by zone nor takes some of them only.
    """

    by_key: ClassVar[bool]

    def choose(
        self,
        members: Sequence[Member],
        now: float,
        key: str | None = None,
        tried: Collection[Member] = (),
    ) -> Member:
        """One of `members`, which are never none; none of `tried` while there is another.

        The same sequence object as last time means that neither members nor weights changed, so
        what is computed from one may be kept. Weights are over 0. `now` is monotonic seconds.
        """
        ...


MakePolicy = Callable[[Chance], Policy]


def untried(members: Sequence[Member], tried: Collection[Member]) -> Sequence[Member]:
    """The members but those tried; all where all were tried."""
    return tuple(m for m in members if m not in tried) or members
