"""The server's life, its connections, and what it does with packets that mean harm."""

import contextlib
import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import dns.message
import pytest

from discovery.dns import wire
from discovery.dns.answering import PRIVATE, Allowed
from discovery.dns.forward import Addresses
from discovery.dns.server import DnsServer
from discovery.dns.tcp import TcpLoop
from discovery.dns.udp import UdpLoop
from discovery.events import Event, Listeners, QueryDropped
from discovery.model import Snapshot
from tests.dns.talk import (
    PATIENCE_S,
    answering,
    datagram,
    dialled,
    framed,
    received,
    serving,
    stream,
)
from tests.dns.test_wire import FORMERRS
from tests.dns.world import NOW, SNAPSHOT, opt, packet, question

ORDERS = question("orders.prod.ecs.internal")
PLAIN = packet(ORDERS)


def answers_in(octets: bytes) -> int:
    """How many answers a reply has."""
    return len(dns.message.from_wire(octets, one_rr_per_rrset=True).answer)


ASIDE = "127.66.53.1"  # where no other process takes a port by chance


def no_list() -> Addresses:
    """Whom to forward to, which nobody knows."""
    raise ValueError("no list")


def made(port: int, host: str = "127.0.0.1") -> DnsServer:
    """A server that is not started yet."""
    return DnsServer((host, port), lambda: SNAPSHOT, clock=lambda: NOW)


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether something comes to hold while we have patience."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds() and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    return holds()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_udp_and_tcp_share_a_port(host: str) -> None:
    """Also where any free port will do, and on IPv6."""
    with serving(host=host) as server:
        assert server.address[0] == host
        assert server.address[1]
        assert answers_in(datagram(server, PLAIN)) == 2
        assert answers_in(stream(server, PLAIN)) == 2


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_any_address_answers_from_the_one_that_was_asked(host: str) -> None:
    """A client drops what comes from elsewhere; a connected socket, too."""
    with serving(host=host) as server:
        for asked in ("127.0.0.1", "127.0.0.2"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(PATIENCE_S)
                sock.connect((asked, server.address[1]))
                sock.send(PLAIN)
                assert answers_in(sock.recv(1_232)) == 2


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["UDP", "TCP"])
def test_a_port_in_use_is_said_plainly(kind: socket.SocketKind) -> None:
    """The error names address and protocol, nothing is left bound."""
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind((ASIDE, 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        name = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
        with pytest.raises(OSError, match=f"cannot listen on {ASIDE} port {port} .{name}.") as why:
            made(port, ASIDE).start()
        assert why.value.errno == errno.EADDRINUSE
        assert "address already in use" in str(why.value)
    with made(port, ASIDE) as server:
        assert answers_in(datagram(server, PLAIN)) == 2


def test_a_second_server_does_not_steal_queries() -> None:
    """Two on one port would each get half of them."""
    with serving() as server, pytest.raises(OSError, match="already in use"):
        made(server.address[1]).start()


def test_a_closed_server_leaves_nothing_behind() -> None:
    """Threads end, connections close, the port is free; closing again does nothing."""
    before = threading.active_count()
    with serving() as server, dialled(server) as sock:
        sock.sendall(framed(PLAIN))
        received(sock)
        server.close()
        assert sock.recv(1) == b""
        server.close()
        assert threading.active_count() == before
        assert "not listening" in repr(server)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(server.address)


@pytest.mark.parametrize(
    "wrong", [{"clients": ("10.0.0.1/8",), "forward": {"": [(ASIDE, 53)]}}, {"forward": no_list}]
)
def test_a_server_that_cannot_start_leaves_nothing_behind(wrong: dict[str, Any]) -> None:
    """No thread and no descriptor, whatever was wrong."""
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with pytest.raises(ValueError, match=r"host bits|no list"):
        DnsServer(("127.0.0.1", 0), lambda: SNAPSHOT, **wrong).start()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is meant
@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["UDP", "TCP"])
def test_a_server_one_of_whose_threads_has_ended_is_not_alive(kind: socket.SocketKind) -> None:
    """Whoever watches it can tell, and end the process."""

    def leave(_: Event) -> None:
        raise SystemExit

    server = DnsServer(("127.0.0.1", 0), lambda: SNAPSHOT, listeners=Listeners(leave))
    with server:
        alive = [server.is_alive]
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.connect(server.address)
            sock.sendall(framed(b"no query"))
            assert eventually(lambda: not server.is_alive)
    assert alive == [True]


def test_an_exception_loses_no_query(caplog: pytest.LogCaptureFixture) -> None:
    """SERVFAIL with the query's id, and one line in the log however often it happens."""
    failing = [True]

    def known() -> Snapshot:
        if failing[0]:
            raise RuntimeError("no snapshot today")
        return SNAPSHOT

    with caplog.at_level(logging.ERROR), serving(known) as server:
        for ask in (datagram, datagram, datagram):
            got = ask(server, PLAIN)
            assert got == PLAIN[:2] + bytes((0x80, wire.SERVFAIL)) + bytes(8)
        assert stream(server, PLAIN)[3] == wire.SERVFAIL
        failing[0] = False
        assert answers_in(datagram(server, PLAIN)) == 2
    udp_lines = [r for r in caplog.records if r.threadName == "dns-udp"]
    assert len(udp_lines) == 1


def test_packets_that_are_no_queries_are_dropped_and_counted() -> None:
    """No reply, one event each, and the connection goes on."""
    heard: list[Event] = []
    bad = (b"", b"x" * 11, packet(ORDERS, flags=wire.QR))
    with serving(heard=heard) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(server.address)
            for octets in bad:
                sock.send(octets)
            sock.send(PLAIN)
            assert answers_in(sock.recv(1_232)) == 2
        with dialled(server) as connection:
            for octets in bad:
                connection.sendall(framed(octets))
            connection.sendall(framed(PLAIN))
            assert answers_in(received(connection)) == 2
    reasons = [e.reason for e in heard if isinstance(e, QueryDropped)]
    assert sorted(reasons) == 2 * ["not a query"] + 4 * ["shorter than a header"]


def test_hostile_packets_hold_up_nobody() -> None:
    """All of them at once, over both transports; a normal query is answered right after."""
    with serving() as server, dialled(server) as connection:
        for octets in FORMERRS.values():
            assert datagram(server, octets[:65_000])[3] & 0xF == wire.FORMERR
            connection.sendall(framed(octets[:65_535]))
        connection.sendall(framed(PLAIN))
        for _ in FORMERRS:
            assert received(connection)[3] & 0xF == wire.FORMERR
        assert answers_in(received(connection)) == 2
        start = time.monotonic()
        assert answers_in(datagram(server, PLAIN)) == 2
        assert time.monotonic() - start < 0.5


def test_a_query_may_come_in_pieces() -> None:
    """The length split in two, the message octet by octet."""
    with serving() as server, dialled(server) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in framed(PLAIN):
            sock.sendall(bytes((octet,)))
        assert answers_in(received(sock)) == 2


def test_queries_may_be_pipelined() -> None:
    """Two in one segment, then a thousand without waiting: each is answered, in order."""
    with serving() as server, dialled(server) as sock:
        sock.sendall(framed(PLAIN) + framed(packet(ORDERS, opt(), ident=7)))
        assert received(sock)[:2] == PLAIN[:2]
        assert received(sock)[:2] == b"\0\7"
        sock.sendall(b"".join(framed(packet(ORDERS, ident=n)) for n in range(1_000)))
        assert [received(sock)[:2] for _ in range(1_000)] == [
            n.to_bytes(2, "big") for n in range(1_000)
        ]


def test_a_client_that_has_said_all_still_gets_its_answers() -> None:
    """A half-closed connection is answered, then closed."""
    with serving() as server, dialled(server) as sock:
        sock.sendall(framed(PLAIN) * 3)
        sock.shutdown(socket.SHUT_WR)
        assert [answers_in(received(sock)) for _ in range(3)] == [2, 2, 2]
        assert sock.recv(1) == b""


def test_a_client_that_reads_nothing_holds_up_nobody() -> None:
    """Its replies are bounded: the server stops reading from it, and goes on with others."""
    with serving() as server, dialled(server) as greedy:
        greedy.settimeout(0.2)
        burst = framed(packet(question("orders.prod.ecs.internal", wire.SRV), opt())) * 1_000
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 500 << 20:
                sent += greedy.send(burst)
        assert sent < 500 << 20
        assert answers_in(stream(server, PLAIN)) == 2
        greedy.settimeout(PATIENCE_S)
        assert answers_in(received(greedy)) == 4


def test_three_hundred_idle_connections_keep_nobody_out() -> None:
    """The ones that have been idle longest give way, and are counted."""
    heard: list[Event] = []
    with serving(heard=heard) as server, ExitStack() as stack:
        idle = [stack.enter_context(dialled(server)) for _ in range(300)]
        assert answers_in(stream(server, PLAIN)) == 2
        assert idle[0].recv(1) == b""
        idle[-1].sendall(framed(PLAIN))
        assert answers_in(received(idle[-1])) == 2
        assert len([e for e in heard if "too many connections" in str(e)]) == 45


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@contextmanager
def looping(loop: TcpLoop) -> Iterator[TcpLoop]:
    """The loop in a thread, gone afterwards."""
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield loop
    finally:
        loop.close()
        thread.join()


def test_idle_connections_are_closed() -> None:
    """After ten seconds without a query; octets that make none do not count."""
    clock = Clock()
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        loop = TcpLoop(listening, answering(), Listeners(), clock=clock)
        stack.enter_context(looping(loop))
        talking, trickling = (  # who has talked is not the idlest, though it came first
            stack.enter_context(socket.create_connection(listening.getsockname(), PATIENCE_S))
            for _ in range(2)
        )
        assert eventually(lambda: "2 of 256" in repr(loop))
        clock.now = 9.0
        trickling.sendall(b"\0")
        talking.sendall(framed(PLAIN))
        assert answers_in(received(talking)) == 2
        clock.now = 10.5
        talking.sendall(framed(PLAIN))
        assert answers_in(received(talking)) == 2
        assert trickling.recv(1) == b""
        assert "1 of 256" in repr(loop)


class Exhausted(socket.socket):
    """A listening socket of a process that has no descriptor left, for a while."""

    failures = 2

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """Fail as the system does, then work."""
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_a_lack_of_descriptors_is_waited_out() -> None:
    """The waiting client is served when there are some again; the loop does not spin meanwhile."""
    heard: list[Event] = []
    with Exhausted(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind(("127.0.0.1", 0))
        address = listening.getsockname()
        loop = TcpLoop(listening, answering(), Listeners(heard.append))
        with looping(loop), socket.create_connection(address, PATIENCE_S) as sock:
            sock.sendall(framed(PLAIN))
            assert answers_in(received(sock)) == 2
    assert heard == 2 * [QueryDropped("cannot accept: Too many open files")]


@contextmanager
def datagrams(one_by_one: bool, heard: list[Event]) -> Iterator[tuple[str, int]]:
    """A UDP loop of the one kind or the other; its address."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    listeners = Listeners(heard.append)
    loop = UdpLoop(bound, answering(stream=False), listeners, one_by_one=one_by_one)
    thread = threading.Thread(target=loop.run)
    address = bound.getsockname()
    thread.start()
    try:
        yield address
    finally:
        loop.close()
        thread.join()


@pytest.mark.parametrize("one_by_one", [True, False], ids=["one by one", "in batches"])
def test_a_burst_is_answered_whole(one_by_one: bool) -> None:
    """Each query by its own reply, whatever lies between them; no query goes without a word."""
    heard: list[Event] = []
    asks = [packet(ORDERS, ident=n) for n in range(140)]
    with (
        datagrams(one_by_one, heard) as address,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.settimeout(PATIENCE_S)
        sock.connect(address)
        for n, ask in enumerate(asks):
            sock.send(ask)
            if n % 7 == 0:
                sock.send(b"short")
            if n % 50 == 0:
                sock.send(ask + bytes(60_000))
        replies = [sock.recv(65_535) for _ in range(143)]
    whole = [int.from_bytes(r[:2], "big") for r in replies if answers_in(r) == 2]
    assert sorted(whole) == list(range(140))
    formerrs = [r for r in replies if r[3] & 15 == wire.FORMERR]
    assert len(formerrs) == 3
    assert heard == 20 * [QueryDropped("shorter than a header")]


@pytest.mark.parametrize("ask", [datagram, stream], ids=["udp", "tcp"])
def test_strangers_are_refused_with_the_reason(ask: Callable[[DnsServer, bytes], bytes]) -> None:
    """EDE 18 where the query has EDNS; no name of ours is told, asked before or not."""
    server = DnsServer(
        ("127.0.0.1", 0), lambda: SNAPSHOT, clock=lambda: NOW, clients=("10.0.0.0/8", "::/64")
    )
    with server:
        for octets in (packet(ORDERS, opt()), PLAIN, PLAIN):
            reply = dns.message.from_wire(ask(server, octets))
            assert reply.rcode() == dns.rcode.REFUSED
            assert not reply.answer
            assert [int(e.code) for e in reply.extended_errors()] == (
                [18] if reply.edns == 0 else []
            )
        assert len(ask(server, packet(ORDERS, b"x"))) == wire.HEADER_SIZE


@pytest.mark.parametrize(
    ("client", "is_allowed"),
    [
        ("127.0.0.1", True),
        ("10.200.3.4", True),
        ("172.31.255.255", True),
        ("100.64.0.1", True),
        ("::1", True),
        ("fd00::1", True),
        ("fe80::1%eth0", True),
        ("::ffff:192.168.0.1", True),
        ("::ffff:8.8.8.8", False),
        ("8.8.8.8", False),
        ("172.32.0.1", False),
        ("2001:db8::1", False),
        ("", False),
        ("unknown", False),
        ("10.0.0.1:5000", False),
    ],
)
def test_private_networks_may_ask(client: str, is_allowed: bool) -> None:
    """Unless settings say which; asked twice, as what was found is remembered.

    What a proxy tells instead of an address may be anything.
    """
    allowed = Allowed(PRIVATE)
    assert [allowed(client), allowed(client)] == [is_allowed, is_allowed]


def test_remembering_clients_is_bounded() -> None:
    """Forged addresses cost no memory."""
    allowed = Allowed(PRIVATE)
    for n in range(10_000):
        allowed(f"10.0.{n >> 8}.{n & 255}")
    assert len(allowed._known) <= 4_096
