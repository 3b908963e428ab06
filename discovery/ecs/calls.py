"""Calls as values, and conversations made of them.

A conversation is a generator: it yields a batch of calls, which may be made at the same time, and
is sent one answer for each, in order. An answer is a decoded response or a `SourceError` value, so
that one failing call fails what depends on it and nothing else.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, TypeVar

from discovery.ecs.fields import Document, text
from discovery.errors import (
    CredentialsExpired,
    CredentialsMissing,
    SourceError,
    SourceMalformed,
    SourceThrottled,
    SourceUnreachable,
)

# Throttle groups: the first four share a quota each, per account and region.
CLUSTER_RESOURCES = "cluster resources"
SERVICES = "services"
DEFINITIONS = "task definitions"
CLUSTERS = "clusters"
DEPLOYMENTS = "service deployments"
EC2 = "ec2"
SSM = "ssm"
TARGETS = "target health"
QUEUES = "queues"  # has no quota that anybody else would miss

# What may be over with the next read; nothing is concluded from it.
PASSING = (
    *(SourceUnreachable, SourceThrottled, SourceMalformed),
    *(CredentialsMissing, CredentialsExpired),
)

Result = TypeVar("Result")


# What an answer always has, were it empty. Of a JSON answer that was cut off botocore makes one
# without any member, which must not be taken for an empty list.
_ALWAYS_THERE = {
    "ListTasks": "taskArns",
    "ListServices": "serviceArns",
    "DescribeTasks": "tasks",
    "DescribeServices": "services",
    "DescribeContainerInstances": "containerInstances",
    "DescribeTaskDefinition": "taskDefinition",
    "ListServiceDeployments": "serviceDeployments",
    "DescribeServiceDeployments": "serviceDeployments",
    "DescribeServiceRevisions": "serviceRevisions",
    "DescribeInstances": "Reservations",
    "DescribeNetworkInterfaces": "NetworkInterfaces",
    "DescribeInstanceInformation": "InstanceInformationList",
    "DescribeTargetHealth": "TargetHealthDescriptions",
}


class NoSuchService(SourceError):
    """ECS knows no service of that name in the cluster."""


class Postponed(SourceThrottled):
    """Our share of the API's rate limit did not allow the call within its patience."""


@dataclass(frozen=True, slots=True)
class Call:
    """One API call. `patience_s` is how long it may wait for its throttle group's share.

    `again` says whether it is made again at once where that may help.
    """

    operation: str
    parameters: Mapping[str, Any]
    reason: str
    group: str
    service: str = "ecs"
    patience_s: float = inf
    again: bool = True


@dataclass(frozen=True, slots=True)
class Listing:
    """The pages of one listing; with an `error`, those before it; `is_cut` where more exist."""

    pages: tuple[Document, ...] = ()
    error: SourceError | None = None
    is_cut: bool = False


Answer = Document | SourceError
Answers = Sequence[Answer]
Batch = tuple[Call, ...]
Steps = Generator[Batch, Answers, Result]


def pages(call: Call, limit: int | None = None) -> Steps[Listing]:
    """Every page of a listing, or the first `limit` of them."""
    found: list[Document] = []
    seen: set[str] = set()
    while True:
        (answer,) = yield from all_of([call])
        if isinstance(answer, SourceError):
            return Listing(tuple(found), answer)
        found.append(answer)
        key = "nextToken" if call.service == "ecs" else "NextToken"
        token = text(answer, key)
        if token is None or len(found) == limit:
            return Listing(tuple(found), is_cut=token is not None)
        if token in seen:
            problem = f"{call.operation} gave the same page token twice"
            return Listing(tuple(found), SourceMalformed(problem))
        seen.add(token)
        call = replace(call, parameters={**call.parameters, key: token})


def together(
    *conversations: Generator[Any, Answers, Any],
) -> Generator[Any, Answers, list[Any]]:
    """Several conversations at once: their batches go out as one, whatever is in them."""
    results: dict[int, Any] = {}
    waiting: dict[int, tuple[Any, ...]] = {}

    def go_on(index: int, answers: Answers | None) -> None:
        conversation = conversations[index]
        try:
            waiting[index] = next(conversation) if answers is None else conversation.send(answers)
        except StopIteration as end:
            waiting.pop(index, None)
            results[index] = end.value

    for index in range(len(conversations)):
        go_on(index, None)
    while waiting:
        answers = iter((yield tuple(call for batch in waiting.values() for call in batch)))
        for index, batch in list(waiting.items()):
            go_on(index, [next(answers) for _ in batch])
    return [results[index] for index in range(len(conversations))]


def all_of(calls: Sequence[Call]) -> Steps[list[Answer]]:
    """The answers to independent calls, made at the same time."""
    if not calls:
        return []
    answers = yield tuple(calls)
    return [_sound(call, answer) for call, answer in zip(calls, answers, strict=True)]


def _sound(call: Call, answer: Answer) -> Answer:
    member = _ALWAYS_THERE.get(call.operation)
    if isinstance(answer, SourceError) or member is None:
        return answer
    if isinstance(answer.get(member), list | tuple | Mapping):
        return answer
    return SourceMalformed(f"{call.operation} gave an answer without {member}")
