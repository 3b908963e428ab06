"""The paths of proxies and monitors, each of which wants all services in a form of its own.

Rule 1: who replaces all it has by what we say is told nothing before all of it was read, so that a
restart of ours takes nothing from anybody; `?cluster=` asks for one cluster, which needs no other.
Rule 2: documents are made beside the event loop, once for all who ask, and kept while the snapshot
has the same index. What one asks for by names is bounded, and not kept.
"""

import asyncio
import gzip
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from discovery.documents import Document, in_order
from discovery.errors import BadName, Expired, NotReady, UnknownName
from discovery.model import Service, Snapshot
from discovery.names import endpoints_at
from discovery.sidecar.access import INDEX
from discovery.sidecar.adapters import envoy, prometheus, traefik
from discovery.sidecar.adapters.offers import offers
from discovery.sidecar.adapters.told import Told
from discovery.sidecar.bodies import TooLarge, body_of
from discovery.sidecar.feed import takes_gzip
from discovery.sidecar.lookup import looked_up, unloaded
from discovery.sidecar.tags import tag_of, tagged

MOST_KEPT = 32
MOST_OCTETS = 1 << 20  # of a request
MOST_NAMES = 1_000  # in one; Envoy asks for the endpoints of one cluster at a time
_LEVEL = 1
_Kept = TypeVar("_Kept")


class UnknownCluster(UnknownName):
    """No cluster has this label; `suggestions` are the labels there are."""

    code = "unknown_cluster"
    kind = "cluster"


@dataclass(slots=True)
class Made:
    """Documents of one index. Belongs to one event loop."""

    _index: int = -1
    _kept: dict[Hashable, asyncio.Future[Any]] = field(default_factory=dict)

    async def at(self, index: int, key: Hashable, make: Callable[[], _Kept]) -> _Kept:
        """What `make` makes of that key at that index, in a thread."""
        if index != self._index or len(self._kept) >= MOST_KEPT:
            self._index, self._kept = index, {}
        making = self._kept.get(key)
        if making is None:
            making = self._kept[key] = asyncio.ensure_future(asyncio.to_thread(make))
        made: _Kept = await asyncio.shield(making)
        return made


