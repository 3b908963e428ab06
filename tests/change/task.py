"""What a task runs: a small web server that says which task of which service it is.

`GET /` answers `SERVICE REVISION TASK`, and `GET /exit` ends the process, with 1. SIGTERM ends it
`DRAIN` seconds later, by default at once. To end is to listen no more, and to exit when what came
before is answered. It imports little, since many of it start at the same time.
"""

import os
import signal
import socket
import threading
import time
from typing import BinaryIO

EXITS_AFTER_S = 0.2


def main() -> None:
    """Serve until a signal or a request ends it."""
    drain_s = float(os.environ.get("DRAIN", "0"))
    body = f"{os.environ['SERVICE']} {os.environ['REVISION']} {task_id()}".encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    listener = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])), backlog=128)
    signal.signal(signal.SIGTERM, lambda *_: _end(listener, drain_s, 0))
    print("listening", flush=True)
    while True:
        try:
            taken, _ = listener.accept()
        except OSError:  # it listens no more, and is about to exit
            time.sleep(EXITS_AFTER_S)
            continue
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(taken, listener, answer), daemon=True).start()


def task_id() -> str:
    """The end of the task's ARN, as the metadata endpoint has it."""
    _, _, rest = os.environ["ECS_CONTAINER_METADATA_URI_V4"].partition("://")
    where, _, path = rest.partition("/")
    host, _, port = where.rpartition(":")
    with socket.create_connection((host, int(port)), 60) as asking:
        asking.sendall(f"GET /{path}/task HTTP/1.0\r\nHost: {where}\r\n\r\n".encode())
        said = asking.makefile("rb").read().decode()
    arn = said.partition('"TaskARN"')[2].split('"')[1]
    return arn.rpartition("/")[2]


def _serve(taken: socket.socket, listener: socket.socket, answer: bytes) -> None:
    with taken, taken.makefile("rb") as reader:
        while (head := _head(reader)) is not None:
            taken.sendall(answer)
            if head.startswith("get /exit "):
                _end(listener, 0.0, 1)
            if "\r\nconnection: close\r\n" in head:
                return


def _head(reader: BinaryIO) -> str | None:
    """The lines of a request in lower case; `None` where no other came."""
    lines = b""
    try:
        while line := reader.readline():
            lines += line
            if line == b"\r\n":
                return lines.decode().lower()
    except OSError:
        pass
    return None


def _end(listener: socket.socket, in_s: float, code: int) -> None:
    def end() -> None:
        time.sleep(in_s)
        listener.shutdown(socket.SHUT_RDWR)
        time.sleep(EXITS_AFTER_S)
        os._exit(code)

    threading.Thread(target=end, daemon=True).start()


if __name__ == "__main__":
    main()
