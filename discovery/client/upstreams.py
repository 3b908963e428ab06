"""Local TCP ports whose connections are balanced over a service's endpoints.

For programs in any language that speak any TCP protocol and know neither DNS nor SRV.

Rule 1: a connection is taken to an endpoint as `attempts` decides: elsewhere if connecting fails.
Rule 2: it counts as in flight until both sides are closed; a side that ends early (half-close)
leaves the other one open, and a slow reader slows its writer down.
Rule 3: a connection that should end (its task is stopping, or it is too old) ends in its next
quiet moment, and in any case after a grace time.
Rule 4: all sockets belong to one thread with an event loop; `start` and `close` may be called from
any other.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import cast

from discovery.balancing.pool import Flight, Pool
from discovery.client.attempts import Answered, Ask, Failed, Pause, Result, Retrying, Send, attempts
from discovery.client.lease import outcome_of
from discovery.client.resolver import Resolver
from discovery.errors import DiscoveryError
from discovery.settings import Address, Upstream

_CONNECTED = Answered(200)
_STOP_S = 5.0
_BACKLOG = 1_024
_FEWEST_TURNS, _MOST_TURNS = 5, 1_000


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """Seconds and counts of a listener. `age_s` is made shorter at random by up to a fifth.

    A quiet moment is `quiet_s` without a byte in either direction.
    """

    connect_s: float = 0.5
    idle_s: float = 3_600.0
    age_s: float = 3_600.0
    quiet_s: float = 1.0
    grace_s: float = 20.0
    connections: int = 4_096
    sweep_s: float = 0.25


class Link:
    """A client's connection and the one to its endpoint, once there is one."""

    def __init__(self, listener: "_Listener", client: asyncio.Transport, now: float) -> None:
        self.listener = listener
        self.client = client
        self.server: asyncio.Transport | None = None
        self.flight: Flight | None = None
        self.moved_at = now  # when the last byte passed
        self.ends_at = now + listener.limits.age_s * (0.8 + 0.2 * listener.random.random())
        self.ending_since: float | None = None
        self._ended = 0

    def joined(self, flight: Flight) -> None:
        """From now on bytes pass, unless the client has left meanwhile."""
        self.flight = flight
        if self.client.is_closing() or self.server is None or self.server.is_closing():
            self.close(broken=True)
            flight.close()
        else:
            self.client.resume_reading()

    def half_closed(self, towards: asyncio.Transport | None) -> None:
        """One side will send no more."""
        self._ended += 1
        if towards is not None and towards.can_write_eof() and not towards.is_closing():
            towards.write_eof()
        if self._ended == 2:
            self.close()

    def close(self, broken: bool = False) -> None:
        """End both sides: at once if one of them broke, else when what is under way has passed."""
        self.ending_since = self.ending_since or self.listener.loop.time()
        for side in (self.client, self.server):
            if side is not None:
                side.abort() if broken else side.close()

    def over(self) -> None:
        """Nothing is under way any more."""
        if self.flight is not None:
            self.flight.close()
        self.listener.links.discard(self)

    def check(self, now: float) -> None:
        """End it, if it is time."""
        limits = self.listener.limits
        quiet_s = now - self.moved_at
        if self.ending_since is not None and now - self.ending_since >= limits.grace_s:
            self.close(broken=True)
        elif quiet_s >= limits.idle_s:
            self.close()
        elif now >= self.ends_at or (self.flight is not None and self.flight.member.gone):
            self.ending_since = self.ending_since or now
            if quiet_s >= limits.quiet_s:
                self.close()


