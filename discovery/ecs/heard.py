"""How well events keep up with a cluster: which changes they told, and which a read found first.

Each change of a task has a version of its own and an event (Amazon ECS API Reference, `Task`), so
that versions which only reads know of are events that are late, lost, or went to somebody else.
That nothing is told where nothing happens proves nothing, for a rule that matches no event of the
cluster would be as silent: until the first event of it comes, it is read as if there were none.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from discovery.ecs.tasks import Task

LATE_S = 60.0  # an event that comes later than a read by more is taken for lost
REMEMBERED_S = 600.0
MOST = 10_000
FEW, SHARE = 5, 0.2  # so many changes without an event, and such a share of all, are no accident

Version = tuple[str, int]  # of a task, by ARN


@dataclass(slots=True)
class Heard:
    """What was heard of one cluster lately. Times are seconds of one clock."""

    _told_at: deque[float] = field(default_factory=lambda: deque(maxlen=MOST))
    _untold: dict[Version, float] = field(default_factory=dict)
    _is_ever: bool = False
    _now: float = 0.0

    def told(self, versions: Iterable[Version], now: float) -> None:
        """Events told of these changes."""
        for version in versions:
            self._untold.pop(version, None)
            self._told_at.append(now)
            self._is_ever = True
        self._forget_old(now)

    def read(self, before: Mapping[str, Task], found: Iterable[Task], now: float) -> None:
        """A read found these tasks; changes since what was known before are yet untold."""
        for task in found:
            known = before.get(task.arn)
            if known is None or known.version is None or task.version is None:
                continue
            for version in range(known.version + 1, task.version + 1)[-MOST:]:
                self._untold[task.arn, version] = now
        self._forget_old(now)

    @property
    def is_losing(self) -> bool:
        """Whether changes happen that no event tells, though there was time for it."""
        lost = sum(self._now - at >= LATE_S for at in self._untold.values())
        return lost >= FEW and lost >= SHARE * (lost + len(self._told_at))

    @property
    def keeps_up(self) -> bool:
        """Whether events tell of this cluster, and of (nearly) all that changes in it."""
        return self._is_ever and not self.is_losing

    def _forget_old(self, now: float) -> None:
        self._now = now
        old = [v for v, at in self._untold.items() if not 0 <= now - at < REMEMBERED_S]
        for version in (*old, *list(self._untold)[:-MOST]):
            self._untold.pop(version, None)
        while self._told_at and not 0 <= now - self._told_at[0] < REMEMBERED_S:
            self._told_at.popleft()
