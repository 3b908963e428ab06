"""How long a sidecar that is started again in an outage takes to its first answers from disk.

Run as `python -m tests.bench.restart [--write] [TASKS ...]`. A sidecar reads a local ECS into its
cache, and ends with it. Then `serve` is started again and again, each time as a process of its own,
while ECS, the credentials or the task's metadata fail in one of several ways; from its start until
`svc-0` is answered with its ten tasks is what counts. The disk's pages are in memory, as they are
after a program's restart.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

import dnslib

from tests.bench.results import write_section
from tests.bench.scale import _await, _calls, _running, _sidecar
from tests.bench.scale_table import _groups
from tests.bench.sweep import _local
from tests.peers.programs import free_port

SIZES = (1_000, 10_000)
ROUNDS = 10
GOAL_S = 1.0
TASKS_EACH = 10  # as the local ECS has them
LOOK_S = 0.002
DEADLINE_S = 30.0
QUIET_S = 3.0  # for the last calls of a read, and not for those of the next
NAME = "svc-0"
NOTE = """\
Where the metadata of a task do not come they are waited for: a second to know where to listen, and
another one, for a second chance to know the zone. No call of ECS is waited for anywhere.
"""
CALLS_HEAD = "| tasks | calls of a first start | of the start after it, with its cache |"
HEAD = "| what fails | tasks | DNS, s: median | worst | HTTP, s: median | worst | goal: ≤ 1 s |"


_TASK = {"Cluster": "prod", "AvailabilityZone": "us-east-1a", "LaunchType": "EC2"}


@dataclass(frozen=True, slots=True)
class Failure:
    """What fails: how the port of ECS behaves, and what the environment says besides."""

    name: str
    ecs: Callable[[int], AbstractContextManager[int]]
    environment: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()


@contextmanager
def refusing(port: int) -> Iterator[int]:
    """Nobody listens there."""
    yield port


@contextmanager
def silent(port: int) -> Iterator[int]:
    """Connections are accepted by the system, and nothing is ever said on them."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(512)
        yield listener.getsockname()[1]


