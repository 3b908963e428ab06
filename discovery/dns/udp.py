"""The UDP loop: one thread, one blocking socket, with many datagrams a call where the system can.

A socket that is bound to any address replies from the one that was asked: clients drop what comes
from elsewhere. A wake-up datagram to itself ends the wait of a closing loop; the receive timeout is
there for the case that a packet filter eats that one.
"""

import contextlib
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from discovery.dns import mmsg
from discovery.dns.answering import Answering
from discovery.dns.wire import Dropped
from discovery.events import Listeners, QueryDropped

_BUFFER = 1 << 20  # bursts of many clients at once; the kernel grants what it allows
_TIMEOUT = struct.pack("ll", 1, 0)
_LARGEST = 65_535
_IP_PKTINFO = 8  # Linux; the socket module has it from Python 3.14 on
_CONTROL_SIZE = 64

_MOST_LEFT = 10_000  # packets, or batches of them, that are answered after closing

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_TOLD_DESTINATION = {
    "0.0.0.0": (socket.IPPROTO_IP, _IP_PKTINFO),
    "::": (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO),
}

# A client's address first, whatever else it takes to reach it after that.
Peer = tuple[Any, ...]


class UdpLoop:
    """Answers datagrams on a bound socket, in the thread that calls `run`, until `close`."""

    def __init__(
        self,
        bound: socket.socket,
        answering: Answering,
        listeners: Listeners,
        *,
        one_by_one: bool = False,
    ) -> None:
        self._socket = bound
        self._answering = answering
        self._listeners = listeners
        self._closing = False
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
        told = _TOLD_DESTINATION.get(bound.getsockname()[0])
        self._receive: Callable[[int], tuple[bytes, Peer]] = bound.recvfrom
        self._send: Callable[[bytes, Peer], int] = bound.sendto
        if told is not None and sys.platform == "linux":
            bound.setsockopt(*told, 1)
            self._receive, self._send = self._receive_told, self._send_from
        is_able = mmsg.CALLS is not None and not one_by_one
        self._batches = mmsg.Batches(bound, told is not None) if is_able else None

    def run(self) -> None:
        """Answer until closed, and then what was there before; closes the socket."""
        with self._socket:
            while not self._closing:
                # The timeout is EAGAIN; ICMP errors of earlier replies may turn up here, too.
                with contextlib.suppress(OSError):
                    self._serve(self._has_ended)
            self._socket.setblocking(False)
            left = iter(range(_MOST_LEFT))
            with contextlib.suppress(OSError):  # nothing is left
                self._serve(lambda: next(left, None) is None)

    def _has_ended(self) -> bool:
        return self._closing

    def _serve(self, ended: Callable[[], bool]) -> None:
        if self._batches is None:
            self._one_by_one(ended)
        else:
            mmsg.serve(self._batches, self._answering, self._hear, ended)

    def _hear(self, what: str) -> None:
        """The packet that wakes a closing loop is no news."""
        if not self._closing:
            self._listeners.emit(QueryDropped(what))

    def _one_by_one(self, ended: Callable[[], bool]) -> None:
        receive, send, answering = self._receive, self._send, self._answering
        while not ended():
            packet, client = receive(_LARGEST)
            answering.begin()
            try:
                reply = answering.reply(packet, client[0])
            except Dropped as why:
                self._hear(str(why))
                continue
            if not isinstance(reply, bytes):
                reply(partial(self._send_later, client))
                continue
            try:
                send(reply, client)
            except OSError as why:
                self._hear(f"cannot be sent: {why.strerror}")

    def _send_later(self, client: Peer, reply: bytes) -> None:
        self._send(reply, client)

    def _receive_told(self, size: int) -> tuple[bytes, Peer]:
        packet, control, _, client = self._socket.recvmsg(size, _CONTROL_SIZE)
        return packet, (client[0], client, [_as_source(*item) for item in control])

    def _send_from(self, reply: bytes, peer: Peer) -> int:
        _, client, control = peer
        return self._socket.sendmsg((reply,), control, 0, client)

    def close(self) -> None:
        """Have `run` return soon; from any thread.

        From now on the system gives us nothing but what the waker sends, so that another process
        that has our address gets the rest; only then may the loop end.
        """
        with (
            contextlib.suppress(OSError),
            socket.socket(self._socket.family, socket.SOCK_DGRAM) as waker,
        ):
            host, port = self._socket.getsockname()[:2]
            host = _LOOPBACK.get(host, host)
            waker.bind((host, 0))
            self._socket.connect(waker.getsockname())
            self._closing = True
            waker.sendto(b"", (host, port))
        self._closing = True


def _as_source(level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
    """The address that a packet was sent to as the one to reply from, by whatever interface."""
    if level == socket.IPPROTO_IP:
        return level, kind, bytes(4) + data[4:8] + bytes(4)
    is_link_local = data[:2] == b"\xfe\x80"
    return level, kind, data if is_link_local else data[:16] + bytes(4)
