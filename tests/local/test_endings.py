"""Nothing outlives the server: not its containers, not the guardian, whatever ends it.

The processes of `setsid` have left the container's process group and session.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from discovery.local.processes import LOST, Guarded, Program
from discovery.local.server import LocalECS
from tests.local.strict import Api
from tests.local.waiting import define, described, refused, run, settled, until

SLEEP = Program(["sleep", "300"], {})

CHILD = """
import os, sys, time
from discovery.local.server import LocalECS
from tests.local.strict import Api
from tests.local.test_endings import commands
from tests.local.waiting import define, run, settled, until
ecs = LocalECS("127.0.0.1:0")
ecs.start()
ecs.add_cluster("demo")
ecs.add_instances("demo", 1)
api = Api(ecs)
define(api)
LEAVES = "setsid setsid sleep 300 & setsid sh -c 'sleep 300; true' & sleep 300; true"
define(api, "sleeper", container={"command": ["sh", "-c", LEAVES], "portMappings": []})
task = settled(api, run(api))
settled(api, run(api, taskDefinition="sleeper"))
until(lambda: commands(os.getpid()).count("sleep") == 3)
print(task["containers"][0]["networkBindings"][0]["hostPort"], flush=True)
time.sleep(300)
"""


@contextmanager
def server_process() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process with a local ECS and two tasks; the port of the first."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert child.stdout is not None
        yield child, int(child.stdout.readline())
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def descendants(pid: int) -> set[int]:
    """Every process below one, by Linux's process table."""
    parents: dict[int, list[int]] = {}
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                fields = (each / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(each.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found.update(below)
        waiting += below
    return found


def name(pid: int) -> str:
    """The name of a process's program, empty when the process is gone or a zombie."""
    try:
        head, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return ""
    return "" if rest.split()[0] in ("Z", "X") else head.partition("(")[2]


def commands(pid: int) -> list[str]:
    """The names of the programs below a process."""
    return [name(each) for each in descendants(pid)]


def gone(pids: set[int]) -> bool:
    """Whether all of them have ended."""
    return not any(name(pid) for pid in pids)


needs_proc = pytest.mark.skipif(
    sys.platform != "linux", reason="reads the process table of Linux, which alone has subreapers"
)


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_children_die_with_the_server(number: int) -> None:
    """Whatever ends the server ends every process it started, and theirs."""
    with server_process() as (server, port):
        below = descendants(server.pid)
        assert len(below) >= 8
        os.kill(server.pid, number)
        server.wait()
        until(lambda: gone(below))
        assert refused("127.0.0.2", port)


@needs_proc
def test_children_die_with_the_guardian() -> None:
    """Even when the process that watches over them is killed."""
    with server_process() as (server, _):
        below = descendants(server.pid)
        assert len(below) > 1  # the guardian and what it watches over
        os.kill(guardian_of(server.pid), signal.SIGKILL)
        assert until(lambda: gone(below))


def guardian_of(pid: int) -> int:
    """The one process below a server below which are all the others."""
    return max(descendants(pid), key=lambda each: len(descendants(each)))


@needs_proc
def test_children_die_with_their_keeper() -> None:
    """A killed keeper ends its container, and leaves nothing below."""
    with server_process() as (server, _):
        keeper = max(descendants(guardian_of(server.pid)), key=lambda each: len(descendants(each)))
        below = descendants(keeper)
        assert len(below) >= 4
        os.kill(keeper, signal.SIGKILL)
        until(lambda: gone(below))
        assert "sleep" not in commands(server.pid)


LEAVING = {
    "a shell that waits": "sleep 300; true",
    "another session": "setsid setsid sleep 300 & sleep 300",
    "an orphan": "(setsid sleep 300 &) ; sleep 300; true",
}


@needs_proc
@pytest.mark.parametrize("script", LEAVING.values(), ids=LEAVING)
def test_stopped_task_leaves_nothing_behind(ecs: LocalECS, api: Api, script: str) -> None:
    """What its program started ends with it, in whatever session."""
    command = {"command": ["sh", "-c", script], "portMappings": [], "stopTimeout": 2}
    define(api, container=command)
    arn = run(api)
    settled(api, arn)
    wanted = script.count("sleep")
    until(lambda: commands(os.getpid()).count("sleep") == wanted)
    api.ecs("StopTask", cluster="demo", task=arn)
    settled(api, arn, "STOPPED")
    assert "sleep" not in commands(os.getpid())


@needs_proc
def test_killed_guardian_is_replaced(ecs: LocalECS, api: Api) -> None:
    """The containers end with it, as crashes; new tasks run."""
    define(api, container={"command": ["sleep", "300.25"], "portMappings": []})
    before = run(api)
    settled(api, before)
    program = until(lambda: next((p for p in descendants(os.getpid()) if runs(p, "300.25")), 0))
    os.kill(parent_of(parent_of(program)), signal.SIGKILL)  # below it, a keeper for each program
    assert settled(api, before, "STOPPED")["containers"][0]["exitCode"] == 137
    until(lambda: starts(api))


def runs(pid: int, argument: str) -> bool:
    """Whether a process has this argument, and not a process that forked to become it."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return words[:2] == [b"sleep", argument.encode()]


def parent_of(pid: int) -> int:
    """The process that it is a child of."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def starts(api: Api) -> bool:
    """Whether a new task gets to run."""
    arn = run(api)
    return bool(until(lambda: _came_to(described(api, arn)["lastStatus"])) == "RUNNING")


def _came_to(status: str) -> str:
    return status if status in ("RUNNING", "STOPPED") else ""


def test_start_that_dies_with_the_guardian_fails() -> None:
    """So does one that is wanted before there is another guardian; then starts work again."""
    assert asyncio.run(_starts_around_a_death()) == [LOST, LOST, None]


async def _starts_around_a_death() -> list[str | None]:
    launcher = Guarded()
    await launcher.start(dict(os.environ))
    said: asyncio.Queue[str | None] = asyncio.Queue()
    found = []
    try:
        os.kill(launcher.pid, signal.SIGSTOP)
        launcher.spawn("a", SLEEP, said.put_nowait, _ignore)
        os.kill(launcher.pid, signal.SIGKILL)
        found.append(await asyncio.wait_for(said.get(), 10))
        launcher.spawn("b", SLEEP, said.put_nowait, _ignore)
        found.append(await asyncio.wait_for(said.get(), 10))
        await asyncio.wait_for(_started(launcher), 10)
        found.append(None)
    finally:
        os.kill(launcher.pid, signal.SIGCONT)
        await launcher.close()
    return found


async def _started(launcher: Guarded) -> None:
    said: asyncio.Queue[str | None] = asyncio.Queue()
    while True:
        launcher.spawn("c", SLEEP, said.put_nowait, _ignore)
        if await said.get() is None:
            return
        await asyncio.sleep(0.02)


def _ignore(code: int) -> None:
    pass


def test_closing_ends_every_process() -> None:
    """Nothing is left after `close`."""
    with LocalECS("127.0.0.1:0") as ecs:
        ecs.add_cluster("demo")
        ecs.add_instances("demo", 1)
        api = Api(ecs)
        define(api)
        task = settled(api, run(api))
        port = task["containers"][0]["networkBindings"][0]["hostPort"]
        assert not refused("127.0.0.2", port)
    assert refused("127.0.0.2", port)


def test_who_connects_in_the_moment_of_the_end_is_closed_too() -> None:
    """And is not left open until somebody collects the garbage.

    The loop is held up for as long as it looks whether to end, so that it accepts the connection in
    the same round.
    """
    ecs = LocalECS("127.0.0.1:0")
    ecs.start()
    loop, server = ecs._loop, ecs._server
    assert loop is not None
    assert server is not None
    host, port = ecs.url.removeprefix("http://").split(":")
    with socket.socket() as late:
        late.settimeout(10.0)

        def hold_up() -> None:
            late.connect((host, int(port)))
            server.should_exit = True
            time.sleep(0.15)

        loop.call_soon_threadsafe(hold_up)
        ecs.close()
        with suppress(ConnectionResetError):
            assert late.recv(1) == b""
