"""Scale-in protection of service tasks: UpdateTaskProtection and GetTaskProtection.

Deployments, scale-in and draining hosts leave a protected task alone; StopTask does not.
"""

from __future__ import annotations

from collections.abc import Callable

from discovery.local import tasks
from discovery.local.documents import present
from discovery.local.errors import invalid
from discovery.local.state import ENDED, Document, Task
from discovery.local.world import World

_UPDATE_LIMIT, _GET_LIMIT = 10, 100
_DEFAULT_MINUTES, _MOST_MINUTES = 120, 2880


def update(world: World, request: Document) -> Document:
    """UpdateTaskProtection: at most 10 tasks, for 1 to 2880 minutes (2 hours when not said)."""
    enabled = request.get("protectionEnabled")
    if not isinstance(enabled, bool):
        raise invalid("protectionEnabled must be set.")
    minutes = request.get("expiresInMinutes", _DEFAULT_MINUTES)
    if not isinstance(minutes, int) or not 1 <= minutes <= _MOST_MINUTES:
        raise invalid(f"expiresInMinutes must be between 1 and {_MOST_MINUTES}.")
    named = request.get("tasks") or []
    if not named:
        raise invalid("Tasks cannot be empty.")
    if len(named) > _UPDATE_LIMIT:
        raise invalid("taskIds can have at most 10 items.")

    def protect(task: Task) -> None:
        task.protected_until = world.now() + 60 * minutes if enabled else None
        service = task.service
        if service is not None:
            world.wake(service)
            if enabled:
                world.run.call_later(60 * minutes, world.wake, service)

    return _each(world, request, named, protect)


def get(world: World, request: Document) -> Document:
    """GetTaskProtection: of the named tasks, else of every service task of the cluster."""
    cluster = world.cluster(request.get("cluster"))
    named = request.get("tasks") or []
    if len(named) > _GET_LIMIT:
        raise invalid("taskIds can have at most 100 items.")
    if not named:
        named = [each.arn for each in cluster.tasks.values() if each.service is not None]
    return _each(world, request, named, lambda task: None)


def _each(
    world: World, request: Document, named: list[str], act: Callable[[Task], None]
) -> Document:
    cluster = world.cluster(request.get("cluster"))
    found, failures = [], []
    for name in named:
        task = tasks.find(cluster, name)
        if task is None:
            failures.append({"arn": tasks.full_arn(world, cluster, name), "reason": "MISSING"})
        elif task.service is None or task.status == ENDED:
            failures.append({"arn": task.arn, "reason": "TASK_NOT_VALID"})
        else:
            act(task)
            found.append(_document(world, task))
    return {"protectedTasks": found, "failures": failures}


def _document(world: World, task: Task) -> Document:
    enabled = task.protected(world.now())
    return present(
        taskArn=task.arn,
        protectionEnabled=enabled,
        expirationDate=task.protected_until if enabled else None,
    )


OPERATIONS = {"UpdateTaskProtection": update, "GetTaskProtection": get}
