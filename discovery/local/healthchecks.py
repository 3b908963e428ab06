"""Container health checks, really executed: `CMD` and `CMD-SHELL` in the container's environment.

`interval` lies before the first check and between the end of one and the next, `retries` failures
in a row make UNHEALTHY, failures within `startPeriod` do not count, one success makes HEALTHY.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from discovery.local.processes import Program
from discovery.local.state import Container, Task
from discovery.local.targets import Timer
from discovery.local.world import World


@dataclass(slots=True)
class Check:
    """The running check of one container; `failures` counts those in a row."""

    world: World
    task: Task
    container: Container
    argv: list[str]
    env: dict[str, str]
    interval_s: float
    timeout_s: float
    retries: int
    counted_from: float
    healthy: Callable[[], None]
    failures: int = 0
    runs: int = 0
    ended: bool = False
    timer: Timer | None = None
    deadline: Timer | None = None

    def run(self) -> None:
        """Start one execution."""
        if self.ended:
            return
        self.runs += 1
        launcher = self.world.run.launcher
        launcher.spawn(self.key, Program(self.argv, self.env), self.started, self.exited)
        self.deadline = self.world.run.call_later(
            self.timeout_s, launcher.signal, self.key, signal.SIGKILL
        )

    @property
    def key(self) -> str:
        """The launcher's key of the current execution."""
        return f"{self.container.metadata_id}/check/{self.runs}"

    def started(self, error: str | None) -> None:
        """A check that cannot be started has failed."""
        if error is not None:
            self.exited(1)

    def exited(self, code: int) -> None:
        """Judge one execution and plan the next."""
        if self.deadline is not None:
            self.deadline.cancel()
        if self.ended:
            return
        self.judge(code == 0)
        self.timer = self.world.run.call_later(self.interval_s, self.run)

    def judge(self, passed: bool) -> None:
        """Count a result; the verdict changes the task only when it changes."""
        verdict = self.container.health
        if passed:
            self.failures, verdict = 0, "HEALTHY"
        elif self.world.run.clock() >= self.counted_from or verdict != "UNKNOWN":
            self.failures += 1
            if self.failures >= self.retries:
                verdict = "UNHEALTHY"
        if verdict != self.container.health:
            self.container.health = verdict
            self.world.touch(self.task)
            if verdict == "HEALTHY":
                self.healthy()


def begin(
    world: World,
    task: Task,
    container: Container,
    env: dict[str, str],
    healthy: Callable[[], None],
) -> None:
    """Check the container from now on, if its definition says how; `healthy` tells the verdict."""
    given = container.definition.get("healthCheck")
    end(container)
    if given is None or given["command"][0] == "NONE":
        return
    container.health = "HEALTHY" if task.simulated else "UNKNOWN"
    if task.simulated:
        return
    kind, *words = given["command"]
    check = Check(
        world=world,
        task=task,
        container=container,
        argv=["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words,
        env=env,
        interval_s=float(given["interval"]) * world.run.pace.period_scale,
        timeout_s=float(given["timeout"]),
        retries=int(given["retries"]),
        healthy=healthy,
        counted_from=world.run.clock() + float(given.get("startPeriod") or 0),
    )
    container.check = check
    check.timer = world.run.call_later(check.interval_s, check.run)


def end(container: Container) -> None:
    """Stop checking."""
    check = container.check
    container.check = None
    if not isinstance(check, Check):
        return
    check.ended = True
    for timer in (check.timer, check.deadline):
        if timer is not None:
            timer.cancel()
    check.world.run.launcher.signal(check.key, signal.SIGKILL)
