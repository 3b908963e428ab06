"""Container instance operations; every instance is a "host" on a loopback address of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from discovery.local import lifecycle
from discovery.local.addresses import FIRST_DYNAMIC, LAST_DYNAMIC
from discovery.local.documents import instance_document
from discovery.local.errors import client_error, invalid
from discovery.local.ids import last_part
from discovery.local.pages import page
from discovery.local.placement import matches
from discovery.local.state import ENDED, Cluster, Document, Instance
from discovery.local.world import ZONES, World

_DESCRIBE_LIMIT = 100
_UPDATE_LIMIT = 10
_SPOT_NOTICE_S = 120.0
_DEFAULT_CPU, _DEFAULT_MEMORY = 4096, 16384


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What a new host is like.

    `ipv6_bindings`: "" (or False) none, "same" or "different" (or True) host ports on `::`;
    `split_ranges`: port ranges arrive as single bindings; `host_ports`: first and last of the
    dynamic host ports, given in turn, so that a range of two is soon used again. ValueError for
    what does not exist.
    """

    cpu: int = _DEFAULT_CPU
    memory: int = _DEFAULT_MEMORY
    external: bool = False
    simulated: bool = False
    ipv6_bindings: str | bool = ""
    address: str | None = None
    zone: str | None = None
    ec2_id: str | None = None
    capacity_provider: str | None = None
    split_ranges: bool = False
    host_ports: tuple[int, int] = (FIRST_DYNAMIC, LAST_DYNAMIC)

    def __post_init__(self) -> None:
        first, last = self.host_ports
        if not 1 <= first <= last <= LAST_DYNAMIC:
            raise ValueError(f"host_ports is the first and the last port, not {self.host_ports!r}")
        if self.ipv6_bindings not in ("", "same", "different", True, False):
            raise ValueError(f'ipv6_bindings is "same" or "different", not {self.ipv6_bindings!r}')

    @property
    def second_binding(self) -> str:
        """What the host binds on `::`: nothing, the same or different host ports."""
        if isinstance(self.ipv6_bindings, bool):
            return "different" if self.ipv6_bindings else ""
        return self.ipv6_bindings


def add(
    world: World,
    cluster: Cluster,
    options: HostOptions,
    attributes: tuple[Document, ...] = (),
    tags: tuple[Document, ...] = (),
) -> Instance:
    """Add a host to a cluster, in the next zone."""
    number = len(cluster.instances)
    zone = options.zone or world.state.region + ZONES[number % len(ZONES)]
    name = world.ids.hex(32)
    kind = "mi-" if options.external else "i-"
    made = Instance(
        arn=world.ids.arn(f"container-instance/{cluster.name}/{name}"),
        id=name,
        sequence=world.state.next_sequence(),
        cluster=cluster,
        address=options.address or world.run.addresses.host(),
        zone=zone,
        subnet=world.subnet(zone),
        cpu=options.cpu,
        memory=options.memory,
        registered_at=world.now(),
        ec2_id=options.ec2_id or kind + world.ids.hex(17),
        attributes=[*_attributes(world, zone, options), *attributes],
        tags=list(tags),
        ipv6_bindings=options.second_binding,
        ipv6="::1" if options.second_binding else None,
        capacity_provider=options.capacity_provider,
        simulated=options.simulated,
        split_ranges=options.split_ranges,
        dynamic_ports=range(options.host_ports[0], options.host_ports[1] + 1),
        next_port=options.host_ports[0],
    )
    cluster.instances[name] = made
    world.on_instance(made)
    return made


def _attributes(world: World, zone: str, options: HostOptions) -> list[Document]:
    found: list[Document] = [
        {"name": "ecs.capability.docker-plugin.local"},
        {"name": "com.amazonaws.ecs.capability.docker-remote-api.1.18"},
        {"name": "ecs.capability.container-health-check"},
        {"name": "ecs.capability.network.container-port-range"},
        {"name": "ecs.os-type", "value": "linux"},
        {"name": "ecs.os-family", "value": "LINUX"},
        {"name": "ecs.cpu-architecture", "value": "x86_64"},
    ]
    if options.external:
        return [*found, {"name": "ecs.capability.external"}]
    return [
        *found,
        {"name": "ecs.capability.task-eni"},
        {"name": "ecs.availability-zone", "value": zone},
        {"name": "ecs.instance-type", "value": "t3.medium"},
        {"name": "ecs.ami-id", "value": "ami-0ac7415dd546fb485"},
        {"name": "ecs.vpc-id", "value": world.vpc},
        {"name": "ecs.subnet-id", "value": world.subnet(zone)},
    ]


def register(world: World, request: Document) -> Document:
    """RegisterContainerInstance.

    `instanceIdentityDocument` (JSON) may name `instanceId`, `availabilityZone` and `privateIp`
    (of 127.0.0.0/8); the attributes `local.ipv6-bindings`, `local.simulated` and `local.external`
    choose the host's kind.
    """
    cluster = world.cluster(request.get("cluster"))
    identity = _identity(request.get("instanceIdentityDocument"))
    attributes = request.get("attributes") or []
    chosen = {str(each.get("name")): str(each.get("value", "true")) for each in attributes}
    address = identity.get("privateIp")
    ec2_id = identity.get("instanceId")
    resources = {r.get("name"): r.get("integerValue") for r in request.get("totalResources") or ()}
    options = HostOptions(
        cpu=int(resources.get("CPU") or _DEFAULT_CPU),
        memory=int(resources.get("MEMORY") or _DEFAULT_MEMORY),
        external=chosen.get("local.external") == "true" or str(ec2_id).startswith("mi-"),
        simulated=chosen.get("local.simulated") == "true",
        ipv6_bindings=chosen.get("local.ipv6-bindings", ""),
        address=address if str(address).startswith("127.") else None,
        zone=identity.get("availabilityZone"),
        ec2_id=ec2_id,
    )
    kept = tuple(each for each in attributes if not str(each.get("name")).startswith("local."))
    made = add(world, cluster, options, kept, tuple(request.get("tags") or ()))
    return {"containerInstance": instance_document(made, {"TAGS"})}


