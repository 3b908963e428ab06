"""The records of one account and region: clusters, instances, definitions, services, tasks.

Records are mutable and owned by the server's thread; nobody else touches them. A record whose
`encoded` answer is kept must be passed to `changed()` after every change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from discovery.local.addresses import FIRST_DYNAMIC, LAST_DYNAMIC
from discovery.local.network import Binding, Eni
from discovery.local.targets import Target, TargetGroup, Timer

Document = dict[str, Any]
ENDED = "STOPPED"


@dataclass(slots=True)
class Container:
    """One container of a task; `process` is the launcher's key while one exists."""

    arn: str
    definition: Document
    runtime_id: str
    metadata_id: str
    status: str = "PENDING"
    bindings: list[Binding] | None = None
    exit_code: int | None = None
    reason: str | None = None
    health: str = "UNKNOWN"
    process: str | None = None
    started_at: float | None = None
    restarts: int = 0
    check: object = None
    requested: bool = False

    @property
    def name(self) -> str:
        """Its name in the task definition."""
        return str(self.definition["name"])

    @property
    def injected(self) -> bool:
        """Whether it is Service Connect's proxy, which no definition names."""
        return "image" not in self.definition

    @property
    def essential(self) -> bool:
        """Whether the task ends with it."""
        return bool(self.definition.get("essential", True))


@dataclass(slots=True)
class Definition:
    """A revision of a task definition; `document` is what DescribeTaskDefinition answers."""

    arn: str
    family: str
    revision: int
    document: Document
    tags: list[Document]
    status: str = "ACTIVE"

    @property
    def containers(self) -> list[Document]:
        """Its container definitions."""
        found: list[Document] = self.document["containerDefinitions"]
        return found

    @property
    def network_mode(self) -> str:
        """Its network mode; absent means bridge on Linux."""
        return str(self.document.get("networkMode") or "bridge")


@dataclass(slots=True)
class Instance:
    """A container instance; `address` is the loopback address that stands for the host.

    `sequence` orders instances as it orders tasks.
    """

    arn: str
    id: str
    sequence: int
    cluster: Cluster
    address: str
    zone: str
    subnet: str
    cpu: int
    memory: int
    registered_at: float
    ec2_id: str
    attributes: list[Document]
    tags: list[Document]
    ipv6_bindings: str = ""
    ipv6: str | None = None
    capacity_provider: str | None = None
    status: str = "ACTIVE"
    agent_connected: bool = True
    version: int = 1
    reserved: frozenset[int] = frozenset({22, 2375, 2376, 51678, 51679, 51680})
    tasks: dict[str, Task] = field(default_factory=dict)
    dynamic_ports: range = range(FIRST_DYNAMIC, LAST_DYNAMIC + 1)
    next_port: int = FIRST_DYNAMIC
    split_ranges: bool = False
    simulated: bool = False
    cpu_used: int = 0
    memory_used: int = 0

    @property
    def external(self) -> bool:
        """Whether it is an ECS Anywhere host."""
        return self.ec2_id.startswith("mi-")

    def ports(self) -> set[tuple[int, str]]:
        """Host ports its tasks hold, with their protocol."""
        return {
            port for task in self.tasks.values() if task.status != ENDED for port in task.host_ports
        }


@dataclass(slots=True)
class Task:
    """A task; `sequence` orders tasks within the region and never repeats."""

    arn: str
    id: str
    sequence: int
    cluster: Cluster
    definition: Definition
    containers: list[Container]
    group: str
    launch_type: str
    created_at: float
    overrides: Document
    tags: list[Document]
    cpu_units: int
    memory_mib: int
    service: Service | None = None
    started_by: str | None = None
    instance: Instance | None = None
    zone: str | None = None
    capacity_provider: str | None = None
    explicit_launch_type: bool = True
    platform_version: str | None = None
    eni: Eni | None = None
    simulated: bool = False
    execute_command: bool = False
    status: str = "PENDING"
    desired: str = "RUNNING"
    version: int = 1
    connectivity_at: float | None = None
    pull_started_at: float | None = None
    pull_stopped_at: float | None = None
    started_at: float | None = None
    stopping_at: float | None = None
    stopped_at: float | None = None
    execution_stopped_at: float | None = None
    stop_code: str | None = None
    stopped_reason: str | None = None
    host_ports: set[tuple[int, str]] = field(default_factory=set)
    connect_id: str | None = None
    balancers: tuple[Document, ...] = ()
    targets: list[tuple[TargetGroup, Target]] = field(default_factory=list)
    protected_until: float | None = None
    hide_bindings_until: float = 0.0
    encoded: bytes | None = None

    @property
    def mode(self) -> str:
        """The network mode of its definition."""
        return self.definition.network_mode

    @property
    def health(self) -> str:
        """HEALTHY only if every essential container says so; one UNHEALTHY is enough."""
        states = [c.health for c in self.containers if c.essential]
        if "UNHEALTHY" in states:
            return "UNHEALTHY"
        return "HEALTHY" if states and set(states) == {"HEALTHY"} else "UNKNOWN"

    def protected(self, now: float) -> bool:
        """Whether deployments and scale-in must leave it alone now."""
        return self.protected_until is not None and now < self.protected_until

    def changed(self) -> None:
        """Count a change of state and forget the encoded answer."""
        self.version += 1
        self.encoded = None


