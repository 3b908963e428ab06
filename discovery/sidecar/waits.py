"""Answers that wait for a change: blocking queries and server-sent events.

Rule 1: every wait is bounded in time, their number is bounded, and all end when the server does.
Rule 2: an index that is not the current one, a greater one too, is answered at once.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from discovery.client.resolver import Resolver
from discovery.documents import Document
from discovery.errors import BadInput, NotReady
from discovery.written import duration

DEFAULT_WAIT_S = 30.0
LONGEST_WAIT_S = 300.0
GREATEST_INDEX = 2**63 - 1
MOST_WAITS = 400
KEEP_ALIVE_S = 15.0  # proxies close connections that are silent for a minute or less


class Waits:
    """Everybody who waits for a change of what `resolver` knows; belongs to one event loop."""

    def __init__(self, resolver: Resolver, most: int = MOST_WAITS) -> None:
        self._resolver = resolver
        self.most = most
        self._waiting = 0
        self._over = False
        self._ended: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting

    def end(self) -> None:
        """Let everybody who waits go, and from now on. For any thread."""
        self._over = True
        if self._ended is not None:
            with contextlib.suppress(RuntimeError):  # of a loop that is closed: nobody waits there
                self._ended.get_loop().call_soon_threadsafe(_settle, self._ended)

    async def for_query(self, request: Request) -> bool:
        """Wait as `?index=N&wait=30s` asks; not at all, and false, where there is no index.

        A client that goes away gives its place back.
        """
        asked = index_and_wait(request.query_params)
        if asked is None:
            return False
        with self._place():
            await self._for_change(*asked, _gone(request))
        return True

    def events(self, document: Callable[[], Document]) -> Response:
        """Server-sent events: what `document` says now, and each time it says something else.

        Comments keep the connection alive; the stream ends with the server. It has its place from
        now on, so that a stream that was begun is not refused. Raises `NotReady`.
        """
        place = contextlib.ExitStack()
        place.enter_context(self._place())
        return _Stream(self._events(document), place)

    async def _events(self, document: Callable[[], Document]) -> AsyncIterator[bytes]:
        said: object = None
        while not self._over:
            index = self._resolver.snapshot.index
            body = document()
            yield b": still here\n\n" if essence(body) == said else event(body, index)
            said = essence(body)
            await self._for_change(index, KEEP_ALIVE_S)

    async def _for_change(
        self, index: int, wait_s: float, gone: Coroutine[Any, Any, None] | None = None
    ) -> None:
        """Until the index is another, the time is over, the client gone or the server ending."""
        change = self._resolver.await_change(index, wait_s)
        own: list[asyncio.Future[Any]] = [asyncio.ensure_future(change)]
        own += [asyncio.ensure_future(gone)] if gone is not None else []
        try:
            if not self._over:
                first = asyncio.FIRST_COMPLETED
                await asyncio.wait([*own, self._end()], return_when=first)
        finally:
            for task in own:
                task.cancel()

    def _end(self) -> asyncio.Future[None]:
        """What is done when the server ends, for the loop that runs."""
        loop = asyncio.get_running_loop()
        if self._ended is None or self._ended.get_loop() is not loop:
            self._ended = loop.create_future()
            if self._over:  # since before there was anything to tell of it
                _settle(self._ended)
        return self._ended

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self._waiting >= self.most:
            raise NotReady(f"{self.most} requests wait already: ask without index, or later")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1


class _Stream(StreamingResponse):
    """A stream of events that gives its place back at its end, also if it never began."""

    def __init__(self, events: AsyncIterator[bytes], place: contextlib.ExitStack) -> None:
        super().__init__(
            events, media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            if scope["method"] == "HEAD":  # has no body, so that its stream would never end
                await Response(headers=dict(self.headers))(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)


async def _gone(request: Request) -> None:
    """Return when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def index_and_wait(query: QueryParams) -> tuple[int, float] | None:
    """The index to wait on and for how long in seconds, at most five minutes.

    Raises `BadInput` for what is no index or no duration.
    """
    index, wait = query.get("index"), query.get("wait", str(DEFAULT_WAIT_S))
    try:
        wait_s = min(duration(wait), LONGEST_WAIT_S)
    except ValueError as want:
        raise BadInput(f"wait: {wait!r} cannot be used, want {want}") from None
    if index is None:
        return None
    digits = index.isascii() and index.isdecimal() and len(index) <= len(str(GREATEST_INDEX))
    if not digits or int(index) > GREATEST_INDEX:
        raise BadInput(f"index: {index!r} cannot be used, want the number of an earlier answer")
    return int(index), wait_s


def essence(body: Document) -> Document:
    """A body without what changes by itself: the index of other changes and the age."""
    return {key: value for key, value in body.items() if key not in ("index", "age_s")}


def event(body: Document, index: int) -> bytes:
    """One server-sent event: `endpoints` with the body, or `error` with the error's."""
    kind = b"error" if "error" in body else b"endpoints"
    return b"event: %b\nid: %d\ndata: %b\n\n" % (kind, index, msgspec.json.encode(body))
