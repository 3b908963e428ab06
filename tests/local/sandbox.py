"""A region of the local ECS on a fake clock, with processes that exist only on paper."""

from __future__ import annotations

import asyncio
import heapq
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

import msgspec

from discovery.local.addresses import Addresses
from discovery.local.control import Control
from discovery.local.faults import Faults
from discovery.local.pages import Pages
from discovery.local.probes import Probe
from discovery.local.processes import Program
from discovery.local.region import Regions
from discovery.local.targets import Outcome
from discovery.local.throttle import Throttle
from discovery.local.wire import Call, Raw
from discovery.local.world import Pace, Runtime

START = 1_700_000_000.0


@dataclass
class Timer:
    """A planned callback."""

    cancelled: bool = False

    def cancel(self) -> None:
        """Forget it."""
        self.cancelled = True


@dataclass
class Timers:
    """A clock that only moves when told to."""

    now: float = START
    _planned: list[tuple[float, int, Timer, Callable[..., object], tuple[Any, ...]]] = field(
        default_factory=list
    )
    _number: Any = field(default_factory=count)

    def __call__(self) -> float:
        return self.now

    def call_later(self, delay_s: float, act: Callable[..., object], *arguments: Any) -> Timer:
        """Plan a callback."""
        timer = Timer()
        planned = (self.now + delay_s, next(self._number), timer, act, arguments)
        heapq.heappush(self._planned, planned)
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass and run what falls due."""
        until = self.now + seconds
        while self._planned and self._planned[0][0] <= until:
            at, _, timer, act, arguments = heapq.heappop(self._planned)
            self.now = max(self.now, at)
            if not timer.cancelled:
                act(*arguments)
        self.now = until


@dataclass
class Paper:
    """A launcher without processes: it records, and obeys SIGTERM unless `stubborn`."""

    programs: dict[str, Program] = field(default_factory=dict)
    signals: list[tuple[str, int]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    stubborn: bool = False
    _exited: dict[str, Callable[[int], None]] = field(default_factory=dict)

    def spawn(
        self,
        key: str,
        program: Program,
        started: Callable[[str | None], None],
        exited: Callable[[int], None],
    ) -> None:
        """Start at once, or fail as `errors` says for the container's name."""
        error = self.errors.get(str(program.page.get("container")))
        if error is not None:
            started(error)
            return
        self.programs[key] = program
        self._exited[key] = exited
        started(None)

    def signal(self, key: str, number: int) -> None:
        """Deliver a signal."""
        if key not in self._exited:
            return
        self.signals.append((key, number))
        if number == signal.SIGKILL or not self.stubborn:
            self.exit(key, 128 + number if number == signal.SIGKILL else 0)

    def exit(self, key: str, code: int) -> None:
        """The process ends."""
        del self.programs[key]
        self._exited.pop(key)(code)

    def alive(self, task_arn: str) -> list[str]:
        """The keys of a task's running processes."""
        name = task_arn.rsplit("/", 1)[-1]
        return [key for key in self.programs if key.startswith(name)]


@dataclass
class Answers:
    """A prober without sockets: every check comes to `always`."""

    always: Outcome = field(default_factory=Outcome)

    def probe(self, wanted: Probe, done: Callable[[Outcome], None]) -> None:
        """Answer at once."""
        done(self.always)


class Sandbox:
    """One region with `demo` on three hosts; `api` carries out calls at once."""

    def __init__(self, pace: Pace | None = None) -> None:
        self.timers = Timers()
        self.launcher = Paper()
        self.prober = Answers()
        self.faults = Faults()
        self._addresses = Addresses(Random(1))
        self.runtime = Runtime(
            clock=self.timers,
            random=Random(1),
            call_later=self.timers.call_later,
            launcher=self.launcher,
            prober=self.prober,
            addresses=self._addresses,
            pages=Pages(b"key"),
            pace=pace or Pace(),
            faults=self.faults,
            closing=asyncio.Event(),
        )
        self.regions = Regions("123456789012", "us-east-1", self.runtime)
        self.api("CreateCluster", clusterName="demo")
        for _ in range(3):
            self.api("RegisterContainerInstance", cluster="demo")

    def close(self) -> None:
        """Give the addresses back."""
        self._addresses.close()

    def api(self, operation: str, /, **request: Any) -> Any:
        """Carry out an ECS call and return its document; raises `ApiError`."""
        answer = self.regions.answer(Call("ecs", operation, request, None, None))
        return msgspec.json.decode(answer.body) if isinstance(answer, Raw) else answer

    def control(self) -> Control:
        """What Python and the control path can do."""
        return Control(self.regions, self.runtime, Throttle(self.timers), Counter())

    def elb(self, operation: str, /, **form: Any) -> Any:
        """Carry out an ELBv2 call with a form as it is on the wire."""
        return self.regions.answer(Call("elbv2", operation, form, None, None))

    def define(self, family: str = "web", **members: Any) -> str:
        """Register a definition of one container with port 80, and return its ARN."""
        container = {"name": "app", "image": "nginx", "memory": 64, "cpu": 10}
        container |= {"portMappings": [{"containerPort": 80}]} | members.pop("container", {})
        containers = members.pop("containerDefinitions", [container])
        answer = self.api(
            "RegisterTaskDefinition", family=family, containerDefinitions=containers, **members
        )
        return str(answer["taskDefinition"]["taskDefinitionArn"])

    def run(self, **request: Any) -> str:
        """RunTask of one task; returns its ARN."""
        answer = self.api("RunTask", cluster="demo", **({"taskDefinition": "web"} | request))
        assert not answer["failures"], answer["failures"]
        return str(answer["tasks"][0]["taskArn"])

    def task(self, arn: str) -> Any:
        """DescribeTasks of one task, with its tags."""
        answer = self.api("DescribeTasks", cluster="demo", tasks=[arn], include=["TAGS"])
        return answer["tasks"][0]

    def service(self, name: str = "web", **request: Any) -> Any:
        """CreateService with two tasks of `web`, or with one on each host."""
        wanted = {"cluster": "demo", "serviceName": name, "taskDefinition": "web"}
        count = {} if request.get("schedulingStrategy") == "DAEMON" else {"desiredCount": 2}
        return self.api("CreateService", **(wanted | count | request))["service"]

    def described(self, name: str = "web") -> Any:
        """DescribeServices of one service."""
        return self.api("DescribeServices", cluster="demo", services=[name])["services"][0]

    def running(self, **filters: Any) -> list[Any]:
        """The tasks that are RUNNING and should be."""
        arns = self.api("ListTasks", cluster="demo", **filters)["taskArns"]
        return [task for arn in arns if (task := self.task(arn))["lastStatus"] == "RUNNING"]

    def advance(self, seconds: float = 1.0) -> None:
        """Let time pass."""
        self.timers.advance(seconds)
