"""Records as the API writes them; members are absent where the real ones are.

Recorded answers decide: a PENDING container has no `networkBindings`, a task that never ran no
`startedAt`, a capacity provider's service no `launchType`, an ECS Anywhere task no zone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Set
from typing import Any

import msgspec

from discovery.local.network import Eni
from discovery.local.state import (
    ENDED,
    Cluster,
    Container,
    Deployment,
    Document,
    Instance,
    Service,
    Task,
    TaskSet,
)

_STARTING = ("PROVISIONING", "PENDING")
_WITHOUT_STORAGE = ("1.0.0", "1.1.0", "1.2.0", "1.3.0")


def present(**members: Any) -> Document:
    """The members whose value is known."""
    return {name: value for name, value in members.items() if value is not None}


def counts(tasks: Any) -> tuple[int, int]:
    """RUNNING and pending tasks among `tasks`."""
    running = pending = 0
    for task in tasks:
        if task.status == "RUNNING":
            running += 1
        elif task.status in _STARTING or task.status == "ACTIVATING":
            pending += 1
    return running, pending


def cluster_document(cluster: Cluster, include: Set[str]) -> Document:
    """A cluster; tags, settings and statistics only when asked for."""
    running, pending = counts(cluster.tasks.values())
    services = sum(service.status == "ACTIVE" for service in cluster.services.values())
    return {
        "clusterArn": cluster.arn,
        "clusterName": cluster.name,
        "status": cluster.status,
        "registeredContainerInstancesCount": len(cluster.instances),
        "runningTasksCount": running,
        "pendingTasksCount": pending,
        "activeServicesCount": services,
        "statistics": _statistics(cluster) if "STATISTICS" in include else [],
        "tags": cluster.tags if "TAGS" in include else [],
        "settings": cluster.document["settings"] if "SETTINGS" in include else [],
        "capacityProviders": cluster.document["capacityProviders"],
        "defaultCapacityProviderStrategy": cluster.document["defaultCapacityProviderStrategy"],
    }


def _statistics(cluster: Cluster) -> list[Document]:
    found = []
    for launch_type in ("EC2", "FARGATE", "EXTERNAL"):
        mine = (task for task in cluster.tasks.values() if task.launch_type == launch_type)
        running, pending = counts(mine)
        title = launch_type if launch_type == "EC2" else launch_type.capitalize()
        found.append({"name": f"running{title}TasksCount", "value": str(running)})
        found.append({"name": f"pending{title}TasksCount", "value": str(pending)})
    return found


def instance_document(instance: Instance, include: Set[str]) -> Document:
    """A container instance; tags only when asked for."""
    running, pending = counts(instance.tasks.values())
    ports = instance.ports()
    reserved = [str(port) for port in sorted(instance.reserved)]
    fixed = {proto: sorted(p for p, kind in ports if kind == proto) for proto in ("tcp", "udp")}
    dynamic = instance.dynamic_ports  # PORTS lists do not include them
    tcp = [str(port) for port in fixed["tcp"] if port not in dynamic]
    udp = [str(port) for port in fixed["udp"] if port not in dynamic]
    return present(
        containerInstanceArn=instance.arn,
        ec2InstanceId=instance.ec2_id,
        capacityProviderName=instance.capacity_provider,
        version=instance.version,
        versionInfo={
            "agentVersion": "1.90.0",
            "agentHash": "fe1e6a81",
            "dockerVersion": "DockerVersion: 25.0.6",
        },
        remainingResources=_resources(
            instance.cpu - instance.cpu_used,
            instance.memory - instance.memory_used,
            reserved + tcp,
            udp,
        ),
        registeredResources=_resources(instance.cpu, instance.memory, reserved, []),
        status=instance.status,
        agentConnected=instance.agent_connected,
        runningTasksCount=running,
        pendingTasksCount=pending,
        attributes=instance.attributes,
        registeredAt=instance.registered_at,
        attachments=[],
        tags=instance.tags if "TAGS" in include else [],
        healthStatus=_instance_health(instance) if "CONTAINER_INSTANCE_HEALTH" in include else None,
    )


def _instance_health(instance: Instance) -> Document:
    verdict = "OK" if instance.agent_connected else "IMPAIRED"
    detail = {"type": "CONTAINER_RUNTIME", "status": verdict, "lastUpdated": instance.registered_at}
    return {"overallStatus": verdict, "details": [detail]}


def _resources(cpu: int, memory: int, tcp: list[str], udp: list[str]) -> list[Document]:
    numbers = {"doubleValue": 0.0, "longValue": 0}
    return [
        {"name": "CPU", "type": "INTEGER", **numbers, "integerValue": cpu},
        {"name": "MEMORY", "type": "INTEGER", **numbers, "integerValue": memory},
        {
            "name": "PORTS",
            "type": "STRINGSET",
            **numbers,
            "integerValue": 0,
            "stringSetValue": tcp,
        },
        {
            "name": "PORTS_UDP",
            "type": "STRINGSET",
            **numbers,
            "integerValue": 0,
            "stringSetValue": udp,
        },
    ]


def attachment_document(eni: Eni, dns_name: str) -> Document:
    """The ENI attachment of a task; details grow with its status."""
    details = [{"name": "subnetId", "value": eni.subnet}]
    if eni.status != "PRECREATED":
        details += [
            {"name": "networkInterfaceId", "value": eni.id},
            {"name": "macAddress", "value": eni.mac},
            {"name": "privateDnsName", "value": dns_name},
            {"name": "privateIPv4Address", "value": eni.address},
        ]
        if eni.ipv6 is not None:
            details.append({"name": "ipv6Address", "value": eni.ipv6})
    return {
        "id": eni.attachment_id,
        "type": "ElasticNetworkInterface",
        "status": eni.status,
        "details": details,
    }


def _connect_document(task: Task) -> Document:
    """The Service Connect attachment; it comes before the interface's."""
    status = "PRECREATED" if task.status in _STARTING else "ATTACHED"
    names = (each.name for each in task.containers if each.injected)
    return {
        "id": task.connect_id,
        "type": "ServiceConnect",
        "status": "DELETED" if task.status == ENDED else status,
        "details": [{"name": "ContainerName", "value": name} for name in names],
    }


