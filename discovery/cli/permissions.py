"""The AWS actions that reading needs, what for, and the IAM policy that grants just these.

Which actions know the condition key `ecs:cluster` is from AWS's Service Authorization Reference,
"Actions, resources, and condition keys for Amazon Elastic Container Service".
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from discovery.ecs.queues import Queue, queue_of
from discovery.settings import Settings
from discovery.written import ClusterSettings

Document = dict[str, Any]
Scope = Literal["clusters", "everything", "queue"]
_VERSION = "2012-10-17"


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read: by which settings, and whether from hosts of ECS Anywhere, too."""

    settings: Settings
    anywhere: bool = False

    @property
    def queue(self) -> Queue | None:
        """The queue of events, in the region where it is looked for."""
        if self.settings.events is None:
            return None
        queue = queue_of(self.settings.events)
        regions = [cluster.region for cluster in self.settings.clusters[:1]]
        return replace(queue, region=queue.region or next(iter(regions), None))


@dataclass(frozen=True, slots=True)
class Permission:
    """One action. `without` is what a missing permission costs, as half a sentence.

    `scope` is what a policy can bind it to. `is_needed` says whether the action is called at all.
    """

    action: str
    without: str
    scope: Scope = "everything"
    is_needed: Callable[[Reading], bool] = lambda reading: True


def _of(action: str, without: str) -> Permission:
    return Permission(f"ecs:{action}", without, "clusters")


def _of_queue(
    action: str, without: str, is_needed: Callable[[Queue], bool] = lambda queue: True
) -> Permission:
    def of(reading: Reading) -> bool:
        return reading.queue is not None and is_needed(reading.queue)

    return Permission(f"sqs:{action}", without, "queue", of)


_SHIFTS = "what a blue/green deployment replaces is served until it is gone"
_POLLED = "events are not heard, and clusters are polled"
PERMISSIONS = (
    _of("ListTasks", "nothing can be found"),
    _of("DescribeTasks", "nothing can be found"),
    _of("ListServices", "services without a task are unknown"),
    _of("DescribeServices", "services without a task are unknown, and so are default ports"),
    _of("ListServiceDeployments", _SHIFTS),
    _of("DescribeServiceDeployments", _SHIFTS),
    _of("DescribeServiceRevisions", _SHIFTS),
    _of("DescribeContainerInstances", "tasks in bridge and host mode have no address"),
    Permission("ecs:DescribeTaskDefinition", "tasks in awsvpc and host mode have no port"),
    Permission("ecs:DescribeClusters", "a cluster that is not there looks like an empty one"),
    Permission("ec2:DescribeInstances", "tasks in bridge and host mode have no address"),
    Permission(
        "ec2:DescribeNetworkInterfaces",
        "tasks have no public address",
        is_needed=lambda reading: reading.settings.public_addresses,
    ),
    Permission(
        "elasticloadbalancing:DescribeTargetHealth",
        "targets that load balancers leave out are served",
        is_needed=lambda reading: reading.settings.target_health,
    ),
    Permission(
        "ssm:DescribeInstanceInformation",
        "tasks on hosts of ECS Anywhere have no address",
        is_needed=lambda reading: reading.anywhere,
    ),
    _of_queue("GetQueueUrl", _POLLED, lambda queue: queue.url is None),
    _of_queue("ReceiveMessage", _POLLED),
    _of_queue("DeleteMessage", "every event is heard again and again, until it expires"),
)


def needed(reading: Reading, *scopes: Scope) -> list[Permission]:
    """The permissions that reading needs, of these scopes."""
    return [p for p in PERMISSIONS if p.scope in scopes and p.is_needed(reading)]


def policy(reading: Reading) -> Document:
    """The least IAM policy for it; the caller's account is not known here."""
    settings, queue = reading.settings, reading.queue
    clusters = [_arn(cluster) for cluster in settings.clusters]
    bound = _allowed("ReadClusters", needed(reading, "clusters"))
    if clusters:
        bound["Condition"] = {"ArnLike": {"ecs:cluster": _one_or_all(clusters)}}
    statements = [bound, _allowed("ActionsWithoutClusters", needed(reading, "everything"))]
    if queue is not None:
        statements.append(_allowed("ReceiveEvents", needed(reading, "queue"), queue.arn))
    roles = sorted({c.role_arn for c in settings.clusters if c.role_arn})
    if roles:
        statements.append(
            {
                "Sid": "RolesOfOtherClusters",
                "Effect": "Allow",
                "Action": "sts:AssumeRole",
                "Resource": _one_or_all(roles),
            }
        )
    return {"Version": _VERSION, "Statement": statements}


def trust() -> Document:
    """The trust policy of a task role."""
    return {
        "Version": _VERSION,
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "ecs-tasks.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }


def _allowed(sid: str, permissions: Iterable[Permission], resource: str = "*") -> Document:
    actions = [permission.action for permission in permissions]
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}


def _arn(cluster: ClusterSettings) -> str:
    # Of any partition: China's and GovCloud's have names of their own.
    return cluster.arn or f"arn:*:ecs:{cluster.region or '*'}:*:cluster/{cluster.name}"


def _one_or_all(values: Iterable[str]) -> str | list[str]:
    listed = list(values)
    return listed[0] if len(listed) == 1 else listed
