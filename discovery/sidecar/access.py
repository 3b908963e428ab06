"""What surrounds every answer: which hosts and who may ask, and the headers that all have.

Rule 1: a request whose Host header has a name that is not ours is refused, so that a web page
cannot read us by DNS rebinding. That needs a name: an address is where the client connected to. A
client that sends no Host header is no browser.
Rule 2: every answer has `X-Discovery-Age` (seconds) and `X-Discovery-Index`; a handler that knows
the age of what it says better than the whole snapshot's sets its own. No cache may keep an answer
without asking again whether it is still true, and no browser take one for what it is not.
Rule 3: where a token is asked for, it is for everything but the checks whether we live; how long
the comparison takes says nothing about the token.
"""

import hmac
import re
from collections.abc import Callable, Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from discovery.errors import ForeignHost, Unauthorized
from discovery.model import Snapshot
from discovery.names import is_address

AGE = "X-Discovery-Age"
INDEX = "X-Discovery-Index"
_ALWAYS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
_HOST = re.compile(r"\[([0-9a-f:.]+(?:%25[^\]]+)?)\](?::\d*)?|([^\[\]:@/?#]*)(?::\d*)?")
OPEN = ("/health", "/ready", "/", "/ui/page.css", "/ui/page.js", "/ui/icon.svg")


class HostCheck:
    """Passes requests for localhost, for any address, and for `allowed` hosts."""

    def __init__(
        self, app: ASGIApp, allowed: Collection[str], refuse: Callable[[ForeignHost], Response]
    ) -> None:
        self._app = app
        self._allowed = frozenset(host.lower().rstrip(".") for host in allowed)
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or pass on."""
        written = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        if written is None or self._is_ours(_host(written)):
            await self._app(scope, receive, send)
            return
        why = ForeignHost(f"host {written!r} is not ours: add it to allowed_hosts if it should be")
        await self._refuse(why)(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        return host == "localhost" or host in self._allowed or is_address(host)


class TokenCheck:
    """Passes requests that have `Authorization: Bearer` and the token; those in `OPEN` always.

    `token` says what it is by now.
    """

    def __init__(
        self, app: ASGIApp, token: Callable[[], str], refuse: Callable[[Unauthorized], Response]
    ) -> None:
        self._app = app
        self._token = token
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, or pass on."""
        if scope["type"] != "http" or scope["path"] in OPEN or self._is_known(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        answer = self._refuse(Unauthorized("a bearer token is wanted: send Authorization: Bearer"))
        answer.headers["WWW-Authenticate"] = "Bearer"
        await answer(scope, receive, send)

    def _is_known(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        known = hmac.compare_digest(given.strip().encode(), self._token().encode())
        return known and scheme.lower() == "bearer"


class Completed:
    """Adds the headers that all answers have where one has none of its own."""

    def __init__(
        self, app: ASGIApp, snapshot: Callable[[], Snapshot], clock: Callable[[], float]
    ) -> None:
        self._app = app
        self._snapshot = snapshot
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and complete the head of the answer."""

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                about = age_and_index(self._snapshot(), self._clock())
                for name, value in (*_ALWAYS.items(), *about.items()):
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, completed)


def age_and_index(snapshot: Snapshot, now: float) -> dict[str, str]:
    """What every answer says of the snapshot, at `now` in seconds since the epoch."""
    return {AGE: seconds(now - snapshot.observed_at), INDEX: str(snapshot.index)}


def seconds(age_s: float) -> str:
    """An age as the header has it; before the first snapshot it is as old as the epoch."""
    return f"{max(0.0, age_s):.3f}"


def _host(written: str) -> str:
    """The host of `host`, `host:port` or `[::1]:port`, folded; nothing for anything else."""
    found = _HOST.fullmatch(written.strip().lower())
    return (found[1] or found[2]).removesuffix(".") if found else ""