def _identity(given: object) -> Document:
    try:
        found = msgspec.json.decode(str(given)) if given else {}
    except msgspec.DecodeError as error:
        raise client_error("Unable to parse the instance identity document.") from error
    return found if isinstance(found, dict) else {}


def find(cluster: Cluster, named: object) -> Instance | None:
    """The instance of that id or ARN, None when the cluster has none."""
    found = cluster.instances.get(last_part(str(named)))
    if found is not None and str(named).startswith("arn:") and found.arn != named:
        return None
    return found


def deregister(world: World, request: Document) -> Document:
    """DeregisterContainerInstance: its tasks go on unless `force`, then they are stopped."""
    cluster = world.cluster(request.get("cluster"))
    found = find(cluster, request.get("containerInstance"))
    if found is None:
        raise invalid("Referenced container instance not found.")
    running = [task for task in found.tasks.values() if task.status != ENDED]
    if running and not request.get("force"):
        raise invalid("Found running tasks on the instance.")
    found.status = "INACTIVE"
    found.agent_connected = False
    answer = instance_document(found, set())
    del cluster.instances[found.id]
    for task in running:
        lifecycle.stop(world, task, "ServiceSchedulerInitiated", "Container instance deregistered")
    world.on_instance(found)
    return {"containerInstance": answer}


def interrupt(world: World, instance: Instance) -> None:
    """A Spot instance gets its two minutes' notice: DRAINING, then gone with what is left on it."""
    instance.status = "DRAINING"
    instance.version += 1
    world.on_instance(instance)
    notice_s = _SPOT_NOTICE_S * world.run.pace.period_scale
    world.run.call_later(notice_s, _terminate, world, instance)


def _terminate(world: World, instance: Instance) -> None:
    if instance.cluster.instances.pop(instance.id, None) is None:
        return
    instance.status, instance.agent_connected = "INACTIVE", False
    for task in list(instance.tasks.values()):
        lifecycle.lose(world, task)
        reason = f"Host EC2 (instance {instance.ec2_id}) terminated."
        lifecycle.stop(world, task, "TerminationNotice", reason)
    world.on_instance(instance)


def list_instances(world: World, request: Document) -> Document:
    """ListContainerInstances, by status and cluster query."""
    cluster = world.cluster(request.get("cluster"))
    status = request.get("status")
    query = str(request.get("filter") or "")
    items = (
        (instance.sequence, instance.arn)
        for instance in cluster.instances.values()
        if status in (None, instance.status) and (not query or matches(instance, query))
    )
    found, token = page(world.run.pages, "ListContainerInstances", request, items)
    return {"containerInstanceArns": found} | ({"nextToken": token} if token else {})


def describe(world: World, request: Document) -> Document:
    """DescribeContainerInstances; unknown ones are failures."""
    cluster = world.cluster(request.get("cluster"))
    named = request.get("containerInstances") or []
    if not named:
        raise invalid("Container instances cannot be empty.")
    if len(named) > _DESCRIBE_LIMIT:
        raise invalid("instanceIds can have at most 100 items.")
    return _described(world, cluster, named, set(request.get("include") or ()))


def _described(world: World, cluster: Cluster, named: list[Any], include: set[str]) -> Document:
    instances, failures = [], []
    for name in named:
        found = find(cluster, name)
        if found is None:
            failures.append({"arn": full_arn(world, cluster, name), "reason": "MISSING"})
        else:
            instances.append(instance_document(found, include))
    return {"containerInstances": instances, "failures": failures}


def full_arn(world: World, cluster: Cluster, named: object) -> str:
    """The ARN an id would have in this cluster."""
    text = str(named)
    if text.startswith("arn:"):
        return text
    return world.ids.arn(f"container-instance/{cluster.name}/{text}")


def update_state(world: World, request: Document) -> Document:
    """UpdateContainerInstancesState to ACTIVE or DRAINING; draining moves services' tasks away."""
    cluster = world.cluster(request.get("cluster"))
    named, status = request.get("containerInstances") or [], request.get("status")
    if status not in ("ACTIVE", "DRAINING"):
        raise invalid("Container instance status must be one of [DRAINING, ACTIVE].")
    if len(named) > _UPDATE_LIMIT:
        raise invalid("instanceIds can have at most 10 items.")
    for name in named:
        found = find(cluster, name)
        if found is not None:
            found.status = status
            found.version += 1
            world.on_instance(found)
    return _described(world, cluster, named, set())


OPERATIONS = {
    "RegisterContainerInstance": register,
    "DeregisterContainerInstance": deregister,
    "ListContainerInstances": list_instances,
    "DescribeContainerInstances": describe,
    "UpdateContainerInstancesState": update_state,
}
