"""Task operations: run, start, stop, list, describe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from msgspec.json import encode

from discovery.local import instances, lifecycle, orders
from discovery.local.documents import encoded_task, task_document
from discovery.local.errors import ApiError, invalid, service_not_found
from discovery.local.ids import last_part
from discovery.local.pages import page
from discovery.local.placement import refusal
from discovery.local.state import (
    ENDED,
    Cluster,
    Document,
    Task,
)
from discovery.local.wire import Raw
from discovery.local.world import World

_RUN_LIMIT = 10
_DESCRIBE_LIMIT = 100
_TOKEN_KEPT_S = 24 * 3600.0
_ID = re.compile(r"[0-9A-Za-z_-]+$")


def run_task(world: World, request: Document) -> Document:
    """RunTask: the scheduler places up to 10 tasks; what does not fit is a failure."""
    count = request.get("count", 1)
    if not isinstance(count, int) or not 1 <= count <= _RUN_LIMIT:
        raise invalid("Count must be between 1 and 10.")
    token = request.get("clientToken")
    known = None if token is None else world.state.tokens.get(str(token))
    if known is not None:
        return _again(world, request, *known)
    order = orders.order_of(world, request)
    if order.launch_type != "FARGATE" and not order.cluster.instances:
        raise invalid("No Container Instances were found in your cluster.")
    made: list[Task] = []
    failures: list[Document] = []
    for _ in range(count):
        placed, failed = orders.place(world, order)
        if placed is None:
            failures = failed
            break
        made.append(placed)
    if token is not None and made:
        world.state.tokens[str(token)] = (request, made)
        world.run.call_later(_TOKEN_KEPT_S, world.state.tokens.pop, str(token), None)
    return _started(world, made, failures)


def _again(world: World, before: Document, request: Document, made: list[Task]) -> Document:
    """The answer to a token that was used: the same tasks, for the same request only."""
    if before != request:
        raise ApiError(
            "ConflictException",
            "The clientToken was used before with different parameters.",
        )
    return _started(world, made, [])


def start_task(world: World, request: Document) -> Document:
    """StartTask: one task on each named instance."""
    order = orders.order_of(world, request)
    named = request.get("containerInstances") or []
    if not named:
        raise invalid("Container instances cannot be empty.")
    if len(named) > _RUN_LIMIT:
        raise invalid("instanceIds can have at most 10 items.")
    made: list[Task] = []
    failures: list[Document] = []
    for name in named:
        instance = instances.find(order.cluster, name)
        if instance is None:
            arn = instances.full_arn(world, order.cluster, name)
            failures.append({"arn": arn, "reason": "MISSING"})
            continue
        reason = refusal(instance, order.definition, order.need, order.all_constraints)
        if reason is not None:
            failures.append({"arn": instance.arn, "reason": reason})
            continue
        made.append(orders.create(world, order, instance))
    return _started(world, made, failures)


def _started(world: World, made: list[Task], failures: list[Document]) -> Document:
    now = world.now()
    return {"tasks": [_newborn(task_document(task, now)) for task in made], "failures": failures}


def _newborn(document: Document) -> Document:
    """A task as RunTask answers it: without any health yet."""
    document.pop("healthStatus")
    for container in document["containers"]:
        container.pop("healthStatus")
    return document


def find(cluster: Cluster, named: object) -> Task | None:
    """The task of that id or ARN, None when the cluster has none."""
    found = cluster.tasks.get(last_part(str(named)))
    if found is not None and str(named).startswith("arn:") and found.arn != named:
        return None
    return found


def stop_task(world: World, request: Document) -> Document:
    """StopTask: the answer shows the task still RUNNING with `desiredStatus` STOPPED."""
    cluster = world.cluster(request.get("cluster"))
    found = find(cluster, request.get("task"))
    if found is None:
        raise invalid("The referenced task was not found.")
    reason = str(request.get("reason") or "Task stopped by user")
    lifecycle.stop(world, found, "UserInitiated", reason)
    return {"task": task_document(found, world.now())}


def describe_tasks(world: World, request: Document) -> Raw:
    """DescribeTasks, from the encoded records; unknown ones are failures."""
    cluster = world.cluster(request.get("cluster"))
    named = request.get("tasks") or []
    if not named:
        raise invalid("Tasks cannot be empty.")
    if len(named) > _DESCRIBE_LIMIT:
        raise invalid("taskIds can have at most 100 items.")
    tagged = "TAGS" in (request.get("include") or ())
    now = world.now()
    found: list[bytes] = []
    failures: list[Document] = []
    for name in named:
        task = find(cluster, name)
        if task is None:
            failures.append({"arn": full_arn(world, cluster, name), "reason": "MISSING"})
        else:
            found.append(encoded_task(task, now, tagged))
    return Raw(b'{"tasks":[%b],"failures":%b}' % (b",".join(found), encode(failures)))


def full_arn(world: World, cluster: Cluster, named: object) -> str:
    """The ARN an id would have in this cluster."""
    text = str(named)
    if text.startswith("arn:"):
        return text
    if not _ID.match(text):
        raise invalid("Invalid identifier: taskId contains invalid characters.")
    return world.ids.arn(f"task/{cluster.name}/{text}")


def list_tasks(world: World, request: Document) -> Document:
    """ListTasks: those that should run, unless `desiredStatus` is STOPPED."""
    cluster = world.cluster(request.get("cluster"))
    found, token = page(
        world.run.pages,
        "ListTasks",
        request,
        ((task.sequence, task.arn) for task in _filtered(cluster, request)),
    )
    return {"taskArns": found} | ({"nextToken": token} if token else {})


def _filtered(cluster: Cluster, request: Document) -> Iterator[Task]:
    filters = {
        name: request[name]
        for name in ("family", "serviceName", "containerInstance", "startedBy", "launchType")
        if request.get(name)
    }
    if "startedBy" in filters and len(filters) > 1:
        raise invalid("startedBy can not be combined with other filters.")
    desired = request.get("desiredStatus") or "RUNNING"
    if desired not in ("RUNNING", "PENDING", "STOPPED"):
        raise invalid("desiredStatus must be one of [RUNNING, PENDING, STOPPED]")
    tasks = _narrowed(cluster, filters, desired)
    for task in tasks:
        if task.desired != desired:
            continue
        if filters.get("family") not in (None, task.definition.family):
            continue
        if filters.get("startedBy") not in (None, task.started_by):
            continue
        if filters.get("launchType") not in (None, task.launch_type):
            continue
        yield task


def _narrowed(cluster: Cluster, filters: Document, desired: str) -> Iterable[Task]:
    """The tasks of the named service and instance; running ones are found without a scan."""
    service = instance = None
    if "serviceName" in filters:
        service = cluster.services.get(last_part(str(filters["serviceName"])))
        if service is None or service.status == "INACTIVE":
            raise service_not_found()
    if "containerInstance" in filters:
        instance = instances.find(cluster, filters["containerInstance"])
        if instance is None:
            raise invalid("Container instance not found.")
    if desired == ENDED or (service is None and instance is None):
        tasks: Iterable[Task] = cluster.tasks.values()
    else:
        owner = service or instance
        tasks = owner.tasks.values() if owner is not None else chain()
    return (
        task
        for task in tasks
        if (service is None or task.service is service)
        and (instance is None or task.instance is instance)
    )


OPERATIONS = {
    "RunTask": run_task,
    "StartTask": start_task,
    "StopTask": stop_task,
    "ListTasks": list_tasks,
    "DescribeTasks": describe_tasks,
}
