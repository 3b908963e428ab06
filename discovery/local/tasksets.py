"""Task sets: what CodeDeploy and external controllers make of a service.

The service scheduler keeps each set's part of the desired count; which one serves production is
only what UpdateServicePrimaryTaskSet says.
"""

from __future__ import annotations

from discovery.local import definitions, orders, registration
from discovery.local.documents import task_set_document
from discovery.local.errors import ApiError, invalid, service_not_active, service_not_found
from discovery.local.headcount import is_healthy, wanted
from discovery.local.state import Cluster, Definition, Document, Service, TaskSet
from discovery.local.world import World

_SETTINGS = ("networkConfiguration", "capacityProviderStrategy", "platformVersion")


def create_task_set(world: World, request: Document) -> Document:
    """CreateTaskSet: ACTIVE, scaled to nothing unless the request says more."""
    service = _service(world, request)
    definition = definitions.usable(world, request.get("taskDefinition"))
    launch_type, provider = orders.launch_of(request)
    orders.check_launch(definition, launch_type, request.get("networkConfiguration"))
    balancers = request.get("loadBalancers") or []
    registration.check_types(world, definition, balancers)
    scale = _scale(request.get("scale") or {"value": 0.0, "unit": "PERCENT"})
    settings = {name: request[name] for name in _SETTINGS if name in request}
    settings |= orders.network_member(request.get("networkConfiguration"))
    if provider is None:
        settings["launchType"] = launch_type
    made = add(world, service, definition, settings, scale)
    made.tags = list(request.get("tags") or [])
    made.external_id = request.get("externalId")
    made.balancers = tuple(balancers)
    made.registries = tuple(request.get("serviceRegistries") or ())
    return {"taskSet": task_set_document(service, made, tagged=True)}


def add(
    world: World, service: Service, definition: Definition, settings: Document, scale: float
) -> TaskSet:
    """A new task set of a service; its scheduler is woken."""
    now = world.now()
    name = world.ids.deployment()
    made = TaskSet(
        id=name,
        arn=service.arn.replace(":service/", ":task-set/", 1) + f"/{name}",
        definition=definition,
        created_at=now,
        updated_at=now,
        settings=settings,
        scale=scale,
        tags=[],
        stability_at=now,
    )
    service.task_sets.append(made)
    service.failures, service.wait_until = 0, 0.0
    _changed(world, service)
    return made


def _changed(world: World, service: Service) -> None:
    service.encoded = None
    world.wake(service)


def _service(world: World, request: Document) -> Service:
    cluster: Cluster = world.cluster(request.get("cluster"))
    named = str(request.get("service"))
    service = cluster.services.get(named.rsplit("/", 1)[-1])
    if service is None:
        raise service_not_found()
    if service.status != "ACTIVE":
        raise service_not_active()
    if service.controller == "ECS":
        raise invalid("The service does not have an external deployment controller.")
    return service


def _scale(given: Document) -> float:
    value, unit = given.get("value", 0.0), given.get("unit", "PERCENT")
    if unit != "PERCENT" or isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid("The scale must be a value in PERCENT.")
    if not 0 <= value <= 100:
        raise invalid("The scale value must be between 0.0 and 100.0.")
    return float(value)


def _found(service: Service, named: object) -> TaskSet:
    for each in service.task_sets:
        if named in (each.id, each.arn):
            return each
    raise ApiError("TaskSetNotFoundException", "The specified task set could not be found.")


def update_task_set(world: World, request: Document) -> Document:
    """UpdateTaskSet: another scale."""
    service = _service(world, request)
    found = _found(service, request.get("taskSet"))
    found.scale = _scale(request.get("scale") or {})
    found.updated_at = world.now()
    _unsettle(world, found)
    _changed(world, service)
    return {"taskSet": task_set_document(service, found, tagged=True)}


def _unsettle(world: World, task_set: TaskSet) -> None:
    task_set.stability, task_set.stability_at = "STABILIZING", world.now()


def update_primary(world: World, request: Document) -> Document:
    """UpdateServicePrimaryTaskSet: this one serves production, and no other."""
    service = _service(world, request)
    found = _found(service, request.get("primaryTaskSet"))
    if found.status == "DRAINING":
        raise invalid("The task set is DRAINING.")
    for each in service.task_sets:
        if each.status == "PRIMARY":
            each.status, each.updated_at = "ACTIVE", world.now()
    found.status, found.updated_at = "PRIMARY", world.now()
    _changed(world, service)
    return {"taskSet": task_set_document(service, found, tagged=True)}


def describe_task_sets(world: World, request: Document) -> Document:
    """DescribeTaskSets: all, or those named; unknown ones are failures."""
    service = _service(world, request)
    tagged = "TAGS" in (request.get("include") or ())
    known = {name: each for each in service.task_sets for name in (each.id, each.arn)}
    named = request.get("taskSets") or [each.id for each in service.task_sets]
    return {
        "taskSets": [
            task_set_document(service, known[name], tagged) for name in named if name in known
        ],
        "failures": [{"arn": name, "reason": "MISSING"} for name in named if name not in known],
    }


def delete_task_set(world: World, request: Document) -> Document:
    """DeleteTaskSet: DRAINING until its tasks are gone; only with `force` while it has any."""
    service = _service(world, request)
    found = _found(service, request.get("taskSet"))
    if found.scale and not request.get("force"):
        raise invalid("The task set cannot be deleted while it is scaled above 0.")
    found.status, found.updated_at = "DRAINING", world.now()
    _unsettle(world, found)
    _changed(world, service)
    return {"taskSet": task_set_document(service, found, tagged=True)}


def settle(world: World, service: Service, task_set: TaskSet) -> bool:
    """Whether it has become steady: every task that is wanted runs.

    A deleted one leaves with its last task.
    """
    mine = [task for task in service.tasks.values() if task.started_by == task_set.id]
    if task_set.status == "DRAINING" and not mine:
        service.task_sets.remove(task_set)
        service.encoded = None
        return False
    healthy = sum(is_healthy(task) for task in wanted(mine))
    steady = healthy == len(mine) == task_set.computed(service.desired)
    stability = "STEADY_STATE" if steady else "STABILIZING"
    if stability == task_set.stability:
        return False
    task_set.stability, task_set.stability_at = stability, world.now()
    service.encoded = None
    return steady


OPERATIONS = {
    "CreateTaskSet": create_task_set,
    "UpdateTaskSet": update_task_set,
    "UpdateServicePrimaryTaskSet": update_primary,
    "DescribeTaskSets": describe_task_sets,
    "DeleteTaskSet": delete_task_set,
}
