"""The order in which a task's containers start: `dependsOn` and its conditions.

Pure decisions over the records and definitions.
"""

from __future__ import annotations

from discovery.local.errors import client_error
from discovery.local.state import Container, Document, Task


def are_met(task: Task, container: Container) -> bool:
    """Whether everything the container waits for has happened."""
    return all(_is_met(task, each) for each in _waits_for(container))


def are_impossible(task: Task) -> bool:
    """Whether a container waits for the success of one that has failed."""
    failed = {each.name for each in task.containers if each.exit_code}
    return any(
        each.get("condition") == "SUCCESS" and each.get("containerName") in failed
        for container in task.containers
        for each in _waits_for(container)
    )


def _waits_for(container: Container) -> list[Document]:
    found: list[Document] = container.definition.get("dependsOn") or []
    return found


def _is_met(task: Task, dependency: Document) -> bool:
    other = next(each for each in task.containers if each.name == dependency["containerName"])
    return {
        "START": other.started_at is not None,
        "COMPLETE": other.exit_code is not None,
        "SUCCESS": other.exit_code == 0,
        "HEALTHY": other.health == "HEALTHY",
    }[str(dependency["condition"])]


def check(containers: list[Document]) -> None:
    """ClientException for unknown containers, unknown conditions and cycles."""
    names = {each["name"] for each in containers}
    waits = {each["name"]: each.get("dependsOn") or [] for each in containers}
    for dependency in (each for given in waits.values() for each in given):
        if dependency.get("containerName") not in names:
            raise client_error("A container depends on one that is not in the definition.")
        if dependency.get("condition") not in ("START", "COMPLETE", "SUCCESS", "HEALTHY"):
            raise client_error("Invalid condition in a container dependency.")
    while waits:
        free = {
            name
            for name, given in waits.items()
            if not {each["containerName"] for each in given} & waits.keys()
        }
        if not free:
            raise client_error("Container dependencies must not form a cycle.")
        waits = {name: given for name, given in waits.items() if name not in free}
