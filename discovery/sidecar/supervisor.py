"""The sidecar as one object: a resolver of whole clusters, a DNS server and an HTTP server.

Rule 1: addresses are bound before anything is read, so that a taken port is said at once.
Rule 2: a source that fails at the start is tried again and again; readiness says why.
Rule 3: while draining it is not ready and answers as before; what answers ends before what reads.
"""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from discovery import tracing
from discovery.client.resolver import Resolver
from discovery.client.upstreams import Upstreams
from discovery.dns.server import DnsServer
from discovery.dns.sharing import is_taken
from discovery.errors import AddressUnusable, BadSetting
from discovery.events import Listeners
from discovery.settings import Settings
from discovery.sidecar import descriptors
from discovery.sidecar.access import age_and_index
from discovery.sidecar.adapters.routes import Adapters
from discovery.sidecar.app import Answers, application
from discovery.sidecar.connections import bounded
from discovery.sidecar.doh import DnsOverHttp
from discovery.sidecar.emf import Emf
from discovery.sidecar.garbage import Garbage
from discovery.sidecar.levels import Levels
from discovery.sidecar.listening import HttpServer, unusable
from discovery.sidecar.metrics import Counted, Metrics
from discovery.sidecar.page import Page
from discovery.sidecar.resolvers import Resolvers
from discovery.sidecar.stalls import Stalls
from discovery.sidecar.tls import Certificate
from discovery.sidecar.waits import Waits
from discovery.sources.base import Source
from discovery.sources.secrets import Renewed
from discovery.written import Address

# The DNS thread waits this long for each thread that computes; the default of 5 ms is felt.
SWITCH_INTERVAL_S = 0.0001

_LOOK_S = 0.1
_MOST_LOOKS = 300  # for task definitions, before those that are there have to do


