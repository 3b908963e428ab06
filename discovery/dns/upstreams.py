"""Which upstream resolver to ask, how, and when another one; which are well.

A conversation yields attempts and is sent what came of each. Mutable, and owned by one thread: the
forwarder's.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

from discovery.dns import special, wire
from discovery.dns.relay import Relayed

DEADLINE_S = 4.5  # clients wait for five seconds
LONGEST_FAILURE_S = 30  # RFC 9520 §3.2 allows five minutes, and demands one second at least
_FIRST_ATTEMPT_S = 0.8
_ROUNDS = 3
_MOST_A_ROUND = 3  # silent ones; as many resolvers as the C library asks
_FAILURES_TO_REST = 2
_FIRST_REST_S, _LONGEST_REST_S = 1.0, 30.0
_PATIENCE_S = 0.5  # silence for so long is a failure even if we had to give up earlier
_PLAIN_S = 300.0  # how long a resolver is asked without EDNS after it did not understand it
_STREAMS_S = 60.0  # how long one is asked over TCP first that never answers datagrams
_REDEEMED_TO_STREAM = 2
_NO_EDNS = (wire.FORMERR, wire.NOTIMP, wire.BADVERS)
_ANSWERS = (wire.NOERROR, wire.NXDOMAIN)

Address = tuple[str, int]


class Upstream:
    """One resolver and how it has been lately; after some failures it rests, ever longer."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._failures = 0
        self._rests_until = 0.0
        self._plain_until = 0.0
        self._streams_until = 0.0
        self._redeemed = 0  # questions in a row that only a stream answered
        self._asked = 0  # attempts under way
        self._silent_since = 0.0  # while there are any

    def __repr__(self) -> str:
        return f"<Upstream {self.address}, {self._failures} failures>"

    def rests(self, now: float) -> bool:
        """Whether others should be asked first."""
        return now < self._rests_until

    def speaks_edns(self, now: float) -> bool:
        """Whether to ask with EDNS: unless it did not understand that lately."""
        return now >= self._plain_until

    def prefers_streams(self, now: float) -> bool:
        """Whether to begin with TCP: its datagrams do not arrive."""
        return now < self._streams_until

    def began(self, now: float) -> None:
        """Learn that it is asked. One question at a time tries whether it is well again."""
        if not self._asked:
            self._silent_since = now
        self._asked += 1
        if self._failures >= _FAILURES_TO_REST:
            self._rests_until = max(self._rests_until, now + _FIRST_REST_S)

    def ended(self, is_well: bool, now: float) -> None:
        """Learn from an attempt."""
        self._asked -= 1
        self._silent_since = now
        self._failures = 0 if is_well else self._failures + 1
        over = self._failures - _FAILURES_TO_REST
        rest_s = min(_FIRST_REST_S * 2 ** min(over, 10), _LONGEST_REST_S)
        self._rests_until = now + rest_s if over >= 0 else 0.0

    def abandoned(self, now: float) -> None:
        """Learn from an attempt that we gave up for reasons of our own: was it silent for long?"""
        if now - self._silent_since >= _PATIENCE_S:
            self.ended(False, now)
        else:
            self._asked -= 1

    def understood_no_edns(self, now: float) -> None:
        """Learn that it answered only without EDNS."""
        self._plain_until = now + _PLAIN_S

    def answered(self, stream: bool, now: float) -> None:
        """Learn over what it answered a question, after the other way had failed if `stream`."""
        self._redeemed = self._redeemed + 1 if stream else 0
        if self._redeemed >= _REDEEMED_TO_STREAM:
            self._streams_until = now + _STREAMS_S


@dataclass(frozen=True, slots=True)
class Attempt:
    """Ask this upstream, over TCP if `stream`, with EDNS or without, and wait so long."""

    upstream: Upstream
    stream: bool
    edns: bool
    timeout_s: float


