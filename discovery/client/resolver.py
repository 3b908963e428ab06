"""The resolver: what users import, and what the servers ask.

Rule 1: a call for a known name is a plain function over the published snapshot: no lock, no await.
Rule 2: a call for a name that was never read waits for one shared load; it never says "not found"
because a load is under way, and never because one failed.
Rule 3: nothing is read, and no thread runs, before the first call that needs data.
"""

import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from operator import attrgetter
from random import Random
from types import TracebackType
from typing import Self

from discovery import documents
from discovery.balancing.latency import Latency
from discovery.balancing.policy import Chance, MakePolicy
from discovery.balancing.pool import Balancing, Pool
from discovery.catalog.refresher import Timing
from discovery.client.allowance import Spent
from discovery.client.attempts import Route
from discovery.client.lease import Lease
from discovery.client.lookup import Found, Lookup
from discovery.client.opening import configured
from discovery.client.parts import assembled
from discovery.client.picks import Picks
from discovery.client.waiting import drive, drive_async
from discovery.events import Listeners
from discovery.model import Change, Endpoint, Identity, Service, Snapshot
from discovery.names import parse
from discovery.settings import Settings
from discovery.sources.base import Source
from discovery.written import ClusterSettings

_MOST_SHOWN = 20


class Resolver:
    """Service names to endpoints, from memory that is refreshed in the background.

    `cluster` is a name, `REGION/NAME` or an ARN, or several, the default first; without one, the
    settings' clusters. `source` is `ecs`, `file:PATH` or a `Source`, which the resolver closes.
    With `whole` it reads all services of its clusters, otherwise only those asked for. Endpoints in
    our own availability zone come first: that of `balancing`, else the setting's, else our task's.

    All methods may be called from any thread, and those named `a…` from any event loop. A first
    call for a name blocks for up to `timeout_s`; later ones read memory. After a fork the child
    refreshes by itself from its next call on. Errors are `DiscoveryError`s.
    """

    def __init__(
        self,
        cluster: str | ClusterSettings | Sequence[str | ClusterSettings] | None = None,
        *,
        source: str | Source | None = None,
        settings: Settings | None = None,
        whole: bool = False,
        policy: MakePolicy = Latency,
        balancing: Balancing | None = None,
        listeners: Listeners | None = None,
        timeout_s: float = 30.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        random: Chance | None = None,
    ) -> None:
        settings = configured(settings or Settings(), cluster)
        self.listeners = listeners or Listeners()
        timing = Timing(
            random or Random(), settings.interval_s, settings.negative_ttl_s, clock, monotonic
        )
        parts = assembled(
            settings.source if source is None else source,
            settings,
            timing,
            whole=whole,
            policy=policy,
            balancing=balancing,
            listeners=self.listeners,
        )
        self._title = parts.title
        self._zone = settings.zone
        self._clock = clock
        self._bell = parts.bell
        self._catalog = parts.catalog
        self._refresher = parts.refresher
        self._balancer = parts.balancer
        self._lookup = Lookup(
            self._catalog,
            self._refresher,
            settings,
            timeout_s=timeout_s,
            clock=clock,
            monotonic=monotonic,
        )
        self._picks = Picks(self._lookup, self._balancer)
        # The thread knows the refresher only, so a resolver that nobody holds any more is noticed.
        self._abandoned = weakref.finalize(self, self._refresher.abandon)
        self._abandoned.atexit = False

    @property
    def snapshot(self) -> Snapshot:
        """Everything known now; never waits, and is empty before the first load."""
        return self._catalog.snapshot

    @property
    def monotonic(self) -> Callable[[], float]:
        """The clock of everything that takes time here."""
        return self._balancer.clock

    @property
    def zone(self) -> str:
        """The DNS zone that names may end in."""
        return self._zone

    @property
    def ready(self) -> bool:
        """Whether a first snapshot is loaded: see `unready`."""
        return not self.unready

    @property
    def unready(self) -> tuple[str, ...]:
        """Why not everything can be answered yet: one sentence per cluster never read."""
        return self._lookup.unready()

    def endpoints(self, name: str) -> tuple[Endpoint, ...]:
        """The endpoints of that name, at the port it asks for or the default port.

        Empty where the service is known and nothing of it can be called. Raises `UnknownService`,
        `UnknownPort`, `AmbiguousPort`, `BadName`; `NotReady`, `Expired` or a `SourceError` where
        nothing can be said.
        """
        return self._find(name).endpoints()

    async def aendpoints(self, name: str) -> tuple[Endpoint, ...]:
        """The same; the event loop goes on while a first load is waited for."""
        return (await self._afind(name)).endpoints()

    def pick(self, name: str, key: str | None = None) -> Endpoint:
        """One endpoint, chosen by the policy. Raises `NoEndpoints`, with reasons, for none.

        How it goes is not learned: see `lease`. `key` is for policies that go by one (`Ring`).
        """
        return self._picks.one(self._find(name), key)

    async def apick(self, name: str, key: str | None = None) -> Endpoint:
        """The same; the event loop goes on while a first load is waited for."""
        return self._picks.one(await self._afind(name), key)

    def lease(self, name: str, key: str | None = None) -> Lease:
        """One endpoint for a `with` or `async with` block, which learns from how that goes.

            with resolver.lease("orders") as endpoint:
                requests.get(f"{endpoint.url}/health", timeout=2)

        While the block runs the endpoint counts as in use; its time counts as the latency, and an
        `OSError` that leaves it (or caused what does) as a failure.
        """
        return Lease(lambda: self.route(name, key), lambda: self.aroute(name, key))

    def route(self, name: str, key: str | None = None, *, timeout_s: float | None = None) -> Route:
        """Where the attempts of one request to that name go; transports are built on this.

        `timeout_s` is for a request that cannot wait as long as the resolver does.
        """
        return self._picks.route(self._find(name, timeout_s), name, key)

    async def aroute(
        self, name: str, key: str | None = None, *, timeout_s: float | None = None
    ) -> Route:
        """The same; the event loop goes on while a first load is waited for."""
        return self._picks.route(await self._afind(name, timeout_s), name, key)

    def service(self, name: str) -> Service:
        """All that is known of the service: endpoints of every port, exclusions, ports."""
        return self._find(name).service

    async def aservice(self, name: str) -> Service:
        """The same; the event loop goes on while a first load is waited for."""
        return (await self._afind(name)).service

    def explain(self, name: str) -> documents.Document:
        """Every task of the service, kept or dropped, and why; as `/v1/explain/{name}`."""
        return documents.explanation(self.service(name))

    async def aexplain(self, name: str) -> documents.Document:
        """The same; the event loop goes on while a first load is waited for."""
        return documents.explanation(await self.aservice(name))

    def update(self, name: str) -> None:
        """Have the members of that name's pool be what memory knows by now; never waits."""
        found = self._lookup.glance(name)
        if found is not None:
            self._picks.update(found)

    def history(self, name: str) -> tuple[Change, ...]:
        """The last changes of that service, the oldest first; never waits.

        They are those that this process saw, and outlive the service. Empty for what it has not
        looked for. Raises `BadName`.
        """
        labels = self.snapshot.labels
        wanted = parse(name, labels, self.zone)
        history = self._catalog.history
        keys = history.named(wanted.cluster, wanted.service)
        return tuple(sorted((c for key in keys for c in history.of(key)), key=attrgetter("at")))

    @property
    def pools(self) -> tuple[Pool, ...]:
        """What requests of this process are balanced over; to be read only."""
        return self._balancer.pools

    @property
    def spent(self) -> Spent:
        """How many requests and retries this process made."""
        return self._balancer.spent

    def usage(self, service: Service) -> dict[Identity, documents.Document]:
        """By endpoint, what requests of this process know of it: in flight, latency, ejection."""
        return self._balancer.usage(service.endpoints)

    def services(self) -> tuple[Service, ...]:
        """All services, by cluster and name. From then on whole clusters are read.

        Raises the source's error, or `NotReady`, only where no cluster could be read at all.
        """
        return drive(self._bell, self._lookup.listing())

    async def aservices(self) -> tuple[Service, ...]:
        """The same; the event loop goes on while a first load is waited for."""
        return await drive_async(self._bell, self._lookup.listing())

    def wait(self, index: int, timeout_s: float | None = None) -> Snapshot:
        """Block until the snapshot's index is not `index`, or the timeout; the snapshot then."""
        return drive(self._bell, self._lookup.changing(index, timeout_s))

    async def await_change(self, index: int, timeout_s: float | None = None) -> Snapshot:
        """The same as `wait`, for a coroutine."""
        return await drive_async(self._bell, self._lookup.changing(index, timeout_s))

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Start reading, and block until `ready` or the timeout; whether it is ready.

        Without `whole`, something has to be asked for before anything is read.
        """
        return drive(self._bell, self._lookup.becoming_ready(timeout_s))

    async def await_ready(self, timeout_s: float | None = None) -> bool:
        """The same as `wait_ready`, for a coroutine."""
        return await drive_async(self._bell, self._lookup.becoming_ready(timeout_s))

    def watch(self, name: str) -> Iterator[tuple[Endpoint, ...]]:
        """The endpoints now, and again each time that they differ; a slow reader gets the latest.

        Raises as `endpoints` does, before the first; afterwards a service that is gone gives none,
        and what cannot be read gives nothing new. Ends when the resolver is closed.
        """
        last: tuple[Endpoint, ...] | None = None
        while (last := drive(self._bell, self._lookup.differing(name, last))) is not None:
            yield last

    async def awatch(self, name: str) -> AsyncIterator[tuple[Endpoint, ...]]:
        """The same as `watch`, for a coroutine."""
        last: tuple[Endpoint, ...] | None = None
        differing = self._lookup.differing
        while (last := await drive_async(self._bell, differing(name, last))) is not None:
            yield last

    def refresh(self) -> Snapshot:
        """Load now what is in use, and wait for it. Raises the source's error if that failed."""
        return drive(self._bell, self._lookup.refreshing())

    async def arefresh(self) -> Snapshot:
        """The same as `refresh`, for a coroutine."""
        return await drive_async(self._bell, self._lookup.refreshing())

    def hurry(self) -> None:
        """Load soon, without waiting: an endpoint refused, say. Repeated calls count once."""
        self._refresher.hurry()

    def start(self) -> None:
        """Start reading in the background; every call that needs data does so by itself."""
        self._refresher.start()

    def close(self) -> None:
        """Stop reading and close the source. What is known can still be asked for."""
        self._abandoned.detach()
        self._refresher.close()

    async def aclose(self) -> None:
        """The same as `close`; a load under way ends in a thread of its own."""
        import asyncio  # costs as much to import as all else here; who awaits has it already

        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        snapshot = self._catalog.snapshot
        where = " ".join([self._title, *snapshot.labels])
        if self._refresher.is_closed:
            return f"<Resolver {where}: closed>"
        if not snapshot.observed_at:
            return f"<Resolver {where}: nothing read yet>"
        age_s = max(0.0, self._clock() - snapshot.observed_at)
        count = len(snapshot.services)
        read = f"{count} {'service' if count == 1 else 'services'}, read {age_s:.1f} s ago"
        members = [repr(m) for pool in self._balancer.pools for m in pool.members]
        more = f" and {len(members) - _MOST_SHOWN} more" if len(members) > _MOST_SHOWN else ""
        used = f"; in use {' '.join(members[:_MOST_SHOWN])}{more}" if members else ""
        return f"<Resolver {where}: {read}{used}>"

    def _find(self, name: str, timeout_s: float | None = None) -> Found:
        return self._lookup.remembered(name) or drive(
            self._bell, self._lookup.finding(name, timeout_s)
        )

    async def _afind(self, name: str, timeout_s: float | None = None) -> Found:
        found = self._lookup.remembered(name)
        if found is not None:
            return found
        return await drive_async(self._bell, self._lookup.finding(name, timeout_s))
