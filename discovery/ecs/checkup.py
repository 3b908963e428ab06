"""Trying out what reading needs: whose credentials these are, and which actions they may call.

Each action is tried with a call that costs one token of its quota and reads next to nothing: of
things that do not exist, where AWS tells "not there" from "not allowed".
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from discovery.ecs.calls import PASSING, Call
from discovery.ecs.clients import Access, Clients, answer_of
from discovery.ecs.fields import number, part, rows, text, texts
from discovery.ecs.queues import Queue
from discovery.errors import AccessDenied, ClusterNotFound, RegionMissing, SourceError

_NOBODY = "ecs-discovery-doctor"  # no service, family or target group is called so
_NO_ID = "0" * 32
_GROUP = "checkup"


@dataclass(frozen=True, slots=True)
class Who:
    """Whose credentials they are. `skew_s` is how far our clock is ahead of AWS's, in seconds."""

    arn: str
    account: str
    partition: str
    region: str
    skew_s: float | None = None


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What ECS says of a cluster."""

    arn: str
    status: str
    running_tasks: int
    services: int
    instances: int


@dataclass(frozen=True, slots=True)
class _Trial:
    service: str
    operation: str
    parameters: Callable[[str, str], Mapping[str, Any]]  # of the cluster and `ARN:of:` its things


# By the action's name in IAM.
_TRIALS = {
    "ecs:ListTasks": _Trial(
        "ecs", "ListTasks", lambda cluster, _: {"cluster": cluster, "maxResults": 1}
    ),
    "ecs:DescribeTasks": _Trial(
        "ecs",
        "DescribeTasks",
        lambda cluster, arn: {"cluster": cluster, "tasks": [f"{arn}:task/{cluster}/{_NO_ID}"]},
    ),
    "ecs:ListServices": _Trial(
        "ecs", "ListServices", lambda cluster, _: {"cluster": cluster, "maxResults": 1}
    ),
    "ecs:DescribeServices": _Trial(
        "ecs", "DescribeServices", lambda cluster, _: {"cluster": cluster, "services": [_NOBODY]}
    ),
    "ecs:ListServiceDeployments": _Trial(
        "ecs",
        "ListServiceDeployments",
        lambda cluster, _: {"cluster": cluster, "service": _NOBODY},
    ),
    "ecs:DescribeServiceDeployments": _Trial(
        "ecs",
        "DescribeServiceDeployments",
        lambda cluster, arn: {
            "serviceDeploymentArns": [f"{arn}:service-deployment/{cluster}/{_NOBODY}/none"]
        },
    ),
    "ecs:DescribeServiceRevisions": _Trial(
        "ecs",
        "DescribeServiceRevisions",
        lambda cluster, arn: {
            "serviceRevisionArns": [f"{arn}:service-revision/{cluster}/{_NOBODY}/1"]
        },
    ),
    "ecs:DescribeContainerInstances": _Trial(
        "ecs",
        "DescribeContainerInstances",
        lambda cluster, arn: {
            "cluster": cluster,
            "containerInstances": [f"{arn}:container-instance/{cluster}/{_NO_ID}"],
        },
    ),
    "ecs:DescribeTaskDefinition": _Trial(
        "ecs", "DescribeTaskDefinition", lambda *_: {"taskDefinition": _NOBODY}
    ),
    "ecs:DescribeClusters": _Trial(
        "ecs", "DescribeClusters", lambda cluster, _: {"clusters": [cluster]}
    ),
    "ec2:DescribeInstances": _Trial(
        "ec2",
        "DescribeInstances",
        lambda *_: {"Filters": [{"Name": "instance-id", "Values": ["i-00000000000000000"]}]},
    ),
    "ec2:DescribeNetworkInterfaces": _Trial(
        "ec2",
        "DescribeNetworkInterfaces",
        lambda *_: {
            "Filters": [{"Name": "network-interface-id", "Values": ["eni-00000000000000000"]}]
        },
    ),
    "elasticloadbalancing:DescribeTargetHealth": _Trial(
        "elbv2",
        "DescribeTargetHealth",
        lambda _, arn: {
            "TargetGroupArn": f"{arn.replace(':ecs:', ':elasticloadbalancing:')}"
            f":targetgroup/{_NOBODY}/{_NO_ID[:16]}"
        },
    ),
    "ssm:DescribeInstanceInformation": _Trial(
        "ssm",
        "DescribeInstanceInformation",
        lambda *_: {"Filters": [{"Key": "InstanceIds", "Values": [f"mi-{_NO_ID[:17]}"]}]},
    ),
}
# On a queue that is there, by its URL. What is received is there again for others at once.
_QUEUE_TRIALS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "sqs:ReceiveMessage": (
        "ReceiveMessage",
        {"MaxNumberOfMessages": 1, "VisibilityTimeout": 0, "WaitTimeSeconds": 0},
    ),
    "sqs:DeleteMessage": (
        "DeleteMessageBatch",
        {"Entries": [{"Id": "0", "ReceiptHandle": _NOBODY}]},
    ),
}
_FIND_QUEUE = "sqs:GetQueueUrl"


class Checkup:
    """Makes the calls; not for several threads."""

    def __init__(
        self, environment: Mapping[str, str], clock: Callable[[], float] = time.time
    ) -> None:
        self._clients = Clients(environment)
        self._clock = clock

    def who(self, access: Access) -> Who:
        """Whose credentials are used there. Raises `SourceError`."""
        answer = self._answer(access, Call("GetCallerIdentity", {}, "check", _GROUP, "sts"))
        if isinstance(answer, SourceError):
            raise answer
        arn = text(answer, "Arn") or ""
        region = self._clients.client("ecs", access).meta.region_name
        return Who(
            arn,
            text(answer, "Account") or "",
            arn.split(":")[1] if arn.count(":") > 1 else "aws",
            str(region),
            self._skew_s(answer),
        )

    def cluster(self, access: Access, name: str) -> ClusterState:
        """What ECS says of that cluster. Raises `SourceError`, also where there is none."""
        call = Call("DescribeClusters", {"clusters": [name]}, "check", _GROUP)
        answer = self._answer(access, call)
        if isinstance(answer, SourceError):
            raise answer
        for found in rows(answer, "clusters"):
            return ClusterState(
                text(found, "clusterArn") or "",
                text(found, "status") or "",
                int(number(found, "runningTasksCount") or 0),
                int(number(found, "activeServicesCount") or 0),
                int(number(found, "registeredContainerInstancesCount") or 0),
            )
        raise ClusterNotFound(f"no cluster {name!r} there: look at its name, region and account")

    def trouble(self, action: str, access: Access, cluster: str, who: Who) -> SourceError | None:
        """Why that action cannot be called; `None` where it may be.

        That what was asked for does not exist is the answer of one who may ask.
        """
        trial = _TRIALS[action]
        arn = f"arn:{who.partition}:ecs:{who.region}:{who.account}"
        call = Call(trial.operation, trial.parameters(cluster, arn), "check", _GROUP, trial.service)
        answer = self._answer(access, call)
        if isinstance(answer, (AccessDenied, RegionMissing, *PASSING)):
            return answer
        return None

    def is_anywhere(self, access: Access, cluster: str) -> bool:
        """Whether tasks of the cluster run on hosts outside of AWS, as far as can be told."""
        parameters = {"cluster": cluster, "launchType": "EXTERNAL", "maxResults": 1}
        answer = self._answer(access, Call("ListTasks", parameters, "check", _GROUP))
        return not isinstance(answer, SourceError) and bool(texts(answer, "taskArns"))

    def queue(self, access: Access, queue: Queue) -> Iterator[tuple[str, SourceError | None]]:
        """What is done with the queue, by action, and why it cannot be."""
        url = queue.url
        if url is None:
            call = Call("GetQueueUrl", queue.parameters, "check", _GROUP, "sqs")
            answer = self._answer(access, call)
            failed = answer if isinstance(answer, SourceError) else None
            yield _FIND_QUEUE, failed
            if isinstance(answer, SourceError):
                return
            url = text(answer, "QueueUrl")
        for action, (operation, parameters) in _QUEUE_TRIALS.items():
            of_it = {"QueueUrl": url, **parameters}
            answer = self._answer(access, Call(operation, of_it, "check", _GROUP, "sqs"))
            yield action, answer if isinstance(answer, SourceError) else None

    def close(self) -> None:
        """Close all connections."""
        self._clients.close()

    def _answer(self, access: Access, call: Call) -> Mapping[str, Any] | SourceError:
        try:
            client = self._clients.client(call.service, access)
        except SourceError as error:
            return error
        return answer_of(client, call)

    def _skew_s(self, answer: Mapping[str, Any]) -> float | None:
        written = text(part(part(answer, "ResponseMetadata"), "HTTPHeaders"), "date")
        if written is None:
            return None
        try:
            return self._clock() - parsedate_to_datetime(written).timestamp()
        except ValueError:
            return None


def actions() -> frozenset[str]:
    """The actions that can be tried."""
    return frozenset({*_TRIALS, *_QUEUE_TRIALS, _FIND_QUEUE})
