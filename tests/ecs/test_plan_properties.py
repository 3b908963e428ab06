"""Whatever calls fail, and whenever: an error never empties a service."""

from collections.abc import Callable
from itertools import chain, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.ecs.calls import Answer, Call, Postponed
from discovery.ecs.memory import Memory
from discovery.ecs.plan import follow_up
from discovery.errors import SourceThrottled, SourceUnreachable
from discovery.model import ClusterReading
from tests.ecs.fixed import SCOPE, FixedAws

FAULTS: list[Answer | None] = [
    None,
    SourceUnreachable("no answer"),
    SourceThrottled("slow down"),
    Postponed("later"),
    {},  # an answer that was cut off
]
TRUTH = {"orders": 120, "users": 2, "idle": 0}
EVERYTHING = frozenset(TRUTH)


def cluster(mode: str) -> FixedAws:
    """Three services, one of them with more tasks than an answer holds."""
    aws = FixedAws()
    hosts = aws.add_hosts(130)  # in host mode one port can be had once on each
    for name, tasks in TRUTH.items():
        aws.add_service(name, tasks, hosts, mode)
    return aws


def agrees_with_the_truth(found: ClusterReading) -> None:
    """What is said is right, and what is not said is not said to be gone."""
    assert {s.name: len(s.endpoints) for s in found.services} == {
        s.name: TRUTH[s.name] for s in found.services
    }
    assert not found.absent
    if found.complete:
        assert {s.name for s in found.services} | found.unread >= EVERYTHING
    said = {s.name for s in found.services}
    assert not said & found.unread


def failing(failures: list[Answer | None]) -> Callable[[Call], Answer | None]:
    """Fail the calls that come in these places."""
    turns = chain(failures, repeat(None))
    return lambda call: next(turns)


def test_a_service_that_is_only_listed_may_have_tasks_that_nobody_described() -> None:
    """Services described later do not make an old description of tasks whole."""
    down = SourceUnreachable("no answer")
    aws, memory = cluster("bridge"), Memory()
    reads: list[list[Answer | None]] = [[None, None, None, down, None, down], [down]]
    for number, failures in enumerate(reads):
        aws.fail = failing(failures)
        agrees_with_the_truth(aws.read(memory, 1_000.0 + 25 * number))
        agrees_with_the_truth(aws.drive(follow_up(SCOPE, memory, 1_001.0 + 25 * number)))


faults = st.lists(st.lists(st.sampled_from(FAULTS), max_size=25), min_size=1, max_size=5)


@pytest.mark.parametrize("mode", ["bridge", "host"])
@pytest.mark.parametrize("wanted", [None, EVERYTHING])
@given(reads=faults, early=st.booleans(), is_quiet=st.booleans())
@settings(max_examples=60, deadline=None)
def test_failures_never_make_a_service_smaller(
    mode: str,
    wanted: frozenset[str] | None,
    reads: list[list[Answer | None]],
    early: bool,
    is_quiet: bool,
) -> None:
    """Each call of each read may fail in any way; then nothing fails and everything is there.

    Of quiet reads every other one lists nothing.
    """
    aws, memory = cluster(mode), Memory()
    for number, failures in enumerate(reads):
        aws.fail = failing(failures)
        names = None if wanted is None else set(wanted)
        found = aws.read(memory, 1_000.0 + 25 * number, names, is_quiet=is_quiet)
        agrees_with_the_truth(found)
        if early and memory.last is not None:
            agrees_with_the_truth(aws.drive(follow_up(SCOPE, memory, 1_001.0 + 25 * number)))
    aws.fail = lambda call: None
    found = aws.read(memory, 2_000.0, None if wanted is None else set(wanted))
    agrees_with_the_truth(found)
    assert {s.name for s in found.services} == EVERYTHING
    assert (found.unread, found.error) == (frozenset(), None)
