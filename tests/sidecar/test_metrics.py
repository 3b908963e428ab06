"""`/metrics`: what is counted, what is read when asked, and that the written table is true."""

import asyncio
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dns.message
import dns.query
import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from discovery.errors import SourceThrottled, SourceUnreachable
from discovery.events import (
    BudgetWaited,
    CallMade,
    Checked,
    Event,
    Published,
    QueryDropped,
    Refreshed,
    RefreshFailed,
    Throttled,
)
from discovery.settings import Settings
from discovery.sidecar.metrics import MOST_REASONS, PREFIX, Metrics
from discovery.sidecar.stalls import INTERPRETER, Stalls
from discovery.sidecar.supervisor import Sidecar
from discovery.sources.base import FixedSource
from discovery.written import Address, ClusterSettings, Upstream
from tests.dns.resolvers import until
from tests.made import FakeClock
from tests.sidecar.fleet import EMPTY, WEB, endpoint, observed

ANY = Address("127.0.0.1", 0)
SETTINGS = Settings(
    clusters=(ClusterSettings("prod"),), dns=ANY, http=ANY, upstreams=(Upstream("web", ANY),)
)
PATIENCE_S = 30.0
TABLE = Path(__file__).parents[2] / "examples" / "metrics.md"

Samples = dict[tuple[str, tuple[str, ...]], float]


class Scraped:
    """A sidecar that is ready, and a client of it."""

    def __init__(self, sidecar: Sidecar, client: httpx.Client) -> None:
        self.sidecar = sidecar
        self.client = client

    def samples(self) -> Samples:
        """All samples as Prometheus' own parser reads them, by name and label values."""
        answer = self.client.get("/metrics")
        assert answer.status_code == 200
        return read(answer.text)

    def value(self, name: str, *labels: str) -> float:
        """One of them, 0 where there is none."""
        return self.samples().get((f"{PREFIX}_{name}", labels), 0.0)


def read(text: str) -> Samples:
    """The samples of a text; that they are there twice is a mistake."""
    found = [s for family in text_string_to_metric_families(text) for s in family.samples]
    samples = {(s.name, tuple(s.labels.values())): s.value for s in found}
    assert len(samples) == len(found)
    return samples


def counted(*events: Event) -> Samples:
    """What is counted of some events."""
    metrics = Metrics()
    for event in events:
        metrics(event)
    return read(generate_latest(metrics.registry).decode())


def table() -> list[list[str]]:
    """The rows of the written table: name, kind, meaning, alert."""
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|\n"))]
        for line in TABLE.read_text().splitlines()
        if line.startswith(f"| `{PREFIX}")
    ]


@pytest.fixture
def source() -> FixedSource:
    """A source of two services."""
    return FixedSource(observed(WEB, EMPTY, at=time.time()))


@pytest.fixture
def scraped(source: FixedSource) -> Iterator[Scraped]:
    """A sidecar that is ready."""
    with Sidecar(SETTINGS, source=source) as sidecar:
        url = f"http://{sidecar.http_address}"
        with httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
            until(lambda: not sidecar.missing())
            yield Scraped(sidecar, client)


@pytest.mark.parametrize(
    ("event", "name", "labels", "value"),
    [
        (CallMade("ListTasks", "tasks", 0.1), "aws_calls_total", ("ListTasks", "ok"), 1),
        (
            CallMade("ListTasks", "tasks", 0.1, "no", "source_throttled"),
            *("aws_calls_total", ("ListTasks", "source_throttled"), 1),
        ),
        (CallMade("ListTasks", "tasks", 0.25), "aws_call_seconds_sum", ("ListTasks",), 0.25),
        (Throttled("ec2", "DescribeInstances", 0.5), "aws_throttles_total", ("ec2",), 1),
        (BudgetWaited("ec2", 1.5), "budget_wait_seconds_sum", ("ec2",), 1.5),
        (Refreshed("prod", 3, 4, 5, 0.5), "refreshes_total", ("prod", "ok"), 1),
        (Refreshed("prod", 3, 4, 5, 0.5), "refresh_seconds_sum", ("prod",), 0.5),
        (
            RefreshFailed("prod", SourceUnreachable("nobody")),
            *("refreshes_total", ("prod", "source_unreachable"), 1),
        ),
        (
            RefreshFailed("prod", SourceThrottled("slowly")),
            *("refreshes_total", ("prod", "source_throttled"), 1),
        ),
        (Published(7, ("a.prod", "b.prod")), "service_changes_total", (), 2),
        (Published(7, ("a.prod", "b.prod")), "snapshots_total", (), 1),
        (QueryDropped("not a query"), "dns_dropped_total", ("not a query",), 1),
        (QueryDropped("cannot be sent: gone"), "dns_dropped_total", ("cannot be sent",), 1),
        (Checked("http", "failed", 0.2), "checks_total", ("http", "failed"), 1),
        (Checked("http", "failed", 0.2), "check_seconds_sum", ("http",), 0.2),
    ],
)
def test_events_are_counted(event: Event, name: str, labels: tuple[str, ...], value: float) -> None:
    """Each with its labels."""
    assert counted(event)[f"{PREFIX}_{name}", labels] == value


