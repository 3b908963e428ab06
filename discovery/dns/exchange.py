"""One query to one upstream resolver and its reply, over a socket of its own.

The socket is connected, so that the system picks its port, drops what comes from elsewhere and
tells of refusals; it is closed when the exchange ends, however it does.
"""

import asyncio
import errno
import resource
import socket

from discovery.dns import relay
from discovery.dns.relay import Relayed
from discovery.dns.upstreams import Address

MAX_SOCKETS = 1_024
_SHARE = 8  # of the descriptors that the process may have: others need some, too
_LARGEST = 65_535
_LARGEST_SCOPE = 0xFFFF_FFFF
# What the system lacks at this end says nothing of the other one; EAGAIN: no port is free.
_SHORTAGES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN))


class Shortage(Exception):
    """This machine has no socket, port or buffer to spare."""


def sockets_to_spare() -> int:
    """How many exchanges there may be at once: a part of the descriptors we may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MAX_SOCKETS if soft == resource.RLIM_INFINITY else max(1, min(soft // _SHARE, MAX_SOCKETS))
    )


async def exchanged(address: Address, sent: bytes, stream: bool) -> Relayed | None:
    """The reply, waited for until cancelled; `None` for one over TCP that cannot be believed.

    Raises `OSError` and `EOFError` for an upstream that cannot be asked, and `Shortage`.
    """
    host, _, scope = address[0].partition("%")
    kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as sock:
            sock.setblocking(False)
            where = (host, address[1], 0, _scope_id(scope)) if scope else (host, address[1])
            return await (_streamed if stream else _datagram)(sock, where, sent)
    except OSError as why:
        if why.errno in _SHORTAGES:
            raise Shortage(why.strerror) from why
        raise


def _scope_id(scope: str) -> int:
    """RFC 4007 §11.2: the number of an interface or its name."""
    try:
        found = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
    except ValueError:  # no name: it has a NUL, or thousands of digits
        found = -1
    if 0 <= found <= _LARGEST_SCOPE:
        return found
    raise OSError(errno.ENODEV, "no such interface")


async def _datagram(sock: socket.socket, where: tuple[object, ...], sent: bytes) -> Relayed:
    """What is no reply to the query is passed over."""
    loop = asyncio.get_running_loop()
    sock.connect(where)
    await loop.sock_sendall(sock, sent)
    while True:
        found = relay.read(await loop.sock_recv(sock, _LARGEST), sent)
        if found is not None:
            return found


async def _streamed(sock: socket.socket, where: tuple[object, ...], sent: bytes) -> Relayed | None:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, where)
    await loop.sock_sendall(sock, len(sent).to_bytes(2, "big") + sent)
    size = int.from_bytes(await _exactly(sock, 2), "big")
    return relay.read(await _exactly(sock, size), sent, stream=True)


async def _exactly(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    octets = bytearray()
    while len(octets) < size:
        more = await loop.sock_recv(sock, size - len(octets))
        if not more:
            raise EOFError
        octets += more
    return bytes(octets)
