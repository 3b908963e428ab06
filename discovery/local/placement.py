"""Where a task goes: which instances can take it, and which of them it gets.

Pure decisions over the records. An instance that cannot take the task is a reason as the
`failures` of RunTask give it: AGENT, ATTRIBUTE, RESOURCE:CPU, RESOURCE:MEMORY, RESOURCE:PORTS.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from discovery.local.errors import invalid
from discovery.local.state import ENDED, Definition, Document, Instance

_TERM = re.compile(r"^\s*(attribute:)?([\w.:/-]+)\s*(==|!=|=~|in|not_in|exists)\s*(.*?)\s*$")


def resources(definition: Definition, overrides: Document) -> tuple[int, int]:
    """CPU units and MiB of memory a task of this definition takes."""
    cpu = overrides.get("cpu") or definition.document.get("cpu")
    memory = overrides.get("memory") or definition.document.get("memory")
    containers = definition.containers
    cpu_units = units(cpu, 1024) if cpu else sum(int(c.get("cpu", 0)) for c in containers)
    if memory:
        return cpu_units, units(memory, 1024)
    return cpu_units, sum(
        int(c.get("memoryReservation") or c.get("memory") or 0) for c in containers
    )


def units(value: Any, factor: int) -> int:
    """`256`, `.25 vCPU` or `0.5 GB` as a number of units."""
    text = re.sub(r"\s*(vcpu|gb)$", "", str(value).strip(), flags=re.IGNORECASE)
    return int(text) if text == str(value).strip() else int(float(text) * factor)


def fixed_ports(definition: Definition) -> set[tuple[int, str]]:
    """The host ports that the definition fixes, with their protocol."""
    mode = definition.network_mode
    if mode not in ("bridge", "host"):
        return set()
    found = set()
    for container in definition.containers:
        for mapping in container["portMappings"]:
            port = mapping.get("hostPort")
            if mode == "host":
                port = mapping.get("containerPort")
            if port:
                found.add((int(port), str(mapping["protocol"])))
    return found


def refusal(
    instance: Instance, definition: Definition, need: tuple[int, int], constraints: list[Document]
) -> str | None:
    """Why the instance cannot take a task, None when it can."""
    if instance.status != "ACTIVE":
        return "INACTIVE"
    if not instance.agent_connected:
        return "AGENT"
    if not all(_allowed(instance, definition, each) for each in constraints):
        return "ATTRIBUTE"
    if instance.cpu_used + need[0] > instance.cpu:
        return "RESOURCE:CPU"
    if instance.memory_used + need[1] > instance.memory:
        return "RESOURCE:MEMORY"
    wanted = fixed_ports(definition)
    if not wanted:
        return None
    if wanted & instance.ports() or any(port in instance.reserved for port, _ in wanted):
        return "RESOURCE:PORTS"
    return None


def _allowed(instance: Instance, definition: Definition, constraint: Document) -> bool:
    if constraint.get("type") == "distinctInstance":
        mine = (task for task in instance.tasks.values() if task.status != ENDED)
        return all(task.definition.family != definition.family for task in mine)
    return matches(instance, str(constraint.get("expression") or ""))


def matches(instance: Instance, expression: str) -> bool:
    """Whether an instance meets a cluster query: terms joined by `and` / `or`."""
    if not expression.strip():
        return True
    return any(
        all(_term(instance, term) for term in re.split(r"\s+and\s+|&&", group))
        for group in re.split(r"\s+or\s+|\|\|", expression)
    )


def _term(instance: Instance, term: str) -> bool:
    found = _TERM.match(term.strip("() "))
    if found is None:
        raise invalid("Invalid expression in placement constraint.")
    _, name, operator, operand = found.groups()
    value = _field(instance, name)
    values = [each.strip(" '\"") for each in operand.strip("[]() ").split(",")]
    if operator == "=~":
        return value is not None and _pattern(values[0]).fullmatch(value) is not None
    checks = {
        "==": value == values[0],
        "!=": value != values[0],
        "in": value in values,
        "not_in": value not in values,
        "exists": value is not None,
    }
    return checks[operator]


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise invalid("Invalid expression in placement constraint.") from error


def _field(instance: Instance, name: str) -> str | None:
    if name == "ecs.availability-zone":
        return None if instance.external else instance.zone
    if name == "ec2InstanceId":
        return instance.ec2_id
    if name == "instanceId":
        return instance.id
    if name == "agentConnected":
        return str(instance.agent_connected).lower()
    for attribute in instance.attributes:
        if attribute["name"] == name:
            return str(attribute.get("value", ""))
    return None


def chosen(
    instances: Iterable[Instance],
    strategy: list[Document],
    peers: Iterable[Instance],
    random: Random,
) -> Instance | None:
    """The instance for the next task among those that can take it.

    `peers` are the instances of the tasks of the same service or family, once for each task; the
    default strategy spreads over zones, then over instances.
    """
    found = list(instances)
    if not found:
        return None
    used = list(peers)
    rules = strategy or [
        {"type": "spread", "field": "attribute:ecs.availability-zone"},
        {"type": "spread", "field": "instanceId"},
    ]
    if rules[0].get("type") == "random":
        return random.choice(found)
    costs = [_costs(rule, used) for rule in rules]
    return min(found, key=lambda each: tuple(cost(each) for cost in costs))


def _costs(rule: Document, used: list[Instance]) -> Callable[[Instance], float]:
    """What a rule would have smallest: the left-over for binpack, the peers alike for spread."""
    field = str(rule.get("field") or "instanceId").removeprefix("attribute:")
    if rule.get("type") == "binpack" and field == "cpu":
        return lambda each: each.cpu - each.cpu_used
    if rule.get("type") == "binpack":
        return lambda each: each.memory - each.memory_used
    if field in ("host", "instanceId"):
        hosts = Counter(each.id for each in used)
        return lambda each: hosts[each.id] + len(each.tasks) / 1e6
    alike = Counter(_field(each, field) for each in used)
    return lambda each: alike[_field(each, field)]
