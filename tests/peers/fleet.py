"""A service of real processes on the local ECS, what happens to it, and calls that go on."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from discovery.local.server import LocalECS

WEB = (sys.executable, "-S", str(Path(__file__).parents[1] / "client" / "task_program.py"))
SLOWLY = "/slowly"  # where it takes its time, so that it is in the middle of something
REDIS = ("sh", "-c", 'exec redis-server --bind "$HOST" --port "$PORT" --save "" --appendonly no')
# A mask is inherited, so SIGTERM waits, and it serves until it is killed.
LASTING = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); "
LASTING_REDIS = (sys.executable, "-S", "-c", LASTING + "os.execvp('sh', sys.argv[1:])", *REDIS)
TASKS = 4
DEADLINE_S = 60.0


class Fleet:
    """A service of four tasks in the cluster `demo`, each of them running `program`."""

    def __init__(
        self, ecs: LocalECS, program: Sequence[str], name: str = "app", awsvpc_port: int = 0
    ) -> None:
        self.name = name
        self._awsvpc_port = awsvpc_port
        self._ecs = ecs
        self._program = list(program)
        self._api: Any = boto3.client(
            "ecs",
            endpoint_url=ecs.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        self._define()
        subnets = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
        network: Any = {"networkConfiguration": subnets} if awsvpc_port else {}
        self._api.create_service(
            cluster="demo",
            serviceName=name,
            taskDefinition=name,
            desiredCount=TASKS,
            **network,
        )
        self.settle()

    def _define(self) -> None:
        container = {
            "name": self.name,
            "image": self.name,
            "memory": 32,
            "entryPoint": self._program,
            "portMappings": [{"name": "http", "containerPort": self._awsvpc_port or 80}],
            "stopTimeout": 2,
        }
        self._api.register_task_definition(
            family=self.name,
            networkMode="awsvpc" if self._awsvpc_port else "bridge",
            containerDefinitions=[container],
        )

    def settle(self) -> None:
        """Wait until what runs is what is wanted."""
        self._api.get_waiter("services_stable").wait(
            cluster="demo", services=[self.name], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )

    def deploy(self) -> None:
        """Replace every task by one of a new definition."""
        self._define()
        self._api.update_service(cluster="demo", service=self.name, taskDefinition=self.name)
        self.settle()

    def scale(self, count: int) -> None:
        """Run so many tasks."""
        self._api.update_service(cluster="demo", service=self.name, desiredCount=count)
        self.settle()

    def kill(self) -> None:
        """End a task's process without a word, and have it replaced."""
        self._ecs.kill_process(self._any_task())
        self.settle()

    def stop(self) -> None:
        """Stop a task, and have it replaced."""
        self._api.stop_task(cluster="demo", task=self._any_task())
        self.settle()

    def _any_task(self) -> str:
        (arn, *_) = self._api.list_tasks(cluster="demo", serviceName=self.name)["taskArns"]
        return str(arn)

    def close(self) -> None:
        """Close the API's connections."""
        self._api.close()


@contextmanager
def fleet_of(program: Sequence[str]) -> Iterator[tuple[Fleet, dict[str, str]]]:
    """The service on two hosts, and the environment in which it is found."""
    with LocalECS(listen="127.0.0.1:0") as ecs:
        ecs.add_cluster("demo")
        ecs.add_instances("demo", 2)
        fleet = Fleet(ecs, program)
        try:
            yield fleet, ecs.environment()
        finally:
            fleet.close()


class Calls:
    """A call made again and again in a thread of its own until the block ends.

    `call` gives who answered, or raises `AssertionError` with what went wrong: see `failed`.
    """

    def __init__(self, call: Callable[[], str]) -> None:
        self.answers: Counter[str] = Counter()
        self.failed: list[str] = []
        self._call = call
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self._over.wait(0.002):
            try:
                self.answers[self._call()] += 1
            except AssertionError as error:
                self.failed.append(str(error))

    def pass_by(self, count: int) -> None:
        """Wait until so many more were answered."""
        wanted, ends_at = self.answers.total() + count, time.monotonic() + DEADLINE_S
        while self.answers.total() < wanted:
            assert time.monotonic() < ends_at, f"no progress: {self.failed[:3]}"
            self._over.wait(0.01)

    def __enter__(self) -> "Calls":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(DEADLINE_S)
