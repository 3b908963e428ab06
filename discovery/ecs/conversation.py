"""One read of one cluster on a thread of its own, so that no cluster has to wait for another.

Its thread alone touches the cluster's memory until the read has ended; what others need to know is
in the `Outcome` that it leaves.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from discovery.ecs.calls import CLUSTER_RESOURCES, Answer, Batch, Steps
from discovery.ecs.memory import Memory
from discovery.errors import SourceError, SourceMalformed
from discovery.model import ClusterReading

_log = logging.getLogger("discovery")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a read came to: the reading, whether more can be had, and what to tell a person, since.

    `scarce_calls` counts those of the scarcest quota, `seconds` how long it took.
    """

    reading: ClusterReading
    names: frozenset[str] | None
    pending: bool = False
    is_rolling: bool = False
    notices: Mapping[str, float] = field(default_factory=dict)
    scarce_calls: int = 0
    seconds: float = 0.0


class Conversation:
    """A read that is under way: of these names, or of all where `names` is `None`."""

    def __init__(
        self,
        label: str,
        names: frozenset[str] | None,
        memory: Memory,
        steps: Steps[ClusterReading],
        answers: Callable[[Batch], list[Answer]],
        monotonic: Callable[[], float],
    ) -> None:
        self.names = names
        self.outcome: Outcome | None = None
        self._label = label
        self._memory = memory
        self._steps = steps
        self._answers = answers
        self._monotonic = monotonic
        self._began = monotonic()
        self._scarce_calls = 0

    @property
    def age_s(self) -> float:
        """Seconds since it began."""
        return self._monotonic() - self._began

    def start(self, at_end: Callable[["Conversation"], None]) -> None:
        """Have it held by a thread, which calls `at_end` when there is an outcome.

        Where no thread can be started it is held by the caller.
        """

        def hold() -> None:
            self.outcome = self._held()
            at_end(self)

        self._thread = threading.Thread(target=hold, name="ecs-discovery-read", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            hold()

    def join(self) -> None:
        """Wait for its thread, which has nothing left to do once there is an outcome."""
        if self._thread.ident is not None:
            self._thread.join()

    def _held(self) -> Outcome:
        try:
            reading = self._driven()
        except SourceError as exc:
            reading = ClusterReading(self._label, error=exc)
        except Exception as exc:  # one cluster's strange answers are no reason to fail others
            _log.exception("a read of cluster %s failed", self._label)
            why = f"{type(exc).__name__}: {exc}"
            failure = SourceMalformed(f"cluster {self._label} could not be read ({why})")
            reading = ClusterReading(self._label, error=failure)
        return Outcome(
            reading,
            self.names,
            pending=self._memory.pending,
            is_rolling=any(known.is_rolling for known in self._memory.services.values()),
            notices=dict(self._memory.notices),
            scarce_calls=self._scarce_calls,
            seconds=self.age_s,
        )

    def _driven(self) -> ClusterReading:
        try:
            batch = next(self._steps)
            while True:
                self._scarce_calls += sum(call.group == CLUSTER_RESOURCES for call in batch)
                batch = self._steps.send(self._answers(batch))
        except StopIteration as end:
            reading: ClusterReading = end.value
            return reading
