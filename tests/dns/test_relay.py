"""Reading an upstream's reply: strict, bounded, and nothing of it that could lead astray."""

import struct
import time

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.dns import relay, wire
from tests.dns.resolvers import told
from tests.dns.world import packet, question

KEY: relay.Key = (wire.name_of(b"www", b"example"), wire.A, False, False)
SENT = relay.query_for(KEY, 0x1234, 0b1010, True)
ASKED = SENT[12:29]


def reply(records: bytes, counts: tuple[int, int, int] = (1, 0, 0), flags: int = 0x8180) -> bytes:
    """A reply to what was sent."""
    return struct.pack("!6H", 0x1234, flags, 1, *counts) + ASKED + records


def record(owner: bytes, kind: int = wire.A, data: bytes = b"abcd") -> bytes:
    """One record."""
    return owner + struct.pack("!HHIH", kind, wire.IN, 60, len(data)) + data


GOOD = record(b"\xc0\x0c")


def test_the_case_is_as_the_bits_say() -> None:
    """Letters only; lengths, digits and hyphens stay."""
    name = wire.name_of(b"a-1b", b"example")
    assert relay.mixed(name, 0) == name
    assert relay.mixed(name, (1 << 64) - 1) == name.upper()
    assert relay.mixed(name, 0b10).startswith(b"\4A-1b\7example")


def test_a_good_reply_is_read() -> None:
    """So that the others are not refused for some other reason."""
    found = relay.read(reply(GOOD), SENT)
    assert found is not None
    assert (found.counts, found.records, found.life_s) == ((1, 0, 0), GOOD, 60)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        reply(GOOD)[:11],
        reply(GOOD, flags=0x0180),
        reply(GOOD, flags=0xA180),
        reply(GOOD + b"x"),
        reply(GOOD[:-1]),
        reply(GOOD, (2, 0, 0)),
        reply(GOOD, (0, 0, 0)),
        reply(GOOD, (0xFFFF, 0xFFFF, 0xFFFF)),
        reply(record(b"\xc0\x1d")),
        reply(record(b"\xff\xff")),
        reply(record(b"\x40a\0")),
        reply(record(63 * b"\1a" + 70 * b"\1a" + b"\0")),
        reply(GOOD[:-5] + b"\xff\xff" + b"abcd"),
        reply(record(b"\0", wire.OPT, b"")),
        reply(record(b"\0", wire.OPT, b""), (0, 1, 0)),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["udp", "tcp"])
def test_what_is_not_well_formed_is_none(octets: bytes, stream: bool) -> None:
    """Pointers that lead nowhere or in a circle, overlong names, counts and sizes that lie."""
    assert relay.read(octets, SENT, stream) is None


@pytest.mark.parametrize("stream", [False, True], ids=["udp", "tcp"])
def test_the_case_counts_in_datagrams_only(stream: bool) -> None:
    """A datagram that got only the case wrong is no answer, but tells to ask over TCP."""
    octets = reply(GOOD)
    other = octets[:12] + octets[12:25].swapcase() + octets[25:]
    found = relay.read(other, SENT, stream)
    assert found is not None
    assert (found.truncated, found.records) == ((False, GOOD) if stream else (True, b""))


@pytest.mark.parametrize("stream", [False, True], ids=["udp", "tcp"])
def test_a_type_or_class_is_no_matter_of_case(stream: bool) -> None:
    """Type 65 is no lower case of type 97."""
    key = (KEY[0], ord("A"), False, False)
    sent = relay.query_for(key, 0x1234, 0, False)
    octets = sent[:2] + b"\x81\x80" + sent[4:]
    assert relay.read(octets, sent, stream)
    at = len(octets) - 3
    assert relay.read(octets[:at] + b"a" + octets[at + 1 :], sent, stream) is None


