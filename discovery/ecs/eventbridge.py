"""What a message from EventBridge tells: which task, container instance or service has changed.

Events carry a whole task or instance, with its version, but neither health nor tags; a service only
by name. They come at least once and in any order (Amazon ECS Developer Guide, "Amazon ECS events").
"""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from discovery.ecs.fields import Document, moment, part, text, texts
from discovery.ecs.hosts import Instance, instance_of
from discovery.ecs.tasks import Task, task_of

_SOURCE = "aws.ecs"
_TASK = "ECS Task State Change"
_INSTANCE = "ECS Container Instance State Change"
_OF_SERVICES = ("ECS Service Action", "ECS Deployment State Change")
_SERVICE_ARN = re.compile(r"(?P<account>arn:[\w-]+:ecs:[\w-]*:\d*):service/([\w-]+)/([\w-]+)")
_CLUSTER_ARN = re.compile(r"(arn:[\w-]+:ecs:[\w-]*:\d*):cluster/([\w-]+)")
_RESOURCE = "{}:{}/(?:{}/)?[\\w-]+"  # of a cluster, which old ARNs leave out


@dataclass(frozen=True, slots=True)
class Told:
    """One event of the cluster with this ARN. One of task, instance and service's name is set.

    `at` is when it changed, in seconds since the epoch.
    """

    cluster: str
    at: float | None = None
    task: Task | None = None
    instance: Instance | None = None
    service: str | None = None


def told_in(body: str) -> Told | None:
    """What a message tells, also one that came by SNS; `None` for what is no event of interest.

    Raises `ValueError`, in one sentence, for a message that cannot be read.
    """
    event = _object(body)
    if event.get("Type") == "Notification" and isinstance(event.get("Message"), str):
        event = _object(event["Message"])
    if text(event, "source") != _SOURCE:
        if "detail-type" in event:
            return None
        raise ValueError("it is no event from EventBridge")
    kind, detail = text(event, "detail-type"), part(event, "detail")
    if kind == _TASK:
        task, cluster = task_of(detail), _cluster(kind, detail)
        if task is None or not _is_of(cluster, "task", task.arn):
            raise ValueError(f"the {kind} has no taskArn of its cluster")
        if task.instance and not _is_of(cluster, "container-instance", task.instance):
            raise ValueError(f"the {kind} has a containerInstanceArn that is none of its cluster")
        return Told(cluster, moment(detail, "updatedAt"), task=task)
    if kind == _INSTANCE:
        instance, cluster = instance_of(detail), _cluster(kind, detail)
        if instance is None or not _is_of(cluster, "container-instance", instance.arn):
            raise ValueError(f"the {kind} has no containerInstanceArn of its cluster")
        return Told(cluster, moment(detail, "updatedAt"), instance=instance)
    return _of_service(event) if kind in _OF_SERVICES else None


def _of_service(event: Document) -> Told | None:
    """Old ARNs of services have no cluster, and some events none of a service: a read finds out."""
    for arn in texts(event, "resources"):
        found = _SERVICE_ARN.fullmatch(arn)
        if found:
            account, cluster, name = found.groups()
            return Told(f"{account}:cluster/{cluster}", service=name)
    return None


def _cluster(kind: str, detail: Document) -> str:
    arn = text(detail, "clusterArn") or ""
    if not _CLUSTER_ARN.fullmatch(arn):
        raise ValueError(f"the {kind} has no clusterArn")
    return arn


def _is_of(cluster: str, kind: str, arn: str) -> bool:
    """Whether an ARN is one that can be asked for: an odd one would have all that ask refused."""
    account, _, name = cluster.partition(":cluster/")
    return re.fullmatch(_RESOURCE.format(account, kind, name), arn) is not None


def _object(written: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(written, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise ValueError(f"it is no JSON object ({exc})") from exc
