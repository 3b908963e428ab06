"""DNS messages as bytes: a strict reader of queries and a writer of replies.

Rule 1: reading is one pass; no pointer is ever followed, and names, records and options are bounded
by the packet, so that no packet costs more than some microseconds.
Rule 2: names are in wire form (length octets, last the root) and, but for the question that is
echoed, in lower case. Length octets are below 64, so `bytes.lower` leaves them alone.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
A, NS, SOA, PTR, HINFO, TXT, AAAA, SRV, OPT = 1, 2, 6, 12, 13, 16, 28, 33, 41
IXFR, AXFR, ANY = 251, 252, 255
IN, CHAOS = 1, 3
NSID, COOKIE, EDE = 3, 10, 15

QR, OPCODE, AA, TC, RD, RA, CD = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
DNSSEC_OK = 0x8000
HEADER_SIZE = 12
MAX_LABEL = 63
MAX_NAME = 255
MAX_EXTRA_RECORDS = 16  # a query has an OPT, perhaps a signature, and an IXFR one SOA
OUR_SIZE = 1_232  # the size that avoids fragments: DNS flag day 2020
PLAIN_SIZE = 512
STREAM_SIZE = 65_535
OPT_SIZE = 11

_HEADER = struct.Struct("!6H")
_PAIR = struct.Struct("!2H")
_RECORD = struct.Struct("!HHIH")
_SHORT = struct.Struct("!H")
_TO_QUESTION = b"\xc0\x0c"
# Names within record data: where the first starts, how many, whether RFC 3597 §4 lets us compress.
_NAMES_IN = {NS: (0, 1, True), PTR: (0, 1, True), SOA: (0, 2, True), SRV: (6, 1, False)}


class Dropped(Exception):
    """A packet that gets no answer: answering it could start a loop or reach a forged address."""


class Unreadable(Exception):
    """A query that is answered by a header alone, with `rcode`."""

    def __init__(self, rcode: int) -> None:
        super().__init__(f"rcode {rcode}")
        self.rcode = rcode


@dataclass(frozen=True, slots=True)
class Edns:
    """The OPT record of a query (RFC 6891). `fault` is what is wrong with it, `NOERROR` if nothing.

    `options` are `(code, data)` in the order in which they came.
    """

    size: int
    dnssec_ok: bool = False
    options: tuple[tuple[int, bytes], ...] = ()
    fault: int = NOERROR


@dataclass(frozen=True, slots=True)
class Query:
    """One question. `question` is its bytes as they came, to be echoed; `name` is in lower case.

    Without any question, which only a cookie request may be, `question` and `name` are empty.
    """

    id: int
    recursion_desired: bool
    question: bytes
    name: bytes
    type: int
    cls: int
    edns: Edns | None
    checking_disabled: bool = False

    def size_limit(self, stream: bool) -> int:
        """How many octets the reply may have."""
        if stream:
            return STREAM_SIZE
        if self.edns is None:
            return PLAIN_SIZE
        return min(max(self.edns.size, PLAIN_SIZE), OUR_SIZE)


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record of class IN; `owner` and names in `data` are uncompressed."""

    owner: bytes
    type: int
    ttl: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Body:
    """What follows the question, without the OPT: the record counts and the records."""

    answers: int
    authority: int
    additional: int
    truncated: bool
    records: bytes


