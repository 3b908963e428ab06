"""A resolver by hand for the tests of forwarding: what it says is the test's to decide."""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.rrset

from discovery.dns.server import bound_pair
from tests.dns.talk import framed, received

# What to send for a query; nothing, one message or several.
Says = Callable[[dns.message.Message, bool], list[bytes]]


class Resolver:
    """Answers on UDP and TCP in a thread; `asked` are the queries that came."""

    def __init__(self, says: Says) -> None:
        self._says = says
        self._closing = False
        self.asked: list[dns.message.Message] = []
        self.ports: list[int] = []
        self._udp, self._tcp = bound_pair("127.0.0.1", 0)
        self._tcp.listen()
        self.address: tuple[str, int] = self._udp.getsockname()
        self._threads = [threading.Thread(target=t) for t in (self._datagrams, self._streams)]

    def start(self) -> None:
        """Begin to answer."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop, and give the port back."""
        self._closing = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self.address)
        with socket.create_connection(self.address, timeout=30.0):
            pass
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def _replies(self, octets: bytes, port: int, stream: bool) -> list[bytes]:
        query = dns.message.from_wire(octets)
        self.asked.append(query)
        self.ports.append(port)
        return self._says(query, stream)

    def _datagrams(self) -> None:
        while True:
            octets, client = self._udp.recvfrom(65_535)
            if not octets:
                return
            for reply in self._replies(octets, client[1], False):
                self._udp.sendto(reply, client)

    def _streams(self) -> None:
        while True:
            sock, client = self._tcp.accept()
            # A client that gave up is no reason to stop; the waker is one.
            with sock, contextlib.suppress(EOFError, ConnectionError):
                for reply in self._replies(received(sock), client[1], True):
                    sock.sendall(framed(reply))
            if self._closing:
                return


def open_to(address: tuple[str, int]) -> int:
    """How many UDP sockets of this machine are connected to an IPv4 address; Linux tells."""
    host = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    where = f"{host:08X}:{address[1]:04X}"
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    return sum(line.split()[2] == where for line in lines)


def until(holds: Callable[[], bool], patience_s: float = 30.0) -> None:
    """Return when something comes to hold; fail if it never does."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        threading.Event().wait(0.005)


@contextlib.contextmanager
def resolving(says: Says) -> Iterator[Resolver]:
    """A resolver that is gone afterwards."""
    resolver = Resolver(says)
    resolver.start()
    try:
        yield resolver
    finally:
        resolver.close()


def told(query: dns.message.Message, *records: str, rcode: int = 0, cut: bool = False) -> bytes:
    """A reply with these answers, in zone file form."""
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    for record in records:
        name, ttl, kind, data = record.split(" ", 3)
        section = reply.authority if kind == "SOA" else reply.answer
        section.append(dns.rrset.from_text(name, int(ttl), "IN", kind, data))
    if cut:
        reply.flags |= dns.flags.TC
    return reply.to_wire(max_size=65_535)
