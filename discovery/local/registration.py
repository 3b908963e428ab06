"""Services' tasks in target groups: registered while they activate, checked, drained at their end.

A target's health is news for the service: its scheduler is woken by every change. Periods are
shortened by `Pace.period_scale`, as those of container health checks are.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from discovery.local import targets
from discovery.local.errors import invalid
from discovery.local.ports import listens
from discovery.local.probes import Probe
from discovery.local.state import Definition, Document, Task
from discovery.local.targets import Outcome, Target, TargetGroup
from discovery.local.world import World

ATTRIBUTES = {
    "deregistration_delay.timeout_seconds": "300",
    "stickiness.enabled": "false",
    "load_balancing.algorithm.type": "round_robin",
}


def group_of(world: World, arn: str) -> TargetGroup:
    """The target group of that ARN; one that nobody created is implied."""
    found = world.state.target_groups.get(arn)
    if found is None:
        settings = {
            "TargetGroupArn": arn,
            "TargetGroupName": arn.split("/")[1] if arn.count("/") == 2 else arn[:32],
            "Protocol": "TCP",
            "Port": 80,
            "VpcId": world.vpc,
            "HealthCheckProtocol": "TCP",
            "HealthCheckPort": "traffic-port",
            "HealthCheckEnabled": True,
            "HealthCheckIntervalSeconds": 5,
            "HealthCheckTimeoutSeconds": 5,
            "HealthyThresholdCount": 2,
            "UnhealthyThresholdCount": 2,
            "LoadBalancerArns": [],
            "TargetType": "ip",
            "IpAddressType": "ipv4",
        }
        found = TargetGroup(arn, settings, implied=True, attributes=dict(ATTRIBUTES))
        world.state.target_groups[arn] = found
    return found


def check_types(world: World, definition: Definition, balancers: list[Document]) -> None:
    """InvalidParameterException where a group's target type does not fit the network mode.

    A group that nobody created is there from now on.
    """
    mode = definition.network_mode
    needed = "ip" if mode == "awsvpc" else "instance"
    for balancer in balancers:
        arn = str(balancer.get("targetGroupArn"))
        group = group_of(world, arn)
        if not group.implied and group.type != needed:
            raise invalid(
                f"The provided target group {arn} has target type {group.type}, which is "
                f"incompatible with the {mode} network mode specified in the task definition."
            )


def register(world: World, task: Task) -> None:
    """Make the task's ports targets of its load balancers' groups."""
    for balancer in task.balancers:
        group = group_of(world, str(balancer.get("targetGroupArn")))
        for target in _of_task(task, balancer):
            task.targets.append((group, target))
            enter(world, group, target, partial(_changed, world, task))


def _changed(world: World, task: Task) -> None:
    if task.service is not None:
        world.wake(task.service)


def _of_task(task: Task, balancer: Document) -> Iterator[Target]:
    for container in task.containers:
        if container.name != balancer.get("containerName"):
            continue
        for (address, port, _), container_port in listens(task, container):
            if container_port == balancer.get("containerPort") and ":" not in address:
                name = address if task.eni or not task.instance else task.instance.ec2_id
                yield Target(name, port, address, task.zone, task.simulated)


def enter(world: World, group: TargetGroup, target: Target, changed: targets.Changed) -> None:
    """Register a target; one of the same id and port, maybe draining, makes room."""
    before = group.targets.get(target.key)
    if before is not None:
        _forget(group, before)
    group.targets[target.key] = target
    delay_s = world.run.pace.activating_s
    target.timer = world.run.call_later(delay_s, _begin, world, group, target, changed)


def _begin(world: World, group: TargetGroup, target: Target, changed: targets.Changed) -> None:
    """The load balancer knows the target: the first check is made at once."""
    if not group.checked:
        target.become("unavailable", targets.DISABLED)
        changed()
    elif target.simulated:
        target.become("healthy")
        changed()
    else:
        target.become("initial", targets.CHECKING)
        _check(world, group, target, changed)


def _check(world: World, group: TargetGroup, target: Target, changed: targets.Changed) -> None:
    settings = group.settings
    http = settings["HealthCheckProtocol"] in ("HTTP", "HTTPS")
    port = settings["HealthCheckPort"]
    wanted = Probe(
        address=target.address,
        port=target.port if port == "traffic-port" else int(port),
        timeout_s=float(settings["HealthCheckTimeoutSeconds"]),
        path=str(settings.get("HealthCheckPath") or "/") if http else None,
        matcher=str((settings.get("Matcher") or {}).get("HttpCode") or "200"),
    )
    world.run.prober.probe(wanted, partial(_checked, world, group, target, changed))


def _checked(
    world: World, group: TargetGroup, target: Target, changed: targets.Changed, outcome: Outcome
) -> None:
    if target.state == "draining" or group.targets.get(target.key) is not target:
        return
    settings = group.settings
    thresholds = settings["HealthyThresholdCount"], settings["UnhealthyThresholdCount"]
    if target.judge(outcome, *thresholds):
        changed()
    interval_s = float(settings["HealthCheckIntervalSeconds"]) * world.run.pace.period_scale
    target.timer = world.run.call_later(interval_s, _check, world, group, target, changed)


def leave(world: World, group: TargetGroup, target: Target) -> float:
    """Deregister a target; returns for how many seconds it drains."""
    if group.targets.get(target.key) is not target:
        return 0.0
    if target.timer is not None:
        target.timer.cancel()
    pace = world.run.pace
    delay_s = group.deregistration_delay_s * pace.period_scale
    if group.implied:
        delay_s = pace.deactivating_s
    target.become("draining", targets.DEREGISTERING)
    target.timer = world.run.call_later(delay_s, _forget, group, target)
    return delay_s


def deregister(world: World, task: Task) -> float:
    """Deregister a task's targets; ECS waits so many seconds before it ends the containers."""
    gone, task.targets = task.targets, []
    return max((leave(world, group, target) for group, target in gone), default=0.0)


def _forget(group: TargetGroup, target: Target) -> None:
    if target.timer is not None:
        target.timer.cancel()
    if group.targets.get(target.key) is target:
        del group.targets[target.key]
