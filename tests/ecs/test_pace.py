"""How soon a source wishes to read again, by what its clusters came to."""

import pytest

from discovery.ecs.conversation import Outcome
from discovery.ecs.pace import ROLLING_S, SWEEP_S, again_s, is_quiet
from discovery.model import ClusterReading


def last(*, told: bool = True, rolling: bool = False, starting: bool = False) -> Outcome:
    """What a read came to."""
    reading = ClusterReading("prod")
    return Outcome(reading, None, is_told=told, is_rolling=rolling, is_starting=starting)


def test_sweeps_are_rare_while_events_tell_what_happens() -> None:
    """And never sooner than the interval."""
    assert again_s([last(), last()], True, 10.0) == SWEEP_S
    assert again_s([last()], True, 60.0) == 60.0


@pytest.mark.parametrize(
    ("lasts", "is_hearing"),
    [
        ([last()], False),
        ([last(), last(told=False)], True),
        ([last(), None], True),
        ([last(rolling=True)], True),
        ([last(), last(starting=True)], True),
    ],
)
def test_what_is_not_quiet_is_read_at_the_interval(
    lasts: list[Outcome | None], is_hearing: bool
) -> None:
    """While no queue answers, a cluster is not told of or not read yet, or something goes on."""
    assert not is_quiet(lasts, is_hearing)
    assert again_s(lasts, is_hearing, 10.0) is None


def test_reads_are_more_frequent_while_a_deployment_runs_that_no_event_tells_of() -> None:
    """But never less than the interval has them."""
    assert again_s([last(told=False, rolling=True)], False, 10.0) == ROLLING_S
    assert again_s([last(rolling=True)], False, 10.0) == ROLLING_S
    assert again_s([last(rolling=True)], False, 2.0) == 2.0