class _Side(asyncio.Protocol):
    """What both sides have in common: bytes go to the other one, at its speed."""

    link: Link

    def __init__(self, listener: "_Listener") -> None:
        self.listener = listener
        self.transport: asyncio.Transport | None = None

    def other(self) -> asyncio.Transport | None:
        """Where bytes from here go."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast(asyncio.Transport, transport)
        self.listener.sides.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.listener.sides.discard(self)

    def abort(self) -> None:
        """End it at once."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self.link.moved_at = self.listener.loop.time()
        other = self.other()
        if other is not None:
            other.write(data)

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`; true keeps this side open for writing."""
        self.link.half_closed(self.other())
        return True

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`: this side is slow, so the other one waits."""
        other = self.other()
        if other is not None and not other.is_closing():
            other.pause_reading()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        other = self.other()
        if other is not None and not other.is_closing():
            other.resume_reading()


class _Client(_Side):
    def __init__(self, listener: "_Listener") -> None:
        super().__init__(listener)
        self._joining: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        listener, client = self.listener, cast(asyncio.Transport, transport)
        self.link = Link(listener, client, listener.loop.time())
        if listener.closed or len(listener.links) >= listener.limits.connections:
            client.abort()
            return
        listener.links.add(self.link)
        client.pause_reading()
        self._joining = listener.loop.create_task(listener.join(self.link))
        listener.joins.add(self._joining)
        self._joining.add_done_callback(listener.joins.discard)

    def other(self) -> asyncio.Transport | None:
        return self.link.server

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._joining is not None:
            self._joining.cancel()
        self.link.close(broken=error is not None)
        if self.link.server is None:
            self.link.over()


class _Server(_Side):
    def __init__(self, link: Link) -> None:
        super().__init__(link.listener)
        self.link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.link.server = self.transport

    def other(self) -> asyncio.Transport | None:
        return self.link.client

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if error is not None and self.link.flight is not None:
            self.link.flight.broke()
        self.link.close(broken=error is not None)
        self.link.over()


class _Listener:
    """One upstream's port."""

    def __init__(
        self, upstream: Upstream, resolver: Resolver, limits: UpstreamLimits, random: Random
    ) -> None:
        self.upstream = upstream
        self.limits = limits
        self.random = random
        self.links: set[Link] = set()
        self.sides: set[_Side] = set()
        self.joins: set[asyncio.Task[None]] = set()
        self.closed = False
        self.loop: asyncio.AbstractEventLoop = cast(asyncio.AbstractEventLoop, None)
        self._resolver = resolver
        self._pool: Pool | None = None
        self._server: asyncio.Server | None = None

    async def serve(self, listening: socket.socket) -> None:
        """Take connections until cancelled, and end those that should end."""
        self.loop = asyncio.get_running_loop()
        server = await self.loop.create_server(
            lambda: _Client(self), sock=listening, backlog=_BACKLOG
        )
        try:
            while True:
                await asyncio.sleep(self.limits.sweep_s)
                self._look()
                now = self.loop.time()
                for link in list(self.links):
                    link.check(now)
        finally:
            # Accept no more first: what was accepted in this very moment still needs the server,
            # whose `close` would have asyncio drop such connections without closing them.
            self.loop.remove_reader(listening)
            await self._end()
            server.close()

    async def _end(self) -> None:
        """End every connection, and see to it that its end arrives while there is a loop."""
        self.closed = True
        for joining in list(self.joins):
            joining.cancel()
        await asyncio.gather(*self.joins, return_exceptions=True)
        for turn in range(_MOST_TURNS):
            for side in list(self.sides):
                side.abort()
            await asyncio.sleep(0)
            if turn >= _FEWEST_TURNS and not self.sides:
                return

    async def join(self, link: Link) -> None:
        """Connect a client's connection to an endpoint, or end it."""
        try:
            await self._attempted(link)
        except (DiscoveryError, asyncio.CancelledError):
            link.close(broken=True)
        finally:
            if link.server is None:
                link.close(broken=True)

    async def _attempted(self, link: Link) -> None:
        route = await self._resolver.aroute(self.upstream.name)
        self._pool = route.pool
        flow = attempts(route, Ask(idempotent=False), Retrying())
        try:
            step = next(flow)
            while True:
                step = flow.send(await self._taken(step, link))
        except StopIteration:
            pass
        finally:
            flow.close()

    async def _taken(self, step: Send | Pause, link: Link) -> Result | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        endpoint = step.flight.member.endpoint
        try:
            connecting = self.loop.create_connection(
                lambda: _Server(link), endpoint.host, endpoint.port
            )
            await asyncio.wait_for(connecting, self.limits.connect_s)
        except TimeoutError:
            return Failed("connect_timeout", sent=False)
        except OSError as error:
            return Failed(outcome_of(error), sent=False)
        link.joined(step.flight)
        return _CONNECTED

    def _look(self) -> None:
        """Have the pool know by now who is gone, if anybody uses it."""
        if self._pool is None or not self.links:
            return
        with contextlib.suppress(DiscoveryError):
            self._resolver.update(self.upstream.name)


class Upstreams:
    """The listeners of a process. `random` shortens the connections' ages."""

    def __init__(
        self,
        resolver: Resolver,
        upstreams: Iterable[Upstream],
        limits: UpstreamLimits | None = None,
        random: Random | None = None,
    ) -> None:
        self._listeners = [
            _Listener(upstream, resolver, limits or UpstreamLimits(), random or Random())
            for upstream in upstreams
        ]
        self._sockets: list[socket.socket] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="upstreams", daemon=True)
        self._running = threading.Event()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where each listens, once started; real ports where 0 was asked for."""
        return tuple(Address(*s.getsockname()[:2]) for s in self._sockets)

    @property
    def connections(self) -> int:
        """How many are open now."""
        return sum(len(listener.links) for listener in self._listeners)

    def start(self) -> None:
        """Bind and serve. Raises `OSError`, whose `filename` is the address that cannot be had."""
        try:
            for listener in self._listeners:
                self._sockets.append(_bound(listener.upstream.address))
        except OSError:
            self.close()
            raise
        self._thread.start()
        self._running.wait()

    def close(self) -> None:
        """End all connections and stop; safe to call twice."""
        if self._loop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop ended by itself
                self._loop.call_soon_threadsafe(self._stop)
            self._thread.join(_STOP_S)
        for listening in self._sockets:
            listening.close()

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        pairs = zip(self._listeners, self._sockets, strict=True)
        serving = [asyncio.ensure_future(listener.serve(s)) for listener, s in pairs]
        self._running.set()
        await asyncio.gather(*serving)


def _bound(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address.host, address.port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        error.filename = str(address)
        raise
    return listening
