"""Records as EventBridge events: the detail differs from the API's answer where the real one does.

Timestamps are ISO strings with trailing zeros cut, an ENI attachment's type is `eni`, there are no
tags and no health, and Fargate containers have no `networkBindings`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from discovery.local.documents import instance_document, task_document
from discovery.local.state import Document, Instance, Task
from discovery.local.world import World

_NOT_IN_EVENTS = ("tags", "healthStatus", "enableExecuteCommand", "platformFamily")


def iso(timestamp: float) -> str:
    """Epoch seconds as events write them: `2018-04-30T20:04:33.646Z`, `…:44Z`."""
    text = datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text.rstrip("0").rstrip(".") + "Z"


def task_event(world: World, task: Task) -> Document:
    """ "ECS Task State Change"."""
    now = world.now()
    detail = task_document(task, now)
    for name in _NOT_IN_EVENTS:
        detail.pop(name, None)
    for container in detail["containers"]:
        container.pop("healthStatus", None)
        if not container.get("networkBindings"):
            container.pop("networkBindings", None)
    for attachment in detail["attachments"]:
        if attachment["type"] == "ElasticNetworkInterface":
            attachment["type"] = "eni"
    detail["overrides"] = {"containerOverrides": detail["overrides"]["containerOverrides"]}
    return _event(world, "ECS Task State Change", task.arn, detail | {"updatedAt": now})


def instance_event(world: World, instance: Instance) -> Document:
    """ "ECS Container Instance State Change"; resources omit zero values."""
    detail = instance_document(instance, set())
    for name in ("tags", "attachments"):
        detail.pop(name, None)
    for resource in (*detail["registeredResources"], *detail["remainingResources"]):
        for zero in ("doubleValue", "longValue"):
            resource.pop(zero)
        if resource["type"] == "STRINGSET":
            resource.pop("integerValue")
    detail |= {"clusterArn": instance.cluster.arn, "updatedAt": world.now()}
    return _event(world, "ECS Container Instance State Change", instance.arn, detail)


def _event(world: World, kind: str, arn: str, detail: Document) -> Document:
    return {
        "version": "0",
        "id": world.ids.uuid(),
        "detail-type": kind,
        "source": "aws.ecs",
        "account": world.state.account,
        "time": iso(float(int(world.run.clock()))),
        "region": world.state.region,
        "resources": [arn],
        "detail": _dated(detail),
    }


def _dated(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _dated(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_dated(each) for each in value]
    return iso(value) if isinstance(value, float) and name.endswith("At") else value
