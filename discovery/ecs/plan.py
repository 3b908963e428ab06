"""Which calls a read of one cluster takes, as a conversation; what they tell, as a reading.

Rule 1: all or nothing per service. What could not be read whole is `unread` and stays as it was.
Rule 2: as few calls as can be: names are listed one by one, their tasks described in one pool, and
the whole cluster is read where that is cheaper. What cannot change is never asked for twice.
Rule 3: after a read that learned nothing one call has to succeed before any other is made.
"""

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from math import inf

from discovery.ecs import calls, gaps
from discovery.ecs.assembly import assembled
from discovery.ecs.calls import Call, Steps
from discovery.ecs.census import Census
from discovery.ecs.checks import check_targets
from discovery.ecs.fields import number, rows
from discovery.ecs.lookups import Lookups
from discovery.ecs.memory import (
    AGAIN_AFTER_S,
    LastRead,
    Memory,
    Scope,
    is_due,
    service_key,
)
from discovery.ecs.news import News, names_told, take_in
from discovery.errors import SourceError
from discovery.model import ClusterReading, Service

PATIENCE_S = 5.0  # how long a whole read waits for definitions; the others come with the next one
ROLLING_AGAIN_S = 10.0
HURRIED_S = 24.0  # who reads again sooner than a sweep beside events wishes to know all there is
LOOK_AROUND_PAGES = 10
NEW_NAMES = 100  # in one load: each may cost a call of its own, and anyone may ask for any name
COUNT_FROM_NAMES = 4

LOSING = (
    "cluster {} changes in ways that no event tells, so it is polled as if there were none: does"
    " the rule match its events, and does nobody else receive from the queue?"
)

# What services and families can be called; one impossible name would fail a whole call.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")


def reading(
    scope: Scope,
    memory: Memory,
    wanted: frozenset[str] | None,
    now: float,
    is_quiet: bool = False,
) -> Steps[ClusterReading]:
    """Read the whole cluster, or the wanted names. `now` is seconds since the epoch.

    `is_quiet`: reads are rare, for events tell what happens, and nothing is on its way.
    """
    memory.forget_old(now)
    read = _Read.at_time(scope, memory, now, is_quiet)
    found = yield from read.knock(wanted)
    if found is None:
        found = yield from read.whole() if wanted is None else read.some(wanted)
    memory.outage = None if found.learned else found.error
    return found


def follow_up(scope: Scope, memory: Memory, now: float) -> Steps[ClusterReading]:
    """Read definitions that were left for later, and map the tasks of the last read again."""
    read = _Read.at_time(scope, memory, now)
    yield from read.look.definitions(memory.wanted_definitions, "name ports", patience_s=0.0)
    return read.again()


def update(scope: Scope, memory: Memory, news: News, now: float) -> Steps[ClusterReading]:
    """Take in what events told, ask for what they leave open, and map what is known then.

    It may go on while a read waits for answers. Without a read before it nothing can be told.
    """
    read = _Read.at_time(scope, memory, now)
    unsure = take_in(memory, news, now)
    yield from calls.together(
        read.census.describe_these(unsure),
        read.look.services(news.services & memory.services.keys(), "know what events tell of"),
    )
    memory.retire(unsure, now)
    yield from read.facts(memory.last.wanted if memory.last else frozenset(), names_too=False)
    return read.again(names_told(memory, news))