class _Failing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Fail."""
        self.send_error(500)

    def do_GET(self) -> None:
        """Be the metadata of a task, and of nothing else."""
        if self.path != "/v4/id/task":
            self.send_error(500)
            return
        body = json.dumps(_TASK).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def failing(port: int) -> Iterator[int]:
    """Every request is answered with status 500."""
    with ThreadingHTTPServer(("127.0.0.1", port), _Failing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def failures(quiet: int, agent: int) -> list[Failure]:
    """All of them; at the port `quiet` nobody says anything, at `agent` there are metadata."""
    url, keys = f"http://127.0.0.1:{quiet}", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    of_task = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}
    of_machine = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": url, "AWS_EC2_METADATA_DISABLED": "false"}
    in_task = {"ECS_CONTAINER_METADATA_URI_V4": f"http://127.0.0.1:{agent}/v4/id"}
    return [
        Failure("ECS refuses connections", refusing),
        Failure("the same, in a task that has metadata", refusing, in_task),
        Failure("ECS accepts them and is silent", silent),
        Failure("ECS answers with status 500", failing),
        Failure("the task's credentials do not come", refusing, in_task | of_task, keys),
        Failure("the machine's credentials do not come", refusing, of_machine, keys),
        Failure(
            "the task's metadata do not come", refusing, {"ECS_CONTAINER_METADATA_URI_V4": url}
        ),
    ]


def filled(tasks: int, cache: Path) -> tuple[int, str]:
    """Have a sidecar read all there is into the cache, twice; where ECS was, and the calls."""
    with _local(tasks):
        reader, _ = _sidecar("", "--cluster", "prod", "--cache", str(cache), "--share", "10")
        made = []
        for _ in range(2):
            before = _calls()

            def is_read(before: Counter[str] = before) -> bool:
                told = (_calls() - before)["DescribeTasks"]
                return told >= tasks // 100 and reader.all_known(tasks)

            with _running(reader.command) as process:
                _await(process, is_read)
                time.sleep(QUIET_S)
            made.append(_calls() - before)
        calls = f"| {tasks:,} | {_groups(made[0])} | {_groups(made[1])} |"
        return int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]), calls


def restarted(cache: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """Seconds from the start of a process to its first right answer by DNS, and by HTTP."""
    dns, http = free_port(), free_port()
    command = [sys.executable, "-m", "discovery", "serve", "--cluster", "prod"]
    command += ["--cache", str(cache), "--no-boot-check"]
    command += ["--dns", f"127.0.0.1:{dns}", "--http", f"127.0.0.1:{http}"]
    found: dict[str, float] = {}
    began = time.monotonic()
    process = subprocess.Popen(
        command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        looking = [
            threading.Thread(target=_look, args=(kind, port, found))
            for kind, port in ((by_dns, dns), (by_http, http))
        ]
        for thread in looking:
            thread.start()
        for thread in looking:
            thread.join()
    finally:
        process.kill()
        process.wait()
    return found[by_dns.__name__] - began, found[by_http.__name__] - began


def _look(is_answered: Callable[[int], bool], port: int, found: dict[str, float]) -> None:
    ends_at = time.monotonic() + DEADLINE_S
    while time.monotonic() < ends_at:
        with suppress(OSError, HTTPException):
            if is_answered(port):
                found[is_answered.__name__] = time.monotonic()
                return
        time.sleep(LOOK_S)
    raise TimeoutError(f"{is_answered.__name__}: no answer in {DEADLINE_S:.0f} s")


def by_dns(port: int) -> bool:
    """Whether the address of every task is in the answer."""
    query = dnslib.DNSRecord.question(f"{NAME}.prod.ecs.internal", "A")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.25)
        sock.connect(("127.0.0.1", port))
        sock.send(query.pack())
        answer = sock.recv(4_096)
    return answer[3] & 15 == 0 and int.from_bytes(answer[6:8]) == TASKS_EACH


def by_http(port: int) -> bool:
    """Whether every task is in the answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"/v1/endpoints/{NAME}")
        answer = connection.getresponse()
        return answer.status == 200 and len(json.load(answer)["endpoints"]) == TASKS_EACH
    finally:
        connection.close()


def measured(tasks: int) -> tuple[str, list[str]]:
    """The calls while ECS answers, and one row a failure."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, silent(0) as quiet, failing(0) as agent:
        cache = Path(folder) / "cache"
        port, calls = filled(tasks, cache)
        print(calls, flush=True)
        for failure in failures(quiet, agent):
            kept = {k: v for k, v in os.environ.items() if k not in failure.without}
            with failure.ecs(port):
                times = [restarted(cache, {**kept, **failure.environment}) for _ in range(ROUNDS)]
            rows.append(_row(failure.name, tasks, times))
            print(rows[-1], flush=True)
    return calls, rows


def _row(name: str, tasks: int, times: list[tuple[float, float]]) -> str:
    dns, http = zip(*times, strict=True)
    verdict = "holds" if max(*dns, *http) <= GOAL_S else "missed"
    return (
        f"| {name} | {tasks:,} | {median(dns):.2f} | {max(dns):.2f}"
        f" | {median(http):.2f} | {max(http):.2f} | {verdict} |"
    )


def main() -> None:
    """Measure, print, and write the results where that is asked for."""
    sizes = [int(word) for word in sys.argv[1:] if word.isdecimal()] or SIZES
    found = [measured(tasks) for tasks in sizes]
    rows = [row for _, several in found for row in several]
    load = os.getloadavg()[0]
    lines = [
        f"From process start to the first whole answer, {ROUNDS} starts each; load {load:.0f}.",
        "The goal is held to by the worst of them.",
        *NOTE.splitlines(),
        *("", HEAD, "|---" * HEAD.count(" | ") + "|---|", *rows),
        *("", "While ECS answers (ten tasks a definition):", "", CALLS_HEAD, "|---|---|---|"),
        *(calls for calls, _ in found),
    ]
    print("\n".join(lines))
    if "--write" in sys.argv:
        write_section("Restart in an outage (`python -m tests.bench.restart`)", lines)


if __name__ == "__main__":
    main()
