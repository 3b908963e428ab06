"""Bodies: of requests, which are bounded, and of answers, which are handed on in pieces.

A client that does not read holds up one piece and what the system takes, not a copy of the whole.
"""

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from discovery.errors import BadInput

PIECE = 1 << 16


class TooLarge(BadInput):
    """More octets than such a request can have."""

    code = "too_large"
    status = 413


async def body_of(request: Request, most: int) -> bytes:
    """The whole body. Raises `TooLarge` over so many octets, without reading on.

    Raises `BadInput`, which nobody reads, where the client goes before that.
    """
    body = bytearray()
    try:
        async for octets in request.stream():
            body += octets
            if len(body) > most:
                raise TooLarge(f"a body has at most {most} octets here")
    except ClientDisconnect as exc:
        raise BadInput("the connection ended before the body did") from exc
    return bytes(body)


class InPieces:
    """An application whose answers are handed on as fast as they are read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; a body that is longer than a piece is sent in several."""

        async def sent(message: Message) -> None:
            body = message.get("body", b"")
            if len(body) <= PIECE:
                await send(message)
                return
            octets, more = memoryview(body), message.get("more_body", False)
            for at in range(0, len(body), PIECE):
                end = at + PIECE
                more_body = more or end < len(body)
                await send({**message, "body": octets[at:end], "more_body": more_body})
                await asyncio.sleep(0)  # others have their turn, and who is gone is seen to be

        await self._app(scope, receive, sent)
