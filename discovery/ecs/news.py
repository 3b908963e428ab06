"""Taking in what events told of a cluster: into its memory, where it is newer than what is known.

Rule 1: of a task the version decides, whatever the order in which events and reads came.
Rule 2: what events do not carry (health, tags) stays as a read has found it.
Rule 3: a task that is not known is believed to run only by an event later than the last read, for
an earlier one may be of a task that is over; else, and where an event leaves open, a read decides.
"""

from collections.abc import Set
from dataclasses import dataclass, field, replace

from msgspec import structs

from discovery.ecs.eventbridge import Told
from discovery.ecs.facts import is_over, network_mode, not_running
from discovery.ecs.heard import Version
from discovery.ecs.hosts import Instance
from discovery.ecs.memory import Memory
from discovery.ecs.tasks import Container, Task


@dataclass(slots=True)
class News:
    """What events told of one cluster and is not taken in yet: of each thing the newest."""

    tasks: dict[str, Told] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    services: set[str] = field(default_factory=set)
    versions: set[Version] = field(default_factory=set)

    def __len__(self) -> int:
        count = len(self.tasks) + len(self.instances)
        return count + len(self.services) + len(self.versions)

    def add(self, told: Told) -> None:
        """One event more, in any order."""
        if told.service is not None:
            self.services.add(told.service)
        if told.instance is not None:
            known = self.instances.get(told.instance.arn)
            if known is None or _is_newer(told.instance.version, known.version):
                self.instances[told.instance.arn] = told.instance
        if told.task is not None:
            before = self.tasks.get(told.task.arn)
            if before is None or _is_newer(told.task.version, _version(before)):
                self.tasks[told.task.arn] = told
            if told.task.version is not None:
                self.versions.add((told.task.arn, told.task.version))


def take_in(memory: Memory, news: News, now: float) -> list[str]:
    """Bring the memory up to what was told; returns the ARNs of tasks that are to be described."""
    if memory.heard is not None:
        memory.heard.told(news.versions, now)
    for arn, instance in news.instances.items():
        known = memory.instances.get(arn)
        if known is not None and _is_newer(instance.version, known.version):
            machine, zone = instance.machine or known.machine, instance.zone or known.zone
            memory.instances[arn] = replace(instance, machine=machine, zone=zone)
    names_of, wanted = memory.namer(), _wanted(memory)
    ours = [
        told.task
        for told in news.tasks.values()
        if told.task is not None
        and _is_here(memory, told)
        and (wanted is None or not wanted.isdisjoint(n.lower() for n in names_of(told.task)))
    ]
    unsure = [task.arn for task in ours if not _take_in(memory, news.tasks[task.arn], task)]
    memory.retire([task.arn for task in ours], now)
    return unsure


def names_told(memory: Memory, news: News) -> set[str]:
    """Names of tasks that events told of and that are known."""
    names_of = memory.namer()
    tasks = (memory.tasks[arn] for arn in news.tasks if arn in memory.tasks)
    return {name for task in tasks for name in names_of(task)}


def later(before: Task, told: Task) -> Task:
    """The task as an event has it, with what was known before and events do not carry."""
    known = {container.name: container for container in before.containers}
    return structs.replace(
        told,
        definition=told.definition or before.definition,
        group=told.group or before.group,
        started_by=told.started_by or before.started_by,
        instance=told.instance or before.instance,
        zone=told.zone or before.zone,
        created_at=told.created_at or before.created_at,
        started_at=told.started_at or before.started_at,
        containers=tuple(_later(known.get(c.name), c) for c in told.containers),
        attachments=told.attachments or before.attachments,
        injected=told.injected | before.injected,
        tags=told.tags or before.tags,
    )


def _take_in(memory: Memory, told: Told, task: Task) -> bool:
    """Whether that settles it: no read is needed."""
    before = memory.tasks.get(task.arn)
    if before is None and task.arn in memory.over:
        return True
    if task.version is None or (before is not None and before.version is None):
        return False
    if before is not None:
        if not _is_newer(task.version, before.version):
            return True
        memory.tasks[task.arn] = later(before, task)
        return not _lacks_ports(memory, memory.tasks[task.arn])
    if is_over(task):
        memory.over[task.arn] = task.version
        return True
    since = memory.last.at if memory.last else None
    if not memory.tasks or since is None or told.at is None or told.at <= since:
        return False
    memory.tasks[task.arn] = task
    return not _lacks_ports(memory, task)


def _lacks_ports(memory: Memory, task: Task) -> bool:
    """Whether it runs on a host and ports may be bound there that the event says nothing of."""
    if not_running(task) or network_mode(task, memory.definitions) not in ("bridge", None):
        return False
    running = [c for c in task.containers if c.status == "RUNNING" and not task.is_injected(c.name)]
    return task.instance is not None and any(not c.bindings for c in running)


def _later(before: Container | None, told: Container) -> Container:
    """A container that is not the same any more has nothing of what was there before."""
    if before is None or before.runtime_id != told.runtime_id:
        return told
    return structs.replace(
        told,
        health=told.health or before.health,
        bindings=told.bindings or before.bindings,
        interfaces=told.interfaces or before.interfaces,
    )


def _is_here(memory: Memory, told: Told) -> bool:
    """Clusters of other accounts may have the same name: what is known tells which is ours."""
    account = told.cluster.partition(":cluster/")[0]
    known = next(iter(memory.tasks), None)
    return known is None or known.startswith(f"{account}:")


def _wanted(memory: Memory) -> Set[str] | None:
    """The names that are read, in lower case; `None` for all."""
    if memory.last is None or memory.last.wanted is None:
        return None
    return memory.wanted_at.keys()


def _version(told: Told) -> int | None:
    return told.task.version if told.task else None


def _is_newer(version: int | None, known: int | None) -> bool:
    return known is None or (version is not None and version > known)
