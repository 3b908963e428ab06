"""The UDP loop of Linux: many datagrams with one system call, replies written over queries.

A reply begins with the id of its query and goes where the query came from, so the rest of it is
written behind the id where the query is, and the addresses that the kernel has noted are used as
they are. Everything is in one block of memory that only the loop's thread touches.
"""

import array
import ctypes
import errno
import mmap
import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import add
from typing import Any

from discovery.dns.answering import Answering
from discovery.dns.wire import Dropped

BATCH = 64
_BUFFER = 65_536 + 192  # whole datagrams; a power of two would crowd the same cache lines
_NAME, _CONTROL = 32, 64
_HEADER, _VECTOR = 64, 16
_MESSAGE = struct.Struct("=QI4xQQQQi4xI4x")  # struct mmsghdr where a pointer has eight octets
_ID_SIZE = 2
_WAIT_FOR_ONE = 0x10000
_NO_WAIT = 0x40
_CONTROL_HEAD = 16  # struct cmsghdr

Call = Callable[..., int]


def _calls() -> tuple[Call, Call, Call] | None:
    """Waiting for datagrams, taking what is there, and sending; the last two hold the GIL.

    They never wait, and giving the GIL away would cost a turn of every thread that computes.
    """
    if sys.platform != "linux" or struct.calcsize("P") != 8:
        return None
    try:
        waiting = ctypes.CDLL(None, use_errno=True)
        holding = ctypes.PyDLL(None, use_errno=True)
        found: tuple[Call, Call, Call] = (waiting.recvmmsg, holding.recvmmsg, holding.sendmmsg)
    except (AttributeError, OSError):
        return None
    pointer, unsigned, signed = ctypes.c_void_p, ctypes.c_uint, ctypes.c_int
    for call in (waiting.recvmmsg, holding.recvmmsg):
        call.argtypes = (signed, pointer, unsigned, signed, pointer)
    holding.sendmmsg.argtypes = (signed, pointer, unsigned, signed)
    return found


CALLS = _calls()


