"""httpx and httpx2, which have the same names: what a request's own module offers us.

A kit belongs to the module that a request comes from, so that the answer's stream, the inner
transports and the exceptions are of the kind that its client expects.
"""

import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from email.utils import parsedate_to_datetime
from functools import cache, cached_property
from types import ModuleType
from typing import Any

from discovery.balancing.pool import Flight
from discovery.client.attempts import IDEMPOTENT, Answered, Ask, Failed
from discovery.client.lease import outcome_of
from discovery.errors import DiscoveryError
from discovery.model import Endpoint

CONNECT_S = 0.5
_KEPT = 20  # idle connections to one endpoint
_KEPT_FOR_S = 4.5  # less than the 5 s after which common servers close an idle connection
_MOST = 1_000  # connections to one endpoint
_MOST_URLS = 4_096
_SHORTEST_S = 0.001  # none at all would have a socket not wait, which is no timeout

Left = Callable[[], float]


@cache
def kit_named(module: str) -> "Kit":
    """The kit of the loaded module of this name."""
    return Kit(sys.modules[module])


def kit_of(request: object) -> "Kit":
    """The kit of the module that made this request."""
    return kit_named(type(request).__module__.partition(".")[0])


class Kit:
    """One of the two modules. Types are `Any`: mypy knows no value that is either of two."""

    def __init__(self, module: ModuleType) -> None:
        self.module: Any = module
        self.transport_error: Any = self.module.TransportError
        self.stream: Any = _stream(self.module)
        self.async_stream: Any = _async_stream(self.module)
        self._urls: dict[tuple[str, bytes, str, int], Any] = {}

    @cached_property
    def ssl_context(self) -> Any:
        """One for all inner transports, since making one takes tens of milliseconds."""
        return self.module.create_ssl_context()

    def inner(self) -> Any:
        """A transport for one endpoint."""
        return self.module.HTTPTransport(verify=self.ssl_context, limits=self._limits())

    def async_inner(self) -> Any:
        """The same for event loops."""
        return self.module.AsyncHTTPTransport(verify=self.ssl_context, limits=self._limits())

    def plain(self) -> Any:
        """A transport for hosts that are not ours, as the module makes it."""
        return self.module.HTTPTransport(verify=self.ssl_context)

    def async_plain(self) -> Any:
        """The same for event loops."""
        return self.module.AsyncHTTPTransport(verify=self.ssl_context)

    def ask(self, request: Any, ends_at: float | None) -> Ask:
        """What attempts have to know of this request."""
        replayable = isinstance(request.stream, self.module.ByteStream)
        return Ask(request.method in IDEMPOTENT, replayable, ends_at)

    def aimed(self, request: Any, endpoint: Endpoint, connect_s: float, left: Left | None) -> Any:
        """The request as it goes to the endpoint; its `Host` header stays as it is.

        `left` gives the seconds until its deadline, where it has one.
        """
        url, extensions = request.url, dict(request.extensions)
        timeout = dict(extensions.get("timeout", {}))
        timeout["connect"] = _least(timeout.get("connect"), connect_s)
        extensions["timeout"] = timeout if left is None else _Shrinking(timeout, left)
        if url.scheme == "https":
            extensions["sni_hostname"] = self.server_name(request)
        return self.module.Request(
            request.method,
            self._aimed_url(url, endpoint),
            headers=request.headers,
            stream=request.stream,
            extensions=extensions,
        )

    def arrived(self, aimed: Any) -> None:
        """The headers of its answer are there: the deadline is kept."""
        timeout = aimed.extensions["timeout"]
        if isinstance(timeout, _Shrinking):
            timeout.lift()

    def server_name(self, request: Any) -> str:
        """The name that TLS asks for and checks, the URL's unless said otherwise; else empty."""
        if request.url.scheme != "https":
            return ""
        name: str = request.extensions.get("sni_hostname", request.url.host)
        return name

    def _aimed_url(self, url: Any, endpoint: Endpoint) -> Any:
        # Making a URL takes longer than all else here, and most clients use few of them.
        key = (url.scheme, url.raw_path, endpoint.host, endpoint.port)
        found = self._urls.get(key)
        if found is None:
            if len(self._urls) >= _MOST_URLS:
                self._urls.clear()
            found = self._urls[key] = url.copy_with(host=endpoint.host, port=endpoint.port)
        return found

    def failed(self, error: Exception) -> Failed:
        """What a transport's error says of the endpoint, and whether anything was sent."""
        module = self.module
        if isinstance(error, module.LocalProtocolError | module.UnsupportedProtocol):
            return Failed("abandoned", sent=False, hopeless=True)
        if isinstance(error, module.PoolTimeout):
            return Failed("abandoned", sent=False)
        if isinstance(error, module.ConnectTimeout):
            return Failed("connect_timeout", sent=False)
        if isinstance(error, module.ConnectError):
            return Failed(outcome_of(error), sent=False)
        return Failed("broken", sent=True)

    def late(self, request: Any) -> Exception:
        """What clients of the module expect where no answer came by the deadline."""
        found: Exception = self.module.ReadTimeout("the deadline passed", request=request)
        return found

    def raised(self, error: DiscoveryError, request: Any, is_late: bool) -> Exception:
        """Our error as one that clients of the module expect; it is the cause."""
        kind = self.module.ConnectTimeout if is_late else self.module.ConnectError
        found: Exception = kind(str(error), request=request)
        found.__cause__ = error
        return found

    def _limits(self) -> Any:
        return self.module.Limits(
            max_connections=_MOST,
            max_keepalive_connections=_KEPT,
            keepalive_expiry=_KEPT_FOR_S,
        )


