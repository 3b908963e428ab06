"""A hub that ends again and again, and the sidecars that follow it, as processes.

`FOLLOWERS=10 RESTARTS=10` in the environment make it as long as it was first run.
"""

import contextlib
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from discovery.catalog.pace import FIRST_RETRY_S
from tests.cli.programs import Running, background
from tests.cli.test_hub import ANY, Served, addresses, free_port
from tests.sources.hubs import until

FOLLOWERS = int(os.environ.get("FOLLOWERS", "4"))
RESTARTS = int(os.environ.get("RESTARTS", "4"))
LEAST_PAUSE_S = FIRST_RETRY_S / 2  # after a first failure


class Follower:
    """A follower, and what it has said so far; it never goes back, and never says nothing."""

    def __init__(self, running: Running) -> None:
        self._served = Served(running)
        self._index = 0
        self.version = 0

    def look(self) -> int:
        """The version that it knows."""
        body: Any = self._served.web()
        ((_, version),) = addresses(body)
        assert version >= self.version, "an older snapshot came after a newer one"
        assert body["index"] >= self._index, "the index went back"
        self.version, self._index = version, body["index"]
        return self.version


class Fleet:
    """Followers of a hub that reads a file, whose versions are ports."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._file = folder / "services.toml"
        self._http = f"127.0.0.1:{free_port()}"
        self.say(1)
        source = ("--source", f"http://{self._http}", "--interval", "1s")
        with self.hub() as hub:
            began = [
                stack.enter_context(background("serve", *ANY, "--http", "127.0.0.1:0", *source))
                for _ in range(FOLLOWERS)
            ]
            self.followers = [Follower(running) for running in began]
            until(lambda: self.all_know(1), "what the hub says at first")
            hub.end(signal.SIGKILL)

    def say(self, version: int) -> None:
        """Have the file say so; the hub reads it when it starts, and while it runs."""
        written = self._file.with_suffix(".new")
        written.write_text(f'services.web.endpoints = [{{host = "10.0.0.1", port = {version}}}]\n')
        written.replace(self._file)

    @contextlib.contextmanager
    def hub(self) -> Iterator[Running]:
        """The hub, once it answers."""
        source = ("--source", f"file:{self._file}", "--interval", "1s")
        with background("serve", *ANY, "--http", self._http, *source) as running:
            Served(running).web()
            yield running

    def all_know(self, version: int) -> bool:
        """Look at all; whether they know as much."""
        return min([follower.look() for follower in self.followers]) >= version

    def asked(self) -> int:
        """How many requests for a snapshot the hub that runs has answered."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self._http}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        counted = 'ecs_discovery_http_requests_total{handler="snapshot"'
        return int(sum(float(line.split()[-1]) for line in lines if line.startswith(counted)))

    def knocks(self, for_s: float) -> int:
        """How often anybody connects while there is no hub."""
        address, _, port = self._http.partition(":")
        count, ends = 0, time.monotonic() + for_s
        with socket.create_server((address, int(port))) as door:
            while (left_s := ends - time.monotonic()) > 0:
                door.settimeout(left_s)
                with contextlib.suppress(TimeoutError):
                    door.accept()[0].close()
                    count += 1
        return count


def test_a_hub_that_ends_again_and_again_is_followed_through_it_all(tmp_path: Path) -> None:
    """Killed as soon as it answers, or told to end when all have followed it.

    No follower is ever without the service or goes back, and none asks more often than is needed.
    """
    with contextlib.ExitStack() as stack:
        fleet = Fleet(tmp_path, stack)
        for version in range(2, RESTARTS + 2):
            fleet.say(version)
            began = time.monotonic()
            with fleet.hub() as hub:
                if is_patient := version % 2 == 1:
                    until(lambda version=version: fleet.all_know(version), "the restarted hub")  # type: ignore[misc]
                asked, lived_s = fleet.asked(), time.monotonic() - began
                hub.end(signal.SIGTERM if is_patient else signal.SIGKILL)
            fleet.all_know(version)
            assert asked <= FOLLOWERS * (2 + lived_s / LEAST_PAUSE_S)
        began = time.monotonic()
        knocks = fleet.knocks(1.0)
        away_s = time.monotonic() - began
        assert knocks <= FOLLOWERS * (2 + away_s / LEAST_PAUSE_S)
        fleet.say(RESTARTS + 2)
        with fleet.hub():
            until(lambda: fleet.all_know(RESTARTS + 2), "the last hub")