@dataclass(slots=True)
class _Read:
    """One load of one cluster, on its way from calls to a reading."""

    scope: Scope
    memory: Memory
    now: float
    look: Lookups
    census: Census
    is_first: bool = field(default=False)

    @classmethod
    def at_time(cls, scope: Scope, memory: Memory, now: float, is_quiet: bool = False) -> "_Read":
        look, census = Lookups(scope, memory, now), Census(scope, memory, now, is_quiet)
        return cls(scope, memory, now, look, census, memory.last is None)

    def knock(self, wanted: frozenset[str] | None) -> Steps[ClusterReading | None]:
        """In an outage, a reading of nothing at the cost of one call, however much is known."""
        if self.memory.outage is None:
            return None
        parameters = {"cluster": self.scope.cluster, "maxResults": 1}
        reason = "know whether ECS answers again"
        call = Call("ListTasks", parameters, reason, calls.CLUSTER_RESOURCES, again=False)
        (answer,) = yield from calls.all_of([call])
        if not isinstance(answer, calls.PASSING):
            return None
        return ClusterReading(self.scope.label, unread=wanted or frozenset(), error=answer)

    def whole(self) -> Steps[ClusterReading]:
        since_s, self.memory.listed_at = self.now - (self.memory.listed_at or inf), None
        # Without a task a list alone asks anything, and proves that ECS still answers.
        if self.census.is_quiet and self.memory.tasks and since_s >= HURRIED_S:
            yield from calls.together(self.census.describe_all(), self._services())
        else:
            listing, _ = yield from calls.together(self.census.list_all(), self._services())
            if listing.error is not None:
                return ClusterReading(self.scope.label, error=listing.error)
            yield from self.census.describe(list(self.memory.tasks))
            self.memory.task_count = len(self.census.listed)
            self.memory.listed_at = None if self.census.errors else self.now
        yield from self.facts(None)
        if self.census.holes:
            self.census.unread |= gaps.perhaps_incomplete(self.memory, self.now)
        complete = not self.census.holes and self.memory.names_at is not None
        return self.result(None, self.now, complete)

    def some(self, wanted: frozenset[str]) -> Steps[ClusterReading]:
        asked = yield from self._worth_asking(wanted)
        yield from self._know(asked)
        if self._whole_is_cheaper(asked):
            listing = yield from self.census.list_all()
            if listing.error is not None:
                return ClusterReading(self.scope.label, unread=wanted, error=listing.error)
        else:
            yield from self._list(asked)
        self.memory.want(wanted, self.now)
        yield from self._describe(asked)
        yield from self.facts(asked)
        yield from self._look_around(asked)
        self.census.unread |= self._untold(asked) | self.memory.waiting.keys()
        found = self.result(wanted, self.now, complete=False)
        self.memory.found(asked - found.absent - found.unread)
        self.memory.miss(asked & found.absent, self.now)
        return found

    def again(self, told: Set[str] = frozenset()) -> ClusterReading:
        """Map what the last read covered, as old as that was; `told` are names told of since.

        Services that were only heard of since then have tasks that nobody knows yet. A read that
        has failed since goes on being said.
        """
        memory, last = self.memory, self.memory.last
        if last is None:
            unread = SourceError(f"cluster {self.scope.label} was not read yet")
            return ClusterReading(self.scope.label, error=memory.outage or unread)
        self.census.unread |= last.unread | (memory.known_services() - last.services - told)
        self.census.errors += [e for e in (memory.outage, *last.errors) if e is not None]
        return self.result(last.wanted, last.at, last.complete)

    def result(self, wanted: frozenset[str] | None, at: float, complete: bool) -> ClusterReading:
        """Map what the memory knows now, of tasks that were read at that time."""
        known = self.memory.known(self.scope)
        made = assembled(known, wanted, at)
        self.memory.verdicts.update(made.verdicts)
        self.memory.made = dict(made.made)
        doubts = {**gaps.refusals(self.memory, self.scope.public), **self.look.doubts}
        emptied = {s.name for s in made.services if s.name in doubts and not s.endpoints}
        unread = frozenset(self.census.unread | self.look.unread | emptied)
        blocked = gaps.blocked(self.memory, self.scope.public)
        withheld = unread | _among(blocked, wanted)
        why_empty = [doubts[name] for name in sorted(emptied)]
        errors = tuple(dict.fromkeys([*self.census.errors, *self.look.errors, *why_empty]))
        if self.memory.heard is not None and self.memory.heard.is_losing:
            self.memory.notices[LOSING.format(self.scope.label)] = self.now
        tasks = self.memory.tasks_of(wanted)
        named = gaps.named_definitions(self.memory, tasks, wanted)
        self.memory.wanted_definitions = frozenset(named)
        self.memory.last = LastRead(
            wanted, at, complete, self.memory.known_services(), unread, errors
        )
        return ClusterReading(
            label=self.scope.label,
            services=tuple(s for s in made.services if s.name not in withheld),
            complete=complete,
            absent=_absent(wanted, made.services, withheld),
            unread=withheld,
            error=next(iter(errors), None),
            explained=not self.is_first,  # what vanished before we looked nobody can explain
            heard=self.memory.service_names,
            observed_at=at,
        )

    def _services(self) -> Steps[None]:
        """All services: new ones now, known ones once a minute as far as our share allows."""
        if is_due(self.memory.names_at, self.now):
            yield from self.look.service_names()
        yield from self._read_services(self.memory.known_services())

    def _worth_asking(self, wanted: frozenset[str]) -> Steps[frozenset[str]]:
        """Not names that were just found to be nothing, and of new ones only so many at a time."""
        memory = self.memory
        unheard = self._unheard(wanted)
        absences = {n: memory.absences[n] for n in unheard if n in memory.absences}
        resting = {n for n, a in absences.items() if not is_due(a.at, self.now, a.again_s)}
        if len(unheard - resting) > NEW_NAMES and is_due(memory.names_at, self.now):
            yield from self.look.service_names()
            unheard = self._unheard(wanted)
        in_turn = [*(n for n in memory.waiting if n in unheard), *sorted(unheard)]
        in_turn = [n for n in dict.fromkeys(in_turn) if n not in resting]
        memory.waiting = dict.fromkeys(in_turn[NEW_NAMES:])
        return wanted - resting - memory.waiting.keys()

    def _unheard(self, wanted: frozenset[str]) -> set[str]:
        """Names of which neither a service nor a task is known."""
        memory = self.memory
        known = (*memory.known_services(), *memory.names_of_tasks())
        folded = {name.lower() for name in known}
        return {name for name in wanted if name.lower() not in folded}

    def _know(self, wanted: frozenset[str]) -> Steps[None]:
        steps = [self._read_services(self._real(wanted))]
        if len(wanted) >= COUNT_FROM_NAMES and is_due(self.memory.counted_at, self.now):
            steps.append(self._count())
        yield from calls.together(*steps)

    def _read_services(self, names: Iterable[str]) -> Steps[None]:
        known = self.memory.services
        names = set(names)
        unknown = self._perhaps_new(names - known.keys())
        due = [n for n in names if n in known and self._is_due(n)]
        yield from calls.together(
            self.look.services(unknown, "know ports and deployments of services"),
            self.look.services(due, "know what changed in services", patience_s=0.0),
        )

    def _is_due(self, name: str) -> bool:
        known = self.memory.services[name]
        if known.is_shifting or name in self.memory.doubted_services:
            return True
        after_s = ROLLING_AGAIN_S if known.is_rolling else AGAIN_AFTER_S
        return is_due(known.read_at, self.now, after_s)

    def _perhaps_new(self, names: set[str]) -> set[str]:
        """A name that was no service may be one by now, unless it is known as a family's."""
        refused = {n for n in names if service_key(n) in self.memory.refused}
        families = self.memory.names_of_tasks() if refused else set()
        again = {n for n in refused if self.memory.is_no_service(n) and n not in families}
        return (names - refused) | again

    def _count(self) -> Steps[None]:
        """Learn how many tasks the cluster has, to tell what is the cheaper way to read it."""
        clusters = {"clusters": [self.scope.cluster]}
        reason = "choose the cheaper way to read"
        (answer,) = yield (
            Call("DescribeClusters", clusters, reason, calls.CLUSTERS, patience_s=0.0),
        )
        self.memory.counted_at = self.now
        if isinstance(answer, SourceError):
            return  # only thrift depends on it: names are read one by one
        for row in rows(answer, "clusters")[:1]:
            running = number(row, "runningTasksCount") or 0
            self.memory.task_count = running + (number(row, "pendingTasksCount") or 0)

    def _whole_is_cheaper(self, wanted: frozenset[str]) -> bool:
        total = self.memory.task_count
        if total is None or len(wanted) < COUNT_FROM_NAMES:
            return False
        known = self.memory.services
        real = self.memory.real_names(wanted).values()
        running = [known[n].running if n in known else 0 for n in real]
        by_name = sum(max(1, _hundreds(count)) for count in running) + _hundreds(sum(running))
        return 2 * max(1, _hundreds(total)) < by_name

    def _list(self, names: Iterable[str]) -> Steps[None]:
        real = self._real(names)
        services = {name: not self.memory.is_no_service(name) for name in real}
        yield from self.census.list_names(real, services)

    def _describe(self, wanted: frozenset[str]) -> Steps[None]:
        """What is not listed because its listing failed has not vanished."""
        names_of, unread = self.memory.namer(), self.census.unread
        ours = self.memory.tasks_of(wanted)
        yield from self.census.describe([t.arn for t in ours if unread.isdisjoint(names_of(t))])

    def _untold(self, wanted: frozenset[str]) -> set[str]:
        """Names of which nobody could say whether they are services: they are not absent."""
        known = self.memory.services.keys()
        unknown = self._real(wanted) - known
        return {name for name in unknown if service_key(name) not in self.memory.refused}

    def _real(self, names: Iterable[str]) -> set[str]:
        possible = [name for name in names if _NAME.fullmatch(name)]
        return set(self.memory.real_names(possible).values())

    def facts(self, wanted: frozenset[str] | None, names_too: bool = True) -> Steps[None]:
        """What the tasks seen depend on: services, definitions, instances and their addresses.

        With `names_too` also definitions that only name ports.
        """
        memory, look = self.memory, self.look
        tasks = memory.tasks_of(wanted)
        again = is_due(memory.instances_at, self.now)
        if again:
            memory.prune()
            memory.instances_at = self.now
        open_tasks = gaps.unsettled(memory, tasks)
        needed = gaps.definitions(memory, open_tasks)
        on_hosts = gaps.instances(memory, open_tasks)
        new = on_hosts - memory.instances.keys() - memory.refused.keys()
        services = gaps.services(memory, open_tasks, self.now)
        steps = [
            look.services(services, "know new services and deployments"),
            look.instances(new, "know the machines of tasks"),
            look.definitions(needed, "know ports of tasks", PATIENCE_S if wanted is None else inf),
        ]
        if again:
            known = set(memory.instances)
            steps.append(look.instances(known, "know what changed in instances", 0.0))
        # A first read of everything waits for no names.
        are_later = wanted is None and (self.is_first or self.scope.names_later)
        if names_too and not are_later:
            optional = gaps.named_definitions(memory, tasks, wanted) - needed
            steps.append(look.definitions(optional, "name ports", patience_s=0.0))
        yield from calls.together(*steps)
        gaps.accept_unknown_deployments(memory, open_tasks, self.now)
        public = gaps.interfaces(open_tasks) if self.scope.public else ()
        steps = [look.machines(again), look.public_addresses(public)]
        if self.scope.targets:
            steps.append(check_targets(memory, tasks, self.now))
        yield from calls.together(*steps)
        gaps.settle(memory, open_tasks, self.scope.public)

    def _look_around(self, wanted: frozenset[str]) -> Steps[None]:
        """Names that are neither a service nor a family as written: by case, or as a group."""
        unfound = self._unfound(wanted)
        if self.census.unread or not (unfound or self._groups(wanted)):
            return
        if unfound and is_due(self.memory.names_at, self.now):
            yield from self.look.service_names()
        real = self._real(unfound) - unfound
        if real:
            yield from self._read_services(real)
            yield from self._list(real)
        elif self._may_look_everywhere():
            yield from self._look_everywhere(unfound)
        else:
            return
        yield from self._describe(wanted)
        yield from self.facts(wanted)

    def _look_everywhere(self, unfound: set[str]) -> Steps[None]:
        """The only way to find a group, and the tasks that have joined one since."""
        listing = yield from self.census.list_all(LOOK_AROUND_PAGES)
        if listing.error is not None:
            self.census.unread |= unfound
            self.census.errors.append(listing.error)
            return
        self.memory.looked_at = self.now
        count = len(listing.pages) * 100 if listing.is_cut else len(self.census.listed)
        self.memory.task_count = count

    def _groups(self, wanted: frozenset[str]) -> Set[str]:
        return _among(self.memory.groups(), wanted)

    def _may_look_everywhere(self) -> bool:
        """A cluster that is small enough, and not more than once a minute."""
        small = (self.memory.task_count or 0) < LOOK_AROUND_PAGES * 100
        return small and not self.census.is_whole and is_due(self.memory.looked_at, self.now)

    def _unfound(self, wanted: frozenset[str]) -> set[str]:
        known = {n.lower() for n in (*self.memory.services, *self.memory.names_of_tasks())}
        return {name for name in wanted if name.lower() not in known}


def _absent(
    wanted: frozenset[str] | None, made: Iterable[Service], unread: Set[str]
) -> frozenset[str]:
    known = {service.name.lower() for service in made} | {name.lower() for name in unread}
    return frozenset(name for name in wanted or () if name.lower() not in known)


def _among(names: Set[str], wanted: frozenset[str] | None) -> Set[str]:
    folded = {name.lower() for name in wanted or ()}
    return names if wanted is None else {name for name in names if name.lower() in folded}


def _hundreds(count: int) -> int:
    return -(-count // 100)
