"""A pool: the endpoints of one service's port with their counters, and who serves among them.

Rule 1: the pool is rebuilt when it is given other endpoints or sides, when one is ejected or comes
back, and while somebody starts slowly; between these, choosing reads tuples that do not change.
Rule 2: counters survive from one snapshot to the next by the endpoint's identity and address.
Rule 3: writing takes the lock that was handed in; choosing takes none, unless it has to rebuild.
Rule 4: whoever was given a `Flight` ends it: `end` says how it went, `close` that its body is
closed. Both count once, however often they are called, and `close` takes no lock.
Rule 5: whoever chooses says the time; the clock that was handed in is for bodies that break off,
since whoever reads one has none.
"""

from bisect import bisect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf
from typing import Any, Self

from discovery.balancing.member import PENALTY_S, Member
from discovery.balancing.policy import Chance, MakePolicy, Policy
from discovery.balancing.subsets import LARGEST, subset
from discovery.balancing.zones import parts
from discovery.health.ejection import Ejection, Limits, Outcome, serving
from discovery.model import Endpoint, Identity

_ANSWERS: tuple[Outcome, ...] = ("answer", "limited", "error")
_RAMP_STEP_S = 0.5
_FIRST_PART = 0.1  # of its weight, that a new endpoint starts with
_TRIAL_PATIENCE_S = 5.0  # for a request that may be retried, before any other is the trial


@dataclass(frozen=True, slots=True)
class Balancing:
    """How traffic is spread, apart from the policy.

    `zone` is the caller's availability zone, whose endpoints come first; `callers` the parts of
    all callers by zone, equal where not known. `slow_start_s` is the time in which an endpoint
    that came later gets up to its whole weight. Of more than `subset` endpoints only that many
    are used.
    """

    zone: str | None = None
    callers: tuple[tuple[str, float], ...] = ()
    slow_start_s: float = 10.0
    subset: int = LARGEST
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class _Group:
    members: tuple[Member, ...]
    policy: Policy


_Sums = tuple[tuple[_Group, ...], tuple[float, ...]]


