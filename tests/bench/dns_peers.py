"""The servers that are measured: how each is made to serve the same zone on one thread.

A server that is not on PATH is left out. All run from a directory that is removed afterwards.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from discovery.dns import wire
from discovery.dns.server import bound_pair

SERVICES, ENDPOINTS = 1_000, 10
ZONE = "default.ecs.internal"
OURS = "ecs-discovery"
_START_S = 60.0


def hosts(service: int) -> list[str]:
    """The addresses of a service."""
    return [f"10.{service >> 8}.{service & 255}.{n + 1}" for n in range(ENDPOINTS)]


def target(host: str) -> str:
    """How the node of an address is called."""
    return f"ip-{host.replace('.', '-')}.node.{ZONE}"


@dataclass(frozen=True)
class Recipe:
    """How a server is started: its files and its command, for a directory and a port."""

    name: str
    program: str
    files: Callable[[Path, int], dict[str, str]]
    command: Callable[[Path, int], list[str]]
    version: tuple[str, ...]


@dataclass(frozen=True)
class Running:
    """A server that answers on `port`."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    version: str

    def cpu_s(self) -> float:
        """The CPU time that it took, and its children, also those that have ended."""
        return sum(map(_cpu_s, _family(self.process.pid)))

    def rss_mb(self) -> float:
        """Its memory, its children's included."""
        pages = [int(_read(pid, "statm").split()[1]) for pid in _family(self.process.pid)]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _read(pid: int, name: str, where_it_ended: str = "0 0 0") -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return where_it_ended


def _cpu_s(pid: int) -> float:
    values = _read(pid, "stat").rpartition(")")[2].split()
    return sum(map(int, values[11:15])) / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> list[int]:
    children = _read(pid, f"task/{pid}/children", "").split()
    return [pid, *(one for child in children for one in _family(int(child)))]


def zone_file() -> str:
    """The zone in master file format."""
    lines = [
        "$ORIGIN ecs.internal.",
        "$TTL 5",
        "@ SOA ns.dns hostmaster 1 60 10 3600 2",
        "@ NS ns.dns",
        "ns.dns A 127.0.0.1",
    ]
    for service in range(SERVICES):
        for port, host in enumerate(hosts(service), 32_768):
            lines.append(f"svc{service}.default A {host}")
            lines.append(f"svc{service}.default SRV 0 100 {port} {target(host)}.")
            lines.append(f"{target(host)}. A {host}")
    return "\n".join(lines) + "\n"


def _knot(at: Path, port: int) -> dict[str, str]:
    text = f"""
server:
    listen: 127.0.0.1@{port}
    rundir: {at}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {at}
zone:
  - domain: ecs.internal
    file: {at}/zone
    zonefile-sync: -1
    journal-content: none
"""
    return {"zone": zone_file(), "conf": text}


def _nsd(at: Path, port: int) -> dict[str, str]:
    text = f"""
server:
    server-count: 1
    ip-address: 127.0.0.1@{port}
    username: ""
    database: ""
    zonesdir: "{at}"
    pidfile: "{at}/pid"
    xfrdfile: "{at}/xfrd"
    zonelistfile: "{at}/zones"
    rrl-ratelimit: 0
    rrl-whitelist-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: ecs.internal
    zonefile: zone
"""
    return {"zone": zone_file(), "conf": text}


def _unbound(at: Path, port: int) -> dict[str, str]:
    head = f"""
server:
    interface: 127.0.0.1@{port}
    num-threads: 1
    username: ""
    chroot: ""
    directory: "{at}"
    pidfile: ""
    do-daemonize: no
    use-syslog: no
    logfile: ""
    module-config: "iterator"
    incoming-num-tcp: 100
    local-zone: "ecs.internal." static
"""
    lines = [
        f"    local-data: '{line.replace(' ', '.ecs.internal. 5 IN ', 1)}'"
        if not line.startswith("ip-")
        else f"    local-data: '{line.replace(' ', ' 5 IN ', 1)}'"
        for line in zone_file().splitlines()[5:]
    ]
    return {"conf": head + "\n".join(lines) + "\nremote-control:\n    control-enable: no\n"}


def _named(at: Path, port: int) -> dict[str, str]:
    text = f"""
options {{ listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no;
  directory "{at}"; pid-file none; session-keyfile none; minimal-responses no; }};
logging {{ category default {{ null; }}; }};
controls {{ }};
zone "ecs.internal" {{ type primary; file "{at}/zone"; }};
"""
    return {"zone": zone_file(), "conf": text}


def _dnsmasq(at: Path, port: int) -> dict[str, str]:
    every = [(n, port, host) for n in range(SERVICES) for port, host in enumerate(hosts(n), 32_768)]
    head = [
        *(f"port={port}", "listen-address=127.0.0.1", "bind-interfaces", "no-resolv", "no-hosts"),
        *("user=root", "local=/ecs.internal/", "local-ttl=5", f"addn-hosts={at}/hosts"),
        *(f"pid-file={at}/pid", "cache-size=10000"),
    ]
    services = [f"srv-host=svc{n}.{ZONE},{target(host)},{p},0,100" for n, p, host in every]
    named = [f"{host} svc{n}.{ZONE}\n{host} {target(host)}" for n, _, host in every]
    return {"conf": "\n".join([*head, *services, ""]), "hosts": "\n".join(named) + "\n"}


