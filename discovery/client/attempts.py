"""One request, attempted until it has an answer or nothing more may be tried.

The conversation yields what to do: `Send` to a member, or `Pause`; it is sent how that went, and
returns what was tried once the last outcome is the one to hand on. Whoever drives it closes what it
got from an attempt that is followed by another.

Hedging (Dean and Barroso, "The Tail at Scale", 2013): a driver that can wait for two at once may be
given a `Hedge` with what to send. Once the first took longer than most do, the same request goes to
another endpoint as well, out of the same budget, and whoever answers first is taken.

Rule 1: a request is sent again only where nothing of it was sent, or where it is idempotent and
its body can be sent again.
Rule 2: at most two more attempts, on other endpoints while there are any, within the deadline and
the budget.
Rule 3: flights are closed here, but for the one whose answer is handed on: that one is left to
whoever reads the answer. An answer is given up only when there is somewhere else to go.
Rule 4: where attempts went by without being sent, as nobody could be connected to, and yet the pool
answered a moment ago, its tasks are being replaced faster than we read, or than they start: then it
goes on until they should be up. However long that takes, a request is sent no more often than by
rule 2.

Pure: clock and chance are arguments.
"""

from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from math import inf

from discovery.balancing.member import Member
from discovery.balancing.policy import Chance
from discovery.balancing.pool import Flight, Pool
from discovery.client.pace import Pace
from discovery.errors import DeadlinePassed, DiscoveryError
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
    deadline of its own, which also bounds each attempt. `patience_s` is for rule 4: so long after
    the pool's last answer, and so long in all, is waited for somebody to connect to.
    """

    most: int = 2
    within_s: float = 10.0
    patience_s: float = 2.0
    first_pause_s: float = 0.025
    longest_pause_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Ask:
    """What has to be known of a request. `ends_at` is its deadline by the route's clock."""

    idempotent: bool
    replayable: bool = True
    ends_at: float | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request to this flight's member, and have its answer's headers by `ends_at`."""

    flight: Flight
    ends_at: float | None = None
    hedge: "Hedge | None" = None


@dataclass(frozen=True, slots=True)
class Hedge:
    """After `after_s` without a result, `board` may give another flight to send beside the first.

    The first result that `suffices` ends the race, else the last one does.
    """

    after_s: float
    board: Callable[[], Flight | None]

    def suffices(self, result: "Result") -> bool:
        """Whether the other need not be waited for."""
        return not _may_repeat(result, True)


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
    """No answer came. `sent` says whether anything of the request may have been sent.

    `hopeless` says that the request itself is at fault, so that nobody else would take it either.
    """

    outcome: Outcome
    sent: bool
    hopeless: bool = False
    retry_after_s: None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt: where it went, and what came of it in words."""

    endpoint: Endpoint
    result: str


Result = Answered | Failed


@dataclass(frozen=True, slots=True)
class Raced:
    """What came of flights that raced, in that order, the last to be handed on; others lost."""

    results: tuple[tuple[Flight, Result], ...]


Reply = Result | Raced | None
Attempting = Generator[Send | Pause, Reply, tuple[Tried, ...]]


# Told of each attempt: the endpoint, what came of it (`None`: it was broken off), and in how long.
Tell = Callable[[Endpoint, Result | None, float], None]

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


def attempts(
    route: Route,
    ask: Ask,
    retrying: Retrying,
    pace: Pace | None = None,
    tell: Tell | None = None,
) -> Attempting:
    """Attempt a request; with a `pace`, hedged where that is safe; with `tell`, not in silence.

    Raises `DeadlinePassed`, or what `route.endpoints` raises, where nothing was attempted yet.
    """
    began_at = route.clock()
    ends_at = min(began_at + retrying.within_s, inf if ask.ends_at is None else ask.ends_at)
    members: list[Member] = []
    tried: list[Tried] = []
    again = ask.idempotent and ask.replayable
    left = retrying.most
    looks = int(retrying.patience_s / _LOOK_S) if retrying.most else 0
    sends = 0
    flight: Flight | None = None
    while True:
        try:
            known = _known(route, ask)
        except DiscoveryError:
            if not tried:
                raise
            return tuple(tried)
        if flight is not None:
            flight.close()
        flights = [route.board(known, members, again and left > 0)]
        hedge = _hedge(route, known, members, flights, pace) if again and left > 0 else None
        came = yield from _flown(flights, Send(flights[0], ask.ends_at, hedge), route, pace, tell)
        flight, result = came[-1]
        members += [each.member for each, _ in came]
        tried += [Tried(each.member.endpoint, _words(of_it)) for each, of_it in came]
        left -= len(flights) - 1
        sends += sum(not _unconnected(of_it) for _, of_it in came)
        if not _may_repeat(result, again):
            return tuple(tried)
        if left > 0:
            left -= 1
            pause_s = _pause_s(route, retrying, result, members)
            if sends == retrying.most and _may_wait(route, retrying, result):
                # Tasks that end together break one after the other; the last is for what stays.
                pause_s = max(pause_s, _look_s(route))
        elif looks > 0 and sends <= retrying.most and _may_wait(route, retrying, result):
            looks -= 1
            pause_s = _look_s(route)
            members.clear()
        else:
            return tuple(tried)
        now = route.clock()
        if now + pause_s >= ends_at or not route.may_retry(now):
            return tuple(tried)
        if pause_s:
            yield from _paused(pause_s, flight)