def test_reasons_are_bounded() -> None:
    """Whatever is said of packets that come from the network."""
    samples = counted(*(QueryDropped(f"reason {n}") for n in range(1_000)))
    reasons = [labels for name, labels in samples if name == f"{PREFIX}_dns_dropped_total"]
    assert len(reasons) == MOST_REASONS + 1
    assert samples[f"{PREFIX}_dns_dropped_total", ("other",)] == 1_000 - MOST_REASONS


def test_dns_answers_are_counted(scraped: Scraped) -> None:
    """By transport, type and rcode."""
    host, port = scraped.sidecar.dns_address.host, scraped.sidecar.dns_address.port
    for _ in range(3):
        query = dns.message.make_query("web.prod.ecs.internal", "A")
        dns.query.udp(query, host, PATIENCE_S, port)
    dns.query.tcp(dns.message.make_query("x.prod.ecs.internal", "SRV"), host, PATIENCE_S, port)
    samples = scraped.samples()
    assert samples[f"{PREFIX}_dns_queries_total", ("NOERROR", "udp", "A")] == 3
    assert samples[f"{PREFIX}_dns_queries_total", ("NXDOMAIN", "tcp", "SRV")] == 1


def test_http_answers_are_counted(scraped: Scraped) -> None:
    """By what answered, errors too; paths are no labels, so that nobody makes more of them."""
    scraped.client.get("/v1/endpoints/web")
    scraped.client.get("/v1/endpoints/nope")
    for n in range(20):
        scraped.client.get(f"/nowhere/{n}")
    scraped.client.request("BREW", "/nowhere")
    samples = scraped.samples()
    assert samples[f"{PREFIX}_http_requests_total", ("endpoints", "GET", "200")] == 1
    assert samples[f"{PREFIX}_http_requests_total", ("endpoints", "GET", "404")] == 1
    assert samples[f"{PREFIX}_http_requests_total", ("none", "GET", "404")] == 20
    assert samples[f"{PREFIX}_http_requests_total", ("none", "other", "404")] == 1
    assert samples[f"{PREFIX}_http_request_seconds_count", ("endpoints",)] == 2


def test_waiting_is_no_latency(scraped: Scraped) -> None:
    """A blocking query takes as long as it was asked to."""
    index = scraped.sidecar.resolver.snapshot.index
    scraped.client.get(f"/v1/endpoints/web?index={index}&wait=1ms")
    samples = scraped.samples()
    assert samples[f"{PREFIX}_http_requests_total", ("endpoints", "GET", "200")] == 1
    assert (f"{PREFIX}_http_request_seconds_count", ("endpoints",)) not in samples


def test_what_is_known_can_be_read(scraped: Scraped, source: FixedSource) -> None:
    """Ready, index, ages, and what there is of each service, as it is at this moment."""
    samples = scraped.samples()
    assert samples[f"{PREFIX}_ready", ()] == 1
    assert samples[f"{PREFIX}_snapshot_index", ()] == scraped.sidecar.resolver.snapshot.index
    assert 0 <= samples[f"{PREFIX}_snapshot_age_seconds", ("prod",)] < PATIENCE_S
    assert samples[f"{PREFIX}_services", ("prod",)] == 2
    assert samples[f"{PREFIX}_endpoints", ("prod", "healthy")] == 2
    assert samples[f"{PREFIX}_service_endpoints", ("prod", "web")] == 2
    assert samples[f"{PREFIX}_service_excluded", ("prod", "empty")] == 1
    assert samples[f"{PREFIX}_cluster_failing", ("prod",)] == 0
    source.say(observed(replace(WEB, endpoints=(endpoint(9),)), at=time.time()))
    scraped.sidecar.resolver.refresh()
    assert scraped.value("service_endpoints", "prod", "web") == 1
    assert scraped.value("http_connections") == 1
    source.say(observed(error=SourceUnreachable("nobody answers")))
    with pytest.raises(SourceUnreachable):
        scraped.sidecar.resolver.refresh()
    assert scraped.value("cluster_failing", "prod") == 1
    assert scraped.value("refreshes_total", "prod", "source_unreachable") == 1
    scraped.sidecar.drain()
    assert scraped.value("ready") == 0


