"""What is remembered of a cluster is bounded."""

from discovery.ecs.definitions import Definition
from discovery.ecs.memory import DEFINITION_LIMIT, Memory
from tests.ecs.documents import container, task_arn
from tests.ecs.fixed import CHECKED, FixedAws

NOW = 2_000_000_000.0


def test_of_very_many_definitions_those_in_use_are_kept() -> None:
    """The others can be read again, should a service go back to them."""
    memory = Memory()
    memory.definitions = {f"arn:{n}": Definition(f"arn:{n}") for n in range(DEFINITION_LIMIT + 1)}
    memory.wanted_definitions = frozenset({"arn:7", "arn:unread"})
    memory.prune()
    assert memory.definitions == {"arn:7": Definition("arn:7")}


def test_definitions_of_yesterday_are_kept_while_there_is_room() -> None:
    """A service that goes back to one costs no call."""
    memory = Memory()
    memory.definitions = {f"arn:{n}": Definition(f"arn:{n}") for n in range(DEFINITION_LIMIT)}
    memory.prune()
    assert len(memory.definitions) == DEFINITION_LIMIT


def test_verdicts_on_a_container_end_with_it() -> None:
    """One that is restarted in place for months leaves none behind."""
    aws, memory = FixedAws(), Memory()
    aws.add_service("orders", 1, aws.add_hosts(1), **CHECKED)
    for number in range(5):
        run = container("app", healthStatus="HEALTHY", runtimeId=f"run-{number}")
        bound = aws.tasks[task_arn(1)]["containers"][0]["networkBindings"]
        aws.tasks[task_arn(1)] |= {"containers": [run | {"networkBindings": bound}]}
        aws.read(memory, NOW + 60 * number)
    assert {run for _, _, run in memory.verdicts} <= {"run-3", "run-4"}
