"""What is remembered of one cluster between reads. It has one owner, the source, and no lock.

What never changes is read once: definitions, which machine an instance is and where that is. What
AWS refused is asked again after a while. Everything is bounded by what runs.
"""

from collections.abc import Callable, Iterable, MutableMapping, Sequence, Set
from dataclasses import dataclass, field

from cachetools import LRUCache

from discovery.ecs.assembly import Known, Made
from discovery.ecs.definitions import Definition
from discovery.ecs.facts import Facts, is_over
from discovery.ecs.heard import Heard
from discovery.ecs.hosts import Host, Instance, Machine, Public
from discovery.ecs.members import Members, names_of
from discovery.ecs.rotation import Turns
from discovery.ecs.services import ServiceFacts, by_deployment
from discovery.ecs.targets import TargetHealth
from discovery.ecs.tasks import Family, Seen, Task
from discovery.errors import AccessDenied, SourceError
from discovery.health.eligibility import CheckKey
from discovery.model import Health

AGAIN_AFTER_S = 60.0  # how often what may change slowly is read again
STOPPED_FOR_S = 600.0
UNWANTED_FOR_S = 600.0
DENIED_FOR_S = 3_600.0  # how long an optional call is not tried again without its permission
ABSENT_FOR_S = 2.0  # at first; twice as long each time, up to `AGAIN_AFTER_S`
STOPPED_OF_ONE_NAME = 3
DEFINITION_LIMIT = 10_000  # beyond it only those in use are kept
REVISION_LIMIT = 1_000
OVER_LIMIT = 10_000
NO_SUCH_SERVICE = "ECS knows no such service"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which cluster is read (by name or ARN), what names call it, and which addresses count.

    `targets` is whether what load balancers say of targets counts. With `names_later` definitions
    that only name ports are left by each read of everything to who asks for what was put off.
    """

    cluster: str
    label: str
    preferred: Family = "ipv4"
    public: bool = False
    targets: bool = True
    names_later: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something AWS would not tell, why, and when it was asked.

    With an `error` the call was refused, and whether the thing exists is not known. It is asked
    for again after `again_s`; with 0 by the next read.
    """

    reason: str
    at: float
    error: SourceError | None = None
    again_s: float = AGAIN_AFTER_S


@dataclass(frozen=True, slots=True)
class Absence:
    """When nothing was found by a name, and for how long that is believed."""

    at: float
    again_s: float


@dataclass(frozen=True, slots=True)
class LastRead:
    """What the last read of tasks covered: all names or some, when, what it left out, and why.

    `services` are the names that were known as services then.
    """

    wanted: frozenset[str] | None
    at: float
    complete: bool
    services: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    errors: tuple[SourceError, ...] = ()


