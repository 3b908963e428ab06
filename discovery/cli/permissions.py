"""The AWS actions that reading needs, what for, and the IAM policy that grants just these.

Which actions know the condition key `ecs:cluster` is from AWS's Service Authorization Reference,
"Actions, resources, and condition keys for Amazon Elastic Container Service".
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from discovery.ecs.queues import queue_of
from discovery.settings import Settings
from discovery.written import ClusterSettings

Document = dict[str, Any]
_VERSION = "2012-10-17"


@dataclass(frozen=True, slots=True)
class Permission:
    """One action. `without` is what a missing permission costs, as half a sentence.

    With `by_cluster` a policy can be bound to clusters. `is_needed` says whether settings lead to
    the action being called at all.
    """

    action: str
    without: str
    by_cluster: bool = False
    is_needed: Callable[[Settings], bool] = lambda settings: True


def _of(action: str, without: str) -> Permission:
    return Permission(f"ecs:{action}", without, by_cluster=True)


_SHIFTS = "what a blue/green deployment replaces is served until it is gone"
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
        is_needed=lambda settings: settings.public_addresses,
    ),
    Permission(
        "elasticloadbalancing:DescribeTargetHealth",
        "targets that load balancers leave out are served",
        is_needed=lambda settings: settings.target_health,
    ),
)


def policy(settings: Settings) -> Document:
    """The least IAM policy for these settings; the caller's account is not known here."""
    needed = [p for p in PERMISSIONS if p.is_needed(settings)]
    clusters = [_arn(cluster) for cluster in settings.clusters]
    bound: Document = {"Sid": "ReadClusters", "Effect": "Allow"}
    bound |= {"Action": [p.action for p in needed if p.by_cluster], "Resource": "*"}
    if clusters:
        bound["Condition"] = {"ArnLike": {"ecs:cluster": _one_or_all(clusters)}}
    free = [p.action for p in needed if not p.by_cluster]
    statements = [
        bound,
        {"Sid": "ActionsWithoutClusters", "Effect": "Allow", "Action": free, "Resource": "*"},
    ]
    if settings.events is not None:
        statements.append(
            {
                "Sid": "ReceiveEvents",
                "Effect": "Allow",
                "Action": ["sqs:GetQueueUrl", "sqs:ReceiveMessage", "sqs:DeleteMessage"],
                "Resource": queue_of(settings.events).arn,
            }
        )
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


def _arn(cluster: ClusterSettings) -> str:
    # Of any partition: China's and GovCloud's have names of their own.
    return cluster.arn or f"arn:*:ecs:{cluster.region or '*'}:*:cluster/{cluster.name}"


def _one_or_all(values: Iterable[str]) -> str | list[str]:
    listed = list(values)
    return listed[0] if len(listed) == 1 else listed
