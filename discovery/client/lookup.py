"""What a resolver decides: when memory answers, what to wait for, and which error is the truth.

Rule 1: `remembered` is the hot path: dict reads in what was found in this very snapshot.
Rule 2: everything that may wait is a conversation, driven by threads and coroutines alike.
Rule 3: a name is unknown only where a load saw that it is not there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from discovery import names
from discovery.balancing.pool import Pool
from discovery.catalog.catalog import Catalog
from discovery.catalog.loads import Key, Load
from discovery.catalog.refresher import Refresher
from discovery.client.waiting import Wait, Waiting
from discovery.errors import (
    DiscoveryError,
    Expired,
    NotReady,
    SourceError,
    UnknownName,
    UnknownService,
)
from discovery.model import Cluster, Endpoint, Identity, Service, Snapshot
from discovery.settings import Settings

Clock = Callable[[], float]
MOST_FOUND = 10_000  # bounds what is kept for one snapshot, as names can be written in many ways


@dataclass(slots=True, eq=False)
class Found:
    """What a name leads to in one snapshot; its endpoints are worked out when first asked for."""

    name: names.Name
    service: Service
    expires_at: float
    _endpoints: tuple[Endpoint, ...] | None = None
    kept: Pool | None = None  # where these endpoints are balanced, kept by whoever balances

    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints at the port that the name asks for, the same tuple each time."""
        if self._endpoints is None:
            self._endpoints = names.endpoints_at(self.service, self.name)
        return self._endpoints

    @property
    def sides(self) -> dict[Identity, str]:
        """The revision of each endpoint while a deployment divides the traffic among several."""
        placements = self.service.placements
        if all(placement.revision is None for placement in placements.values()):
            return {}
        found = ((e.identity, placements.get(e.task_arn or "")) for e in self.endpoints())
        return {i: p.revision for i, p in found if p is not None and p.revision is not None}

    @property
    def is_pending(self) -> bool:
        """Whether the port may be one that a task definition names which is not read yet."""
        if self.name.port is None or not self.service.definitions_pending:
            return False
        try:
            self.endpoints()
        except NotReady:
            return True
        return False

    @property
    def pool(self) -> tuple[Key, str | None, str | None]:
        """What endpoints are balanced among: a service's port."""
        return self.service.key, self.name.port and self.name.port.lower(), self.name.protocol


@dataclass(frozen=True, slots=True, eq=False)
class _FoundIn:
    """What was looked up in one snapshot, by what was written and by what it led to."""

    snapshot: Snapshot
    by_text: dict[str, Found] = field(default_factory=dict)
    by_pool: dict[object, Found] = field(default_factory=dict)


