"""What events change in what is known: by version, in any order, and no more than they tell."""

import copy
from typing import Any

import pytest

from discovery.catalog.catalog import Catalog
from discovery.ecs.calls import Steps
from discovery.ecs.heard import FEW, LATE_S, Heard
from discovery.ecs.memory import Memory
from discovery.ecs.plan import LOSING, reading, update
from discovery.ecs.rotation import SETTLED_S
from discovery.ecs.tasks import task_of
from discovery.errors import SourceUnreachable
from discovery.model import ClusterReading, Observation
from tests.ecs.documents import Document, binding, container, container_definition, definition, port
from tests.ecs.fixed import (
    CHECKED,
    SCOPE,
    FixedAws,
    by_name,
    fail_on,
    sizes,
    small_cluster,
    task_arn,
)
from tests.ecs.told import CLUSTER, event, news, task_event

NOW = 1_000_000.0
DOWN = SourceUnreachable("no answer")
ORDERS = {"prod": frozenset({"orders"})}


class World:
    """A cluster of two services that was read, and what is known of it."""

    def __init__(self, mode: str = "bridge", wanted: set[str] | None = None) -> None:
        self.aws = small_cluster(mode)
        self.memory = Memory(heard=Heard())
        for at in (NOW - 10, NOW):  # definitions that only name ports come with the second
            self.aws.read(self.memory, at, wanted)

    def hear(self, *bodies: str, later_s: float = 2.0) -> ClusterReading:
        """Take in these messages."""
        return self.aws.drive(update(SCOPE, self.memory, news(*bodies), NOW + later_s))

    def changed(self, number: int, versions: int = 1, **members: Any) -> Document:
        """A task of the cluster after some changes; the cluster itself stays as it was."""
        document = copy.deepcopy(self.aws.tasks[task_arn(number)]) | members
        document["version"] += versions
        return document

    def new(self, host_port: int = 40_000, **members: Any) -> Document:
        """A task that no read has seen."""
        document = self.changed(1, taskArn=task_arn(77), version=1)
        document["containers"] = [container("app", binding(8080, host_port))]
        return document | members


@pytest.fixture
def world() -> World:
    """As every test begins."""
    return World()


class TestTasks:
    """Tasks come, move and go without a call of the API."""

    def test_a_new_task_serves_at_once(self, world: World) -> None:
        """An event holds all that it takes."""
        found = world.hear(task_event(world.new(), NOW + 1))
        assert sizes(found) == {"orders": 3, "users": 1}
        assert not world.aws.calls

    def test_a_task_of_a_new_service_serves_at_once(self, world: World) -> None:
        """Its service is read, and its tasks are not."""
        document = world.new(group="service:new", startedBy="ecs-svc/new")
        world.aws.add_service("new", 0, [document["containerInstanceArn"]])
        document["taskDefinitionArn"] = world.aws.services["new"]["taskDefinition"]
        assert sizes(world.hear(task_event(document, NOW + 1)))["new"] == 1
        assert world.aws.operations["DescribeTasks"] == 0

    def test_a_task_that_is_to_stop_is_out_at_once(self, world: World) -> None:
        """`desiredStatus` is the first sign."""
        document = world.changed(1, desiredStatus="STOPPED")
        assert sizes(world.hear(task_event(document, NOW + 1)))["orders"] == 1
        assert not world.aws.calls

    def test_a_new_binding_is_told(self, world: World) -> None:
        """A container that was restarted in place."""
        moved = world.changed(1, containers=[container("app", binding(8080, 40_001))])
        found = by_name(world.hear(task_event(moved, NOW + 1)))
        assert 40_001 in {e.port for e in found["orders"].endpoints}

    def test_an_event_without_bindings_has_the_task_described(self, world: World) -> None:
        """Where ports may be bound on a host."""
        bare = world.new()
        world.aws.add_task(bare)
        told = copy.deepcopy(bare) | {"containers": [container("app")]}
        assert sizes(world.hear(task_event(told, NOW + 1)))["orders"] == 3
        assert world.aws.operations == {"DescribeTasks": 1}

    def test_an_event_of_an_awsvpc_task_needs_no_bindings(self) -> None:
        """Its port is in the definition, which is known."""
        world = World("awsvpc")
        document = world.changed(1, desiredStatus="STOPPED")
        assert sizes(world.hear(task_event(document, NOW + 1)))
        assert not world.aws.calls


