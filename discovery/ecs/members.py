"""Which tasks go by which name, kept from one read to the next: a change costs what it touches.

A task is the same for as long as it is the same object, so that what differs is found by comparing
references. There is nothing to invalidate: each time the tasks that there are now are handed in.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from discovery.ecs.tasks import Task
from discovery.model import Kind

Named = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Members:
    """Tasks by what they belong to, in the order of their ARNs.

    `deployments` maps ids of deployments to services: they tell the service of a task whose group
    is missing.
    """

    tasks: Mapping[str, Task] = field(default_factory=dict)
    deployments: Mapping[str, str] = field(default_factory=dict)
    by_name: Mapping[Named, tuple[Task, ...]] = field(default_factory=dict)

    def of(self, kind: Kind, name: str) -> tuple[Task, ...]:
        """The tasks of a service or a family."""
        return self.by_name.get((kind, name), ())

    def now(self, tasks: Mapping[str, Task], deployments: Mapping[str, str]) -> "Members":
        """Those of the tasks that there are now, of which it is the owner from here on.

        Where nobody came or left it is the same tuple as before.
        """
        if deployments != self.deployments:
            return Members(deployments=deployments).now(tasks, deployments)
        left = [task for arn, task in self.tasks.items() if tasks.get(arn) is not task]
        came = [task for arn, task in tasks.items() if self.tasks.get(arn) is not task]
        if not left and not came:
            return self
        gone, new = self._by_name(left), self._by_name(came)
        by_name = dict(self.by_name)
        for named in gone.keys() | new.keys():
            arns = {task.arn for task in gone.get(named, ())}
            stayed = [task for task in by_name.pop(named, ()) if task.arn not in arns]
            members = sorted([*stayed, *new.get(named, ())], key=lambda task: task.arn)
            if members:
                by_name[named] = tuple(members)
        return Members(tasks, deployments, by_name)

    def _by_name(self, tasks: Iterable[Task]) -> dict[Named, list[Task]]:
        found: dict[Named, list[Task]] = {}
        for task in tasks:
            for named in names_of(task, self.deployments):
                found.setdefault(named, []).append(task)
        return found


def members_of(tasks: Iterable[Task], deployments: Mapping[str, str] | None = None) -> Members:
    """The members of these tasks."""
    return Members().now({task.arn: task for task in tasks}, deployments or {})


def names_of(task: Task, deployments: Mapping[str, str]) -> tuple[Named, ...]:
    """Kind and name of all that a task belongs to; `deployments` maps their ids to services.

    The deployment tells the service where the group that names it is missing.
    """
    if task.group is None and task.started_by in deployments:
        return (("service", deployments[task.started_by or ""]),)
    return task.names
