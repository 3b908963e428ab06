"""Active probes: asks endpoints themselves whether they are well, if settings say so.

Rule 1: off unless a service has a probe. At most `AT_ONCE` probes are under way, each for at most
`TIMEOUT_S`, and an endpoint is never asked twice at a time.
Rule 2: what comes of them is evidence like any other: `Checks` owns it.
Rule 3: a probe is about life, not identity: TLS certificates are not verified.
"""

import importlib.util
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING

from discovery.balancing.policy import Chance
from discovery.catalog.checks import Checks
from discovery.catalog.connecting import connected
from discovery.errors import BadSetting
from discovery.events import Checked, Listeners
from discovery.health.evidence import Subject, subject_of
from discovery.health.probing import Thresholds, grpc_failure, grpc_request, probe_of
from discovery.model import SERVES, Endpoint
from discovery.probe import Probe
from discovery.settings import Settings

if TYPE_CHECKING:
    import httpx

_log = logging.getLogger("discovery")

AT_ONCE = 20
TIMEOUT_S = 2.0
JITTER = 0.1  # of the interval, either way
_LOOK_S = 0.5  # how soon a new endpoint is seen
_MOST_BYTES = 4_096  # of an answer to a gRPC probe, which is a handful

Clock = Callable[[], float]


@dataclass(slots=True)
class _Times:
    """When each endpoint is due, and which ones are being asked."""

    due: dict[Subject, float] = field(default_factory=dict)
    under_way: set[Subject] = field(default_factory=set)


class Probes:
    """Asks endpoints from `start` to `abandon`. Raises `BadSetting` where a library is missing."""

    def __init__(
        self,
        checks: Checks,
        settings: Settings,
        listeners: Listeners | None = None,
        chance: Chance | None = None,
        monotonic: Clock = time.monotonic,
    ) -> None:
        asks_grpc = any(probe.kind == "grpc" for probe in settings.probes)
        if asks_grpc and not importlib.util.find_spec("h2"):
            raise BadSetting("probes", "grpc", "pip install 'ecs-discovery[grpc]' for gRPC probes")
        self._checks = checks
        self._probes = settings.probes
        self._thresholds = Thresholds(settings.probe_rise, settings.probe_fall)
        self._interval_s = settings.probe_interval_s
        self._listeners = listeners or Listeners()
        self._chance = chance or Random()
        self._monotonic = monotonic
        self._ask = Asking(min(TIMEOUT_S, self._interval_s))
        self._closed = False
        self.renew_after_fork()

    def renew_after_fork(self) -> None:
        """In the child of a fork: threads and connections are the parent's."""
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._times = _Times()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start to ask, unless that was done."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._run, name="discovery-probes", daemon=True
                )
                self._thread.start()

    def abandon(self) -> None:
        """Have all threads end by themselves soon; takes no lock, never blocks."""
        self._closed = True

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop, and wait for what is under way."""
        self.abandon()
        self._woken.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        with ThreadPoolExecutor(AT_ONCE, "discovery-probe") as pool:
            while not self._closed:
                for endpoint, probe in self._due():
                    try:
                        pool.submit(self._one, endpoint, probe)
                    except RuntimeError:  # the interpreter is ending
                        return
                self._woken.wait(_LOOK_S)
        self._ask.close()

    def _due(self) -> list[tuple[Endpoint, Probe]]:
        """Those whose turn it is; each is under way from now on."""
        now, found = self._monotonic(), []
        there: set[Subject] = set()
        with self._lock:
            times = self._times
            for endpoint, probe in self._probed():
                subject = subject_of(endpoint)
                there.add(subject)
                if subject not in times.under_way and times.due.get(subject, now) <= now:
                    times.under_way.add(subject)
                    found.append((endpoint, probe))
            times.due = {s: at for s, at in times.due.items() if s in there}
        return found

    def _probed(self) -> Iterator[tuple[Endpoint, Probe]]:
        for service in self._checks.read.services.values():
            probe = probe_of(service, self._probes)
            if probe is not None:
                for e in service.endpoints:
                    if e.protocol == "tcp" and e.health in SERVES:
                        yield e, probe

    def _one(self, endpoint: Endpoint, probe: Probe) -> None:
        if self._closed:
            return
        subject, began = subject_of(endpoint), self._monotonic()
        try:
            failure = self._ask.failure(endpoint, probe)
            standing = self._checks.standing(subject).after(failure, self._thresholds)
            self._checks.stands({subject: standing})
        except Exception:  # a mistake of ours is no failure of an endpoint
            _log.exception("probing %s failed", endpoint.authority)
            return
        finally:
            pause_s = self._interval_s * (1 + JITTER * (2 * self._chance.random() - 1))
            with self._lock:
                self._times.under_way.discard(subject)
                self._times.due[subject] = self._monotonic() + pause_s
        result = "passed" if failure is None else "failed"
        self._listeners.emit(Checked(probe.kind, result, self._monotonic() - began))


class Asking:
    """Asks one endpoint; any thread may."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    def failure(self, endpoint: Endpoint, probe: Probe) -> str | None:
        """Why the probe fails, in words that do not change from one time to the next."""
        if probe.kind == "tcp":
            return self._tcp(endpoint)
        import httpx

        try:
            asked = self._http if probe.kind == "http" else self._grpc
            return asked(endpoint, probe)
        except httpx.TimeoutException:
            return f"{probe.kind}: timed out"
        except httpx.ConnectError:
            return f"{probe.kind}: it cannot be connected to"
        except httpx.TransportError as error:
            return f"{probe.kind}: {type(error).__name__}"

    def close(self) -> None:
        """Give back what was opened."""
        for name in ("_client", "_grpc_client"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    def _tcp(self, endpoint: Endpoint) -> str | None:
        place = (endpoint.host, endpoint.port)
        result, why = connected([place], self._timeout_s).get(place, ("untried", ""))
        if result in ("accepted", "untried"):
            return None
        return "tcp: it refuses connections" if result == "refused" else f"tcp: {why}"

    def _http(self, endpoint: Endpoint, probe: Probe) -> str | None:
        with self._client.stream("GET", f"{endpoint.url}{probe.target}") as response:
            status = response.status_code
        first, last = probe.statuses
        return None if first <= status <= last else f"http: GET {probe.target}: status {status}"

    def _grpc(self, endpoint: Endpoint, probe: Probe) -> str | None:
        with self._grpc_client.stream(
            "POST",
            f"{endpoint.url}/grpc.health.v1.Health/Check",
            headers={"content-type": "application/grpc", "te": "trailers"},
            content=grpc_request(probe.target),
        ) as response:
            body = b""
            for part in response.iter_raw():
                body += part
                if len(body) > _MOST_BYTES:
                    break
        return grpc_failure(response.status_code, response.headers.get("grpc-status"), body)

    @cached_property
    def _client(self) -> "httpx.Client":
        return self._made(http2=False)

    @cached_property
    def _grpc_client(self) -> "httpx.Client":
        return self._made(http2=True)

    def _made(self, http2: bool) -> "httpx.Client":
        import httpx

        return httpx.Client(
            verify=False,
            trust_env=False,
            timeout=self._timeout_s,
            limits=httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=0),
            http1=not http2,
            http2=http2,
        )
