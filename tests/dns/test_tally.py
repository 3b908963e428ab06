"""What was answered is counted by type and rcode, at hand or not, over every transport."""

import socket
from collections.abc import Callable, Iterator

import dns.edns
import dns.message
import dns.query
import pytest

from discovery.dns.server import DnsServer
from discovery.dns.tally import FORWARDED, Tally
from discovery.model import Cluster, Snapshot
from tests.sidecar.fleet import WEB

SNAPSHOT = Snapshot(
    epoch=1,
    observed_at=1.0,
    clusters=(Cluster("prod", observed_at=1.0),),
    services={WEB.key: WEB},
    read_at={WEB.key: 1.0},
)
TIMEOUT_S = 30.0


@pytest.fixture
def server() -> Iterator[DnsServer]:
    """A server of one service."""
    with DnsServer(("127.0.0.1", 0), lambda: SNAPSHOT, clock=lambda: 2.0) as server:
        yield server


def by_udp(server: DnsServer, query: dns.message.Message) -> None:
    """Ask, and have the answer."""
    dns.query.udp(query, server.address[0], TIMEOUT_S, server.address[1])


def by_tcp(server: DnsServer, query: dns.message.Message) -> None:
    """Ask, and have the answer."""
    dns.query.tcp(query, server.address[0], TIMEOUT_S, server.address[1])


@pytest.mark.parametrize(("ask", "transport"), [(by_udp, "udp"), (by_tcp, "tcp")])
def test_every_answer_is_counted(
    server: DnsServer, ask: Callable[[DnsServer, dns.message.Message], None], transport: str
) -> None:
    """The first is worked out, those after it are at hand: in any case, with cookies, unknown."""
    for name, kind in (
        ("web.prod", "A"),
        ("WEB.prod", "A"),
        ("x.prod", "AAAA"),
        ("y.prod", "AAAA"),
    ):
        for _ in range(3):
            ask(server, dns.message.make_query(f"{name}.ecs.internal", kind))
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, bytes(8))
    for _ in range(2):
        ask(server, dns.message.make_query("web.prod.ecs.internal", "A", options=[cookie]))
    ask(server, dns.message.make_query("www.example.org", "TXT"))
    assert server.tallies[transport].totals() == {
        ("A", "NOERROR"): 8,
        ("AAAA", "NXDOMAIN"): 6,
        ("TXT", "REFUSED"): 1,
    }


def test_what_cannot_be_read_is_counted(server: DnsServer) -> None:
    """Its type is not known."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT_S)
        client.connect(server.address)
        client.send(bytes.fromhex("abcd 0100 0002 0000 0000 0000"))
        client.recv(512)
    assert server.tallies["udp"].totals() == {("other", "FORMERR"): 1}


def test_what_there_is_to_count_is_bounded() -> None:
    """Whatever types are asked for, and whatever is said."""
    tally = Tally()
    for kind in range(65_536):
        for rcode in (0, 16, 23, FORWARDED):
            tally.count(kind, rcode)[0] += 1
    totals = tally.totals()
    assert len(totals) <= 60
    assert sum(totals.values()) == 4 * 65_536
    assert totals["A", "forwarded"] == 1
