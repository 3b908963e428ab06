"""Refreshes, AWS calls and attempts of requests as OpenTelemetry spans: a listener.

The library is imported when it is first needed, and configured by its own environment variables
(`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, …). Spans are made when what they tell of has
ended, as events are; a span of a refresh and those of its calls stand side by side. Those of
attempts belong to the span that is current where the request is made, and are as
https://opentelemetry.io/docs/specs/semconv/http/http-spans/ has them: one for each time that it is
sent. As they are made at its end, the request carries no trace of them; that is for whatever
instruments the HTTP client.
"""

import importlib.util
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from discovery.errors import BadSetting
from discovery.events import Attempted, CallMade, Event, Refreshed, RefreshFailed

if TYPE_CHECKING:
    from opentelemetry.trace import SpanKind, TracerProvider

_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
_PORTS = {"http": 80, "https": 443}

Attributes = dict[str, str | int]


class Spans:
    """Makes spans of events, for any thread: `Resolver(listeners=Listeners(Spans()))`.

    They are made by `provider`, else by the one that the program has set, which sends them as it
    is told to. Raises `BadSetting` without the extra `[otel]`.
    """

    def __init__(
        self,
        provider: "TracerProvider | None" = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        _need("opentelemetry.trace")
        from opentelemetry.trace import SpanKind, StatusCode, get_tracer_provider

        self._tracer = (provider or get_tracer_provider()).get_tracer("ecs-discovery")
        self._clock_ns = clock_ns
        self._client, self._own = SpanKind.CLIENT, SpanKind.INTERNAL
        self._failed = StatusCode.ERROR

    def __call__(self, event: Event) -> None:
        """The span of an event that has a time, or a failure."""
        match event:
            case Attempted():
                self._attempted(event)
            case CallMade():
                # https://opentelemetry.io/docs/specs/semconv/cloud-providers/aws-sdk/
                about: Attributes = {"rpc.method": event.operation}
                about["ecs_discovery.reason"] = event.reason
                name = f"AWS {event.operation}"
                self._span(name, event.seconds, self._client, about, event.error)
            case Refreshed():
                found = {"services": event.services, "endpoints": event.endpoints}
                about = {f"ecs_discovery.{key}": value for key, value in found.items()}
                about["ecs_discovery.cluster"] = event.cluster
                self._span("refresh", event.seconds, self._own, about)
            case RefreshFailed():
                about = {"ecs_discovery.cluster": event.cluster, "error.type": event.error.code}
                self._span("refresh", 0.0, self._own, about, event.error.message)

    def _attempted(self, event: Attempted) -> None:
        method = event.method if event.method in _METHODS else "HTTP"
        failed = event.status is None or event.status >= 400
        # What the status or the type of the error says already is no description.
        error = "" if failed else None
        self._span(method, event.seconds, self._client, _attributes(event), error)

    def _span(
        self,
        name: str,
        seconds: float,
        kind: "SpanKind",
        about: Mapping[str, str | int],
        error: str | None = None,
    ) -> None:
        ended = self._clock_ns()
        began = ended - int(seconds * 1e9)
        span = self._tracer.start_span(name, kind=kind, attributes=about, start_time=began)
        if error is not None:
            span.set_status(self._failed, error or None)
        span.end(ended)


def _attributes(event: Attempted) -> Attributes:
    url = urlsplit(event.url)
    about: Attributes = {
        "http.request.method": event.method,
        "url.full": event.url,
        "server.address": url.hostname or "",
        "server.port": url.port or _PORTS.get(url.scheme, 0),
        "network.peer.address": event.host,
        "network.peer.port": event.port,
        "ecs_discovery.service": event.service,
    }
    if event.method not in _METHODS:
        about["http.request.method"] = "_OTHER"
        about["http.request.method_original"] = event.method
    if event.task_arn is not None:
        about["ecs_discovery.task_arn"] = event.task_arn
    if event.resend:
        about["http.request.resend_count"] = event.resend
    if event.status is not None:
        about["http.response.status_code"] = event.status
    if event.status is None or event.status >= 400:
        about["error.type"] = event.error or str(event.status)
    return about


class Exported(Spans):
    """Spans that are sent by OTLP over HTTP. Raises `BadSetting` without the library."""

    def __init__(self) -> None:
        _need("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(resource=Resource.create({"service.name": "ecs-discovery"}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        super().__init__(provider)
        self._close = provider.shutdown

    def close(self) -> None:
        """Send what is left; nothing afterwards."""
        self._close()


def _need(*modules: str) -> None:
    if not all(map(_is_there, modules)):
        raise BadSetting("traces", True, "pip install 'ecs-discovery[otel]' for OpenTelemetry")


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
