"""What goes over the wire, through real sockets, read by dnspython as the strict parser.

Each row is asked over UDP and over TCP. The EDNS rows follow RFC 8906 §8.
"""

import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest

from discovery.dns import wire
from discovery.dns.server import DnsServer
from discovery.model import Cluster, Snapshot
from tests.dns.talk import datagram, serving, stream
from tests.dns.world import NOW, many, opt, packet, question, snapshot

DS, HTTPS, TKEY, TSIG = 43, 65, 249, 250
QR, AA, TC, RD = dns.flags.QR, dns.flags.AA, dns.flags.TC, dns.flags.RD
ORDERS = question("orders.prod.ecs.internal")
Ask = Callable[[DnsServer, bytes], bytes]
BOTH = pytest.mark.parametrize("ask", [datagram, stream], ids=["udp", "tcp"])


@pytest.fixture(scope="module")
def server() -> Iterator[DnsServer]:
    """One server for all rows."""
    with serving() as running:
        yield running


def reply(ask: Ask, server: DnsServer, octets: bytes) -> dns.message.Message:
    """The reply, which must be strictly well-formed and to this query."""
    message = dns.message.from_wire(ask(server, octets), one_rr_per_rrset=True)
    assert message.id == 0x1234
    return message


@dataclass(frozen=True)
class Row:
    """A question, and what is told: code, flags beside QR and RD, records by section, EDE."""

    name: str
    kind: int
    rcode: int = wire.NOERROR
    flags: int = AA
    answers: int = 0
    authority: int = 0
    additional: int = 0
    extended: int | None = None
    cls: int = wire.IN


