"""One sidecar takes over the address of another, as real processes, and no query is lost."""

import select
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from discovery.dns import wire
from discovery.dns.server import bound_pair
from discovery.dns.sharing import hand_over, share
from tests.cli.programs import Running, background
from tests.dns.resolvers import until
from tests.dns.world import packet, question

PATIENCE_S = 30.0
RATE_PER_S = 1_000
CLIENTS = 40  # the system deals by their ports
FILE = """\
[services.web]
endpoints = [{host = "127.0.0.2", port = 80}, {host = "127.0.0.3", port = 80}]
"""
KINDS = (wire.A, wire.SRV)


class Callers:
    """Asks a thousand times a second, from many sockets, until the end of the block."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self.sent = 0
        self.said: Counter[str] = Counter()
        self._waiting: dict[tuple[int, int], float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Callers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask nothing more, and have the last answers."""
        self._over.set()
        self._thread.join()

    def lost_nothing(self) -> bool:
        """Stop; whether every query had an answer with records."""
        self.stop()
        return not self._waiting and self.said == {"NOERROR": self.sent}

    def some(self) -> None:
        """Return when some hundreds more were asked and answered."""
        enough = self.said["NOERROR"] + 500
        until(lambda: self.said["NOERROR"] >= enough)

    def _run(self) -> None:
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(CLIENTS)]
        poller = select.poll()
        for sock in sockets:
            sock.connect(self._to)
            sock.setblocking(False)
            poller.register(sock)
        by_fd = {sock.fileno(): sock for sock in sockets}
        began = time.monotonic()
        try:
            while not self._over.is_set():
                due = min(int((time.monotonic() - began) * RATE_PER_S), self.sent + 50)
                while self.sent < due:
                    self._ask(sockets[self.sent % CLIENTS])
                self._hear(by_fd)
            end = time.monotonic() + PATIENCE_S
            while self._waiting and time.monotonic() < end:
                self._hear(by_fd)
        finally:
            for sock in sockets:
                sock.close()

    def _ask(self, sock: socket.socket) -> None:
        number = self.sent % 65_536
        name = question("web.default.ecs.internal", KINDS[self.sent % 2])
        self.sent += 1
        self._waiting[sock.fileno(), number] = time.monotonic()
        try:
            sock.send(packet(name, ident=number))
        except ConnectionRefusedError:  # nobody had the address a moment ago
            self.said["refused by the system"] += 1

    def _hear(self, by_fd: dict[int, socket.socket]) -> None:
        for fd in select.select(by_fd, [], [], 0.001)[0]:
            try:
                reply = by_fd[fd].recv(2_048)
            except ConnectionRefusedError:
                self.said["refused by the system"] += 1
                continue
            number, flags, _, answers = struct.unpack_from("!4H", reply)
            del self._waiting[fd, number]
            rcode = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN")[flags & 15]
            self.said[rcode if answers else f"{rcode} and nothing"] += 1


Ports = tuple[int, int]


@pytest.fixture
def ports() -> Ports:
    """Two that are free, for DNS and for HTTP."""
    pairs = bound_pair("127.0.0.1", 0), bound_pair("127.0.0.1", 0)
    dns, http = (udp.getsockname()[1] for udp, _ in pairs)
    for sock in (*pairs[0], *pairs[1]):
        sock.close()
    return dns, http


