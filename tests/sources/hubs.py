"""Hubs for tests of who follows them: real servers that know what a test says, and liars."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

from discovery.client.resolver import Resolver
from discovery.model import ClusterReading, Observation, Service
from discovery.secret import Secret
from discovery.settings import Settings
from discovery.sidecar.app import Answers, application
from discovery.sidecar.feed import Feed
from discovery.sidecar.listening import HttpServer
from discovery.sidecar.waits import Waits
from discovery.sources.base import FixedSource
from discovery.sources.hub import Following, HubSource
from discovery.written import Address, ClusterSettings
from tests.made import NOW, FakeClock

TIMEOUT_S = 30.0


def until(done: Callable[[], object], what: str = "what was waited for") -> None:
    """Return when it is so, which must be soon."""
    deadline = time.monotonic() + TIMEOUT_S
    while not done():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.01)


class Hub:
    """A hub that says what it was last given. Its clock stands still until it is moved."""

    def __init__(
        self,
        *services: Service,
        port: int = 0,
        token: str | None = None,
        now: float = NOW,
        feed: Callable[..., Feed] = Feed,
    ) -> None:
        self.clock = FakeClock(now)
        self.source = FixedSource(self._observed(*services), labels=("demo",))
        settings = Settings(clusters=(ClusterSettings("demo"),))
        self.resolver = Resolver(
            source=self.source, settings=settings, whole=True, clock=self.clock
        )
        self.waits = Waits(self.resolver)
        self.feed = feed(clock=self.clock)
        answers = Answers(self.resolver, self.waits, tuple, clock=self.clock, feed=self.feed)
        wanted = None if token is None else lambda: token
        self._http = HttpServer(application(answers, token=wanted), Address("127.0.0.1", port))

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self._http.address}"

    @property
    def port(self) -> int:
        """For another one to take over."""
        return self._http.address.port

    def say(self, *services: Service, **members: object) -> None:
        """Know these services from now on."""
        self.source.say(self._observed(*services, **members))
        self.resolver.refresh()

    def _observed(self, *services: Service, **members: object) -> Observation:
        given: dict[str, object] = {"complete": True, "explained": True}
        reading = ClusterReading("demo", services, **(given | members))  # type: ignore[arg-type]  # checked at run time
        return Observation(self.clock.now, (reading,))

    def start(self) -> "Hub":
        """Listen, and know what there is to say."""
        self._http.start()
        assert self.resolver.wait_ready(TIMEOUT_S)
        until(lambda: self._http.is_up, "the hub's server")
        return self

    def close(self) -> None:
        """Leave."""
        self.waits.end()
        self._http.close()
        self.resolver.close()

    def __enter__(self) -> "Hub":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


def following(
    *urls: str,
    clock: FakeClock | None = None,
    interval_s: float = 0.01,
    token: str | None = None,
    ca: Path | None = None,
    seed: int = 1,
    whole_s: float = TIMEOUT_S,
) -> HubSource:
    """A follower of those hubs."""
    how = Following(
        Random(seed),
        interval_s=interval_s,
        token=Secret(token) if token else None,
        ca=str(ca) if ca else None,
        label="demo",
        whole_s=whole_s,
        clock=clock or FakeClock(),
    )
    return HubSource(urls, how)


def asking_first(position: int) -> int:
    """A seed by which two hubs are asked in the order given (0) or the other (1)."""
    urls = ("http://a:1", "http://b:1")
    return next(s for s in range(99) if following(*urls, seed=s)._urls[0] == urls[position])


@contextlib.contextmanager
def liar(
    *answers: bytes,
    certificate: Path | None = None,
    pause_s: float = 0.0,
    is_kept: bool = False,
) -> Iterator[str]:
    """The URL of a server that sends these octets, one connection each, the last again and again.

    It sends them when a request's head is complete, and closes the connection, unless it `is_kept`
    for the same answer to the next request; with `pause_s`, one by one. With a `certificate`, and
    its key in the same file, it speaks TLS.
    """
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    scheme = "https" if context else "http"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(
            target=_lie, args=(listener, answers, context, pause_s, is_kept), daemon=True
        )
        thread.start()
        try:
            yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(TIMEOUT_S)


def _lie(
    listener: socket.socket,
    answers: Sequence[bytes],
    context: ssl.SSLContext | None,
    pause_s: float,
    is_kept: bool,
) -> None:
    left = list(answers)
    while True:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return
        with accepted, contextlib.suppress(OSError):
            connection = context.wrap_socket(accepted, server_side=True) if context else accepted
            with connection:
                answer = left.pop(0) if len(left) > 1 else left[0]
                while _is_asked(connection):
                    for octet in answer if pause_s else ():
                        connection.send(bytes((octet,)))
                        time.sleep(pause_s)
                    if not pause_s:
                        connection.sendall(answer)
                    if not is_kept:
                        break


def _is_asked(connection: socket.socket) -> bool:
    """Whether a request's head came, or none because nobody asks any more."""
    head = b""
    while b"\r\n\r\n" not in head and (piece := connection.recv(65_536)):
        head += piece
    return bool(head)
