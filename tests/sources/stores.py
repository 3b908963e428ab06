"""Stores for tests: real Redis servers on ports of their own, and sidecars that share one."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis

from discovery.events import Event, Listeners, Noticed
from discovery.model import Service
from discovery.sources.base import FixedSource, Source
from discovery.sources.lease import Terms
from discovery.sources.redis import RedisSource, Sharing
from discovery.sources.store import Store, Where
from tests.made import FakeClock, observed, reading

TIMEOUT_S = 30.0
TRIES = 5  # another process may take the port that was free


class Server:
    """A Redis server, until it is stopped. `options` are its own, such as `--tls-port`."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        self._folder = folder
        self._options = options
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, is_tls: bool = False) -> None:
        """Start it, with nothing in it, and wait for it to listen."""
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            absent()
        for _ in range(TRIES):
            self.port = self.port or _free_port()
            plain, encrypted = (0, self.port) if is_tls else (self.port, 0)
            address = ["--bind", "127.0.0.1", "--port", str(plain)]
            if is_tls:
                address += ["--tls-port", str(encrypted)]
            kept = ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
            self._process = subprocess.Popen(
                [str(program), *address, *kept, *self._options],
                stdout=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
            )
            if self._listens():
                return
            self.stop()
            self.port = 0
        raise AssertionError("no redis-server came up")

    def stop(self) -> None:
        """Kill it, with all that it knows."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def client(self) -> Any:
        """A client of its own for the test; to be closed."""
        return redis.Redis(port=self.port, protocol=2)

    def _listens(self) -> bool:
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                return False
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return True
            time.sleep(0.01)
        return False


def absent() -> None:
    """Redis is not installed: a failure where everything must be, else a reason to skip."""
    if os.environ.get("CI"):
        pytest.fail("redis-server is not installed")
    pytest.skip("redis-server is not installed")


class Fleet:
    """Sidecars that share a store, by a name that no other fleet has. All go by one clock."""

    def __init__(self, server: Server, *services: Service) -> None:
        self.server = server
        self.name = uuid.uuid4().hex
        self.clock = FakeClock()
        self.said: list[str] = []
        self.ecs = FixedSource(observed(reading(*services)), labels=("demo",))
        self.opened = 0
        self.client = server.client()
        self._members: list[RedisSource] = []

    def member(
        self,
        *,
        at: Where | None = None,
        direct: Source | None = None,
        interval_s: float = 0.05,
        terms: Terms | None = None,
        monotonic: FakeClock | None = None,
        seed: int = 1,
        labels: tuple[str, ...] = ("demo",),
        store: type[Store] = Store,
    ) -> RedisSource:
        """Another sidecar; it reads what the fleet's ECS says, unless given another source."""
        sharing = Sharing(
            Random(seed),
            labels,
            interval_s,
            terms or Terms(),
            self.clock,
            monotonic or time.monotonic,
        )

        def opened() -> Source:
            self.opened += 1
            return direct or self.ecs

        source = RedisSource(
            lambda: store(at or Where("127.0.0.1", self.server.port), self.name),
            sharing,
            opened,
            listeners=Listeners(self._hear),
        )
        self._members.append(source)
        return source

    def runs(self, *services: Service, after_s: float = 10.0) -> None:
        """Have ECS say something else, a while later."""
        self.clock.now += after_s
        self.ecs.say(observed(reading(*services), at=self.clock.now))

    def key(self, kind: str) -> str:
        """The name of a key."""
        return f"ecs-discovery:1:{{{self.name}}}:{kind}"

    def close(self) -> None:
        """Close all that were opened."""
        for member in self._members:
            member.close()
        self.client.close()

    def _hear(self, event: Event) -> None:
        if isinstance(event, Noticed):
            self.said.append(event.message)


@contextlib.contextmanager
def serving(folder: Path, *options: str, port: int = 0, is_tls: bool = False) -> Iterator[Server]:
    """A server for as long as the block."""
    server = Server(folder, *options, port=port)
    try:
        server.start(is_tls=is_tls)
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
