"""What a hub costs: followers that block on one sidecar, its CPU and memory, and when they know.

Run as `python -m tests.bench.hub [FOLLOWERS] [SERVICES] [TASKS a service]`; writes RESULTS.md. The
hub is a process of its own with a source that reads every ten seconds and changes ten services
each time. Followers are bare sockets, so that their own work takes little of the machine.
"""

import asyncio
import contextlib
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from discovery.model import (
    ClusterReading,
    Endpoint,
    Observation,
    Placement,
    Port,
    Service,
)
from discovery.settings import Settings
from discovery.sidecar.supervisor import Sidecar
from discovery.sources.base import Wanted
from discovery.written import Address, ClusterSettings
from tests.bench.results import Row, write_section

INTERVAL_S = 10.0
CHANGED = 10
ROUNDS = 4
_TICK = os.sysconf("SC_CLK_TCK")
_ARN = "arn:aws:ecs:eu-west-1:123456789012"
_HTTP = Port(8_080, "tcp", "http", "app")


def made(number: int, tasks: int) -> Service:
    """A service as bridge tasks make them; another one each time."""
    arns = [f"{_ARN}:task/prod/{random.getrandbits(128):032x}" for _ in range(tasks)]
    return Service(
        f"service-{number}",
        "prod",
        endpoints=tuple(
            Endpoint(
                f"10.{n}.0.{number % 250}",
                random.randrange(32_768, 60_000),
                "tcp",
                8_080,
                "http",
                "app",
                arn,
                f"{_ARN}:task-definition/s-{number}:7",
                "prod",
                f"service-{number}",
                "eu-west-1a",
                "healthy",
                1.0,
                {"team": "a"},
            )
            for n, arn in enumerate(arns)
        ),
        ports=(_HTTP,),
        default_port=_HTTP,
        placements={a: Placement(1e9, 1e9, f"i-{random.getrandbits(64):016x}", True) for a in arns},
    )


class Changing:
    """A source of which a few services differ each time; with none to change nothing does."""

    labels = ("prod",)

    def __init__(self, services: int, tasks: int) -> None:
        self._tasks = tasks
        self._services = [made(n, tasks) for n in range(services)]
        self.changed = CHANGED

    def load(self, wanted: Wanted) -> Observation:
        """All of them, read now."""
        now = time.time()
        for number in random.sample(range(len(self._services)), self.changed):
            self._services[number] = made(number, self._tasks)
        services = tuple(replace(s, observed_at=now) for s in self._services)
        reading = ClusterReading("prod", services, complete=True, explained=True)
        return Observation(now, (reading,))

    def load_pending(self) -> Observation:
        """Nothing."""
        return Observation(time.time())

    def close(self) -> None:
        """Nothing to give back."""


def serve(services: int, tasks: int) -> None:
    """The hub: prints its port; a line on its input ends the changes, and another one all."""
    settings = Settings(
        clusters=(ClusterSettings("prod"),),
        dns=Address("127.0.0.1", 0),
        http=Address("127.0.0.1", 0),
        interval_s=INTERVAL_S,
        boot_check=False,
    )
    source = Changing(services, tasks)
    with Sidecar(settings, source=source) as sidecar:
        assert sidecar.resolver.wait_ready(60)
        print(sidecar.http_address.port, flush=True)
        sys.stdin.readline()
        source.changed = 0
        sys.stdin.readline()


@dataclass(slots=True)
class Seen:
    """What all followers together saw."""

    answers: int = 0
    octets: int = 0
    behind_s: list[float] = field(default_factory=list)  # from observed to told, of changes


