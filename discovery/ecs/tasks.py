"""A task as ECS describes it: what of the document matters here, whatever is missing from it.

The same from DescribeTasks, RunTask, StartTask and StopTask, from EventBridge events and from what
Step Functions makes of them. Arrays have no order: neither containers nor attachments nor bindings.

Values here are msgspec's structs, of which there are many: they are quickly made and compared, and
the garbage collector, whose full collections would look at each of them, need not know them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import msgspec

from discovery.ecs.fields import (
    Document,
    address,
    in_camel_case,
    moment,
    number,
    pairs,
    part,
    port,
    rows,
    shared,
    text,
)
from discovery.model import Kind, Protocol

Family = Literal["ipv4", "ipv6"]

_FAMILY = re.compile(r"task-definition/([^:/]+)(?::\d+)?$")
_INTERFACE_TYPES = {"elasticnetworkinterface", "eni"}  # the API's word and the events' word
_INJECTED = ("ecs-service-connect-", "~internal~ecs~", "aws-guardduty-agent")


class Binding(msgspec.Struct, frozen=True, gc=False):
    """A port of the container bound to the host; ranges are texts such as `8000-8009`."""

    container_port: int | None = None
    host_port: int | None = None
    protocol: Protocol = "tcp"
    bind_ip: str | None = None
    container_range: str | None = None
    host_range: str | None = None


class Interface(msgspec.Struct, frozen=True, gc=False):
    """Addresses on a network interface of the task's own; `id` is that of its attachment."""

    id: str | None = None
    ipv4: str | None = None
    ipv6: str | None = None
    status: str | None = None
    network_interface_id: str | None = None


class Container(msgspec.Struct, frozen=True, gc=False):
    """One container of a task."""

    name: str
    status: str | None = None
    health: str | None = None
    runtime_id: str | None = None
    bindings: tuple[Binding, ...] = ()
    interfaces: tuple[Interface, ...] = ()


class Task(msgspec.Struct, frozen=True, gc=False):
    """One task. `attachments` are its elastic network interfaces, nothing else that is attached."""

    arn: str
    definition: str | None = None
    group: str | None = None
    started_by: str | None = None
    instance: str | None = None
    last_status: str | None = None
    desired_status: str | None = None
    stopped_reason: str | None = None
    zone: str | None = None
    created_at: float | None = None
    started_at: float | None = None
    version: int | None = None
    containers: tuple[Container, ...] = ()
    attachments: tuple[Interface, ...] = ()
    injected: frozenset[str] = frozenset()
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def family(self) -> str | None:
        """The family of its definition."""
        return _family(self.definition or "")

    @property
    def service(self) -> str | None:
        """The service that its group names; `None` for a standalone task."""
        group = self.group or ""
        return group.removeprefix("service:") if group.startswith("service:") else None

    @property
    def names(self) -> tuple[tuple[Kind, str], ...]:
        """What it is called: its service, else its family, and beside it a free-text group."""
        return _names(self.group or "", self.definition or "")

    @property
    def has_interface(self) -> bool:
        """Whether it tells of a network interface of its own, as only awsvpc tasks do."""
        if self.attachments:
            return True
        return any(i.ipv4 or i.ipv6 for each in self.containers for i in each.interfaces)

    @property
    def has_bindings(self) -> bool:
        """Whether it tells of a port that is bound to its host."""
        return any(container.bindings for container in self.containers)

    def is_injected(self, container: str) -> bool:
        """Whether ECS or an agent put this container there."""
        return container.startswith(_INJECTED) or container in self.injected


@dataclass(slots=True)
class Seen:
    """Tasks by the text that they last came as, so that what has not changed is not read again.

    Two texts are taken for the same when their hashes are: 64 bits, with a secret of the process.
    """

    known: dict[int, Task] = field(default_factory=dict)
    _kept: dict[int, Task] = field(default_factory=dict)

    def task(self, text: msgspec.Raw) -> Task | None:
        """The task of that text, the same object for the same text."""
        key = hash(bytes(text))
        task = self.known.get(key) or self._kept.get(key)
        if task is None:
            task = task_of(_document(text))
        if task is not None:
            self._kept[key] = task
        return task

    def turn(self, tasks: Mapping[str, Task]) -> None:
        """A read has ended: forget the texts of what is not among the tasks any more."""
        every = {**self.known, **self._kept}
        self.known = {key: task for key, task in every.items() if tasks.get(task.arn) is task}
        self._kept = {}


