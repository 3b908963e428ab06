"""Transports for httpx and httpx2: `httpx.Client(transport=DiscoveryTransport(resolver))`.

Rule 1: which endpoint, whether again, and how long to pause is decided by `attempts`; the two
drivers here differ only by `await`, and in that only coroutines can race two attempts.
Rule 2: a request's `Host` header, and the name that TLS checks, stay the service's name.
Rule 3: exceptions are the client's own; ours is their cause.
Rule 4: an endpoint is in use until the answer's body is closed, or lost for a later one to close.
Rule 5: an answer that is not handed on is closed, whatever happens.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import httpx

from discovery.balancing.pool import Flight, Pool
from discovery.client.attempts import (
    Attempting,
    Hedge,
    Pause,
    Raced,
    Reply,
    Result,
    Retrying,
    Send,
    Tried,
    attempts,
)
from discovery.client.calls import Call, Use
from discovery.client.inners import Inners
from discovery.client.kits import CONNECT_S, Kit, kit_of
from discovery.client.pace import Hedging, Pace
from discovery.client.resolver import Resolver
from discovery.client.telling import telling
from discovery.client.urls import name_in
from discovery.errors import DiscoveryError


class _Transport:
    """What both have in common."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        retrying: Retrying | None = None,
        deadline_s: float | None = None,
        connect_s: float = CONNECT_S,
        inner: Callable[[], Any] | None = None,
        plain: Any | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._resolver = resolver
        self._retrying = retrying or Retrying()
        self._deadline_s = deadline_s
        self._connect_s = connect_s
        self._make_inner = inner
        self._plain = plain
        self._clock = clock
        self._uses: dict[Kit, Use] = {}

    def _name(self, url: Any) -> str | None:
        resolver = self._resolver
        return name_in(url.host, url.port, resolver.snapshot.labels, resolver.zone)

    def _use(self, request: Any, make: Callable[[Kit], Use]) -> Use:
        """What there is for clients of the request's module; threads that come first share it."""
        kit = kit_of(request)
        return self._uses.get(kit) or self._uses.setdefault(kit, make(kit))

    def _all(self) -> list[Any]:
        """Every transport that there is to close."""
        uses = list(self._uses.values())
        plains = {id(each): each for each in (self._plain, *(use.plain for use in uses))}
        inners = [inner for use in uses for inner in use.inners.all()]
        return inners + [plain for plain in plains.values() if plain is not None]

    def _call(self, use: Use, request: Any) -> tuple[Call, float | None]:
        """The call, and its deadline by the resolver's clock."""
        deadline_s = request.extensions.get("deadline_s", self._deadline_s)
        now = self._resolver.monotonic
        ends_at = None if deadline_s is None else now() + deadline_s
        left = None if ends_at is None else lambda: ends_at - now()
        return Call(use, request, left, self._connect_s, self._clock), ends_at


class DiscoveryTransport(_Transport, httpx.BaseTransport):
    """Sends requests for services to their endpoints: balanced, retried elsewhere, counted.

    URLs name services as DNS does (`http://orders/`, `http://orders.prod/`); a port in a URL is
    the container's, but for the scheme's own, which clients drop: `http://orders:80/` is
    `http://orders/`. Hosts that are not ours go to a plain transport (`plain`).

    Requests are retried as `retrying` says. `deadline_s`, or a request's extension of that name,
    is for looking up the name and all attempts, until the answer's headers are there. Each phase
    of an attempt (connecting, writing, reading) gets what is left when it begins; a server that
    takes or gives single octets can stretch one. `connect_s` is the longest that connecting may
    take. Threads may share it. Errors are the client's own, with a `DiscoveryError` as their cause.

    A client with `trust_env` sends what `HTTP_PROXY` and its like cover to the proxy, and not here.
    """

    def handle_request(self, request: Any) -> Any:
        """See `httpx.BaseTransport`."""
        use, name = self._use(request, self._made), self._name(request.url)
        if name is None:
            return use.plain.handle_request(request)
        call, ends_at = self._call(use, request)
        try:
            route = self._resolver.route(name, timeout_s=call.left and call.left())
            _close_all(use.unused(route.pool))
            ask = use.kit.ask(request, ends_at)
            tell = telling(request, self._resolver.listeners)
            return self._drive(attempts(route, ask, self._retrying, tell=tell), call)
        except DiscoveryError as error:
            raise call.raised(error) from error

    def close(self) -> None:
        """Close all connections."""
        _close_all(self._all())

    def _made(self, kit: Kit) -> Use:
        return Use(kit, Inners(self._make_inner or kit.inner), self._plain or kit.plain())

    def _drive(self, flow: Attempting, call: Call) -> Any:
        got: Any = None
        flight: Flight | None = None
        reply: Reply = None
        try:
            while not isinstance(step := _following(flow, reply), tuple):
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    reply = None
                    continue
                given_up, got = got, None
                _close(given_up)
                flight = step.flight
                inner, aimed = call.aimed(flight)
                try:
                    got = inner.handle_request(aimed)
                    reply = call.said(aimed, got)
                except call.use.kit.transport_error as error:
                    got, reply = error, call.use.kit.failed(error)
            assert flight is not None
            call.raise_failure(got, step)
            left = partial(_close_left, call.use.inners, flight)
            got.stream = call.use.kit.stream(got.stream, flight, left, call.use.lost)
            return got
        except BaseException:
            _close(got)
            if flight is not None:
                flight.close()
            raise
        finally:
            flow.close()


