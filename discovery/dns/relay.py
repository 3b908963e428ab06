"""What goes to an upstream resolver, and what of its reply goes to the client.

Rule 1: a datagram counts only if id and question are those that were sent, letter by letter; all
else could be forged. As there are resolvers that change the case, one who got the rest right is
asked over TCP, where the connection shows who it is and the case counts for nothing. Rule 2: no
pointer is followed; records are passed on as they came, behind the client's own question, which is
as long as the one that was sent. Rule 3: TTLs count down here.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

from discovery.dns import wire
from discovery.names import is_address

MAX_LIFE_S, MAX_NEGATIVE_LIFE_S = 86_400, 900
_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_TTL = struct.Struct("!I")
_TTL_AT = 4  # within a record's fixed fields
_SIZE_AFTER_TTL = 4
_LARGEST_TTL = 0x7FFF_FFFF  # RFC 2181 §8: one above it is to be taken for 0
_MINIMUM_SIZE = 4
_PAIR_SIZE = 4  # type and class
_FAILURES = (wire.FORMERR, wire.NOTIMP)

Key = tuple[bytes, int, bool, bool]


def key(query: wire.Query) -> Key:
    """Queries of the same key are answered alike."""
    dnssec_ok = query.edns is not None and query.edns.dnssec_ok
    return query.name, query.type, dnssec_ok, query.checking_disabled


def mixed(name: bytes, bits: int) -> bytes:
    """The name with its letters in upper case where a bit is set (draft-vixie-dnsext-dns0x20)."""
    upper = name.upper()  # length octets are below 64 and stay what they are
    return bytes(upper[n] if bits >> n & 1 else name[n] for n in range(len(name)))


def query_for(asked: Key, ident: int, bits: int, edns: bool) -> bytes:
    """The query to send; `bits` decide the case of its letters."""
    name, kind, dnssec_ok, checking_disabled = asked
    flags = wire.RD | (wire.CD if checking_disabled else 0)
    head = _HEADER.pack(ident, flags, 1, 0, 0, int(edns))
    opt = wire.opt(wire.NOERROR, dnssec_ok, ()) if edns else b""
    return head + mixed(name, bits) + struct.pack("!2H", kind, wire.IN) + opt


@dataclass(frozen=True, slots=True)
class Relayed:
    """An upstream's reply. `records` follow the question, without the OPT; `ttls` are offsets.

    `life_s` is how long it may be remembered, 0 if not at all. A truncated one has the records that
    the upstream sent, if any; over UDP it is no answer. `extended` is our reason (RFC 8914) for a
    failure.
    """

    rcode: int
    counts: tuple[int, int, int] = (0, 0, 0)
    records: bytes = b""
    ttls: tuple[int, ...] = ()
    life_s: int = 0
    truncated: bool = False
    extended: tuple[int, str] | None = None

    @property
    def octets(self) -> int:
        """How much memory it takes, about."""
        return len(self.records) + 32 * len(self.ttls) + 400

    def message(self, query: wire.Query, age_s: float, room: int, opt: bytes) -> bytes:
        """The reply to a client's query, after it was remembered for `age_s`."""
        flags = wire.QR | wire.RA | self.rcode & 0xF
        flags |= (wire.RD if query.recursion_desired else 0) | (
            wire.CD if query.checking_disabled else 0
        )
        counts, end = self._fitting(room - wire.HEADER_SIZE - len(query.question) - len(opt))
        if self.truncated or counts[0] < self.counts[0]:
            flags |= wire.TC
        records = bytearray(self.records[:end])
        for at in self.ttls[: sum(counts)]:
            (ttl_s,) = _TTL.unpack_from(records, at)
            _TTL.pack_into(records, at, max(0, _meant(ttl_s) - int(age_s)))
        answers, authority, additional = counts
        head = _HEADER.pack(query.id, flags, 1, answers, authority, additional + bool(opt))
        return head + query.question + records + opt

    def _fitting(self, room: int) -> tuple[tuple[int, int, int], int]:
        """What fits, by section, and where it ends: additional records go first, answers last.

        RFC 2181 §9: TC is for what had to be there, so sections that only help go as a whole.
        """
        answers, authority, _ = self.counts
        if len(self.records) <= room:
            return self.counts, len(self.records)
        for counts in ((answers, authority, 0), (answers, 0, 0)):
            if self._end(sum(counts)) <= room:
                return counts, self._end(sum(counts))
        while answers and self._end(answers) > room:
            answers -= 1
        return (answers, 0, 0), self._end(answers)

    def _end(self, count: int) -> int:
        """Where the first `count` records end."""
        if not count:
            return 0
        at = self.ttls[count - 1] + _SIZE_AFTER_TTL
        return at + 2 + int.from_bytes(self.records[at : at + 2], "big")


def _meant(ttl_s: int) -> int:
    return ttl_s if ttl_s <= _LARGEST_TTL else 0