async def follow(port: int, name: str, seen: Seen, started: asyncio.Semaphore) -> None:
    """One follower, without decoding more than it needs to ask again."""
    async with started:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        index, token = await _ask(reader, writer, name, "", Seen())
    while True:
        query = f"?index={index}&known={token}&wait={random.uniform(8, 10):.3f}s"
        index, token = await _ask(reader, writer, name, query, seen)


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str, query: str, seen: Seen
) -> tuple[int, str]:
    writer.write(
        f"GET /v1/snapshot{query} HTTP/1.1\r\nHost: localhost\r\nX-Discovery-Follower: {name}\r\n"
        "Accept-Encoding: gzip\r\n\r\n".encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    assert " 200 " in head.split("\r\n")[0], head
    body = await reader.readexactly(int(fields["content-length"]))
    seen.answers += 1
    seen.octets += len(body) + len(head)
    index = int(fields["x-discovery-index"])
    if query and f"index={index}&" not in query:
        seen.behind_s.append(float(fields["x-discovery-age"]))
    return index, fields["etag"].removeprefix('w/"').partition("-")[0]


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def rss_mb(pid: int, key: str = "VmRSS") -> float:
    """Memory of a process in use, or the most that was."""
    with open(f"/proc/{pid}/status") as file:
        line = next(line for line in file if line.startswith(key))
    return int(line.split()[1]) / 1_024


async def measure(hub: "subprocess.Popen[str]", followers: int) -> list[Row]:
    """Have them follow while services change, then while nothing does."""
    assert hub.stdout is not None
    assert hub.stdin is not None
    port = int(hub.stdout.readline())
    alone = rss_mb(hub.pid)
    idle_from, idle_at = cpu_s(hub.pid), time.monotonic()
    await asyncio.sleep(2 * INTERVAL_S)
    idle = (cpu_s(hub.pid) - idle_from) / (time.monotonic() - idle_at)
    seen, began = Seen(), time.monotonic()
    started = asyncio.Semaphore(50)
    tasks = [asyncio.create_task(follow(port, f"f{n}", seen, started)) for n in range(followers)]
    while seen.answers < followers and time.monotonic() - began < 120:
        await asyncio.sleep(0.5)
    joined_s = time.monotonic() - began
    rows = [
        Row("hub alone: CPU, memory", f"{idle:.1%} of a core, {alone:.0f} MB"),
        Row(
            "all know everything after",
            f"{joined_s:.0f} s",
            "≤ 60 s",
            joined_s <= 60,
        ),
    ]
    with real_follower(port) as sidecar:
        sidecar_from, sidecar_at = cpu_s(sidecar), time.monotonic()
        for title in ("ten services change every 10 s", "nothing changes"):
            if title.startswith("nothing"):
                hub.stdin.write("quiet\n")
                hub.stdin.flush()
                await asyncio.sleep(INTERVAL_S)
            rows += [await _watched(hub.pid, title, seen)]
        share = (cpu_s(sidecar) - sidecar_from) / (time.monotonic() - sidecar_at)
        used = f"{share:.1%} of a core, {rss_mb(sidecar, 'VmHWM'):.0f} MB"
        rows.append(Row("a sidecar that follows: CPU, most memory", used))
    behind = sorted(seen.behind_s)
    if behind:
        p50, p99 = statistics.median(behind), behind[int(len(behind) * 0.99)]
        rows.append(Row("change observed → told, p50, p99", f"{p50:.2f} s, {p99:.2f} s"))
    rows.append(
        Row("hub: memory now, most", f"{rss_mb(hub.pid):.0f} MB, {rss_mb(hub.pid, 'VmHWM'):.0f} MB")
    )
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [e for e in ended if not isinstance(e, asyncio.CancelledError)]
    rows.append(Row("followers that failed", str(len(failed)), "0", not failed))
    return rows


@contextlib.contextmanager
def real_follower(port: int) -> Iterator[int]:
    """The process of a whole sidecar that follows, once it has read."""
    command = [
        *(sys.executable, "-m", "discovery", "serve", "--no-boot-check", "--lame-duck", "0"),
        *("--dns", "127.0.0.1:0", "--http", "127.0.0.1:0"),
        *("--source", f"http://127.0.0.1:{port}"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stderr is not None
        while "is read" not in process.stderr.readline():
            assert process.poll() is None
        yield process.pid
    finally:
        process.kill()
        process.communicate()


async def _watched(pid: int, title: str, seen: Seen) -> Row:
    answers, octets, used, began = seen.answers, seen.octets, cpu_s(pid), time.monotonic()
    await asyncio.sleep(ROUNDS * INTERVAL_S)
    took_s = time.monotonic() - began
    share = (cpu_s(pid) - used) / took_s
    rate = (seen.answers - answers) / took_s
    traffic = (seen.octets - octets) / took_s / 1e6
    return Row(title, f"{share:.1%} of a core, {rate:.0f} answers/s, {traffic:.2f} MB/s")


def main() -> None:
    """Measure, print, and write the results."""
    if sys.argv[1:2] == ["serve"]:
        serve(*map(int, sys.argv[2:]))
        return
    given = [int(word) for word in sys.argv[1:]]
    followers, services, tasks = (*given, *(1_000, 1_000, 10)[len(given) :])
    command = [sys.executable, "-m", "tests.bench.hub", "serve", str(services), str(tasks)]
    hub = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        rows = asyncio.run(measure(hub, followers))
    finally:
        hub.kill()
        hub.communicate()
    load = os.getloadavg()[0]
    lines = [
        f"{followers:,} followers of one hub with {services:,} services of {tasks} tasks.",
        f"Other work ran on the two cores meanwhile (load {load:.0f}).",
        "",
        "| what | measured | goal | |",
        "|---|---|---|---|",
        *map(str, rows),
    ]
    print("\n".join(lines))
    write_section(f"Hub: {followers:,} followers, {services * tasks:,} tasks", lines)


if __name__ == "__main__":
    main()
