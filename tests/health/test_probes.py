"""Active probes against real servers: TCP, HTTP, and gRPC's own health service."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from discovery.client.resolver import Resolver
from discovery.health.probes import Asking
from discovery.health.probing import (
    Standing,
    Thresholds,
    grpc_failure,
    grpc_request,
    probe_of,
)
from discovery.model import Endpoint
from discovery.probe import Probe
from discovery.settings import Settings
from discovery.sources.base import FixedSource
from tests.made import endpoint, observed, reading, service

THRESHOLDS = Thresholds(rise=2, fall=3)


def stood(*failures: str | None) -> list[bool]:
    """Whether it is failing after each of these results."""
    standing, found = Standing(), []
    for failure in failures:
        standing = standing.after(failure, THRESHOLDS)
        found.append(standing.is_failing)
    return found


@pytest.mark.parametrize(
    ("failures", "want"),
    [
        (["x", "x", "x"], [False, False, True]),
        (["x", "x", None, "x", "x"], [False] * 5),
        (["x", "x", "x", None, None], [False, False, True, True, False]),
        (["x", "x", "x", None, "x", None, None], [False, False, True, True, True, True, False]),
    ],
)
def test_several_results_in_a_row_change_what_is_believed(
    failures: list[str | None], want: list[bool]
) -> None:
    """One alone changes nothing, in either direction."""
    assert stood(*failures) == want


def test_the_first_probe_that_matches_a_name_counts() -> None:
    """By the service's name, or with its cluster."""
    probes = (Probe("*.prod", "grpc"), Probe("web", "tcp"), Probe("*", "http", "/"))
    found = [
        probe_of(s, probes)
        for s in (service("web"), service("web", cluster="prod"), service("api"))
    ]
    assert [p.kind for p in found if p] == ["tcp", "grpc", "http"]
    assert probe_of(service("api"), probes[:2]) is None


@pytest.mark.parametrize(
    ("http", "status", "body", "want"),
    [
        (200, None, b"\0\0\0\0\2\x08\x01", None),
        (200, "0", b"\0\0\0\0\2\x08\x02", "grpc: NOT_SERVING"),
        (200, None, b"\0\0\0\0\0", "grpc: UNKNOWN"),
        (200, None, b"\0\0\0\0\2\x08\x09", "grpc: 9"),
        (200, "12", b"", "grpc: status 12"),
        (404, None, b"", "grpc: status 404 of HTTP"),
        (200, None, b"", "grpc: no answer of a health service"),
        (200, None, b"\1\0\0\0\2\x08\x01", "grpc: no answer of a health service"),
        (200, None, b"\0\0\0\0\3\x08\x01", "grpc: no answer of a health service"),
    ],
)
def test_only_serving_passes(http: int, status: str | None, body: bytes, want: str | None) -> None:
    """Whatever a server says instead."""
    assert grpc_failure(http, status, body) == want


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def at(port: int) -> Endpoint:
    return replace(endpoint(1), host="127.0.0.1", port=port)


@pytest.fixture
def web() -> Iterator[Endpoint]:
    """An HTTP server that answers with the status that the path names."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield at(server.server_port)
        server.shutdown()
        thread.join()


@pytest.fixture
def closed() -> Iterator[Endpoint]:
    """A port that refuses."""
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        yield at(it.getsockname()[1])


@pytest.fixture
def mute() -> Iterator[Endpoint]:
    """A port that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as it:
        yield at(it.getsockname()[1])


@pytest.fixture
def asking() -> Iterator[Asking]:
    """What asks, with more patience than a loaded machine needs."""
    it = Asking(30)
    yield it
    it.close()


@pytest.mark.parametrize(
    ("path", "statuses", "want"),
    [
        ("/200", (200, 399), None),
        ("/302", (200, 399), None),
        ("/500", (200, 399), "http: GET /500: status 500"),
        ("/302", (200, 299), "http: GET /302: status 302"),
        ("/401", (401, 401), None),
    ],
)
def test_http_passes_by_its_status(
    web: Endpoint, asking: Asking, path: str, statuses: tuple[int, int], want: str | None
) -> None:
    """Redirections are not followed."""
    assert asking.failure(web, Probe("*", "http", path, statuses)) == want


