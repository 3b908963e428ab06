"""Packet in, packet out: reading, answering and packing, with what was packed before.

Rule 1: one thread owns a responder; its caches need no lock. Snapshot, time and chance come in.
Rule 2: caches are bounded, those of answers by `max_octets` in all, and what they hold is true:
with a snapshot that says something else each answer is compared before it is used again, and each
knows how long its freshness holds.
Rule 3: orders change from answer to answer, for each name and type by itself, from a random start;
a counter shared by all names would freeze the turn of names that are asked for in pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass

from discovery.dns import answers, cookies, packing, records, special, wire
from discovery.dns.answers import Answer
from discovery.dns.cookies import Cookies
from discovery.dns.orders import Chance, Ordering
from discovery.dns.packing import Packed
from discovery.dns.relay import Relayed
from discovery.dns.shortcuts import NAME_AT, Asked, Shortcuts
from discovery.dns.tally import FORWARDED, Tally
from discovery.dns.zone import Apex, Zone
from discovery.model import Snapshot

MAX_ANSWERS = 16_384
MAX_NEGATIVES = 1_024
MAX_OCTETS = 12 << 20  # beside the replies at hand: see `shortcuts`
_OFTEN_ABSENT = (wire.A, wire.AAAA, wire.SRV, wire.TXT, 64, 65)  # SVCB and HTTPS: browsers ask
_VERSION_BIND = wire.name_of(b"version", b"bind")
_ID_SERVER = wire.name_of(b"id", b"server")

_MOST_EXTENDED = 64  # octets of an extended error

# Name, type, room for records, and whether an extended error has to find room there, too; no room
# is told of what fits whole.
_Key = tuple[bytes, int, int, bool]

# The same with the records and the name's size instead of the name: many names may have the records
# of one, as `x.prefer._zone.SERVICE` does for every x.
_Records = tuple[tuple[bytes, ...], int, int, int, bool]


@dataclass(frozen=True, slots=True)
class Identity:
    """What the server says of itself if asked: NSID, and `version.bind` and `id.server` (CHAOS).

    Empty means that it does not tell.
    """

    nsid: bytes = b""
    version: str = ""
    server_id: str = ""


@dataclass(frozen=True, slots=True)
class Outside:
    """A query for a name that is not ours, and what of the reply is known already."""

    query: wire.Query
    options: tuple[tuple[int, bytes], ...]
    room: int

    def message(self, relayed: Relayed, age_s: float) -> bytes:
        """The reply, from what somebody else said `age_s` ago."""
        opt = _opt(self.query.edns, Answer(relayed.rcode, extended=relayed.extended), self.options)
        return relayed.message(self.query, age_s, self.room, opt)


class Responder:
    """Answers packets from snapshots, over TCP if `stream`, where replies may be longer.

    `chance(n)` gives a number from 0 to n-1. `forwards` says whether somebody else can be asked
    for a name that is not ours.
    """

    def __init__(
        self,
        apex: Apex,
        identity: Identity,
        jar: Cookies,
        chance: Chance,
        *,
        stream: bool = False,
        ordering: Ordering = "balanced",
        forwards: Callable[[bytes], bool] | None = None,
        max_octets: int = MAX_OCTETS,
    ) -> None:
        self._apex = apex
        self._identity = identity
        self._jar = jar
        self._chance = chance
        self._stream = stream
        self._ordering = ordering
        self._forwards = forwards
        self._max_octets = max_octets
        self._flags = wire.RA if forwards else 0
        self._zone = Zone(Snapshot(), apex)
        self._now = 0.0
        self._answers: dict[_Key, Packed] = {}
        self._before: dict[_Key, Packed] = {}  # packed for an earlier snapshot
        self._negatives: dict[_Key, Packed] = {}
        self._by_records: dict[_Records, Packed] = {}
        self._octets = 0
        self._octets_before = 0
        self.shortcuts = Shortcuts(jar)
        self.tally = Tally()

    def __repr__(self) -> str:
        return f"<Responder {self._zone!r}, {len(self._answers)} answers packed>"

    def begin(self, snapshot: Snapshot, now: float) -> None:
        """Answer from this snapshot from now on, until it is called again, very soon."""
        if snapshot is not self._zone.snapshot:
            self._turn_to(snapshot, now)
        if now < self._now:  # the clock was set back: times until which answers hold are wrong
            self._forget()
        self.shortcuts.begin(now)
        self._now = now

    def respond(self, packet: bytes, now: float, client: str) -> "bytes | Outside":
        """The reply to a packet from this address. Raises `wire.Dropped` if there is none."""
        known = self.shortcuts.reply(packet[2:], str, client)
        if known is not None:
            return packet[:2] + known
        try:
            query = wire.read(packet)
        except wire.Unreadable as why:
            self.tally.count(None, why.rcode)[0] += 1
            return wire.header_only(packet, why.rcode)
        if query.edns is not None and _fault(query.edns):
            self.tally.count(query.type, _fault(query.edns))[0] += 1
            opt = wire.opt(_fault(query.edns), query.edns.dnssec_ok, ())
            return wire.reply(query, 0, _fault(query.edns), _EMPTY, opt)
        return self._answered(packet, query, now, client)

    def _answered(
        self, packet: bytes, query: wire.Query, now: float, client: str
    ) -> "bytes | Outside":
        own = self._own_answer(query)
        options = self._options(query.edns, client, now)
        room = query.size_limit(self._stream)
        if own is not None:
            return self._unlearned(query, own, options, room)
        # The extended error's size is the answer's, so what is known of it is asked first.
        packed = self._packed(query, now, room, _opt_size(query.edns, options))
        if packed.answer is answers.ELSEWHERE and query.recursion_desired and self._forwards:
            # Nothing is learned: a minute later there may be somebody to ask.
            if not self._forwards(query.name):
                other = special.answer(query.name, query.type) or packed.answer
                return self._unlearned(query, other, options, room)
            self.tally.count(query.type, FORWARDED)[0] += 1
            return Outside(query, options, room)
        opt = _opt(query.edns, packed.answer, options)
        self._learn(packet[2:], query, packed, opt, options)
        # Replies at hand have orders of their own, so the first of them counts, too.
        known = self.shortcuts.reply(packet[2:], str, client)
        return packet[:2] + known if known else self._message(query, packed, opt)

    def _unlearned(
        self,
        query: wire.Query,
        answer: Answer,
        options: tuple[tuple[int, bytes], ...],
        room: int,
    ) -> bytes:
        opt = _opt(query.edns, answer, options)
        packed = Packed(answer, query.name, room - len(opt), "stable", self._chance)
        return self._message(query, packed, opt)

    def _message(self, query: wire.Query, packed: Packed, opt: bytes) -> bytes:
        answer = packed.answer
        self.tally.count(query.type, answer.rcode)[0] += 1
        flags = self._flags | (wire.AA if answer.authoritative else 0)
        return wire.reply(query, flags, answer.rcode, packed.body(), opt)

    def _learn(
        self,
        rest: bytes,
        query: wire.Query,
        packed: Packed,
        opt: bytes,
        options: tuple[tuple[int, bytes], ...],
    ) -> None:
        """Have the reply at hand the next time, where nothing in it depends on who asks."""
        answer = packed.answer
        if packed.counts is None or not query.name or not _can_be_learned(query, answer, options):
            return
        head = packing.head(query, packed, bool(opt), self._flags)
        has_cookie = any(code == wire.COOKIE for code, _ in options)
        asked = Asked(rest, NAME_AT + len(query.question), has_cookie)
        count = self.tally.count(query.type, answer.rcode)
        if answer.rcode == wire.NXDOMAIN:
            labels = self._zone.children(query.name[1 + query.name[0] :])
            if not labels or query.name[1 : 1 + query.name[0]] in labels:
                return
            parent, authority = query.name[1 + query.name[0] :], answer.authority

            def of_label(size: int) -> bytes:
                name = wire.name_of(b"-" * size)[:-1] + parent
                return wire.Writer(name, wire.PLAIN_SIZE).body(0, 0, (), authority).records

            self.shortcuts.learn_absence(asked, head, labels, of_label, opt, count)
        else:
            self.shortcuts.learn(asked, head, packed, opt, count)
        self.shortcuts.until = min(self.shortcuts.until, answer.until)

    def _packed(self, query: wire.Query, now: float, room: int, opt_size: int) -> Packed:
        room -= opt_size
        whole: _Key = (query.name, query.type, 0, False)
        exact: _Key = (query.name, query.type, room, query.edns is not None)
        key, packed = whole, self._answers.get(whole) or self._before.get(whole)
        if packed is None or packed.size + _MOST_EXTENDED > room:
            key = exact
            packed = self._answers.get(key) or self._negatives.get(key) or self._before.get(key)
        if packed is not None and now < packed.answer.until and key not in self._before:
            return packed
        answer = answers.answer(self._zone, query.name, query.type, now)
        dropped = self._before.pop(key, None)
        self._octets_before -= dropped.octets if dropped else 0
        if packed is None or not packed.renewed(answer):
            records = answer.data, len(query.name), query.type, room, query.edns is not None
            other = self._by_records.get(records)
            # Only of the same node: another service on the same hosts has a turn of its own.
            same = other is not None and other.answer.weights is answer.weights
            if other is not None and same and other.renewed(answer):
                return other
            room -= _extended_size(answer) if query.edns else 0
            packed = Packed(answer, query.name, room, self._ordering, self._chance)
            key = whole if 0 < packed.size <= room - _MOST_EXTENDED else exact
            if answer.data:
                self._by_records[records] = packed
        self._remember(key, packed)
        return packed

    def _remember(self, key: _Key, packed: Packed) -> None:
        if not packed.answer.data:
            if len(self._negatives) >= MAX_NEGATIVES:
                self._negatives.clear()
            self._negatives[key] = packed
            return
        replaced = self._answers.get(key)
        self._octets += packed.octets - (replaced.octets if replaced else 0)
        octets = self._octets + self._octets_before
        if len(self._answers) >= MAX_ANSWERS or octets > self._max_octets:
            self._forget()
            self._octets = packed.octets
        self._answers[key] = packed

    def _turn_to(self, snapshot: Snapshot, now: float) -> None:
        before = self._zone
        self._zone = Zone(snapshot, self._apex, before)
        if self._zone.says_the_same_as(before) and now < before.fresh_until:
            self.shortcuts.until = self._zone.fresh_until  # as everything was fresh, and is
            return
        packed, octets = self._answers, self._octets
        self._forget()
        self._before, self._octets_before = packed, octets

    def _forget(self) -> None:
        self.shortcuts.forget()
        self._before = {}
        self._answers = {}
        self._negatives = {}
        self._by_records = {}
        self._octets = self._octets_before = 0

    def _own_answer(self, query: wire.Query) -> Answer | None:
        """What is answered without the zone: nothing asked, other classes, who the server is."""
        if not query.question:
            return Answer()
        if query.cls == wire.IN:
            return None
        asked = {_VERSION_BIND: self._identity.version, _ID_SERVER: self._identity.server_id}
        text = asked.get(query.name) if query.cls == wire.CHAOS else None
        if not text or query.type not in (wire.TXT, wire.ANY):
            return answers.REFUSED
        data = (records.txt((text,)),)
        return Answer(authoritative=True, type=wire.TXT, data=data, cls=wire.CHAOS)

    def _options(
        self, edns: wire.Edns | None, client: str, now: float
    ) -> tuple[tuple[int, bytes], ...]:
        """Our options for a query's; those that we do not know are not echoed."""
        if edns is None or not edns.options:
            return ()
        asked = dict(reversed(edns.options))
        ours = []
        if wire.NSID in asked and self._identity.nsid:
            ours.append((wire.NSID, self._identity.nsid))
        if wire.COOKIE in asked:
            ours.append((wire.COOKIE, self._jar.reply(asked[wire.COOKIE], client, now)))
        return tuple(ours)


