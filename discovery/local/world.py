"""What every operation works on: the records of one account and region, and the runtime.

One `Runtime` serves all regions of a server. `World.touch` is the one way to record that a task
changed: it counts the version, wakes the service's scheduler and sends the event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from discovery.local.addresses import Addresses
from discovery.local.errors import cluster_not_found
from discovery.local.faults import Faults
from discovery.local.ids import Ids, last_part
from discovery.local.pages import Pages
from discovery.local.probes import Prober
from discovery.local.processes import Launcher
from discovery.local.queues import Queue
from discovery.local.state import Cluster, Instance, Service, State, Task
from discovery.local.targets import Timer

ZONES = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long tasks stay in each state, in seconds, and how often the scheduler tries.

    `period_scale` shortens the periods in which nothing happens: the `interval` of health checks,
    of containers and of target groups, the `restartAttemptPeriod`, the deregistration delay, the
    bake times of deployments, the notice of a Spot interruption; `stage_s` is how long other
    stages of deployments last.
    """

    provisioning_s: float = 0.03
    pending_s: float = 0.03
    activating_s: float = 0.03
    deactivating_s: float = 0.03
    deprovisioning_s: float = 0.03
    scheduler_s: float = 0.02
    retry_s: float = 0.5
    retry_limit_s: float = 30.0
    stopped_kept_s: float = 3600.0
    host_lost_s: float = 30.0
    stage_s: float = 0.5
    period_scale: float = 0.1


@dataclass(slots=True)
class Runtime:
    """Clock, chance, timers, processes: what the regions of one server share."""

    clock: Callable[[], float]
    random: Random
    call_later: Callable[..., Timer]
    launcher: Launcher
    prober: Prober
    addresses: Addresses
    pages: Pages
    pace: Pace
    faults: Faults
    url: str = ""
    log_dir: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    closing: asyncio.Event = field(default_factory=asyncio.Event)


class World:
    """One account and region, with the hooks that connect the parts."""

    def __init__(self, state: State, runtime: Runtime) -> None:
        self.state = state
        self.run = runtime
        self.ids = Ids(runtime.random, state.region, state.account)
        self.queues: dict[str, Queue] = {}
        self.on_task: Callable[[Task], None] = lambda task: None
        self.on_instance: Callable[[Instance], None] = lambda instance: None
        self.wake: Callable[[Service], None] = lambda service: None

    def now(self) -> float:
        """The time, in epoch seconds with milliseconds as ECS gives it."""
        return round(self.run.clock(), 3)

    def touch(self, task: Task) -> None:
        """Record that a task changed."""
        task.changed()
        if task.service is not None:
            task.service.encoded = None
            self.wake(task.service)
        self.on_task(task)

    def cluster(self, named: object) -> Cluster:
        """The cluster of that name or ARN (`default` when None), or ClusterNotFoundException."""
        name = last_part(str(named)) if named else "default"
        found = self.state.clusters.get(name)
        elsewhere = str(named).startswith("arn:") and found is not None and named != found.arn
        if found is None or found.status != "ACTIVE" or elsewhere:
            raise cluster_not_found()
        return found

    def subnet(self, zone: str) -> str:
        """The subnet that stands for a zone."""
        return f"subnet-{0x10CA1 + ord(zone[-1]):017x}"

    def zone_of_subnet(self, subnet: str) -> str:
        """The zone of a subnet; a foreign subnet is put into one by its name."""
        for letter in ZONES:
            if subnet == self.subnet(self.state.region + letter):
                return self.state.region + letter
        return self.state.region + ZONES[sum(subnet.encode()) % len(ZONES)]

    @property
    def vpc(self) -> str:
        """The one VPC."""
        return f"vpc-{0x10CA1:017x}"

    @property
    def security_group(self) -> str:
        """The one security group."""
        return f"sg-{0x10CA1:017x}"
