"""Whatever happens in whatever order, a clean sweep ends in the truth; nobody sees time go back.

Tasks start, are tagged, are restarted in place at other ports where their definition says so, lose
what is not essential, and stop; reads fail, are throttled, cut off and answered by those who lag
behind; events are lost, repeated, shuffled, and taken in while a read waits for answers.
"""

import copy
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from discovery.catalog.catalog import Catalog
from discovery.ecs.calls import Answer, Call, Postponed, Steps
from discovery.ecs.heard import Heard
from discovery.ecs.memory import Memory
from discovery.ecs.news import News
from discovery.ecs.plan import reading, update
from discovery.ecs.rotation import ROTATION_S, SETTLED_S
from discovery.errors import SourceThrottled, SourceUnreachable
from discovery.model import ClusterReading, Endpoint, Observation
from tests.ecs.documents import ACCOUNT, Document, binding, container, task, task_arn
from tests.ecs.fixed import SCOPE, FixedAws
from tests.ecs.told import iso, task_event, told

STEADY = 3  # tasks of a service of which none ever stops
FAULTS: dict[str, Answer] = {
    "unreachable": SourceUnreachable("no answer"),
    "throttled": SourceThrottled("slow down"),
    "postponed": Postponed("later"),
    "cut off": {},
}
LAGS = {"a change ago": 1, "lately": 3, "before": 8}
fates = st.lists(st.sampled_from(["well", "well", *LAGS, *LAGS, *FAULTS]), max_size=12)
waits = st.lists(st.booleans(), max_size=6)
RESTARTED: Document = {"restartPolicy": {"enabled": True}}
OPTIONAL: Document = {"essential": False}


class Lagging(FixedAws):
    """A fixed AWS of which some answers are of an earlier moment, or none."""

    def __init__(self) -> None:
        super().__init__()
        self.fates: list[str] = []
        self.past: list[dict[str, Document]] = []

    def answer(self, call: Call) -> Answer:
        """Well, unless it is fated otherwise; the list and the tasks alone lag behind."""
        fate = self.fates.pop(0) if self.fates else "well"
        if fate in FAULTS:
            return FAULTS[fate]
        if fate in LAGS and call.operation in ("ListTasks", "DescribeTasks"):
            present, self.tasks = self.tasks, self.past[-min(LAGS[fate], len(self.past))]
            try:
                return super().answer(call)
            finally:
                self.tasks = present
        return super().answer(call)