def test_tcp_passes_when_it_is_connected(mute: Endpoint, closed: Endpoint, asking: Asking) -> None:
    """Nothing is sent."""
    assert asking.failure(mute, Probe()) is None
    assert asking.failure(closed, Probe()) == "tcp: it refuses connections"


def test_who_does_not_answer_fails_in_words(mute: Endpoint, closed: Endpoint) -> None:
    """After a timeout, or at once."""
    asking = Asking(0.05)
    assert asking.failure(mute, Probe("*", "http", "/")) == "http: timed out"
    assert asking.failure(mute, Probe("*", "grpc")) == "grpc: timed out"
    assert asking.failure(closed, Probe("*", "http", "/")) == "http: it cannot be connected to"
    asking.close()


def test_an_http_server_is_no_health_service(web: Endpoint, asking: Asking) -> None:
    """It does not speak HTTP/2."""
    assert (asking.failure(web, Probe("*", "grpc")) or "").startswith("grpc: ")


def test_grpc_asks_a_real_health_service(asking: Asking) -> None:
    """Of a server made with gRPC's own library, as a whole and for one service."""
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    serving = health_pb2.HealthCheckResponse.ServingStatus
    servicer.set("acme.Orders", serving.Value("SERVING"))
    where = at(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    try:
        assert asking.failure(where, Probe("*", "grpc")) is None
        assert asking.failure(where, Probe("*", "grpc", "acme.Orders")) is None
        # NOT_FOUND comes in a trailer, after an empty message, and httpx shows no trailers.
        assert asking.failure(where, Probe("*", "grpc", "acme.Nobody")) == "grpc: UNKNOWN"
        servicer.set("acme.Orders", serving.Value("NOT_SERVING"))
        assert asking.failure(where, Probe("*", "grpc", "acme.Orders")) == "grpc: NOT_SERVING"
    finally:
        server.stop(None).wait()


def test_the_request_is_what_grpc_s_own_library_writes() -> None:
    """An unnamed service is an empty message."""
    for name in ("", "acme.Orders"):
        message = health_pb2.HealthCheckRequest(service=name).SerializeToString()
        assert grpc_request(name) == b"\0" + len(message).to_bytes(4, "big") + message


def test_a_probe_that_fails_takes_an_endpoint_out_and_brings_it_back(web: Endpoint) -> None:
    """Everywhere, with the probe's words, by the settings alone."""
    statuses = {"now": "500"}

    class Handler(_Handler):
        def do_GET(self) -> None:
            self.path = f"/{statuses['now']}"
            super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        bad = replace(endpoint(2), host="127.0.0.1", port=server.server_port)
        both = replace(service("web"), endpoints=(web, bad))
        settings = Settings(
            probes=(Probe("web", "http", "/200"),),
            probe_interval_s=0.05,
            probe_rise=1,
            probe_fall=2,
        )
        source = FixedSource(observed(reading(both)))
        with Resolver(source=source, settings=settings, clock=lambda: 1_700_000_000.0) as resolver:
            resolver.endpoints("web")
            assert waited(resolver, 1)
            (out,) = resolver.service("web").exclusions
            assert (out.task_arn, out.reason) == (
                "arn:task/2",
                "its probe fails: http: GET /200: status 500",
            )
            statuses["now"] = "200"
            assert waited(resolver, 2)
        server.shutdown()
        thread.join()


def waited(resolver: Resolver, count: int) -> bool:
    """Whether the service came to have so many endpoints."""
    while len(resolver.endpoints("web")) != count:
        index = resolver.snapshot.index
        if len(resolver.endpoints("web")) != count and resolver.wait(index, 30).index == index:
            return False
    return True