def _interfaces(task: Task) -> list[Document]:
    eni = task.eni
    if eni is None or eni.status == "PRECREATED":
        return []
    return [
        present(
            attachmentId=eni.attachment_id, privateIpv4Address=eni.address, ipv6Address=eni.ipv6
        )
    ]


def container_document(task: Task, container: Container, now: float) -> Document:
    """A container of a task."""
    definition = container.definition
    started = container.started_at is not None
    bindings: list[Document] | None = None
    if started and container.bindings is not None and now >= task.hide_bindings_until:
        bindings = [binding.document() for binding in container.bindings]
    elif started and now < task.hide_bindings_until and task.status == "RUNNING":
        bindings = []
    memory = definition.get("memory")
    reservation = definition.get("memoryReservation")
    fargate, injected = task.launch_type == "FARGATE", container.injected
    return present(
        containerArn=container.arn,
        taskArn=task.arn,
        name=container.name,
        image=definition.get("image"),
        imageDigest=_digest(definition["image"]) if started and fargate and not injected else None,
        runtimeId=container.runtime_id if started and not injected else None,
        lastStatus=container.status,
        exitCode=container.exit_code,
        reason=container.reason,
        networkBindings=bindings,
        networkInterfaces=_interfaces(task),
        healthStatus=container.health,
        cpu=None if injected else str(definition.get("cpu", 0)),
        memory=None if memory is None or (fargate and reservation) else str(memory),
        memoryReservation=None if reservation is None else str(reservation),
    )


def _digest(image: object) -> str:
    return f"sha256:{hashlib.sha256(str(image).encode()).hexdigest()}"


