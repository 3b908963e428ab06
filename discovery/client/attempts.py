"""One request, attempted until it has an answer or nothing more may be tried.

The conversation yields what to do: `Send` to a member, or `Pause`; it is sent how that went, and
returns what was tried once the last outcome is the one to hand on. Whoever drives it closes what it
got from an attempt that is followed by another.

Rule 1: a request is sent again only where nothing of it was sent, or where it is idempotent and
its body can be sent again.
Rule 2: at most two more attempts, on other endpoints while there are any, within the deadline and
the budget.
Rule 3: flights are closed here, but for the one whose answer is handed on: that one is left to
whoever reads the answer.
Rule 4: where no attempt got an answer, and yet the pool answered a moment ago, its tasks are being
replaced faster than we read, or than they start: then it goes on trying until they should be up.

Pure: clock and chance are arguments.
"""

from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass

from discovery.balancing.member import Member
from discovery.balancing.policy import Chance
from discovery.balancing.pool import Flight, Pool
from discovery.health.ejection import UNREACHABLE, Outcome
from discovery.model import Endpoint

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})  # RFC 9110 §9.2.2
_RETRIED = frozenset({500, 502, 503, 504})
_TOO_MANY = 429
_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Retrying:
    """How often and how long.

    `most` more attempts, none of which begins after `within_s` seconds; a request may have a
    deadline of its own, which also bounds each attempt. `patience_s` is for rule 4.
    """

    most: int = 2
    within_s: float = 10.0
    patience_s: float = 2.0
    first_pause_s: float = 0.025
    longest_pause_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Ask:
    """What has to be known of a request. `deadline_s` is from now on, `None` for none."""

    idempotent: bool
    replayable: bool = True
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request to this flight's member, and take no longer than `left_s`."""

    flight: Flight
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answered:
    """The headers of an answer came."""

    status: int
    retry_after_s: float | None = None

    @property
    def outcome(self) -> Outcome:
        """What it says of the endpoint."""
        if self.status == _TOO_MANY:
            return "limited"
        return "error" if self.status >= 500 else "answer"


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer came. `sent` says whether anything of the request may have been sent."""

    outcome: Outcome
    sent: bool
    retry_after_s: None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt: where it went, and what came of it in words."""

    endpoint: Endpoint
    result: str


Result = Answered | Failed
Attempting = Generator[Send | Pause, Result | None, tuple[Tried, ...]]


# Told of each endpoint that could not be connected to, and how that went.
Missed = Callable[[Endpoint, Outcome], None]


@dataclass(frozen=True, slots=True)
class Route:
    """Where attempts go: the pool, its endpoints as they are by now, and whom to tell of misses.

    `endpoints` is called again for each attempt, and may raise. `may_retry` asks the budget.
    """

    pool: Pool
    endpoints: Callable[[], tuple[Endpoint, ...]]
    may_retry: Callable[[float], bool]
    missed: Missed
    clock: Callable[[], float]
    chance: Chance
    key: str | None = None

    def board(
        self, endpoints: tuple[Endpoint, ...], tried: Collection[Member], retriable: bool
    ) -> Flight:
        """A flight to a member that was not tried yet, if there is one."""
        now = self.clock()
        member = self.pool.choose(endpoints, now, self.key, tried, retriable)
        return self.pool.board(member, now)

    def was_fine(self, within_s: float) -> bool:
        """Whether anything of the pool answered so lately."""
        return self.clock() - self.pool.answered_at < within_s


def attempts(route: Route, ask: Ask, retrying: Retrying) -> Attempting:
    """Attempt a request. Raises what `route.endpoints` raises, where there is nothing to try."""
    began_at = route.clock()
    ends_at = began_at + min(retrying.within_s, ask.deadline_s or retrying.within_s)
    members: list[Member] = []
    tried: list[Tried] = []
    again = ask.idempotent and ask.replayable
    left = retrying.most
    while True:
        known = route.endpoints()
        flight = route.board(known, members, again and left > 0)
        now = route.clock()
        left_s = None if ask.deadline_s is None else max(0.0, began_at + ask.deadline_s - now)
        result = yield from _flown(flight, left_s, route)
        members.append(flight.member)
        tried.append(Tried(flight.member.endpoint, _words(result)))
        if not _may_repeat(result, again):
            return tuple(tried)
        if left > 0:
            left -= 1
            pause_s = _pause_s(route, retrying, result, members)
        elif retrying.most and isinstance(result, Failed) and route.was_fine(retrying.patience_s):
            pause_s = _LOOK_S * (0.5 + route.chance.random())
            members.clear()
        else:
            return tuple(tried)
        now = route.clock()
        if now + pause_s >= ends_at or not route.may_retry(now):
            return tuple(tried)
        flight.close()
        if pause_s:
            yield Pause(pause_s)


def _flown(
    flight: Flight, left_s: float | None, route: Route
) -> Generator[Send | Pause, Result | None, Result]:
    try:
        result = yield Send(flight, left_s)
    except BaseException:
        # Broken off: that it took so long is known, and nothing more.
        flight.end("abandoned", route.clock())
        flight.close()
        raise
    assert result is not None
    flight.end(result.outcome, route.clock())
    if isinstance(result, Failed):
        flight.close()
    if result.outcome in UNREACHABLE:
        route.missed(flight.member.endpoint, result.outcome)
    return result


def _may_repeat(result: Result, again: bool) -> bool:
    if isinstance(result, Failed):
        return again or not result.sent
    return again and result.status in _RETRIED


def _pause_s(
    route: Route, retrying: Retrying, result: Result, members: Collection[Member]
) -> float:
    """None while there is another endpoint to try; else as asked for, or a growing jittered one."""
    if any(m not in members for m in route.pool.members if m.standing.cause is None):
        return 0.0
    if result.retry_after_s is not None:
        return result.retry_after_s
    grown_s = retrying.first_pause_s * 2.0 ** (len(members) - 1)
    return min(retrying.longest_pause_s, grown_s) * (0.5 + route.chance.random())


def _words(result: Result) -> str:
    if isinstance(result, Answered):
        return f"status {result.status}"
    return result.outcome.replace("_", " ")
