"""ELBv2 DescribeTargetHealth: the targets are the services' tasks, judged by a TCP connect.

A target group exists as soon as a service names its ARN.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass

from discovery.local.errors import ApiError
from discovery.local.ports import listens
from discovery.local.state import ENDED, Document, Service, Task
from discovery.local.world import World

_CONNECT_S = 0.5
_TARGET = re.compile(r"Targets\.member\.(\d+)\.(Id|Port)$")


@dataclass(frozen=True, slots=True)
class Target:
    """One registered target: `id` is an instance id or an address."""

    id: str
    port: int
    zone: str | None
    address: str
    task: Task


async def describe_target_health(world: World, form: Document) -> Document:
    """DescribeTargetHealth: initial, healthy, unhealthy, draining or unused."""
    arn = str(form.get("TargetGroupArn"))
    services = [each for each in _services(world) if arn in _groups(each)]
    if not services:
        raise ApiError("TargetGroupNotFound", f"Target groups '{arn}' not found")
    targets = [target for service in services for target in _targets(service, arn)]
    wanted = _wanted(form)
    found = [each for each in targets if not wanted or (each.id, each.port) in wanted]
    known = {(each.id, each.port) for each in targets}
    states = await asyncio.gather(*(_state(each) for each in found))
    described = [_description(each, state) for each, state in zip(found, states, strict=True)]
    described += [
        {
            "Target": {"Id": name, "Port": port},
            "TargetHealth": _health("unused", "Target.NotRegistered"),
        }
        for name, port in wanted
        if (name, port) not in known
    ]
    return {"TargetHealthDescriptions": described}


def _services(world: World) -> Iterator[Service]:
    for cluster in world.state.clusters.values():
        yield from (each for each in cluster.services.values() if each.status != "INACTIVE")


def _groups(service: Service) -> list[str]:
    return [str(each.get("targetGroupArn")) for each in service.document["loadBalancers"]]


def _wanted(form: Document) -> list[tuple[str, int]]:
    found: dict[int, dict[str, str]] = {}
    for key, value in form.items():
        if match := _TARGET.match(key):
            found.setdefault(int(match[1]), {})[match[2]] = str(value)
    return [(each["Id"], int(each.get("Port", 0))) for _, each in sorted(found.items())]


def _targets(service: Service, arn: str) -> Iterator[Target]:
    for balancer in service.document["loadBalancers"]:
        if balancer.get("targetGroupArn") != arn:
            continue
        for task in service.tasks.values():
            if task.status in ("ACTIVATING", "RUNNING", "DEACTIVATING"):
                yield from _of_task(task, balancer)


def _of_task(task: Task, balancer: Document) -> Iterator[Target]:
    for container in task.containers:
        if container.name != balancer.get("containerName"):
            continue
        for (address, port, _), container_port in listens(task, container):
            if container_port == balancer.get("containerPort") and ":" not in address:
                name = address if task.eni or not task.instance else task.instance.ec2_id
                yield Target(name, port, task.zone, address, task)


async def _state(target: Target) -> Document:
    if target.task.desired == ENDED:
        return _health("draining", "Target.DeregistrationInProgress")
    if target.task.status == "ACTIVATING":
        return _health("initial", "Elb.RegistrationInProgress")
    if target.task.simulated:
        return {"State": "healthy"}
    try:
        connecting = asyncio.open_connection(target.address, target.port)
        _, writer = await asyncio.wait_for(connecting, _CONNECT_S)
    except OSError:
        return _health("unhealthy", "Target.FailedHealthChecks")
    writer.close()
    return {"State": "healthy"}


def _health(state: str, reason: str) -> Document:
    texts = {
        "Target.DeregistrationInProgress": "Target deregistration is in progress",
        "Elb.RegistrationInProgress": "Target registration is in progress",
        "Target.FailedHealthChecks": "Health checks failed",
        "Target.NotRegistered": "Target is not registered to the target group",
    }
    return {"State": state, "Reason": reason, "Description": texts[reason]}


def _description(target: Target, state: Document) -> Document:
    described = {"Id": target.id, "Port": target.port}
    if target.task.eni is not None and target.zone is not None:
        described["AvailabilityZone"] = target.zone
    return {
        "Target": described,
        "HealthCheckPort": str(target.port),
        "TargetHealth": state,
    }


OPERATIONS = {"DescribeTargetHealth": describe_target_health}
