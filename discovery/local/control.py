"""What a test or a user does to the local ECS besides the AWS API, in Python and under `/_local/`.

Everything here runs on the server's thread. The HTTP paths take and answer JSON:
`GET /` summary · `GET|DELETE /calls` · `GET|POST|DELETE /faults` · `POST /instances` ·
`POST /populate` · `POST /kill-process` · `POST /lose-host` · `POST /throttle` · `POST /roles` ·
`POST /hold-deployment` · `POST /next-stage` · `POST /agent` · `POST /interrupt-spot`.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from discovery.local import clusters, instances, lifecycle, releases, services
from discovery.local.errors import ApiError
from discovery.local.faults import KINDS
from discovery.local.instances import HostOptions
from discovery.local.populate import populate
from discovery.local.ports import Listen, listens
from discovery.local.region import Regions
from discovery.local.state import ENDED, Document, Service, Task
from discovery.local.throttle import Throttle
from discovery.local.world import Runtime, World

_INTERRUPTED = "Your Spot Task was interrupted."


@dataclass(slots=True)
class Control:
    """The levers of one server."""

    regions: Regions
    runtime: Runtime
    throttle: Throttle
    calls: Counter[str]

    def add_cluster(
        self,
        name: str,
        region: str | None = None,
        account: str | None = None,
        simulated: bool = False,
    ) -> str:
        """Create a cluster, unless there is one of that name; returns its ARN."""
        world = self.regions.at(region, account).world
        made = clusters.create_cluster(world, {"clusterName": name})["cluster"]
        world.cluster(name).simulated |= simulated
        return str(made["clusterArn"])

    def add_instances(
        self,
        cluster: str,
        count: int = 1,
        region: str | None = None,
        account: str | None = None,
        **options: Any,
    ) -> list[str]:
        """Add hosts; returns their ARNs."""
        world = self.regions.at(region, account).world
        found = world.cluster(cluster)
        chosen = HostOptions(**options)
        return [instances.add(world, found, chosen).arn for _ in range(count)]

    def populate(
        self, cluster: str = "default", region: str | None = None, **sizes: Any
    ) -> Document:
        """Simulated services and tasks at scale; see `populate.py`."""
        world = self.regions.at(region).world
        self.add_cluster(cluster, region)
        return populate(world, world.cluster(cluster), **sizes)

    def kill_process(self, task_arn: str) -> None:
        """SIGKILL a task's processes, as a crash would."""
        _, task = self.regions.task(task_arn)
        for container in task.containers:
            if container.process is not None:
                self.runtime.launcher.signal(container.process, signal.SIGKILL)

    def lose_host(
        self, container_instance_arn: str, how: int | None = signal.SIGKILL
    ) -> list[Listen]:
        """A host dies; its tasks stay RUNNING until ECS gives them up; returns where they listen.

        Its processes get the signal `how`; None leaves them to whoever cuts them off.
        """
        region, instance = self.regions.instance(container_instance_arn)
        self.connect_agent(container_instance_arn, connected=False)
        return _lost(region.world, list(instance.tasks.values()), how)

    def lose_zone(
        self, zone: str, how: int | None = signal.SIGSTOP, region: str | None = None
    ) -> list[Listen]:
        """Every host and every Fargate task of a zone dies; KeyError where there is none."""
        world = self.regions.at(region).world
        hosts = [each for each in world.state.instances() if each.zone == zone]
        tasks = [each for each in world.state.tasks() if each.zone == zone and not each.instance]
        if not hosts and not tasks:
            raise KeyError(f"nothing runs in the zone {zone}")
        found = [at for host in hosts for at in self.lose_host(host.arn, how)]
        return found + _lost(world, tasks, how)

    def connect_agent(self, container_instance_arn: str, connected: bool) -> None:
        """The agent of a host loses its connection or has it again; its tasks go on."""
        region, instance = self.regions.instance(container_instance_arn)
        instance.agent_connected = connected
        instance.version += 1
        region.world.on_instance(instance)

    def interrupt_spot(self, arn: str) -> None:
        """The two minutes' notice for a container instance, or for a Fargate task.

        The instance is DRAINING and gone after two minutes of the pace; the task is stopped.
        """
        try:
            region, task = self.regions.task(arn)
        except KeyError:
            region, instance = self.regions.instance(arn)
            instances.interrupt(region.world, instance)
        else:
            lifecycle.stop(region.world, task, "SpotInterruption", _INTERRUPTED)

    def hold_deployment(
        self, cluster: str, service: str, held: bool = True, region: str | None = None
    ) -> None:
        """From now on the stages of the service's deployments go on by `next_stage` only."""
        world = self.regions.at(region).world
        releases.hold(world, self._service(world, cluster, service), held)

    def next_stage(self, cluster: str, service: str, region: str | None = None) -> Document:
        """Go on to the next stage or traffic step; returns `stage` and `production`."""
        world = self.regions.at(region).world
        found = self._service(world, cluster, service)
        releases.advance(world, found)
        last = found.releases[-1] if found.releases else None
        if last is None:
            raise ValueError(f"service {service} has no deployment of its own controller")
        weights = {i: last.production[i] for i in last.production}
        return {"stage": last.stage, "status": last.status, "production": weights}

    def _service(self, world: World, cluster: str, service: str) -> Service:
        found = services.find(world.cluster(cluster), service)
        if found is None:
            raise KeyError(f"no service {service} in cluster {cluster}")
        return found

    def add_role(self, arn: str, external_id: str) -> None:
        """Declare a role that is only assumed with this external id."""
        self.regions.identities.add_role(arn, external_id)

    def summary(self) -> Document:
        """Clusters with their counts, by account and region."""
        found = []
        for region in self.regions:
            state = region.world.state
            for cluster in state.clusters.values():
                tasks = Counter(task.status for task in cluster.tasks.values())
                found.append(
                    {
                        "account": state.account,
                        "region": state.region,
                        "cluster": cluster.name,
                        "instances": len(cluster.instances),
                        "services": len(cluster.services),
                        "tasks": dict(tasks),
                    }
                )
        return {"url": self.runtime.url, "clusters": found}

    def http(self, method: str, path: str, body: bytes) -> Document:
        """One request under `/_local/`; ApiError for what is not understood."""
        act: Callable[[Document], Document] | None = {
            ("GET", ""): lambda given: self.summary(),
            ("GET", "calls"): lambda given: {"calls": dict(self.calls)},
            ("DELETE", "calls"): lambda given: _done(self.calls.clear),
            ("GET", "faults"): lambda given: self._faults(),
            ("DELETE", "faults"): lambda given: _done(self.runtime.faults.clear),
            ("POST", "faults"): self._fault,
            ("POST", "instances"): lambda given: {"arns": self.add_instances(**given)},
            ("POST", "populate"): lambda given: self.populate(**given),
            ("POST", "kill-process"): lambda given: _done(self.kill_process, given["task"]),
            ("POST", "lose-host"): lambda given: _done(self.lose_host, given["containerInstance"]),
            ("POST", "agent"): lambda given: _done(
                self.connect_agent, given["containerInstance"], bool(given["connected"])
            ),
            ("POST", "interrupt-spot"): lambda given: _done(self.interrupt_spot, given["arn"]),
            ("POST", "hold-deployment"): lambda given: _done(self.hold_deployment, **given),
            ("POST", "next-stage"): lambda given: self.next_stage(**given),
            ("POST", "throttle"): self._throttle,
            ("POST", "roles"): lambda given: _done(
                self.add_role, given["arn"], given["externalId"]
            ),
        }.get((method, path.strip("/")))
        if act is None:
            raise ApiError("NotFound", f"no {method} /_local/{path}", 404)
        try:
            given = msgspec.json.decode(body or b"{}", type=dict[str, Any])
            return act(given)
        except (KeyError, TypeError, ValueError) as error:
            raise ApiError("BadRequest", str(error), 400) from error

    def _faults(self) -> Document:
        return {"faults": [each.document() for each in self.runtime.faults], "kinds": KINDS}

    def _fault(self, given: Document) -> Document:
        return self.runtime.faults.on(**given).document()

    def _throttle(self, given: Document) -> Document:
        self.throttle.enabled = bool(given["enabled"])
        return {"enabled": self.throttle.enabled}


def _lost(world: World, tasks: list[Task], how: int | None) -> list[Listen]:
    alive = [task for task in tasks if task.status != ENDED]
    where = [
        at
        for task in alive
        if not task.simulated
        for container in task.containers
        for at, _ in listens(task, container)
    ]
    for task in alive:
        lifecycle.lose(world, task, how)
    return where


def _done(act: Callable[..., object], *arguments: Any, **named: Any) -> Document:
    act(*arguments, **named)
    return {}
