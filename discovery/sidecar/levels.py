"""What is read when Prometheus asks: the snapshot, budgets, pools, DNS counts, connections.

Nothing here is kept: each answer is worked out from what the others own.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from discovery import __version__
from discovery.client.resolver import Resolver
from discovery.client.upstreams import Taken
from discovery.dns.tally import Tally
from discovery.ecs.quotas import standings
from discovery.model import Snapshot

PREFIX = "ecs_discovery"

Row = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Levels(Collector):
    """A collector over one sidecar; may be read from any thread.

    `clock` is seconds since the epoch, `monotonic` the clock of the budgets.
    """

    resolver: Resolver
    tallies: Callable[[], Mapping[str, Tally]]
    taken: Callable[[], Sequence[Taken]]
    waiting: Callable[[], int]
    connections: Callable[[], int]
    missing: Callable[[], Sequence[str]]
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    def collect(self) -> Iterable[Metric]:
        """Every family, also one without any value at the moment."""
        ready = not self.missing()
        yield _gauge("build", "The version that runs", ("version",), [((__version__,), 1)])
        yield _gauge("ready", "Whether everything can be answered", (), [((), ready)])
        yield _gauge("waits", "Blocking queries and event streams open", (), [((), self.waiting())])
        connections = self.connections()
        yield _gauge("http_connections", "Connections of clients open", (), [((), connections)])
        yield from _known(self.resolver.snapshot, self.clock())
        yield from self._budgets()
        yield from self._dns()
        yield from self._balancing()
        yield from self._upstreams()

    def _budgets(self) -> Iterable[Metric]:
        found = standings(self.monotonic()).items()
        names = ("endpoint", "group")
        available = [(key, each.tokens) for key, each in found]
        factors = [(key, each.factor) for key, each in found]
        yield _gauge("budget_calls", "AWS calls that our share allows at once", names, available)
        yield _gauge("budget_factor", "What throttles left of our share", names, factors)

    def _dns(self) -> Iterable[Metric]:
        rows = [
            ((transport, *names), count)
            for transport, tally in self.tallies().items()
            for names, count in tally.totals().items()
        ]
        names = ("transport", "type", "rcode")
        yield _counter("dns_queries", "DNS queries by what was answered", names, rows)

    def _balancing(self) -> Iterable[Metric]:
        pools, spent = self.resolver.pools, self.resolver.spent
        members = [member for pool in pools for member in pool.members]
        ejected = Counter(m.standing.cause for m in members if m.standing.cause is not None)
        causes = [((cause,), ejected[cause]) for cause in ("unreachable", "failing")]
        in_flight = sum(m.in_flight for m in members)
        ejections = sum(pool.ejections for pool in pools)
        yield _counter("requests", "Requests balanced by us", (), [((), spent.requests)])
        yield _counter("retries", "Attempts after the first", (), [((), spent.retries)])
        yield _counter("retries_refused", "Retries over the budget", (), [((), spent.refused)])
        yield _counter("ejections", "Endpoints ejected by us", (), [((), ejections)])
        yield _gauge("ejected_endpoints", "Endpoints ejected now", ("cause",), causes)
        yield _gauge("in_flight_requests", "Requests under way", (), [((), in_flight)])

    def _upstreams(self) -> Iterable[Metric]:
        taken, names = self.taken(), ("upstream",)
        opened = [((each.name,), each.open) for each in taken]
        accepted = [((each.name,), each.accepted) for each in taken]
        failed = [((each.name,), each.failed) for each in taken]
        yield _gauge("upstream_connections", "Connections open through --upstream", names, opened)
        yield _counter("upstream_accepted", "Connections taken by --upstream", names, accepted)
        yield _counter("upstream_failed", "Of these, those led nowhere", names, failed)


def _known(snapshot: Snapshot, now: float) -> Iterable[Metric]:
    services = snapshot.services.values()
    clusters = [((c.label,), c) for c in snapshot.clusters]
    ages = [(at, now - c.observed_at) for at, c in clusters if c.observed_at is not None]
    failing = [(at, c.error is not None) for at, c in clusters]
    healths = Counter((e.cluster, e.health) for s in services for e in s.endpoints)
    counts = Counter(s.cluster for s in services)
    each = ("cluster", "service")
    yield _gauge("snapshot_index", "Index of the snapshot", (), [((), snapshot.index)])
    yield _gauge("snapshot_age_seconds", "Since a cluster was read whole", ("cluster",), ages)
    yield _gauge("cluster_failing", "Whether its last read failed", ("cluster",), failing)
    yield _gauge("services", "Services known", ("cluster",), [((c,), n) for c, n in counts.items()])
    yield _gauge("endpoints", "Endpoints by health", ("cluster", "health"), healths.items())
    yield _gauge(
        *("service_endpoints", "Endpoints of a service", each),
        [((s.cluster, s.name), len(s.endpoints)) for s in services],
    )
    yield _gauge(
        *("service_excluded", "Tasks of a service that are no endpoints", each),
        [((s.cluster, s.name), len(s.exclusions)) for s in services],
    )


def _gauge(name: str, meaning: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", meaning, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _counter(name: str, meaning: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}_{name}", meaning, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family
