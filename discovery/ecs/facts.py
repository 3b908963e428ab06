"""What must be known beside a task before its endpoints can be told, and what of it is missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import structs

from discovery.ecs.definitions import ContainerDefinition, Definition
from discovery.ecs.hosts import Host, Public
from discovery.ecs.tasks import Container, Family, Interface, Task
from discovery.model import Kind

_NOT_YET = {"PROVISIONING", "PENDING"}
_OVER = {"DEPROVISIONING", "STOPPED", "DELETED"}
_RUNS = {"ACTIVATING", "RUNNING", "DEACTIVATING", "STOPPING"}


@dataclass(frozen=True, slots=True)
class Owner:
    """The service, or the family of standalone tasks, that a task is mapped for."""

    name: str
    cluster: str
    kind: Kind = "service"
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside the tasks. `public` is `None` unless public addresses are wanted.

    `problems` says, by ARN of a definition or instance, why it could not be read.
    """

    definitions: Mapping[str, Definition] = field(default_factory=dict)
    hosts: Mapping[str, Host] = field(default_factory=dict)
    public: Mapping[str, Public] | None = None
    problems: Mapping[str, str] = field(default_factory=dict)
    preferred: Family = "ipv4"


def defined(task: Task, container: Container, facts: Facts) -> ContainerDefinition | None:
    """What the definition says of a container, if it is read and has that container."""
    definition = facts.definitions.get(task.definition or "")
    return definition.containers.get(container.name) if definition else None


def not_running(task: Task) -> str | None:
    """Why no container of it can serve, whatever else is known; `None` while some may."""
    last, desired = task.last_status, task.desired_status
    if last is None or desired is None:
        return "ECS does not report its status"
    if last in _NOT_YET:
        return f"it is {last}, not running yet"
    if last in _RUNS:
        return None
    why = f": {task.stopped_reason}" if task.stopped_reason else ""
    return f"it is {last}{why}"


def is_over(task: Task) -> bool:
    """Whether it has run and never will again."""
    return task.last_status in _OVER


def network_mode(task: Task, definitions: Mapping[str, Definition]) -> str | None:
    """`awsvpc`, `bridge`, `host` or `none`; `None` while only the unread definition can tell."""
    if task.has_interface:
        return "awsvpc"
    definition = definitions.get(task.definition or "")
    if definition is not None:
        return definition.network_mode
    return "bridge" if task.has_bindings else None


def needs_definition(task: Task, definitions: Mapping[str, Definition]) -> bool:
    """Whether an address or port of it depends on its definition, which is not read yet."""
    if task.definition is None or task.definition in definitions or not_running(task):
        return False
    return network_mode(task, definitions) != "bridge"


def needs_host(task: Task, definitions: Mapping[str, Definition]) -> bool:
    """Whether its endpoints are at the address of its container instance."""
    if task.instance is None or not_running(task):
        return False
    return network_mode(task, definitions) in ("bridge", "host")


def interface_of(task: Task, container: Container) -> Interface | None:
    """The network interface of a container, with its attachment's state where that is known."""
    by_id = {attached.id: attached for attached in task.attachments if attached.id}
    attached_first = sorted(task.attachments, key=lambda each: each.status != "ATTACHED")
    first = next(iter(attached_first), None)
    for own in container.interfaces:
        if own.ipv4 or own.ipv6:
            known = by_id.get(own.id or "", first) or Interface()
            return structs.replace(known, id=own.id, ipv4=own.ipv4, ipv6=own.ipv6)
    return first
