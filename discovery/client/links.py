"""A client's connection and the one to its endpoint, joined: bytes, ends and resets pass on.

Rule 1: what one side sends is given to the other at once; what that one does not take is held
back, at most one buffer, and nothing more is read until it is gone. A slow reader slows its writer.
Rule 2: a side that ends (half-close) ends the other one for writing, after all that it sent. A side
that breaks off (reset) has the other one reset, too.
Rule 3: a link is over when both sockets are closed, and they are closed together. Until then it
counts: for its endpoint as in flight, and for the limit on connections.
Rule 4: everything belongs to the thread of the event loop whose `Lane` it uses.
"""

import asyncio
import os
import select
import selectors
import socket
import struct
from collections.abc import Callable

from discovery.balancing.pool import Flight
from discovery.client.lifetime import Lifetime
from discovery.dns.polling import DEAD, IN, OUT, Poller

_BUFFER = 1 << 17
_RESET = struct.pack("ii", 1, 0)  # struct linger: on, for no time


class Lane(selectors.DefaultSelector):
    """An event loop's selector in which some sockets are served at once, without the loop.

    The loop's own way from an event to a callback costs as much as passing a message on does.
    """

    def __init__(self) -> None:
        super().__init__()
        self._poller = Poller()
        self._poller.register(self.fileno(), IN)
        self._served: dict[int, tuple[Callable[[int], None], int]] = {}
        self.buffer = memoryview(bytearray(_BUFFER))

    def serve(self, descriptor: int, call: Callable[[int], None], wanted: int) -> None:
        """Have `call` told of the events `wanted`, and of `DEAD`, from now on."""
        known = self._served.get(descriptor)
        if known is None:
            self._poller.register(descriptor, wanted)
        elif known[1] != wanted:
            self._poller.modify(descriptor, wanted)
        self._served[descriptor] = call, wanted

    async def connected(self, connection: socket.socket, within_s: float) -> None:
        """Wait until a socket that connects has done so. Raises `OSError` if it has not."""
        loop, descriptor = asyncio.get_running_loop(), connection.fileno()
        done: asyncio.Future[bool] = loop.create_future()

        def say(in_time: bool) -> None:
            if not done.done():
                done.set_result(in_time)

        self.serve(descriptor, lambda _: say(True), OUT)
        late = loop.call_later(within_s, say, False)
        try:
            in_time = await done
        finally:
            late.cancel()
            self.leave(descriptor)
        if not in_time:
            raise TimeoutError
        if error := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))

    def leave(self, descriptor: int) -> None:
        """Tell nothing more of it; to be done before it is closed."""
        if self._served.pop(descriptor, None) is not None:
            self._poller.unregister(descriptor)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See `selectors`: what is the loop's; the rest is served meanwhile."""
        found: list[tuple[selectors.SelectorKey, int]] = []
        for descriptor, events in self._poller.poll(None if timeout is None else max(0.0, timeout)):
            served = self._served.get(descriptor)  # an event before this one may have closed it
            if served is not None:
                served[0](events)
            elif descriptor == self.fileno():
                found = super().select(0)
        return found

    def close(self) -> None:
        """See `selectors`."""
        self._poller.close()
        super().close()


