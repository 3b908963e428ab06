"""What is remembered of a cluster is bounded."""

from discovery.ecs.definitions import Definition
from discovery.ecs.memory import DEFINITION_LIMIT, Memory


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