def read(packet: bytes) -> Query:
    """The query in a packet. Whatever the bytes, raises nothing but `Dropped` and `Unreadable`."""
    if len(packet) < HEADER_SIZE:
        raise Dropped("shorter than a header")
    ident, flags, questions, answers, authority, additional = _HEADER.unpack_from(packet)
    if flags & QR:
        raise Dropped("not a query")
    if flags & OPCODE:
        raise Unreadable(NOTIMP)
    if questions > 1 or answers + authority + additional > MAX_EXTRA_RECORDS:
        raise Unreadable(FORMERR)
    try:
        at = HEADER_SIZE
        name, kind, cls = b"", 0, IN
        if questions:
            at = _name_end(packet, at)
            name = packet[HEADER_SIZE:at].lower()
            kind, cls = _PAIR.unpack_from(packet, at)
            at += _PAIR.size
        question = packet[HEADER_SIZE:at]
        edns = _edns(packet, at, answers + authority, additional)
    except (IndexError, struct.error):
        raise Unreadable(FORMERR) from None
    if not questions and not (edns and any(code == COOKIE for code, _ in edns.options)):
        raise Unreadable(FORMERR)
    disabled = bool(flags & CD)
    return Query(ident, bool(flags & RD), question, name, kind, cls, edns, disabled)


def _name_end(packet: bytes, start: int) -> int:
    """The offset after the uncompressed name at `start`."""
    at = start
    while length := packet[at]:
        at += 1 + length
        if length > MAX_LABEL or at - start >= MAX_NAME:
            raise Unreadable(FORMERR)
    return at + 1


def _owner_end(packet: bytes, start: int) -> int:
    """The offset after a record's owner, which may end in a pointer; it is not followed."""
    at = start
    while length := packet[at]:
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if length > MAX_LABEL or at - start >= MAX_NAME:
            raise Unreadable(FORMERR)
    return at + 1


def _edns(packet: bytes, at: int, others: int, additional: int) -> Edns | None:
    """Walk over the records after the question, up to the very end, for the one OPT."""
    found: Edns | None = None
    for n in range(others + additional):
        owner = at
        at = _owner_end(packet, at)
        kind, size, extended, length = _RECORD.unpack_from(packet, at)
        at += _RECORD.size + length
        if at > len(packet):
            raise Unreadable(FORMERR)
        if kind != OPT:
            continue
        if n < others or packet[owner]:
            raise Unreadable(FORMERR)
        edns = _opt(size, extended, packet[at - length : at])
        # RFC 6891 §6.1.1: more than one OPT RR -> FORMERR
        found = edns if found is None else Edns(found.size, found.dnssec_ok, fault=FORMERR)
    if at != len(packet):
        raise Unreadable(FORMERR)
    return found


def _opt(size: int, extended: int, data: bytes) -> Edns:
    dnssec_ok = bool(extended & DNSSEC_OK)
    if extended >> 16 & 0xFF:
        return Edns(size, dnssec_ok, fault=BADVERS)
    options = []
    at = 0
    while at < len(data):
        if len(data) - at < _PAIR.size:
            return Edns(size, dnssec_ok, fault=FORMERR)
        code, length = _PAIR.unpack_from(data, at)
        at += _PAIR.size + length
        if at > len(data):
            return Edns(size, dnssec_ok, fault=FORMERR)
        options.append((code, data[at - length : at]))
    return Edns(size, dnssec_ok, tuple(options))


def header_only(packet: bytes, rcode: int) -> bytes:
    """A reply of a header alone: id and opcode of the packet, every flag but QR clear."""
    opcode = _SHORT.unpack_from(packet, 2)[0] & OPCODE
    return packet[:2] + struct.pack("!5H", QR | opcode | rcode, 0, 0, 0, 0)


def opt(rcode: int, dnssec_ok: bool, options: Iterable[tuple[int, bytes]]) -> bytes:
    """The OPT record of a reply: version 0, our size, the high bits of `rcode`."""
    data = b"".join(_PAIR.pack(code, len(value)) + value for code, value in options)
    extended = (rcode >> 4) << 24 | (DNSSEC_OK if dnssec_ok else 0)
    return b"\0" + _RECORD.pack(OPT, OUR_SIZE, extended, len(data)) + data


def reply(query: Query, flags: int, rcode: int, body: Body, opt_record: bytes) -> bytes:
    """A whole message; `flags` are those beside QR, RD and TC."""
    flags |= QR | (rcode & 0xF) | (RD if query.recursion_desired else 0)
    if body.truncated:
        flags |= TC
    questions = 1 if query.question else 0
    additional = body.additional + (1 if opt_record else 0)
    header = _HEADER.pack(query.id, flags, questions, body.answers, body.authority, additional)
    return b"".join((header, query.question, body.records, opt_record))


