"""The TCP loop: one thread, non-blocking sockets (RFC 7766).

Rule 1: a connection is closed when nothing it does completes a query or takes a reply for 10 s;
octets that trickle in do not count. Rule 2: connections are bounded; a new one pushes out the one
that has been idle longest. Rule 3: who does not read its replies is not read from either. Replies
to pipelined queries leave in one write.
"""

import contextlib
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from discovery.dns.answering import Answering
from discovery.dns.wire import Dropped
from discovery.events import Listeners, QueryDropped

IDLE_S = 10.0
MAX_CONNECTIONS = 256
_READ = 16_384
_UNSENT = 262_144  # octets of replies that may wait for a client
_LENGTH = struct.Struct("!H")
_BACKLOG = 512
_BREATH_S = 0.1  # before accepting again when the system has no socket to spare


class _Connection:
    """One client: what came and is not a whole query yet, and what is not sent yet."""

    __slots__ = (
        *("active_at", "awaited", "client", "ended", "received", "sock", "unsent", "wanted"),
    )

    def __init__(self, sock: socket.socket, client: str, now: float) -> None:
        self.sock = sock
        self.client = client
        self.active_at = now
        self.received = bytearray()
        self.unsent = bytearray()
        self.ended = False
        self.awaited = 0
        self.wanted = selectors.EVENT_READ

    def queries(self) -> Iterator[bytes]:
        """The whole queries received so far; what follows them stays."""
        at = 0
        while len(self.received) - at >= _LENGTH.size:
            end = at + _LENGTH.size + _LENGTH.unpack_from(self.received, at)[0]
            if end > len(self.received):
                break
            yield bytes(self.received[at + _LENGTH.size : end])
            at = end
        del self.received[:at]


