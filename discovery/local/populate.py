"""Simulated services and tasks at scale, made at once instead of started one by one."""

from __future__ import annotations

from discovery.local import definitions, instances, orders, releases, services
from discovery.local.instances import HostOptions
from discovery.local.ports import bind
from discovery.local.state import Cluster, Document, Instance, Service
from discovery.local.world import World

_CONTAINER_PORT = 8080
_HOST_CPU, _HOST_MEMORY = 192 * 1024, 1024 * 1024


def populate(
    world: World,
    cluster: Cluster,
    services: int = 100,
    tasks: int = 1000,
    instances: int = 50,
    mode: str = "bridge",
    prefix: str = "svc",
) -> Document:
    """Add simulated hosts, one definition per service and RUNNING tasks spread evenly over both.

    `mode` is bridge (dynamic ports), host, awsvpc or fargate. Services are named `svc-0`, `svc-1`,
    …; returns the counts. The tasks have no process, and the scheduler keeps their number.
    """
    if mode not in ("bridge", "host", "awsvpc", "fargate"):
        raise ValueError(f"mode is bridge, host, awsvpc or fargate, not {mode!r}")
    hosts = _hosts(world, cluster, 0 if mode == "fargate" else max(instances, 1))
    started = len(cluster.services)
    for number in range(services):
        share = tasks // services + (number < tasks % services)
        made = _service(world, cluster, f"{prefix}-{started + number}", mode, share)
        _fill(world, made, hosts, number)
    return {"services": services, "tasks": tasks, "instances": len(hosts)}


def _hosts(world: World, cluster: Cluster, count: int) -> list[Instance]:
    options = HostOptions(cpu=_HOST_CPU, memory=_HOST_MEMORY, simulated=True)
    return [instances.add(world, cluster, options) for _ in range(count)]


def _service(world: World, cluster: Cluster, name: str, mode: str, desired: int) -> Service:
    fargate = mode == "fargate"
    network_mode = "awsvpc" if fargate else mode
    port = {"containerPort": _CONTAINER_PORT, "name": "http"}
    container = {"name": "app", "image": "app:1", "cpu": 16, "memory": 64, "portMappings": [port]}
    request: Document = {
        "family": name,
        "networkMode": network_mode,
        "containerDefinitions": [container],
    }
    if fargate:
        request |= {"requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512"}
    definition = definitions.register(world, request)["taskDefinition"]
    wanted: Document = {
        "cluster": cluster.name,
        "serviceName": name,
        "taskDefinition": definition["taskDefinitionArn"],
        "desiredCount": desired,
        "launchType": "FARGATE" if fargate else "EC2",
    }
    if network_mode == "awsvpc":
        subnets = [world.subnet(world.state.region + letter) for letter in "abc"]
        wanted["networkConfiguration"] = {"awsvpcConfiguration": {"subnets": subnets}}
    services.create_service(world, wanted)
    return cluster.services[name]


def _fill(world: World, service: Service, hosts: list[Instance], offset: int) -> None:
    """The service as it is when all of its tasks have run for a while."""
    service.simulated = True
    order = orders.of_service(service, service.primary)
    for number in range(service.desired):
        host = hosts[(offset * service.desired + number) % len(hosts)] if hosts else None
        task = orders.make(world, order, host)
        now = world.now()
        task.status, task.version = "RUNNING", 3
        task.connectivity_at = task.pull_started_at = task.pull_stopped_at = now
        task.started_at = now
        if task.eni is not None:
            task.eni.status = "ATTACHED"
        for container in task.containers:
            container.bindings = bind(task, container)
            container.status, container.started_at = "RUNNING", now
        orders.enter(task)
    primary = service.primary
    primary.rollout, primary.steady = "COMPLETED", True
    releases.settled(world, service)
    primary.reason = f"ECS deployment {primary.id} completed."