def described(answer: Document, seen: Seen) -> tuple[Task, ...]:
    """The tasks in an answer of DescribeTasks, each as an object or as the text of one."""
    found = answer.get("tasks")
    if not isinstance(found, list | tuple):
        return ()
    tasks = (seen.task(e) if isinstance(e, msgspec.Raw) else _task_in(e) for e in found)
    return tuple(task for task in tasks if task is not None)


def tasks_in(document: Document) -> tuple[Task, ...]:
    """The tasks that a document carries: an answer, an event, a task, in either spelling."""
    if any(key[:1].isupper() for key in document):
        document = in_camel_case(document)
    if "detail" in document and "detail-type" in document:
        document = part(document, "detail")
    found: tuple[Document, ...] = (document,)
    if "tasks" in document:
        found = rows(document, "tasks")
    elif "task" in document:  # StopTask answers with one
        found = (part(document, "task"),)
    return tuple(task for row in found if (task := task_of(row)) is not None)


def task_of(document: Document) -> Task | None:
    """One task; `None` for a document that does not even say which task it is."""
    arn = text(document, "taskArn")
    if arn is None:
        return None
    attachments = rows(document, "attachments")
    return Task(
        arn=arn,
        definition=shared(document, "taskDefinitionArn"),
        group=shared(document, "group"),
        started_by=shared(document, "startedBy"),
        instance=shared(document, "containerInstanceArn"),
        last_status=shared(document, "lastStatus"),
        desired_status=shared(document, "desiredStatus"),
        stopped_reason=text(document, "stoppedReason"),
        zone=shared(document, "availabilityZone"),
        created_at=moment(document, "createdAt"),
        started_at=moment(document, "startedAt"),
        version=number(document, "version"),
        containers=tuple(c for row in rows(document, "containers") if (c := _container(row))),
        attachments=tuple(i for row in attachments if (i := _attached(row))),
        injected=frozenset(n for row in attachments if (n := _proxy(row))),
        tags=pairs(rows(document, "tags"), "key"),
    )


def _family(definition: str) -> str | None:
    found = _FAMILY.search(definition)
    return found[1] if found else None


@lru_cache(maxsize=8_192)  # few differ, and each is asked for several times in each read
def _names(group: str, definition: str) -> tuple[tuple[Kind, str], ...]:
    service = group.removeprefix("service:")
    if service and service != group:
        return (("service", service),)
    found = dict.fromkeys(n for n in (_family(definition), group.removeprefix("family:")) if n)
    return tuple(("family", name) for name in found)


def _task_in(value: object) -> Task | None:
    return task_of(value) if isinstance(value, Mapping) else None


def _document(text: msgspec.Raw) -> Document:
    value = msgspec.json.decode(text)
    return value if isinstance(value, Mapping) else {}


def _container(document: Document) -> Container | None:
    name = shared(document, "name")
    if name is None:
        return None
    return Container(
        name=name,
        status=shared(document, "lastStatus"),
        health=shared(document, "healthStatus"),
        runtime_id=text(document, "runtimeId"),
        bindings=tuple(_binding(row) for row in rows(document, "networkBindings")),
        interfaces=tuple(_interface(row) for row in rows(document, "networkInterfaces")),
    )


def _binding(document: Document) -> Binding:
    return Binding(
        container_port=port(document, "containerPort"),
        host_port=port(document, "hostPort"),
        protocol="udp" if document.get("protocol") == "udp" else "tcp",
        bind_ip=shared(document, "bindIP"),
        container_range=text(document, "containerPortRange"),
        host_range=text(document, "hostPortRange"),
    )


def _interface(document: Document) -> Interface:
    return Interface(
        id=text(document, "attachmentId"),
        ipv4=address(document.get("privateIpv4Address")),
        ipv6=address(document.get("ipv6Address")),
    )


def _attached(document: Document) -> Interface | None:
    if (text(document, "type") or "").lower() not in _INTERFACE_TYPES:
        return None
    details = {k.lower(): v for k, v in pairs(rows(document, "details")).items()}
    return Interface(
        id=text(document, "id"),
        ipv4=address(details.get("privateipv4address")),
        ipv6=address(details.get("ipv6address")),
        status=text(document, "status"),
        network_interface_id=details.get("networkinterfaceid"),
    )


def _proxy(document: Document) -> str | None:
    if (text(document, "type") or "").replace(" ", "").lower() != "serviceconnect":
        return None
    return pairs(rows(document, "details")).get("ContainerName")