@dataclass(slots=True)
class Deployment:
    """One deployment of a service; `settings` is what its tasks are started with.

    It is a service revision as well: both go by the number in its id. `balancers` are the target
    groups of its own tasks, which blue/green deployments alternate.
    """

    id: str
    definition: Definition
    desired: int
    created_at: float
    updated_at: float
    settings: Document
    status: str = "PRIMARY"
    rollout: str = "IN_PROGRESS"
    reason: str = ""
    failed: int = 0
    steady: bool = False
    balancers: tuple[Document, ...] = ()


@dataclass(slots=True)
class TaskSet:
    """A task set of an external deployment controller; `scale` is in percent."""

    id: str
    arn: str
    definition: Definition
    created_at: float
    updated_at: float
    settings: Document
    scale: float
    tags: list[Document]
    external_id: str | None = None
    started_by: str | None = None
    status: str = "ACTIVE"
    stability: str = "STABILIZING"
    stability_at: float = 0.0
    balancers: tuple[Document, ...] = ()
    registries: tuple[Document, ...] = ()

    def computed(self, desired: int) -> int:
        """“The result is always rounded up.”"""
        return 0 if self.status == "DRAINING" else math.ceil(desired * self.scale / 100)


@dataclass(slots=True, eq=False)
class Release:
    """A service deployment as ListServiceDeployments knows it: from `sources` to `target`.

    `production` and `test` are traffic weights in percent by deployment id, empty where ECS shifts
    no traffic; `steps` are the production weights that the target still has to reach.
    """

    arn: str
    sequence: int
    created_at: float
    updated_at: float
    configuration: Document
    target: Deployment
    sources: tuple[Deployment, ...]
    status: str = "IN_PROGRESS"
    reason: str | None = None
    stage: str | None = None
    production: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    steps: list[float] = field(default_factory=list)
    hooks: list[Document] = field(default_factory=list)
    rollback: Document | None = None
    finished_at: float | None = None
    stopped_at: float | None = None
    timer: Timer | None = None

    @property
    def open(self) -> bool:
        """Whether it is not finished."""
        return self.finished_at is None

    @property
    def paused(self) -> bool:
        """Whether a PAUSE hook waits for an answer."""
        return any(hook["status"] == "AWAITING_ACTION" for hook in self.hooks)


@dataclass(slots=True)
class Service:
    """A service; `document` holds the members that are only echoed.

    `held` deployments go from stage to stage only when they are told to.
    """

    arn: str
    name: str
    cluster: Cluster
    strategy: str
    desired: int
    created_at: float
    document: Document
    tags: list[Document]
    deployments: list[Deployment] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)
    revisions: dict[str, Deployment] = field(default_factory=dict)
    task_sets: list[TaskSet] = field(default_factory=list)
    held: bool = False
    client_token: str | None = None
    tasks: dict[str, Task] = field(default_factory=dict)
    events: list[Document] = field(default_factory=list)
    status: str = "ACTIVE"
    simulated: bool = False
    failures: int = 0
    wait_until: float = 0.0
    encoded: bytes | None = None

    @property
    def controller(self) -> str:
        """ECS, CODE_DEPLOY or EXTERNAL."""
        return str((self.document.get("deploymentController") or {}).get("type", "ECS"))

    @property
    def shifts(self) -> bool:
        """Whether ECS shifts traffic between revisions instead of replacing tasks."""
        strategy = self.document["deploymentConfiguration"].get("strategy")
        return strategy in ("BLUE_GREEN", "LINEAR", "CANARY")

    @property
    def primary(self) -> Deployment:
        """The deployment that is wanted."""
        return self.deployments[0]


@dataclass(slots=True)
class Cluster:
    """A cluster and everything in it, in order of creation."""

    arn: str
    name: str
    document: Document
    tags: list[Document]
    status: str = "ACTIVE"
    simulated: bool = False
    instances: dict[str, Instance] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """All records of one account and region."""

    account: str
    region: str
    clusters: dict[str, Cluster] = field(default_factory=dict)
    families: dict[str, list[Definition]] = field(default_factory=dict)
    target_groups: dict[str, TargetGroup] = field(default_factory=dict)
    tokens: dict[str, tuple[Document, list[Task]]] = field(default_factory=dict)
    sequence: int = 0

    def next_sequence(self) -> int:
        """A number that only grows."""
        self.sequence += 1
        return self.sequence

    def instances(self) -> Iterator[Instance]:
        """Every container instance of every cluster."""
        for cluster in self.clusters.values():
            yield from cluster.instances.values()

    def tasks(self) -> Iterator[Task]:
        """Every task of every cluster."""
        for cluster in self.clusters.values():
            yield from cluster.tasks.values()