class Changes(RuleBasedStateMachine):
    """The truth, what was told of it, and what was published."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.aws = Lagging()
        self.memory = Memory(heard=Heard())
        self.catalog = Catalog(["prod"], clock=lambda: self.now)
        self.ports: dict[tuple[str, int], int] = {}  # since which version a task has a port
        self.told: list[str] = []
        self.seen: dict[str, int] = {}
        self.gone: set[str] = set()  # stopped, and seen to be
        self.index = 0
        self.count = 0
        self.restarted = False

    @initialize(restarted=st.booleans())
    def begin(self, restarted: bool) -> None:
        """The services, read well. Where nothing is restarted, few tasks are always described."""
        self.restarted = restarted
        (self.host,) = self.aws.add_hosts(1)
        self.aws.add_service("steady", 0, [self.host], **(RESTARTED if restarted else {}))
        self.aws.add_service("orders", 0, [self.host])
        self.aws.add_service("helped", 0, [self.host], **OPTIONAL)
        for _ in range(STEADY):
            self._start("steady", "RUNNING")
        self._start("orders", "RUNNING")
        self._start("helped", "RUNNING")
        del self.aws.past[:-1]  # nobody lags so far behind that what was there is unknown to him
        self._publish(reading(SCOPE, self.memory, None, self.now))

    @rule(
        name=st.sampled_from(["orders", "helped"]), status=st.sampled_from(["PENDING", "RUNNING"])
    )
    def start(self, name: str, status: str) -> None:
        """A task starts; its first events may come together."""
        self._start(name, status)

    @rule()
    def run(self) -> None:
        """What was on its way up runs at last."""
        for arn in self._running():
            if self.aws.tasks[arn]["lastStatus"] == "PENDING":
                self._change(arn, lastStatus="RUNNING", containers=[self._container(arn)])

    @precondition(lambda self: self.restarted)
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """A container is restarted in place, with another port."""
        arn = data.draw(st.sampled_from(sorted(self._running("steady"))))
        self._change(arn, containers=[self._container(arn)])

    @precondition(lambda self: self._running("helped"))
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """A container that is not essential ends, and its task goes on."""
        arn = data.draw(st.sampled_from(sorted(self._running("helped"))))
        self._change(arn, lastStatus="RUNNING", containers=[container("app", lastStatus="STOPPED")])

    @rule(data=st.data(), value=st.sampled_from("ab"))
    def tag(self, data: st.DataObject, value: str) -> None:
        """Another tag, which no version counts and no event tells."""
        arn = data.draw(st.sampled_from(sorted(self._running())))
        self.aws.past.append(dict(self.aws.tasks))
        self.aws.tasks[arn] = self.aws.tasks[arn] | {"tags": [{"key": "note", "value": value}]}

    @precondition(lambda self: self._running("orders"))
    @rule(data=st.data(), at_once=st.booleans())
    def stop(self, data: st.DataObject, at_once: bool) -> None:
        """A task is stopped; that it has ended comes later, or at once."""
        arn = data.draw(st.sampled_from(sorted(self._running("orders"))))
        self._change(arn, desiredStatus="STOPPED")
        if at_once:
            self._end(arn)

    @rule()
    def end(self) -> None:
        """What was stopped has ended."""
        for arn, document in list(self.aws.tasks.items()):
            if document["desiredStatus"] == "STOPPED" and document["lastStatus"] != "STOPPED":
                self._end(arn)

    @rule(fates=fates, waits=waits, data=st.data(), is_quiet=st.booleans())
    def read(
        self, fates: list[str], waits: list[bool], data: st.DataObject, is_quiet: bool
    ) -> None:
        """A read, whose answers fail or lag, and events between its steps."""
        self.aws.fates = list(fates)
        self.now += ROTATION_S if is_quiet else 0
        self._publish(reading(SCOPE, self.memory, None, self.now, is_quiet), waits, data)
        self.aws.fates = []

    @rule(fates=fates, data=st.data())
    def hear(self, fates: list[str], data: st.DataObject) -> None:
        """Events come, some not for the first time, some never."""
        self.aws.fates = list(fates)
        self._hear(data)
        self.aws.fates = []

    @rule(data=st.data(), pause_s=st.sampled_from([ROTATION_S, SETTLED_S]))
    def sweep(self, data: st.DataObject, pause_s: float) -> None:
        """Nothing fails: then everything is known, and old events change nothing of it."""
        self.now += pause_s
        self._publish(reading(SCOPE, self.memory, None, self.now))
        assert self._published() == self._truth()
        if pause_s == SETTLED_S:
            assert self._tags_published() == self._tags()
        self._hear(data, everything=True)
        assert self._published() == self._truth()

    @rule()
    def sweep_quietly(self) -> None:
        """Two reads at the pace of sweeps beside events, of which one lists nothing."""
        for _ in range(2):
            self.now += ROTATION_S
            self._publish(reading(SCOPE, self.memory, None, self.now, is_quiet=True))
            assert self._published().items() <= self._truth().items()
        assert self._published() == self._truth()
        assert self._tags_published() == self._tags()

    @invariant()
    def nobody_sees_time_go_back(self) -> None:
        """Not of the snapshot, and not of any task; and no error empties a service."""
        snapshot = self.catalog.snapshot
        assert snapshot.index >= self.index
        self.index = snapshot.index
        published = self._published()
        assert not self.gone & published.keys()
        self.gone |= self.seen.keys() - published.keys() - set(self._running())
        for arn, port in published.items():
            since = self.ports[arn, port]
            assert since >= self.seen.get(arn, 0), f"{arn} was seen in a later state"
            self.seen[arn] = since
        if ("prod", "steady") in snapshot.services:
            assert len(snapshot.services["prod", "steady"].endpoints) == STEADY

    def _start(self, name: str, status: str) -> None:
        self.count += 1
        arn = task_arn(self.count)
        document = task(
            number=self.count,
            group=f"service:{name}",
            startedBy=f"ecs-svc/{name}",
            taskDefinitionArn=f"{ACCOUNT}:task-definition/{name}:1",
            containerInstanceArn=self.host,
            lastStatus="PENDING",
            createdAt=iso(self.now),
            version=0,
        )
        self.aws.add_task(document)
        self._change(arn)
        if status == "RUNNING":
            self._change(arn, lastStatus="RUNNING", containers=[self._container(arn)])

    def _container(self, arn: str) -> Document:
        port = 30_000 + len(self.ports)
        self.ports[arn, port] = self.aws.tasks[arn]["version"] + 1
        return container("app", binding(8080, port), runtimeId=f"runtime-{port}")

    def _end(self, arn: str) -> None:
        self._change(arn, lastStatus="STOPPED", containers=[container("app", lastStatus="STOPPED")])

    def _change(self, arn: str, **members: Any) -> None:
        self.now += 1
        document = copy.deepcopy(self.aws.tasks[arn]) | members
        document["version"] += 1
        self.aws.past.append(dict(self.aws.tasks))
        self.aws.tasks[arn] = document
        self.told.append(task_event(document, self.now))

    def _running(self, name: str = "") -> list[str]:
        return [
            arn
            for arn, document in self.aws.tasks.items()
            if document["desiredStatus"] == "RUNNING" and document["group"].endswith(name)
        ]

    def _truth(self) -> dict[str, int]:
        return {
            arn: container["networkBindings"][0]["hostPort"]
            for arn, document in self.aws.tasks.items()
            for container in document["containers"]
            if document["desiredStatus"] == document["lastStatus"] == "RUNNING"
            and container["lastStatus"] == "RUNNING"
        }

    def _tags(self) -> dict[str, str | None]:
        every = {arn: self.aws.tasks[arn].get("tags", ()) for arn in self._truth()}
        return {arn: next((tag["value"] for tag in tags), None) for arn, tags in every.items()}

    def _tags_published(self) -> dict[str, str | None]:
        return {e.task_arn or "": e.labels.get("note") for e in self._serving()}

    def _published(self) -> dict[str, int]:
        return {e.task_arn or "": e.port for e in self._serving()}

    def _serving(self) -> list[Endpoint]:
        services = self.catalog.snapshot.services.values()
        return [e for service in services for e in service.endpoints if not e.is_last_resort]

    def _hear(self, data: st.DataObject, everything: bool = False) -> None:
        if not self.told:
            return
        some = st.lists(st.sampled_from(self.told), max_size=8)
        bodies = data.draw(st.permutations(self.told) if everything else some)
        news = News()
        for body in bodies:
            news.add(told(body))
        self._publish(update(SCOPE, self.memory, news, self.now))

    def _publish(
        self,
        steps: Steps[ClusterReading],
        waits: list[bool] | None = None,
        data: st.DataObject | None = None,
    ) -> None:
        """Hold a conversation; events are taken in while it waits for answers."""
        self.now += 1
        observed_at, waits = self.now, list(waits or [])
        try:
            batch = next(steps)
            while True:
                answers = [self.aws.answer(call) for call in batch]
                if waits and waits.pop(0) and data is not None:
                    self._hear(data)
                batch = steps.send(answers)
        except StopIteration as end:
            self.catalog.publish(Observation(observed_at, (end.value,)))


Changes.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestChanges = Changes.TestCase
