"""OpenTelemetry spans: refreshes, AWS calls, attempts; off unless asked for."""

import asyncio
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import httpx
import httpx2
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from discovery import AsyncDiscoveryTransport, DiscoveryTransport, Resolver
from discovery.balancing.round_robin import RoundRobin
from discovery.errors import SourceUnreachable
from discovery.events import (
    Attempted,
    CallMade,
    Listeners,
    Noticed,
    Refreshed,
    RefreshFailed,
)
from discovery.tracing import Spans
from tests.cli.programs import background
from tests.client.servers import Server, source_of
from tests.dns.resolvers import until
from tests.made import FakeClock, OwnClock

END_NS = 5_000_000_000


@pytest.fixture
def kept() -> InMemorySpanExporter:
    """Keeps the spans of the provider below."""
    return InMemorySpanExporter()


@pytest.fixture
def provider(kept: InMemorySpanExporter) -> Iterator[TracerProvider]:
    """Makes spans, which go to `kept`."""
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(kept))
    yield made
    made.shutdown()


def test_events_become_spans_with_their_times(
    kept: InMemorySpanExporter, provider: TracerProvider
) -> None:
    """Calls and refreshes, with what failed and why; notices have no time."""
    told = Spans(provider, lambda: END_NS)
    told(CallMade("ListTasks", "tasks", 0.5))
    told(CallMade("DescribeTasks", "tasks", 0.25, "slowly", "source_throttled"))
    told(Refreshed("prod", 3, 4, 5, 1.5))
    told(RefreshFailed("prod", SourceUnreachable("nobody answers")))
    told(Noticed("ssm is not allowed"))
    made = kept.get_finished_spans()
    assert [(s.name, (s.end_time or 0) - (s.start_time or 0), s.status.is_ok) for s in made] == [
        ("AWS ListTasks", 500_000_000, True),
        ("AWS DescribeTasks", 250_000_000, False),
        ("refresh", 1_500_000_000, True),
        ("refresh", 0, False),
    ]
    assert {s.end_time for s in made} == {END_NS}
    assert made[3].status.description == "nobody answers"
    assert (made[2].attributes or {})["ecs_discovery.cluster"] == "prod"


def attempt(**changes: Any) -> Attempted:
    """An attempt that went well, but for the changes."""
    url = "http://orders.prod/items"
    about = ("GET", url, "orders.prod", "10.0.0.1", 32_768, "arn:task/1", 0, 0.25)
    return replace(Attempted(*about, status=200), **changes)


def test_an_attempt_is_a_client_span_with_the_conventional_attributes(
    kept: InMemorySpanExporter, provider: TracerProvider
) -> None:
    """Where it was meant to go, and where it went."""
    Spans(provider, lambda: END_NS)(attempt(resend=1))
    (made,) = kept.get_finished_spans()
    assert (made.name, made.kind) == ("GET", SpanKind.CLIENT)
    assert (made.start_time, made.end_time) == (END_NS - 250_000_000, END_NS)
    assert dict(made.attributes or {}) == {
        "http.request.method": "GET",
        "http.request.resend_count": 1,
        "http.response.status_code": 200,
        "url.full": "http://orders.prod/items",
        "server.address": "orders.prod",
        "server.port": 80,
        "network.peer.address": "10.0.0.1",
        "network.peer.port": 32_768,
        "ecs_discovery.service": "orders.prod",
        "ecs_discovery.task_arn": "arn:task/1",
    }
    assert made.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"status": 503}, "503"),
        ({"status": 404}, "404"),
        ({"status": None, "error": "connect_timeout"}, "connect_timeout"),
    ],
)
def test_an_attempt_that_failed_has_the_type_of_its_error(
    kept: InMemorySpanExporter, provider: TracerProvider, changes: dict[str, Any], kind: str
) -> None:
    """And no description, since that says it all."""
    Spans(provider)(attempt(**changes))
    (made,) = kept.get_finished_spans()
    assert (made.attributes or {})["error.type"] == kind
    assert (made.status.status_code, made.status.description) == (StatusCode.ERROR, None)


def test_a_method_that_nobody_knows_makes_no_name(
    kept: InMemorySpanExporter, provider: TracerProvider
) -> None:
    """Names of spans are few."""
    Spans(provider)(attempt(method="BREW"))
    (made,) = kept.get_finished_spans()
    assert made.name == "HTTP"
    assert (made.attributes or {})["http.request.method"] == "_OTHER"
    assert (made.attributes or {})["http.request.method_original"] == "BREW"


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_attempts_belong_to_the_span_in_which_the_request_is_made(
    kept: InMemorySpanExporter, provider: TracerProvider, module: Any
) -> None:
    """In threads and in event loops; the second attempt says that it is one."""
    tracer = provider.get_tracer("caller")

    async def in_a_loop(resolver: Resolver) -> None:
        transport = AsyncDiscoveryTransport(resolver)
        async with module.AsyncClient(transport=transport) as client:
            with tracer.start_as_current_span("in a loop"):
                await client.get("http://web/b")

    with Server(0, status=503) as bad, Server(1) as good:
        given: dict[str, Any] = {"policy": RoundRobin, "random": Random(0)}
        given |= {"clock": FakeClock(), "monotonic": OwnClock()}
        listeners = Listeners(Spans(provider))
        with Resolver(source=source_of(bad, good), listeners=listeners, **given) as resolver:
            transport = DiscoveryTransport(resolver)
            with module.Client(transport=transport) as client:
                while not bad.got:  # whose turn it is first is a matter of chance
                    kept.clear()
                    with tracer.start_as_current_span("in a thread"):
                        client.get("http://web/a")
            asyncio.run(in_a_loop(resolver))
    spans = kept.get_finished_spans()
    callers = {s.context.span_id: s.name for s in spans if s.parent is None}
    made = [(callers[s.parent.span_id], s.attributes or {}) for s in spans if s.parent]
    of_thread = [about for caller, about in made if caller == "in a thread"]
    assert [about["http.response.status_code"] for about in of_thread] == [503, 200]
    assert [about.get("http.request.resend_count") for about in of_thread] == [None, 1]
    assert of_thread[1]["network.peer.port"] == good.port
    assert "in a loop" in [caller for caller, _ in made]


class Collector(http.server.ThreadingHTTPServer):
    """What takes spans; `paths` are those that were posted to, with the sizes of the bodies."""

    def __init__(self) -> None:
        posted = self.posted = list[tuple[str, bytes]]()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the name that the library calls
                posted.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """One that listens."""
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_sidecar_sends_them_where_the_library_is_told_to(
    collector: Collector, tmp_path: Path
) -> None:
    """At its end at the latest."""
    static = tmp_path / "services.toml"
    static.write_text('[services.web]\nendpoints = [{host = "127.0.0.2", port = 80}]\n')
    url = f"http://127.0.0.1:{collector.server_address[1]}"
    words = ("--dns", "127.0.0.1:0", "--http", "127.0.0.1:0", "--source", f"file:{static}")
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
    with background("serve", "--traces", "--lame-duck", "0s", *words, env=env) as running:
        running.until("is read")
        assert running.end().code == 0
    until(lambda: bool(collector.posted))
    path, body = collector.posted[0]
    assert path == "/v1/traces"
    assert b"refresh" in body


def test_nothing_is_imported_without_the_setting() -> None:
    """It costs memory and time to start."""
    program = "import sys, discovery.sidecar.supervisor; print('opentelemetry' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "False"
