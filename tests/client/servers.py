"""Small real HTTP servers on loopback that behave as they are told."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from discovery.model import Endpoint, Port, Service
from discovery.sources.base import FixedSource
from tests.made import observed, reading

_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Got:
    """A request that arrived."""

    method: str
    path: str
    host: str
    body: bytes


@dataclass(eq=False)
class Server:
    """One endpoint. `status` is what it answers; `mute` takes requests and closes the connection,
    `hung` takes them and says nothing. `after` are headers of each answer."""

    number: int
    status: int = 200
    mute: bool = False
    hung: bool = False
    size: int = 0
    broken_body: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    got: list[Got] = field(default_factory=list)
    connections: int = 0
    hanging: int = 0

    def __post_init__(self) -> None:
        self._let_go = threading.Event()
        self._http = _Listener(("127.0.0.1", 0), _handler(self))
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def endpoint(self) -> Endpoint:
        """Where it is, as the endpoint of a task of its own."""
        return Endpoint(
            "127.0.0.1",
            self.port,
            container_port=80,
            task_arn=f"task/{self.number}",
            cluster="demo",
            service="web",
        )

    def wrap(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)

    def refuse(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()

    def close(self) -> None:
        """Stop, and let go whoever waits."""
        self._let_go.set()
        self.refuse()
        self._thread.join(5)

    def hang(self) -> None:
        """Wait until the test is over, or lets go."""
        self.hanging += 1
        self._let_go.wait(10)
        self.hanging -= 1

    def let_go(self) -> None:
        """Answer those that hang, unless they are to hang up."""
        self._let_go.set()

    def arrived(self, count: int) -> None:
        """Wait until so many requests have arrived."""
        ends_at = time.monotonic() + _PATIENCE_S
        while len(self.got) < count:
            assert time.monotonic() < ends_at, f"only {len(self.got)} requests arrived"
            threading.Event().wait(0.005)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Dripping:
    """An endpoint that gives the head of its answer octet by octet, for a few seconds."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def endpoint(self) -> Endpoint:
        """Where it is."""
        port = self._listener.getsockname()[1]
        return Endpoint("127.0.0.1", port, container_port=80, task_arn="task/drip")

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, contextlib.suppress(OSError):
            for octet in b"HTTP/1.1 200 OK\r\nx: %b\r\ncontent-length: 0\r\n\r\n" % (b"x" * 50):
                connection.send(bytes([octet]))
                if self._over.wait(0.05):
                    return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname()).close()
        self._thread.join(5)
        self._listener.close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            server.connections += 1
            super().setup()

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65_537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            host = self.headers.get("host", "")
            server.got.append(Got(self.command, self.path, host, body))
            if server.hung:
                server.hang()
            if server.mute or server.hung:
                self.close_connection = True
                return
            self._answer()

        def _answer(self) -> None:
            body = b"x" * server.size or f"{server.number}".encode()
            self.send_response(server.status)
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body) + 100 * server.broken_body))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.close_connection |= server.broken_body

        def log_message(self, *args: object) -> None:
            """Silence."""

    return Handler


def service_of(*servers: Server) -> Service:
    """The service `web` with these endpoints."""
    return Service(
        "web",
        "demo",
        endpoints=tuple(s.endpoint for s in servers),
        ports=(Port(80),),
        default_port=Port(80),
    )


def source_of(*servers: Server) -> FixedSource:
    """A source that knows the service `web` with these endpoints."""
    return FixedSource(observed(reading(service_of(*servers))))


@contextmanager
def blackhole() -> Iterator[int]:
    """A port on loopback whose connections are never accepted, so that they time out."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        try:
            yield port
        finally:
            for filler in fillers:
                filler.close()
