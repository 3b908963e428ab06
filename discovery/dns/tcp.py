"""The TCP loop: one thread, sockets that never block (RFC 7766).

Rule 1: a connection is closed when nothing it does completes a query or takes a reply for 10 s;
octets that trickle in do not count. Rule 2: connections are bounded; a new one pushes out the one
that has been idle longest. Rule 3: who does not read its replies is not answered, and not read from
either; so is who has asked for many names that somebody else has to be asked for. Replies to
pipelined queries leave in one write.
"""

import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from discovery.dns.answering import Answering
from discovery.dns.polling import DEAD, IN, OUT, Poller
from discovery.dns.wire import Dropped
from discovery.events import Listeners, QueryDropped

IDLE_S = 10.0
MAX_CONNECTIONS = 256
MAX_UNSENT = 262_144  # octets of replies that wait for a client, before the last one
MAX_AWAITED = 64  # replies of others that a client waits for
_READ = 16_384
_LENGTH = struct.Struct("!H")
_ID_SIZE = 2
_BACKLOG = 512
_BREATH_S = 0.1  # before accepting again when the system has no socket to spare
_AT_ONCE = socket.MSG_DONTWAIT  # spares a call that makes the socket non-blocking


class _Connection:
    """One client: what came and is not answered yet, and what is not sent yet."""

    __slots__ = (
        *("active_at", "asks", "awaited", "client", "ended", "fd", "received", "sock", "unsent"),
        "wanted",
    )

    def __init__(self, sock: socket.socket, client: str, now: float) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.client = client
        self.active_at = now
        self.received = b""
        self.asks = False  # a whole query is left, as there was no room for its reply
        self.unsent = b""
        self.ended = False
        self.awaited = 0
        self.wanted = IN

    @property
    def has_room(self) -> bool:
        """Whether one more query may be answered."""
        return len(self.unsent) < MAX_UNSENT and self.awaited < MAX_AWAITED


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
        self._poller = Poller()
        self._waker, self._wakened = socket.socketpair()
        # By their descriptors, in the order of their last activity, the idlest first.
        self._connections: dict[int, _Connection] = {}
        # Replies that other threads bring, to be sent by this one.
        self._late: deque[tuple[_Connection, bytes]] = deque()
        self._wakened.setblocking(False)
        self._closing = False
        self._accept_at: float | None = None
        listening.setblocking(False)
        # Connections inherit it: replies are not held back.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.listen(_BACKLOG)
        self._poller.register(listening.fileno(), IN)
        self._poller.register(self._wakened.fileno(), IN)

    def __repr__(self) -> str:
        return f"<TcpLoop {len(self._connections)} of {self._max_connections} connections>"

    def run(self) -> None:
        """Answer until closed; closes every socket."""
        listening, wakened = self._listening.fileno(), self._wakened.fileno()
        poll, find = self._poller.poll, self._connections.get
        try:
            while not self._closing:
                is_called = False
                for fd, events in poll(self._pause_s()):
                    connection = find(fd)
                    if connection is not None:
                        self._talk(connection, events)
                    elif fd == wakened:
                        self._pass_on()
                    is_called = is_called or fd == listening
                # The last: a new connection may get the descriptor of one that ended just now.
                if is_called:
                    self._accept()
                self._close_idle()
                self._accept_again()
        finally:
            for connection in self._connections.values():
                connection.sock.close()
            self._listening.close()
            self._wakened.close()
            self._poller.close()

    def close(self) -> None:
        """Have `run` return at once; from any thread, once."""
        self._closing = True
        self._waker.close()

    def _pause_s(self) -> float | None:
        due = self._accept_at
        oldest = next(iter(self._connections.values()), None)
        if oldest is not None:
            idle_at = oldest.active_at + self._idle_s
            due = idle_at if due is None else min(due, idle_at)
        return None if due is None else max(0.0, due - self._clock())

    def _accept(self) -> None:
        try:
            sock, address = self._listening.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as why:
            self._listeners.emit(QueryDropped(f"cannot accept: {why.strerror}"))
            self._drop_idlest()
            self._poller.unregister(self._listening.fileno())
            self._accept_at = self._clock() + _BREATH_S
            return
        if len(self._connections) >= self._max_connections:
            self._listeners.emit(QueryDropped("too many connections: the idlest is closed"))
            self._drop_idlest()
        connection = _Connection(sock, address[0], self._clock())
        self._connections[connection.fd] = connection
        self._poller.register(connection.fd, IN)
        self._talk(connection, IN)

    def _accept_again(self) -> None:
        if self._accept_at is not None and self._clock() >= self._accept_at:
            self._accept_at = None
            self._poller.register(self._listening.fileno(), IN)

    def _talk(self, connection: _Connection, events: int) -> None:
        """Receive, answer and send what is possible; a connection that fails is closed."""
        try:
            self._exchange(connection, events)
        except OSError:
            self._drop(connection)

    def _exchange(self, connection: _Connection, events: int) -> None:
        if events & connection.wanted & IN:
            self._receive(connection)
        elif events & DEAD:
            self._drop(connection)
            return
        if connection.received:
            self._answer(connection)
        if connection.unsent:
            self._send(connection)
        if connection.ended and not (connection.unsent or connection.awaited or connection.asks):
            self._drop(connection)
            return
        self._watch(connection)

    def _watch(self, connection: _Connection) -> None:
        """Have the system tell what we can go on with; without a wish it tells of resets only."""
        wanted = OUT if connection.unsent or (connection.asks and connection.has_room) else 0
        if not connection.ended and not connection.asks and len(connection.unsent) < MAX_UNSENT:
            wanted |= IN
        if wanted != connection.wanted:
            connection.wanted = wanted
            self._poller.modify(connection.fd, wanted)

    def _receive(self, connection: _Connection) -> None:
        try:
            octets = connection.sock.recv(_READ, _AT_ONCE)
        except BlockingIOError:
            return
        connection.ended = not octets
        connection.received += octets

    def _answer(self, connection: _Connection) -> None:
        """Answer the whole queries that are there, as long as there is room."""
        self._answering.begin()
        received, find = connection.received, self._answering.ready.get
        replies: list[bytes] = []
        at, size, room = 0, len(received), MAX_UNSENT - len(connection.unsent)
        connection.asks = False
        while (first := at + _LENGTH.size) <= size:
            end = first + (received[at] << 8 | received[at + 1])
            if end > size:
                break
            if room <= 0 or connection.awaited >= MAX_AWAITED:
                connection.asks = True
                break
            at = end
            known = find(received[first + _ID_SIZE : end])
            if known is None:
                reply = self._reply(received[first:end], connection)
                if not reply:
                    continue
                length = len(reply)
                replies += (_LENGTH.pack(length), reply)
            else:
                known[1][0] += 1
                reply = next(known[0])
                length = _ID_SIZE + len(reply)
                replies += (_LENGTH.pack(length), received[first : first + _ID_SIZE], reply)
            room -= length
        if at:
            connection.received = received[at:]
            connection.unsent += b"".join(replies)
            self._touch(connection)

    def _reply(self, query: bytes, connection: _Connection) -> bytes:
        """The reply; nothing if there is none, or none yet."""
        try:
            found = self._answering.reply(query, connection.client)
        except Dropped as why:
            self._listeners.emit(QueryDropped(str(why)))
            return b""
        if isinstance(found, bytes):
            return found
        connection.awaited += 1
        found(partial(self._came_later, connection))
        return b""

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
            if self._connections.get(connection.fd) is connection:
                connection.unsent += _LENGTH.pack(len(reply)) + reply
                self._talk(connection, 0)

    def _send(self, connection: _Connection) -> None:
        try:
            sent = connection.sock.send(connection.unsent, _AT_ONCE)
        except BlockingIOError:
            return
        connection.unsent = connection.unsent[sent:]
        self._touch(connection)

    def _touch(self, connection: _Connection) -> None:
        connection.active_at = self._clock()
        self._connections[connection.fd] = self._connections.pop(connection.fd)

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection.fd]
        self._poller.close_with(connection.sock)

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
