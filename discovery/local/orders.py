"""New tasks: what is wanted, what ECS refuses, where it goes, and the record it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field

from discovery.local import definitions, lifecycle
from discovery.local.errors import invalid
from discovery.local.placement import chosen, fixed_ports, refusal, resources
from discovery.local.state import (
    ENDED,
    Cluster,
    Container,
    Definition,
    Deployment,
    Document,
    Instance,
    Service,
    Task,
    TaskSet,
)
from discovery.local.world import ZONES, World

_LAUNCH_TYPES = ("EC2", "FARGATE", "EXTERNAL", "MANAGED_INSTANCES")
_STARTED_BY_LIMIT = 128
SIMULATED_LABEL = "local.simulated"


@dataclass(frozen=True, slots=True)
class Order:
    """What a new task is like: RunTask's request, or a deployment's settings."""

    cluster: Cluster
    definition: Definition
    launch_type: str
    group: str
    network: Document | None = None
    overrides: Document = field(default_factory=dict)
    tags: tuple[Document, ...] = ()
    started_by: str | None = None
    service: Service | None = None
    capacity_provider: str | None = None
    platform_version: str | None = None
    constraints: tuple[Document, ...] = ()
    strategy: tuple[Document, ...] = ()
    execute_command: bool = False
    simulated: bool = False
    balancers: tuple[Document, ...] = ()
    connect: bool = False

    @property
    def need(self) -> tuple[int, int]:
        """CPU units and MiB of memory."""
        return resources(self.definition, self.overrides)

    @property
    def all_constraints(self) -> list[Document]:
        """The order's constraints and its definition's."""
        return [*self.constraints, *self.definition.document["placementConstraints"]]


def order_of(world: World, request: Document) -> Order:
    """The order in a RunTask or StartTask request; refusals as the API gives them."""
    definition = definitions.usable(world, request.get("taskDefinition"))
    launch_type, provider = launch_of(request)
    check_launch(definition, launch_type, request.get("networkConfiguration"))
    _check_names(request)
    overrides = request.get("overrides") or {}
    names = {container["name"] for container in definition.containers}
    for each in overrides.get("containerOverrides", ()):
        if each.get("name") not in names:
            raise invalid(
                "Override for container named "
                f"{each.get('name')} is not a container in the TaskDefinition."
            )
    fargate = launch_type == "FARGATE"
    return Order(
        cluster=world.cluster(request.get("cluster")),
        definition=definition,
        launch_type=launch_type,
        group=str(request.get("group") or f"family:{definition.family}"),
        network=request.get("networkConfiguration"),
        overrides=overrides,
        tags=tags_of(request, definition),
        started_by=request.get("startedBy"),
        capacity_provider=provider,
        platform_version=_platform(request) if fargate else None,
        constraints=tuple(request.get("placementConstraints") or ()),
        strategy=tuple(request.get("placementStrategy") or ()),
        execute_command=bool(request.get("enableExecuteCommand")),
        simulated=is_simulated(definition),
    )


def _check_names(request: Document) -> None:
    """`group` and `startedBy` as far as they are the caller's to choose."""
    group, started_by = str(request.get("group") or ""), str(request.get("startedBy") or "")
    if group.startswith("service:"):
        raise invalid("Invalid namespace for group.")
    if len(started_by) > _STARTED_BY_LIMIT:
        raise invalid("startedBy must be at most 128 characters long.")


def of_service(service: Service, deployment: Deployment | TaskSet) -> Order:
    """What the tasks of a deployment or a task set are like."""
    settings = deployment.settings
    launch_type, provider = launch_of(
        {k: v for k, v in settings.items() if k in ("launchType", "capacityProviderStrategy")}
    )
    tags = service.tags if service.document.get("propagateTags") == "SERVICE" else []
    if service.document.get("propagateTags") == "TASK_DEFINITION":
        tags = deployment.definition.tags
    return Order(
        cluster=service.cluster,
        definition=deployment.definition,
        launch_type=launch_type,
        group=f"service:{service.name}",
        network=settings.get("networkConfiguration"),
        tags=tuple(tags),
        started_by=deployment.id,
        service=service,
        capacity_provider=provider,
        platform_version=settings.get("platformVersion"),
        constraints=tuple(service.document.get("placementConstraints") or ()),
        strategy=tuple(service.document.get("placementStrategy") or ()),
        execute_command=bool(service.document.get("enableExecuteCommand")),
        simulated=service.simulated,
        balancers=deployment.balancers,
        connect=bool((settings.get("serviceConnectConfiguration") or {}).get("enabled")),
    )


