"""DNS over HTTPS (RFC 8484): `/dns-query`. The S is a setting, or whatever puts TLS before it.

A query is answered as over TCP: with up to 65,535 octets, and with names of others where we
forward. Beside the rules of all paths, clients have to be from the networks that may ask over DNS.
"""

import asyncio
import binascii
import contextlib
from base64 import urlsafe_b64decode
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from discovery.dns import wire
from discovery.dns.answering import Answering, Later
from discovery.dns.lifetime import lifetime_s
from discovery.errors import BadInput
from discovery.sidecar.bodies import TooLarge, body_of

PATH = "/dns-query"
MEDIA_TYPE = "application/dns-message"


class NotDns(BadInput):
    """A body of another media type than `application/dns-message`."""

    code = "unsupported_media_type"
    status = 415


class DnsOverHttp:
    """Answers queries in requests. `answering` makes what is asked, when it is first needed."""

    def __init__(self, answering: Callable[[], Answering]) -> None:
        self._make = answering
        self._answering: Answering | None = None

    def routes(self) -> list[Route]:
        """The path of this interface."""
        return [Route(PATH, self.query, methods=["GET", "POST"])]

    async def query(self, request: Request) -> Response:
        """The reply to the query in `?dns=` or in the body."""
        packet = await _posted(request) if request.method == "POST" else _in_url(request)
        if self._answering is None:
            self._answering = self._make()
        self._answering.begin()
        try:
            found = self._answering.reply(packet, request.client.host if request.client else "")
        except wire.Dropped as why:
            raise BadInput(f"the message cannot be answered: {why}") from why
        reply = found if isinstance(found, bytes) else await _delivered(found)
        headers = {"Cache-Control": f"max-age={lifetime_s(reply)}"}
        return Response(reply, headers=headers, media_type=MEDIA_TYPE)


def _in_url(request: Request) -> bytes:
    """The message in base64url, without padding (RFC 8484 §6)."""
    several = request.query_params.getlist("dns")
    if len(several) != 1 or not several[0]:
        raise BadInput("the query is missing: GET takes it as ?dns=, in base64url without padding")
    text = several[0]
    if len(text) > (wire.STREAM_SIZE * 4 + 2) // 3:
        raise TooLarge(f"a DNS message has at most {wire.STREAM_SIZE} octets")
    try:
        if not text.isascii() or not text.replace("-", "").replace("_", "").isalnum():
            raise binascii.Error("there is a character that is none of base64url")
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as why:
        raise BadInput(f"?dns= is not base64url without padding: {why}") from why


async def _posted(request: Request) -> bytes:
    said = request.headers.get("Content-Type", "")
    if said.partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise NotDns(f"a body of type {said!r} is not {MEDIA_TYPE}")
    return await body_of(request, wire.STREAM_SIZE)


async def _delivered(later: Later) -> bytes:
    """What another thread brings."""
    loop = asyncio.get_running_loop()
    reply: asyncio.Future[bytes] = loop.create_future()

    def came(octets: bytes) -> None:
        with contextlib.suppress(asyncio.InvalidStateError):
            reply.set_result(octets)

    def bring(octets: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended before
            loop.call_soon_threadsafe(came, octets)

    later(bring)
    return await reply