def test_an_opt_is_taken_out_with_all_that_follows() -> None:
    """Its high bits of the response code count; what is before it stays."""
    opt = b"\0" + struct.pack("!HHIH", wire.OPT, 1_232, 1 << 24, 0)
    found = relay.read(reply(GOOD + GOOD + opt + GOOD, (1, 0, 3)), SENT)
    assert found is not None
    assert (found.rcode, found.counts, found.records) == (16, (1, 0, 1), GOOD + GOOD)


@pytest.mark.parametrize(
    "octets",
    [
        reply(record(b"\xc0\x0c") * 4_000, (4_000, 0, 0)),
        reply(record(b"\0", data=b"") * 5_900, (5_900, 0, 0)),
        reply(record(b"\1a" * 120 + b"\0", data=b"") * 250, (250, 0, 0)),
    ],
)
def test_a_large_reply_takes_milliseconds(octets: bytes) -> None:
    """Whatever it is made of."""
    start = time.process_time()
    relay.read(octets, SENT)
    assert time.process_time() - start < 0.1


@settings(max_examples=300)
@given(st.binary(max_size=200), st.tuples(*3 * [st.integers(0, 5)]), st.integers(0, 0xFFFF))
def test_whatever_comes_the_client_gets_a_message(
    octets: bytes, counts: tuple[int, int, int], flags: int
) -> None:
    """Arbitrary octets raise nothing; what is believed has the counts that it says."""
    query = wire.read(packet(question("www.example")))
    found = relay.read(reply(octets, counts, flags), SENT)
    if found is not None:
        message = found.message(query, 3.0, 65_535, b"")
        assert struct.unpack_from("!3H", message, 6) in (found.counts, (0, 0, 0))


@settings(max_examples=100)
@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=30), st.integers(0, 600))
def test_ttls_never_rise_nor_fall_below_zero(ttls: list[int], age_s: int) -> None:
    """Each by the age, and the records stay what they were."""
    asked = dns.message.from_wire(SENT)
    name = asked.question[0].name
    octets = told(asked, *(f"{name} {ttl} A 192.0.2.{n}" for n, ttl in enumerate(ttls)))
    found = relay.read(octets, SENT)
    assert found is not None
    query = wire.read(packet(question("www.example")))
    got = dns.message.from_wire(found.message(query, age_s, 65_535, b""), one_rr_per_rrset=True)
    assert [r.ttl for r in got.answer] == [max(0, ttl - age_s) for ttl in ttls]


OPT = b"\0" + struct.pack("!HHIH", wire.OPT, 1_232, 0, 0)
FULL = reply(GOOD * 3 + record(b"\0", wire.NS, b"\2ns\0") + record(b"\xc0\x0c") + OPT, (3, 1, 2))
ROOM = wire.HEADER_SIZE + len(ASKED)


@pytest.mark.parametrize(
    ("room", "counts", "is_cut"),
    [
        (ROOM + 5 * 16, (3, 1, 1), False),
        (ROOM + 4 * 16, (3, 1, 0), False),
        (ROOM + 4 * 16 - 2, (3, 0, 0), False),
        (ROOM + 3 * 16 - 1, (2, 0, 0), True),
        (ROOM + 16, (1, 0, 0), True),
        (ROOM + 15, (0, 0, 0), True),
    ],
)
def test_what_does_not_fit_goes_from_the_end(
    room: int, counts: tuple[int, int, int], is_cut: bool
) -> None:
    """Additional records, authority, whole answers; only a missing answer is TC."""
    found = relay.read(FULL, SENT)
    assert found is not None
    octets = found.message(wire.read(packet(question("www.example"))), 0.0, room, b"")
    assert len(octets) <= room
    assert struct.unpack_from("!3H", octets, 6) == counts
    assert bool(octets[2] & 2) is is_cut
    dns.message.from_wire(octets, ignore_trailing=False, raise_on_truncation=False)