class AsyncDiscoveryTransport(_Transport, httpx.AsyncBaseTransport):
    """The same for event loops of asyncio, as the `transport` of an `httpx.AsyncClient`.

    A deadline is exact here. With `hedging`, an idempotent request that takes longer than most is
    sent to another endpoint, too, within the budget of retries: whoever answers first is taken,
    and the other is broken off, which says nothing of its endpoint. (Threads cannot break off what
    blocks another thread, so there is no hedging for them.)
    """

    def __init__(
        self, resolver: Resolver, *, hedging: Hedging | None = None, **options: Any
    ) -> None:
        super().__init__(resolver, **options)
        self._hedging = hedging
        self._paces: WeakKeyDictionary[Pool, Pace] = WeakKeyDictionary()
        self._closings: set[asyncio.Task[None]] = set()

    async def handle_async_request(self, request: Any) -> Any:
        """See `httpx.AsyncBaseTransport`."""
        use, name = self._use(request, self._made), self._name(request.url)
        if name is None:
            return await use.plain.handle_async_request(request)
        call, ends_at = self._call(use, request)
        try:
            route = await self._resolver.aroute(name, timeout_s=call.left and call.left())
            if unused := use.unused(route.pool):
                await self._closed(unused)
            ask = use.kit.ask(request, ends_at)
            tell = telling(request, self._resolver.listeners)
            flow = attempts(route, ask, self._retrying, self._pace(route.pool), tell)
            return await self._drive(flow, call)
        except DiscoveryError as error:
            raise call.raised(error) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._closed(self._all())
        await asyncio.gather(*self._closings)

    def _made(self, kit: Kit) -> Use:
        plain = self._plain or kit.async_plain()
        return Use(kit, Inners(self._make_inner or kit.async_inner), plain)

    def _pace(self, pool: Pool) -> Pace | None:
        if self._hedging is None:
            return None
        return self._paces.get(pool) or self._paces.setdefault(pool, Pace(self._hedging))

    async def _drive(self, flow: Attempting, call: Call) -> Any:
        got: Any = None
        flight: Flight | None = None
        reply: Reply = None
        try:
            while not isinstance(step := _following(flow, reply), tuple):
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    reply = None
                    continue
                given_up, got = got, None
                await _aclose(given_up)
                flight = step.flight
                if step.hedge is None:
                    reply, got = await self._sent(flight, call)
                else:
                    reply, got = await self._raced(flight, step.hedge, call)
                    flight = reply.results[-1][0]
            assert flight is not None
            call.raise_failure(got, step)
            left = partial(self._close_left, call.use.inners, flight)
            got.stream = call.use.kit.async_stream(got.stream, flight, left, call.use.lost)
            return got
        except BaseException:
            if flight is not None:
                flight.close()
            await _aclose(got)
            raise
        finally:
            flow.close()

    async def _sent(self, flight: Flight, call: Call) -> tuple[Result, Any]:
        """What came of one attempt, as a result and as the answer or exception itself."""
        inner, aimed = call.aimed(flight)
        got = None
        try:
            async with asyncio.timeout(call.left and call.left()) as timeout:
                got = await inner.handle_async_request(aimed)
            return call.said(aimed, got), got
        except TimeoutError:
            if not timeout.expired():
                raise
            late = call.use.kit.late(aimed)
            return call.use.kit.failed(late), late
        except call.use.kit.transport_error as error:
            return call.use.kit.failed(error), error
        except BaseException:
            await _aclose(got)
            raise

    async def _raced(self, first: Flight, hedge: Hedge, call: Call) -> tuple[Raced, Any]:
        """The same of an attempt that a second one may join; the last of those that came."""
        flights = {asyncio.ensure_future(self._sent(first, call)): first}
        came: list[tuple[Flight, Result]] = []
        got: Any = None
        try:
            done, _ = await asyncio.wait(flights, timeout=max(0.0, hedge.after_s))
            if not done and (second := hedge.board()) is not None:
                flights[asyncio.ensure_future(self._sent(second, call))] = second
            while flights and not (came and hedge.suffices(came[-1][1])):
                done, _ = await asyncio.wait(flights, return_when=asyncio.FIRST_COMPLETED)
                task = next(iter(done))
                flight = flights.pop(task)
                given_up, (result, got) = got, task.result()
                came.append((flight, result))
                await _aclose(given_up)
        except BaseException:
            await _aclose(got)
            raise
        finally:
            await self._shielded(_broken_off(list(flights)))
        return Raced(tuple(came)), got

    async def _close_left(self, inners: Inners, flight: Flight) -> None:
        if left := inners.left(flight.member):
            await self._closed(left)

    async def _closed(self, unused: Iterable[Any]) -> None:
        await self._shielded(_aclose_all(unused))

    async def _shielded(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it to the end, also where who waits for it is cancelled."""
        task = asyncio.ensure_future(work)
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)
        await asyncio.shield(task)


def _following(flow: Attempting, reply: Reply) -> Send | Pause | tuple[Tried, ...]:
    """The next step; or, where there is none, what was tried."""
    try:
        return flow.send(reply)
    except StopIteration as end:
        tried: tuple[Tried, ...] = end.value
        return tried


def _close(got: Any) -> None:
    """Close what is an answer."""
    if got is not None and not isinstance(got, Exception):
        got.close()


async def _aclose(got: Any) -> None:
    """The same for event loops."""
    if got is not None and not isinstance(got, Exception):
        await got.aclose()


def _close_all(unused: Iterable[Any]) -> None:
    for each in unused:
        each.close()


def _close_left(inners: Inners, flight: Flight) -> None:
    _close_all(inners.left(flight.member))


async def _aclose_all(unused: Iterable[Any]) -> None:
    for each in unused:
        await each.aclose()


async def _broken_off(tasks: list["asyncio.Task[tuple[Result, Any]]"]) -> None:
    """Cancel what is under way, and close the answers that came all the same."""
    for task in tasks:
        task.cancel()
    for late in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(late, BaseException):
            await _aclose(late[1])
