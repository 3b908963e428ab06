"""Two distinct choices, the one that is likely to answer sooner; the default policy.

cost = (L + ε) · (requests in flight / weight + 1), with L the mean time to an answer's headers.
The first choice goes round by weight, the second is random, the first wins a tie.

* L is drawn to the pool's median by its lack of evidence, so a member that is not used for a while
  becomes an ordinary one again and gets a request to prove it.
* A member whose L is near the median counts as ordinary: such differences are mostly noise, and
  following them has all clients chase the same lucky few.
"""

from collections.abc import Collection, Sequence
from math import exp
from statistics import median
from typing import ClassVar

from discovery.balancing.least_request import another
from discovery.balancing.member import MEMORY_S, Member
from discovery.balancing.policy import Chance, untried
from discovery.balancing.round_robin import RoundRobin

EPSILON_S = 0.001  # what is faster than this differs by chance
ORDINARY = 1.35  # this many times the median, or a part of it, is ordinary
DOUBT = 1.3  # how many samples of the median every member is thought to have had
_MEDIAN_EVERY_S = 0.5
_Kept = tuple[Sequence[Member], float, float]


class Latency:
    """The member with less to wait for, of two."""

    by_key: ClassVar[bool] = False

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._round = RoundRobin(chance)
        self._kept: _Kept = ((), 0.0, 0.0)  # members, their median, until when it holds

    def choose(
        self,
        members: Sequence[Member],
        now: float,
        key: str | None = None,
        tried: Collection[Member] = (),
    ) -> Member:
        """See `Policy.choose`."""
        if tried:
            members = untried(members, tried)
        first = self._round.choose(members)
        if len(members) == 1:
            return first
        pool, usual_s, until = self._kept
        if pool is not members or now >= until:
            usual_s = _median_s(members)
            self._kept = (members, usual_s, now + _MEDIAN_EVERY_S)
        second = another(members, first, self._chance)
        if cost(second, usual_s, now) < cost(first, usual_s, now):
            return second
        return first


def cost(member: Member, usual_s: float, now: float) -> float:
    """The seconds that a request to this member is likely to take, and others to lose by it."""
    fade = exp((member.sampled_at - now) / MEMORY_S) if member.sampled_at < now else 1.0
    evidence = member.evidence * fade + DOUBT
    latency_s = (member.total_s * fade + usual_s * DOUBT) / evidence
    expected_s, ordinary_s = latency_s + EPSILON_S, usual_s + EPSILON_S
    if ordinary_s < expected_s * ORDINARY and expected_s < ordinary_s * ORDINARY:
        expected_s = ordinary_s
    return expected_s * (len(member.flights) / member.weight + 1.0)


def _median_s(members: Sequence[Member]) -> float:
    known = [m.total_s / m.evidence for m in members if m.evidence]
    return median(known) if known else 0.0