def _platform(request: Document) -> str:
    wanted = request.get("platformVersion") or "LATEST"
    return "1.4.0" if wanted == "LATEST" else str(wanted)


def is_simulated(definition: Definition) -> bool:
    """Whether a docker label `local.simulated` marks the definition."""
    labels = (container.get("dockerLabels") or {} for container in definition.containers)
    return any(label.get(SIMULATED_LABEL) == "true" for label in labels)


def tags_of(request: Document, definition: Definition) -> tuple[Document, ...]:
    """The request's tags, and the definition's where they are propagated."""
    tags = {each["key"]: each for each in request.get("tags") or ()}
    if request.get("propagateTags") == "TASK_DEFINITION":
        tags = {each["key"]: each for each in definition.tags} | tags
    return tuple(tags.values())


def launch_of(request: Document) -> tuple[str, str | None]:
    """Launch type and capacity provider of a request; EC2 when it names neither."""
    strategy = request.get("capacityProviderStrategy")
    launch_type = request.get("launchType")
    if strategy and launch_type:
        raise invalid(
            "Specifying both a launch type and capacity provider strategy is not supported."
        )
    if strategy:
        provider = str(strategy[0].get("capacityProvider"))
        return ("FARGATE" if provider.startswith("FARGATE") else "EC2"), provider
    if launch_type not in (None, *_LAUNCH_TYPES):
        raise invalid(f"Invalid launch type: {launch_type}")
    return launch_type or "EC2", None


def network_member(given: Document | None) -> Document:
    """`networkConfiguration` as it is echoed: with its defaults, absent when not given."""
    if not given:
        return {}
    defaults = {"securityGroups": [], "assignPublicIp": "DISABLED"}
    return {
        "networkConfiguration": {"awsvpcConfiguration": defaults | given["awsvpcConfiguration"]}
    }


def check_launch(definition: Definition, launch_type: str, network: object) -> None:
    """Refuse what ECS refuses: launch type and network configuration must fit the definition."""
    if launch_type == "FARGATE" and definition.network_mode != "awsvpc":
        raise invalid("Task definition does not support launch_type FARGATE.")
    if launch_type == "EXTERNAL" and definition.network_mode == "awsvpc":
        raise invalid("Task definition does not support launch_type EXTERNAL.")
    given = network if isinstance(network, dict) else {}
    subnets = given.get("awsvpcConfiguration", {}).get("subnets")
    if definition.network_mode == "awsvpc" and not subnets:
        raise invalid(
            "Network Configuration must be provided when networkMode 'awsvpc' is specified."
        )
    if definition.network_mode != "awsvpc" and network:
        raise invalid(
            "Network Configuration is not valid for the given networkMode of this task definition."
        )


def create(world: World, order: Order, instance: Instance | None) -> Task:
    """Make the task and start its life."""
    made = make(world, order, instance)
    enter(made)
    lifecycle.begin(world, made)
    return made


def enter(task: Task) -> None:
    """Make a new task known to its cluster, its host and its service."""
    task.cluster.tasks[task.id] = task
    if task.instance is not None:
        task.instance.tasks[task.id] = task
        task.instance.cpu_used += task.cpu_units
        task.instance.memory_used += task.memory_mib
        task.instance.version += 1
    if task.service is not None:
        task.service.tasks[task.id] = task
        task.service.encoded = None


