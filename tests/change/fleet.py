"""Services of real processes on a local ECS, and what can happen to them."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import boto3

from discovery.local.server import LocalECS
from tests.change.judging import Life

CLUSTER = "demo"
PORT = 8_080  # of a container
MEMORY = 32  # of a task, in MiB
DEADLINE_S = 90.0
_PROGRAM = [sys.executable, "-S", "-E", str(Path(__file__).with_name("task.py"))]
_NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}

_ANY = Random()

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a service's tasks are like.

    SIGTERM ends their program `drain_s` later, by `ecs-discovery exec --drain` where they are
    `wrapped`, else by itself. `container` are further members of its definition.
    """

    mode: str = "bridge"
    drain_s: float = 0.0
    wrapped: bool = False
    container: Mapping[str, Any] = field(default_factory=dict)

    def definition(self, service: str, revision: int) -> dict[str, Any]:
        """The container definition of a revision."""
        own_s = 0.0 if self.wrapped else self.drain_s
        settings = {"SERVICE": service, "REVISION": str(revision), "DRAIN": str(own_s)}
        delaying = [sys.executable, "-m", "discovery", "exec", "--no-dns"]
        delaying += ["--drain", f"{self.drain_s:g}", "--"]
        mapping: dict[str, Any] = {"containerPort": PORT, "name": "http"}
        return {
            "name": "web",
            "image": "web",
            "memory": MEMORY,
            "entryPoint": [*delaying, *_PROGRAM] if self.wrapped else _PROGRAM,
            "portMappings": [mapping | ({"hostPort": 0} if self.mode == "bridge" else {})],
            "environment": [{"name": k, "value": v} for k, v in settings.items()],
            # Traefik leads who asks for a host of that name there; nobody else heeds it.
            "dockerLabels": {f"traefik.http.routers.{service}.rule": f"Host(`{service}`)"},
            "stopTimeout": min(120, max(2, round(self.drain_s + 5))),
            **self.container,
        }