class Side:
    """One of the two sockets of a link, and what waits to be sent on it."""

    __slots__ = ("ended", "link", "other", "socket", "unsent", "wanted")

    def __init__(self, link: "Link", connection: socket.socket) -> None:
        self.link = link
        self.socket = connection
        self.other: Side | None = None
        self.unsent: memoryview | bytes = b""
        self.ended = False  # it has sent all
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def reads(self) -> bool:
        """Whether there is anybody who takes what it sends."""
        return self.other is not None and not self.ended and not self.other.unsent

    def watch(self) -> None:
        """Have its events served as they are wanted by now."""
        wanted = (IN if self.reads else 0) | (OUT if self.unsent else 0)
        self.link.lane.serve(self.socket.fileno(), self._ready, wanted)

    def give(self, data: memoryview) -> None:
        """Send it, and hold back what does not go."""
        self.unsent = data
        self.flush()
        if self.unsent:
            self.unsent = memoryview(bytes(self.unsent))  # the buffer is used again
            self.link.watch()

    def flush(self) -> None:
        """Send what was held back, then the end if the other side has ended."""
        try:
            if self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
            if not self.unsent and self.other is not None and self.other.ended:
                self.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self.link.broken(self)

    def _ready(self, events: int) -> None:
        if events & OUT:
            self._resume()
        if self.link.over:
            return
        if self.reads:
            if events & (IN | DEAD):
                self._take()
        elif events & select.POLLERR:
            self.link.broken(self)
        elif events & DEAD:
            self.link.lane.leave(self.socket.fileno())  # ended both ways, and still to be read

    def _resume(self) -> None:
        self.link.life.moved_at = self.link.clock()
        self.flush()
        if not self.unsent:
            self.link.settle()

    def _take(self) -> None:
        link, other = self.link, self.other
        assert other is not None
        try:
            size = self.socket.recv_into(link.lane.buffer)
        except BlockingIOError:
            return
        except OSError:
            link.broken(self)
            return
        life = link.life
        life.moved_at = link.clock()
        if size:
            life.asked = self is link.client
            other.give(link.lane.buffer[:size])
        else:
            self.ended = True
            other.flush()
            link.settle()


class Link:
    """A client's connection, joined to an endpoint's once there is one.

    `clock` counts the seconds of `life`; `gone` is called once, when both are closed.
    """

    def __init__(
        self,
        lane: Lane,
        client: socket.socket,
        life: Lifetime,
        clock: Callable[[], float],
        gone: Callable[["Link"], None],
    ) -> None:
        self.lane = lane
        self.life = life
        self.clock = clock
        self.client = Side(self, client)
        self.server: Side | None = None
        self.flight: Flight | None = None
        self.over = False
        self._gone = gone
        self.client.watch()

    def join(self, connection: socket.socket, flight: Flight) -> None:
        """From now on bytes pass between the client and this connection."""
        self.flight = flight
        self.server = Side(self, connection)
        self.server.other, self.client.other = self.client, self.server
        self.life.moved_at = self.clock()
        self.watch()

    def watch(self) -> None:
        """Have the events of both sides served as they are wanted by now."""
        if not self.over:
            for side in self._sides:
                side.watch()

    def settle(self) -> None:
        """Go on after a side has ended, or has taken what was held back."""
        if self._halves < 2 or self._held:
            self.watch()
        else:
            self.close()

    def broken(self, side: Side) -> None:
        """One side was reset. Of a server that has answered and ended, that is no failure."""
        if self.flight is not None and side is self.server and not side.ended:
            self.flight.broke()
        self.cut()

    def end(self) -> None:
        """End it, if it is time."""
        if self.flight is None:
            return  # still being joined, which has limits of its own
        how = self.life.end(
            self.clock(), leaving=self.flight.member.gone, held=self._held, half=self._halves == 1
        )
        if how is not None:
            self.close() if how == "close" else self.cut()

    def stop(self) -> None:
        """End it now, cleanly where nothing is under way."""
        idle = self.life.is_quiet(self.clock(), held=self._held, half=self._halves == 1)
        self.close() if idle and self.flight is not None else self.cut()

    def close(self) -> None:
        """End both sides cleanly: nothing more will come."""
        if self.over:
            return
        self.over = True
        for side in self._sides:
            self.lane.leave(side.socket.fileno())
            side.socket.close()
        if self.flight is not None:
            self.flight.close()
        self._gone(self)

    def cut(self) -> None:
        """Reset both sides, so that nobody takes what came for all there is."""
        if not self.over:
            for side in self._sides:
                side.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.close()

    @property
    def _sides(self) -> tuple[Side, ...]:
        return (self.client,) if self.server is None else (self.client, self.server)

    @property
    def _halves(self) -> int:
        return sum(side.ended for side in self._sides)

    @property
    def _held(self) -> bool:
        return any(side.unsent for side in self._sides)
