"""A client of raw octets for the tests that go through sockets."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from discovery.dns.answering import Answering
from discovery.dns.cookies import Cookies
from discovery.dns.responder import Identity, Responder
from discovery.dns.server import DnsServer
from discovery.events import Event, Listeners
from discovery.model import Snapshot
from tests.dns.world import APEX, NOW, SNAPSHOT

PATIENCE_S = 30.0


@contextmanager
def serving(
    snapshot: Callable[[], Snapshot] = lambda: SNAPSHOT,
    *,
    host: str = "127.0.0.1",
    heard: list[Event] | None = None,
    now: float = NOW,
    told: bool = True,
) -> Iterator[DnsServer]:
    """A server on a free port, gone afterwards. `heard` collects its events."""
    listeners = Listeners() if heard is None else Listeners(heard.append)
    server = DnsServer(
        (host, 0),
        snapshot,
        nsid="here" if told else "",
        version="1.2.3" if told else "",
        server_id="one" if told else "",
        clock=lambda: now,
        random=Random(1),
        listeners=listeners,
    )
    with server:
        yield server


def answering(stream: bool = True) -> Answering:
    """What a loop asks."""
    responder = Responder(APEX, Identity(), Cookies(bytes(16)), Random(1).randrange, stream=stream)
    return Answering(responder, lambda: SNAPSHOT, lambda: NOW)


@contextmanager
def dialled(server: DnsServer) -> Iterator[socket.socket]:
    """A TCP connection to the server."""
    with socket.create_connection(server.address, PATIENCE_S) as sock:
        yield sock


def datagram(server: DnsServer, octets: bytes, timeout_s: float = PATIENCE_S) -> bytes:
    """The reply to one datagram; raises `TimeoutError` without one."""
    family = socket.AF_INET6 if ":" in server.address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout_s)
        sock.connect(server.address)
        sock.send(octets)
        return sock.recv(65_535)


def framed(octets: bytes) -> bytes:
    """A message with its length before it, as it goes over TCP."""
    return struct.pack("!H", len(octets)) + octets


def stream(server: DnsServer, octets: bytes) -> bytes:
    """The reply to one message over a connection of its own."""
    with dialled(server) as sock:
        sock.sendall(framed(octets))
        return received(sock)


def received(sock: socket.socket) -> bytes:
    """The next message on a connection; raises `EOFError` at its end."""
    return _exactly(sock, struct.unpack("!H", _exactly(sock, 2))[0])


def _exactly(sock: socket.socket, size: int) -> bytes:
    octets = b""
    while len(octets) < size:
        more = sock.recv(size - len(octets))
        if not more:
            raise EOFError
        octets += more
    return octets
