"""The values that go up through the house: endpoints, services, snapshots.

Everything here is frozen: change means a new value, so any thread or coroutine may read without a
lock. Times are seconds since the epoch (UTC); `None` always means "not known".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from discovery.errors import SourceError

Health = Literal["healthy", "unknown", "starting", "unhealthy", "draining"]
Protocol = Literal["tcp", "udp"]
Kind = Literal["service", "family"]
SERVES: frozenset[Health] = frozenset({"healthy", "unknown"})
Happening = Literal["appeared", "gone", "joined", "left", "changed", "excluded"]
Identity = tuple[str, str | None, int | None, str]
MAX_WEIGHT = 65_535.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One callable port of one container: where it is and what it belongs to.

    `host` is an IP address in text, `port` the port to connect to (the host's mapped port in
    bridge mode), `container_port` the port inside the container. `cluster` is the cluster's label
    in names. `labels` are docker labels overlaid with tags.
    """

    host: str
    port: int
    protocol: Protocol = "tcp"
    container_port: int | None = None
    port_name: str | None = None
    container: str | None = None
    task_arn: str | None = None
    task_definition: str | None = None
    cluster: str = ""
    service: str = ""
    zone: str | None = None
    health: Health = "unknown"
    weight: float = 1.0
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def url(self) -> str | None:
        """`http://host:port`, https for a port named so or container port 443, `None` for UDP."""
        if self.protocol != "tcp":
            return None
        secure = self.container_port == 443 or (self.port_name or "").lower() == "https"
        return f"{'https' if secure else 'http'}://{self.authority}"

    @property
    def authority(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_last_resort(self) -> bool:
        """Whether it is offered only because nothing better runs."""
        return self.health not in SERVES

    @property
    def identity(self) -> Identity:
        """What stays the same for as long as it is the same endpoint.

        Never the address: host ports and ENI addresses are reused by other services. Endpoints
        without a task (static files) have nothing better than their address.
        """
        return (
            self.task_arn or self.authority,
            self.container,
            self.container_port,
            self.protocol,
        )


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why a task, or one container or port of it, is not an endpoint, in words for a person."""

    task_arn: str
    reason: str
    container: str | None = None
    container_port: int | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and since when a task runs, as far as its source tells; evidence is judged by it.

    `started_at` is when its containers ran, in seconds since the epoch. `machine` is what it shares
    with the other tasks of its host; `None` where it has no host that anybody knows (Fargate).
    `agent_connected` is whether that host's agent is in touch with ECS. `revision` is the
    deployment or task set whose share of the traffic the task is a part of, while there are any.
    """

    started_at: float | None = None
    created_at: float | None = None
    machine: str | None = None
    agent_connected: bool | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a service offers; `container` is the container that owns it."""

    container_port: int
    protocol: Protocol = "tcp"
    name: str | None = None
    container: str | None = None

    @property
    def label(self) -> str:
        """How names ask for it: `http._tcp`, or `8080._tcp` where it has no name."""
        return f"{self.name or self.container_port}._{self.protocol}"

    def is_of(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint answers for this port."""
        same = (self.container_port, self.protocol) == (endpoint.container_port, endpoint.protocol)
        return same and self.container in (None, endpoint.container)


@dataclass(frozen=True, slots=True)
class Service:
    """All that is known of one ECS service, or of one family of standalone tasks.

    `endpoints` are what may be called, over all ports, in a stable order; when nothing is eligible
    but tasks run, those of a port are its last resort, best first. `default_port` is `None` where
    no rule prefers one of several; `other_default_ports` are those of task definitions (by ARN)
    that have another one, as while a rollout moves it. `definitions_pending` is true while a task
    definition that may name ports is not read yet. `other_addresses` maps an endpoint's host to
    further addresses of the same network interface (dual stack) where the same ports answer.
    `task_addresses` are the endpoints' hosts that are a task's own network interface (awsvpc), not
    its container instance's; DNS then names the task where it would otherwise name the node.
    `spares` are what runs and does not serve; those of a port become its last resort when what
    serves turns out not to. `placements` are the tasks' by ARN. `notes` say of endpoints, by
    identity, what a person should know of them beside their health.
    `observed_at` is no part of equality: a service that was read again unchanged is the same one.
    """

    name: str
    cluster: str
    kind: Kind = "service"
    endpoints: tuple[Endpoint, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    ports: tuple[Port, ...] = ()
    default_port: Port | None = None
    definitions_pending: bool = False
    other_addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    observed_at: float = field(default=0.0, compare=False)
    task_addresses: frozenset[str] = frozenset()
    other_default_ports: Mapping[str, Port] = field(default_factory=dict, hash=False)
    spares: tuple[Endpoint, ...] = ()
    placements: Mapping[str, Placement] = field(default_factory=dict, hash=False, repr=False)
    notes: Mapping[Identity, str] = field(default_factory=dict, hash=False)

    @property
    def last_resort(self) -> bool:
        """Whether any port has nothing better than what is draining, starting or unhealthy."""
        return any(endpoint.is_last_resort for endpoint in self.endpoints)

    def default_port_of(self, endpoint: Endpoint) -> Port | None:
        """The port that is meant by default of the task that the endpoint belongs to."""
        return self.other_default_ports.get(endpoint.task_definition or "", self.default_port)

    @property
    def key(self) -> tuple[str, str]:
        """`(cluster label, name)`: unique within a snapshot."""
        return self.cluster, self.name

    @property
    def full_name(self) -> str:
        """`SERVICE.CLUSTER`, the shortest name that is right from everywhere."""
        return f"{self.name}.{self.cluster}"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a service: an endpoint joined, left or changed, a task was excluded.

    `at` is when it was published, in seconds since the epoch, `index` the snapshot's. `reason` is
    in words for a person. The service itself appears or is gone without a task.
    """

    at: float
    index: int
    kind: Happening
    reason: str
    task_arn: str | None = None
    container: str | None = None
    container_port: int | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as names know it, and how its last read went.

    `observed_at` is when its list of services was last read whole, `None` before that, and for
    ever where names are only read on demand. `error` is the last read's failure in one sentence;
    `denied_since` is since when reads have been refused for lack of permission or credentials.
    `heard` are names of services that exist but need not have been read: good for suggestions.
    """

    label: str
    observed_at: float | None = None
    error: str | None = None
    heard: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    denied_since: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything known at one moment; the only published state, swapped as a whole.

    `(epoch, sequence)` only grows. `clusters[0]` is the default for names without one. Data older
    than `fresh_for_s` is stale (served, and said so), older than `stale_limit_s` is not served.

    The index changes only when content does; a read that changes nothing gives a snapshot of the
    same index with newer times. Unchanged services stay the same objects from one snapshot to the
    next, so what is derived from one may be cached by its identity; `read_at` has when each was
    last read, and `age_s` is the way to ask.
    """

    epoch: int = 0
    sequence: int = 0
    observed_at: float = 0.0
    clusters: tuple[Cluster, ...] = ()
    services: Mapping[tuple[str, str], Service] = field(default_factory=dict)
    fresh_for_s: float = 30.0
    stale_limit_s: float = 86_400.0
    read_at: Mapping[tuple[str, str], float] = field(default_factory=dict, repr=False)
    _folded: Mapping[tuple[str, str], tuple[Service, ...]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        folded: dict[tuple[str, str], tuple[Service, ...]] = {}
        for service in self.services.values():
            key = (service.cluster.lower(), service.name.lower())
            folded[key] = (*folded.get(key, ()), service)
        object.__setattr__(self, "_folded", folded)

    @property
    def index(self) -> int:
        """Epoch and sequence as the one integer that blocking queries wait on."""
        return (self.epoch << 20) + self.sequence

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the clusters, the default first."""
        return tuple(cluster.label for cluster in self.clusters)

    def cluster(self, label: str) -> Cluster | None:
        """The cluster of this label, compared without case."""
        folded = label.lower()
        return next((c for c in self.clusters if c.label.lower() == folded), None)

    def named(self, cluster: str, name: str) -> tuple[Service, ...]:
        """All services whose names differ from `name` in case only; an exact match alone wins."""
        found = self.alike(cluster, name)
        if len(found) < 2:
            return found
        return tuple(s for s in found if s.name == name) or found

    def alike(self, cluster: str, name: str) -> tuple[Service, ...]:
        """All services of this name compared without case, for what cannot tell case (DNS)."""
        return self._folded.get((cluster.lower(), name.lower()), ())

    def age_s(self, service: Service, now: float) -> float:
        """Seconds since this service was last read whole; `now` is seconds since the epoch."""
        return max(0.0, now - self.read_at.get(service.key, service.observed_at))

    def is_stale(self, service: Service, now: float) -> bool:
        """Whether reads of this service have been failing for longer than a few intervals."""
        return self.age_s(service, now) > self.fresh_for_s

    def is_expired(self, service: Service, now: float) -> bool:
        """Whether the data is too old to be served at all."""
        return self.age_s(service, now) > self.stale_limit_s


@dataclass(frozen=True, slots=True)
class ClusterReading:
    """What one load learned of one cluster. An error is never an empty set.

    `services` were read whole and replace what was known. With `complete`, every other service is
    gone, except those in `unread`, which exist and could not be read. `absent` are names asked for
    that do not exist. `error` is why nothing, or not all, could be read. With `explained` the
    source knows why what is gone is gone, so that it may be published without a second read.
    `heard` are names of services that were listed on the way, read or not. `observed_at` is when
    the list of services was read, 0 where a publisher never read it; `None` where that was when the
    load observed.
    """

    label: str
    services: tuple[Service, ...] = ()
    complete: bool = False
    absent: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    error: SourceError | None = None
    explained: bool = False
    heard: frozenset[str] = frozenset()
    observed_at: float | None = None

    @property
    def learned(self) -> bool:
        """Whether anything was learned, be it that a part could not be read."""
        return self.error is None or self.complete or bool(self.services)


@dataclass(frozen=True, slots=True)
class Observation:
    """What one load of a source learned.

    `pending` says that more can be had at once (task definitions, say), so that the refresher
    soon asks for that alone, or after `patience_s`, where it is better had together. `rest_s` is
    the shortest pause that keeps the source's budget.
    `again_s` is the source's own pace, where the usual interval does not suit it. `labels` are the
    clusters there are now, the default first, where a load is what tells them. `fresh_for_s` is how
    old what it says may be before it counts as stale, where the source's pace is not ours.
    """

    observed_at: float
    clusters: tuple[ClusterReading, ...] = ()
    pending: bool = False
    patience_s: float = 0.0
    rest_s: float = 0.0
    again_s: float | None = None
    labels: tuple[str, ...] = ()
    fresh_for_s: float = 0.0
