"""Which tasks of a service count, and which of them may go: the scheduler's pure decisions."""

from __future__ import annotations

import math
from collections.abc import Iterable

from discovery.local.state import ENDED, Service, Task


def wanted(found: Iterable[Task]) -> list[Task]:
    """Those that should run."""
    return [task for task in found if task.desired != ENDED]


def is_healthy(task: Task) -> bool:
    """Whether a task counts for minimumHealthyPercent.

    That is RUNNING, HEALTHY where its definition checks, healthy where a load balancer does.
    """
    if task.status != "RUNNING":
        return False
    if any(target.state not in ("healthy", "unavailable") for _, target in task.targets):
        return False
    checked = [c for c in task.containers if c.essential and c.definition.get("healthCheck")]
    return all(container.health == "HEALTHY" for container in checked)


def failing(task: Task) -> tuple[str, str] | None:
    """The event and the reason to stop a task whose checks fail, None while they do not."""
    if task.status != "RUNNING":
        return None
    if task.health == "UNHEALTHY":
        event = f"(task {task.id}) failed container health checks."
        return event, "Task failed container health checks"
    for group, target in task.targets:
        if target.state == "unhealthy":
            port = f"(port {target.port}) is unhealthy in (target-group {group.arn})"
            event = f"{port} due to (reason {target.description})"
            return event, f"Task failed ELB health checks in (target-group {group.arn})"
    return None


def is_leaving(task: Task) -> bool:
    """Whether its host is DRAINING."""
    return task.instance is not None and task.instance.status == "DRAINING"


def percent(service: Service, name: str) -> int:
    """A percentage of the deployment configuration."""
    return int(service.document["deploymentConfiguration"][name])


def lower(service: Service) -> int:
    """How many tasks must stay healthy."""
    return math.ceil(service.desired * percent(service, "minimumHealthyPercent") / 100)


def upper(service: Service) -> int:
    """How many tasks there may be."""
    return max(math.floor(service.desired * percent(service, "maximumPercent") / 100), 1)


def surplus(mine: list[Task], desired: int, now: float) -> list[Task]:
    """The tasks beyond `desired`: those that do not run yet first, then the newest.

    A protected task stays, “until the protection expires or is removed”.
    """
    ranked = sorted(mine, key=lambda task: (is_healthy(task), -task.sequence))
    free = [task for task in ranked if not task.protected(now)]
    return free[: max(0, len(mine) - desired)]


def stoppable(service: Service, mine: list[Task], old: list[Task], now: float) -> list[Task]:
    """Tasks of former deployments that may go now: unhealthy ones first, then the spare ones."""
    free = [task for task in old if not task.protected(now)]
    broken = [task for task in free if not is_healthy(task)]
    healthy = [task for task in free if is_healthy(task)]
    spare = sum(is_healthy(task) for task in (*old, *mine)) - lower(service)
    return broken + healthy[: max(0, spare)]