class Fleet:
    """The cluster's services. The methods that change one return once ECS has taken the order."""

    def __init__(self, ecs: LocalECS, logs: Path) -> None:
        self.ecs = ecs
        self._logs = logs
        # Other local ECS on this machine give the ports of 127.0.0.2 and so on, too.
        self._network = f"127.{_ANY.randrange(241, 250)}.{_ANY.randrange(256)}"
        self._hosts = 0
        self.api: Any = boto3.client(
            "ecs",
            endpoint_url=ecs.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        self._shapes: dict[str, Shape] = {}
        self._revisions: dict[str, int] = {}

    def create(self, service: str, count: int, shape: Shape, **members: Any) -> None:
        """Make a service; one of an external controller with a first task set, the primary."""
        self._shapes[service] = shape
        of = {"cluster": CLUSTER, "serviceName": service, "desiredCount": count, **members}
        if "deploymentController" in members:
            self.api.create_service(**of)
            self.make_primary(service, self.add_task_set(service))
            return
        self.api.create_service(
            taskDefinition=self._defined(service), **self._network_of(shape), **of
        )

    def _network_of(self, shape: Shape) -> dict[str, Any]:
        return {"networkConfiguration": _NETWORK} if shape.mode == "awsvpc" else {}

    def add_task_set(self, service: str, percent: float = 100.0) -> str:
        """A task set of a new revision at that scale; its ARN."""
        definition = self._defined(service)
        answer = self.api.create_task_set(
            cluster=CLUSTER,
            service=service,
            taskDefinition=definition,
            scale={"value": percent, "unit": "PERCENT"},
            **self._network_of(self._shapes[service]),
        )
        return str(answer["taskSet"]["taskSetArn"])

    def scale_task_set(self, service: str, task_set: str, percent: float) -> None:
        """Have so much of the desired count in it."""
        scale = {"value": percent, "unit": "PERCENT"}
        self.api.update_task_set(cluster=CLUSTER, service=service, taskSet=task_set, scale=scale)

    def make_primary(self, service: str, task_set: str) -> None:
        """Have it serve production."""
        self.api.update_service_primary_task_set(
            cluster=CLUSTER, service=service, primaryTaskSet=task_set
        )

    def protect(self, task: str, protected: bool) -> None:
        """Have deployments leave this task alone, or not any more."""
        self.api.update_task_protection(cluster=CLUSTER, tasks=[task], protectionEnabled=protected)

    def _defined(self, service: str) -> str:
        shape = self._shapes[service]
        number = self._revisions[service] = self._revisions.get(service, 0) + 1
        answer = self.api.register_task_definition(
            family=service,
            networkMode=shape.mode,
            containerDefinitions=[shape.definition(service, number)],
        )
        return str(answer["taskDefinition"]["taskDefinitionArn"])

    def revision(self, service: str) -> str:
        """The newest revision, as its tasks say it."""
        return str(self._revisions[service])

    def deploy(self, service: str) -> None:
        """Begin to replace the tasks by those of a new revision."""
        definition = self._defined(service)
        self.api.update_service(cluster=CLUSTER, service=service, taskDefinition=definition)

    def scale(self, service: str, count: int) -> None:
        """Have so many tasks."""
        self.api.update_service(cluster=CLUSTER, service=service, desiredCount=count)

    def replace(self, service: str) -> None:
        """Begin to replace the tasks by others of the same revision."""
        self.api.update_service(cluster=CLUSTER, service=service, forceNewDeployment=True)

    def stop(self, tasks: Iterable[str]) -> None:
        """Stop these tasks; their service starts others."""
        for arn in tasks:
            self.api.stop_task(cluster=CLUSTER, task=arn)

    def add_hosts(self, count: int, **options: Any) -> None:
        """Add hosts, in zones in turn, at addresses that nobody else uses."""
        for _ in range(count):
            self._hosts += 1
            self.ecs.add_instances(CLUSTER, address=f"{self._network}.{self._hosts}", **options)

    def listens(self, service: str) -> bool:
        """Whether every task of the service has said that it listens."""
        mine = [t for t in self.tasks() if t.get("group") == f"service:{service}"]
        logs = [self._logs / f"{t['taskArn'].rpartition('/')[2]}-web.log" for t in mine]
        return bool(logs) and all(log.exists() and "listening" in log.read_text() for log in logs)

    def drain(self, instances: list[str]) -> None:
        """Set hosts to DRAINING, which moves their tasks elsewhere."""
        self.api.update_container_instances_state(
            cluster=CLUSTER, containerInstances=instances, status="DRAINING"
        )

    def tasks(self, status: str = "RUNNING") -> list[dict[str, Any]]:
        """The tasks with that `desiredStatus`, described; those that have ended for an hour."""
        pages = self.api.get_paginator("list_tasks").paginate(cluster=CLUSTER, desiredStatus=status)
        arns = [arn for page in pages for arn in page["taskArns"]]
        chunks = [arns[n : n + 100] for n in range(0, len(arns), 100)]
        answers = [self.api.describe_tasks(cluster=CLUSTER, tasks=chunk) for chunk in chunks]
        return [task for answer in answers for task in answer["tasks"]]

    def settled(self, service: str) -> bool:
        """Whether what runs is what is wanted, and all that was stopped has ended."""
        (found,) = self.api.describe_services(cluster=CLUSTER, services=[service])["services"]
        full = found["runningCount"] == found["desiredCount"] and not found["pendingCount"]
        if not full or len(found.get("deployments", ())) > 1:
            return False
        group = f"service:{service}"
        stopping = [t for t in self.tasks("STOPPED") if t.get("group") == group]
        return all(task["lastStatus"] == "STOPPED" for task in stopping)

    def settle(self, service: str) -> None:
        """Wait until it is settled."""
        until(lambda: self.settled(service), f"{service} did not settle")

    def instances_with_tasks(self) -> list[str]:
        """The hosts that tasks run on."""
        return sorted({t["containerInstanceArn"] for t in self.tasks()})

    def lives(self) -> dict[str, Life]:
        """When each task began and was told to end, by its id."""
        every = [*self.tasks("RUNNING"), *self.tasks("STOPPED")]
        return {life.task: life for life in map(_life, every)}

    def close(self) -> None:
        """Close the API's connections."""
        self.api.close()


def _life(task: Mapping[str, Any]) -> Life:
    def seconds(member: str) -> float | None:
        at: datetime | None = task.get(member)
        return at.timestamp() if at is not None else None

    return Life(
        task["taskArn"].rpartition("/")[2],
        task.get("group", "").removeprefix("service:"),
        seconds("startedAt") or seconds("createdAt") or 0.0,
        seconds("stoppingAt"),
    )


def until(probe: Callable[[], Found], otherwise: str = "it did not happen in time") -> Found:
    """The first true result of `probe`."""
    ends_at = time.monotonic() + DEADLINE_S
    while not (found := probe()):
        assert time.monotonic() < ends_at, otherwise
        time.sleep(0.1)
    return found
