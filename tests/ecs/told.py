"""Events as EventBridge sends them, made of the documents that reads give."""

import copy
import json
from datetime import UTC, datetime
from typing import Any

from discovery.ecs.eventbridge import Told, told_in
from discovery.ecs.news import News
from tests.ecs.documents import ACCOUNT, Document

CLUSTER = f"{ACCOUNT}:cluster/prod"


def iso(at: float) -> str:
    """Seconds since the epoch as events write them."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def event(kind: str, detail: Document, *resources: str, **more: Any) -> str:
    """The body of a message."""
    found = {
        "version": "0",
        "detail-type": kind,
        "source": "aws.ecs",
        "account": "123456789012",
        "region": "eu-west-1",
        "resources": list(resources),
        "detail": detail,
    }
    return json.dumps(found | more, default=lambda at: iso(at.timestamp()))


def task_event(document: Document, at: float = 0.0, **more: Any) -> str:
    """ "ECS Task State Change" of a task: no tags, no health, and interfaces are called `eni`."""
    detail = copy.deepcopy(document) | {"updatedAt": iso(at), **more}
    detail.pop("tags", None)
    detail.pop("healthStatus", None)
    for container in detail["containers"]:
        container.pop("healthStatus", None)
        if not container.get("networkBindings"):
            container.pop("networkBindings", None)
    for attachment in detail["attachments"]:
        if attachment["type"] == "ElasticNetworkInterface":
            attachment["type"] = "eni"
    return event("ECS Task State Change", detail, detail["taskArn"])


def told(body: str) -> Told:
    """What a message tells, which is something."""
    found = told_in(body)
    assert found is not None
    return found


def news(*bodies: str) -> News:
    """What these messages tell of one cluster."""
    found = News()
    for body in bodies:
        found.add(told(body))
    return found
