"""Task definition operations.

The answer echoes `environment`, `mountPoints`, `volumesFrom` and `portMappings` as `[]` when they
were not given, as ECS does: clients rely on it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator

from discovery.local import dependencies
from discovery.local.errors import client_error, invalid
from discovery.local.pages import page
from discovery.local.placement import units
from discovery.local.state import Definition, Document
from discovery.local.world import World

BOOT_LABEL = "local.boot-seconds"
_BOOT_LIMIT_S = 3600.0
_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}$")
_REVISION = re.compile(r"(?:arn:aws[\w-]*:ecs:[^:]*:\d*:task-definition/)?([\w-]+)(?::(\d+))?$")
_MODES = (None, "bridge", "host", "awsvpc", "none")
_ECHOED = (
    "taskRoleArn",
    "executionRoleArn",
    "networkMode",
    "pidMode",
    "ipcMode",
    "proxyConfiguration",
    "inferenceAccelerators",
    "ephemeralStorage",
    "runtimePlatform",
    "requiresCompatibilities",
    "cpu",
    "memory",
    "enableFaultInjection",
)
# inclusive, in seconds but for `retries`
_CHECK_RANGES = {
    "interval": (5, 300),
    "timeout": (2, 60),
    "retries": (1, 10),
    "startPeriod": (0, 300),
}
_FARGATE_MIB: dict[int, Container[int]] = {
    256: (512, 1024, 2048),
    512: range(1024, 4096 + 1, 1024),
    1024: range(2048, 8192 + 1, 1024),
    2048: range(4096, 16384 + 1, 1024),
    4096: range(8192, 30720 + 1, 1024),
    8192: range(16384, 61440 + 1, 4096),
    16384: range(32768, 122880 + 1, 8192),
}
_NOT_IN_AWSVPC = {"links": "Links", "dnsServers": "dnsServers", "extraHosts": "extraHosts"}


def register(world: World, request: Document) -> Document:
    """RegisterTaskDefinition: the next revision of the family."""
    family = request.get("family")
    if not isinstance(family, str) or not _NAME.match(family):
        raise client_error("Family contains invalid characters.")
    given = request.get("containerDefinitions") or []
    if not given:
        raise client_error("Container list cannot be empty.")
    mode = request.get("networkMode")
    if mode not in _MODES:
        raise client_error(f"Invalid networkMode: {mode}")
    fargate = "FARGATE" in (request.get("requiresCompatibilities") or ())
    if fargate and mode != "awsvpc":
        raise client_error("Fargate only supports network mode ‘awsvpc’.")
    if fargate and not (request.get("cpu") and request.get("memory")):
        raise client_error("Fargate requires that 'cpu' be defined at the task level.")
    if fargate:
        _check_size(request)
    containers = [_container(each, mode, request) for each in given]
    if not any(each["essential"] for each in containers):
        raise client_error("All tasks must have at least one essential container.")
    if len({each["name"] for each in containers}) != len(containers):
        raise client_error("Container names must be unique within a task definition.")
    dependencies.check(containers)
    return _registered(world, request, family, containers)


def _check_size(request: Document) -> None:
    """CPU and memory of a Fargate task go together as its documentation's table says."""
    cpu, memory = units(request["cpu"], 1024), units(request["memory"], 1024)
    if memory not in _FARGATE_MIB.get(cpu, ()):
        raise client_error(
            f"No Fargate configuration exists for given values: {cpu} CPU, {memory} memory. "
            "See the Amazon ECS documentation for the valid values."
        )


def _registered(
    world: World, request: Document, family: str, containers: list[Document]
) -> Document:
    revisions = world.state.families.setdefault(family, [])
    revision = len(revisions) + 1
    document: Document = {
        "taskDefinitionArn": world.ids.arn(f"task-definition/{family}:{revision}"),
        "containerDefinitions": containers,
        "family": family,
        "revision": revision,
        "volumes": request.get("volumes") or [],
        "status": "ACTIVE",
        "requiresAttributes": _required_attributes(request, containers),
        "placementConstraints": request.get("placementConstraints") or [],
        "compatibilities": _compatibilities(request),
        "registeredAt": world.now(),
        "registeredBy": f"arn:aws:iam::{world.state.account}:root",
    }
    document |= {name: request[name] for name in _ECHOED if name in request}
    made = Definition(
        arn=document["taskDefinitionArn"],
        family=family,
        revision=revision,
        document=document,
        tags=list(request.get("tags") or []),
    )
    revisions.append(made)
    return _answer(made, tagged=bool(made.tags))


