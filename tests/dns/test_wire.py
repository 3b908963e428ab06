"""The reader and the writer of messages, against hostile bytes and against two other libraries."""

import struct
import time

import dns.message
import dns.rdatatype
import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.dns import wire
from discovery.dns.wire import Dropped, Record, Unreadable, Writer
from tests.dns.world import opt, packet, question

ORDERS = question("orders.ecs.internal")
NAME = ORDERS[:-4]
POINTER_LOOP = b"\xc0\x0c" + struct.pack("!2H", 1, 1)
POINTER_CHAIN = b"".join(struct.pack("!H", 0xC000 | 12 + 2 * n) for n in range(1_000))
ONE_BYTE_LABELS = b"\x01a" * 4_000 + b"\0" + struct.pack("!2H", 1, 1)
A_RECORD = NAME + struct.pack("!HHIH", 1, 1, 5, 4) + b"\x0a\0\0\1"

labels = st.binary(min_size=1, max_size=63).filter(lambda label: label == label.lower())
names = (
    st.lists(labels, max_size=5)
    .map(lambda several: wire.name_of(*several))
    .filter(lambda name: len(name) <= wire.MAX_NAME)
)


@pytest.mark.parametrize(
    "octets",
    [b"", b"\0" * 11, packet(ORDERS, flags=wire.QR), packet(ORDERS, flags=wire.QR | 0x2800)],
    ids=["empty", "short", "reply", "reply of another opcode"],
)
def test_what_is_no_query_is_dropped(octets: bytes) -> None:
    """Answering it could loop or reach a forged address."""
    with pytest.raises(Dropped):
        wire.read(octets)


@pytest.mark.parametrize("opcode", range(1, 16))
def test_other_opcodes_are_not_implemented(opcode: int) -> None:
    """Whatever the body is."""
    with pytest.raises(Unreadable) as caught:
        wire.read(packet(b"\xff", flags=opcode << 11))
    assert caught.value.rcode == wire.NOTIMP


FORMERRS = {
    "no question": packet(b"", questions=0),
    "no question, an OPT without a cookie": packet(b"", opt(), questions=0),
    "two questions": packet(ORDERS + ORDERS, questions=2),
    "a question that is not there": packet(b""),
    "a truncated name": packet(ORDERS[:5]),
    "a truncated type": packet(ORDERS[:-3]),
    "a label over 63": packet(b"\x40" + b"a" * 64 + b"\0\0\1\0\1"),
    "an extended label": packet(b"\x81aa\0\0\1\0\1"),
    "a name over 255": packet(question(".".join(["a" * 63] * 4))),
    "a pointer to itself": packet(POINTER_LOOP),
    "a pointer after a label": packet(b"\x01a" + POINTER_LOOP),
    "a chain of pointers": packet(POINTER_CHAIN),
    "8 KB of labels": packet(ONE_BYTE_LABELS),
    "octets after the last record": packet(ORDERS) + b"\0",
    "a record that is not there": packet(ORDERS, counts=(0, 0, 1)),
    "a truncated record": packet(ORDERS, A_RECORD[:-1]),
    "thousands of records": packet(ORDERS, *[A_RECORD] * 2_000),
    "65,535 promised records": packet(ORDERS, counts=(65_535, 65_535, 65_535)),
    "an OPT that is not at the root": packet(ORDERS, b"\x01a" + opt()),
    "an OPT among the answers": packet(ORDERS, opt(), counts=(1, 0, 0)),
    "an owner of 8 KB": packet(ORDERS, b"\x01a" * 4_000 + opt()),
    "64 KB of nothing": packet(b"\0" * 65_000),
    "64 KB of pointers": packet(ORDERS, b"\xc0\x0c" * 32_000),
}


@pytest.mark.parametrize("octets", FORMERRS.values(), ids=FORMERRS.keys())
def test_malformed_queries_are_format_errors(octets: bytes) -> None:
    """They are answered by a header alone."""
    with pytest.raises(Unreadable) as caught:
        wire.read(octets)
    assert caught.value.rcode == wire.FORMERR