class Lookup:
    """Looks names up in a catalog, and asks its refresher for what is not there."""

    def __init__(
        self,
        catalog: Catalog,
        refresher: Refresher,
        settings: Settings,
        *,
        timeout_s: float,
        clock: Clock,
        monotonic: Clock,
    ) -> None:
        self._catalog = catalog
        self._refresher = refresher
        self._settings = settings
        self._timeout_s = timeout_s
        self._clock = clock
        self._monotonic = monotonic
        self._found = _FoundIn(catalog.snapshot)

    def remembered(self, text: str) -> Found | None:
        """What that name led to before in this snapshot, if it was asked and is not expired."""
        kept = self._found
        if kept.snapshot is not self._catalog.snapshot:
            return None
        found = kept.by_text.get(text)
        return found if found is not None and self._clock() < found.expires_at else None

    def glance(self, text: str) -> Found | None:
        """What that name leads to by now, as far as memory knows; never waits, asks nobody."""
        found = self.remembered(text)
        if found is None:
            found = self._look(self._catalog.snapshot, text)
        return found if found is not None and self._clock() < found.expires_at else None

    def finding(self, text: str, timeout_s: float | None = None) -> Waiting[Found]:
        """Find a name; one that was not read yet waits for the load that reads it.

        `timeout_s` has it wait for less than it would.
        """
        self._refresher.start()
        wait_s = self._timeout_s if timeout_s is None else min(self._timeout_s, timeout_s)
        deadline = self._monotonic() + wait_s
        load: Load | None = None
        while True:
            snapshot = self._catalog.snapshot
            found = self._look(snapshot, text)
            if found is not None and self._clock() < found.expires_at:
                if not found.is_pending or self._is_over(deadline):
                    return found
                yield self._next_snapshot(snapshot, deadline)
                continue
            name = names.parse(text, snapshot.labels, self._settings.zone)
            error = self._verdict(snapshot, text, name, found, load)
            if error is not None and snapshot is self._catalog.snapshot:
                raise error.with_traceback(None)
            load = self._refresher.ask((name.cluster, name.service), snapshot)
            if load is not None:
                yield from self._ended(load, deadline, text, wait_s)

    def listing(self) -> Waiting[tuple[Service, ...]]:
        """All services; waits for clusters that were never read, as far as they can be."""
        self._refresher.read_whole()
        self._refresher.start()
        deadline = self._monotonic() + self._timeout_s
        while True:
            snapshot = self._catalog.snapshot
            missing = _never_read(snapshot)
            load = self._refresher.lately((missing[0].label, "")) if missing else None
            if not missing or (load is not None and len(missing) < len(snapshot.clusters)):
                return tuple(_in_order(snapshot))
            if load is not None and snapshot is self._catalog.snapshot:
                failure = load.first_failure() or NotReady("no cluster was read whole")
                raise failure.with_traceback(None)
            load = self._refresher.ask((missing[0].label, ""), snapshot)
            if load is not None:
                yield from self._ended(load, deadline, "the list of services")

    def changing(self, index: int, timeout_s: float | None) -> Waiting[Snapshot]:
        """Wait until the index is another."""
        self._refresher.start()
        yield Wait(
            lambda: self._catalog.snapshot.index != index or self._refresher.is_closed, timeout_s
        )
        return self._catalog.snapshot

    def becoming_ready(self, timeout_s: float | None) -> Waiting[bool]:
        """Wait until nothing is missing; whether that came true."""
        self._refresher.start()
        yield Wait(lambda: not self.unready() or self._refresher.is_closed, timeout_s)
        return not self.unready()

    def refreshing(self) -> Waiting[Snapshot]:
        """Wait for a load of all that is in use, which starts now."""
        self._refresher.start()
        load = self._refresher.ask_all()
        yield from self._ended(load, self._monotonic() + self._timeout_s, "what is in use")
        failure = load.first_failure()
        if failure is not None:
            raise failure.with_traceback(None)
        return self._catalog.snapshot

    def differing(
        self, text: str, last: tuple[Endpoint, ...] | None
    ) -> Waiting[tuple[Endpoint, ...] | None]:
        """Wait until the name's endpoints are not `last`; `None` once nothing can change."""
        while True:
            index = self._catalog.snapshot.index
            try:
                endpoints: tuple[Endpoint, ...] | None = (yield from self.finding(text)).endpoints()
            except UnknownName:
                endpoints = ()
                if last is None:
                    raise
            except (NotReady, SourceError):
                endpoints = last
                if last is None:
                    raise
            if endpoints != last:
                return endpoints
            if self._refresher.is_closed:
                return None
            # The timeout has names that came to be unknown asked for again.
            yield from self.changing(index, self._settings.interval_s)

    def unready(self) -> tuple[str, ...]:
        """One sentence for each cluster that nothing is known of."""
        snapshot = self._catalog.snapshot
        if not self._refresher.is_whole and snapshot.observed_at:
            return ()
        return tuple(f"{c.label}: {c.error or 'not read yet'}" for c in _never_read(snapshot))

    def _look(self, snapshot: Snapshot, text: str) -> Found | None:
        name, service = names.look_up(snapshot, text, self._settings.zone)
        if service is None:
            return None
        self._refresher.use(service.key)
        age_s = snapshot.age_s(service, now := self._clock())
        found = Found(name, service, now - age_s + snapshot.stale_limit_s)
        if found.is_pending:
            return found
        kept = self._found
        if kept.snapshot is not snapshot or len(kept.by_text) >= MOST_FOUND:
            self._found = kept = _FoundIn(snapshot)
        # However a name is written, it has one tuple of endpoints, so that its pool stays the same.
        kept.by_text[text] = found = kept.by_pool.setdefault(found.pool, found)
        return found

    def _verdict(
        self,
        snapshot: Snapshot,
        text: str,
        name: names.Name,
        expired: Found | None,
        load: Load | None,
    ) -> DiscoveryError | None:
        """The error that is the truth about this name, or `None` where a load has to say."""
        key = (name.cluster, name.service)
        awaited, load = load, load or self._refresher.lately(key)
        if load is None:
            return None
        failure = load.failure(key)
        if expired is not None:
            why = failure or "the source has nothing newer"
            return Expired(f"{name} was read too long ago: {why}") if failure or awaited else None
        listed = self._is_listed(snapshot.cluster(name.cluster))
        if load.says_absent(key) or (failure and listed and not load.left_unread(key)):
            return UnknownService(text, names.close_matches(snapshot, name), name.cluster)
        return failure

    def _is_listed(self, cluster: Cluster | None) -> bool:
        """Whether we know all that there is in this cluster."""
        if not self._refresher.is_whole or cluster is None or cluster.observed_at is None:
            return False
        return self._clock() - cluster.observed_at <= self._settings.stale_limit_s

    def _is_over(self, deadline: float) -> bool:
        return self._refresher.is_closed or self._monotonic() >= deadline

    def _next_snapshot(self, snapshot: Snapshot, deadline: float) -> Wait:
        left_s = max(0.0, deadline - self._monotonic())
        return Wait(
            lambda: self._catalog.snapshot is not snapshot or self._refresher.is_closed, left_s
        )

    def _ended(
        self, load: Load, deadline: float, what: str, wait_s: float | None = None
    ) -> Waiting[None]:
        left_s = max(0.0, deadline - self._monotonic())
        yield Wait(lambda: load.ended or self._refresher.is_closed, left_s)
        if not load.ended:
            late = f"the read has not ended in {self._timeout_s if wait_s is None else wait_s:g} s"
            why = "the resolver was closed" if self._refresher.is_closed else late
            raise NotReady(f"{what}: not read yet, {why}")


def _never_read(snapshot: Snapshot) -> list[Cluster]:
    return [cluster for cluster in snapshot.clusters if cluster.observed_at is None]


def _in_order(snapshot: Snapshot) -> list[Service]:
    rank = {label: n for n, label in enumerate(snapshot.labels)}
    return sorted(snapshot.services.values(), key=lambda s: (rank[s.cluster], s.name))