def _container(given: Document, mode: object, request: Document) -> Document:
    name = given.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise client_error("Container.name contains invalid characters.")
    if not given.get("image"):
        raise client_error("Container.image should not be null or empty.")
    if not (given.get("memory") or given.get("memoryReservation") or request.get("memory")):
        raise client_error(
            "Invalid setting for container "
            f"'{name}'. At least one of 'memory' or 'memoryReservation' must be specified."
        )
    if mode == "awsvpc":
        for member, title in _NOT_IN_AWSVPC.items():
            if given.get(member):
                raise client_error(f"{title} are not supported when networkMode=awsvpc.")
    _check_boot(given.get("dockerLabels") or {})
    ports = [_port(each, mode) for each in given.get("portMappings") or []]
    if mode == "none" and ports:
        raise client_error("Port mappings are not supported when networkMode=none.")
    given = {name: value for name, value in given.items() if value is not None}
    made: Document = {"cpu": 0, "essential": True} | given | {"portMappings": ports}
    for echoed in ("environment", "mountPoints", "volumesFrom", "systemControls"):
        made[echoed] = given.get(echoed) or []
    if "healthCheck" in made:
        made["healthCheck"] = _health_check(made["healthCheck"])
    if "restartPolicy" in made:
        made["restartPolicy"] = _restart_policy(made["restartPolicy"])
    return made


def _check_boot(labels: Document) -> None:
    """The label is ours, so that what it says must be a number of seconds."""
    label = labels.get(BOOT_LABEL, "0")
    try:
        fits = 0 <= float(label) <= _BOOT_LIMIT_S
    except ValueError:
        fits = False
    if not fits:
        raise client_error(f"The label {BOOT_LABEL} is 0 to 3600 seconds, not {label!r}.")


def _port(given: Document, mode: object) -> Document:
    ranged = given.get("containerPortRange")
    container_port = given.get("containerPort")
    if ranged is None and not _is_port(container_port):
        raise client_error("The container port must be between 1 and 65535.")
    host_port = given.get("hostPort")
    if mode in ("awsvpc", "host") and ranged is None:
        if host_port not in (None, 0, container_port):
            raise client_error(
                f"When networkMode={mode}, the host ports and container ports in port mappings "
                "must match."
            )
        host_port = container_port
    made = dict(given) | {"protocol": given.get("protocol") or "tcp"}
    if ranged is None:
        made["hostPort"] = host_port or 0
    return made


def _is_port(value: object) -> bool:
    return isinstance(value, int) and 1 <= value <= 65535


def _restart_policy(given: Document) -> Document:
    period_s = given.get("restartAttemptPeriod", 300)
    if not isinstance(period_s, int) or not 60 <= period_s <= 1800:
        raise client_error("restartAttemptPeriod must be between 60 and 1800 seconds.")
    return given


def _health_check(given: Document) -> Document:
    command = given.get("command") or []
    if not command or command[0] not in ("CMD", "CMD-SHELL", "NONE"):
        raise client_error("Health check command must start with CMD, CMD-SHELL or NONE.")
    for member, (least, most) in _CHECK_RANGES.items():
        if not least <= given.get(member, least) <= most:
            raise client_error(
                f"Health check {member} must be between {least} and {most}, not {given[member]}."
            )
    return {"interval": 30, "timeout": 5, "retries": 3} | given


def _compatibilities(request: Document) -> list[str]:
    wanted = request.get("requiresCompatibilities") or []
    if "FARGATE" in wanted:
        return ["EC2", "FARGATE"]
    return ["EXTERNAL", "EC2"] if request.get("networkMode") != "awsvpc" else ["EC2"]


