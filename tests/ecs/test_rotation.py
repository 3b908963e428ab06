"""Which tasks are described with which read, and how many calls that takes at any size."""

from math import ceil
from typing import Any

import pytest

from discovery.ecs.definitions import definition_of
from discovery.ecs.memory import Memory
from discovery.ecs.rotation import ROTATION_S, SETTLED_S, YOUNG_S, Turns, chosen, turn_s
from discovery.ecs.tasks import task_of
from discovery.errors import SourceUnreachable
from tests.ecs.documents import (
    Document,
    awsvpc_task,
    binding,
    container,
    container_definition,
    definition,
    interface,
    port,
    task,
    task_arn,
)
from tests.ecs.fixed import CHECKED, CLUSTER_RESOURCES, FixedAws, fail_on, large_cluster, sizes

NOW = 2_000_000_000.0
RESTARTED: Document = {"restartPolicy": {"enabled": True}}
OPTIONAL: Document = {"essential": False}


def described(aws: FixedAws) -> set[str]:
    """The tasks that the last read described."""
    calls = [c for c in aws.calls if c.operation == "DescribeTasks"]
    return {arn for call in calls for arn in call.parameters["tasks"]}


def steady(**container_has: Any) -> tuple[FixedAws, Memory]:
    """1,000 old tasks of which everything was read a moment ago."""
    aws, memory = large_cluster(**container_has), Memory()
    aws.read(memory, NOW)
    aws.read(memory, NOW)
    return aws, memory


def turn(*containers: Document, of: Document | None = None, **task_has: Any) -> float:
    """The turn of an old task with these containers; `of` is what the definition says of `app`."""
    app = container_definition("app", port(8080), **(of or {}))
    answer = definition(app, arn=task()["taskDefinitionArn"], networkMode="bridge")
    ours = containers or (container("app", binding(8080, 40_000)),)
    found = task_of(task(*ours, **task_has))
    assert found is not None
    return turn_s(found, definition_of(answer), NOW)


