"""A host that drops what comes, beside one that answers: real sockets on loopback."""

import contextlib
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest

from discovery.client.resolver import Resolver
from discovery.client.transports import DiscoveryTransport
from discovery.events import Checked, Event, Listeners
from discovery.model import Endpoint, Placement, Port, Service
from discovery.sources.base import FixedSource
from tests.made import NOW, endpoint, observed, reading

TASKS = 20  # on the host that is lost


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def lost() -> Iterator[list[int]]:
    """Ports of 127.0.0.2 whose queues of connections are full, so that the kernel drops more."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(TASKS):
            server = stack.enter_context(socket.socket())
            server.bind(("127.0.0.2", 0))
            server.listen(0)
            ports.append(server.getsockname()[1])
            for _ in range(4):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(server.getsockname())
        yield ports


@pytest.fixture
def well() -> Iterator[list[int]]:
    """Ports of 127.0.0.3 that answer HTTP."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(TASKS // 2):
            server = ThreadingHTTPServer(("127.0.0.3", 0), _Handler)
            thread = Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            ports.append(server.server_port)
        yield ports


def service(lost: list[int], well: list[int]) -> Service:
    """One task a port; its machine is its address."""
    places = [("127.0.0.2", port) for port in lost] + [("127.0.0.3", port) for port in well]
    endpoints: tuple[Endpoint, ...] = tuple(
        endpoint(n, host=host, port=port) for n, (host, port) in enumerate(places)
    )
    placements = {str(e.task_arn): Placement(NOW - 3_600, machine=e.host) for e in endpoints}
    port = Port(80)
    return Service(
        "web", "demo", endpoints=endpoints, ports=(port,), default_port=port, placements=placements
    )


def test_a_lost_host_leaves_as_a_whole_though_ecs_says_nothing(
    lost: list[int], well: list[int]
) -> None:
    """Its tasks are not found out one by one."""
    heard: list[Event] = []
    source = FixedSource(observed(reading(service(lost, well))))
    with Resolver(source=source, listeners=Listeners(heard.append), clock=lambda: NOW) as resolver:
        resolver.endpoints("web")
        with httpx.Client(transport=DiscoveryTransport(resolver)) as client:
            ends_at = time.monotonic() + 60
            while any(e.host == "127.0.0.2" for e in resolver.endpoints("web")):
                assert time.monotonic() < ends_at
                with contextlib.suppress(httpx.ConnectTimeout):  # two thirds are lost
                    client.get("http://web/")
        reasons = {x.reason for x in resolver.service("web").exclusions}
        assert reasons == {"its host does not answer from here"}
        assert len(resolver.endpoints("web")) == len(well)
        silent = [e for e in heard if isinstance(e, Checked) and e.result == "silent"]
        assert len(silent) < TASKS
