"""What the sidecar counts, for Prometheus: a listener of events, and `/metrics`.

Rule 1: the registry is our own, nothing is global. Rule 2: what can be read when somebody asks is
in `levels`; only what would be gone by then is counted here. Rule 3: the values of every label are
bounded, whatever comes from the network.
"""

import asyncio
import time
from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    Summary,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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

PREFIX = "ecs_discovery"
MOST_REASONS = 32
_STALLS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)
_ANSWERS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)
_CALLS_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class Metrics:
    """Counts events and requests. May be called from any thread.

    `beside` are collectors of what is read when somebody asks.
    """

    def __init__(self, *beside: Collector) -> None:
        self.registry = registry = CollectorRegistry()
        for collector in beside:
            registry.register(collector)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._reasons: set[str] = set()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", meaning, labels, registry=registry)

        def summary(name: str, meaning: str, *labels: str) -> Summary:
            return Summary(f"{PREFIX}_{name}", meaning, labels, registry=registry)

        def histogram(name: str, meaning: str, edges: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"{PREFIX}_{name}", meaning, labels, registry=registry, buckets=edges)

        self._calls = counter("aws_calls", "AWS calls by outcome", "operation", "result")
        self._call_s = histogram("aws_call_seconds", "Time of AWS calls", _CALLS_S, "operation")
        self._throttles = counter("aws_throttles", "Calls that AWS throttled", "group")
        self._waits = summary("budget_wait_seconds", "Waits for our share of a rate limit", "group")
        self._refreshes = counter("refreshes", "Loads of a cluster by outcome", "cluster", "result")
        self._refresh_s = summary("refresh_seconds", "Time of loads that learned", "cluster")
        self._published = counter("snapshots", "Snapshots published with other content")
        self._changes = counter("service_changes", "Services that differed in a new snapshot")
        self._dropped = counter("dns_dropped", "DNS packets without an answer", "reason")
        self._checks = counter("checks", "Endpoints connected to or probed", "kind", "result")
        self._check_s = summary("check_seconds", "Time of connecting and probing", "kind")
        self._requests = counter(
            "http_requests", "HTTP requests answered", "handler", "method", "status"
        )
        self._request_s = histogram(
            "http_request_seconds", "Time to the head of an answer", _ANSWERS_S, "handler"
        )
        self._stalls = histogram(
            "stall_seconds", "How late a thread or an event loop had its turn", _STALLS_S, "loop"
        )

    def __call__(self, event: Event) -> None:
        """Count it."""
        match event:
            case CallMade():
                self._calls.labels(event.operation, event.result).inc()
                self._call_s.labels(event.operation).observe(event.seconds)
            case Throttled():
                self._throttles.labels(event.group).inc()
            case BudgetWaited():
                self._waits.labels(event.group).observe(event.seconds)
            case Refreshed():
                self._refreshes.labels(event.cluster, "ok").inc()
                self._refresh_s.labels(event.cluster).observe(event.seconds)
            case RefreshFailed():
                self._refreshes.labels(event.cluster, event.error.code).inc()
            case Published():
                self._published.inc()
                self._changes.inc(len(event.changed))
            case QueryDropped():
                self._dropped.labels(self._bounded(event.reason)).inc()
            case Checked():
                self._checks.labels(event.kind, event.result).inc()
                self._check_s.labels(event.kind).observe(event.seconds)

    def answered(self, handler: str, method: str, status: int, seconds: float | None) -> None:
        """An HTTP request; `seconds` to the head of its answer, unless it was to wait."""
        method = method if method in _METHODS else "other"
        self._requests.labels(handler, method, str(status)).inc()
        if seconds is not None:
            self._request_s.labels(handler).observe(seconds)

    def stalled(self, loop: str, seconds: float) -> None:
        """A thread or an event loop was looked at."""
        self._stalls.labels(loop).observe(seconds)

    def routes(self) -> list[Route]:
        """`/metrics`."""

        async def metrics(request: Request) -> Response:
            encode, media_type = choose_encoder(request.headers.get("Accept", ""))
            body = await asyncio.to_thread(encode, self.registry)
            return Response(body, headers={"Content-Type": media_type})

        return [Route("/metrics", metrics)]

    def _bounded(self, reason: str) -> str:
        """What is before the details; `other` when there are too many."""
        short = reason.partition(":")[0]
        if short not in self._reasons and len(self._reasons) >= MOST_REASONS:
            return "other"
        self._reasons.add(short)
        return short


class Counted:
    """Around an application: counts its answers by the handler that gave them."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and count when the head of the answer leaves."""
        began = self._monotonic()

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                handler = getattr(scope.get("endpoint"), "__name__", "none")
                took_s = None if b"index=" in scope["query_string"] else self._monotonic() - began
                self._metrics.answered(handler, scope["method"], message["status"], took_s)
            await send(message)

        await self._app(scope, receive, counting)