class Batches:
    """Datagrams of a bound socket in batches. `is_told` where control data has the destination."""

    def __init__(self, bound: socket.socket, is_told: bool) -> None:
        assert CALLS is not None, "ask `CALLS` first"
        self._wait, self._take, self._send_all = CALLS
        self._socket = bound
        self._fd = bound.fileno()
        self._is_ipv6 = bound.family == socket.AF_INET6
        self._is_told = is_told
        sizes = (_HEADER, _VECTOR, _HEADER, _VECTOR, _NAME, _CONTROL, _BUFFER)
        starts = [BATCH * sum(sizes[:n]) for n in range(len(sizes) + 1)]
        self._memory = mmap.mmap(-1, starts[-1])
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._incoming, _, self._outgoing, _, self._names, self._controls, buffers, _ = starts
        self._base = base
        self.buffers = [buffers + n * _BUFFER for n in range(BATCH)]
        self._lay_out(starts)
        wide, narrow = memoryview(self._memory).cast("Q"), memoryview(self._memory).cast("I")
        self._lengths = narrow[starts[0] // 4 + 14 : starts[1] // 4 : _HEADER // 4]
        self._reply_sizes = wide[starts[3] // 8 + 1 : starts[4] // 8 : 2]
        self._control_sizes = wide[starts[0] // 8 + 5 : starts[1] // 8 : _HEADER // 8]
        self._reply_control_sizes = wide[starts[2] // 8 + 5 : starts[3] // 8 : _HEADER // 8]
        self._whole_controls = self._control_sizes.tolist()

    @property
    def memory(self) -> mmap.mmap:
        """Where the datagrams are: number n begins at `buffers[n]`."""
        return self._memory

    def _lay_out(self, starts: Sequence[int]) -> None:
        base, memory = self._base, self._memory
        name_size = 28 if self._is_ipv6 else 16
        control_size = (40 if self._is_ipv6 else 32) if self._is_told else 0
        for n in range(BATCH):
            name = base + starts[4] + n * _NAME
            control = base + starts[5] + n * _CONTROL if self._is_told else 0
            for header, vector in (starts[0:2], starts[2:4]):
                at = vector + n * _VECTOR
                whole = (name, name_size, base + at, 1, control, control_size, 0, 0)
                _MESSAGE.pack_into(memory, header + n * _HEADER, *whole)
                struct.pack_into("=QQ", memory, at, base + self.buffers[n], 65_535)

    def receive(self, waiting: bool) -> list[int]:
        """The sizes of the next datagrams; none where there is none and we are not `waiting`.

        Raises `OSError`, also when the socket's timeout has passed.
        """
        if self._is_told:
            self._control_sizes[:] = array.array("Q", self._whole_controls)
        call, flag = (self._wait, _WAIT_FOR_ONE) if waiting else (self._take, _NO_WAIT)
        count = call(self._fd, self._base + self._incoming, BATCH, flag, None)
        if count < 0:
            number = ctypes.get_errno()
            if not waiting and number == errno.EAGAIN:
                return []
            raise OSError(number, os.strerror(number))
        return self._lengths[:count].tolist()

    def send(self, sizes: list[int], failed: Callable[[OSError], None]) -> None:
        """Send the replies that were written over the datagrams; 0 octets are no reply."""
        count = len(sizes)
        self._reply_sizes[:count] = array.array("Q", sizes)
        if self._is_told:
            self._reply_control_sizes[:count] = self._control_sizes[:count]
            for n in range(count):
                self._reply_from(n)
        at = 0
        while at < count:
            end = sizes.index(0, at) if 0 in sizes[at:] else count
            while at < end:
                at += self._sent(at, end - at, failed)
            at = end + 1

    def _sent(self, at: int, count: int, failed: Callable[[OSError], None]) -> int:
        """How many datagrams from `at` on are done with, at least one."""
        start = self._base + self._outgoing + at * _HEADER
        sent = self._send_all(self._fd, start, count, _NO_WAIT)
        if sent > 0:
            return sent
        number = ctypes.get_errno()
        failed(OSError(number, os.strerror(number)))
        return 1

    def _reply_from(self, n: int) -> None:
        """The address that the packet was sent to is the one to reply from, by any interface."""
        at = self._controls + n * _CONTROL + _CONTROL_HEAD
        if not self._is_ipv6:
            self._memory[at : at + 4] = bytes(4)
        elif self._memory[at : at + 2] != b"\xfe\x80":
            self._memory[at + 16 : at + 20] = bytes(4)

    def sender(self, n: int) -> Callable[[bytes], None]:
        """What sends a reply to datagram n later on, from any thread."""
        at = self._names + n * _NAME
        port = int.from_bytes(self._memory[at + 2 : at + 4], "big")
        peer: tuple[Any, ...] = (self.client(n), port)
        if self._is_ipv6:
            flow, scope = struct.unpack_from("=I16xI", self._memory, at + 4)
            peer = (*peer, socket.ntohl(flow), scope)
        controls = []
        if self._is_told:
            self._reply_from(n)
            at = self._controls + n * _CONTROL
            size, level, kind = struct.unpack_from("=Qii", self._memory, at)
            controls = [(level, kind, self._memory[at + _CONTROL_HEAD : at + size])]
        sock = self._socket

        def send(reply: bytes) -> None:
            sock.sendmsg((reply,), controls, 0, peer)

        return send

    def client(self, n: int) -> str:
        """The address that datagram n came from, in text."""
        at = self._names + n * _NAME
        if self._is_ipv6:
            return _text(socket.AF_INET6, self._memory[at + 8 : at + 24])
        return _text(socket.AF_INET, self._memory[at + 4 : at + 8])


_text = lru_cache(1_024)(socket.inet_ntop)


def serve(
    batches: Batches, answering: Answering, drop: Callable[[str], None], ended: Callable[[], bool]
) -> None:
    """Answer batch after batch until `ended`; `drop` hears why there is no reply.

    Step after step for a whole batch: so the processor fetches what the next reply needs from
    memory, which is most of what one costs, while it is still busy with this one. Raises `OSError`
    when nothing can be received.
    """
    memory, buffers, client = batches.memory, batches.buffers, batches.client
    find, recall = answering.ready.get, answering.recall
    starts = [at + _ID_SIZE for at in buffers]

    def failed(why: OSError) -> None:
        drop(f"cannot be sent: {why.strerror}")

    def other(n: int, rest: bytes) -> bytes:
        reply = recall(rest, client, n)
        if reply is None:
            at = buffers[n]
            packet = memory[at : at + _ID_SIZE + len(rest)]
            return _read(packet, batches, n, answering, drop)
        return reply

    several = 0
    while not ended():
        sizes = (several > 1 and batches.receive(False)) or batches.receive(True)
        several = len(sizes)
        answering.begin()
        ends = map(add, buffers, sizes)
        rests = [memory[start:end] for start, end in zip(starts, ends, strict=False)]
        found = list(map(find, rests))
        replies = [next(known[0]) if known else other(n, rests[n]) for n, known in enumerate(found)]
        for known in found:
            if known:
                known[1][0] += 1
        for start, reply in zip(starts, replies, strict=False):
            memory[start : start + len(reply)] = reply
        batches.send([len(reply) and _ID_SIZE + len(reply) for reply in replies], failed)


def _read(
    packet: bytes,
    batches: Batches,
    n: int,
    answering: Answering,
    drop: Callable[[str], None],
) -> bytes:
    """The reply without its id, nothing if there is none, or none yet."""
    try:
        reply = answering.reply(packet, batches.client(n))
        if isinstance(reply, bytes):
            return reply[2:]
        reply(batches.sender(n))
        return b""
    except Dropped as why:
        drop(str(why))
        return b""