def answered(response: Any, now: float) -> Answered:
    """What the headers of an answer say; `now` is seconds since the epoch."""
    after = response.headers.get("retry-after") if response.status_code >= 429 else None
    return Answered(response.status_code, _seconds(after, now) if after else None)


def _seconds(retry_after: str, now: float) -> float | None:
    """RFC 9110 §10.2.3: seconds or a date."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (ValueError, OverflowError):  # no date, or one that no clock can tell
        return None


class _Shrinking(dict[str, float | None]):
    """Timeouts by phase, none of which outlasts what is left by the time that it begins.

    That is until the answer's headers are there: from then on they are the caller's own.
    """

    def __init__(self, timeout: dict[str, float | None], left: Left) -> None:
        super().__init__(timeout)
        self._left: Left | None = left

    def get(self, phase: str, default: Any = None) -> Any:
        """As of now."""
        given_s = super().get(phase, default)
        if self._left is None:
            return given_s
        return _least(given_s, max(_SHORTEST_S, self._left()))

    def lift(self) -> None:
        """Be what was given."""
        self._left = None


def _least(given_s: float | None, most_s: float) -> float:
    return most_s if given_s is None else min(given_s, most_s)


def _stream(module: Any) -> Any:
    class Counted(module.SyncByteStream):  # type: ignore[misc]  # the base is only known here
        """A body; its request is under way until it is closed, or lost unread.

        A finalizer may run while its thread holds the locks that closing takes, so what is lost
        is left to a later request to close.
        """

        def __init__(
            self, stream: Any, flight: Flight, done: Callable[[], None], lost: deque[Any]
        ) -> None:
            self._stream = stream
            self._flight = flight
            self._done = done
            self._lost = lost

        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from self._stream
            except module.TransportError:
                self._flight.broke()
                raise

        def close(self) -> None:
            try:
                self._stream.close()
            finally:
                self._flight.close()
                self._done()

        def __del__(self) -> None:
            if not self._flight.is_closed:
                self._flight.close()
                self._lost.append(self._stream)

    return Counted


def _async_stream(module: Any) -> Any:
    class Counted(module.AsyncByteStream):  # type: ignore[misc]  # the base is only known here
        """The same for event loops."""

        def __init__(
            self, stream: Any, flight: Flight, done: Callable[[], Any], lost: deque[Any]
        ) -> None:
            self._stream = stream
            self._flight = flight
            self._done = done
            self._lost = lost

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for part in self._stream:
                    yield part
            except module.TransportError:
                self._flight.broke()
                raise

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                self._flight.close()
                await self._done()

        def __del__(self) -> None:
            if not self._flight.is_closed:
                self._flight.close()
                self._lost.append(self._stream)

    return Counted
