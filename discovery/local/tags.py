"""Tags of ECS resources: TagResource, UntagResource, ListTagsForResource."""

from __future__ import annotations

from typing import Any

from discovery.local import definitions
from discovery.local.errors import ApiError, invalid
from discovery.local.state import Document, Service, Task
from discovery.local.world import World

_LIMIT = 50


def tag_resource(world: World, request: Document) -> Document:
    """TagResource: at most 50 tags; `aws:` is reserved."""
    found = _found(world, request)
    given = request.get("tags") or []
    if any(str(each.get("key", "")).lower().startswith("aws:") for each in given):
        raise invalid("Tag keys must not begin with aws:.")
    tags = {each["key"]: each for each in [*found.tags, *given]}
    if len(tags) > _LIMIT:
        raise invalid("Number of tags exceeds the limit of 50.")
    _set(found, list(tags.values()))
    return {}


def untag_resource(world: World, request: Document) -> Document:
    """UntagResource."""
    found = _found(world, request)
    keys = set(request.get("tagKeys") or ())
    _set(found, [each for each in found.tags if each["key"] not in keys])
    return {}


def list_tags(world: World, request: Document) -> Document:
    """ListTagsForResource."""
    return {"tags": _found(world, request).tags}


def _set(found: Any, tags: list[Document]) -> None:
    found.tags = tags
    if isinstance(found, Task | Service):
        found.encoded = None


def _found(world: World, request: Document) -> Any:
    arn = str(request.get("resourceArn"))
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[2] != "ecs":
        raise invalid("The specified resource ARN is not valid.")
    kind, _, rest = parts[5].partition("/")
    if kind == "task-definition":
        return definitions.find(world, arn)
    cluster = world.cluster(rest.split("/")[0])
    if kind == "cluster":
        return cluster
    tables: dict[str, dict[str, Any]] = {
        "service": cluster.services,
        "task": cluster.tasks,
        "container-instance": cluster.instances,
    }
    found = tables.get(kind, {}).get(rest.split("/")[-1])
    if found is None:
        raise ApiError("ResourceNotFoundException", "The specified resource was not found.")
    return found


OPERATIONS = {
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "ListTagsForResource": list_tags,
}
