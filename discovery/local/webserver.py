"""The built-in server of a container without a program of its own.

It listens on all of the container's ports: over TCP it answers any request with a JSON page that
says who answers (`/health` is 200 like everything else), over UDP it echoes. SIGTERM ends it at
once. Standard library only, one thread, a few hundred kilobytes of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
from collections.abc import Iterator
from typing import Any

_REQUEST_LIMIT = 1 << 16


@contextlib.contextmanager
def bound(address: str, port: int, protocol: str) -> Iterator[socket.socket]:
    """A socket that listens there; OSError when the port is taken or not allowed."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as listener:
        if kind == socket.SOCK_STREAM:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}: {address}:{port}") from error
        if kind == socket.SOCK_STREAM:
            listener.listen(128)
        listener.setblocking(False)
        yield listener


def serve(listeners: list[socket.socket], page: dict[str, Any]) -> None:
    """Answer until SIGTERM, then leave the process."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    selector = selectors.DefaultSelector()
    for listener in listeners:
        selector.register(listener, selectors.EVENT_READ, None)
    while True:
        for key, _ in selector.select():
            ready = key.fileobj
            assert isinstance(ready, socket.socket)
            with contextlib.suppress(OSError):
                _attend(selector, ready, key.data, page)


def _attend(
    selector: selectors.BaseSelector, ready: socket.socket, got: Any, page: dict[str, Any]
) -> None:
    if got is not None:
        _read(selector, ready, got, page)
    elif ready.type == socket.SOCK_DGRAM:
        data, sender = ready.recvfrom(65535)
        ready.sendto(data, sender)
    else:
        connection, _ = ready.accept()
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ, bytearray())


def _read(
    selector: selectors.BaseSelector,
    connection: socket.socket,
    got: bytearray,
    page: dict[str, Any],
) -> None:
    try:
        data = connection.recv(_REQUEST_LIMIT)
    except BlockingIOError:
        return
    except OSError:
        data = b""
    got += data
    if not data or len(got) > _REQUEST_LIMIT:
        selector.unregister(connection)
        connection.close()
        return
    while (end := got.find(b"\r\n\r\n")) >= 0:
        head = bytes(got[:end])
        size = _content_length(head)
        if len(got) < end + 4 + size:
            return
        del got[: end + 4 + size]
        connection.sendall(_answer(head, connection.getsockname(), page))
        if b"connection: close" in head.lower() or b"HTTP/1.0" in head.split(b"\r\n")[0]:
            selector.unregister(connection)
            connection.close()
            return


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return 0


def _answer(head: bytes, at: tuple[Any, ...], page: dict[str, Any]) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].decode("latin-1")
    body = json.dumps({**page, "host": at[0], "port": at[1], "path": path}).encode() + b"\n"
    head_lines = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nX-Task: {page['task']}\r\n\r\n"
    )
    return head_lines.encode() + (b"" if method == b"HEAD" else body)
