"""The TCP loop: what one connection may cost, and how it ends."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random

import pytest

from discovery.dns import wire
from discovery.dns.answering import Answering, Later
from discovery.dns.cookies import Cookies
from discovery.dns.responder import Identity, Responder
from discovery.dns.tcp import MAX_AWAITED, MAX_UNSENT, TcpLoop
from discovery.events import Listeners
from discovery.model import Snapshot
from tests.dns.talk import PATIENCE_S, framed, received
from tests.dns.test_server import eventually, looping
from tests.dns.world import APEX, NOW, SNAPSHOT, many, packet, question, snapshot

ORDERS = packet(question("orders.prod.ecs.internal"))
LARGE = question("_http._tcp.many.prod.ecs.internal", wire.SRV)


def responder() -> Responder:
    """What answers over TCP."""
    return Responder(APEX, Identity(), Cookies(bytes(16)), Random(1).randrange, stream=True)


class Waiting(Answering):
    """Has replies only when it is told to."""

    def __init__(self) -> None:
        super().__init__(responder(), lambda: SNAPSHOT, lambda: NOW)
        self.delivered: list[Callable[[], None]] = []

    def reply(self, packet: bytes, client: str) -> bytes | Later:
        """A reply for later: the query itself."""
        return lambda deliver: self.delivered.append(lambda: deliver(packet))


@contextmanager
def listening(
    answering: Answering, clock: Callable[[], float] = lambda: 0.0
) -> Iterator[tuple[TcpLoop, tuple[str, int]]]:
    """A loop whose clock stands still, and its address."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        loop = TcpLoop(sock, answering, Listeners(), clock=clock)
        stack.enter_context(looping(loop))
        yield loop, sock.getsockname()


def test_replies_that_nobody_reads_are_bounded() -> None:
    """For each connection one reply over the bound, however many queries came in one segment."""
    known: Snapshot = snapshot(many(2_000))
    answering = Answering(responder(), lambda: known, lambda: NOW)
    asks = [packet(LARGE, ident=n) for n in range(600)]
    loops: list[TcpLoop] = []
    unsent = [0]

    def clock() -> float:
        """What the loop looks at whenever there are new replies."""
        unsent.extend(len(c.unsent) for loop in loops for c in loop._connections.values())
        return 0.0

    with listening(answering, clock) as (loop, address), ExitStack() as stack:
        loops.append(loop)
        clients = [
            stack.enter_context(socket.create_connection(address, PATIENCE_S)) for _ in range(3)
        ]
        for client in clients:
            client.sendall(b"".join(map(framed, asks)))
        assert eventually(lambda: sum(c.asks for c in list(loop._connections.values())) == 3)
        assert [received(clients[0])[:2] for _ in asks] == [ask[:2] for ask in asks]
    assert MAX_UNSENT <= max(unsent) <= MAX_UNSENT + wire.STREAM_SIZE + 2


def test_replies_of_others_are_bounded_for_each_connection() -> None:
    """The next queries are read when some have come; none is lost."""
    answering = Waiting()
    asks = [packet(question("www.example"), ident=n) for n in range(3 * MAX_AWAITED)]
    with (
        listening(answering) as (_, address),
        socket.create_connection(address, PATIENCE_S) as client,
    ):
        client.sendall(b"".join(map(framed, asks)))
        assert eventually(lambda: len(answering.delivered) == MAX_AWAITED)
        for n, ask in enumerate(asks):
            assert eventually(lambda n=n: len(answering.delivered) > n)  # type: ignore[misc]  # a bound name
            assert len(answering.delivered) <= n + MAX_AWAITED
            answering.delivered[n]()
            assert received(client) == ask


@pytest.mark.parametrize("is_closed_before", [False, True], ids=["open", "half-closed"])
def test_a_connection_that_is_reset_while_a_reply_is_awaited_is_closed(
    is_closed_before: bool,
) -> None:
    """It could only be told again and again that nobody is there."""
    answering = Waiting()
    with listening(answering) as (loop, address):
        client = socket.create_connection(address, PATIENCE_S)
        with client:
            client.sendall(framed(ORDERS))
            assert eventually(lambda: len(answering.delivered) == 1)
            if is_closed_before:
                client.shutdown(socket.SHUT_WR)
                assert eventually(lambda: all(c.ended for c in loop._connections.values()))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert eventually(lambda: "0 of 256" in repr(loop))
        answering.delivered[0]()  # a late reply harms nobody


def test_a_client_that_has_said_all_still_gets_what_others_know() -> None:
    """A half-closed connection waits for its reply, then it is closed."""
    answering = Waiting()
    with (
        listening(answering) as (_, address),
        socket.create_connection(address, PATIENCE_S) as client,
    ):
        client.sendall(framed(ORDERS))
        client.shutdown(socket.SHUT_WR)
        assert eventually(lambda: len(answering.delivered) == 1)
        answering.delivered[0]()
        assert received(client) == ORDERS
        assert client.recv(1) == b""
