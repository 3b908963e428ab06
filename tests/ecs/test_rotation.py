"""Which tasks are described with which read, and how many calls that takes at any size."""

from math import ceil
from typing import Any

import pytest

from discovery.ecs.memory import Memory
from discovery.ecs.rotation import ROTATION_S, chosen
from discovery.errors import SourceUnreachable
from tests.ecs.documents import binding, task_arn
from tests.ecs.fixed import CLUSTER_RESOURCES, FixedAws, fail_on, large_cluster, sizes

NOW = 2_000_000_000.0


def described(aws: FixedAws) -> set[str]:
    """The tasks that the last read described."""
    calls = [c for c in aws.calls if c.operation == "DescribeTasks"]
    return {arn for call in calls for arn in call.parameters["tasks"]}


def steady() -> tuple[FixedAws, Memory]:
    """1,000 old tasks that were read a moment ago."""
    aws, memory = large_cluster(), Memory()
    aws.read(memory, NOW)
    return aws, memory


@pytest.mark.parametrize("services", [1, 9, 10, 11, 57, 120])
def test_calls_at_any_size(services: int) -> None:
    """Cold 2·⌈T/100⌉ + ⌈I/100⌉; steady ⌈T/100⌉ and a third of the descriptions."""
    aws, memory = FixedAws(), Memory()
    hosts = aws.add_hosts(130)
    for n in range(services):
        aws.add_service(f"service-{n}", 10, hosts)
    tasks = services * 10
    used = len({document["containerInstanceArn"] for document in aws.tasks.values()})
    aws.read(memory, NOW)
    assert aws.groups[CLUSTER_RESOURCES] == 2 * ceil(tasks / 100) + ceil(used / 100)
    for n in range(1, 6):
        aws.read(memory, NOW + 10 * n)
        assert aws.groups[CLUSTER_RESOURCES] == ceil(tasks / 100) + ceil(tasks / 300)


def test_every_task_is_described_within_the_rotation() -> None:
    """So that its health and bindings are never older."""
    aws, memory = steady()
    seen: set[str] = set()
    for n in range(1, 4):
        aws.read(memory, NOW + 10 * n)
        seen |= described(aws)
    assert seen == aws.tasks.keys()


def test_up_to_a_hundred_tasks_are_described_with_each_read() -> None:
    """One call has room for them."""
    aws, memory = FixedAws(), Memory()
    aws.add_service("orders", 100, aws.add_hosts(2))
    for n in range(3):
        aws.read(memory, NOW + n)
        assert described(aws) == aws.tasks.keys()


@pytest.mark.parametrize(
    "change",
    [
        {"lastStatus": "PENDING"},
        {"lastStatus": "DEACTIVATING"},
        {"startedAt": NOW - 100},
    ],
)
def test_what_may_change_is_described_with_each_read(change: dict[str, Any]) -> None:
    """On its way up or out, or young."""
    aws, memory = large_cluster(), Memory()
    arn = task_arn(500)
    aws.tasks[arn] |= change
    aws.read(memory, NOW)
    for n in range(1, 3):
        aws.read(memory, NOW + 5 * n)
        assert arn in described(aws)


def test_what_is_restarted_in_place_is_described_with_each_read() -> None:
    """Its host port may be another one each time."""
    aws, memory = large_cluster(), Memory()
    definition = aws.tasks[task_arn(500)]["taskDefinitionArn"]
    app = aws.definitions[definition]["taskDefinition"]["containerDefinitions"][0]
    app["restartPolicy"] = {"enabled": True}
    aws.read(memory, NOW)
    aws.read(memory, NOW + 10)
    for n in range(2, 4):
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
    aws, memory = steady()
    aws.fail = fail_on(SourceUnreachable("no answer"), "DescribeTasks")
    aws.read(memory, NOW + 10)
    failed = described(aws)
    aws.fail = lambda call: None
    found = aws.read(memory, NOW + 20)
    assert failed == described(aws)
    assert sum(sizes(found).values()) == 1_000


def test_after_a_pause_all_are_described() -> None:
    """What was read before it is too old."""
    aws, memory = steady()
    aws.read(memory, NOW + ROTATION_S)
    assert described(aws) == aws.tasks.keys()


def test_a_clock_that_is_set_back_has_all_described() -> None:
    """Nobody knows how old anything is."""
    others = {f"task-{n}": NOW for n in range(250)}
    assert len(chosen([], others, -100.0, NOW - 100.0)) == 250
