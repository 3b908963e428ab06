"""Which zone's endpoints come first, and how we know our own."""

import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from discovery import Balancing, Resolver, Settings
from discovery.client.own_zone import Placed
from discovery.ecs.metadata import VARIABLE
from discovery.sources.base import FixedSource
from tests.made import FakeClock, endpoint, observed, reading, service

OWN, OTHER = "eu-west-1a", "eu-west-1b"


class Metadata:
    """A task metadata endpoint in our zone that counts its questions."""

    def __init__(self) -> None:
        self.asked = 0
        says = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                says.asked += 1
                body = b'{"Cluster": "demo", "AvailabilityZone": "%b"}' % OWN.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Silence."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.environment = {VARIABLE: f"http://127.0.0.1:{self.server.server_port}/v4/id"}


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    """On loopback."""
    made = Metadata()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def two_zones() -> FixedSource:
    web = replace(service("web"), endpoints=(endpoint(1, zone=OWN), endpoint(2, zone=OTHER)))
    return FixedSource(observed(reading(web)))


def hosts(resolver: Resolver) -> set[str]:
    return {resolver.pick("web").host for _ in range(50)}


def test_a_task_uses_its_own_zone_first(metadata: Metadata) -> None:
    """Without being told which that is, and asking for it once."""
    source = Placed(two_zones(), metadata.environment)
    with Resolver(source=source, clock=FakeClock()) as resolver:
        assert hosts(resolver) == {"10.0.0.1"}
        resolver.refresh()
    assert metadata.asked == 1


@pytest.mark.parametrize(
    ("settings", "balancing", "want"),
    [
        (Settings(availability_zone=OTHER), None, {"10.0.0.2"}),
        (Settings(availability_zone=OTHER), Balancing(zone=OWN), {"10.0.0.1"}),
        (Settings(availability_zone=OTHER), Balancing(slow_start_s=1.0), {"10.0.0.2"}),
        (Settings(availability_zone="any"), None, {"10.0.0.1", "10.0.0.2"}),
        (Settings(), None, {"10.0.0.1", "10.0.0.2"}),
    ],
)
def test_the_zone_can_be_said(
    settings: Settings, balancing: Balancing | None, want: set[str]
) -> None:
    """To the resolver, or as a setting; outside of ECS all zones are alike."""
    with Resolver(
        source=two_zones(), clock=FakeClock(), settings=settings, balancing=balancing
    ) as resolver:
        assert hosts(resolver) == want


def test_metadata_that_do_not_answer_hold_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """All zones are alike then, and the log says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    placed = Placed(two_zones(), {VARIABLE: f"http://127.0.0.1:{port}/v4"})
    with caplog.at_level(logging.WARNING):
        assert placed.load(None).clusters
    assert placed.zone is None
    assert "in all zones alike" in caplog.text


def test_before_anything_is_read_nothing_is_asked(metadata: Metadata) -> None:
    """Making a resolver costs nothing."""
    placed = Placed(two_zones(), metadata.environment)
    assert placed.labels == ("demo",)
    assert metadata.asked == 0
    placed.load(None)
    assert placed.zone == OWN
    placed.close()
