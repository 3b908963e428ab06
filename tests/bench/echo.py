"""The server that balancing is measured against: one thread, many ports, and no more HTTP than
needed."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from discovery import FixedSource, Resolver
from discovery.model import ClusterReading, Endpoint, Observation, Port, Service

REQUEST = b"GET / HTTP/1.1\r\nhost: web\r\n\r\n"

# Runs with `python -S -c`: prints its ports, and for each line it reads how many connections came.
ECHO = r"""
import selectors, socket, sys, threading

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LARGE = b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n" + b"x" * 300_000
BREAK = b"HTTP/1.1 200 OK\r\ncontent-length: 300\r\n\r\nxx"
taken = 0


def count():
    for _ in sys.stdin:
        print(taken, flush=True)


def answer(connection, path):
    if path.startswith(b"/bulk/"):
        size, block = int(path[6:]), b"x" * (1 << 20)
        connection.setblocking(True)
        while size > 0:
            size -= connection.send(block[:size])
        connection.setblocking(False)
    elif path == b"/large":
        connection.setblocking(True)
        connection.sendall(LARGE)
        connection.setblocking(False)
    elif path == b"/break":
        connection.sendall(BREAK)
        return False
    elif path == b"/slow":
        threading.Timer(0.05, quietly, (connection,)).start()
    else:
        connection.sendall(OK)
    return True


def quietly(connection):
    try:
        connection.sendall(OK)
    except OSError:
        pass


def read(selector, connection):
    try:
        data = connection.recv(65_536)
        keep = bool(data) and answer(connection, data.split(b" ", 2)[1])
    except (OSError, IndexError):
        keep = False
    if not keep:
        selector.unregister(connection)
        connection.close()


selector = selectors.DefaultSelector()
ports = []
for _ in range(int(sys.argv[1])):
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.setblocking(False)
    selector.register(listener, selectors.EVENT_READ, "listener")
    ports.append(listener.getsockname()[1])
print(*ports, flush=True)
threading.Thread(target=count, daemon=True).start()
while True:
    for key, _ in selector.select():
        if key.data == "listener":
            connection, _ = key.fileobj.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, "")
            taken += 1
        else:
            read(selector, key.fileobj)
"""


def resolver_of(*ports: int) -> Resolver:
    """A resolver that knows the service `web` with endpoints on these ports of loopback."""
    endpoints = tuple(
        Endpoint("127.0.0.1", port, container_port=80, task_arn=f"task/{n}", service="web")
        for n, port in enumerate(ports)
    )
    known = Service("web", "demo", endpoints=endpoints, ports=(Port(80),), default_port=Port(80))
    now = time.time()
    reading = ClusterReading("demo", (known,), complete=True)
    return Resolver(source=FixedSource(Observation(now, (reading,))))


@contextlib.contextmanager
def servers(count: int) -> Iterator[tuple[list[int], Callable[[], int]]]:
    """One process that answers on so many ports, and how many connections it has taken."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", ECHO, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, back = process.stdin, process.stdout
        ports = [int(port) for port in back.readline().split()]

        def taken() -> int:
            to.write("?\n")
            to.flush()
            return int(back.readline())

        try:
            yield ports, taken
        finally:
            process.terminate()
