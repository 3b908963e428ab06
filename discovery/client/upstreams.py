"""Local TCP ports whose connections are balanced over the endpoints of a service.

For programs in any language that speak any TCP protocol and know neither DNS nor SRV.

Rule 1: a connection is taken to an endpoint as `attempts` decides: elsewhere if connecting fails.
Rule 2: what can be taken nowhere, and what is one too many, is reset. TCP cannot say why: where
the name leads nowhere, a notice does.
Rule 3: when a task is going, no new connection goes there at once, and the old ones end as
`lifetime` says.
Rule 4: all sockets belong to one thread with an event loop; `start` and `close` may be called from
any other.
"""

import asyncio
import contextlib
import errno
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from random import Random

from discovery.balancing.pool import Pool
from discovery.client.attempts import Answered, Ask, Failed, Pause, Result, Retrying, Send, attempts
from discovery.client.lease import outcome_of
from discovery.client.lifetime import Lifetime, UpstreamLimits
from discovery.client.links import Lane, Link
from discovery.client.resolver import Resolver
from discovery.dns.sharing import hand_over, share
from discovery.errors import DiscoveryError
from discovery.events import SaidOnce
from discovery.written import Address, Upstream

_CONNECTED = Answered(200)
_STOP_S = 5.0
_BACKLOG = 1_024
_AT_ONCE = 64  # connections that are accepted before anybody else has a turn
_RECOVERY_S = 1.0
_SAY_AGAIN_S = 600.0
_OWN_FAULTS = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.EADDRNOTAVAIL,  # all local ports are in use
}


@dataclass(frozen=True, slots=True)
class Taken:
    """The connections of one listener: open now, and from the start, with those led nowhere."""

    name: str
    open: int
    accepted: int
    failed: int


class _Listener:
    """One upstream's port. `links` are its connections, each with the task that joins it."""

    def __init__(
        self,
        upstream: Upstream,
        resolver: Resolver,
        limits: UpstreamLimits,
        random: Random,
        clock: Callable[[], float],
    ) -> None:
        self.upstream = upstream
        self.links: dict[Link, asyncio.Task[None]] = {}
        self._resolver = resolver
        self._limits = limits
        self._random = random
        self._clock = clock
        self._pool: Pool | None = None
        self._accepted = self._failed = 0
        self._said = SaidOnce(resolver.listeners, _SAY_AGAIN_S)

    @property
    def taken(self) -> Taken:
        """What became of its connections."""
        return Taken(self.upstream.name, len(self.links), self._accepted, self._failed)

    async def serve(self, listening: socket.socket, lane: Lane, most: int) -> None:
        """Take connections, `most` at a time, until cancelled; end those that should end."""
        loop = asyncio.get_running_loop()
        loop.add_reader(listening, self._accept, listening, lane, most)
        try:
            while True:
                await asyncio.sleep(self._limits.sweep_s)
                self.sweep()
        finally:
            loop.remove_reader(listening)
            for link in list(self.links):
                link.stop()

    def sweep(self) -> None:
        """End the connections that should end by now."""
        if self._pool is not None and self.links:
            with contextlib.suppress(DiscoveryError):
                self._resolver.update(self.upstream.name)  # so that it is known who is gone
        for link in list(self.links):
            link.end()

    def _accept(self, listening: socket.socket, lane: Lane, most: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_AT_ONCE):
            try:
                client, _ = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no more files at the moment: who waits goes on to wait
                loop.remove_reader(listening)
                again = (listening, self._accept, listening, lane, most)
                loop.call_later(_RECOVERY_S, loop.add_reader, *again)
                return
            life = Lifetime(self._limits, self._clock(), self._random.random())
            link = Link(lane, client, life, self._clock, self._gone)
            self._accepted += 1
            if len(self.links) >= most:
                self._failed += 1
                link.cut()
            else:
                self.links[link] = loop.create_task(self._join(link))

    def _gone(self, link: Link) -> None:
        if (joining := self.links.pop(link, None)) is not None:
            joining.cancel()

    async def _join(self, link: Link) -> None:
        """Connect a client's connection to an endpoint, or end it."""
        try:
            await self._attempted(link)
        except DiscoveryError:
            pass  # all that TCP can say of it is a reset
        finally:
            if link.server is None:
                self._failed += not link.over  # else the client has left
                link.cut()

    async def _attempted(self, link: Link) -> None:
        try:
            route = await self._resolver.aroute(self.upstream.name)
        except DiscoveryError as error:
            said = f"upstream {self.upstream.name} leads nowhere: {error}"
            self._said.say(said, self._clock())
            raise
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
            within_s = self._limits.connect_s
            connection = await _connected(link.lane, endpoint.host, endpoint.port, within_s)
        except TimeoutError:
            return Failed("connect_timeout", sent=False)
        except OSError as error:
            own = error.errno in _OWN_FAULTS
            return Failed("abandoned" if own else outcome_of(error), sent=False)
        # A kernel accepts for a busy task and for an idle one alike, so the time tells nothing of
        # it; nor would that of its answers, as errors come fast. Fewest connections decide.
        step.flight.end("answer", step.flight.began_at)
        link.join(connection, step.flight)
        return _CONNECTED


