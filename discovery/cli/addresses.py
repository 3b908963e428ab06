"""Whether an address can be listened at, found out by binding it for a moment."""

import socket

from discovery.written import Address

DNS = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
HTTP = (socket.SOCK_STREAM,)


def refusal(address: Address, kinds: tuple[socket.SocketKind, ...]) -> OSError | None:
    """Why not, by any of these kinds of sockets; `None` where it can."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    for kind in kinds:
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
            try:
                probe.bind((address.host, address.port))
            except OSError as error:
                return error
    return None