@pytest.mark.parametrize("octets", FORMERRS.values(), ids=FORMERRS.keys())
def test_malformed_queries_cost_no_time(octets: bytes) -> None:
    """The best of several readings takes well under a millisecond of the processor."""

    def cost_s() -> float:
        start = time.thread_time()
        with pytest.raises(Unreadable):
            wire.read(octets)
        return time.thread_time() - start

    assert min(cost_s() for _ in range(5)) < 0.001


def test_a_query_keeps_its_question_as_it_was_written() -> None:
    """The question is echoed in its case; the name is looked up without."""
    query = wire.read(packet(question("OrDers.ECS.internal", wire.SRV), ident=7, flags=0))
    assert query.question == question("OrDers.ECS.internal", wire.SRV)
    assert (query.id, query.name, query.type, query.cls) == (7, NAME, wire.SRV, wire.IN)
    assert not query.recursion_desired
    assert query.edns is None


def test_names_of_255_octets_are_read() -> None:
    """The longest name there can be."""
    longest = question(".".join(["a" * 63] * 3 + ["a" * 61]))
    assert len(wire.read(packet(longest)).name) == wire.MAX_NAME


def test_options_are_read_to_the_last_empty_one() -> None:
    """An empty option at the very end is an option."""
    query = wire.read(packet(ORDERS, opt((65_001, b"ab"), (wire.NSID, b""), flags=0x8000)))
    assert query.edns is not None
    assert query.edns.options == ((65_001, b"ab"), (wire.NSID, b""))
    assert query.edns.dnssec_ok
    assert query.edns.fault == wire.NOERROR


@pytest.mark.parametrize(
    ("records", "fault"),
    [
        ((opt(version=1),), wire.BADVERS),
        ((opt(version=255),), wire.BADVERS),
        ((opt(), opt()), wire.FORMERR),
        ((opt(), opt(version=1)), wire.FORMERR),
        ((opt((wire.NSID, b""))[:-1].replace(b"\0\4", b"\0\3"),), wire.FORMERR),
        ((opt((3, b"abcd"))[:-6] + b"\0\xff" + b"abcd",), wire.FORMERR),
    ],
    ids=["version 1", "version 255", "two", "two versions", "half an option", "an overrun"],
)
def test_faults_of_the_opt_are_told(records: tuple[bytes, ...], fault: int) -> None:
    """They leave the question readable, so that it can be echoed."""
    query = wire.read(packet(ORDERS, *records))
    assert query.edns is not None
    assert query.edns.fault == fault


def test_records_beside_the_opt_are_passed_over() -> None:
    """An IXFR has its SOA in the authority section, a signed query a last record."""
    query = wire.read(packet(ORDERS, A_RECORD, opt(), A_RECORD, counts=(0, 1, 2)))
    assert query.edns is not None


@pytest.mark.parametrize(
    ("edns", "stream", "want"),
    [
        (None, False, 512),
        (100, False, 512),
        (512, False, 512),
        (800, False, 800),
        (4_096, False, 1_232),
        (None, True, 65_535),
        (512, True, 65_535),
    ],
)
def test_the_size_of_replies_is_limited(edns: int | None, stream: bool, want: int) -> None:
    """512 without EDNS, at most 1,232 with it, and all that its length prefix can say on TCP."""
    records = () if edns is None else (opt(size=edns),)
    assert wire.read(packet(ORDERS, *records)).size_limit(stream) == want


@given(st.binary(max_size=600))
def test_reading_raises_nothing_else(octets: bytes) -> None:
    """Arbitrary octets are a query, unreadable or dropped."""
    for candidate in (
        octets,
        packet(octets),
        packet(ORDERS, octets),
        packet(ORDERS, b"\0" + octets),
    ):
        try:
            query = wire.read(candidate)
        except (Dropped, Unreadable):
            continue
        assert query.question in candidate