@contextmanager
def sidecar(file: Path, ports: Ports, *words: str) -> Iterator[Running]:
    """A sidecar on these ports, in the background."""
    addresses = ("--dns", f"127.0.0.1:{ports[0]}", "--http", f"127.0.0.1:{ports[1]}")
    source = ("--source", f"file:{file}", "--interval", "1s")
    with background("serve", "--share-address", *addresses, *source, *words) as running:
        yield running


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A static file that can be read."""
    path = tmp_path / "services.toml"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("lame_duck", ["0s", "1s"])
def test_a_redeployed_daemon_loses_no_query(known: Path, ports: Ports, lame_duck: str) -> None:
    """Three of them, one after the other, under a thousand queries a second; nor HTTP requests."""
    url = f"http://127.0.0.1:{ports[1]}/v1/endpoints/web"
    statuses: Counter[int] = Counter()
    with sidecar(known, ports, "--lame-duck", lame_duck) as first:
        first.until("is read", "answering DNS")
        with Callers(ports[0]) as callers:
            callers.some()
            with sidecar(known, ports, "--lame-duck", lame_duck) as second:
                second.until("answering DNS")
                callers.some()
                assert first.end(signal.SIGTERM).code == 0
                for _ in range(20):
                    statuses[httpx.get(url, trust_env=False).status_code] += 1
                with sidecar(known, ports, "--lame-duck", lame_duck) as third:
                    third.until("answering DNS")
                    callers.some()
                    assert second.end(signal.SIGTERM).code == 0
                    callers.some()
                    assert callers.lost_nothing(), callers.said
    assert statuses == {200: 20}


def test_who_cannot_answer_yet_takes_nothing(known: Path, ports: Ports, tmp_path: Path) -> None:
    """The one that serves goes on alone until the next one knows something."""
    later = tmp_path / "later.toml"
    with sidecar(known, ports) as first:
        first.until("is read", "answering DNS")
        with Callers(ports[0]) as callers, sidecar(later, ports) as second:
            second.until("cannot be read")
            callers.some()
            assert "answering DNS" not in second.err
            later.write_text(FILE)
            second.until("answering DNS")
            assert first.end(signal.SIGTERM).code == 0
            callers.some()
            assert callers.lost_nothing(), callers.said


def test_who_waits_begins_when_the_other_is_gone(known: Path, ports: Ports, tmp_path: Path) -> None:
    """Even if it knows nothing: nobody else would answer."""
    with sidecar(known, ports) as first:
        first.until("is read", "answering DNS")
        with sidecar(tmp_path / "missing.toml", ports) as second:
            second.until("cannot be read")
            first.end(signal.SIGKILL)
            second.until("answering DNS")


def test_who_waits_can_be_stopped(known: Path, ports: Ports, tmp_path: Path) -> None:
    """It has nothing to hand over."""
    with sidecar(known, ports) as first:
        first.until("is read", "answering DNS")
        with sidecar(tmp_path / "missing.toml", ports) as second:
            second.until("cannot be read")
            done = second.end(signal.SIGTERM)
    assert done.code == 0
    assert "Traceback" not in done.err


def test_without_it_a_second_sidecar_fails_to_start(known: Path, ports: Ports) -> None:
    """Also beside one that would share."""
    with sidecar(known, ports) as first:
        first.until("is read", "answering DNS")
        with sidecar(known, ports, "--no-share-address") as second:
            done = second.ended()
    assert done.code == 2
    assert "in use" in done.err


def test_what_is_new_goes_to_who_came_later() -> None:
    """All of it, from any client, for datagrams and connections alike."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as old, socket.socket(socket.AF_INET, kind) as new:
            for sock in (old, new):
                share(sock)
                sock.bind(("127.0.0.1", 0) if sock is old else old.getsockname())
                sock.setblocking(False)
                if kind == socket.SOCK_STREAM:
                    sock.listen(100)
            hand_over(old)
            clients = [socket.socket(socket.AF_INET, kind) for _ in range(50)]
            try:
                for client in clients:
                    client.connect(old.getsockname())
                    client.send(b"x")
                assert select.select([new, old], [], [], PATIENCE_S)[0] == [new]
            finally:
                for client in clients:
                    client.close()


def test_alone_one_goes_on(known: Path, ports: Ports) -> None:
    """Handing over where nobody came changes nothing before the end."""
    with sidecar(known, ports, "--lame-duck", "1h") as first:
        first.until("is read", "answering DNS")
        first.process.send_signal(signal.SIGTERM)
        first.until("stopping")
        with Callers(ports[0]) as callers:
            callers.some()
            assert callers.lost_nothing(), callers.said
        assert first.end(signal.SIGTERM).code == 0