class Pool:
    """Chooses among endpoints and learns from how it went. See the module's rules for threads."""

    def __init__(
        self,
        make_policy: MakePolicy,
        chance: Chance,
        clock: Callable[[], float],
        balancing: Balancing | None = None,
        lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._make_policy = make_policy
        self._chance = chance
        self.clock = clock
        self._balancing = balancing or Balancing()
        self._lock = lock or nullcontext()
        self._ejection = Ejection(self._balancing.limits)
        self._client = f"{chance.random()}"
        self._endpoints: Sequence[Endpoint] | None = None
        self._known: dict[Identity, Member] = {}
        self._sides: Mapping[Identity, str] = {}
        self._policies: dict[tuple[str | None, str | None], Policy] = {}
        self._serving: tuple[Member, ...] = ()
        self._groups: _Sums = ((), ())
        self._until = inf
        self._trials: tuple[Member, ...] = ()
        self.members: tuple[Member, ...] = ()
        self.version = 0  # grows when members come or go
        self.ejections = 0  # from the start
        self.answered_at = -inf  # when last anybody answered, errors included

    def choose(
        self,
        endpoints: Sequence[Endpoint],
        now: float,
        key: str | None = None,
        tried: Collection[Member] = (),
        retriable: bool = True,
    ) -> Member:
        """A member for one of `endpoints`, which are never none. `now` is monotonic seconds.

        The same sequence object as last time means that nothing changed. None of `tried` is
        chosen while there is another. An ejected endpoint gets its trial with a request that is
        `retriable`, unless none comes.
        """
        if endpoints is not self._endpoints:
            self._update(endpoints, now)
        if now >= self._until:
            self._rebuild_at(now)
        if self._trials and (trial := self._trial(now, tried, retriable)):
            return trial
        groups, sums = self._groups
        if len(groups) == 1:
            group = groups[0]
        else:
            group = groups[bisect(sums, self._chance.random() * sums[-1], hi=len(sums) - 1)]
        member = group.policy.choose(group.members, now, key, tried)
        if member in tried and (others := [m for m in self._serving if m not in tried]):
            return others[self._chance.randrange(len(others))]
        return member

    def take(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """Take up these endpoints now, none too, for whoever looks at members without choosing."""
        if endpoints is not self._endpoints:
            self._update(endpoints, now)

    def divide(self, sides: Mapping[Identity, str]) -> None:
        """From now on each side gets the part of its endpoints' weights, however quick it is.

        For deployments that shift traffic: with two choices by latency a side would get more or
        less than is meant for it. None, or one, is the pool as a whole.
        """
        if sides != self._sides:
            with self._lock:
                self._sides = sides
                self._until = -inf

    def board(self, member: Member, now: float) -> "Flight":
        """Count a request to this member as under way from `now` on."""
        return Flight(self, member, now)

    def saw(self, flight: "Flight", outcome: Outcome, took_s: float, now: float) -> None:
        """Learn how a request went that took `took_s` to the headers of its answer, or to fail."""
        member, began_at = flight.member, flight.began_at
        with self._lock:
            if outcome in _ANSWERS:
                self.answered_at = now
            member.sample(_cost_s(member, outcome, took_s), now)
            standings = [m.standing for m in self.members]
            moved = self._ejection.saw(member.standing, outcome, began_at, now, standings)
            if moved and not member.gone:
                if member.standing.cause is None:
                    member.joined_at = now  # it starts slowly again
                else:
                    self.ejections += 1
                self._rebuild(now)

    def _update(self, endpoints: Sequence[Endpoint], now: float) -> None:
        with self._lock:
            if endpoints == self._endpoints:  # read again, and nothing changed
                self._endpoints = endpoints
                return
            # Who was there before our first look is not new, only unknown to us.
            joined_at = -inf if self._endpoints is None else now
            found = [self._member(endpoint, now, joined_at) for endpoint in endpoints]
            known = {member.endpoint.identity: member for member in found}
            for identity, member in self._known.items():
                member.gone = known.get(identity) is not member
            self._known = known
            self.members = tuple(known.values())
            self.version += 1
            self._rebuild(now)
            self._endpoints = endpoints

    def _member(self, endpoint: Endpoint, now: float, joined_at: float) -> Member:
        member = self._known.get(endpoint.identity)
        if member is None or _address(member.endpoint) != _address(endpoint):
            member = Member(endpoint, self._ejection.standing(), joined_at)
            member.sampled_at = now
        member.endpoint = endpoint
        return member

    def _rebuild_at(self, now: float) -> None:
        with self._lock:
            if now >= self._until:
                self._rebuild(now)

    def _rebuild(self, now: float) -> None:
        if not self.members:  # whoever is choosing in this moment still gets one of the last ones
            self._trials, self._until = (), inf
            return
        left = serving(self.members, [m.standing for m in self.members])
        wanted = [m for m in left if m.endpoint.weight > 0] or left
        ramp_ends = [m.joined_at + self._balancing.slow_start_s for m in wanted]
        whole = {id(m): self._weight(m, now) for m in wanted}
        mean = sum(whole.values()) / len(whole)
        for member in wanted:
            member.weight = whole[id(member)] / mean
        self._serving = tuple(wanted)
        self._groups = self._grouped(self._serving)
        self._trials = tuple(m for m in self.members if m.standing.awaits_trial(now))
        waits = [
            max(m.standing.until, m.standing.trial_until)
            for m in self.members
            if m.standing.cause is not None
        ]
        steps = [now + _RAMP_STEP_S] if any(end > now for end in ramp_ends) else []
        self._until = min((at for at in (*waits, *steps) if at > now), default=inf)

    def _weight(self, member: Member, now: float) -> float:
        slow_s = self._balancing.slow_start_s
        grown = 1.0 if slow_s <= 0 else min(1.0, (now - member.joined_at) / slow_s)
        whole = member.endpoint.weight if member.endpoint.weight > 0 else 1.0
        return whole * max(_FIRST_PART, grown)

    def _grouped(self, members: tuple[Member, ...]) -> _Sums:
        """By side first, whose parts are fixed, then by zone; latency decides within a group."""
        if self._policy(None, None).by_key:
            return (_Group(members, self._policy(None, None)),), (1.0,)
        by_side: dict[str | None, list[Member]] = {}
        for member in members:
            by_side.setdefault(self._side(member), []).append(member)
        found = [
            (group, part * share)
            for side, there in by_side.items()
            if (part := self._part(side)) > 0 or len(by_side) == 1
            for group, share in self._by_zone(side, there)
        ]
        return tuple(g for g, _ in found), tuple(accumulate(share for _, share in found))

    def _side(self, member: Member) -> str | None:
        return self._sides.get(member.endpoint.identity)

    def _part(self, side: str | None) -> float:
        """What is meant for a side, also while some of it are ejected or start slowly."""
        return sum(m.endpoint.weight for m in self.members if self._side(m) == side)

    def _by_zone(
        self, side: str | None, members: Sequence[Member]
    ) -> Iterator[tuple[_Group, float]]:
        own, most = self._balancing.zone, self._balancing.subset
        if own is None:
            yield _Group(subset(tuple(members), self._client, most), self._policy(side, None)), 1.0
            return
        by_zone: dict[str, list[Member]] = {}
        for member in members:
            by_zone.setdefault(member.endpoint.zone or "", []).append(member)
        capacity = {zone: sum(m.weight for m in there) for zone, there in by_zone.items()}
        for zone, share in parts(capacity, own, dict(self._balancing.callers)).items():
            few = subset(by_zone[zone], self._client, most)
            yield _Group(few, self._policy(side, zone)), share

    def _policy(self, side: str | None, zone: str | None) -> Policy:
        policy = self._policies.get((side, zone))
        if policy is None:
            policy = self._policies[side, zone] = self._make_policy(self._chance)
        return policy

    def _trial(self, now: float, tried: Collection[Member], retriable: bool) -> Member | None:
        with self._lock:
            for member in self._trials:
                patient = retriable or now >= member.standing.until + _TRIAL_PATIENCE_S
                if patient and member not in tried and member.standing.awaits_trial(now):
                    self._ejection.try_again(member.standing, now)
                    self._trials = tuple(m for m in self._trials if m is not member)
                    self._until = min(self._until, member.standing.trial_until)
                    return member
        return None

    def __repr__(self) -> str:
        flights = sum(m.in_flight for m in self.members)
        ejected = sum(m.standing.cause is not None for m in self.members)
        return f"<Pool: {len(self.members)} members, {flights} in flight, {ejected} ejected>"


class Flight:
    """A request under way to a member."""

    __slots__ = ("_closed", "_ended", "began_at", "member", "pool")

    def __init__(self, pool: Pool, member: Member, now: float) -> None:
        self.pool = pool
        self.member = member
        self.began_at = now
        self._ended = False
        self._closed = False
        member.flights.append(None)

    def end(self, outcome: Outcome, now: float) -> None:
        """Say how it went: an answer's headers came, or none will."""
        if not self._ended:
            self._ended = True
            self.pool.saw(self, outcome, now - self.began_at, now)

    def broke(self) -> None:
        """Its answer's body breaks off now, after it had been counted as an answer."""
        self.pool.saw(self, "broken", 0.0, self.pool.clock())

    @property
    def is_closed(self) -> bool:
        """Whether nothing of it is under way any more."""
        return self._closed

    def close(self) -> None:
        """Nothing of it is under way any more. Any thread, a finalizer too."""
        if not self._closed:
            self._closed = True
            self.member.flights.pop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _address(endpoint: Endpoint) -> tuple[str, int]:
    return endpoint.host, endpoint.port


def _cost_s(member: Member, outcome: Outcome, took_s: float) -> float:
    """What an outcome says of the latency to expect. Failing quickly is not being quick."""
    if outcome == "answer":
        return took_s
    usual_s = member.latency_s or 0.0
    if outcome == "limited":
        return max(took_s, 2 * usual_s)
    if outcome in ("error", "abandoned"):
        return max(took_s, usual_s)
    return max(took_s, PENALTY_S)