class TestTurns:
    """How often a task is described, by what of it can change."""

    def test_what_cannot_change_while_it_runs_has_the_longest(self) -> None:
        """It leaves the list before it is anything else, and only its tags may be other ones."""
        assert turn() == SETTLED_S

    def test_a_turn_that_was_told_is_that_of_the_task_as_it_is_now(self) -> None:
        """It is told anew of another task or definition by the ARN, and youth ends by itself."""
        told, arn = Turns(), task()["taskDefinitionArn"]
        known = definition_of(definition(container_definition("app", port(8080)), arn=arn))
        bound = container("app", binding(8080, 40_000))
        young = task_of(task(bound, startedAt=NOW - YOUNG_S + 1))
        stopping = task_of(task(bound, startedAt=NOW - YOUNG_S + 1, desiredStatus="STOPPED"))
        assert young is not None
        assert stopping is not None
        assert told.of(young, known, NOW) == 0
        assert told.of(young, known, NOW + 1) == SETTLED_S
        assert told.of(young, None, NOW + 1) == ROTATION_S
        assert told.of(stopping, known, NOW + 1) == 0
        assert told.of(young, known, NOW + 1) == SETTLED_S

    def test_health_comes_within_the_rotation(self) -> None:
        """Where a container is checked."""
        assert turn(of=CHECKED) == ROTATION_S

    def test_what_may_end_while_its_task_goes_on_is_looked_at_within_the_rotation(self) -> None:
        """Its endpoint is to be known as gone."""
        assert turn(of=OPTIONAL) == ROTATION_S

    def test_what_has_ended_while_its_task_goes_on_stays_so(self) -> None:
        """A container that prepares something and is done, say."""
        assert turn(container("app", lastStatus="STOPPED"), of=OPTIONAL) == SETTLED_S
        assert turn(container("app", lastStatus="STOPPED"), of={**OPTIONAL, **CHECKED}) == SETTLED_S

    def test_a_task_whose_essential_container_has_ended_ends_any_moment(self) -> None:
        """It is described with each read."""
        assert turn(container("app", lastStatus="STOPPED")) == 0

    def test_what_is_restarted_in_place_is_described_with_each_read(self) -> None:
        """Its host port may be another one each time."""
        assert turn(of=RESTARTED) == 0

    @pytest.mark.parametrize(
        "has",
        [
            {"lastStatus": "PENDING"},
            {"lastStatus": "DEACTIVATING"},
            {"desiredStatus": "STOPPED"},
            {"startedAt": NOW - YOUNG_S + 1},
            {"startedAt": NOW + 60},  # by a clock that is ahead of ours
            {"containers": [container("app", lastStatus="PENDING")]},
        ],
    )
    def test_what_is_on_its_way_is_described_with_each_read(self, has: Document) -> None:
        """Up or out, or young."""
        assert turn(**has) == 0

    def test_a_container_that_the_definition_does_not_have_may_do_anything(self) -> None:
        """Nothing says whether it is essential, or checked."""
        strange = container("strange")
        assert turn(container("app", binding(8080, 40_000)), strange) == ROTATION_S
        assert turn(container("strange")) == ROTATION_S

    @pytest.mark.parametrize("status", ["RUNNING", "PENDING", "STOPPED"])
    def test_injected_containers_do_not_count(self, status: str) -> None:
        """Callers never reach them, whatever becomes of them."""
        agent = container("aws-guardduty-agent-x", lastStatus=status, healthStatus="HEALTHY")
        assert turn(container("app", binding(8080, 40_000)), agent) == SETTLED_S

    def test_ports_that_ecs_has_not_told_yet_are_awaited(self) -> None:
        """A task may run for a while before its bindings are known."""
        assert turn(container("app")) == ROTATION_S

    def test_a_task_without_containers_is_looked_at_again(self) -> None:
        """There must be some."""
        assert turn(containers=[]) == ROTATION_S

    @pytest.mark.parametrize(
        ("status", "wanted"), [("ATTACHED", SETTLED_S), ("ATTACHING", ROTATION_S)]
    )
    def test_an_interface_is_awaited(self, status: str, wanted: float) -> None:
        """And never changes once it is attached."""
        found = task_of(awsvpc_task(container(), attachments=[interface(status=status)]))
        answer = definition(container_definition("app", port(80)), networkMode="awsvpc")
        assert found is not None
        assert turn_s(found, definition_of(answer), NOW) == wanted

    def test_a_definition_that_is_not_read_may_say_anything(self) -> None:
        """So its tasks are taken for checked."""
        found = task_of(task(container("app", binding(8080, 40_000))))
        assert found is not None
        assert turn_s(found, None, NOW) == ROTATION_S


@pytest.mark.parametrize("services", [1, 9, 10, 11, 57, 120])
@pytest.mark.parametrize("checked", [True, False])
def test_calls_at_any_size(services: int, checked: bool) -> None:
    """Cold 2·⌈T/100⌉ + ⌈I/100⌉; then ⌈T/100⌉ and ⌈T/300⌉ for health at most, where it is checked.

    Where nothing can change all is described once more in five minutes.
    """
    aws, memory = FixedAws(), Memory()
    hosts = aws.add_hosts(130)
    for n in range(services):
        aws.add_service(f"service-{n}", 10, hosts, **(CHECKED if checked else {}))
    tasks = services * 10
    used = len({document["containerInstanceArn"] for document in aws.tasks.values()})
    aws.read(memory, NOW)
    assert aws.groups[CLUSTER_RESOURCES] == 2 * ceil(tasks / 100) + ceil(used / 100)
    aws.read(memory, NOW)
    instances = descriptions = 0
    for n in range(1, 31):
        aws.read(memory, NOW + 10 * n)
        assert aws.operations["ListTasks"] == ceil(tasks / 100)
        assert aws.operations["DescribeTasks"] <= ceil(tasks / (300 if checked else 1_000))
        descriptions += aws.operations["DescribeTasks"]
        instances += aws.operations["DescribeContainerInstances"]
    assert instances == 5 * ceil(used / 100)
    assert descriptions <= (30 * ceil(tasks / 300) if checked else ceil(tasks / 100))


