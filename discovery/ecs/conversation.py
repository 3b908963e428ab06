"""One read of one cluster on a thread of its own, so that no cluster has to wait for another.

It touches the cluster's memory under the cluster's lock, which it gives up while it waits for
answers: what events tell meanwhile is taken in by another conversation. What others need to know is
in the `Outcome` that it leaves.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from discovery.ecs.calls import CLUSTER_RESOURCES, Answer, Batch, Steps
from discovery.ecs.definitions import Definition
from discovery.ecs.memory import Memory
from discovery.errors import SourceError, SourceMalformed
from discovery.model import ClusterReading, Service

_log = logging.getLogger("discovery")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a read came to: the reading, and what to tell a person, since. `pending` definitions are
    left to read.

    `scarce_calls` counts those of the scarcest quota, `seconds` how long it took. `is_told` is
    whether events keep up with what changes, `is_starting` whether a task's health is awaited.
    `definitions` are those in use, by ARN, as far as they are known.
    """

    reading: ClusterReading
    names: frozenset[str] | None
    pending: int = 0
    is_rolling: bool = False
    is_told: bool = False
    is_starting: bool = False
    definitions: Mapping[str, Definition] = field(default_factory=dict)
    notices: Mapping[str, float] = field(default_factory=dict)
    scarce_calls: int = 0
    seconds: float = 0.0

    def after(self, read: "Outcome | None") -> "Outcome":
        """As the outcome of an update after that of a read, whose cost and duration stay."""
        if read is None:
            return self
        return replace(self, scarce_calls=read.scarce_calls, seconds=read.seconds)


class Conversation:
    """A read that is under way: of these names, or of all where `names` is `None`."""

    def __init__(
        self,
        label: str,
        names: frozenset[str] | None,
        memory: Memory,
        lock: threading.Lock,
        steps: Steps[ClusterReading],
        answers: Callable[[Batch], list[Answer]],
        monotonic: Callable[[], float],
    ) -> None:
        self.names = names
        self.outcome: Outcome | None = None
        self._label = label
        self._memory = memory
        self._lock = lock
        self._steps = steps
        self._answers = answers
        self._monotonic = monotonic
        self._began = monotonic()
        self._scarce_calls = 0

    @property
    def age_s(self) -> float:
        """Seconds since it began."""
        return self._monotonic() - self._began

    def start(self, at_end: Callable[[], None]) -> None:
        """Have it held by a thread, which calls `at_end` when there is an outcome.

        Where no thread can be started it is held by the caller.
        """
        self._thread = threading.Thread(
            target=self._hold, args=[at_end], name="ecs-discovery-read", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:
            self._hold(at_end)

    def join(self) -> None:
        """Wait for its thread, which has nothing left to do once there is an outcome."""
        if self._thread.ident is not None:
            self._thread.join()

    def _hold(self, at_end: Callable[[], None]) -> None:
        """Outcomes are handed in, in the order in which they came to be, before the lock is."""
        step: Callable[[], Batch] = partial(next, self._steps)
        while True:
            with self._lock:
                said = self._said(step)
                if isinstance(said, ClusterReading):
                    self.outcome = self._outcome(said)
                    at_end()
                    return
            self._scarce_calls += sum(call.group == CLUSTER_RESOURCES for call in said)
            step = self._answered(said)

    def _answered(self, batch: Batch) -> Callable[[], Batch]:
        try:
            return partial(self._steps.send, self._answers(batch))
        except Exception as exc:
            return partial(self._steps.throw, exc)

    def _said(self, step: Callable[[], Batch]) -> Batch | ClusterReading:
        """The next calls, or what the read came to."""
        try:
            return step()
        except StopIteration as end:
            reading: ClusterReading = end.value
            return reading
        except SourceError as exc:
            return ClusterReading(self._label, error=exc)
        except Exception as exc:  # one cluster's strange answers are no reason to fail others
            _log.exception("a read of cluster %s failed", self._label)
            why = f"{type(exc).__name__}: {exc}"
            failure = SourceMalformed(f"cluster {self._label} could not be read ({why})")
            return ClusterReading(self._label, error=failure)

    def _outcome(self, reading: ClusterReading) -> Outcome:
        return Outcome(
            reading,
            self.names,
            pending=self._memory.pending,
            is_told=self._memory.heard is not None and self._memory.heard.keeps_up,
            is_starting=any(_is_starting(service) for service in reading.services),
            is_rolling=any(known.is_rolling for known in self._memory.services.values()),
            definitions=self._memory.used_definitions(),
            notices=dict(self._memory.notices),
            scarce_calls=self._scarce_calls,
            seconds=self.age_s,
        )


def _is_starting(service: Service) -> bool:
    return any(e.health == "starting" for e in (*service.endpoints, *service.spares))