def test_the_opt_of_the_reply_finds_room() -> None:
    """Records give way to it."""
    found = relay.read(FULL, SENT)
    assert found is not None
    octets = found.message(wire.read(packet(question("www.example"))), 0.0, ROOM + 5 * 16, OPT)
    assert struct.unpack_from("!3H", octets, 6) == (3, 1, 1)
    assert octets.endswith(OPT)


CNAME = record(b"\xc0\x0c", 5, b"\1b\0")
SOA_OF_20 = (
    b"\0" + struct.pack("!HHIH", wire.SOA, wire.IN, 40, 22) + bytes(18) + bytes((0, 0, 0, 20))
)


@pytest.mark.parametrize(
    ("octets", "life_s"),
    [
        (reply(CNAME + GOOD, (2, 0, 0)), 60),
        (reply(CNAME), 0),
        (reply(CNAME + SOA_OF_20, (1, 1, 0)), 20),
        (reply(CNAME[:9] + b"\5" + CNAME[10:] + SOA_OF_20, (1, 1, 0), 0x8183), 5),
        (reply(GOOD + SOA_OF_20, (1, 1, 0)), 40),
        (reply(GOOD[:6] + b"\x80" + GOOD[7:]), 0),
        (reply(GOOD[:6] + b"\x7f" + GOOD[7:]), relay.MAX_LIFE_S),
        (reply(GOOD, flags=0x8380), 0),
    ],
    ids=[
        *("alias and address", "alias alone", "alias to nothing", "short alias to no name"),
        *("positive with SOA", "TTL of 2^31", "huge TTL", "cut off"),
    ],
)
def test_replies_live_as_long_as_each_of_their_records(octets: bytes, life_s: int) -> None:
    """An alias that leads to nothing is a negative answer; RFC 2308 §2.2, RFC 2181 §8."""
    found = relay.read(octets, SENT)
    assert found is not None
    assert found.life_s == life_s


@pytest.mark.parametrize(
    ("soa", "told_s"),
    [(SOA_OF_20, 17), (SOA_OF_20[:8] + b"\x05" + SOA_OF_20[9:], 2)],
    ids=["last field", "own TTL"],
)
@pytest.mark.parametrize("flags", [0x8180, 0x8183], ids=["no data", "no name"])
def test_a_negative_answer_carries_the_time_that_it_lives(
    soa: bytes, told_s: int, flags: int
) -> None:
    """RFC 2308 §5: the smaller of the SOA's TTL and its last field, counted down."""
    found = relay.read(reply(soa, (0, 1, 0), flags), SENT)
    assert found is not None
    octets = found.message(wire.read(packet(question("www.example"))), 3.0, 512, b"")
    assert dns.message.from_wire(octets).authority[0].ttl == told_s


def test_the_soa_of_a_positive_answer_is_left_alone() -> None:
    """It is a record like others."""
    found = relay.read(reply(GOOD + SOA_OF_20, (1, 1, 0)), SENT)
    assert found is not None
    assert found.records == GOOD + SOA_OF_20


def test_a_ttl_above_the_largest_is_zero() -> None:
    """RFC 2181 §8, also for the client."""
    found = relay.read(reply(GOOD[:6] + b"\xff" + GOOD[7:]), SENT)
    assert found is not None
    octets = found.message(wire.read(packet(question("www.example"))), 0.0, 512, b"")
    assert dns.message.from_wire(octets).answer[0].ttl == 0


def test_name_servers_are_read_from_resolv_conf() -> None:
    """In their order, each once; comments, other lines and what is no address do not matter."""
    text = (
        "# nameserver 1.1.1.1\n; nameserver 1.1.1.2\nsearch a b\noptions ndots:5 edns0\n"
        "nameserver 10.0.0.2\n nameserver\t::1 # x\nnameserver\nnameserver ns.example\n"
        "nameserver 10.0.0.2\nnameserver fe80::1%eth0\nnameserver 10.0.0.300\nnameservers ::3\n"
    )
    assert relay.nameservers(text) == ("10.0.0.2", "::1", "fe80::1%eth0")
