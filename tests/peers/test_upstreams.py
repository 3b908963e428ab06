"""Unmodified programs through an upstream's port while real tasks come, go, freeze and fail.

The programs know nothing of us. What TCP cannot repeat for them, because bytes had been sent, they
repeat themselves, as clients of any balancer do: no request fails then.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx
import pytest

from discovery import Resolver
from discovery.client.upstreams import Upstreams
from discovery.settings import Settings
from discovery.written import Address, Upstream
from tests.peers.fleet import DEADLINE_S, LASTING_REDIS, REDIS, TASKS, WEB, Calls, Fleet, fleet_of

TRIES = 4
CURL = ["curl", "-sS", "--fail", "--max-time", "2", "--retry", f"{TRIES - 1}", "--retry-all-errors"]
# Without it curl repeats a request on the connection on which it was answered by a 500.
CURL += ["--retry-delay", "1", "-H", "Connection: close"]
# redis-cli waits for ever.
REDIS_CLI = f"for n in $(seq {TRIES}); do timeout 2 redis-cli -e -p {{port}} info server && exit 0;"
REDIS_CLI += " done; exit 1"


@dataclass(frozen=True, slots=True)
class Kind:
    """A program for tasks, one that calls it, and how its answer says which process gave it."""

    program: tuple[str, ...]
    needs: tuple[str, ...]
    command: Callable[[int], list[str]]
    pid: str

    def ask(self, port: int) -> str:
        """The process that answers there. `AssertionError` for a failure."""
        done = subprocess.run(
            self.command(port), capture_output=True, text=True, timeout=DEADLINE_S
        )
        assert done.returncode == 0, done.stderr or done.stdout
        found = re.search(self.pid, done.stdout)
        assert found, done.stdout
        return found[1]


KINDS = {
    "curl": Kind(WEB, ("curl",), lambda port: [*CURL, f"http://127.0.0.1:{port}/"], r"^(\d+)$"),
    "redis-cli": Kind(
        REDIS,
        ("redis-cli", "redis-server"),
        lambda port: ["sh", "-c", REDIS_CLI.format(port=port)],
        r"process_id:(\d+)",
    ),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A fleet, what is known of it, and the port that leads to it."""

    kind: Kind
    fleet: Fleet
    resolver: Resolver
    port: int

    def urls(self) -> list[str | None]:
        """Where its tasks are."""
        return [endpoint.url for endpoint in self.resolver.endpoints("app")]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind in turn."""
    found = KINDS[request.param]
    missing = [name for name in found.needs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} missing: apt-get install curl redis-server")
    return found


@contextmanager
def found(program: tuple[str, ...]) -> Iterator[Fleet]:
    """Four tasks on two hosts, as the environment says."""
    with fleet_of(program) as (made, environment), pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="module")
def fleet(kind: Kind) -> Iterator[Fleet]:
    """Tasks that end at once when they are told to stop, in the middle of whatever they do."""
    with found(kind.program) as made:
        yield made


@contextmanager
def placed(kind: Kind, fleet: Fleet) -> Iterator[Place]:
    """A port of its own that leads to the fleet."""
    with Resolver("demo", settings=Settings(interval_s=0.5)) as resolver, ExitStack() as stack:
        upstreams = Upstreams(resolver, [Upstream("app", Address("127.0.0.1", 0))])
        stack.callback(upstreams.close)
        upstreams.start()
        yield Place(kind, fleet, resolver, upstreams.addresses[0].port)


@pytest.fixture
def place(kind: Kind, fleet: Fleet) -> Iterator[Place]:
    """The kind's fleet and a port."""
    with placed(kind, fleet) as made:
        yield made


@pytest.fixture
def calls(place: Place) -> Iterator[Calls]:
    """Calls through the port that are under way already."""
    with Calls(lambda: place.kind.ask(place.port)) as made:
        made.pass_by(2 * TASKS)
        yield made


def test_a_rolling_deployment(place: Place, calls: Calls) -> None:
    """Every task is replaced by another, and no request fails."""
    before = set(calls.answers)
    place.fleet.deploy()
    calls.pass_by(2 * TASKS)
    seen = calls.answers.copy()
    calls.pass_by(2 * TASKS)
    assert calls.failed == []
    assert not {pid for pid in calls.answers if calls.answers[pid] > seen[pid]} & before


def test_a_killed_task(place: Place, calls: Calls) -> None:
    """Its port refuses from one moment to the next, and no request fails."""
    place.fleet.kill()
    calls.pass_by(2 * TASKS)
    assert calls.failed == []


def test_a_frozen_task(place: Place, calls: Calls) -> None:
    """Its kernel still accepts, so TCP sees nothing: the client's own patience ends it, and new
    connections go where fewer hang."""
    pid = calls.answers.most_common(1)[0][0]
    os.kill(int(pid), signal.SIGSTOP)
    try:
        calls.pass_by(1)
        answered = calls.answers[pid]
        calls.pass_by(4 * TASKS)
        assert calls.answers[pid] == answered
    finally:
        os.kill(int(pid), signal.SIGCONT)
    assert calls.failed == []


def test_scaling_out(place: Place, calls: Calls) -> None:
    """New tasks are used, and no request fails."""
    known = len(place.urls())
    place.fleet.scale(known + 2)
    ends_at = time.monotonic() + DEADLINE_S
    while len(calls.answers) < known + 2 and time.monotonic() < ends_at:
        calls.pass_by(TASKS)
    assert len(calls.answers) == known + 2
    assert calls.failed == []


def test_scaling_in(place: Place, calls: Calls) -> None:
    """Tasks that stop are left in time, and no request fails."""
    place.fleet.scale(len(place.urls()) - 2)
    calls.pass_by(2 * TASKS)
    assert calls.failed == []


def test_a_task_that_answers_500(place: Place, calls: Calls) -> None:
    """TCP cannot see it, so it stays: its answers come through, and a client that repeats such a
    request on a new connection gets to another task."""
    if place.kind.program != WEB:
        pytest.skip("only HTTP has a 500")
    with httpx.Client(trust_env=False) as direct:
        broken = place.urls()[0]
        pid = direct.get(f"{broken}/").text
        direct.post(f"{broken}/fail")
        try:
            calls.pass_by(1)
            answered = calls.answers[pid]
            calls.pass_by(4 * TASKS)
            assert calls.answers[pid] == answered
        finally:
            direct.post(f"{broken}/work")
    assert "ejected" not in repr(place.resolver)
    assert calls.failed == []


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="apt-get install redis-server")
def test_kept_connections_survive_a_deployment() -> None:
    """Tasks that serve on while they stop get no new connection, so that one reconnection, which
    redis-cli makes by itself, is enough."""
    with found(LASTING_REDIS) as fleet, placed(KINDS["redis-cli"], fleet) as place:
        asking = ["redis-cli", "-p", str(place.port), "-r", "50", "-i", "0.02", "ping"]

        def ask_on() -> str:
            done = subprocess.run(asking, capture_output=True, text=True, timeout=DEADLINE_S)
            assert done.stdout == "PONG\n" * 50, done.stdout + done.stderr
            return "PONG"

        with Calls(ask_on) as calls:
            calls.pass_by(1)
            fleet.deploy()
            calls.pass_by(2)
        assert calls.failed == []
