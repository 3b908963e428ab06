"""Reading the target health of services with load balancers, in turns that fit our share.

Rule 1: services with tasks that no target group has told of come first, then who was read longest
ago. What our share does not allow now waits for the next read. Rule 2: without the permission it
is said once an hour, and tasks are judged by what else is known.
"""

from collections.abc import Iterable

from discovery.ecs import calls
from discovery.ecs.calls import PASSING, Call, Steps
from discovery.ecs.memory import Memory
from discovery.ecs.services import ServiceFacts
from discovery.ecs.targets import TargetHealth, targets_in
from discovery.ecs.tasks import Task
from discovery.errors import AccessDenied, SourceError

NEW_FOR_S = 120.0  # how long a task counts as new to its load balancer
HOLDS_S = 300.0  # how long what could not be read again is believed


def check_targets(memory: Memory, tasks: Iterable[Task], now: float) -> Steps[None]:
    """Read the target groups of the services that these tasks belong to."""
    memory.targets = {a: h for a, h in memory.targets.items() if 0 <= now - h.read_at < HOLDS_S}
    if memory.denial("DescribeTargetHealth") is not None:
        memory.targets.clear()
        return
    arns = [arn for arn in _in_turn(memory, list(tasks), now) if arn not in memory.refused]
    asked = [_describe(arn) for arn in arns]
    for arn, answer in zip(arns, (yield from calls.all_of(asked)), strict=True):
        if isinstance(answer, AccessDenied):
            memory.deny(answer, now)
        elif not isinstance(answer, SourceError):
            memory.targets[arn] = TargetHealth(targets_in(answer), now)
        elif not isinstance(answer, PASSING):
            memory.refuse((arn,), str(answer), now)


def _in_turn(memory: Memory, tasks: list[Task], now: float) -> list[str]:
    """Target groups, the most urgent first."""
    if not any(facts.target_groups for facts in memory.services.values()):
        return []
    urgency: dict[str, tuple[bool, float]] = {}
    new = {t.service for t in tasks if _is_new(t, now)}
    for name in {task.service for task in tasks}:
        facts = memory.services.get(name or "", ServiceFacts(""))
        for group in facts.target_groups:
            known = memory.targets.get(group.arn)
            read_at = known.read_at if known else 0.0
            if read_at == now:  # earlier in the same load
                continue
            mine = (name not in new, read_at)
            urgency[group.arn] = min(mine, urgency.get(group.arn, mine))
    return sorted(urgency, key=lambda arn: (urgency[arn], arn))


def _is_new(task: Task, now: float) -> bool:
    since = task.started_at or task.created_at
    return since is not None and now - since < NEW_FOR_S


def _describe(arn: str) -> Call:
    return Call(
        "DescribeTargetHealth",
        {"TargetGroupArn": arn},
        "know which tasks load balancers find healthy",
        calls.TARGETS,
        service="elbv2",
        patience_s=0.0,
    )
