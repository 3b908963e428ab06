"""One account and region put together, and all of them.

A call goes to the account of its credentials and the region it was signed for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from discovery.local import (
    clusters,
    definitions,
    deployments,
    ec2,
    elb,
    instances,
    protection,
    services,
    sqs,
    ssm,
    sts,
    tags,
    tasks,
    tasksets,
)
from discovery.local.errors import ApiError
from discovery.local.events import instance_event, task_event
from discovery.local.ids import last_part
from discovery.local.scheduler import Scheduler
from discovery.local.state import ENDED, Container, Document, Instance, State, Task
from discovery.local.wire import Call, Raw
from discovery.local.world import Runtime, World

Answer = Document | Raw
Operation = Callable[[World, Document], Any]

OPERATIONS: dict[str, Mapping[str, Operation]] = {
    "ecs": {
        **clusters.OPERATIONS,
        **definitions.OPERATIONS,
        **deployments.OPERATIONS,
        **instances.OPERATIONS,
        **protection.OPERATIONS,
        **services.OPERATIONS,
        **tags.OPERATIONS,
        **tasks.OPERATIONS,
        **tasksets.OPERATIONS,
    },
    "ec2": ec2.OPERATIONS,
    "elbv2": elb.OPERATIONS,
    "sqs": sqs.OPERATIONS,
    "ssm": ssm.OPERATIONS,
}


class Region:
    """The world of one account and region and who looks after it."""

    def __init__(self, account: str, region: str, runtime: Runtime) -> None:
        self.world = World(State(account, region), runtime)
        self.scheduler = Scheduler(self.world)
        self.world.wake = self.scheduler.wake
        self.world.on_task = self._task_changed
        self.world.on_instance = self._instance_changed

    def _task_changed(self, task: Task) -> None:
        if task.status == ENDED and task.service is not None:
            self.scheduler.ended(task)
        if self.world.queues:
            self._tell(task_event(self.world, task))

    def _instance_changed(self, instance: Instance) -> None:
        self.scheduler.wake_cluster(instance.cluster)
        if self.world.queues:
            self._tell(instance_event(self.world, instance))

    def _tell(self, event: Document) -> None:
        body = msgspec.json.encode(event).decode()
        for queue in self.world.queues.values():
            queue.put(self.world.ids, body, self.world.run.clock())


class Regions:
    """Every account and region of a server, made when first asked for."""

    def __init__(self, account: str, region: str, runtime: Runtime) -> None:
        self.account = account
        self.region = region
        self.identities = sts.Identities(account)
        self._runtime = runtime
        self._regions: dict[tuple[str, str], Region] = {}

    def at(self, region: str | None = None, account: str | None = None) -> Region:
        """The region of that name (the default one when None)."""
        key = (account or self.account, region or self.region)
        if key not in self._regions:
            self._regions[key] = Region(*key, self._runtime)
        return self._regions[key]

    def __iter__(self) -> Iterator[Region]:
        return iter(tuple(self._regions.values()))

    def answer(self, call: Call) -> Answer | Awaitable[Answer]:
        """Carry out a call; raises `ApiError`."""
        caller = self.identities.caller(call.access_key)
        world = self.at(call.region, caller.account).world
        operation: Operation | None
        if call.service == "sts":
            operation = {
                "GetCallerIdentity": partial(_identity, caller),
                "AssumeRole": partial(_assumed, self.identities),
            }.get(call.operation)
        else:
            operation = OPERATIONS[call.service].get(call.operation)
        if operation is None:
            raise _unknown(call)
        answer: Answer | Awaitable[Answer] = operation(world, call.request)
        return answer

    def task(self, arn: str) -> tuple[Region, Task]:
        """The task of that id or ARN in any region; KeyError when there is none."""
        for region in self:
            for cluster in region.world.state.clusters.values():
                if found := cluster.tasks.get(last_part(arn)):
                    return region, found
        raise KeyError(f"no task {arn}")

    def instance(self, arn: str) -> tuple[Region, Instance]:
        """The container instance of that id or ARN in any region; KeyError when there is none."""
        for region in self:
            for cluster in region.world.state.clusters.values():
                if found := cluster.instances.get(last_part(arn)):
                    return region, found
        raise KeyError(f"no container instance {arn}")

    def container(self, metadata_id: str) -> tuple[Region, Task, Container]:
        """The container with that metadata id; KeyError when there is none."""
        region, task = self.task(metadata_id.partition("-")[0])
        for container in task.containers:
            if container.metadata_id == metadata_id:
                return region, task, container
        raise KeyError(f"no container {metadata_id}")


def _identity(caller: sts.Caller, world: World, form: Document) -> Document:
    return sts.get_caller_identity(caller)


def _assumed(identities: sts.Identities, world: World, form: Document) -> Document:
    return sts.assume_role(world, identities, form)


def _unknown(call: Call) -> ApiError:
    if call.service in ("ecs", "ssm", "sqs"):
        return ApiError("UnknownOperationException", f"Unknown operation {call.operation}", 404)
    return ApiError("InvalidAction", f"The action {call.operation} is not valid for this service.")