@given(names, st.integers(0, 65_535), st.integers(0, 65_535), st.booleans())
def test_queries_of_other_libraries_are_read(
    name: bytes, kind: int, ident: int, edns: bool
) -> None:
    """What dnslib writes is read as it was meant."""
    asked = dnslib.DNSRecord(
        dnslib.DNSHeader(id=ident), q=dnslib.DNSQuestion(list(wire.labels_of(name)), kind)
    )
    if edns:
        asked.add_ar(dnslib.EDNS0(udp_len=900, flags="do"))
    query = wire.read(asked.pack())
    assert (query.id, query.name, query.type) == (ident, name, kind)
    assert query.edns == (wire.Edns(900, True) if edns else None)


def reply_to(asked: bytes, body: wire.Body, rcode: int = 0) -> bytes:
    """A whole message around a body."""
    return wire.reply(wire.read(packet(asked)), wire.AA, rcode, body, b"")


owners = st.lists(st.sampled_from([b"a", b"bc", b"ip-10-0-0-1", b"node"]), max_size=4).map(
    lambda several: wire.name_of(*several, b"ecs", b"internal")
)


@given(st.lists(owners, max_size=8), st.lists(owners, max_size=30))
def test_names_are_compressed_so_that_others_read_them(
    pointers: list[bytes], additional: list[bytes]
) -> None:
    """Names in the data of PTR and in owners come out the same in dnspython."""
    records = [Record(name, wire.A, 5, b"\x0a\0\0\1") for name in additional]
    body = Writer(NAME, 65_535).body(wire.PTR, 5, pointers, (), records)
    parsed = dns.message.from_wire(reply_to(question("orders.ecs.internal", wire.PTR), body))
    read = {name.to_wire() for rrset in parsed.answer for name in (r.target for r in rrset)}
    assert read == set(pointers)
    assert {rrset.name.to_wire() for rrset in parsed.additional} == set(additional)


@given(st.lists(owners, min_size=1, max_size=8))
def test_service_targets_are_never_compressed(targets: list[bytes]) -> None:
    """RFC 2782: name compression is not to be used for this field."""
    data = [struct.pack("!3H", 0, 1, 80) + target for target in targets]
    body = Writer(NAME, 65_535).body(wire.SRV, 5, data)
    for each in data:
        assert each in body.records


@given(st.integers(1, 60), st.integers(40, 700))
def test_only_whole_records_are_written(count: int, room: int) -> None:
    """A message of less room than records is truncated between two of them, and never longer."""
    data = [bytes((10, 0, 0, n)) for n in range(count)]
    body = Writer(NAME, room).body(wire.A, 5, data)
    message = reply_to(ORDERS, body)
    assert len(message) <= max(room, 12 + len(ORDERS))
    assert body.truncated == (body.answers < count)
    parsed = dns.message.from_wire(message)
    assert sum(len(rrset) for rrset in parsed.answer) == body.answers


def test_additional_records_are_left_out_without_a_sign() -> None:
    """Only answers that are left out are a truncation."""
    extra = [Record(wire.name_of(b"a%d" % n), wire.A, 5, b"\x0a\0\0\1") for n in range(100)]
    body = Writer(NAME, 512).body(wire.A, 5, [b"\x0a\0\0\2"], (), extra)
    assert not body.truncated
    assert body.answers == 1
    assert 0 < body.additional < 100


def test_messages_over_16_kb_are_parseable() -> None:
    """A pointer reaches 16,383 octets; names after that are written out."""
    extra = [
        Record(
            wire.name_of(b"a%d" % (n // 2), b"ecs", b"internal"), wire.A, 5, struct.pack("!I", n)
        )
        for n in range(2_500)
    ]
    message = reply_to(ORDERS, Writer(NAME, 65_535).body(wire.A, 5, [b"\x0a\0\0\2"], (), extra))
    assert len(message) > 32_768
    parsed = dns.message.from_wire(message)
    assert sum(len(rrset) for rrset in parsed.additional) == 2_500
    assert len(parsed.additional) == 1_250


def test_a_header_alone_has_every_other_flag_clear() -> None:
    """The id and the opcode are the query's."""
    octets = packet(ORDERS, flags=0x2FFF & ~wire.QR)
    assert wire.header_only(octets, wire.NOTIMP) == struct.pack(
        "!6H", 0x1234, wire.QR | 0x2800 | wire.NOTIMP, 0, 0, 0, 0
    )