class TestVersions:
    """The version decides, not the order."""

    def test_an_older_event_changes_nothing(self, world: World) -> None:
        """Nor does one of the version that a read has seen."""
        for versions in (0, -1):
            old = world.changed(1, versions, desiredStatus="STOPPED")
            assert sizes(world.hear(task_event(old, NOW + 1)))["orders"] == 2

    def test_of_several_events_the_newest_counts(self, world: World) -> None:
        """In whatever order they come."""
        moved = world.changed(1, 1, containers=[container("app", binding(8080, 40_001))])
        gone = world.changed(1, 2, desiredStatus="STOPPED")
        bodies = [task_event(each, NOW + 1) for each in (gone, moved)]
        assert sizes(world.hear(*bodies))["orders"] == 1
        assert sizes(world.hear(*reversed(bodies)))["orders"] == 1

    def test_a_task_that_is_over_never_comes_back(self, world: World) -> None:
        """Not by an event that was late, and not by an answer of those who lag behind."""
        over = world.changed(1, 2, desiredStatus="STOPPED", lastStatus="STOPPED")
        late = world.changed(1, 1)
        world.hear(task_event(over, NOW + 1))
        assert sizes(world.hear(task_event(late, NOW + 3), later_s=4))["orders"] == 1
        assert sizes(world.aws.read(world.memory, NOW + 30))["orders"] == 1

    def test_an_answer_of_an_earlier_version_changes_nothing(self, world: World) -> None:
        """What an event told stands until reads have caught up."""
        moved = world.changed(1, containers=[container("app", binding(8080, 40_001))])
        world.hear(task_event(moved, NOW + 1))
        found = by_name(world.aws.read(world.memory, NOW + 30))
        assert 40_001 in {e.port for e in found["orders"].endpoints}

    def test_an_unknown_task_of_an_old_event_is_described(self, world: World) -> None:
        """The last read did not list it: it may be over."""
        found = world.hear(task_event(world.new(), NOW - 1))
        assert sizes(found)["orders"] == 2
        assert world.aws.operations == {"DescribeTasks": 1}
        assert found.error is None

    def test_an_event_without_a_version_has_the_task_described(self, world: World) -> None:
        """Nobody knows how new it is."""
        document = world.changed(1, desiredStatus="STOPPED")
        del document["version"]
        assert sizes(world.hear(task_event(document, NOW + 1)))["orders"] == 2
        assert world.aws.operations == {"DescribeTasks": 1}

    def test_an_update_that_ends_after_a_read_is_on_top_of_it(self, world: World) -> None:
        """Though it began before: nothing is as old any more as it was then."""
        old = task_event(world.changed(1), NOW - 1, version=None)
        steps = update(SCOPE, world.memory, news(old), NOW + 2)
        batch = next(steps)
        world.aws.drive(reading(SCOPE, world.memory, None, NOW + 10))

        def resumed() -> Steps[ClusterReading]:
            answers = yield batch
            while True:
                try:
                    answers = yield steps.send(answers)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]  # a generator's value

        found = world.aws.drive(resumed())
        assert {service.observed_at for service in found.services} == {NOW + 10}

    def test_a_task_that_only_an_event_told_of_is_missing_after_a_second_read(
        self, world: World
    ) -> None:
        """Who answers the first one may not have heard of it yet."""
        world.hear(task_event(world.new(), NOW + 1))
        first = world.aws.read(world.memory, NOW + 10)
        assert "orders" in first.unread
        assert sizes(world.aws.read(world.memory, NOW + 20))["orders"] == 2


class TestOutages:
    """The queue may answer while ECS does not."""

    def test_events_make_nothing_look_read_that_was_not(self, world: World) -> None:
        """They are taken in, while the failure and the age stay what they are."""
        catalog = Catalog(["prod"], clock=lambda: NOW + 20)
        catalog.publish(Observation(NOW, (world.aws.read(world.memory, NOW),)))
        world.aws.fail = fail_on(DOWN, "ListTasks")
        catalog.publish(Observation(NOW + 10, (world.aws.read(world.memory, NOW + 10),)))
        told = world.hear(task_event(world.changed(1, desiredStatus="STOPPED"), NOW + 20))
        catalog.publish(Observation(NOW + 20, (told,)))
        assert sizes(told)["orders"] == 1
        (cluster,) = catalog.snapshot.clusters
        assert (cluster.observed_at, cluster.error) == (NOW, str(DOWN))
        assert catalog.snapshot.observed_at == NOW

    def test_before_any_read_events_tell_nothing(self) -> None:
        """Nor do they explain what a first read does not find: it is in doubt all the same."""
        aws, memory = small_cluster(), Memory()
        aws.fail = fail_on(DOWN, "ListTasks")
        aws.read(memory, NOW)
        aws.fail = lambda call: None
        told = aws.drive(update(SCOPE, memory, news(task_event(aws.tasks[task_arn(1)], NOW)), NOW))
        assert (told.learned, told.error) == (False, DOWN)
        assert not aws.read(memory, NOW + 10).explained


