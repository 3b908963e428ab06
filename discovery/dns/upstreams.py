"""Which upstream resolver to ask, how, and when another one; which are well.

A conversation yields attempts and is sent what came of each. Mutable, and owned by one thread: the
forwarder's.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from discovery.dns import wire
from discovery.dns.relay import Relayed

ATTEMPTS_S = (0.8, 1.6)  # by round; all of them fit into the five seconds that clients wait
DEADLINE_S = 4.5
_FAILURES_TO_REST = 2
_FIRST_REST_S, _LONGEST_REST_S = 1.0, 30.0
_NO_EDNS = (wire.FORMERR, wire.NOTIMP, wire.BADVERS)
_ANSWERS = (wire.NOERROR, wire.NXDOMAIN)

Address = tuple[str, int]


class Upstream:
    """One resolver and how it has been lately; after some failures it rests, ever longer."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.speaks_edns = True
        self._failures = 0
        self._rests_until = 0.0

    def __repr__(self) -> str:
        return f"<Upstream {self.address}, {self._failures} failures>"

    def rests(self, now: float) -> bool:
        """Whether others should be asked first."""
        return now < self._rests_until

    def ended(self, is_well: bool, now: float) -> None:
        """Learn from an attempt."""
        self._failures = 0 if is_well else self._failures + 1
        over = self._failures - _FAILURES_TO_REST
        rest_s = min(_FIRST_REST_S * 2 ** min(over, 10), _LONGEST_REST_S)
        self._rests_until = now + rest_s if over >= 0 else 0.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """Ask this upstream, over TCP if `stream`, with EDNS or without, and wait so long."""

    upstream: Upstream
    stream: bool
    edns: bool
    timeout_s: float


Conversation = Generator[Attempt, Relayed | None, Relayed | None]


def conversation(upstreams: Sequence[Upstream], now: float) -> Conversation:
    """Ask until somebody answers; the best that came, `None` if nobody said anything.

    Send the reply to each attempt, `None` without one.
    """
    order = sorted(upstreams, key=lambda upstream: upstream.rests(now))
    refusal: Relayed | None = None
    for timeout_s in ATTEMPTS_S:
        for upstream in order:
            reply = yield from _asked(upstream, timeout_s)
            if reply is not None and reply.rcode in _ANSWERS:
                return reply
            refusal = reply or refusal
    return refusal


def _asked(upstream: Upstream, timeout_s: float) -> Conversation:
    """One upstream: again without EDNS if it knows none, over TCP if it is cut off."""
    edns = upstream.speaks_edns
    reply = yield Attempt(upstream, False, edns, timeout_s)
    if reply is not None and edns and reply.rcode in _NO_EDNS:
        edns = False
        reply = yield Attempt(upstream, False, edns, timeout_s)
        upstream.speaks_edns = reply is None or reply.rcode in _NO_EDNS
    if reply is not None and reply.truncated:
        whole = yield Attempt(upstream, True, edns, timeout_s)
        return whole or reply
    return reply


class Routes:
    """The upstreams for each part of the tree of names; the longest suffix decides."""

    def __init__(self, addresses: Mapping[str, Sequence[Address]]) -> None:
        self._upstreams: dict[bytes, tuple[Upstream, ...]] = {}
        for zone, several in addresses.items():
            name = wire.name_of(*(label.encode() for label in zone.split(".") if label))
            self._upstreams[name] = tuple(Upstream(a) for a in dict.fromkeys(several))

    def to(self, name: bytes) -> tuple[Upstream, ...]:
        """Who is asked for this name; nobody if no route leads there."""
        at = 0
        while True:
            found = self._upstreams.get(name[at:])
            if found or not name[at]:
                return found or ()
            at += 1 + name[at]