def task_document(task: Task, now: float) -> Document:
    """A task in full, with its tags."""
    external, fargate = task.launch_type == "EXTERNAL", task.launch_type == "FARGATE"
    attachments = [] if task.connect_id is None else [_connect_document(task)]
    if task.eni is not None:
        region = task.arn.split(":")[3]
        suffix = "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"
        dns_name = f"ip-{task.eni.address.replace('.', '-')}.{suffix}"
        attachments.append(attachment_document(task.eni, dns_name))
    current = fargate and task.platform_version not in _WITHOUT_STORAGE
    storage = {"sizeInGiB": 20} if current else None
    instance = task.instance
    return present(
        attachments=attachments,
        attributes=None if external else [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
        availabilityZone=None if external else task.zone,
        capacityProviderName=task.capacity_provider,
        clusterArn=task.cluster.arn,
        connectivity=None if external or task.connectivity_at is None else "CONNECTED",
        connectivityAt=None if external else task.connectivity_at,
        containerInstanceArn=None if instance is None else instance.arn,
        containers=[container_document(task, container, now) for container in task.containers],
        cpu=str(task.cpu_units),
        createdAt=task.created_at,
        desiredStatus=task.desired,
        enableExecuteCommand=task.execute_command,
        executionStoppedAt=task.execution_stopped_at,
        group=task.group,
        healthStatus=task.health,
        lastStatus=task.status,
        launchType=task.launch_type,
        memory=str(task.memory_mib),
        overrides=task.overrides,
        platformVersion=task.platform_version,
        platformFamily="Linux" if current else None,
        pullStartedAt=task.pull_started_at,
        pullStoppedAt=task.pull_stopped_at,
        startedAt=task.started_at,
        startedBy=task.started_by,
        stopCode=task.stop_code,
        stoppedAt=task.stopped_at,
        stoppedReason=task.stopped_reason,
        stoppingAt=task.stopping_at,
        tags=task.tags,
        taskArn=task.arn,
        taskDefinitionArn=task.definition.arn,
        version=task.version,
        ephemeralStorage=storage,
        fargateEphemeralStorage=storage,
    )


def encoded_task(task: Task, now: float, tagged: bool) -> bytes:
    """The task as JSON, kept until it changes; with its tags only when asked for."""
    if task.hide_bindings_until > now or (tagged and task.tags):
        document = task_document(task, now)
        return msgspec.json.encode(document if tagged else document | {"tags": []})
    if task.encoded is None:
        task.encoded = msgspec.json.encode(task_document(task, now) | {"tags": []})
    return task.encoded


def deployment_document(service: Service, deployment: Deployment) -> Document:
    """One deployment of a service."""
    mine = [task for task in service.tasks.values() if task.started_by == deployment.id]
    running, pending = counts(mine)
    settings = deployment.settings
    return present(
        id=deployment.id,
        status=deployment.status,
        taskDefinition=deployment.definition.arn,
        desiredCount=deployment.desired,
        pendingCount=pending,
        runningCount=running,
        failedTasks=deployment.failed,
        createdAt=deployment.created_at,
        updatedAt=deployment.updated_at,
        capacityProviderStrategy=settings.get("capacityProviderStrategy"),
        launchType=settings.get("launchType"),
        platformVersion=settings.get("platformVersion"),
        platformFamily=settings.get("platformFamily"),
        networkConfiguration=settings.get("networkConfiguration"),
        rolloutState=deployment.rollout,
        rolloutStateReason=deployment.reason,
        serviceConnectConfiguration=settings.get("serviceConnectConfiguration"),
    )


def revision_arn(service: Service, deployment: Deployment) -> str:
    """The service revision that a deployment is: both have the number that `startedBy` has."""
    number = deployment.id.rpartition("/")[2]
    return f"{service.arn.replace(':service/', ':service-revision/', 1)}/{number}"


def revision_counts(service: Service, deployment: Deployment) -> Document:
    """A service revision with its tasks counted."""
    mine = [task for task in service.tasks.values() if task.started_by == deployment.id]
    running, pending = counts(mine)
    return {
        "arn": revision_arn(service, deployment),
        "requestedTaskCount": deployment.desired,
        "runningTaskCount": running,
        "pendingTaskCount": pending,
    }


def task_set_document(service: Service, task_set: TaskSet, tagged: bool) -> Document:
    """A task set as the API writes it."""
    mine = [task for task in service.tasks.values() if task.started_by == task_set.id]
    running, pending = counts(mine)
    settings = task_set.settings
    return present(
        id=task_set.id,
        taskSetArn=task_set.arn,
        serviceArn=service.arn,
        clusterArn=service.cluster.arn,
        startedBy=task_set.started_by,
        externalId=task_set.external_id,
        status=task_set.status,
        taskDefinition=task_set.definition.arn,
        computedDesiredCount=task_set.computed(service.desired),
        pendingCount=pending,
        runningCount=running,
        createdAt=task_set.created_at,
        updatedAt=task_set.updated_at,
        launchType=settings.get("launchType"),
        capacityProviderStrategy=settings.get("capacityProviderStrategy"),
        platformVersion=settings.get("platformVersion"),
        platformFamily=settings.get("platformFamily"),
        networkConfiguration=settings.get("networkConfiguration"),
        loadBalancers=list(task_set.balancers),
        serviceRegistries=list(task_set.registries),
        scale={"value": task_set.scale, "unit": "PERCENT"},
        stabilityStatus=task_set.stability,
        stabilityStatusAt=task_set.stability_at,
        tags=task_set.tags if tagged else [],
    )


def service_document(service: Service, include: Set[str]) -> Document:
    """A service with its deployments or task sets, and events; tags only when asked for."""
    running, pending = counts(task for task in service.tasks.values() if task.status != ENDED)
    head: Document = {
        "serviceArn": service.arn,
        "serviceName": service.name,
        "clusterArn": service.cluster.arn,
        "status": service.status,
        "desiredCount": service.desired,
        "runningCount": running,
        "pendingCount": pending,
        "events": service.events,
        "createdAt": service.created_at,
        "schedulingStrategy": service.strategy,
    }
    parts = _task_sets(service) if service.controller != "ECS" else _revisions(service)
    tags = {"tags": service.tags} if "TAGS" in include else {}
    return head | parts | service.document | tags


def _revisions(service: Service) -> Document:
    release = service.releases[-1] if service.releases and service.releases[-1].open else None
    return present(
        taskDefinition=service.primary.definition.arn,
        deployments=[deployment_document(service, each) for each in service.deployments],
        currentServiceDeployment=None if release is None else release.arn,
        currentServiceRevisions=[revision_counts(service, each) for each in service.deployments],
    )


def _task_sets(service: Service) -> Document:
    """A service of another controller has no deployments; its definition is the primary set's."""
    primary = (each for each in service.task_sets if each.status == "PRIMARY")
    return present(
        taskDefinition=next((each.definition.arn for each in primary), None),
        taskSets=[task_set_document(service, each, tagged=False) for each in service.task_sets],
    )
