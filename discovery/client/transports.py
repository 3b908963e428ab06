"""Transports for httpx and httpx2: `httpx.Client(transport=DiscoveryTransport(resolver))`.

Rule 1: which endpoint, whether again, and how long to pause is decided by `attempts`; the two
drivers here differ only by `await`.
Rule 2: a request's `Host` header, and the name that TLS checks, stay the service's name.
Rule 3: exceptions are the client's own; ours is their cause.
Rule 4: an endpoint is in use until the answer's body is closed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from discovery.client.attempts import (
    Answered,
    Attempting,
    Failed,
    Pause,
    Retrying,
    Route,
    Send,
    Tried,
    attempts,
)
from discovery.client.inners import Inners
from discovery.client.kits import CONNECT_S, Kit, answered, kit_of
from discovery.client.resolver import Resolver
from discovery.client.urls import name_in
from discovery.errors import AttemptsFailed, DiscoveryError

_Outcome = tuple[Answered | Failed | None, Any]


class _Transport:
    """What both have in common. `inner` makes the transport of one endpoint."""

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
        self._kit: Kit | None = None
        self._inners: Inners | None = None

    def _name(self, url: Any) -> str | None:
        resolver = self._resolver
        return name_in(url.host, url.port, resolver.snapshot.labels, resolver.zone)

    def _made_for(self, request: Any, make: Callable[[Kit], Callable[[], Any]]) -> tuple[Kit, Any]:
        """The first request's kit, and the inner transports of its kind."""
        if self._inners is None:
            self._kit = kit_of(request)
            self._inners = Inners(self._make_inner or make(self._kit))
        assert self._kit is not None
        return self._kit, self._inners

    def _flow(self, route: Route, kit: Kit, request: Any) -> Attempting:
        return attempts(route, kit.ask(request, self._deadline_s), self._retrying)

    def _aimed(self, kit: Kit, request: Any, step: Send) -> Any:
        return kit.aimed(request, step.flight.member.endpoint, step.left_s, self._connect_s)

    def _seen(self, response: Any) -> _Outcome:
        return answered(response, self._clock()), response


class DiscoveryTransport(_Transport, httpx.BaseTransport):
    """Sends requests for services to their endpoints: balanced, retried elsewhere, counted.

    URLs name services as DNS does (`http://orders/`, `http://orders.prod/`); a port in a URL is
    the container's. Hosts that are not ours go to a plain transport (`plain`).

    Requests are retried as `retrying` says. `deadline_s`, or a request's extension of that name,
    is for all attempts of one request. `connect_s` is the longest time that connecting may take.
    Threads may share it. Errors are the client's own, with a `DiscoveryError` as their cause.
    """

    def handle_request(self, request: Any) -> Any:
        """See `httpx.BaseTransport`."""
        name = self._name(request.url)
        kit, inners = self._made_for(request, lambda kit: kit.inner)
        if name is None:
            return self._plainly(kit).handle_request(request)
        try:
            route = self._resolver.route(name)
            for unused in inners.unused(route.pool):
                unused.close()
            return self._drive(self._flow(route, kit, request), kit, inners, request)
        except DiscoveryError as error:
            raise kit.raised(error, request) from error

    def close(self) -> None:
        """Close all connections."""
        for inner in self._inners.all() if self._inners is not None else ():
            inner.close()
        if self._plain is not None:
            self._plain.close()

    def _drive(self, flow: Attempting, kit: Kit, inners: Inners, request: Any) -> Any:
        try:
            step = next(flow)
            while True:
                outcome, got = self._done(step, kit, inners, request)
                try:
                    following = flow.send(outcome)
                except StopIteration as end:
                    if isinstance(got, Exception):
                        error, cause = _final(got, end.value, request)
                        raise error from cause
                    assert isinstance(step, Send)
                    closing = self._closing(inners, step)
                    got.stream = kit.stream(got.stream, step.flight, closing)
                    return got
                if isinstance(outcome, Answered):
                    got.close()
                step = following
        finally:
            flow.close()

    def _done(self, step: Send | Pause, kit: Kit, inners: Inners, request: Any) -> _Outcome:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None, None
        try:
            inner = inners.of(step.flight.member, kit.server_name(request))
            return self._seen(inner.handle_request(self._aimed(kit, request, step)))
        except kit.transport_error as error:
            return kit.failed(error), error

    def _closing(self, inners: Inners, step: Send) -> Callable[[], None]:
        def close_left() -> None:
            for left in inners.left(step.flight.member):
                left.close()

        return close_left

    def _plainly(self, kit: Kit) -> Any:
        if self._plain is None:
            self._plain = kit.plain()
        return self._plain


class AsyncDiscoveryTransport(_Transport, httpx.AsyncBaseTransport):
    """The same for event loops, as the `transport` of an `httpx.AsyncClient`."""

    async def handle_async_request(self, request: Any) -> Any:
        """See `httpx.AsyncBaseTransport`."""
        name = self._name(request.url)
        kit, inners = self._made_for(request, lambda kit: kit.async_inner)
        if name is None:
            return await self._plainly(kit).handle_async_request(request)
        try:
            route = await self._resolver.aroute(name)
            for unused in inners.unused(route.pool):
                await unused.aclose()
            return await self._drive(self._flow(route, kit, request), kit, inners, request)
        except DiscoveryError as error:
            raise kit.raised(error, request) from error

    async def aclose(self) -> None:
        """Close all connections."""
        for inner in self._inners.all() if self._inners is not None else ():
            await inner.aclose()
        if self._plain is not None:
            await self._plain.aclose()

    async def _drive(self, flow: Attempting, kit: Kit, inners: Inners, request: Any) -> Any:
        try:
            step = next(flow)
            while True:
                outcome, got = await self._done(step, kit, inners, request)
                try:
                    following = flow.send(outcome)
                except StopIteration as end:
                    if isinstance(got, Exception):
                        error, cause = _final(got, end.value, request)
                        raise error from cause
                    assert isinstance(step, Send)
                    closing = self._closing(inners, step)
                    got.stream = kit.async_stream(got.stream, step.flight, closing)
                    return got
                if isinstance(outcome, Answered):
                    await got.aclose()
                step = following
        finally:
            flow.close()

    async def _done(self, step: Send | Pause, kit: Kit, inners: Inners, request: Any) -> _Outcome:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None, None
        try:
            inner = inners.of(step.flight.member, kit.server_name(request))
            return self._seen(await inner.handle_async_request(self._aimed(kit, request, step)))
        except kit.transport_error as error:
            return kit.failed(error), error

    def _closing(self, inners: Inners, step: Send) -> Callable[[], Awaitable[None]]:
        async def close_left() -> None:
            for left in inners.left(step.flight.member):
                await left.aclose()

        return close_left

    def _plainly(self, kit: Kit) -> Any:
        if self._plain is None:
            self._plain = kit.async_plain()
        return self._plain


def _final(error: Any, tried: tuple[Tried, ...], request: Any) -> tuple[Exception, Exception]:
    """The last attempt's exception, of its own class, and what was tried, as its cause."""
    attempted = AttemptsFailed(
        request.url.host, [f"{each.endpoint.authority}: {each.result}" for each in tried]
    )
    attempted.__cause__ = error
    return type(error)(f"{error}; {attempted}", request=request), attempted
