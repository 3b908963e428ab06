"""Where snapshots come from. A source reads; it never publishes, caches answers or retries on end.

Rule 1: `load` is called by one thread at a time, may block, and is bounded in time by its timeouts.
Rule 2: a failure is an `error` in the reading of the cluster that failed; it is never an empty set.
Rule 3: a source raises nothing but `SourceError`, and that only when nothing at all can be said.
Rule 4: after a fork the child calls `load` too; connections and locks are never the parent's.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from discovery.model import Observation

# Names asked for, by cluster label; `None` stands for everything there is.
Wanted = Mapping[str, frozenset[str]] | None


class Source(Protocol):
    """One way to learn what runs: the ECS API, a file, another sidecar."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the clusters it can read, the default first; known before any load."""
        ...

    def load(self, wanted: Wanted) -> Observation:
        """Read what is wanted, all or nothing per service. May block; raises `SourceError`."""
        ...

    def load_pending(self) -> Observation:
        """Read only what the last load said to be pending, or what the source has heard of since.

        May block; raises `SourceError`.
        """
        ...

    def close(self) -> None:
        """Give back connections and files; safe to call twice and from any thread."""
        ...


@runtime_checkable
class Hearing(Protocol):
    """A source that hears of changes by itself.

    Whoever loads from it sets `news`, which the source calls, from any thread, when `load_pending`
    has something to say. It must not block.
    """

    news: Callable[[], None]


@runtime_checkable
class Ordered(Protocol):
    """A source that others publish for, which may be behind what was known already."""

    def seen(self, observed_at: float) -> None:
        """Take nothing from now on that was observed before, in seconds since the epoch."""
        ...


class FixedSource:
    """A source that says what it was last given: for tests, and for programs that know already."""

    def __init__(self, *observations: Observation, labels: tuple[str, ...] = ()) -> None:
        self._observations = list(observations)
        self._labels = labels or tuple(r.label for o in observations[:1] for r in o.clusters)
        self.loads: list[Wanted] = []
        self.pending_loads = 0

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels given, else those of the first observation."""
        return self._labels

    def load(self, wanted: Wanted) -> Observation:
        """The next observation; the last one again and again."""
        self.loads.append(wanted)
        return self._next()

    def load_pending(self) -> Observation:
        """The next observation that was given, too."""
        self.pending_loads += 1
        return self._next()

    def say(self, observation: Observation) -> None:
        """Answer with `observation` from the next load on."""
        self._observations = [observation]

    def close(self) -> None:
        """Nothing to give back."""

    def _next(self) -> Observation:
        if len(self._observations) > 1:
            return self._observations.pop(0)
        return self._observations[0]