ROWS = [
    Row("orders.prod.ecs.internal", wire.A, answers=2),
    Row("OrDeRs.PROD.ecs.INTERNAL", wire.A, answers=2),
    Row("pay.ecs.internal", wire.AAAA, answers=2),
    Row("orders.prod.ecs.internal", wire.SRV, answers=4, additional=2),
    Row("_http._tcp.pay.ecs.internal", wire.SRV, answers=3, additional=4),
    Row("orders.prod.ecs.internal", wire.TXT, answers=1),
    Row("10.1.0.10.in-addr.arpa", wire.PTR, answers=1),
    Row("10.1.0.10.in-addr.arpa", wire.A, authority=1),
    Row("1.0.10.in-addr.arpa", wire.PTR, wire.REFUSED, flags=0, extended=20),
    Row("010.1.0.10.in-addr.arpa", wire.PTR, wire.REFUSED, flags=0, extended=20),
    Row("3" + 23 * ".0" + ".8.b.d.0.1.0.0.2.ip6.arpa", wire.PTR, answers=1),
    Row("8.b.d.0.1.0.0.2.ip6.arpa", wire.PTR, wire.REFUSED, flags=0, extended=20),
    Row("ecs.internal", wire.SOA, answers=1),
    Row("ecs.internal", wire.NS, answers=1),
    Row("ecs.internal", wire.A, authority=1),
    Row("orders.prod.ecs.internal", wire.ANY, answers=1),
    Row("orders.prod.ecs.internal", wire.AAAA, authority=1),
    Row("orders.prod.ecs.internal", 65_280, authority=1),
    Row("orders.prod.ecs.internal", 65_535, authority=1),
    Row("orders.prod.ecs.internal", 0, authority=1),
    Row("orders.prod.ecs.internal", wire.OPT, authority=1),
    Row("orders.prod.ecs.internal", TKEY, authority=1),
    Row("orders.prod.ecs.internal", TSIG, authority=1),
    Row("orders.prod.ecs.internal", HTTPS, authority=1),
    Row("ecs.internal", DS, authority=1),
    Row("prod.ecs.internal", wire.A, authority=1),
    Row("idle.prod.ecs.internal", wire.A, authority=1),
    Row("node.prod.ecs.internal", wire.A, authority=1),
    Row("_tcp.orders.prod.ecs.internal", wire.SRV, authority=1),
    Row("_zone.orders.prod.ecs.internal", wire.A, authority=1),
    Row("pin._zone.orders.prod.ecs.internal", wire.A, authority=1),
    Row("_tcp.eu-west-1b.pin._zone.orders.prod.ecs.internal", wire.SRV, authority=1),
    Row("dns.ecs.internal", wire.A, authority=1),
    Row("_tcp.ecs.internal", wire.PTR, authority=1),
    Row("_dns-sd._udp.ecs.internal", wire.PTR, authority=1),
    Row("EU-West-1b.pin._zone.orders.prod.ecs.internal", wire.SRV, answers=2, additional=1),
    Row("eu-west-1b.prefer._zone.orders.ecs.internal", wire.A, answers=1),
    Row("_http._tcp.eu-west-1b.pin._zone.orders.ecs.internal", wire.SRV, answers=1, additional=1),
    Row("nowhere.pin._zone.orders.prod.ecs.internal", wire.SRV, authority=1),
    Row("nowhere.prefer._zone.orders.prod.ecs.internal", wire.SRV, answers=4, additional=2),
    Row("00000001.orders.prod.ecs.internal", wire.A, answers=1),
    Row("0000000.orders.prod.ecs.internal", wire.A, wire.NXDOMAIN, authority=1),
    Row("ip-10-0-1-10.node.prod.ecs.internal", wire.A, answers=1),
    Row("ip-010-0-1-10.node.prod.ecs.internal", wire.A, wire.NXDOMAIN, authority=1),
    Row("_services._dns-sd._udp.ecs.internal", wire.PTR, answers=4),
    Row("_http._tcp.prod.ecs.internal", wire.PTR, answers=3),
    Row("dns-version.ecs.internal", wire.TXT, answers=1),
    Row("ns.dns.ecs.internal", wire.A, answers=1),
    Row("nope.ecs.internal", wire.A, wire.NXDOMAIN, authority=1),
    Row("*.ecs.internal", wire.A, wire.NXDOMAIN, authority=1),
    Row("*.orders.prod.ecs.internal", wire.A, wire.NXDOMAIN, authority=1),
    Row(r"orders\.prod.ecs.internal", wire.A, wire.NXDOMAIN, authority=1),
    Row(r"orders\000.prod.ecs.internal", wire.A, wire.NXDOMAIN, authority=1),
    Row(r"\255\254.ecs.internal", wire.A, wire.NXDOMAIN, authority=1),
    Row(63 * "x" + ".ecs.internal", wire.A, wire.NXDOMAIN, authority=1),
    Row(3 * (63 * "x" + ".") + 48 * "x" + ".ecs.internal", wire.A, wire.NXDOMAIN, authority=1),
    Row("_nope._tcp.orders.ecs.internal", wire.SRV, wire.NXDOMAIN, authority=1),
    Row("_._tcp.orders.ecs.internal", wire.SRV, wire.NXDOMAIN, authority=1),
    Row("_080._tcp.orders.ecs.internal", wire.SRV, wire.NXDOMAIN, authority=1),
    Row("_http._sctp.orders.ecs.internal", wire.SRV, wire.NXDOMAIN, authority=1),
    Row("twin.ecs.internal", wire.A, wire.NXDOMAIN, authority=1, extended=0),
    Row("x.late.ecs.internal", wire.A, wire.SERVFAIL, flags=0, extended=14),
    Row("_http._tcp.cold.ecs.internal", wire.SRV, wire.SERVFAIL, flags=0, extended=14),
    Row("ecs.internal", wire.AXFR, wire.REFUSED, flags=0),
    Row("ecs.internal", wire.IXFR, wire.REFUSED, flags=0),
    Row("example.org", wire.A, wire.REFUSED, flags=0, extended=20),
    Row(".", wire.NS, wire.REFUSED, flags=0, extended=20),
    Row("internal", wire.NS, wire.REFUSED, flags=0, extended=20),
    Row("localhost", wire.A, wire.REFUSED, flags=0, extended=20),
    Row(r"orders.prod.ecs\.internal", wire.A, wire.REFUSED, flags=0, extended=20),
    Row("1.0.0.127.in-addr.arpa", wire.PTR, wire.REFUSED, flags=0, extended=20),
    Row("version.bind", wire.TXT, answers=1, cls=wire.CHAOS),
    Row("id.server", wire.TXT, answers=1, cls=wire.CHAOS),
    Row("hostname.bind", wire.TXT, wire.REFUSED, flags=0, cls=wire.CHAOS),
    Row("orders.prod.ecs.internal", wire.A, wire.REFUSED, flags=0, cls=wire.CHAOS),
    Row("orders.prod.ecs.internal", wire.A, wire.REFUSED, flags=0, cls=4),
    Row("orders.prod.ecs.internal", wire.A, wire.REFUSED, flags=0, cls=255),
]


