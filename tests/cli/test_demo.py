"""`demo` from end to end: real processes behind DNS, HTTP and Python, and nothing left behind."""

import json
import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.query
import pytest

from discovery.cli.layers import given
from discovery.cli.procfs import listening
from discovery.client.resolver import Resolver
from tests.cli.programs import Running, background, run, said_in_one_sentence, wait_until_gone

ADDRESSES = ("--dns", "127.0.0.1:0", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0")
WITHIN_S = 12.0  # as the README promises
TIMEOUT_S = 10.0

HostPort = tuple[str, int]


class Demo:
    """A demo that has started, and what it printed."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.out = running.until("Ctrl-C ends everything")
        self.dns = self._find(r"dig \+short @(\S+) -p (\d+) _http\._tcp\.web\.demo\.ecs\.internal")
        self.http = self._find(r"curl -s http://([\d.]+):(\d+)/v1/pick/web")
        self.environment = dict(re.findall(r"^ *export (\w+)=(\S+)$", self.out, re.MULTILINE))
        rows = [line.split() for line in self.out.splitlines()]
        self.processes = {
            (row[0], _host_port(row[1])): int(row[4])
            for row in rows
            if len(row) == 5 and row[4].isdecimal()
        }

    def of(self, service: str) -> set[HostPort]:
        """The printed endpoints of a service."""
        return {where for name, where in self.processes if name == service}

    def in_dns(self, service: str) -> set[HostPort]:
        """What SRV says, each target resolved to its address."""
        host, port = self.dns
        name = f"_http._tcp.{service}.demo.ecs.internal"
        answer = dns.query.udp(dns.message.make_query(name, "SRV"), host, TIMEOUT_S, int(port))
        targets = {(r.target, r.port) for rrset in answer.answer for r in rrset}
        return {(self._address(target), port) for target, port in targets}

    def in_http(self, service: str) -> set[HostPort]:
        """What `/v1/endpoints` says."""
        body = get(f"http://{self.http[0]}:{self.http[1]}/v1/endpoints/_http._tcp.{service}")
        return {(e["host"], e["port"]) for e in body["endpoints"]}

    def _address(self, target: Any) -> str:
        host, port = self.dns
        answer = dns.query.udp(dns.message.make_query(target, "A"), host, TIMEOUT_S, int(port))
        return str(answer.answer[0][0])

    def _find(self, pattern: str) -> tuple[str, str]:
        match = re.search(pattern, self.out)
        assert match, self.out
        return match[1], match[2]


def get(url: str) -> Any:
    """The JSON at a URL."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=TIMEOUT_S) as answer:
        return json.load(answer)


def _host_port(text: str) -> HostPort:
    host, _, port = text.rpartition(":")
    return host, int(port)


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """A demo that runs for all tests of this module."""
    with background("demo", *ADDRESSES) as running:
        yield Demo(running)


@pytest.mark.parametrize("service", ["web", "api", "cart", "report"])
def test_answers_are_the_real_listening_sockets(demo: Demo, service: str) -> None:
    """DNS, HTTP and the printed table name the same sockets, and the kernel says so, too."""
    printed = demo.of(service)
    assert demo.in_dns(service) == demo.in_http(service) == printed
    sockets = listening()
    assert {where: sockets.get(where) for where in printed} == {
        where: demo.processes[service, where] for where in printed
    }


def test_every_endpoint_answers(demo: Demo) -> None:
    """What is named can be called, and says the port that was asked."""
    for _, (host, port) in demo.processes:
        assert get(f"http://{host}:{port}/")["port"] == port


def test_the_printed_lines_work(demo: Demo) -> None:
    """The commands that are shown find what the demo runs, in the environment that is shown."""
    done = run("resolve", "web", "--json", env=demo.environment)
    assert {(e["host"], e["port"]) for e in done.document["endpoints"]} == demo.of("web")
    assert "maps no port" in run("explain", "worker", env=demo.environment).out
    names = [s["name"] for s in run("ls", "--json", env=demo.environment).document["services"]]
    assert names == ["api", "cart", "orders", "report", "web", "worker"]


def test_a_killed_process_leaves_and_is_replaced(
    demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 12 s it is gone from DNS, HTTP and Python, and another one is there."""
    for name, value in {"AWS_CONFIG_FILE": os.devnull, **demo.environment}.items():
        monkeypatch.setenv(name, value)
    settings = given({"interval": "5s"}, None, demo.environment).settings
    with Resolver(settings=settings) as resolver:
        before = {(e.host, e.port) for e in resolver.endpoints("web")}
        assert before == demo.in_http("web")
        killed = min(demo.of("web"))
        os.kill(demo.processes["web", killed], signal.SIGKILL)
        until = time.monotonic() + WITHIN_S
        views: list[set[HostPort]] = []
        while not _replaced(views, before, killed):
            assert time.monotonic() < until, (before, killed, views)
            resolver.wait(resolver.snapshot.index, 0.5)
            python = {(e.host, e.port) for e in resolver.endpoints("web")}
            views = [demo.in_dns("web"), demo.in_http("web"), python]
    (new,) = views[0] - before
    socket.create_connection(new, TIMEOUT_S).close()
    demo.running.until("- web", "+ web")


def _replaced(views: list[set[HostPort]], before: set[HostPort], killed: HostPort) -> bool:
    """Whether all views agree, without the killed one and as many as before."""
    return bool(views) and all(
        view == views[0] and killed not in view and len(view) == len(before) for view in views
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_leaves_no_process(number: int) -> None:
    """Every process that was printed is gone."""
    with background("demo", *ADDRESSES) as running:
        demo = Demo(running)
        done = running.end(number)
    assert done.code == 0
    assert "Traceback" not in done.err
    for pid in demo.processes.values():
        wait_until_gone(pid)


def test_a_signal_during_the_start_ends_it() -> None:
    """Nobody has to wait for the end of the beginning."""
    with background("demo", *ADDRESSES) as running:
        running.until("A local ECS listens")
        assert running.end(signal.SIGINT).code == 0


def test_a_taken_port_is_said_before_anything_is_started() -> None:
    """The demo's own addresses, too; starting tasks takes a while."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for flag in ("--dns", "--http", "--listen"):
            done = run("demo", *ADDRESSES, flag, address)
            assert (done.code, done.out) == (2, "")
            assert f"{address} is in use" in said_in_one_sentence(done)