def _required_attributes(request: Document, containers: list[Document]) -> list[Document]:
    names = ["com.amazonaws.ecs.capability.docker-remote-api.1.18"]
    if request.get("networkMode") == "awsvpc":
        names.append("ecs.capability.task-eni")
    if request.get("taskRoleArn"):
        names.append("com.amazonaws.ecs.capability.task-iam-role")
    if any("healthCheck" in each for each in containers):
        names.append("ecs.capability.container-health-check")
    return [{"name": name} for name in names]


def find(world: World, named: object) -> Definition:
    """The revision of that ARN, `family:revision`, or the family's newest ACTIVE one."""
    match = _REVISION.match(str(named))
    revisions = world.state.families.get(match[1], []) if match else []
    if match and match[2]:
        revisions = [each for each in revisions if each.revision == int(match[2])]
    else:
        revisions = [each for each in revisions if each.status == "ACTIVE"]
    if not revisions:
        raise client_error("Unable to describe task definition.")
    return revisions[-1]


def usable(world: World, named: object) -> Definition:
    """The definition to start tasks from: it must be ACTIVE."""
    try:
        found = find(world, named)
    except Exception as error:
        raise client_error("TaskDefinition not found.") from error
    if found.status != "ACTIVE":
        raise client_error("TaskDefinition is inactive")
    return found


def describe(world: World, request: Document) -> Document:
    """DescribeTaskDefinition; an INACTIVE revision stays describable."""
    found = find(world, request.get("taskDefinition"))
    return _answer(found, "TAGS" in (request.get("include") or ()))


def deregister(world: World, request: Document) -> Document:
    """DeregisterTaskDefinition: running tasks and services are not touched."""
    named = str(request.get("taskDefinition"))
    if ":" not in named.rsplit("/", 1)[-1]:
        raise client_error("Invalid revision number. Number: null")
    found = find(world, named)
    found.status = "INACTIVE"
    found.document |= {"status": "INACTIVE", "deregisteredAt": world.now()}
    return _answer(found, tagged=False)


def _answer(found: Definition, tagged: bool) -> Document:
    return {"taskDefinition": found.document} | ({"tags": found.tags} if tagged else {})


def list_revisions(world: World, request: Document) -> Document:
    """ListTaskDefinitions, by family and revision; `sort` DESC turns it round."""
    status = request.get("status") or "ACTIVE"
    prefix = request.get("familyPrefix")
    items = [
        (f"{family}\0{each.revision:09}", each.arn)
        for family in sorted(world.state.families)
        for each in world.state.families[family]
        if each.status == status and prefix in (None, family)
    ]
    descending = request.get("sort") == "DESC"
    if descending:
        items.reverse()
    found, token = page(
        world.run.pages, "ListTaskDefinitions", request, items, descending=descending
    )
    return {"taskDefinitionArns": found} | ({"nextToken": token} if token else {})


def list_families(world: World, request: Document) -> Document:
    """ListTaskDefinitionFamilies."""
    status = request.get("status") or "ACTIVE"
    if status not in ("ACTIVE", "INACTIVE", "ALL"):
        raise invalid("Invalid status")
    named = _families(world, status, str(request.get("familyPrefix") or ""))
    items = ((family, family) for family in named)
    found, token = page(world.run.pages, "ListTaskDefinitionFamilies", request, items)
    return {"families": found} | ({"nextToken": token} if token else {})


def _families(world: World, status: str, prefix: str) -> Iterator[str]:
    for family, revisions in sorted(world.state.families.items()):
        active = any(each.status == "ACTIVE" for each in revisions)
        if family.startswith(prefix) and status in ("ALL", "ACTIVE" if active else "INACTIVE"):
            yield family


OPERATIONS = {
    "RegisterTaskDefinition": register,
    "DeregisterTaskDefinition": deregister,
    "DescribeTaskDefinition": describe,
    "ListTaskDefinitions": list_revisions,
    "ListTaskDefinitionFamilies": list_families,
}
