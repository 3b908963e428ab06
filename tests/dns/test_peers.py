"""Real resolvers: one that asks us for our zone, and those that we forward to.

Each is skipped where it is not installed.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from discovery.dns import wire
from discovery.dns.server import DnsServer
from tests.dns.talk import PATIENCE_S, datagram, serving, stream
from tests.dns.test_clients import needs, running, until
from tests.dns.test_forward import forwarding
from tests.dns.world import CLUSTERS, opt, packet, question, snapshot

NXDOMAIN = dns.rcode.NXDOMAIN
UNBOUND = """
server:
  directory: "{at}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  num-threads: 1
  interface: 127.0.0.1@{port}
  do-not-query-localhost: no
  module-config: "iterator"
{more}
remote-control:
  control-enable: no
"""
STRICT = """
  qname-minimisation: yes
  qname-minimisation-strict: yes
  use-caps-for-id: yes
  harden-below-nxdomain: yes
  harden-glue: yes
  local-zone: "10.in-addr.arpa." nodefault
stub-zone:
  name: ecs.internal
  stub-addr: 127.0.0.1@{ours}
stub-zone:
  name: 10.in-addr.arpa
  stub-addr: 127.0.0.1@{ours}
"""
LOCAL = """
  local-zone: "corp.example." static
  local-data: "corp.example. 300 IN SOA ns.corp.example. x.corp.example. 1 60 60 60 7"
  local-data: "www.corp.example. 300 IN A 192.0.2.1"
"""
LONG = [f"{n:03d}" + 200 * "x" for n in range(20)]


def free_port() -> int:
    """A port that is free at this moment, of UDP and TCP."""
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        port: int = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))
        return port


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE_S).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def resolver(at: Path, *command: str, port: int) -> Iterator[tuple[str, int]]:
    """A resolver that listens, ended afterwards."""
    with running(at, *command):
        assert until(lambda: listens(port))
        yield "127.0.0.1", port


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an unbound that asks us for our zone, as distrustful as it can be."""
    at, port = tmp_path_factory.mktemp("unbound"), free_port()
    known = snapshot(clusters=CLUSTERS[:2])
    with serving(lambda: known) as server:
        more = STRICT.format(ours=server.address[1])
        (at / "conf").write_text(UNBOUND.format(at=at, port=port, more=more))
        with resolver(at, "unbound", "-c", f"{at}/conf", port=port):
            yield port


@needs("unbound")
@pytest.mark.parametrize(
    ("name", "kind", "rcode", "count"),
    [
        ("orders.prod.ecs.internal", "A", 0, 2),
        ("_http._tcp.orders.prod.ecs.internal", "SRV", 0, 3),
        ("00000001.pay.prod.ecs.internal", "A", 0, 1),
        ("ip-10-0-1-10.node.prod.ecs.internal", "A", 0, 1),
        ("_http._tcp.eu-west-1b.pin._zone.orders.prod.ecs.internal", "SRV", 0, 1),
        ("_services._dns-sd._udp.ecs.internal", "PTR", 0, 4),
        ("orders._http._tcp.prod.ecs.internal", "SRV", 0, 3),
        ("10.1.0.10.in-addr.arpa", "PTR", 0, 1),
        ("ns.dns.ecs.internal", "A", 0, 1),
        ("idle.prod.ecs.internal", "A", 0, 0),
        ("x.y.z.nope.ecs.internal", "A", NXDOMAIN, 0),
    ],
)
def test_a_distrustful_resolver_finds_every_name(
    strict: int, name: str, kind: str, rcode: int, count: int
) -> None:
    """It asks label by label (RFC 9156), in random case, and believes NXDOMAIN of all below."""
    query = dns.message.make_query(name, kind, use_edns=True)
    message = dns.query.udp(query, "127.0.0.1", PATIENCE_S, strict)
    assert (message.rcode(), sum(map(len, message.answer))) == (rcode, count)


@contextmanager
def unbound(at: Path) -> Iterator[tuple[str, int]]:
    """An unbound with a zone of its own."""
    port, texts = free_port(), " ".join(f'"{text}"' for text in LONG)
    more = LOCAL + f"  local-data: 'long.corp.example. 300 IN TXT {texts}'\n"
    (at / "conf").write_text(UNBOUND.format(at=at, port=port, more=more))
    with resolver(at, "unbound", "-c", f"{at}/conf", port=port) as address:
        yield address


@contextmanager
def dnsmasq(at: Path) -> Iterator[tuple[str, int]]:
    """A dnsmasq with a zone of its own."""
    port = free_port()
    own = [
        *("--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null"),
        *("--bind-interfaces", "--listen-address=127.0.0.1", f"--port={port}", "--pid-file="),
        *("--user=", "--auth-zone=corp.example", "--auth-server=ns.corp.example", "--auth-ttl=300"),
        *("--host-record=www.corp.example,192.0.2.1", "--local-ttl=300"),
        f"--txt-record=long.corp.example,{','.join(LONG)}",
    ]
    with resolver(at, "dnsmasq", *own, port=port) as address:
        yield address


@pytest.mark.parametrize(
    "behind",
    [pytest.param(unbound, marks=needs("unbound")), pytest.param(dnsmasq, marks=needs("dnsmasq"))],
)
def test_what_real_resolvers_say_is_passed_on(behind: object, tmp_path: Path) -> None:
    """Addresses, denials, and what only TCP can carry."""
    assert callable(behind)
    with behind(tmp_path) as address, forwarding(address) as server:
        for name in ("www.corp.example", "WWW.corp.EXAMPLE"):
            assert str(told(server, name).answer[0][0]) == "192.0.2.1"
        denied = told(server, "nope.corp.example")
        assert (denied.rcode(), denied.answer) == (NXDOMAIN, [])
        assert all(soa.ttl == 7 for soa in denied.authority)
        assert told(server, "long.corp.example", wire.TXT).flags & dns.flags.TC
        whole = dns.message.from_wire(
            stream(server, packet(question("long.corp.example", wire.TXT)))
        )
        assert [s.decode() for s in whole.answer[0][0].strings] == LONG


def told(server: DnsServer, name: str, kind: int = wire.A) -> dns.message.Message:
    """What our server says over UDP."""
    return dns.message.from_wire(datagram(server, packet(question(name, kind), opt())))