def _known(route: Route, ask: Ask) -> tuple[Endpoint, ...]:
    known = route.endpoints()
    if ask.ends_at is not None and route.clock() >= ask.ends_at:
        raise DeadlinePassed
    return known


def _hedge(
    route: Route,
    known: tuple[Endpoint, ...],
    tried: Collection[Member],
    flights: list[Flight],
    pace: Pace | None,
) -> Hedge | None:
    """A hedge that adds its flight to `flights`; none before the pace is known."""
    after_s = None if pace is None else pace.late_s
    if after_s is None:
        return None

    def board() -> Flight | None:
        taken = [*tried, *(each.member for each in flights)]
        if not _has_other(route, taken) or not route.may_retry(route.clock()):
            return None
        flights.append(route.board(known, taken, False))
        return flights[-1]

    return Hedge(after_s, board)


def _flown(
    flights: list[Flight], send: Send, route: Route, pace: Pace | None, tell: Tell | None
) -> Generator[Send | Pause, Reply, tuple[tuple[Flight, Result], ...]]:
    try:
        reply = yield send
    except BaseException:
        _abandon(flights, route.clock(), pace, tell)
        raise
    assert reply is not None
    came = reply.results if isinstance(reply, Raced) else ((send.flight, reply),)
    now = route.clock()
    for flight, result in came:
        if pace is not None and isinstance(result, Answered):
            pace.note(now - flight.began_at)
        flight.end(result.outcome, now)
        if tell is not None:
            tell(flight.member.endpoint, result, now - flight.began_at)
        if isinstance(result, Failed) or flight is not came[-1][0]:
            flight.close()
        if result.outcome in UNREACHABLE:
            route.missed(flight.member.endpoint, result.outcome)
    if len(flights) > 1:
        ended = [flight for flight, _ in came]
        _abandon([flight for flight in flights if flight not in ended], now, pace, tell)
    return came


def _abandon(flights: Collection[Flight], now: float, pace: Pace | None, tell: Tell | None) -> None:
    """Break off: that they took so long is known, and nothing more."""
    for flight in flights:
        if pace is not None:
            pace.note(now - flight.began_at)
        flight.end("abandoned", now)
        if tell is not None:
            tell(flight.member.endpoint, None, now - flight.began_at)
        flight.close()


def _paused(seconds: float, flight: Flight) -> Generator[Send | Pause, Reply, None]:
    try:
        yield Pause(seconds)
    except BaseException:
        flight.close()
        raise


def _may_repeat(result: Result, again: bool) -> bool:
    if isinstance(result, Failed):
        return not result.hopeless and (again or not result.sent)
    return again and result.status in _RETRIED


def _may_wait(route: Route, retrying: Retrying, result: Result) -> bool:
    given_up = isinstance(result, Failed) and result.outcome != "abandoned"
    return given_up and route.was_fine(retrying.patience_s)


def _look_s(route: Route) -> float:
    return _LOOK_S * (0.5 + route.chance.random())


def _unconnected(result: Result) -> bool:
    """Whether nobody could be connected to."""
    return isinstance(result, Failed) and not result.sent


def _pause_s(
    route: Route, retrying: Retrying, result: Result, members: Collection[Member]
) -> float:
    """None while there is another endpoint to try; else as asked for, or a growing jittered one."""
    if _has_other(route, members):
        return 0.0
    if result.retry_after_s is not None:
        return result.retry_after_s
    grown_s = retrying.first_pause_s * 2.0 ** (len(members) - 1)
    return min(retrying.longest_pause_s, grown_s) * (0.5 + route.chance.random())


def _has_other(route: Route, members: Collection[Member]) -> bool:
    return any(m not in members for m in route.pool.members if m.standing.cause is None)


def _words(result: Result) -> str:
    if isinstance(result, Answered):
        return f"status {result.status}"
    return result.outcome.replace("_", " ")