@pytest.fixture
def refusing() -> Iterator[int]:
    """A port that is taken, at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_connections_through_listeners_are_counted(
    scraped: Scraped, source: FixedSource, refusing: int
) -> None:
    """Those that lead nowhere, too, with the attempts that they were worth."""
    both = [replace(e, host="127.0.0.1", port=refusing) for e in WEB.endpoints]
    source.say(observed(replace(WEB, endpoints=tuple(both)), at=time.time()))
    scraped.sidecar.resolver.refresh()
    listening = scraped.sidecar.upstream_addresses[0]
    address = (listening.host, listening.port)
    with socket.create_connection(address, PATIENCE_S) as client, pytest.raises(ConnectionError):
        client.recv(1)
    until(lambda: scraped.value("upstream_failed_total", "web") == 1)
    samples = scraped.samples()
    assert samples[f"{PREFIX}_upstream_accepted_total", ("web",)] == 1
    assert samples[f"{PREFIX}_upstream_connections", ("web",)] == 0
    assert samples[f"{PREFIX}_requests_total", ()] >= 1
    assert samples[f"{PREFIX}_retries_total", ()] >= 1


def test_the_newer_format_is_spoken_too(scraped: Scraped) -> None:
    """Who asks for OpenMetrics gets what its parser reads."""
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    answer = scraped.client.get("/metrics", headers=accept)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    parsed = openmetrics.text_string_to_metric_families
    families = list(parsed(answer.text))  # type: ignore[no-untyped-call]  # it has no types
    assert f"{PREFIX}_dns_queries" in {family.name for family in families}


def test_stalls_are_seen(scraped: Scraped) -> None:
    """Of the interpreter and of both event loops; an event loop that is held up is late."""
    released = threading.Event()
    loop = scraped.sidecar._http.loop
    assert loop is not None
    until(lambda: scraped.value("stall_seconds_count", "upstreams") > 0)
    assert scraped.value("stall_seconds_count", INTERPRETER) > 0
    late = scraped.value("stall_seconds_bucket", "http", "0.1")
    whole = scraped.value("stall_seconds_count", "http")
    assert late <= whole
    before = whole - late
    loop.call_soon_threadsafe(released.wait, 1.0)
    until(
        lambda: (
            scraped.value("stall_seconds_count", "http")
            - scraped.value("stall_seconds_bucket", "http", "0.1")
            > before
        )
    )


def test_a_loop_that_does_not_answer_is_asked_once() -> None:
    """So that nothing piles up on it."""
    clock, heard = FakeClock(10.0), list[tuple[str, float]]()

    async def held_up() -> None:
        loop = asyncio.get_running_loop()
        loops = {"busy": lambda: loop, "none": lambda: None}
        stalls = Stalls(loops, lambda name, late_s: heard.append((name, late_s)), clock)
        for _ in range(5):
            stalls.look()
        clock.now += 3.0
        await asyncio.sleep(0)
        assert heard == [("busy", 3.0)]
        stalls.look()
        await asyncio.sleep(0)
        assert heard == [("busy", 3.0), ("busy", 0.0)]

    asyncio.run(held_up())


def test_the_table_names_every_metric(scraped: Scraped) -> None:
    """Name, kind and meaning as they are in the code, and an alert worth having or a dash."""
    written = {re.sub("[`]", "", name).partition("{")[0]: tuple(rest) for name, *rest in table()}
    text = scraped.client.get("/metrics").text
    families = {
        f.name: f for f in text_string_to_metric_families(text) if f.name.startswith(PREFIX)
    }
    names = {
        f"{name}_total" if family.type == "counter" else name: family
        for name, family in families.items()
        if not name.endswith("_created")
    }
    assert sorted(written) == sorted(names)
    for name, family in names.items():
        kind, meaning, alert = written[name]
        assert (kind, meaning) == (family.type, family.documentation), name
        assert alert, name


def expressions() -> list[str]:
    """Every PromQL expression of the dashboard, with a value for Grafana's own variables."""
    board = json.loads((TABLE.parent / "grafana.json").read_text())
    written = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [e.replace("$__rate_interval", "1m").replace("$instance", ".*") for e in written]


def alerts() -> list[str]:
    """The expressions of the alerts in the table."""
    found = (re.match("`([^`]+)`", row[3]) for row in table())
    return [match[1].replace("\\|", "|") for match in found if match]


def test_dashboard_and_alerts_use_nothing_else() -> None:
    """Every metric in them stands in the table, with labels that it has."""
    known = {}
    for name, *_ in table():
        whole, _, labels = name.strip("`").partition("{")
        known[whole] = {"instance", "le", *labels.rstrip("}").split(",")}
    used = [e for e in (*expressions(), *alerts()) if PREFIX in e]
    assert len(used) > 30
    for expression in used:
        for name, labels in re.findall(rf"({PREFIX}\w+)(?:{{([^}}]*)}})?", expression):
            whole = re.sub("_(bucket|sum|count)$", "", name)
            assert whole in known, expression
            assert {
                label.split("=")[0].rstrip("!") for label in labels.split(",") if label
            } <= known[whole], expression


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_can_read_every_expression(tmp_path: Path) -> None:
    """As rules; promtool comes with Prometheus."""
    rules = [
        {"alert": f"Alert{n}", "expr": expression}
        for n, expression in enumerate([*expressions(), *alerts()])
    ]
    path = tmp_path / "rules.json"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
