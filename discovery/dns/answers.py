"""The answer to a question: a pure function of name, type, zone and time.

"Not loaded yet", "no such name", "nothing of that type" and "too old" are four different answers
and never stand in for each other; an extended error (RFC 8914) says which it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from discovery.dns import records, wire
from discovery.dns.nodes import EMPTY, Glue
from discovery.dns.zone import Found, Zone
from discovery.model import Snapshot

OTHER, STALE, NOT_READY, PROHIBITED, STALE_NXDOMAIN = 0, 3, 14, 18, 19
NOT_AUTHORITATIVE, UNREACHABLE, NETWORK_ERROR = 20, 22, 23

State = Literal["fresh", "stale", "not ready", "expired"]
Extended = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What to reply: a response code and an RRset of the question's name, or an authority.

    `data` is in the zone's order; `glue` are addresses for SRV targets. `until` is when the same
    question may get another answer from the same snapshot, in seconds since the epoch. `weights`
    are those of the endpoints behind the data, 1 where there is none.
    """

    rcode: int = wire.NOERROR
    authoritative: bool = False
    type: int = 0
    ttl_s: int = 0
    data: tuple[bytes, ...] = ()
    glue: Glue = field(default_factory=dict)
    authority: tuple[wire.Record, ...] = ()
    extended: Extended | None = None
    until: float = math.inf
    cls: int = wire.IN
    weights: Mapping[bytes, float] = field(default_factory=dict)

    def packed(self, name: bytes, room: int, order: Sequence[int]) -> wire.Body:
        """The body of the reply in at most `room` octets, its RRset in this order."""
        data = tuple(self.data[n] for n in order)
        additional: list[wire.Record] = []
        if self.glue:
            targets = dict.fromkeys(map(records.srv_target, data))
            additional = [record for target in targets for record in self.glue.get(target, ())]
        writer = wire.Writer(name, room)
        return writer.body(self.type, self.ttl_s, data, self.authority, additional, self.cls)


_NO_GLUE: Glue = {}
REFUSED = Answer(wire.REFUSED)
ELSEWHERE = Answer(wire.REFUSED, extended=(NOT_AUTHORITATIVE, "no name in our zone"))


def answer(zone: Zone, name: bytes, kind: int, now: float) -> Answer:
    """The answer to a question of class IN; `now` is seconds since the epoch."""
    if kind in (wire.AXFR, wire.IXFR):
        return REFUSED
    found = zone.find(name)
    if found is None:
        return ELSEWHERE
    state, until = freshness(found, zone.snapshot, now)
    if state == "not ready":
        return Answer(wire.SERVFAIL, extended=(NOT_READY, "not loaded yet"), until=until)
    if state == "expired":
        return Answer(wire.SERVFAIL, extended=(UNREACHABLE, "data is too old"), until=until)
    node = found.node
    if node is None:
        return _negative(zone, found, wire.NXDOMAIN, state, until)
    data = node.sets.get(kind, ())
    if kind == wire.ANY and node.sets:
        kind, data = wire.HINFO, (records.hinfo("RFC8482"),)
    if data:
        glue = node.glue if kind == wire.SRV else _NO_GLUE
        ttl_s, extended = zone.apex.ttl_s, _extended(wire.NOERROR, state)
        return Answer(
            *(wire.NOERROR, True, kind, ttl_s, data, glue, (), extended, until),
            weights=node.weights,
        )
    if node.pending:
        reason = "a task definition is not read yet"
        return Answer(wire.SERVFAIL, extended=(NOT_READY, reason), until=until)
    return _negative(zone, found, wire.NOERROR, state, until)


def _negative(zone: Zone, found: Found, rcode: int, state: State, until: float) -> Answer:
    apex = zone.apex
    authority = (wire.Record(found.top, wire.SOA, apex.negative_ttl_s, zone.soa),)
    extended = (OTHER, found.note) if found.note else _extended(rcode, state)
    return Answer(rcode, True, authority=authority, extended=extended, until=until)


def _extended(rcode: int, state: State) -> Extended | None:
    if state != "stale":
        return None
    return STALE_NXDOMAIN if rcode == wire.NXDOMAIN else STALE, "the source is failing"


def freshness(found: Found, snapshot: Snapshot, now: float) -> tuple[State, float]:
    """How fresh what was found is, and until when that will be so."""
    if found.fixed:
        return "fresh", math.inf
    ages = [snapshot.age_s(service, now) for service in found.services]
    if not ages:
        ages = [max(0.0, now - c.observed_at) for c in found.clusters if c.observed_at is not None]
        if not _is_loaded(found, snapshot, len(ages)):
            return "not ready", now
    youngest, oldest = min(ages, default=0.0), max(ages, default=0.0)
    if youngest > snapshot.stale_limit_s:
        return "expired", math.inf
    if oldest > snapshot.fresh_for_s:
        return "stale", now + snapshot.stale_limit_s - youngest
    return "fresh", now + snapshot.fresh_for_s - oldest


def _is_loaded(found: Found, snapshot: Snapshot, loaded: int) -> bool:
    """What there is may be said as soon as anything is loaded; what there is not, only after all.

    An empty non-terminal is there for the names below it, in whichever cluster they are.
    RFC 8914 §4.15: the server is unable to answer the query, as it was not fully functional.
    """
    if found.node is not None and found.node.sets:
        return loaded > 0 or bool(snapshot.services)
    if found.node is EMPTY:
        return loaded > 0
    return bool(found.clusters) and loaded == len(found.clusters)