class Sidecar:
    """Serves what a resolver knows, from `start` (or `with`) to `close`.

    `source` replaces the one that the settings name; the sidecar closes it. Methods are for the
    thread that made it, `missing` for any.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        source: Source | None = None,
        listeners: Listeners | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        listeners = listeners or Listeners()
        self._settings = settings
        self._draining = False
        self._spans = tracing.Exported() if settings.traces else None
        if self._spans is not None:
            listeners.subscribe(self._spans)
        self._garbage = Garbage()
        listeners.subscribe(self._garbage)
        self.resolver = Resolver(
            source=source, settings=settings, whole=True, listeners=listeners, clock=clock
        )
        self._dns = DnsServer(
            (settings.dns.host, settings.dns.port),
            lambda: self.resolver.snapshot,
            zone=settings.zone,
            ttl_s=settings.ttl_s,
            negative_ttl_s=settings.negative_ttl_s,
            ordering=settings.dns_order,
            forward=Resolvers(settings.forward, settings.dns) if settings.forward else None,
            clients=settings.dns_clients or None,
            clock=clock,
            listeners=listeners,
            shared=settings.share_address,
        )
        self._dns_bound = False
        descriptors.raise_limit()
        most = descriptors.connections()
        self._waits = Waits(self.resolver, descriptors.waits(most))
        answers = Answers(self.resolver, self._waits, self.missing, settings.zone, clock)
        self._upstreams = Upstreams(
            self.resolver, settings.upstreams, shared=settings.share_address
        )
        page = Page(self.resolver, self.missing, clock)
        metrics = Metrics(self._levels(clock))
        listeners.subscribe(metrics)
        beside = [*DnsOverHttp(self._dns.answering).routes(), *metrics.routes(), *page.routes()]
        beside += Adapters(lambda: self.resolver.snapshot, settings.zone, clock).routes()
        token = Renewed(settings.http_token, "http_token") if settings.http_token else None
        app = application(answers, settings.allowed_hosts, beside, token)
        connection = bounded(most, lambda: age_and_index(self.resolver.snapshot, clock()))
        self._http = HttpServer(
            *(Counted(app, metrics), settings.http, connection),
            shared=settings.share_address,
            certificate=_certificate(settings),
        )
        loops = {"http": lambda: self._http.loop, "upstreams": lambda: self._upstreams.loop}
        self._stalls = Stalls(loops, metrics.stalled)
        emf = Emf(metrics.registry, lambda: self.resolver.snapshot.labels, clock=clock)
        self._emf = emf if settings.emf else None

    @property
    def dns_address(self) -> Address:
        """Where the DNS server listens."""
        return Address(*self._dns.address[:2])

    @property
    def http_address(self) -> Address:
        """Where the HTTP server listens."""
        return self._http.address

    @property
    def url(self) -> str:
        """Where the HTTP server answers."""
        return f"{'https' if self._settings.tls_cert else 'http'}://{self.http_address}"

    @property
    def upstream_addresses(self) -> tuple[Address, ...]:
        """Where the upstreams' ports are, in the order of the setting."""
        return self._upstreams.addresses

    @property
    def is_alive(self) -> bool:
        """Whether its servers were started and have not ended."""
        return self._dns.is_alive and self._http.is_alive and self._upstreams.is_alive

    def missing(self) -> tuple[str, ...]:
        """What keeps it from being ready, in sentences; nothing when it is ready."""
        if self._draining:
            return ("it is stopping",)
        listeners = (
            () if self._dns_bound else (f"dns: {self._settings.dns} is not bound yet",)
        ) + (() if self._http.is_up else (f"http: {self._settings.http} is not bound yet",))
        return (*listeners, *self.resolver.unready)

    def start(self) -> None:
        """Bind, begin to read, and return. Raises `AddressUnusable`."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._garbage.start()
        try:
            self._bind(self._settings.dns, "--dns", self._dns.start)
            self._dns_bound = True
            self._bind(self._settings.http, "--http", self._http.start)
            self._start_upstreams()
        except AddressUnusable:
            self.close()
            raise
        self._stalls.start()
        if self._emf is not None:
            self._emf.start()
        self.resolver.start()

    def await_turn(self, pause: Callable[[float], object]) -> bool:
        """Where another sidecar shares our address, read until we can answer as well as it does.

        Returns when it is time to `start`, also because the other one is gone; false where `pause`,
        which waits for so many seconds, returned something. Without `share_address`: at once.
        """
        if not self._settings.share_address or not self._settings.dns.port:
            return True
        self.resolver.start()
        looks = 0
        while is_taken(self._settings.dns.host, self._settings.dns.port) and (
            self.resolver.unready or self._is_partial(looks)
        ):
            looks += 1
            if pause(_LOOK_S) is not None:
                return False
        return True

    def _is_partial(self, looks: int) -> bool:
        """Whether definitions that name ports are being read, which may not last for ever."""
        services = self.resolver.snapshot.services.values()
        return looks < _MOST_LOOKS and any(s.definitions_pending for s in services)

    def drain(self) -> None:
        """Be not ready from now on, while answers go on.

        What is new goes to the sidecar that shares our address, where there is one.
        """
        self._draining = True
        self._upstreams.hand_over()
        self._http.hand_over()
        self._dns.hand_over()

    def close(self) -> None:
        """Stop answering, then reading; safe to call twice."""
        self.drain()
        self._waits.end()
        self._stalls.close()
        if self._emf is not None:
            self._emf.close()
        self._upstreams.close()
        self._http.close()
        self._dns.close()
        self._dns_bound = False
        self.resolver.close()
        if self._spans is not None:
            self._spans.close()
        self._garbage.close()

    def _levels(self, clock: Callable[[], float]) -> Levels:
        return Levels(
            self.resolver,
            lambda: self._dns.tallies,
            lambda: self._upstreams.taken,
            lambda: self._waits.waiting,
            lambda: self._http.connections,
            self.missing,
            clock,
        )

    def _bind(self, address: Address, flag: str, start: Callable[[], object]) -> None:
        try:
            start()
        except OSError as error:
            raise unusable(address, flag, error) from error

    def _start_upstreams(self) -> None:
        if not self._settings.upstreams:
            return
        try:
            self._upstreams.start()
        except OSError as error:
            taken = [u for u in self._settings.upstreams if str(u.address) == error.filename]
            raise unusable(taken[0].address, "--upstream", error) from error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _certificate(settings: Settings) -> Certificate | None:
    if settings.tls_cert is None:
        if settings.tls_key is not None:
            raise BadSetting("tls_key", settings.tls_key, "tls_cert, the certificate, beside it")
        return None
    return Certificate(settings.tls_cert, settings.tls_key)
