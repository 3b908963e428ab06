"""Which web pages may ask: our own, and no other.

A browser says in `Origin` which page a request comes from where that is another one, and with every
POST. No answer has a CORS header, so that a page could not read it anyway; it is refused before
anything is done. The page's host must be the request's own, which `HostCheck` has looked at.
"""

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from discovery.errors import BadInput


class ForeignOrigin(BadInput):
    """An HTTP request that a browser makes for a page of another host."""

    code = "foreign_origin"
    status = 403


class OriginCheck:
    """Passes requests without `Origin`, and those whose origin is the host that is asked."""

    def __init__(self, app: ASGIApp, refuse: Callable[[ForeignOrigin], Response]) -> None:
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or pass on."""
        headers = Headers(scope=scope)
        origins = headers.getlist("origin") if scope["type"] == "http" else []
        foreign = [one for one in origins if not _is_of(one, headers.get("host", ""))]
        if not foreign:
            await self._app(scope, receive, send)
            return
        why = ForeignOrigin(f"origin {foreign[0]!r} is not ours: only our own page may ask")
        await self._refuse(why)(scope, receive, send)


def _is_of(origin: str, host: str) -> bool:
    scheme, _, authority = origin.partition("://")
    return scheme in ("http", "https") and authority.lower() == host.strip().lower() != ""