def read(octets: bytes, sent: bytes, stream: bool = False) -> Relayed | None:
    """The reply to the query that was sent; `None` for what is none, or is not well-formed.

    A datagram in which nothing but the case is wrong is taken for one that was cut off.
    """
    if len(octets) < wire.HEADER_SIZE or octets[:2] != sent[:2]:
        return None
    _, flags, questions, answers, authority, additional = _HEADER.unpack_from(octets)
    if not flags & wire.QR or flags & wire.OPCODE:
        return None
    rcode = flags & 0xF
    if not questions and rcode in _FAILURES and len(octets) == wire.HEADER_SIZE:
        return Relayed(rcode)
    end = _question_end(sent)
    if questions != 1 or _folded(octets, end) != _folded(sent, end):
        return None
    if not stream and octets[wire.HEADER_SIZE : end] != sent[wire.HEADER_SIZE : end]:
        return Relayed(wire.NOERROR, truncated=True)
    try:
        found = _records(octets, end, rcode, (answers, authority, additional))
    except (IndexError, struct.error):
        found = None
    if flags & wire.TC:  # whoever cuts may cut through a record
        return replace(found or Relayed(rcode), life_s=0, truncated=True)
    return found


def print_of(packet: bytes) -> bytes:
    """What tells a query of ours from others: its id, and the question, letter by letter."""
    return packet[:2] + packet[wire.HEADER_SIZE : _question_end(packet)]


def _folded(packet: bytes, end: int) -> tuple[bytes, bytes]:
    """The question that ends there, its name in lower case."""
    return packet[wire.HEADER_SIZE : end - _PAIR_SIZE].lower(), packet[end - _PAIR_SIZE : end]


def _question_end(sent: bytes) -> int:
    at = wire.HEADER_SIZE
    while sent[at]:
        at += 1 + sent[at]
    return at + 1 + _PAIR_SIZE


def _records(octets: bytes, start: int, rcode: int, counts: tuple[int, int, int]) -> Relayed | None:
    """Walk over all records: their TTLs, and where the OPT is."""
    ttls: list[int] = []
    life_s, at, end = MAX_LIFE_S, start, len(octets)
    minima: dict[int, int] = {}  # of the SOAs, by where their TTLs are
    asked = int.from_bytes(octets[start - 4 : start - 2], "big")
    is_negative = rcode == wire.NXDOMAIN or asked != wire.ANY
    kept = [0, 0, 0]
    for section, count in enumerate(counts):
        for _ in range(count):
            owner = at
            at = _owner_end(octets, at)
            kind, _, ttl_s, size = _RECORD.unpack_from(octets, at)
            fixed, at = at, at + _RECORD.size + size
            if at > len(octets) or (kind == wire.OPT and section < 2):
                return None
            if kind == wire.OPT:
                rcode |= ttl_s >> 24 << 4
                end = min(end, owner)  # what follows could point behind it, and goes, too
                continue
            if owner >= end:
                continue
            kept[section] += 1
            ttls.append(fixed + _TTL_AT - start)
            life_s = min(life_s, _meant(ttl_s))
            # An alias alone says only where there is nothing of that type (RFC 2308 §2.2).
            is_negative &= section > 0 or kind != asked or rcode == wire.NXDOMAIN
            if kind == wire.SOA and section == 1 and size > _MINIMUM_SIZE:
                minima[ttls[-1]] = int.from_bytes(octets[at - _MINIMUM_SIZE : at], "big")
    if at != len(octets):
        return None
    records = octets[start:end]
    if rcode not in (wire.NOERROR, wire.NXDOMAIN):
        life_s = 0
    elif is_negative or not kept[0]:
        life_s = min(life_s, *minima.values(), MAX_NEGATIVE_LIFE_S) if minima else 0
        records = _negative(records, minima)
    return Relayed(rcode, (kept[0], kept[1], kept[2]), records, tuple(ttls), life_s)


def _negative(records: bytes, minima: Mapping[int, int]) -> bytes:
    """The same, with each SOA's TTL no longer than the zone lets negative answers live.

    RFC 2308 §5: the TTL of such a SOA is the smaller of its own and its last field.
    """
    out = bytearray(records)
    for at, minimum in minima.items():
        (ttl_s,) = _TTL.unpack_from(out, at)
        _TTL.pack_into(out, at, min(_meant(ttl_s), minimum))
    return bytes(out)


def _owner_end(octets: bytes, start: int) -> int:
    """The offset after a record's owner, whose pointer must lead back."""
    at = start
    while length := octets[at]:
        if length >= 0xC0:
            if (length & 0x3F) << 8 | octets[at + 1] >= start:
                raise IndexError("a pointer that leads nowhere")
            return at + 2
        at += 1 + length
        if length > wire.MAX_LABEL or at - start >= wire.MAX_NAME:
            raise IndexError("no name")
    return at + 1


def nameservers(resolv_conf: str) -> tuple[str, ...]:
    """The addresses in the text of `/etc/resolv.conf`, each once; resolv.conf(5).

    What is no address counts for nothing, as in the C library. An IPv6 address may have a scope.
    """
    lines = (line.split() for line in resolv_conf.splitlines())
    listed = (words[1] for words in lines if words[:1] == ["nameserver"] and len(words) > 1)
    return tuple(dict.fromkeys(host for host in listed if is_address(host)))
