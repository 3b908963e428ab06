"""The task metadata endpoint v4: `/v4/ID`, `/v4/ID/task`, `/v4/ID/taskWithTags`.

Each container gets its own URL in `ECS_CONTAINER_METADATA_URI_V4`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from discovery.local.documents import present
from discovery.local.ports import address_of, listens
from discovery.local.state import Container, Document, Task
from discovery.local.world import World


def container_metadata(world: World, task: Task, container: Container) -> Document:
    """What `${ECS_CONTAINER_METADATA_URI_V4}` answers."""
    labels = container.definition.get("dockerLabels") or {}
    definition = task.definition
    logs = container.definition.get("logConfiguration") or {}
    return present(
        DockerId=container.runtime_id,
        Name=container.name,
        DockerName=f"ecs-{definition.family}-{definition.revision}-{container.name}-{task.id[:20]}",
        Image=container.definition.get("image"),
        ImageID=f"sha256:{container.runtime_id[:64]}",
        Ports=_ports(task, container) or None,
        Labels={
            "com.amazonaws.ecs.cluster": task.cluster.name,
            "com.amazonaws.ecs.container-name": container.name,
            "com.amazonaws.ecs.task-arn": task.arn,
            "com.amazonaws.ecs.task-definition-family": definition.family,
            "com.amazonaws.ecs.task-definition-version": str(definition.revision),
        }
        | labels,
        DesiredStatus=task.desired,
        KnownStatus=container.status,
        ExitCode=container.exit_code,
        Limits={
            "CPU": container.definition.get("cpu", 0),
            "Memory": container.definition.get("memory") or 0,
        },
        CreatedAt=_iso(task.created_at),
        StartedAt=_iso(container.started_at),
        Type="NORMAL",
        Health=_health(container),
        LogDriver=logs.get("logDriver"),
        LogOptions=logs.get("options"),
        ContainerARN=container.arn,
        Networks=[_network(world, task)],
    )


def task_metadata(world: World, task: Task, tagged: bool) -> Document:
    """What `…/task` and `…/taskWithTags` answer."""
    document = present(
        Cluster=task.cluster.arn if task.launch_type == "FARGATE" else task.cluster.name,
        TaskARN=task.arn,
        Family=task.definition.family,
        ServiceName=task.service.name if task.service else None,
        Revision=str(task.definition.revision),
        DesiredStatus=task.desired,
        KnownStatus=task.status,
        Limits=_limits(task),
        PullStartedAt=_iso(task.pull_started_at),
        PullStoppedAt=_iso(task.pull_stopped_at),
        AvailabilityZone=task.zone if task.launch_type != "EXTERNAL" else None,
        VPCID=world.vpc if task.launch_type == "EC2" else None,
        LaunchType=task.launch_type,
        Containers=[container_metadata(world, task, each) for each in task.containers],
    )
    if not tagged:
        return document
    document["TaskTags"] = {each["key"]: each.get("value", "") for each in task.tags}
    if task.instance is not None:
        tags = {each["key"]: each.get("value", "") for each in task.instance.tags}
        document["ContainerInstanceTags"] = tags
    return document


def _limits(task: Task) -> Document | None:
    if task.definition.document.get("cpu") is None:
        return None
    return {"CPU": task.cpu_units / 1024, "Memory": task.memory_mib}


def _ports(task: Task, container: Container) -> list[Document]:
    """Bridge only: Fargate metadata never lists ports."""
    if task.mode != "bridge":
        return []
    return [
        {
            "ContainerPort": container_port,
            "Protocol": protocol,
            "HostPort": port,
            "HostIp": "::" if ":" in address else "0.0.0.0",
        }
        for (address, port, protocol), container_port in listens(task, container)
    ]


def _health(container: Container) -> Document | None:
    if not container.definition.get("healthCheck"):
        return None
    return present(status=container.health, statusSince=_iso(container.started_at))


def _network(world: World, task: Task) -> Document:
    address = address_of(task)
    if task.eni is None:
        return {"NetworkMode": task.mode, "IPv4Addresses": [address]}
    octets = address.split(".")
    return {
        "NetworkMode": "awsvpc",
        "IPv4Addresses": [address],
        "AttachmentIndex": 0,
        "MACAddress": task.eni.mac,
        "IPv4SubnetCIDRBlock": f"{octets[0]}.{octets[1]}.0.0/16",
        "PrivateDNSName": f"ip-{'-'.join(octets)}.ec2.internal",
        "SubnetGatewayIpv4Address": f"{octets[0]}.{octets[1]}.0.1/16",
    }


def _iso(timestamp: float | None) -> str | None:
    if timestamp is None:
        return None
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