async def _connected(lane: Lane, host: str, port: int, within_s: float) -> socket.socket:
    connection = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            connection.connect((host, port))
        await lane.connected(connection, within_s)
    except BaseException:
        connection.close()
        raise
    return connection


class Upstreams:
    """The listeners of a process.

    `random` shortens the connections' ages, and `monotonic` is the clock that they are measured by.
    `shared` addresses may be taken over: see `sharing`.
    """

    def __init__(
        self,
        resolver: Resolver,
        upstreams: Iterable[Upstream],
        limits: UpstreamLimits | None = None,
        random: Random | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        shared: bool = False,
    ) -> None:
        self._shared = shared
        limits, random = limits or UpstreamLimits(), random or Random()
        self._listeners = [
            _Listener(upstream, resolver, limits, random, monotonic) for upstream in upstreams
        ]
        self._sockets: list[socket.socket] = []
        self._most = _affordable(limits, len(self._listeners))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="upstreams", daemon=True)
        self._running: Future[None] = Future()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where each listens, once started; real ports where 0 was asked for."""
        return tuple(Address(*s.getsockname()[:2]) for s in self._sockets)

    @property
    def is_alive(self) -> bool:
        """Whether whatever there is to serve was started and has not ended."""
        return not self._listeners or self._thread.is_alive()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """That of the thread, once it runs."""
        return self._loop

    @property
    def taken(self) -> tuple[Taken, ...]:
        """What became of the connections of each listener; for any thread."""
        return tuple(listener.taken for listener in self._listeners)

    @property
    def connections(self) -> int:
        """How many are open now."""
        return sum(len(listener.links) for listener in self._listeners)

    def start(self) -> None:
        """Bind and serve. Raises `OSError`, whose `filename` is the address that cannot be had.

        Nothing is left of a start that fails.
        """
        try:
            for listener in self._listeners:
                self._sockets.append(_bound(listener.upstream.address, self._shared))
            self._thread.start()
            self._running.result()
        except OSError as error:
            self.close()
            error.filename = error.filename or str(self._listeners[-1].upstream.address)
            raise

    def hand_over(self) -> None:
        """Leave new connections to the process that shares our addresses, where there is one."""
        for listening in self._sockets if self._shared else ():
            hand_over(listening)

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
        try:
            lane = Lane()
            with (
                contextlib.suppress(asyncio.CancelledError),
                asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(lane)) as runner,
            ):
                runner.run(self._serve(lane))
        except BaseException as error:
            if self._running.done():
                raise
            self._running.set_exception(error)

    async def _serve(self, lane: Lane) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        pairs = zip(self._listeners, self._sockets, strict=True)
        serving = [asyncio.ensure_future(each.serve(s, lane, self._most)) for each, s in pairs]
        self._running.set_result(None)
        await asyncio.gather(*serving)


def _affordable(limits: UpstreamLimits, listeners: int) -> int:
    """How many connections each listener takes: all of them have three quarters of our files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or not listeners:
        return limits.connections
    return max(1, min(limits.connections, files * 3 // 4 // 2 // listeners))


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _bound(address: Address, shared: bool) -> socket.socket:
    listening = socket.socket(_family(address.host), socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            share(listening)
        listening.bind((address.host, address.port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        error.filename = str(address)
        raise
    return listening
