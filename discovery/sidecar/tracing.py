"""Refreshes and AWS calls as OpenTelemetry spans: a listener, off unless a setting says so.

The library is imported when it is first needed, and configured by its own environment variables
(`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, …). Spans are made when what they tell of has
ended, as events are; a span of a refresh and those of its calls stand side by side.
"""

import importlib.util
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from discovery.errors import BadSetting
from discovery.events import CallMade, Event, Refreshed, RefreshFailed

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import SpanKind

_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


class Spans:
    """Makes spans of events, for any thread; `close` sends what is left."""

    def __init__(
        self, provider: "TracerProvider", clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        from opentelemetry.trace import SpanKind, StatusCode

        self._provider = provider
        self._tracer = provider.get_tracer("ecs-discovery")
        self._clock_ns = clock_ns
        self._client, self._own = SpanKind.CLIENT, SpanKind.INTERNAL
        self._failed = StatusCode.ERROR

    def __call__(self, event: Event) -> None:
        """The span of an event that has a time, or a failure."""
        match event:
            case CallMade():
                # https://opentelemetry.io/docs/specs/semconv/cloud-providers/aws-sdk/
                about = {"rpc.method": event.operation, "ecs_discovery.reason": event.reason}
                name = f"AWS {event.operation}"
                self._span(name, event.seconds, self._client, about, event.error)
            case Refreshed():
                found = {"services": event.services, "endpoints": event.endpoints}
                about = {f"ecs_discovery.{key}": str(value) for key, value in found.items()}
                about["ecs_discovery.cluster"] = event.cluster
                self._span("refresh", event.seconds, self._own, about)
            case RefreshFailed():
                about = {"ecs_discovery.cluster": event.cluster, "error.type": event.error.code}
                self._span("refresh", 0.0, self._own, about, event.error.message)

    def close(self) -> None:
        """Send what is left; nothing afterwards."""
        self._provider.shutdown()

    def _span(
        self,
        name: str,
        seconds: float,
        kind: "SpanKind",
        about: dict[str, str],
        error: str | None = None,
    ) -> None:
        ended = self._clock_ns()
        began = ended - int(seconds * 1e9)
        span = self._tracer.start_span(name, kind=kind, attributes=about, start_time=began)
        if error is not None:
            span.set_status(self._failed, error)
        span.end(ended)


def spans() -> Spans:
    """Spans that are exported by OTLP over HTTP. Raises `BadSetting` without the library."""
    if not all(_is_there(name) for name in _NEEDED):
        raise BadSetting("traces", True, "pip install 'ecs-discovery[otel]' for OpenTelemetry")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "ecs-discovery"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider)


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
