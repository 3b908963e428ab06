"""Half an hour of services that exchange ports on purpose, on a clock that moves by itself.

Every host has two ports. Each event ends a task of two services each, and each of the two new ones
gets the other one's port: it runs for a while before it listens, and until then the port refuses.
ECS's lists lag. Three call at a constant rate: the transport's way (any endpoint, up to two more
where one refuses, which is told as a transport tells it), a client of the DNS, which keeps answers
for their TTL, and a poller as others are, which goes by the last list alone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from random import Random

from discovery.catalog.catalog import Catalog
from discovery.catalog.checks import PAUSE_S, Checks
from discovery.catalog.connecting import Place
from discovery.catalog.refresher import Refresher, Timing
from discovery.catalog.schedule import HURRY_S
from discovery.errors import AccessDenied
from discovery.health.evidence import Outcome
from discovery.model import Endpoint, Observation, Placement, Port, Service
from discovery.sources.base import Wanted
from tests.made import NOW, FakeClock, observed, reading

OURS, BY_DNS, POLLER = "transport", "DNS", "poller without verification"
STEP_S = 0.1
TRIES = 3


@dataclass(frozen=True, slots=True)
class Course:
    """How it goes. Times are in simulated seconds; nothing may be read from `denied_s` on until."""

    seconds: float = 1_800.0
    churn: float = 0.1  # of the tasks a minute
    interval_s: float = 10.0
    ttl_s: float = 5.0
    services: int = 4
    tasks: int = 10  # of each
    lag_s: float = 1.0  # of ECS's lists, at most
    boot_s: tuple[float, float] = (3.0, 12.0)
    denied_s: tuple[float, float] | None = None

    @property
    def grace_s(self) -> float:
        """From a change to when nobody should go by what was before."""
        return self.interval_s + self.ttl_s + self.lag_s


@dataclass(slots=True)
class Task:
    """A task at a place. It listens from `up_at` until `ended_at`."""

    arn: str
    service: str
    place: Place
    started_at: float
    up_at: float
    ended_at: float = float("inf")

    def runs(self, at: float) -> bool:
        """Whether ECS calls it RUNNING."""
        return self.started_at <= at < self.ended_at


@dataclass(slots=True)
class Tally:
    """What a caller's requests came to; `late` are wrong ones beyond interval and TTL."""

    requests: int = 0
    failed: int = 0
    wrong: int = 0
    late: int = 0
    denied: int = 0  # wrong ones while nothing could be read

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(slots=True)
class World:
    """The hosts and tasks; the network, and ECS as it tells of them."""

    course: Course
    clock: FakeClock
    chance: Random
    tasks: list[Task] = field(default_factory=list)
    at: dict[Place, Task] = field(default_factory=dict)
    exchanged: int = 0

    def __post_init__(self) -> None:
        long_ago = self.clock.now - 3_600
        names = [f"s{n}" for n in range(self.course.services)] * self.course.tasks
        for n, name in enumerate(names):
            self._start(name, (f"10.0.0.{1 + n // 2}", 40_001 + n % 2), long_ago, long_ago)

    @property
    def labels(self) -> tuple[str, ...]:
        """See `Source`."""
        return ("demo",)

    def load(self, wanted: Wanted) -> Observation:
        """All services, each list as old as it happens to be."""
        now = self.clock.now
        if self.is_denied:
            raise AccessDenied("ecs:ListTasks is not permitted")
        return observed(reading(*map(self._service, sorted(self._names()))), at=now)

    def load_pending(self) -> Observation:
        """Nothing is put off."""
        return observed(at=self.clock.now)

    def close(self) -> None:
        """Nothing to give back."""

    @property
    def is_denied(self) -> bool:
        """Whether ECS lets nobody read."""
        denied_s = self.course.denied_s
        return denied_s is not None and denied_s[0] <= self.clock.now - NOW < denied_s[1]

    def connect(
        self, places: Iterable[Place], *, within_s: float = float("inf")
    ) -> Mapping[Place, Outcome]:
        """What comes of connecting to each place."""
        return {p: ("accepted" if self.listening(p) else "refused", "") for p in places}

    def listening(self, place: Place) -> Task | None:
        """Who listens there."""
        task = self.at[place]
        return task if task.up_at <= self.clock.now < task.ended_at else None

    def exchange(self) -> None:
        """Two tasks of two services end, and each service's next one gets the other one's port."""
        one = self.chance.choice(list(self.at.values()))
        others = [t for t in self.at.values() if t.service != one.service]
        other = self.chance.choice(others)
        for ended, service in ((one, other.service), (other, one.service)):
            if ended.up_at > self.clock.now:  # not so fast
                return
            ended.ended_at = self.clock.now
            low, high = self.course.boot_s
            up_at = self.clock.now + self.chance.uniform(low, high)
            started_at = self.clock.now + self.chance.uniform(0.5, low)
            self._start(service, ended.place, started_at, up_at)
            self.exchanged += 1

    def _start(self, service: str, place: Place, started_at: float, up_at: float) -> None:
        task = Task(f"arn:task/{len(self.tasks)}", service, place, started_at, up_at)
        self.tasks.append(task)
        self.at[place] = task

    def _names(self) -> set[str]:
        return {task.service for task in self.at.values()}

    def _service(self, name: str) -> Service:
        at = self.clock.now - self.chance.uniform(0.0, self.course.lag_s)
        running = [t for t in self.tasks if t.service == name and t.runs(at)]
        port = Port(80)
        return Service(
            name,
            "demo",
            endpoints=tuple(
                Endpoint(*t.place, container_port=80, task_arn=t.arn, cluster="demo", service=name)
                for t in running
            ),
            ports=(port,),
            default_port=port,
            placements={t.arn: Placement(t.started_at, machine=t.place[0]) for t in running},
        )


