"""Values that tests are made of, with as little to say as a test needs."""

import threading
import time
from collections.abc import Iterable

from discovery.errors import SourceError
from discovery.model import ClusterReading, Endpoint, Exclusion, Observation, Port, Service
from discovery.sources.base import FixedSource, Wanted

NOW = 1_700_000_000.0


def endpoint(number: int = 1, service: str = "web", **members: object) -> Endpoint:
    """An endpoint at 10.0.0.`number`, of a task of that number."""
    given: dict[str, object] = {
        "host": f"10.0.0.{number}",
        "port": 32_768,
        "container_port": 80,
        "task_arn": f"arn:task/{number}",
        "cluster": "demo",
        "service": service,
    }
    return Endpoint(**(given | members))  # type: ignore[arg-type]  # members are checked at run time


def service(name: str = "web", *numbers: int, cluster: str = "demo", excluded: int = 0) -> Service:
    """A service with one endpoint a number, and as many excluded tasks as asked for."""
    return Service(
        name,
        cluster,
        endpoints=tuple(endpoint(n, name, cluster=cluster) for n in numbers),
        exclusions=tuple(Exclusion(f"arn:task/x{n}", "starting") for n in range(excluded)),
        ports=(Port(80),),
        default_port=Port(80),
    )


def reading(
    *services: Service,
    label: str = "demo",
    complete: bool = True,
    absent: Iterable[str] = (),
    unread: Iterable[str] = (),
    error: SourceError | None = None,
    explained: bool = False,
) -> ClusterReading:
    """A cluster's reading, whole unless said otherwise."""
    return ClusterReading(
        label, services, complete, frozenset(absent), frozenset(unread), error, explained
    )


def observed(*readings: ClusterReading, at: float = NOW, **members: object) -> Observation:
    """What a load learned at that time."""
    return Observation(at, readings, **members)  # type: ignore[arg-type]  # checked at run time


def only(*names: str) -> Wanted:
    """Those names of the cluster `demo`, as a source is asked for them."""
    return {"demo": frozenset(names)}


def failed(error: SourceError, label: str = "demo", at: float = NOW) -> Observation:
    """A load that learned nothing of a cluster."""
    return observed(ClusterReading(label, error=error), at=at)


class FakeClock:
    """A clock that moves when it is told to."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class OwnClock:
    """The real clock, and yet one of its own: who goes by it shares no budget of retries."""

    def __call__(self) -> float:
        return time.monotonic()


class HeldSource(FixedSource):
    """A fixed source whose loads wait until they are let go."""

    def __init__(self, *observations: Observation, labels: tuple[str, ...] = ()) -> None:
        super().__init__(*observations, labels=labels)
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)
        self.closed = False

    def load(self, wanted: Wanted) -> Observation:
        """Say that a load began, wait, then answer."""
        self.entered.release()
        assert self.let_go.acquire(timeout=10)
        return super().load(wanted)

    def close(self) -> None:
        """Let everything go that waits."""
        self.closed = True
        self.let_go.release(1_000)


class FailingSource:
    """A source whose loads raise."""

    def __init__(self, error: Exception, labels: tuple[str, ...] = ("demo",)) -> None:
        self.error = error
        self.labels = labels
        self.loads = 0

    def load(self, wanted: Wanted) -> Observation:
        """Raise the error."""
        self.loads += 1
        raise self.error

    def load_pending(self) -> Observation:
        """Raise the error, too."""
        raise self.error

    def close(self) -> None:
        """Nothing to give back."""


class NamingSource:
    """A source that reads single names on demand from what it is told to know."""

    def __init__(self, *services: Service, labels: tuple[str, ...] = ("demo",)) -> None:
        self.services = {s.key: s for s in services}
        self.labels = labels
        self.loads: list[Wanted] = []

    def load(self, wanted: Wanted) -> Observation:
        """All services, or those wanted and the absence of the others."""
        self.loads.append(wanted)
        return observed(*(self._reading(label, wanted) for label in self.labels))

    def _reading(self, label: str, wanted: Wanted) -> ClusterReading:
        here = {name: s for (cluster, name), s in self.services.items() if cluster == label}
        if wanted is None:
            return reading(*here.values(), label=label)
        names = wanted.get(label, frozenset())
        there = [s for name, s in here.items() if name in names]
        return reading(*there, label=label, complete=False, absent=names - here.keys())

    def load_pending(self) -> Observation:
        """Nothing: every load reads all it is asked for."""
        return observed()

    def close(self) -> None:
        """Nothing to give back."""
