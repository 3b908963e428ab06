"""Calls of a read, by throttle group, at several sizes of cluster."""

from collections import Counter
from dataclasses import replace
from math import ceil
from typing import Any

import pytest

from discovery.ecs.calls import CLUSTER_RESOURCES, DEFINITIONS, EC2, SERVICES
from discovery.ecs.memory import Memory
from discovery.ecs.plan import follow_up
from discovery.errors import SourceUnreachable
from tests.ecs.fixed import CHECKED, SCOPE, FixedAws
from tests.made import NOW
from tests.scale.world import cluster

SIZES = (10, 100, 1_000, 3_000)


def known(tasks: int, **container_has: Any) -> tuple[FixedAws, Memory]:
    """A cluster of which everything was read a moment ago."""
    aws, memory = cluster(tasks, **container_has), Memory()
    aws.read(memory, NOW)
    aws.drive(follow_up(SCOPE, memory, NOW + 1))
    return aws, memory


@pytest.mark.parametrize("tasks", SIZES)
def test_calls_of_a_first_read(tasks: int) -> None:
    """2·⌈T/100⌉ + ⌈I/100⌉ of the scarce group, ⌈I/200⌉ of EC2, the services once."""
    aws = cluster(tasks)
    aws.read(Memory(), NOW)
    instances, services = len(aws.instances), len(aws.services)
    assert aws.groups == {
        CLUSTER_RESOURCES: 2 * ceil(tasks / 100) + ceil(instances / 100),
        EC2: ceil(instances / 200),
        SERVICES: ceil(services / 100) + ceil(services / 10),
    }


@pytest.mark.parametrize("tasks", SIZES)
def test_calls_of_a_steady_read(tasks: int) -> None:
    """⌈T/100⌉, and a description of 100 for each 3,000, where nothing else can have changed."""
    aws, memory = known(tasks)
    aws.read(memory, NOW + 10)
    assert +aws.operations == +Counter(ListTasks=ceil(tasks / 100), DescribeTasks=tasks // 3_000)


@pytest.mark.parametrize("tasks", SIZES)
def test_calls_of_a_steady_read_with_health_checks(tasks: int) -> None:
    """⌈T/100⌉ and a third of the descriptions."""
    aws, memory = known(tasks, **CHECKED)
    aws.read(memory, NOW + 10)
    assert aws.operations == {"ListTasks": ceil(tasks / 100), "DescribeTasks": ceil(tasks / 300)}


def test_definitions_can_be_left_to_who_asks_for_what_was_put_off() -> None:
    """As by each of a fleet without a leader, whose reads come when all of them can afford one."""
    scope, aws, memory = replace(SCOPE, names_later=True), cluster(1_000), Memory()
    for n in range(3):
        aws.read(memory, NOW + 100 * n, scope=scope)
        assert not aws.groups[DEFINITIONS]
    assert memory.pending == 100
    aws.drive(follow_up(scope, memory, NOW + 300))
    assert not memory.pending


@pytest.mark.parametrize("tasks", SIZES)
def test_a_definition_is_read_once(tasks: int) -> None:
    """One call for each ARN, after the first read, and never again."""
    aws, memory = known(tasks)
    assert aws.groups == {DEFINITIONS: len(aws.services)}
    aws.read(memory, NOW + 60)
    assert DEFINITIONS not in aws.groups


@pytest.mark.parametrize("tasks", SIZES)
def test_calls_in_an_outage_do_not_grow_with_the_cluster(tasks: int) -> None:
    """One, after the read that found nobody."""
    aws, memory = cluster(tasks), Memory()
    aws.read(memory, NOW)
    aws.fail = lambda call: SourceUnreachable("no answer")
    aws.read(memory, NOW + 60)
    for n in range(1, 4):
        found = aws.read(memory, NOW + 60 + 10 * n)
        assert not found.learned
        assert len(aws.calls) == 1