@dataclass(slots=True)
class Memory:
    """One cluster's memory. Times are seconds since the epoch, keys of `stopped` task ARNs."""

    definitions: dict[str, Definition] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)
    public: dict[str, Public] = field(default_factory=dict)
    refused: dict[str, Refusal] = field(default_factory=dict)
    services: dict[str, ServiceFacts] = field(default_factory=dict)
    revisions: MutableMapping[str, str] = field(default_factory=lambda: LRUCache(REVISION_LIMIT))
    service_names: frozenset[str] = frozenset()
    tasks: dict[str, Task] = field(default_factory=dict)
    targets: dict[str, TargetHealth] = field(default_factory=dict)  # by ARN of the target group
    settled: dict[str, Task] = field(default_factory=dict)  # nothing is unknown of them
    members: Members = field(default_factory=Members)
    hosts: dict[str, Host] = field(default_factory=dict)  # of what is the same, the same one
    made: dict[str, Made] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    described_at: dict[str, float] = field(default_factory=dict)  # by ARN of the task
    turns: Turns = field(default_factory=Turns)
    stopped: dict[str, tuple[Task, float]] = field(default_factory=dict)
    over: MutableMapping[str, int | None] = field(default_factory=lambda: LRUCache(OVER_LIMIT))
    heard: Heard | None = None  # of events, where there are any
    verdicts: dict[CheckKey, Health] = field(default_factory=dict)
    doubted: frozenset[str] = frozenset()
    doubted_services: dict[str, float] = field(default_factory=dict)
    absences: dict[str, Absence] = field(default_factory=dict)
    waiting: dict[str, None] = field(default_factory=dict)  # new names, the first come first
    notices: dict[str, float] = field(default_factory=dict)  # and when there was cause for them
    names_at: float | None = None
    instances_at: float | None = None
    counted_at: float | None = None
    looked_at: float | None = None
    listed_at: float | None = None  # when the last read was, if it listed all and missed nothing
    task_count: int | None = None
    last: LastRead | None = None
    outage: SourceError | None = None  # why the last read learned nothing, if it did not
    wanted_at: dict[str, float] = field(default_factory=dict)
    wanted_definitions: frozenset[str] = frozenset()

    @property
    def pending(self) -> int:
        """How many definitions there are to read that a later call may give."""
        return 0 if self.outage is not None else sum(map(self.is_unread, self.wanted_definitions))

    def is_unread(self, definition: str) -> bool:
        """Whether a definition is neither known nor refused."""
        return definition not in self.definitions and definition not in self.refused

    def used_definitions(self) -> dict[str, Definition]:
        """Those that are known of the definitions that the last read named."""
        known = self.definitions
        return {arn: known[arn] for arn in self.wanted_definitions if arn in known}

    def known_services(self) -> frozenset[str]:
        """The names of all services that are listed or described."""
        return self.service_names | self.services.keys()

    def is_no_service(self, name: str) -> bool:
        """Whether ECS lately said that there is no service of this name."""
        refusal = self.refused.get(service_key(name))
        return refusal is not None and refusal.reason == NO_SUCH_SERVICE

    def known(self, scope: Scope) -> Known:
        """All that services are made from."""
        stopped = {arn: task for arn, (task, _) in self.stopped.items()}
        self.members = self.members.now({**stopped, **self.tasks}, by_deployment(self.services))
        return Known(
            label=scope.label,
            members=self.members,
            names=self.known_services(),
            services=self.services,
            facts=self._facts(scope),
            verdicts=self.verdicts,
            targets=self.targets,
            before=self.made,
        )

    def namer(self) -> Callable[[Task], set[str]]:
        """A function that gives the names that a task goes by."""
        deployments = by_deployment(self.services)
        return lambda task: {name for _, name in names_of(task, deployments)}

    def names_of_tasks(self) -> set[str]:
        """The names that any task goes by."""
        names_of_one = self.namer()
        return {name for task in self.tasks.values() for name in names_of_one(task)}

    def tasks_of(self, wanted: Set[str] | None) -> list[Task]:
        """The tasks of these names without regard to case, or all."""
        tasks = list(self.tasks.values())
        if wanted is None:
            return tasks
        folded = {name.lower() for name in wanted}
        names_of_one = self.namer()
        return [t for t in tasks if any(name.lower() in folded for name in names_of_one(t))]

    def real_names(self, names: Iterable[str]) -> dict[str, str]:
        """The service that each name in any case means; itself where none or several are known."""
        known = self.known_services()
        by_folded: dict[str, list[str]] = {}
        for each in known:
            by_folded.setdefault(each.lower(), []).append(each)
        found = {}
        for name in names:
            same = by_folded.get(name.lower(), [])
            found[name] = same[0] if len(same) == 1 and name not in known else name
        return found

    def groups(self) -> set[str]:
        """Names in free text that tasks were started under, which no call lists by."""
        found = {t.group for t in self.tasks.values() if t.group and ":" not in t.group}
        return found - self.services.keys()

    def refuse(self, keys: Iterable[str], reason: str, now: float) -> None:
        """Remember what AWS said of each of these, so as not to ask at each read."""
        self.refused.update(dict.fromkeys(keys, Refusal(reason, now)))

    def refuse_call(self, keys: Sequence[str], error: SourceError, now: float) -> None:
        """Remember that a call for these was refused.

        Only a missing permission, or an error about a single thing, lasts: of several things
        nobody knows which one the error is about.
        """
        lasts = isinstance(error, AccessDenied) or len(keys) == 1
        refusal = Refusal(str(error), now, error, AGAIN_AFTER_S if lasts else 0.0)
        self.refused.update(dict.fromkeys(keys, refusal))

    def deny(self, error: AccessDenied, now: float) -> None:
        """Remember that an optional action is not allowed, and have a person told."""
        self.notices[str(error)] = now
        key = action_key(error.action.partition(":")[2])
        self.refused[key] = Refusal(str(error), now, error, DENIED_FOR_S)

    def denial(self, *operations: str) -> SourceError | None:
        """Why one of these operations lately was not allowed, if one was not."""
        found = (self.refused.get(action_key(operation)) for operation in operations)
        return next((refusal.error for refusal in found if refusal is not None), None)

    def forget_old(self, now: float) -> None:
        """Let what was refused a while ago be asked again, and drop what nobody asks for."""
        self.refused = {k: r for k, r in self.refused.items() if not is_due(r.at, now, r.again_s)}
        absences = self.absences.items()
        self.absences = {n: a for n, a in absences if not is_due(a.at, now, UNWANTED_FOR_S)}
        doubts = self.doubted_services.items()
        self.doubted_services = {n: at for n, at in doubts if not is_due(at, now, UNWANTED_FOR_S)}

    def found(self, names: Set[str]) -> None:
        """Forget that there was nothing by these names."""
        for name in names & self.absences.keys():
            del self.absences[name]

    def miss(self, names: Set[str], now: float) -> None:
        """Believe for a while that there is nothing by these names, longer each time."""
        for name in names:
            before = self.absences.get(name)
            again_s = min(AGAIN_AFTER_S, 2 * before.again_s) if before else ABSENT_FOR_S
            self.absences[name] = Absence(now, again_s)

    def is_outdated(self, task: Task) -> bool:
        """Whether something newer is known of it: events and reads overtake each other."""
        known = self.tasks.get(task.arn)
        version = known.version if known else self.over.get(task.arn)
        return version is not None and task.version is not None and task.version < version

    def retire(self, arns: Iterable[str], now: float) -> None:
        """Forget those that are over; the last few of a name stay, to say what became of them."""
        for arn in arns:
            task = self.tasks.get(arn)
            if task is not None and is_over(task):
                del self.tasks[arn]
                self.stopped[arn] = (task, now)
                self.over[arn] = task.version
        counts: dict[object, int] = {}
        for arn, (task, at) in sorted(self.stopped.items(), key=lambda i: i[1][1], reverse=True):
            counts[task.names] = counts.get(task.names, 0) + 1
            if counts[task.names] > STOPPED_OF_ONE_NAME or is_due(at, now, STOPPED_FOR_S):
                del self.stopped[arn]

    def want(self, names: Set[str], now: float) -> None:
        """Note which names are wanted, and forget the tasks of those that are not any more.

        A load may ask for some of the wanted names only: the others' tasks and health are kept.
        """
        self.listed_at = None
        self.wanted_at.update(dict.fromkeys((name.lower() for name in names), now))
        for name, at in list(self.wanted_at.items()):
            if is_due(at, now, UNWANTED_FOR_S):
                del self.wanted_at[name]
        self.tasks = {task.arn: task for task in self.tasks_of(self.wanted_at.keys())}

    def prune(self) -> None:
        """Drop what belonged to tasks, containers and instances that are not there any more."""
        runs = {(t.arn, c.name, c.runtime_id) for t in self.tasks.values() for c in t.containers}
        self.verdicts = {run: v for run, v in self.verdicts.items() if run in runs}
        self.settled.clear()
        self.turns.keep(self.tasks.keys())
        self.described_at = {a: at for a, at in self.described_at.items() if a in self.tasks}
        names = self.known_services() | self.names_of_tasks()
        self.made = {name: made for name, made in self.made.items() if name in names}
        used = {task.instance for task in self.tasks.values()}
        self.instances = {arn: i for arn, i in self.instances.items() if arn in used}
        machines = {instance.machine for instance in self.instances.values()}
        self.machines = {name: m for name, m in self.machines.items() if name in machines}
        attached = {i.network_interface_id for t in self.tasks.values() for i in t.attachments}
        self.public = {name: p for name, p in self.public.items() if name in attached}
        if len(self.definitions) > DEFINITION_LIMIT:
            known = self.definitions.items()
            self.definitions = {arn: d for arn, d in known if arn in self.wanted_definitions}

    def _facts(self, scope: Scope) -> Facts:
        hosts = {}
        for arn, instance in self.instances.items():
            known = self.machines.get(instance.machine or "")
            machine = known or Machine(problem=self._unknown_machine(instance))
            zone = instance.zone or machine.zone
            host = Host(machine, zone, instance.agent_connected, instance.machine)
            before = self.hosts.get(arn)
            hosts[arn] = before if before == host and before is not None else host
        self.hosts = hosts
        return Facts(
            definitions=self.definitions,
            hosts=hosts,
            public=self._public() if scope.public else None,
            problems={key: refusal.reason for key, refusal in self.refused.items()},
            preferred=scope.preferred,
        )

    def _unknown_machine(self, instance: Instance) -> str:
        if instance.machine is None:
            short = instance.arn.rpartition("/")[2]
            return f"ECS does not report the machine of container instance {short}"
        refusal = self.refused.get(instance.machine)
        return refusal.reason if refusal else f"the address of {instance.machine} is not known"

    def _public(self) -> dict[str, Public]:
        refused = {key: Public(problem=refusal.reason) for key, refusal in self.refused.items()}
        return {**refused, **self.public}


def service_key(name: str) -> str:
    """A service's name among the ARNs and ids that were refused."""
    return f"service:{name}"


def action_key(operation: str) -> str:
    """An optional operation among what was refused."""
    return f"action:{operation}"


def is_due(at: float | None, now: float, after_s: float = AGAIN_AFTER_S) -> bool:
    """Whether something was last done too long ago, or at a time that a clock jump made wrong."""
    return at is None or not 0 <= now - at < after_s
