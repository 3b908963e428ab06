"""Which of the listed tasks a read describes: what may have changed, and a turn of the others.

Rule 1: a task is described with each read when it is new, on its way up or out, young, or may be
restarted in place; within `ROTATION_S`, which brings its health, when a container is checked, may
end by itself, or is not known well enough.
Rule 2: of every other one nothing changes but its tags before it leaves the list of what is to run:
it is described within `SETTLED_S`, a hundred at a time where there are as many.
Rule 3: an answer has room for 100 tasks: the room that is left is filled with the next in turn, so
that up to 100 tasks which may change are all described with each read. While nobody has a turn, no
call is made.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from math import ceil

from discovery.ecs.definitions import ContainerDefinition, Definition
from discovery.ecs.tasks import Container, Task

ROTATION_S = 30.0
SETTLED_S = 300.0
YOUNG_S = 120.0  # for so long bindings, health and target registration may follow
ROOM = 100

_UNREAD = Definition("")


@dataclass(slots=True)
class Turns:
    """Turns of tasks, each told once for as long as the task and its definition are the same."""

    _known: dict[str, tuple[Task, Definition | None, float]] = field(default_factory=dict)

    def of(self, task: Task, definition: Definition | None, now: float) -> float:
        """See `turn_s`."""
        if _is_young(task, now):
            return 0.0
        known = self._known.get(task.arn)
        if known is None or known[0] is not task or known[1] is not definition:
            known = self._known[task.arn] = task, definition, turn_s(task, definition, now)
        return known[2]

    def keep(self, arns: Set[str]) -> None:
        """Forget all but these."""
        self._known = {arn: known for arn, known in self._known.items() if arn in arns}


def turn_s(task: Task, definition: Definition | None, now: float) -> float:
    """Within how many seconds it is described again; 0 where with each read."""
    if (task.last_status, task.desired_status) != ("RUNNING", "RUNNING") or _is_young(task, now):
        return 0.0
    known = definition or _UNREAD
    turns = [
        _turn_s(each, known.containers.get(each.name), known.network_mode)
        for each in task.containers
        if not task.is_injected(each.name)
    ]
    if not all(each.status in (None, "ATTACHED") for each in task.attachments):
        turns.append(ROTATION_S)
    return min(turns, default=ROTATION_S)


def _is_young(task: Task, now: float) -> bool:
    since = task.started_at or task.created_at
    return since is not None and abs(now - since) < YOUNG_S  # clocks differ


def chosen(
    urgent: list[str], turning: Mapping[str, float], settled: Mapping[str, float], now: float
) -> list[str]:
    """The ARNs to describe: all that are urgent, and of the others those whose turn it is.

    The others, with a turn of `ROTATION_S` and of `SETTLED_S`, come with when each was described.
    """
    soon, later = (sorted(each, key=each.__getitem__) for each in (turning, settled))
    first = max(_overdue(turning, ROTATION_S, now), ceil(_behind(turning, ROTATION_S, now)))
    calls = int(_behind(settled, SETTLED_S, now) / ROOM)
    then = max(_overdue(settled, SETTLED_S, now), calls * ROOM)
    due = [*urgent, *soon[:first], *later[:then]]
    room = -len(due) % ROOM
    return [*due, *[*soon[first:], *later[then:]][:room]]


def _turn_s(container: Container, known: ContainerDefinition | None, mode: str) -> float:
    """The turn of a task of just this container, which started a while ago."""
    runs = container.status == "RUNNING"
    if known is None:
        return ROTATION_S if runs else 0.0
    if known.restarts:
        return 0.0
    if not runs:  # it ends with its task, or is over for good
        return SETTLED_S if container.status == "STOPPED" and not known.essential else 0.0
    lacks_ports = mode == "bridge" and bool(known.ports) and not container.bindings
    may_change = known.has_health_check or not known.essential or lacks_ports
    return ROTATION_S if may_change else SETTLED_S


def _overdue(described: Mapping[str, float], after_s: float, now: float) -> int:
    return sum(now - at >= after_s for at in described.values())


def _behind(described: Mapping[str, float], after_s: float, now: float) -> float:
    """How many more should have been described since the oldest was, for an even pace.

    Going by the oldest rather than by the last read, no fraction of a call is rounded up twice.
    """
    if not described:
        return 0.0
    oldest = min(described.values())
    since = sum(at > oldest for at in described.values())
    return len(described) * (now - oldest) / after_s - since
