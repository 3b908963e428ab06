"""RFC 8906 §8: what a server must say to queries that others have been known to stumble over."""

from collections.abc import Iterator
from dataclasses import dataclass

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest

from discovery.dns import wire
from discovery.dns.server import DnsServer
from tests.dns.talk import datagram, serving, stream
from tests.dns.world import opt, packet, question

QR, AA, RD = dns.flags.QR, dns.flags.AA, dns.flags.RD
ZONE = "ecs.internal"
UNKNOWN = (100, b"")
EVERY = ((wire.NSID, b""), (wire.COOKIE, b"c" * 8), (8, b"\0\1\0\0"), (9, b""), (11, b""), UNKNOWN)
HEADER = 12


@dataclass(frozen=True)
class Case:
    """A query of the list, and what is demanded of the reply."""

    section: str
    octets: bytes
    rcode: int = wire.NOERROR
    flags: int = QR | AA
    answers: int = 1
    edns: bool = False
    dnssec_ok: bool = False


SOA = question(ZONE, wire.SOA)
CASES = [
    Case("8.1.1 configured", packet(SOA, flags=0)),
    Case("8.1.2 unknown type", packet(question(ZONE, 1_000), flags=0), answers=0),
    Case("8.1.3.1 CD", packet(SOA, flags=0x10)),
    Case("8.1.3.2 AD", packet(SOA, flags=0x20)),
    Case("8.1.3.3 reserved bit", packet(SOA, flags=0x40)),
    Case("8.1.3.4 RD", packet(SOA, flags=wire.RD), flags=QR | AA | RD),
    Case(
        "8.1.4 unknown opcode",
        packet(b"", flags=15 << 11, questions=0),
        *(wire.NOTIMP, QR, 0),
    ),
    Case("8.2.1 minimal EDNS", packet(SOA, opt(size=4_096), flags=0), edns=True),
    Case("8.2.2 version 1", packet(SOA, opt(version=1), flags=0), wire.BADVERS, QR, 0, True),
    Case("8.2.3 unknown option", packet(SOA, opt(UNKNOWN), flags=0), edns=True),
    Case("8.2.4 unknown flags", packet(SOA, opt(flags=0x40), flags=0), edns=True),
    Case(
        "8.2.5 version 1, unknown option",
        packet(SOA, opt(UNKNOWN, version=1), flags=0),
        *(wire.BADVERS, QR, 0, True),
    ),
    Case(
        "8.2.6 small size, DO",
        packet(question(ZONE, 48), opt(size=512, flags=0x8000), flags=0),
        *(wire.NOERROR, QR | AA, 0, True, True),
    ),
    Case("8.2.7 DO", packet(SOA, opt(flags=0x8000), flags=0), edns=True, dnssec_ok=True),
    Case(
        "8.2.8 version 1, unknown flags",
        packet(SOA, opt(version=1, flags=0x40), flags=0),
        *(wire.BADVERS, QR, 0, True),
    ),
    Case("8.2.9 many options", packet(SOA, opt(*EVERY), flags=0), edns=True),
    Case("8.2 size 0", packet(SOA, opt(size=0), flags=0), edns=True),
]


@pytest.fixture(scope="module")
def server() -> Iterator[DnsServer]:
    """One server for the list."""
    with serving() as running:
        yield running


@pytest.mark.parametrize("ask", [datagram, stream], ids=["UDP", "8.1.5 TCP"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.section)
def test_the_reply_is_as_the_list_demands(server: DnsServer, case: Case, ask: object) -> None:
    """Code, flags, answers; EDNS version 0 iff the query had EDNS, no unknown flag or option."""
    assert callable(ask)
    reply = ask(server, case.octets)
    message = dns.message.from_wire(reply, one_rr_per_rrset=True)
    assert message.rcode() == case.rcode
    opcode_bits = dns.opcode.to_flags(message.opcode())
    assert message.flags & ~opcode_bits & 0xFFF0 == case.flags
    assert len(message.answer) == case.answers
    assert (message.edns == 0) == case.edns
    assert message.ednsflags & 0xFFFF == (0x8000 if case.dnssec_ok else 0)
    assert {int(o.otype) for o in message.options} <= {wire.NSID, wire.COOKIE}


def test_an_unknown_opcode_is_answered_by_a_header(server: DnsServer) -> None:
    """RFC 8906 §8.1.4: what follows the header is undefined, and nothing of it is echoed."""
    for opcode in (1, 2, 3, 6, 15):
        for ask in (datagram, stream):
            assert len(ask(server, packet(SOA, flags=opcode << 11))) == HEADER
