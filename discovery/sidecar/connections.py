"""What a client may do to a connection of the HTTP server: how long it may keep us waiting.

Rule 1: a request is to be complete, and an answer read on, within a fixed time; trickling octets
does not extend it. Rule 2: connections are bounded, and the one over the bound displaces the one
that has kept us waiting for a request longest; so that nobody locks others out by doing nothing.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import ClassVar

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from discovery import documents
from discovery.errors import BadInput

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

    _waiting_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Wait for a request; displace another connection where there are too many."""
        super().connection_made(transport)
        self._request = _Limit(self.loop, self.request_s, transport.abort)
        self._stall = _Limit(self.loop, self.stalled_s, transport.abort)
        self._wait_for_request()
        if len(self.connections) > self.most:
            self._displace()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the limits."""
        self._request.stop()
        self._stall.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Stop the time of a request that is complete, and begin that of the next one."""
        super().data_received(data)
        if self._answers:
            self._request.stop()
        elif not self._request.is_running:
            self._wait_for_request()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request; uvicorn's own timer bounds the silence before it."""
        self._waiting_since = time.monotonic()
        super().on_response_complete()

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
        """Whether a request is under way, so that it is our turn."""
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_request(self) -> None:
        self._waiting_since = time.monotonic()
        self._request.start()

    def _displace(self) -> None:
        several = [c for c in self.connections if isinstance(c, Connection)]
        usable = [c for c in several if not c.transport.is_closing()]
        if len(usable) > self.most:
            waiting = (c for c in usable if not c._answers)
            min(waiting, key=lambda c: c._waiting_since).transport.abort()


def bounded(most: int, about: Callable[[], Mapping[str, str]] = dict) -> type[Connection]:
    """Connections of which there are no more than that.

    `about` are headers of answers that no application gives: those to what is no request.
    """
    return type("Connection", (Connection,), {"most": most, "about": staticmethod(about)})