class TcpLoop:
    """Answers on a listening socket, in the thread that calls `run`, until `close`."""

    def __init__(
        self,
        listening: socket.socket,
        answering: Answering,
        listeners: Listeners,
        *,
        idle_s: float = IDLE_S,
        max_connections: int = MAX_CONNECTIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listening = listening
        self._answering = answering
        self._listeners = listeners
        self._idle_s = idle_s
        self._max_connections = max_connections
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._waker, self._wakened = socket.socketpair()
        # In the order of their last activity, the idlest first.
        self._connections: dict[socket.socket, _Connection] = {}
        # Replies that other threads bring, to be sent by this one.
        self._late: deque[tuple[_Connection, bytes]] = deque()
        self._wakened.setblocking(False)
        self._closing = False
        self._accept_at: float | None = None
        listening.setblocking(False)
        # Connections inherit it: replies are not held back.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.listen(_BACKLOG)
        self._selector.register(listening, selectors.EVENT_READ, None)
        self._selector.register(self._wakened, selectors.EVENT_READ, None)

    def __repr__(self) -> str:
        return f"<TcpLoop {len(self._connections)} of {self._max_connections} connections>"

    def run(self) -> None:
        """Answer until closed; closes every socket."""
        try:
            while not self._closing:
                for key, events in self._selector.select(self._pause_s()):
                    self._happened(key, events)
                self._close_idle()
                self._accept_again()
        finally:
            for sock in (*self._connections, self._listening, self._wakened):
                sock.close()
            self._selector.close()

    def close(self) -> None:
        """Have `run` return at once; from any thread, once."""
        self._closing = True
        self._waker.close()

    def _happened(self, key: selectors.SelectorKey, events: int) -> None:
        connection: _Connection | None = key.data
        if key.fileobj is self._listening:
            self._accept()
        elif connection is None:
            self._pass_on()
        elif connection.sock in self._connections:
            self._talk(connection, events)

    def _pause_s(self) -> float | None:
        oldest = next(iter(self._connections.values()), None)
        due = [oldest.active_at + self._idle_s] if oldest else []
        if self._accept_at is not None:
            due.append(self._accept_at)
        return max(0.0, min(due) - self._clock()) if due else None

    def _accept(self) -> None:
        try:
            sock, address = self._listening.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as why:
            self._listeners.emit(QueryDropped(f"cannot accept: {why.strerror}"))
            self._drop_idlest()
            self._selector.unregister(self._listening)
            self._accept_at = self._clock() + _BREATH_S
            return
        if len(self._connections) >= self._max_connections:
            self._listeners.emit(QueryDropped("too many connections: the idlest is closed"))
            self._drop_idlest()
        sock.setblocking(False)
        connection = _Connection(sock, address[0], self._clock())
        self._connections[sock] = connection
        self._selector.register(sock, selectors.EVENT_READ, connection)
        self._talk(connection, selectors.EVENT_READ)

    def _accept_again(self) -> None:
        if self._accept_at is not None and self._clock() >= self._accept_at:
            self._accept_at = None
            self._selector.register(self._listening, selectors.EVENT_READ, None)

    def _talk(self, connection: _Connection, events: int) -> None:
        """Receive and send what is possible; a connection that fails is closed."""
        try:
            self._exchange(connection, events)
        except OSError:
            self._drop(connection)

    def _exchange(self, connection: _Connection, events: int) -> None:
        if events & selectors.EVENT_READ:
            self._receive(connection)
        if connection.unsent:
            self._send(connection)
        if connection.ended and not connection.unsent and not connection.awaited:
            self._drop(connection)
            return
        wanted = selectors.EVENT_WRITE if connection.unsent else 0
        if not connection.ended and len(connection.unsent) < _UNSENT:
            wanted |= selectors.EVENT_READ
        if wanted != connection.wanted:
            connection.wanted = wanted
            self._selector.modify(connection.sock, wanted, connection)

    def _receive(self, connection: _Connection) -> None:
        with contextlib.suppress(BlockingIOError):
            octets = connection.sock.recv(_READ)
            connection.ended = not octets
            connection.received += octets
        queries = list(connection.queries())
        if queries:
            self._touch(connection)
            self._answering.begin()
            connection.unsent += b"".join(self._replies(queries, connection))

    def _replies(self, queries: list[bytes], connection: _Connection) -> Iterator[bytes]:
        ready = self._answering.ready
        for query in queries:
            known = ready.get(query[2:])
            if known is not None:
                prefix, turn, opt = known
                reply = query[:2] + prefix + turn() + opt
            else:
                try:
                    found = self._answering.reply(query, connection.client)
                except Dropped as why:
                    self._listeners.emit(QueryDropped(str(why)))
                    continue
                if not isinstance(found, bytes):
                    connection.awaited += 1
                    found(partial(self._came_later, connection))
                    continue
                reply = found
            yield _LENGTH.pack(len(reply)) + reply

    def _came_later(self, connection: _Connection, reply: bytes) -> None:
        """A reply from another thread."""
        self._late.append((connection, reply))
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def _pass_on(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakened.recv(_READ)
        while self._late:
            connection, reply = self._late.popleft()
            connection.awaited -= 1
            if connection.sock in self._connections:
                connection.unsent += _LENGTH.pack(len(reply)) + reply
                self._talk(connection, 0)

    def _send(self, connection: _Connection) -> None:
        with contextlib.suppress(BlockingIOError):
            sent = connection.sock.send(connection.unsent)
            del connection.unsent[:sent]
            self._touch(connection)

    def _touch(self, connection: _Connection) -> None:
        connection.active_at = self._clock()
        self._connections[connection.sock] = self._connections.pop(connection.sock)

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection.sock]
        self._selector.unregister(connection.sock)
        connection.sock.close()

    def _drop_idlest(self) -> None:
        idlest = next(iter(self._connections.values()), None)
        if idlest is not None:
            self._drop(idlest)

    def _close_idle(self) -> None:
        limit = self._clock() - self._idle_s
        while (idlest := next(iter(self._connections.values()), None)) is not None:
            if idlest.active_at > limit:
                return
            self._drop(idlest)
