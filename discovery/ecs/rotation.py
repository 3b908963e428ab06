"""Which of the listed tasks a read describes: what may have changed, and a turn of the others.

Rule 1: a task is described when it is new, on its way up or out, young, or may be restarted in
place, with each read; every other one within `ROTATION_S`, which brings its health.
Rule 2: an answer has room for 100 tasks: the room that is left is filled with the next in turn, so
that up to 100 tasks are all described with each read.
"""

from collections.abc import Iterable, Mapping, Set
from math import ceil

from discovery.ecs.definitions import Definition
from discovery.ecs.tasks import Task

ROTATION_S = 30.0
YOUNG_S = 120.0  # for so long bindings, health and target registration may follow
ROOM = 100


def restarting(tasks: Iterable[Task], definitions: Mapping[str, Definition]) -> set[str]:
    """The definitions of these tasks by which a container is restarted in place."""
    found = {arn: definitions.get(arn) for arn in {task.definition for task in tasks} if arn}
    return {arn for arn, definition in found.items() if definition and definition.restarts}


def may_have_changed(task: Task, restarts: Set[str], now: float) -> bool:
    """Whether waiting for its turn could hide what callers would notice."""
    if (task.last_status, task.desired_status) != ("RUNNING", "RUNNING"):
        return True
    if any(container.status != "RUNNING" for container in task.containers):
        return True
    since = task.started_at or task.created_at
    is_young = since is not None and 0 <= now - since < YOUNG_S
    return is_young or task.definition in restarts


def chosen(
    urgent: list[str], others: Mapping[str, float], elapsed_s: float | None, now: float
) -> list[str]:
    """The ARNs to describe: all that are urgent, and of the others those whose turn it is.

    `others` has when each was described; `elapsed_s` is how long ago the last read was, `None` for
    a first one.
    """
    part = 1.0 if elapsed_s is None else min(1.0, max(0.0, elapsed_s) / ROTATION_S)
    oldest_first = sorted(others, key=lambda arn: (others[arn], arn))
    overdue = sum(not 0 <= now - at < ROTATION_S for at in others.values())
    due = max(overdue, ceil(len(others) * part))
    room = ceil((len(urgent) + due) / ROOM) * ROOM - len(urgent)
    return [*urgent, *oldest_first[:room]]