def _pdns(at: Path, port: int) -> dict[str, str]:
    text = f"""
launch=bind
bind-config={at}/named.conf
local-address=127.0.0.1
local-port={port}
receiver-threads=1
distributor-threads=1
socket-dir={at}
daemon=no
guardian=no
loglevel=0
cache-ttl=60
"""
    zone = f'zone "ecs.internal" {{ type master; file "{at}/zone"; }};\n'
    return {"zone": zone_file(), "pdns.conf": text, "named.conf": zone}


def _coredns(at: Path, port: int) -> dict[str, str]:
    text = f"ecs.internal:{port} {{\n  bind 127.0.0.1\n  file {at}/zone\n}}\n"
    return {"zone": zone_file(), "conf": text}


def services_document() -> str:
    """The same services as a static file of ours."""
    services = {
        f"svc{n}": {"endpoints": [{"host": h, "port": p} for p, h in enumerate(hosts(n), 32_768)]}
        for n in range(SERVICES)
    }
    return json.dumps({"services": services})


def our_command(source: str, port: int, *more: str) -> list[str]:
    """How our own process is started; HTTP gets any free port."""
    addresses = ("--dns", f"127.0.0.1:{port}", "--http", "127.0.0.1:0")
    return [sys.executable, "-m", "discovery", "serve", "--source", source, *addresses, *more]


RECIPES = (
    Recipe(
        *(OURS, sys.executable, lambda at, port: {"services.json": services_document()}),
        lambda at, port: our_command(f"file:{at}/services.json", port),
        (sys.executable, "-c", "import discovery; print(discovery.__version__)"),
    ),
    Recipe("knot", "knotd", _knot, lambda at, _: ["knotd", "-c", f"{at}/conf"], ("knotd", "-V")),
    Recipe("nsd", "nsd", _nsd, lambda at, _: ["nsd", "-d", "-c", f"{at}/conf"], ("nsd", "-v")),
    Recipe(
        *("unbound", "unbound", _unbound),
        lambda at, _: ["unbound", "-d", "-c", f"{at}/conf"],
        ("unbound", "-V"),
    ),
    Recipe(
        *("pdns", "pdns_server", _pdns),
        lambda at, _: ["pdns_server", f"--config-dir={at}"],
        ("pdns_server", "--version"),
    ),
    Recipe(
        *("bind", "named", _named),
        lambda at, _: ["named", "-f", "-n", "1", "-c", f"{at}/conf"],
        ("named", "-v"),
    ),
    Recipe(
        *("dnsmasq", "dnsmasq", _dnsmasq),
        lambda at, _: ["dnsmasq", "-k", "-C", f"{at}/conf"],
        ("dnsmasq", "-v"),
    ),
    Recipe(
        *("coredns", "coredns", _coredns),
        lambda at, _: ["coredns", "-conf", f"{at}/conf"],
        ("coredns", "-version"),
    ),
)


@contextmanager
def running(at: Path, core: int) -> Iterator[list[Running]]:
    """Every server that is found, each on that core; gone afterwards."""
    with ExitStack() as stack:
        servers = []
        for recipe in RECIPES:
            if shutil.which(recipe.program) is None:
                continue
            port = free_port()
            home = at / recipe.name
            home.mkdir()
            for name, text in recipe.files(home, port).items():
                (home / name).write_text(text)
            process = stack.enter_context(started(recipe.command(home, port), core))
            servers.append(Running(recipe.name, port, process, _version(recipe.version)))
        for server in servers:
            wait_for(server.port, f"svc1.{ZONE}", server.process)
            _pin(server.process.pid, core)
        yield servers


def _pin(pid: int, core: int) -> None:
    """Put every thread on one core: Knot chooses cores for its threads, whatever it was given."""
    for one in _family(pid):
        for task in Path(f"/proc/{one}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})


@contextmanager
def started(
    command: list[str], core: int, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on one core, ended afterwards."""
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "GOMAXPROCS": "1", **(environment or {})},
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port that nobody uses on UDP and TCP at this moment."""
    udp, tcp = bound_pair("127.0.0.1", 0)
    with udp, tcp:
        port: int = udp.getsockname()[1]
        return port


def query(name: str, kind: int) -> bytes:
    """A query with EDNS."""
    asked = wire.name_of(*name.encode().split(b".")) + kind.to_bytes(2, "big") + b"\0\1"
    opt = b"\0\0\x29\x04\xd0" + bytes(6)
    return b"\x12\x34\1\0\0\1\0\0\0\0\0\1" + asked + opt


def wait_for(port: int, name: str, process: subprocess.Popen[bytes]) -> None:
    """Until the name has as many addresses and services as a service has endpoints."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.5)
            sock.connect(("127.0.0.1", port))
            counts = [_answers(sock, query(name, kind)) for kind in (wire.A, wire.SRV)]
        if counts == [ENDPOINTS, ENDPOINTS]:
            return
        time.sleep(0.2)
    raise RuntimeError(f"{process.args!r} does not answer as it should")


def _answers(sock: socket.socket, octets: bytes) -> int:
    try:
        sock.send(octets)
        return int.from_bytes(sock.recv(65_535)[6:8], "big")
    except OSError:
        return 0


def _version(command: tuple[str, ...]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+[\w.]*", done.stdout + done.stderr)
    return found[0] if found else "?"
