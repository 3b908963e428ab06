"""One cluster of a source: what of it is under way, and what can be said of it meanwhile."""

import threading
from dataclasses import dataclass, field, replace

from discovery.ecs.clients import Access
from discovery.ecs.conversation import Conversation, Outcome
from discovery.ecs.memory import Memory, Scope
from discovery.errors import SourceUnreachable
from discovery.model import ClusterReading

PROMPT_S = 3.0  # how long one cluster that has been read waits for the others
DEADLINE_S = 120.0  # how long a load waits at all, and an old reading stands for one under way
LATE = 3.0  # or for so many times as long as the last one took: our share stretches large ones


@dataclass(slots=True)
class ReadCluster:
    """One cluster as it is read: with what access, what is remembered, and what is under way."""

    scope: Scope
    access: Access
    memory: Memory
    lock: threading.Lock = field(default_factory=threading.Lock)
    under_way: Conversation | None = None
    update: Conversation | None = None
    last: Outcome | None = None

    @property
    def is_slow(self) -> bool:
        """Whether its last read was none to wait for."""
        return self.last is not None and self.last.seconds > PROMPT_S

    def word(self, names: frozenset[str] | None) -> ClusterReading | None:
        """What a load that asked for these names can say of it; `None` where that was said.

        While a read takes long, what the one before it said still holds, but not for ever.
        """
        if self.under_way is None:
            is_same = self.last is not None and self.last.names == names
            return None if is_same else self._busy("was being read when more was asked")
        if self.last is not None and self.stands(names):
            return replace(self.last.reading, complete=False)
        return self._busy(f"is still being read after {self.under_way.age_s:.0f} s")

    def stands(self, names: frozenset[str] | None) -> bool:
        """Whether what was said before of these names still holds while they are read again."""
        if self.last is None or self.last.names != names or self.last.reading.error is not None:
            return False
        patience_s = max(DEADLINE_S, LATE * self.last.seconds)
        return self.under_way is None or self.under_way.age_s < patience_s

    def _busy(self, why: str) -> ClusterReading:
        error = SourceUnreachable(f"cluster {self.scope.label} {why}")
        return ClusterReading(self.scope.label, error=error)