@pytest.mark.parametrize(("container_has", "turn_s"), [(CHECKED, ROTATION_S), ({}, SETTLED_S)])
def test_every_task_is_described_within_its_turn(container_has: Document, turn_s: float) -> None:
    """Health, and what nobody expects to change, is never older."""
    aws, memory = steady(**container_has)
    reads = int(turn_s / 10)
    for first in (1, 1 + reads):
        seen: set[str] = set()
        for n in range(first, first + reads):
            aws.read(memory, NOW + 10 * n)
            seen |= described(aws)
        assert seen == aws.tasks.keys()


def test_up_to_a_hundred_tasks_that_may_change_are_described_with_each_read() -> None:
    """One call has room for them."""
    aws, memory = FixedAws(), Memory()
    aws.add_service("orders", 100, aws.add_hosts(2), **CHECKED)
    for n in range(3):
        aws.read(memory, NOW + n)
        assert described(aws) == aws.tasks.keys()


def test_no_call_is_made_while_nothing_can_have_changed() -> None:
    """Nor is a full list of the tasks reason for one."""
    aws, memory = steady()
    aws.read(memory, NOW + 10)
    assert aws.operations == {"ListTasks": 10}


def test_a_call_that_is_made_anyway_is_filled_with_what_is_next_in_turn() -> None:
    """What may change comes first."""
    turning = {f"turning-{n}": NOW - 20.0 + n for n in range(3)}
    settled = {f"settled-{n:03}": NOW - 20.0 for n in range(500)}
    found = chosen(["urgent"], turning, settled, NOW)
    assert found[:4] == ["urgent", "turning-0", "turning-1", "turning-2"]
    assert found[4:] == [f"settled-{n:03}" for n in range(96)]


def test_another_port_after_a_restart_in_place_is_known_with_the_next_read() -> None:
    """However many tasks are restarted."""
    aws, memory = steady(**RESTARTED)
    for n in range(1, 3):
        container = aws.tasks[task_arn(500)]["containers"][0]
        container["networkBindings"] = [binding(8080, 50_000 + n)]
        found = aws.read(memory, NOW + 10 * n)
        assert 50_000 + n in {e.port for s in found.services for e in s.endpoints}


def test_a_new_task_and_one_that_vanished_are_described_at_once() -> None:
    """Whoever else's turn it is."""
    aws, memory = steady()
    aws.add_service("new", 1, list(aws.instances))
    aws.unlisted.add(task_arn(1))
    aws.read(memory, NOW + 10)
    assert {task_arn(1), task_arn(1_001)} <= described(aws)


def test_what_could_not_be_described_keeps_its_turn() -> None:
    """And what was known of it."""
    aws, memory = steady(**CHECKED)
    aws.fail = fail_on(SourceUnreachable("no answer"), "DescribeTasks")
    aws.read(memory, NOW + 10)
    failed = described(aws)
    aws.fail = lambda call: None
    found = aws.read(memory, NOW + 20)
    assert failed
    assert failed <= described(aws)
    assert sum(sizes(found).values()) == 1_000


@pytest.mark.parametrize(("container_has", "turn_s"), [(CHECKED, ROTATION_S), ({}, SETTLED_S)])
def test_after_a_pause_all_are_described(container_has: Document, turn_s: float) -> None:
    """What was read before it is too old."""
    aws, memory = steady(**container_has)
    aws.read(memory, NOW + turn_s)
    assert described(aws) == aws.tasks.keys()


def test_a_clock_that_is_set_back_has_all_described() -> None:
    """Nobody knows how old anything is; and what could not be described then is, with the next."""
    aws, memory = steady(**CHECKED)
    aws.fail = fail_on(SourceUnreachable("no answer"), "DescribeTasks", after=9)
    aws.read(memory, NOW - 3_600)
    assert described(aws) == aws.tasks.keys()
    *_, last = (c for c in aws.calls if c.operation == "DescribeTasks")
    aws.fail = lambda call: None
    aws.read(memory, NOW - 3_590)
    assert set(last.parameters["tasks"]) <= described(aws)
