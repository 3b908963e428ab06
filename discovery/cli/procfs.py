"""Which process listens where, read from `/proc` (Linux): so that a demo can name what to kill."""

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

_LISTEN = "0A"  # include/net/tcp_states.h: TCP_LISTEN
_SOCKET = re.compile(r"socket:\[(\d+)\]")

HostPort = tuple[str, int]


def listening() -> dict[HostPort, int]:
    """The process of each IPv4 TCP listener, as far as we may see."""
    inodes = dict(_listeners())
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            found.update({inodes[i]: int(process.name) for i in _sockets(process) if i in inodes})
    return found


def _listeners() -> Iterator[tuple[str, HostPort]]:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == _LISTEN:
            host, _, port = fields[1].partition(":")
            # The kernel prints the address as the number that it is in memory.
            octets = int(host, 16).to_bytes(4, "little")
            yield fields[9], (socket.inet_ntoa(octets), int(port, 16))


def _sockets(process: Path) -> Iterator[str]:
    """The inodes of a process's sockets; none where it is not ours or has ended."""
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                match = _SOCKET.fullmatch(os.readlink(descriptor))
                if match:
                    yield match[1]
