"""OpenTelemetry spans, refreshes and calls; off without the setting."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from discovery.errors import SourceUnreachable
from discovery.events import CallMade, Noticed, Refreshed, RefreshFailed
from discovery.sidecar.tracing import Spans
from tests.cli.programs import background
from tests.dns.resolvers import until

END_NS = 5_000_000_000


def test_events_become_spans_with_their_times() -> None:
    """Calls and refreshes, with what failed and why; notices have no time."""
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    told = Spans(provider, lambda: END_NS)
    told(CallMade("ListTasks", "tasks", 0.5))
    told(CallMade("DescribeTasks", "tasks", 0.25, "slowly", "source_throttled"))
    told(Refreshed("prod", 3, 4, 5, 1.5))
    told(RefreshFailed("prod", SourceUnreachable("nobody answers")))
    told(Noticed("ssm is not allowed"))
    made = kept.get_finished_spans()
    told.close()
    assert [(s.name, (s.end_time or 0) - (s.start_time or 0), s.status.is_ok) for s in made] == [
        ("AWS ListTasks", 500_000_000, True),
        ("AWS DescribeTasks", 250_000_000, False),
        ("refresh", 1_500_000_000, True),
        ("refresh", 0, False),
    ]
    assert {s.end_time for s in made} == {END_NS}
    assert made[3].status.description == "nobody answers"
    assert (made[2].attributes or {})["ecs_discovery.cluster"] == "prod"


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