def make(world: World, order: Order, instance: Instance | None) -> Task:
    """The record of a new task, not yet known to anybody."""
    name = world.ids.hex(32)
    arn = world.ids.arn(f"task/{order.cluster.name}/{name}")
    need = order.need
    zone, subnet = _place(world, order, instance)
    settings = (order.network or {}).get("awsvpcConfiguration", {})
    eni = None
    if order.definition.network_mode == "awsvpc":
        eni = lifecycle.new_eni(world, subnet, settings.get("assignPublicIp") == "ENABLED")
    containers = order.definition.containers
    injected = [{"name": f"ecs-service-connect-{world.ids.hex(5)}", "portMappings": []}]
    given = order.overrides.get("containerOverrides", ())
    named = {each.get("name") for each in given}
    overrides = [*given, *({"name": c["name"]} for c in containers if c["name"] not in named)]
    return Task(
        arn=arn,
        id=name,
        sequence=world.state.next_sequence(),
        cluster=order.cluster,
        definition=order.definition,
        containers=[
            Container(
                arn=world.ids.arn(f"container/{order.cluster.name}/{name}/{world.ids.uuid()}"),
                definition=definition,
                runtime_id=_runtime_id(world, order, name),
                metadata_id=f"{name}-{number}",
            )
            for number, definition in enumerate(containers + injected * order.connect)
        ],
        group=order.group,
        launch_type=order.launch_type,
        created_at=world.now(),
        overrides=order.overrides
        | {"containerOverrides": overrides, "inferenceAcceleratorOverrides": []},
        tags=list(order.tags),
        cpu_units=need[0],
        memory_mib=need[1],
        service=order.service,
        started_by=order.started_by,
        instance=instance,
        zone=zone,
        capacity_provider=order.capacity_provider,
        platform_version=order.platform_version,
        eni=eni,
        simulated=order.simulated or order.cluster.simulated or _on_simulated(instance),
        execute_command=order.execute_command,
        balancers=order.balancers,
        connect_id=world.ids.uuid() if order.connect else None,
        host_ports=fixed_ports(order.definition) if instance is not None else set(),
    )


def _on_simulated(instance: Instance | None) -> bool:
    return instance is not None and instance.simulated


def _runtime_id(world: World, order: Order, name: str) -> str:
    if order.launch_type == "FARGATE":
        return f"{name}-{world.run.random.randrange(10**9, 4 * 10**9)}"
    return world.ids.hex(64)


def _place(world: World, order: Order, instance: Instance | None) -> tuple[str, str]:
    """Zone and subnet: the instance's, else those of the given subnets in turn."""
    if instance is not None:
        return instance.zone, instance.subnet
    subnets = (order.network or {}).get("awsvpcConfiguration", {}).get("subnets") or [
        world.subnet(world.state.region + ZONES[0])
    ]
    subnet = str(subnets[world.state.sequence % len(subnets)])
    return world.zone_of_subnet(subnet), subnet


def place(world: World, order: Order) -> tuple[Task | None, list[Document]]:
    """Start one task where it fits best; None with a reason for each instance otherwise."""
    if order.launch_type == "FARGATE":
        return create(world, order, None), []
    fitting, failures = candidates(order)
    mine = order.service.tasks.values() if order.service else order.cluster.tasks.values()
    peers = [
        task.instance
        for task in mine
        if task.instance is not None and task.status != ENDED and task.group == order.group
    ]
    instance = chosen(fitting, list(order.strategy), peers, world.run.random)
    if instance is None:
        return None, failures
    return create(world, order, instance), []


def candidates(order: Order) -> tuple[list[Instance], list[Document]]:
    """The instances that can take the order's task, and why the others cannot."""
    need, constraints = order.need, order.all_constraints
    external = order.launch_type == "EXTERNAL"
    fitting: list[Instance] = []
    failures: list[Document] = []
    for instance in order.cluster.instances.values():
        if instance.external != external:
            failures.append({"arn": instance.arn, "reason": "ATTRIBUTE"})
            continue
        reason = refusal(instance, order.definition, need, constraints)
        if reason is None:
            fitting.append(instance)
        elif reason != "INACTIVE":
            failures.append({"arn": instance.arn, "reason": reason})
    return fitting, failures
