"""Loopback addresses and ports: 127.0.0.2, .3, … are hosts, 127.N.0.1, … are task interfaces.

Two servers on one machine share the hosts' addresses, so a host port is tried before it is given;
N is this server's own, held by a bound socket.
"""

from __future__ import annotations

import socket
from random import Random

_MARK_PORT = 51677
FIRST_DYNAMIC, LAST_DYNAMIC = 49153, 65535


class Addresses:
    """Hands out addresses; close it to give the server's network back.

    With `reuse` a task gets the address that was given back last, if there is one.
    """

    def __init__(self, random: Random, reuse: bool = False) -> None:
        self._reuse = reuse
        self._hosts = 1
        self._interfaces = 0
        self._free: list[int] = []
        self._mark, self._network = _network(random)

    def close(self) -> None:
        """Give the network back."""
        self._mark.close()

    def host(self) -> str:
        """The next host's address."""
        self._hosts += 1
        return f"127.{self._hosts >> 16}.{self._hosts >> 8 & 255}.{self._hosts & 255}"

    def interface(self) -> str:
        """An address for one task; addresses of ended tasks are used again last, or first."""
        if self._reuse and self._free:
            return self._at(self._free.pop())
        self._interfaces += 1
        number = self._interfaces
        if self._interfaces >= 65_000 and self._free:
            number = self._free.pop(0)
        return self._at(number)

    def _at(self, number: int) -> str:
        return f"127.{self._network}.{number >> 8 & 255}.{number & 255}"

    def release(self, address: str) -> None:
        """Take a task's address back."""
        octets = address.split(".")
        self._free.append(int(octets[2]) << 8 | int(octets[3]))


def _network(random: Random) -> tuple[socket.socket, int]:
    numbers = list(range(16, 240))
    random.shuffle(numbers)
    for number in numbers:
        mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            mark.bind((f"127.{number}.0.0", _MARK_PORT))
        except OSError:
            mark.close()
            continue
        return mark, number
    raise OSError("no free network in 127.16.0.0 to 127.239.0.0")


def port_is_free(address: str, port: int, protocol: str) -> bool:
    """Whether a listener could be bound there now."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as trial:
        if kind == socket.SOCK_STREAM:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except OSError:
            return False
    return True