class TestWhatEventsDoNotTell:
    """Health and tags stay what a read found."""

    def test_health_stays(self, world: World) -> None:
        """Of the same container; another one has none yet."""
        arn = world.aws.tasks[task_arn(1)]["taskDefinitionArn"]
        check = {"command": ["CMD", "true"]}
        checked = container_definition("app", port(8080, "http"), healthCheck=check)
        aws = small_cluster()
        aws.definitions[arn] = definition(checked, arn=arn)
        for number in (1, 2):
            (app,) = aws.tasks[task_arn(number)]["containers"]
            app |= {"healthStatus": "HEALTHY", "runtimeId": "a"}
        world.aws, world.memory = aws, Memory()
        aws.read(world.memory, NOW)
        aws.read(world.memory, NOW + 10)
        same = world.hear(task_event(world.changed(1), NOW + 11), later_s=12)
        assert {e.health for e in by_name(same)["orders"].endpoints} == {"healthy"}
        other = world.changed(1, 2)
        other["containers"][0]["runtimeId"] = "b"
        found = by_name(world.hear(task_event(other, NOW + 13), later_s=14))["orders"]
        assert [e.health for e in found.spares] == ["starting"]

    def test_tags_stay(self, world: World) -> None:
        """Reads ask for them, events have none."""
        world.aws.tasks[task_arn(1)]["tags"] = [{"key": "ecs-discovery.weight", "value": "3"}]
        now = NOW + SETTLED_S
        world.aws.read(world.memory, now)
        found = by_name(world.hear(task_event(world.changed(1), now + 1), later_s=now + 2 - NOW))
        assert sorted(e.weight for e in found["orders"].endpoints) == [1, 3]


class TestWhoseEvents:
    """A queue may hold events of others."""

    def test_a_cluster_of_that_name_in_another_account_is_not_ours(self, world: World) -> None:
        """Buses may pass on events of other accounts."""
        body = task_event(world.changed(1, desiredStatus="STOPPED"), NOW + 1)
        foreign = body.replace(":123456789012:", ":999999999999:")
        assert sizes(world.hear(foreign))["orders"] == 2

    def test_tasks_that_nobody_asked_for_are_not_taken_in(self) -> None:
        """Where names are read on demand."""
        world = World(wanted={"orders"})
        found = world.hear(task_event(world.new(group="service:other"), NOW + 1))
        assert sizes(found) == {"orders": 2}
        assert task_arn(77) not in world.memory.tasks

    def test_tasks_of_names_asked_for_are(self) -> None:
        """They serve at once."""
        world = World(wanted={"orders"})
        assert sizes(world.hear(task_event(world.new(), NOW + 1))) == {"orders": 3}


class TestServicesAndInstances:
    """What else is told."""

    def test_an_action_has_its_service_read(self, world: World) -> None:
        """And nothing else."""
        arn = world.aws.services["orders"]["serviceArn"]
        world.hear(event("ECS Service Action", {}, arn))
        assert world.aws.operations == {"DescribeServices": 1}

    def test_an_agent_is_known_to_be_disconnected(self, world: World) -> None:
        """By version, too."""
        arn = world.aws.tasks[task_arn(1)]["containerInstanceArn"]
        detail = {"clusterArn": CLUSTER, "containerInstanceArn": arn}
        told = {"agentConnected": False, "version": 5}
        body = event("ECS Container Instance State Change", detail | told)
        late = event(
            "ECS Container Instance State Change", detail | {"agentConnected": True, "version": 4}
        )
        found = by_name(world.hear(body, late))["orders"]
        assert found.placements[task_arn(1)].agent_connected is False


class TestHeard:
    """Whether events keep up is seen by versions that only reads find."""

    def task(self, version: int, number: int = 1) -> Any:
        """A task of that version."""
        return task_of({"taskArn": task_arn(number), "version": version})

    def test_nothing_heard_is_not_trusted(self) -> None:
        """The rule may match nothing."""
        assert not Heard().keeps_up

    def test_what_was_heard_is(self) -> None:
        """One event shows that there are some."""
        heard = Heard()
        heard.told([(task_arn(), 3)], NOW)
        assert heard.keeps_up

    def lossy(self, late_s: float) -> Heard:
        """One event, and changes that reads found first."""
        heard = Heard()
        heard.told([(task_arn(), 3)], NOW)
        for number in range(1, FEW + 1):
            heard.read({task_arn(number): self.task(1, number)}, [self.task(2, number)], NOW)
        heard.read({}, [], NOW + late_s)
        return heard

    def test_changes_that_no_event_tells_are_noticed(self) -> None:
        """Another consumer may have had the messages."""
        assert not self.lossy(LATE_S).keeps_up

    def test_events_may_be_late(self) -> None:
        """Reads may be quicker."""
        assert self.lossy(LATE_S - 1).keeps_up

    def test_a_late_event_is_not_lost(self) -> None:
        """It tells what a read has found."""
        heard = self.lossy(LATE_S - 1)
        heard.told([(task_arn(number), 2) for number in range(1, FEW + 1)], NOW + LATE_S)
        heard.read({}, [], NOW + 2 * LATE_S)
        assert heard.keeps_up

    def test_it_is_forgotten(self) -> None:
        """What was lost long ago says nothing of now."""
        assert self.lossy(700.0).keeps_up

    def test_a_person_is_told(self) -> None:
        """With what it may be."""
        aws = FixedAws()
        aws.add_service("orders", FEW, aws.add_hosts(1), **CHECKED)
        memory = Memory(heard=Heard())
        aws.read(memory, NOW)
        for document in aws.tasks.values():
            document["version"] += 1
        aws.read(memory, NOW + 30)
        aws.read(memory, NOW + 100)
        assert LOSING.format("prod") in memory.notices
