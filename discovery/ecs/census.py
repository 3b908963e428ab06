"""Which tasks a cluster has and what they are, with the proof for those that are gone.

Rule 1: a task that vanished from the list is described: what stopped is gone, what runs is not.
An answer of an earlier version than is known changes nothing.
Rule 2: where an answer knows none of the tasks asked for, or says nothing of one, a second read
must agree, for a wrong cluster answers just so; also where it does not know one that is listed, or
that so far only an event told of. Rule 3: what could not be listed or described leaves its services
unread.
Rule 4: in a quiet read all is described that may change. Of two of them, one lists nothing: it
describes every task that is known, which tells of each what a list would, and its health. What has
started and no event told is found by the other one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from discovery.ecs import calls, rotation
from discovery.ecs.calls import Call, Listing, NoSuchService, Steps
from discovery.ecs.fields import Document, rows, text, texts
from discovery.ecs.memory import Memory, Scope
from discovery.ecs.tasks import Task, described
from discovery.errors import SourceError

AT_ONCE = 20  # answers that are held before they are taken in: each may have 300 KB

# Task ARNs with the names that they were listed for: none in a list of the whole cluster, two where
# the tasks of a service are of a family that was asked for, too.
Listed = dict[str, frozenset[str]]


@dataclass(slots=True)
class Census:
    """One load's count of tasks. `holes`: tasks of nobody knows which service are not described.

    `is_whole`: every task of the cluster is listed. `is_quiet`: reads are rare, for events tell
    what happens, and nothing is on its way.
    """

    scope: Scope
    memory: Memory
    now: float
    is_quiet: bool = False
    unread: set[str] = field(default_factory=set)
    errors: list[SourceError] = field(default_factory=list)
    holes: bool = False
    is_whole: bool = False
    listed: Listed = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    def list_all(self, limit: int | None = None) -> Steps[Listing]:
        """List the tasks of the whole cluster."""
        call = self._list("know the tasks of the cluster")
        listing = yield from calls.pages(call, limit)
        if listing.error is None and not listing.is_cut:
            self._add(listing, frozenset())
            self.is_whole = True
        return listing

    def list_names(self, names: Iterable[str], services: Mapping[str, bool]) -> Steps[None]:
        """List the tasks of some names; `services` says which of them may be services."""
        ordered = sorted(set(names))
        asked = [self._list_name(name, services.get(name, True)) for name in ordered]
        for name, listing in zip(ordered, (yield from calls.together(*asked)), strict=True):
            if listing.error is None:
                self._add(listing, frozenset({name}))
                continue
            self.unread.add(name)
            self.errors.append(listing.error)

    def describe(self, known: Iterable[str]) -> Steps[None]:
        """Describe what was known and has vanished from the list, and what is listed, in turns.

        Each at most once in a load.
        """
        vanished = [arn for arn in known if arn not in self.listed]
        arns = [arn for arn in (*self.listed, *vanished) if arn not in self.asked]
        yield from self.describe_these(self._chosen(arns))
        self._end(vanished)

    def describe_all(self) -> Steps[None]:
        """Describe every task that is known, in place of a list."""
        known = dict(self.memory.tasks)
        to_run = [arn for arn, task in known.items() if task.desired_status == "RUNNING"]
        self.listed = dict.fromkeys(to_run, frozenset())
        yield from self.describe_these(list(known))
        self._end(known)

    def describe_these(self, arns: list[str]) -> Steps[None]:
        """Describe these tasks and no others."""
        before = dict(self.memory.tasks)
        self.asked.update(arns)
        chunks = [arns[start : start + 100] for start in range(0, len(arns), 100)]
        doubted: set[str] = set()
        for start in range(0, len(chunks), AT_ONCE):
            some = chunks[start : start + AT_ONCE]
            answers = yield from calls.all_of([self._describe(chunk) for chunk in some])
            for chunk, answer in zip(some, answers, strict=True):
                if isinstance(answer, SourceError):
                    self._not_described(chunk, before, answer)
                    continue
                doubted |= self._described(chunk, before, answer)
        self.memory.doubted = (self.memory.doubted - self.asked) | doubted

    def _chosen(self, arns: list[str]) -> list[str]:
        """Those to describe now; what is in doubt is, and what is not listed any more."""
        memory = self.memory
        urgent: list[str] = []
        turning: dict[str, float] = {}
        settled: dict[str, float] = {}
        for arn in arns:
            task, at = memory.tasks.get(arn), memory.described_at.get(arn)
            in_turn = arn in self.listed and arn not in memory.doubted
            # What was described later than now was by a clock that has been set back since.
            if task is None or at is None or at > self.now or not in_turn:
                urgent.append(arn)
                continue
            definition = memory.definitions.get(task.definition or "")
            after_s = memory.turns.of(task, definition, self.now)
            if not after_s or (self.is_quiet and after_s <= rotation.ROTATION_S):
                urgent.append(arn)
            elif after_s > rotation.ROTATION_S:
                settled[arn] = at
            else:
                turning[arn] = at
        return rotation.chosen(urgent, turning, settled, self.now)

    def _end(self, gone: Iterable[str]) -> None:
        self.memory.seen.turn(self.memory.tasks)
        self.memory.retire(gone, self.now)

    def _described(
        self, chunk: list[str], before: Mapping[str, Task], answer: Document
    ) -> set[str]:
        """Take in one answer; returns what it leaves in doubt."""
        memory = self.memory
        found = {task.arn: task for task in described(answer, memory.seen)}
        changed = [t for arn, t in found.items() if memory.tasks.get(arn) is not t]
        outdated = {task.arn for task in changed if memory.is_outdated(task)}
        current = {task.arn: task for task in changed if task.arn not in outdated}
        if memory.heard is not None:
            memory.heard.read(memory.tasks, current.values(), self.now)
        failures = rows(answer, "failures")
        reported = {text(f, "arn") for f in failures if f.get("reason") == "MISSING"}
        absent = [arn for arn in chunk if arn not in found]
        unproven = [
            arn
            for arn in absent
            if not found
            or arn not in reported
            or (arn in before and (arn in self.listed or arn not in memory.described_at))
        ]
        memory.tasks.update(current)
        memory.described_at.update(dict.fromkeys(found.keys() - outdated, self.now))
        doubtful = [arn for arn in unproven if arn not in self.memory.doubted]
        doubtful = [arn for arn in doubtful if arn in before or arn in self.listed]
        if doubtful:
            self._not_described(doubtful, before, _doubt(len(doubtful)))
        for arn in absent:
            if arn not in doubtful:
                self.memory.tasks.pop(arn, None)
        return set(doubtful)

    def _not_described(
        self, arns: Iterable[str], before: Mapping[str, Task], error: SourceError
    ) -> None:
        self.errors.append(error)
        names_of = self.memory.namer()
        for arn in arns:
            names = self.listed.get(arn, frozenset()) | (
                names_of(before[arn]) if arn in before else frozenset()
            )
            self.unread |= names
            self.holes = self.holes or not names

    def _add(self, listing: Listing, names: frozenset[str]) -> None:
        for page in listing.pages:
            for arn in texts(page, "taskArns"):
                before = self.listed.get(arn)
                self.listed[arn] = names if before is None else before | names

    def _list_name(self, name: str, is_service: bool) -> Steps[Listing]:
        if is_service:
            call = self._list("know the tasks of a service", serviceName=name)
            listing = yield from calls.pages(call)
            if not isinstance(listing.error, NoSuchService):
                return listing
        call = self._list("know the tasks of a family", family=name)
        return (yield from calls.pages(call))

    def _list(self, reason: str, **only: str) -> Call:
        parameters = {"cluster": self.scope.cluster, "maxResults": 100, **only}
        return Call("ListTasks", parameters, reason, calls.CLUSTER_RESOURCES)

    def _describe(self, chunk: list[str]) -> Call:
        parameters = {"cluster": self.scope.cluster, "tasks": chunk, "include": ["TAGS"]}
        reason = "know state, ports and health of tasks"
        return Call("DescribeTasks", parameters, reason, calls.CLUSTER_RESOURCES)


def _doubt(count: int) -> SourceError:
    return SourceError(
        f"ECS knows nothing of {count} tasks that it has listed: waiting for a second read"
    )
