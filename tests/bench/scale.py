"""What reading a cluster costs at several sizes: our sidecar, and Traefik's ECS provider.

Run as `python -m tests.bench.scale [--write] [TASKS ...]`. The local ECS, without rate limits, and
each reader are processes of their own; services have ten tasks each, in bridge mode. Steady calls
are counted over a window after the reader knows everything, at its own default interval.
"""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from discovery.local.throttle import GROUPS
from tests.bench.hub import cpu_s, rss_mb
from tests.bench.results import write_section
from tests.bench.sweep import _local
from tests.peers.test_traefik import free_port

SIZES = (100, 1_000)
WINDOW_S = 45.0
DEADLINE_S = 180.0


@dataclass(frozen=True, slots=True)
class Cost:
    """One reader's row: calls by group, seconds and memory."""

    name: str
    tasks: int
    cold: Counter[str]
    cold_s: float
    cold_cpu_s: float
    steady: Counter[str]
    steady_cpu: float
    rss: float

    def __str__(self) -> str:
        hour = self.steady.total() * 3_600 / WINDOW_S
        return (
            f"| {self.name} | {self.tasks:,} | {self.cold.total():,} ({_groups(self.cold)})"
            f" | {self.cold_s:.1f} | {self.cold_cpu_s:.1f} | {hour:,.0f} ({_groups(self.steady)})"
            f" | {self.steady_cpu:.1%} | {self.rss:.0f} |"
        )


def _groups(calls: Counter[str]) -> str:
    found: Counter[str] = Counter()
    for operation, count in calls.items():
        found[GROUPS[operation].name if operation in GROUPS else "EC2 and others"] += count
    return ", ".join(f"{name} {count:,}" for name, count in found.most_common())


def _calls() -> Counter[str]:
    answer = httpx.get(f"{os.environ['AWS_ENDPOINT_URL']}/_local/calls", timeout=60)
    return Counter(answer.json()["calls"])


def measured(name: str, command: list[str], tasks: int, knows: Callable[[], bool]) -> Cost:
    """Start a reader, wait until it knows everything, and watch it for a while."""
    before, began = _calls(), time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(process, knows)
        cold_s, cold_cpu_s, cold = time.monotonic() - began, cpu_s(process.pid), _calls() - before
        time.sleep(WINDOW_S)
        after, cpu = _calls(), cpu_s(process.pid)
        steady = after - before - cold
        share = (cpu - cold_cpu_s) / WINDOW_S
        return Cost(
            *(name, tasks, cold, cold_s, cold_cpu_s, steady, share, rss_mb(process.pid)),
        )
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await(process: "subprocess.Popen[bytes]", knows: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + DEADLINE_S
    while time.monotonic() < ends_at:
        assert process.poll() is None, "the reader has ended"
        with suppress(httpx.TransportError):
            if knows():
                return
        time.sleep(0.5)
    raise TimeoutError("the reader did not learn everything in time")


def ours(tasks: int) -> Cost:
    """Our sidecar, reading ECS itself, until no definition is left to read."""
    port = free_port()
    command = [sys.executable, "-m", "discovery", "serve", "--cluster", "prod"]
    command += ["--no-boot-check", "--dns", "127.0.0.1:0", "--http", f"127.0.0.1:{port}"]

    def knows() -> bool:
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/services", timeout=30)
        if answer.status_code != 200:
            return False
        services = answer.json()["services"]
        return sum(s["endpoints"] for s in services) == tasks and all(
            p["name"] for s in services for p in s["ports"]
        )

    return measured("ecs-discovery", command, tasks, knows)


def traefik(tasks: int, program: str) -> Cost:
    """Traefik with its ECS provider as it is by default."""
    port = free_port()
    command = [program, "--providers.ecs=true", "--providers.ecs.clusters=prod"]
    command += ["--providers.ecs.region=us-east-1", "--api.insecure=true"]
    command += [f"--entryPoints.traefik.address=127.0.0.1:{port}"]
    command += ["--entryPoints.web.address=127.0.0.1:0"]
    command += ["--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"]

    def knows() -> bool:
        answer = httpx.get(f"http://127.0.0.1:{port}/api/overview", timeout=30)
        if answer.status_code != 200:
            return False
        return bool(answer.json()["http"]["services"]["total"] >= tasks // 10)

    return measured("Traefik", command, tasks, knows)


def main() -> None:
    """Measure, print, and write the results where that is asked for."""
    sizes = [int(word) for word in sys.argv[1:] if word.isdecimal()] or list(SIZES)
    near = str(Path(sys.executable).parent)
    program = shutil.which("traefik", path=near) or shutil.which("traefik")
    costs = []
    for tasks in sizes:
        with _local(tasks):
            costs.append(ours(tasks))
            print(costs[-1], flush=True)
            if program is not None:
                costs.append(traefik(tasks, program))
                print(costs[-1], flush=True)
    lines = [
        f"Bridge mode; calls an hour are from {WINDOW_S:.0f} s, whose counts stand beside them.",
        "The machine was shared.",
        "",
        "| reader | tasks | calls until all is known | s | CPU s | calls an hour | CPU then | MB |",
        "|---|---|---|---|---|---|---|---|",
        *map(str, costs),
    ]
    print("\n".join(lines))
    if "--write" in sys.argv:
        write_section("Reading a cluster (`python -m tests.bench.scale`)", lines)


if __name__ == "__main__":
    main()