class Writer:
    """Packs the records that follow a question into `room` octets, whole records only."""

    def __init__(self, name: bytes, room: int) -> None:
        self._start = HEADER_SIZE + (len(name) + _PAIR.size if name else 0)
        self._room = room - self._start
        self._out = bytearray()
        self._offsets: dict[bytes, int] = {}
        self._remember(name, HEADER_SIZE)

    def body(
        self,
        kind: int,
        ttl: int,
        answers: Sequence[bytes],
        authority: Sequence[Record] = (),
        additional: Sequence[Record] = (),
        cls: int = IN,
    ) -> Body:
        """The body of a reply: an RRset of the question's name, given by its record data.

        What does not fit is left out from the end: additional records first. Only answers that are
        left out are a truncation.
        """
        fixed = _TO_QUESTION + struct.pack("!HHI", kind, cls, ttl)
        written = 0
        for data in answers:
            if not self._add(fixed, kind, data):
                return Body(written, 0, 0, True, bytes(self._out))
            written += 1
        authorities = self._records(authority)
        additionals = self._records(additional) if authorities == len(authority) else 0
        return Body(written, authorities, additionals, False, bytes(self._out))

    def _records(self, records: Sequence[Record]) -> int:
        for count, record in enumerate(records):
            owner = self._compressed(record.owner, len(self._out))
            fixed = owner + struct.pack("!HHI", record.type, IN, record.ttl)
            if not self._add(fixed, record.type, record.data):
                return count
        return len(records)

    def _add(self, fixed: bytes, kind: int, data: bytes) -> bool:
        data_at = len(self._out) + len(fixed) + _SHORT.size
        if kind in _NAMES_IN:
            data = self._data(kind, data, data_at)
        if data_at + len(data) > self._room:
            return False
        self._out += fixed
        self._out += _SHORT.pack(len(data))
        self._out += data
        return True

    def _data(self, kind: int, data: bytes, data_at: int) -> bytes:
        start, count, compress = _NAMES_IN[kind]
        if not compress:
            self._remember(data[start:], self._start + data_at + start)
            return data
        packed = data[:start]
        for _ in range(count):
            end = _name_end(data, start)
            packed += self._compressed(data[start:end], data_at + len(packed))
            start = end
        return packed + data[start:]

    def _compressed(self, name: bytes, out_at: int) -> bytes:
        """The name as it is written at `out_at`, with a pointer for what was written before."""
        at = 0
        while name[at]:
            known = self._offsets.get(name[at:])
            if known is not None:
                self._remember(name[:at], self._start + out_at, name[at:])
                return name[:at] + _SHORT.pack(0xC000 | known)
            at += 1 + name[at]
        self._remember(name, self._start + out_at)
        return name

    def _remember(self, name: bytes, offset: int, rest: bytes = b"") -> None:
        at = 0
        # RFC 1035 §4.1.4: a pointer has 14 bits
        while at < len(name) and name[at] and offset + at < 0x4000:
            self._offsets.setdefault(name[at:] + rest, offset + at)
            at += 1 + name[at]


def is_compressed(kind: int) -> bool:
    """Whether names within such records may point to others, as that of the question."""
    return kind in _NAMES_IN and _NAMES_IN[kind][2]


def name_of(*labels: bytes) -> bytes:
    """The wire form of a name, in lower case."""
    return b"".join(bytes((len(label),)) + label for label in labels).lower() + b"\0"


def labels_of(name: bytes) -> tuple[bytes, ...]:
    """The labels of an uncompressed name, without the root."""
    found = []
    at = 0
    while length := name[at]:
        found.append(name[at + 1 : at + 1 + length])
        at += 1 + length
    return tuple(found)