class Simulation:
    """The callers in a world, with a refresher and checks whose rounds are made here."""

    def __init__(self, course: Course, seed: int) -> None:
        self.clock = FakeClock()
        self.world = World(course, self.clock, Random(seed))
        self.tallies = {name: Tally() for name in (OURS, BY_DNS, POLLER)}
        self._course = course
        self._chance = Random(seed + 1)
        self._checks = Checks(clock=self.clock, connect=self.world.connect)
        self._checks.abandon()  # no thread of its own
        self._catalog = Catalog(["demo"], adjustments=[self._checks.adjusted], clock=self.clock)
        timing = Timing(self._chance, course.interval_s, clock=self.clock, monotonic=self.clock)
        self._refresher = Refresher(
            self.world, self._catalog, timing, whole=True, checks=self._checks
        )
        self._checks.start(self._catalog.adjust)
        self._load_at = self._began = 0.0
        self._round_at = self._poll_at = 0.0
        self._polled: Mapping[str, Service] = {}
        self._answers: dict[str, tuple[float, tuple[Endpoint, ...]]] = {}

    def run(self) -> None:
        """All of it."""
        events = Counter(int(at / STEP_S) for at in self._event_times())
        for step in range(int(self._course.seconds / STEP_S)):
            self.clock.now = NOW + step * STEP_S
            for _ in range(events[step]):
                self.world.exchange()
            self._refresh()
            for name in self.tallies:
                service = f"s{self._chance.randrange(self._course.services)}"
                self._call(name, service)

    def _event_times(self) -> Iterable[float]:
        """Each ends two tasks."""
        each_s = 60 * 2 / (self._course.churn * self._course.services * self._course.tasks)
        count = int(self._course.seconds / each_s)
        return ((n + self._chance.random()) * each_s for n in range(count))

    def _refresh(self) -> None:
        now = self.clock.now
        if now >= self._load_at:
            self._refresher.load()
            self._began, self._load_at = now, now + self._course.interval_s
        if now >= self._round_at and self._checks.round():
            self._round_at = now + PAUSE_S
        if now >= self._poll_at and not self.world.is_denied:
            self._polled = {s.name: s for s in self.world.load(None).clusters[0].services}
            self._poll_at = now + self._course.interval_s

    def _call(self, caller: str, service: str) -> None:
        tally = self.tallies[caller]
        tally.requests += 1
        answered = self._answered(caller, service)
        if answered is None:
            tally.failed += 1
        elif answered.service != service:
            tally.wrong += 1
            tally.late += self.clock.now > answered.up_at + self._course.grace_s
            tally.denied += self.world.is_denied

    def _answered(self, caller: str, service: str) -> Task | None:
        if caller == OURS:
            return self._tried(service)
        known = self._by_dns(service) if caller == BY_DNS else self._polled[service].endpoints
        return self._asked(self._chance.choice(known)) if known else None

    def _tried(self, service: str) -> Task | None:
        """As the transport does: another one where one refuses, which is told."""
        known = list(self._catalog.snapshot.services["demo", service].endpoints)
        for _ in range(min(TRIES, len(known))):
            endpoint = known.pop(self._chance.randrange(len(known)))
            if (task := self._asked(endpoint)) is not None:
                return task
            self._checks.doubt(endpoint)
            self._round_at = 0.0
            self._load_at = min(self._load_at, max(self.clock.now, self._began + HURRY_S))
        return None

    def _by_dns(self, service: str) -> tuple[Endpoint, ...]:
        until, known = self._answers.get(service, (0.0, ()))
        if self.clock.now >= until:
            known = self._catalog.snapshot.services["demo", service].endpoints
            self._answers[service] = self.clock.now + self._course.ttl_s, known
        return known

    def _asked(self, endpoint: Endpoint) -> Task | None:
        return self.world.listening((endpoint.host, endpoint.port))


def simulated(course: Course, seed: int) -> Simulation:
    """One that has run."""
    it = Simulation(course, seed)
    it.run()
    return it
