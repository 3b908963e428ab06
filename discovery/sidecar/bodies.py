"""Bodies of requests, which are bounded."""

from starlette.requests import Request

from discovery.errors import BadInput


class TooLarge(BadInput):
    """More octets than such a request can have."""

    code = "too_large"
    status = 413


async def body_of(request: Request, most: int) -> bytes:
    """The whole body. Raises `TooLarge` over so many octets, without reading on."""
    body = bytearray()
    async for octets in request.stream():
        body += octets
        if len(body) > most:
            raise TooLarge(f"a body has at most {most} octets here")
    return bytes(body)