_EMPTY = wire.Body(0, 0, 0, False, b"")


def _fault(edns: wire.Edns) -> int:
    for code, data in edns.options:
        if code == wire.COOKIE and not cookies.is_well_formed(data):
            return wire.FORMERR
    return edns.fault


def _can_be_learned(
    query: wire.Query, answer: Answer, options: tuple[tuple[int, bytes], ...]
) -> bool:
    if not answer.data and (answer.rcode == wire.SERVFAIL or query.type not in _OFTEN_ABSENT):
        return False
    asked = query.edns.options if query.edns else ()
    if any(code not in (wire.NSID, wire.COOKIE) for code, _ in asked):
        return False
    if all(code != wire.COOKIE for code, _ in options):
        return True
    sizes = [len(data) for code, data in asked if code == wire.COOKIE]
    is_last = asked[-1][0] == wire.COOKIE
    return is_last and sizes in ([8], [24]) and answer.extended is None


def _opt_size(edns: wire.Edns | None, options: tuple[tuple[int, bytes], ...]) -> int:
    return wire.OPT_SIZE + sum(4 + len(data) for _, data in options) if edns else 0


def _extended_size(answer: Answer) -> int:
    return 6 + len(answer.extended[1].encode()) if answer.extended else 0


def _opt(edns: wire.Edns | None, answer: Answer, options: tuple[tuple[int, bytes], ...]) -> bytes:
    """The OPT of a reply, if the query had one."""
    if edns is None:
        return b""
    if answer.extended is not None:
        code, text = answer.extended
        options = (*options, (wire.EDE, code.to_bytes(2, "big") + text.encode()))
    return wire.opt(answer.rcode, edns.dnssec_ok, options)
