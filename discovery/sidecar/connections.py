"""What a client may do to a connection of the HTTP server: how long it may keep us waiting.

Rule 1: a request is to be complete, its body too, and an answer read on, within a fixed time;
trickling octets does not extend it. Rule 2: connections are bounded, and the one over the bound
displaces the one that has kept us waiting for a request longest; so that nobody locks others out by
doing nothing. Where all the others are being answered, it is told to come again.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import h11
import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from discovery import documents
from discovery.errors import BadInput, NotReady

_MALFORMED = BadInput("this is no HTTP request that can be read")


class _Limit:
    """Calls `over` when it was not stopped for that long."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, after_s: float, over: Callable[[], None]
    ) -> None:
        self._loop, self._after_s, self._over = loop, after_s, over
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._timer is not None

    def start(self) -> None:
        """Begin the time anew."""
        self.stop()
        self._timer = self._loop.call_later(self._after_s, self._over)

    def stop(self) -> None:
        """End the time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Connection(H11Protocol):
    """One connection, with bounds that uvicorn does not have."""

    about: ClassVar[Callable[[], Mapping[str, str]]] = staticmethod(dict)
    most: ClassVar[int] = 500
    request_s: ClassVar[float] = 5.0
    stalled_s: ClassVar[float] = 30.0
    waiting: ClassVar[dict["Connection", None]] = {}  # for a request, those that wait longest first

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.waiting = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Wait for a request; displace another connection where there are too many."""
        super().connection_made(transport)
        self._request = _Limit(self.loop, self.request_s, transport.abort)
        self._stall = _Limit(self.loop, self.stalled_s, transport.abort)
        self._end = _Limit(self.loop, self.stalled_s, transport.abort)
        self._wait_for_request()
        if len(self.connections) > self.most:
            self._displace_another()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the limits."""
        self.waiting.pop(self, None)
        for limit in (self._request, self._stall, self._end):
            limit.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Stop the time of a request that is complete, and begin that of the next one."""
        super().data_received(data)
        if self._answers:
            self.waiting.pop(self, None)
            self._request.stop()
        elif not self._request.is_running:
            self._wait_for_request()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request; uvicorn's own timer bounds the silence before it."""
        if self in self.connections:  # else it was displaced meanwhile
            self.waiting[self] = None
        super().on_response_complete()
        if self._answers:  # the next one was there already
            self.waiting.pop(self, None)
        self._bound_the_end()

    def timeout_keep_alive_handler(self) -> None:
        """Close, as no further request came."""
        super().timeout_keep_alive_handler()
        self._bound_the_end()

    def pause_writing(self) -> None:
        """Begin the time in which the client has to read on."""
        super().pause_writing()
        self._stall.start()

    def resume_writing(self) -> None:
        """The client reads on."""
        self._stall.stop()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Say in JSON that this is no request; in the middle of an answer, only close."""
        if self._answers or self.conn.our_state is not h11.IDLE:
            self.transport.abort()
            return
        body = msgspec.json.encode(documents.error(_MALFORMED)) + b"\n"
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *type(self).about().items(),
        ]
        head = h11.Response(status_code=_MALFORMED.status, headers=headers, reason=b"Bad Request")
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    @property
    def _answers(self) -> bool:
        """Whether a whole request is under way, so that it is our turn."""
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.more_body

    def _bound_the_end(self) -> None:
        """A transport that is closing waits until the last answer was read, however long."""
        if self.transport.is_closing():
            self._end.start()

    def _wait_for_request(self) -> None:
        self.waiting.setdefault(self)
        self._request.start()

    def _displace_another(self) -> None:
        longest = next(iter(self.waiting))
        if longest is not self:
            del self.waiting[longest]
            self.connections.discard(longest)
            longest.transport.abort()
        if len(self.connections) > self.most:
            self.app = self._come_again

    async def _come_again(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application of a connection for which there is no place."""
        why = NotReady(f"{self.most} connections are being answered: ask again later")
        body = msgspec.json.encode(documents.error(why)) + b"\n"
        headers = {**type(self).about(), "Connection": "close"}
        answer = Response(body, why.status, headers, media_type="application/json")
        await answer(scope, receive, send)


def bounded(most: int, about: Callable[[], Mapping[str, str]] = dict) -> type[Connection]:
    """Connections of which there are no more than that.

    `about` are headers of answers that no application gives: those to what is no request.
    """
    return type("Connection", (Connection,), {"most": most, "about": staticmethod(about)})
