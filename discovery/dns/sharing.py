"""One address for two processes, while the second takes over from the first (Linux).

With SO_REUSEPORT the system deals what comes out to all who have the address, by a hash of the
client's address. Who leaves first has all that is new go to the other one, then answers what it
was given already; what still waits at a socket that is closed would be lost.

Rule: two at most share an address. Sockets are numbered as they came, and when the first leaves,
the last takes its number; so the other one of two is number 1 for whoever was there before.
"""

import contextlib
import ctypes
import socket
import struct

_ATTACH_REUSEPORT_CBPF = 51  # SO_ATTACH_REUSEPORT_CBPF; the socket module does not have it
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_LOOK_S = 1.0
_RETURN_ONE = struct.pack("HBBI", 0x06, 0, 0, 1)  # struct sock_filter: BPF_RET | BPF_K, 1


def share(sock: socket.socket) -> None:
    """Let another process that says so too have the same address; before it is bound."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def hand_over(sock: socket.socket) -> None:
    """Have all that is new go to the process that came after us.

    Where there is none it still comes to us: the system deals as before if nobody has the number.
    """
    program = ctypes.create_string_buffer(_RETURN_ONE, len(_RETURN_ONE))
    described = struct.pack("HP", 1, ctypes.addressof(program))  # struct sock_fprog
    with contextlib.suppress(OSError):  # it is closed, or another system
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_REUSEPORT_CBPF, described)


def is_taken(host: str, port: int) -> bool:
    """Whether anybody takes connections at this address; looking keeps nobody from binding it."""
    try:
        socket.create_connection((_LOOPBACK.get(host, host), port), _LOOK_S).close()
    except TimeoutError:
        return True  # somebody has it, who has no time
    except OSError:
        return False
    return True