Conversation = Generator[Attempt, Relayed | None, Relayed | None]


def conversation(upstreams: Sequence[Upstream], clock: Callable[[], float]) -> Conversation:
    """Ask until somebody answers; the last refusal that came, `None` if nobody said anything.

    Send the reply to each attempt, `None` without one. Whoever refused is not asked again; whoever
    was silent is asked over TCP, then over UDP once more: three times, as RFC 9520 §3.1 allows.
    Who rests is looked at before each attempt: others learn meanwhile. A round waits for no more
    than three, so that each has time to answer; who was silent twice rests, and others have a turn.
    """
    refusals: dict[Upstream, Relayed] = {}
    for turn, timeout_s in enumerate(_timeouts_s(min(len(upstreams), _MOST_A_ROUND))):
        left = [upstream for upstream in upstreams if upstream not in refusals]
        waits = _MOST_A_ROUND
        while left and waits:
            now = clock()
            upstream = min(left, key=lambda one: one.rests(now))
            left.remove(upstream)
            stream = (turn == 1) is not upstream.prefers_streams(now)
            reply = yield from _asked(upstream, stream, timeout_s, now)
            if reply is None:
                waits -= 1
                continue
            if turn == 1 or not stream:
                upstream.answered(stream, clock())
            if reply.rcode in _ANSWERS:
                return reply
            refusals[upstream] = reply
    return next(reversed(refusals.values()), None)


def _timeouts_s(count: int) -> tuple[float, ...]:
    """How long to wait in each round, so that all of them fit into the deadline."""
    share_s = DEADLINE_S / max(count, 1)
    first_s = min(_FIRST_ATTEMPT_S, share_s / _ROUNDS)
    return first_s, *(_ROUNDS - 1) * ((share_s - first_s) / (_ROUNDS - 1),)


def _asked(upstream: Upstream, stream: bool, timeout_s: float, now: float) -> Conversation:
    """One upstream: again without EDNS if it knows none, over TCP if it is cut off.

    A datagram that is cut off is no answer unless the whole follows.
    """
    edns = upstream.speaks_edns(now)
    reply = yield Attempt(upstream, stream, edns, timeout_s)
    if reply is not None and edns and reply.rcode in _NO_EDNS:
        edns = False
        reply = yield Attempt(upstream, stream, edns, timeout_s)
        if reply is not None and reply.rcode not in _NO_EDNS:
            upstream.understood_no_edns(now)
    if reply is not None and reply.truncated and not stream:
        return (yield Attempt(upstream, True, edns, timeout_s))
    return reply


def failure_life_s(times: int) -> int:
    """How long to remember a failure that came so many times in a row, in seconds (RFC 9520)."""
    return min(1 << min(times - 1, 10), LONGEST_FAILURE_S)


class Routes:
    """The upstreams for each part of the tree of names; the longest suffix decides.

    `before` are the routes until now: who stays is known to be well or not.
    """

    def __init__(
        self, addresses: Mapping[str, Sequence[Address]], before: "Routes | None" = None
    ) -> None:
        known = before.known if before else {}
        listed = dict.fromkeys(address for several in addresses.values() for address in several)
        self.known: dict[Address, Upstream] = {
            address: known.get(address) or Upstream(address) for address in listed
        }
        self._upstreams = {
            _name_of(zone): tuple(self.known[address] for address in dict.fromkeys(several))
            for zone, several in addresses.items()
        }

    def to(self, name: bytes) -> tuple[Upstream, ...]:
        """Who is asked for this name; nobody if no route leads there.

        To a special-use name only a route of its own does, none that is wider.
        """
        at, top = 0, special.top_of(name)
        while True:
            found = self._upstreams.get(name[at:])
            if found or not name[at] or name[at:] == top:
                return found or ()
            at += 1 + name[at]


def _name_of(zone: str) -> bytes:
    return wire.name_of(*(label.encode() for label in zone.split(".") if label))
