"""Our DNS server beside Knot, NSD, unbound, BIND, dnsmasq, PowerDNS and CoreDNS, as far as found.

Run as `python -m tests.bench.dns [--quick]` on a machine with two cores that do nothing else. All
serve the same 1,000 services × 10 endpoints; dnsperf has one core, the servers the other; rounds
are interleaved. CPU is what the kernel accounts to the server, its own share included.
"""

import argparse
import contextlib
import datetime
import os
import platform
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from discovery.dns import wire
from tests.bench import dns_peers
from tests.bench.dns_peers import OURS, SERVICES, ZONE, Running
from tests.bench.results import write_section

CLIENT_CORE, SERVER_CORE = 0, 1
RATE = 5_000
_PRIORITY = -15  # over whatever else runs, where we may
_REFRESH_ROUNDS = 3
_QUERIES = 200_000
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Work:
    """One kind of queries: the file they are in and how dnsperf sends them."""

    title: str
    data: str
    flags: tuple[str, ...] = ("-e",)


@dataclass(frozen=True)
class Measured:
    """What one run said."""

    cpu_us: float
    per_s: float


WORKS = (
    Work("A", "a"),
    Work("SRV, 10 records", "srv"),
    Work("A, mixed case", "mixed"),
    Work("A, cookies", "a", ("-E", "10:0102030405060708")),
    Work("NXDOMAIN, random names", "unknown"),
    Work("TCP, pipelined", "a", ("-e", "-m", "tcp", "-c", "4")),
)
ONE_A_CONNECTION = "TCP, one query a connection"
TITLES = (*(work.title for work in WORKS), ONE_A_CONNECTION)
Table = dict[tuple[str, str], list[Measured]]


def main() -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one short round; writes nothing")
    parser.add_argument("--rounds", type=int, default=3, help="more of them on a busy machine")
    arguments = parser.parse_args()
    quick = arguments.quick
    rounds, run_s = (1, 1.0) if quick else (arguments.rounds, 1.5)
    os.sched_setaffinity(0, {CLIENT_CORE})
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    with tempfile.TemporaryDirectory() as directory:
        at = Path(directory)
        write_queries(at)
        with dns_peers.running(at, SERVER_CORE) as servers:
            table = measured(at, servers, rounds, run_s)
            latencies = {s.name: _percentiles(at, s.port, 2 * run_s) for s in servers}
            memory = {server.name: server.rss_mb() for server in servers}
            versions = [f"{server.name} {server.version}" for server in servers]
        lines = [
            *_head(versions, rounds, run_s),
            *_rows(table, latencies, memory),
            *_goals(table),
        ]
        print("\n".join(lines), flush=True)
        refreshing = _refresh_lines(p99_refreshing(at, 3 * run_s, 1 if quick else _REFRESH_ROUNDS))
    print("\n".join(refreshing))
    lines += refreshing
    if not quick:
        write_section("The DNS server beside others (`python -m tests.bench.dns`)", lines)


def write_queries(at: Path) -> None:
    """One file for each kind of query, in dnsperf's form."""
    chance = random.Random(1)
    names = [f"svc{chance.randrange(SERVICES)}.{ZONE}" for _ in range(_QUERIES)]
    mixed = ["".join(chance.choice((c.upper(), c.lower())) for c in name) for name in names]
    unknown = [f"x{chance.randrange(10**9)}.{ZONE}" for _ in range(2 * _QUERIES)]
    for file, several, kind in (
        ("a", names, "A"),
        ("srv", names, "SRV"),
        ("mixed", mixed, "A"),
        ("unknown", unknown, "A"),
    ):
        (at / f"{file}.queries").write_text("".join(f"{name} {kind}\n" for name in several))


def measured(at: Path, servers: list[Running], rounds: int, run_s: float) -> Table:
    """Every kind of work on every server, round after round."""
    table: Table = defaultdict(list)
    for server in servers:
        for work in WORKS[:2]:
            _run(at, server, work, 1.0)  # what is made on first use is not what is measured
    for _ in range(rounds):
        for work in WORKS:
            for server in servers:
                table[work.title, server.name].append(_run(at, server, work, run_s))
        for server in servers:
            table[ONE_A_CONNECTION, server.name].append(_connections(server, run_s))
    return table