@BOTH
@pytest.mark.parametrize("edns", [False, True], ids=["plain", "edns"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name} {row.kind}")
def test_questions_are_answered(server: DnsServer, row: Row, edns: bool, ask: Ask) -> None:
    """Code, flags, sections, TTLs, the echoed question, and an OPT exactly where there was one."""
    name = dns.name.from_text(row.name).to_wire()
    assert name is not None
    asked = name + struct.pack("!2H", row.kind, row.cls)
    octets = packet(asked, *((opt(),) if edns else ()), flags=0x01B0 & ~0x80)
    raw = ask(server, octets)
    message = reply(lambda *_: raw, server, octets)
    assert raw[12 : 12 + len(asked)] == asked
    assert message.rcode() == row.rcode
    assert message.flags & ~0xF == QR | RD | row.flags
    sections = (message.answer, message.authority, message.additional)
    assert tuple(map(len, sections)) == (row.answers, row.authority, row.additional)
    assert {r.ttl for r in message.answer} <= ({0} if row.cls == wire.CHAOS else {5})
    assert {(r.rdtype, r.ttl) for r in message.authority} <= {(dns.rdatatype.SOA, 2)}
    assert (message.edns == 0) == edns
    assert [e.code for e in message.extended_errors()] == (
        [row.extended] if edns and row.extended is not None else []
    )


@BOTH
def test_every_service_target_resolves(server: DnsServer, ask: Ask) -> None:
    """Each target of each SRV record, asked for itself, has the addresses that came along."""
    for name in ("orders", "pay", "cold", "billing.staging"):
        told = reply(ask, server, packet(question(f"{name}.ecs.internal", wire.SRV), opt()))
        for record in told.answer:
            target = record[0].target.to_text(omit_final_dot=True)
            addresses = {
                str(a[0])
                for kind in (wire.A, wire.AAAA)
                for a in reply(ask, server, packet(question(target, kind))).answer
            }
            extra = {str(r[0]) for r in told.additional if r.name == record[0].target}
            assert addresses == extra != set()


@BOTH
@pytest.mark.parametrize(
    ("octets", "rcode"),
    [
        (packet(ORDERS[:-1]), wire.FORMERR),
        (packet(ORDERS + ORDERS, questions=2), wire.FORMERR),
        (packet(b"", questions=0), wire.FORMERR),
        (packet(b"\xc0\x0c\0\1\0\1"), wire.FORMERR),
        (packet(question(".".join(["a" * 63] * 4))), wire.FORMERR),
        (packet(ORDERS, b"x"), wire.FORMERR),
        *((packet(ORDERS, opt(), flags=op << 11 | 0x7F0), wire.NOTIMP) for op in (1, 2, 4, 5, 15)),
    ],
)
def test_what_cannot_be_read_is_answered_by_a_header(
    server: DnsServer, octets: bytes, rcode: int, ask: Ask
) -> None:
    """Twelve octets: id and opcode as they came, every flag clear."""
    got = ask(server, octets)
    opcode = octets[2] & 0x78
    assert got == octets[:2] + bytes((0x80 | opcode, rcode)) + bytes(8)


@BOTH
@pytest.mark.parametrize(
    ("extra", "rcode"),
    [
        ((opt(version=1),), dns.rcode.BADVERS),
        ((opt((65_001, b"x"), version=1),), dns.rcode.BADVERS),
        ((opt(), opt()), dns.rcode.FORMERR),
        ((opt((wire.COOKIE, b"1234567")),), dns.rcode.FORMERR),
        ((opt((wire.COOKIE, bytes(41))),), dns.rcode.FORMERR),
        ((opt()[:-1] + b"\1\0",), dns.rcode.FORMERR),
    ],
)
def test_faults_of_edns_are_told_with_edns(
    server: DnsServer, extra: tuple[bytes, ...], rcode: dns.rcode.Rcode, ask: Ask
) -> None:
    """The question and a version 0 OPT come back, no record with them."""
    message = reply(ask, server, packet(ORDERS, *extra))
    assert message.rcode() == rcode
    assert len(message.question) == 1
    assert not message.answer
    assert (message.edns, message.payload, message.options) == (0, 1_232, ())


@BOTH
@pytest.mark.parametrize(
    ("record", "flags"),
    [
        (opt(size=0), 0),
        (opt(size=65_535), 0),
        (opt(flags=0x8000), dns.flags.DO),
        (opt(flags=0x7FFF), 0),
        (opt((100, b"")), 0),
        (opt((100, b"x" * 100), (8, b"\0\1\0\0")), 0),
    ],
    ids=["size 0", "size 65535", "DO", "unknown flags", "unknown option", "client subnet"],
)
def test_unknown_parts_of_edns_are_passed_over(
    server: DnsServer, record: bytes, flags: int, ask: Ask
) -> None:
    """RFC 8906 §8.2: answered as ever; only DO is copied (RFC 3225 §3), nothing is echoed."""
    message = reply(ask, server, packet(ORDERS, record))
    assert (message.rcode(), len(message.answer)) == (0, 2)
    assert (message.edns, message.ednsflags & 0xFFFF, message.options) == (0, flags, ())


@BOTH
def test_the_server_says_who_it_is(server: DnsServer, ask: Ask) -> None:
    """NSID as the only option, and the two names of class CHAOS."""
    message = reply(ask, server, packet(ORDERS, opt((wire.NSID, b""))))
    assert [(int(o.otype), o.to_wire()) for o in message.options] == [(wire.NSID, b"here")]
    for name, want in (("version.bind", '"1.2.3"'), ("ID.SERVER", '"one"')):
        told = reply(ask, server, packet(question(name, wire.TXT, wire.CHAOS)))
        assert str(told.answer[0][0]) == want


def test_the_server_keeps_to_itself_who_it_is() -> None:
    """Unless it is set."""
    with serving(told=False) as quiet:
        assert not reply(datagram, quiet, packet(ORDERS, opt((wire.NSID, b"")))).options
        refused = reply(datagram, quiet, packet(question("version.bind", wire.TXT, wire.CHAOS)))
        assert refused.rcode() == wire.REFUSED


@BOTH
def test_cookies_are_given_and_kept(server: DnsServer, ask: Ask) -> None:
    """A client cookie comes back with the server's, and both together as they are."""
    first = reply(ask, server, packet(ORDERS, opt((wire.COOKIE, b"clientid")))).options[0].to_wire()
    assert (first[:8], len(first)) == (b"clientid", 24)
    again = reply(ask, server, packet(ORDERS, opt((wire.COOKIE, first))))
    assert (again.options[0].to_wire(), again.rcode(), len(again.answer)) == (first, 0, 2)


@BOTH
def test_a_cookie_may_be_asked_for_alone(server: DnsServer, ask: Ask) -> None:
    """RFC 7873 §5.4: no question, a cookie: NOERROR with a cookie."""
    message = reply(ask, server, packet(b"", opt((wire.COOKIE, b"clientid")), questions=0))
    assert (message.rcode(), message.question, len(message.options)) == (0, [], 1)


def test_stale_data_is_served_and_said_to_be() -> None:
    """The same records and TTL with EDE 3; EDE 19 where there is no such name."""
    with serving(now=NOW + 100) as late:
        message = reply(datagram, late, packet(ORDERS, opt()))
        assert [e.code for e in message.extended_errors()] == [dns.edns.EDECode.STALE_ANSWER]
        assert (len(message.answer), message.answer[0].ttl) == (2, 5)
        unknown = reply(datagram, late, packet(question("nope.ecs.internal"), opt()))
        assert unknown.rcode() == wire.NXDOMAIN
        assert [e.code for e in unknown.extended_errors()] == [19]


def test_data_beyond_the_stale_limit_is_not_served() -> None:
    """SERVFAIL and EDE 22."""
    with serving(now=NOW + 100_000) as late:
        message = reply(datagram, late, packet(ORDERS, opt()))
        assert (message.rcode(), message.answer) == (wire.SERVFAIL, [])
        assert [e.code for e in message.extended_errors()] == [22]


@BOTH
def test_nothing_is_denied_before_the_first_snapshot(ask: Ask) -> None:
    """SERVFAIL and EDE 14, so that no client remembers a name as missing."""
    with serving(lambda: Snapshot(clusters=(Cluster("prod"),))) as early:
        for asked in (ORDERS, question("nope.ecs.internal"), question("ecs.internal", wire.SOA)):
            message = reply(ask, early, packet(asked, opt()))
            assert message.rcode() == wire.SERVFAIL
            assert [e.code for e in message.extended_errors()] == [14]


def test_a_hundred_records_without_edns_are_cut_to_512_octets() -> None:
    """Whole records, TC, and all of them over TCP."""
    known = snapshot(many(100))
    with serving(lambda: known) as server:
        octets = packet(question("many.ecs.internal", wire.SRV))
        raw = datagram(server, octets)
        assert len(raw) <= 512
        cut = dns.message.from_wire(raw, one_rr_per_rrset=True)
        assert cut.flags & TC
        assert 5 < len(cut.answer) < 100
        whole = reply(stream, server, octets)
        assert not whole.flags & TC
        assert (len(whole.answer), len(whole.additional)) == (100, 100)


@pytest.mark.parametrize(
    ("size", "limit"),
    [(0, 512), (511, 512), (512, 512), (513, 513), (1_232, 1_232), (65_535, 1_232)],
)
def test_a_datagram_is_as_long_as_the_client_can_take(size: int, limit: int) -> None:
    """RFC 6891 §6.2.3: less than 512 means 512; more than 1232 would be fragmented."""
    known = snapshot(many(100))
    with serving(lambda: known) as server:
        raw = datagram(server, packet(question("many.ecs.internal", wire.SRV), opt(size=size)))
        message = dns.message.from_wire(raw, one_rr_per_rrset=True)
        assert message.flags & TC
        assert limit - 70 < len(raw) <= limit


def test_two_thousand_endpoints_fill_a_message_over_tcp() -> None:
    """At most 65,535 octets with TC, parseable."""
    known = snapshot(many(2_000))
    with serving(lambda: known) as server:
        raw = stream(server, packet(question("many.ecs.internal", wire.SRV), opt()))
        message = dns.message.from_wire(raw, one_rr_per_rrset=True)
        assert 65_000 < len(raw) <= 65_535
        assert message.flags & TC
        assert len(message.answer) > 1_000
        addresses = reply(stream, server, packet(question("many.ecs.internal"), opt()))
        assert (len(addresses.answer), addresses.flags & TC) == (2_000, 0)


def run(*command: str) -> str:
    """What an unmodified client prints; skips where it is not installed."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


@pytest.mark.parametrize("client", ["dig", "kdig"])
@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_unmodified_clients_understand_us(server: DnsServer, client: str, transport: str) -> None:
    """dig and kdig print the records, without a warning of either's."""
    host, port = server.address
    name = "_http._tcp.orders.prod.ecs.internal"
    got = run(client, f"@{host}", "-p", str(port), transport, "+norec", name, "SRV")
    assert "status: NOERROR" in got
    assert got.count("IN	SRV	0 100 327") + got.count("IN SRV	0 100 327") == 3
    assert "WARNING" not in got.upper()


def test_dig_shows_a_good_cookie(server: DnsServer) -> None:
    """dig checks that its own part came back."""
    host, port = server.address
    got = run("dig", f"@{host}", "-p", str(port), "+cookie=0123456789abcdef", "ecs.internal", "SOA")
    assert "(good)" in got


def test_headers_are_understood_bit_by_bit(server: DnsServer) -> None:
    """RFC 8906 §8.1: unknown flags of a query are not copied."""
    for flags in (0x0040, 0x0020, 0x0010, 0x0400, 0x0200, 0x0080):
        got = datagram(server, packet(ORDERS, flags=flags))
        assert struct.unpack_from("!H", got, 2)[0] == QR | AA, f"{flags:#x}"