@dataclass(frozen=True, slots=True)
class Adapters:
    """The handlers. `snapshot` is what is known now, `clock` seconds since the epoch."""

    snapshot: Callable[[], Snapshot]
    zone: str = "ecs.internal"
    clock: Callable[[], float] = time.time
    made: Made = field(default_factory=Made)
    told: Told = field(default_factory=Told)

    def routes(self) -> list[Route]:
        """The paths of this interface."""
        return [
            Route("/sd/prometheus", self.prometheus),
            Route("/sd/traefik", self.traefik),
            Route("/v3/discovery:clusters", self.clusters, methods=["POST"]),
            Route("/v3/discovery:endpoints", self.assignments, methods=["POST"]),
        ]

    async def prometheus(self, request: Request) -> Response:
        """Targets for `http_sd_configs`."""
        return await self._all(request, prometheus.targets)

    async def traefik(self, request: Request) -> Response:
        """Services for Traefik's http provider."""
        return await self._all(request, traefik.configuration)

    async def clusters(self, request: Request) -> Response:
        """Envoy's clusters: all, or those that are named."""
        asked = await _asked(request)
        snapshot = self.snapshot()
        services = self._whole(snapshot)
        # Envoy writes the name of the cluster that leads to us where others have a host.
        xds = request.headers.get("host", "")
        if asked.names:
            wanted = frozenset(asked.names)
            found = [o for s in services for o in offers(s) if o.name in wanted]
            made = envoy.response(envoy.CLUSTER, [envoy.cluster(offer, xds) for offer in found])
            return _answer(made, asked, snapshot)

        def make() -> envoy.Response:
            found = (offer for service in services for offer in offers(service))
            return envoy.response(envoy.CLUSTER, [envoy.cluster(offer, xds) for offer in found])

        made = await self.made.at(snapshot.index, ("clusters", xds), make)
        return _answer(made, asked, snapshot)

    async def assignments(self, request: Request) -> Response:
        """Envoy's endpoints of the clusters that are named, or of all."""
        asked = await _asked(request)
        snapshot, now = self.snapshot(), self.clock()
        if asked.names:
            found = [self._assignment(snapshot, name, now) for name in asked.names]
            resources = [one for one in found if one is not None]
            return _answer(envoy.response(envoy.ASSIGNMENT, resources), asked, snapshot)
        services = self._whole(snapshot)

        def make() -> envoy.Response:
            several = (offer for service in services for offer in offers(service))
            every = [envoy.assignment(o.name, o.endpoints) for o in several]
            return envoy.response(envoy.ASSIGNMENT, every)

        return _answer(await self.made.at(snapshot.index, "endpoints", make), asked, snapshot)

    def _assignment(self, snapshot: Snapshot, text: str, now: float) -> Document | None:
        try:
            name, service = looked_up(snapshot, text, self.zone, now)
            found = endpoints_at(service, name) if service is not None else None
        except (BadName, UnknownName):
            return None
        if found is None:
            return None
        return envoy.assignment(text, (e for e in found if e.protocol == "tcp"))

    async def _all(self, request: Request, make: Callable[[Iterable[Service]], object]) -> Response:
        snapshot, labels = self.snapshot(), request.query_params.getlist("cluster")
        services = self._whole(snapshot, labels)
        packed = takes_gzip(request.headers.get("accept-encoding", ""))

        def body() -> bytes:
            octets = msgspec.json.encode(make(services)) + b"\n"
            return gzip.compress(octets, _LEVEL, mtime=0) if packed else octets

        said = await self.made.at(snapshot.index, (make, packed, *labels), body)
        answer = _json(said, snapshot)
        if packed:
            answer.headers["Content-Encoding"] = "gzip"
        return tagged(request, answer, tag_of(request, snapshot.index))

    def _whole(self, snapshot: Snapshot, labels: Sequence[str] = ()) -> list[Service]:
        services = whole(snapshot, labels, self.clock())
        self.told.check(services, self.clock())
        return services


async def _asked(request: Request) -> envoy.Asked:
    asked = envoy.asked(await body_of(request, MOST_OCTETS))
    if len(asked.names) > MOST_NAMES:
        raise TooLarge(f"resource_names: at most {MOST_NAMES} names can be asked for at once")
    return asked


def whole(snapshot: Snapshot, labels: Sequence[str], now: float) -> list[Service]:
    """Every service of these clusters, of all where there are none, in the order of documents.

    Raises `UnknownCluster`, and `NotReady` or `Expired` where anything is missing or too old.
    """
    wanted = {label.lower() for label in labels or snapshot.labels}
    for label in labels:
        if snapshot.cluster(label) is None:
            raise UnknownCluster(label, snapshot.labels)
    missing = unloaded(snapshot, wanted)
    if missing or not snapshot.clusters:
        raise NotReady("; ".join(missing) or "nothing is loaded yet")
    services = [s for s in in_order(snapshot) if s.cluster.lower() in wanted]
    for service in services:
        if snapshot.is_expired(service, now):
            raise Expired(f"what is known of {service.full_name} is too old to be served")
    return services


def _answer(made: envoy.Response, asked: envoy.Asked, snapshot: Snapshot) -> Response:
    """The answer to a DiscoveryRequest, empty where Envoy has this version already."""
    if made.version == asked.version:
        return Response(status_code=304, headers={INDEX: str(snapshot.index)})
    return _json(made.body, snapshot)


def _json(body: bytes, snapshot: Snapshot) -> Response:
    headers = {INDEX: str(snapshot.index)}
    return Response(body, headers=headers, media_type="application/json")