def _run(at: Path, server: Running, work: Work, run_s: float) -> Measured:
    before = server.cpu_s()
    out = _dnsperf(at, server.port, work.data, run_s, *work.flags)
    cpu_s = server.cpu_s() - before
    done = int(_number(r"Queries completed:\s+(\d+)", out))
    return Measured(cpu_s / max(done, 1) * 1e6, _number(r"Queries per second:\s+([\d.]+)", out))


def _dnsperf(at: Path, port: int, data: str, run_s: float, *flags: str) -> str:
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(at / f"{data}.queries")]
    done = subprocess.run(
        [*command, "-l", str(max(1, round(run_s))), "-t", "1", *flags],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0


def _connections(server: Running, run_s: float) -> Measured:
    """One connection after the other, each for one query: dnsperf pauses between them."""
    octets = dns_peers.query(f"svc7.{ZONE}", wire.A)
    framed = len(octets).to_bytes(2, "big") + octets
    before, start, done = server.cpu_s(), time.monotonic(), 0
    while time.monotonic() < start + run_s:
        with socket.create_connection(("127.0.0.1", server.port), _PATIENCE_S) as sock:
            sock.sendall(framed)
            if not sock.recv(65_535):
                raise RuntimeError(f"{server.name} closed without an answer")
        done += 1
    took_s = time.monotonic() - start
    return Measured((server.cpu_s() - before) / done * 1e6, done / took_s)


def _percentiles(at: Path, port: int, run_s: float, data: str = "a") -> tuple[float, float]:
    """Median and 99th percentile of the latency at 5,000 queries/s, in µs."""
    out = _dnsperf(at, port, data, run_s, "-e", "-v", "-Q", str(RATE))
    found = sorted(float(s) for s in re.findall(r"^> NOERROR .* ([\d.]+)$", out, re.MULTILINE))
    return statistics.median(found) * 1e6, found[int(0.99 * len(found))] * 1e6


# Ten thousand tasks that all have just started would be connected to, which is another work.
_MODES = {
    "not refreshing": ("--no-boot-check", "--interval", "1h"),
    "refreshing without pause": ("--no-boot-check", "--interval", "10ms", "--share", "10"),
}


def p99_refreshing(at: Path, run_s: float, rounds: int) -> dict[str, tuple[float, float]]:
    """Percentiles while 10,000 tasks are read without pause from a local ECS, and without that.

    The medians of interleaved rounds.
    """
    names = [f"svc-{n % SERVICES}.scale.ecs.internal A\n" for n in range(_QUERIES)]
    (at / "scale.queries").write_text("".join(names))
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with _local_ecs() as url:
        for title, more in list(_MODES.items()) * rounds:
            port = dns_peers.free_port()
            command = dns_peers.our_command("ecs", port, "--cluster", "scale", *more)
            with dns_peers.started(command, SERVER_CORE, _aws(url)) as process:
                dns_peers.wait_for(port, "svc-999.scale.ecs.internal", process)
                _dnsperf(at, port, "scale", 2.0, "-e", "-Q", str(RATE))  # every name's first answer
                found[title].append(_percentiles(at, port, run_s, "scale"))
    return {
        title: (statistics.median(p for p, _ in several), statistics.median(p for _, p in several))
        for title, several in found.items()
    }


def _aws(url: str) -> Mapping[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


_ECS = """
import sys
from discovery.local.server import LocalECS
with LocalECS("127.0.0.1:0", throttle=False) as ecs:
    ecs.populate("scale", services=1000, tasks=10_000, instances=100)
    print(ecs.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def _local_ecs() -> Iterator[str]:
    """A local ECS with 10,000 tasks in a process that gives way to dnsperf; its URL."""
    with subprocess.Popen(
        ["chrt", "--idle", "0", sys.executable, "-c", _ECS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait()


def _median(table: Table, title: str, name: str) -> Measured:
    several = table[title, name]
    return Measured(
        statistics.median(m.cpu_us for m in several), statistics.median(m.per_s for m in several)
    )


def _head(versions: list[str], rounds: int, run_s: float) -> list[str]:
    today = datetime.datetime.now(datetime.UTC).date()
    python = f"Python {platform.python_version()}"
    return [
        f"{today}, Linux {platform.release().partition('-')[0]}, {python};",
        "two cores: one for dnsperf, one for the server.",
        f"Medians of {rounds} interleaved rounds of {run_s:g} s; {', '.join(versions)}.",
        "",
    ]


def _rows(
    table: Table, latencies: Mapping[str, tuple[float, float]], memory: Mapping[str, float]
) -> list[str]:
    names = list(memory)
    rule = "|---" * (len(names) + 1) + "|"
    lines = ["CPU per query in µs (queries/s in thousands):", "", _row("", names), rule]
    for title in TITLES:
        cells = [_median(table, title, name) for name in names]
        lines.append(_row(title, [f"{m.cpu_us:.1f} ({m.per_s / 1e3:.0f})" for m in cells]))
    for title, at in (("p50", 0), ("p99", 1)):
        cells_us = [f"{latencies[name][at]:.0f} µs" for name in names]
        lines.append(_row(f"{title} at {RATE:,} queries/s", cells_us))
    lines.append(_row("RSS", [f"{memory[name]:.0f} MB" for name in names]))
    return [*lines, ""]


def _row(title: str, cells: list[str]) -> str:
    return "| " + " | ".join([title, *cells]) + " |"


def _goals(table: Table) -> list[str]:
    """The goals, as ratios within this run."""
    names = sorted({name for _, name in table})
    peers = [name for name in names if name != OURS]
    if not peers:
        return []

    def cpu(title: str, name: str = OURS) -> float:
        return _median(table, title, name).cpu_us

    def best(title: str, among: tuple[str, ...]) -> float:
        return min((cpu(title, name) for name in peers if name in among), default=float("nan"))

    trio = ("knot", "nsd", "unbound")
    slow = [cpu(t) / best(t, (name,)) for t in TITLES for name in ("bind", "dnsmasq")]
    single = statistics.median(cpu(ONE_A_CONNECTION, name) for name in peers)
    fastest = max(_median(table, "TCP, pipelined", name).per_s for name in peers)
    rows = (
        ("SRV ÷ best of Knot, NSD, unbound", cpu("SRV, 10 records") / best(TITLES[1], trio), 0.9),
        ("A ÷ best of them", cpu("A") / best("A", trio), 1.0),
        ("mixed case ÷ plain", cpu("A, mixed case") / cpu("A"), 1.5),
        ("cookies ÷ plain", cpu("A, cookies") / cpu("A"), 1.5),
        ("NXDOMAIN ÷ Knot", cpu(TITLES[4]) / best(TITLES[4], ("knot",)), 1.2),
        ("worst row ÷ BIND or dnsmasq", max(slow), 1.0),
        ("CPU of TCP, pipelined ÷ best peer", cpu(TITLES[5]) / best(TITLES[5], tuple(peers)), 0.5),
        ("TCP, one query a connection ÷ median peer", cpu(ONE_A_CONNECTION) / single, 1.0),
    )
    lines = ["| CPU, ratio | measured | goal |", "|---|---|---|"]
    lines += [f"| {what} | {ratio:.2f} | ≤ {goal:g} |" for what, ratio, goal in rows]
    ratio = _median(table, "TCP, pipelined", OURS).per_s / fastest
    return [*lines, f"| queries/s of TCP, pipelined ÷ best peer | {ratio:.2f} | ≥ 2 |", ""]


def _refresh_lines(found: Mapping[str, tuple[float, float]]) -> list[str]:
    lines = [
        f"At {RATE:,} queries/s, 1,000 services with 10,000 tasks, {title}: "
        f"p50 {p50:.0f} µs, p99 {p99:.0f} µs."
        for title, (p50, p99) in found.items()
    ]
    without, during = (found[title][1] for title in _MODES)
    return [*lines, f"The ratio of both p99 is {during / without:.2f}; the goal is ≤ 2."]


if __name__ == "__main__":
    main()
