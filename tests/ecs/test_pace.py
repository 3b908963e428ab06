"""How soon a source wishes to read again, by what its clusters came to."""

import pytest

from discovery.ecs.conversation import Outcome
from discovery.ecs.pace import ROLLING_S, SWEEP_S, Rest, again_s, is_quiet
from discovery.model import ClusterReading
from tests.made import FakeClock


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


def test_a_load_of_a_few_names_shortens_nothing_of_the_rest_before_it() -> None:
    """Nor the cycle, by which what the sweep told is fresh."""
    clock = FakeClock()
    rest = Rest(clock)
    rest.begin(25.0, 75.0)
    assert (rest.left_s, rest.longest_s, rest.cycle_s) == (25.0, 25.0, 100.0)
    clock.now += 10.0
    rest.begin(1.0, 0.1)
    assert (rest.left_s, rest.longest_s, rest.cycle_s) == (15.0, 15.0, 100.0)
    clock.now += 15.0
    rest.begin(1.0, 0.1)
    assert (rest.left_s, rest.longest_s, rest.cycle_s) == (1.0, 1.0, 1.1)


def test_a_clock_that_is_set_back_makes_no_rest_longer() -> None:
    """Whoever waits would wait for the clock."""
    clock = FakeClock()
    rest = Rest(clock)
    rest.begin(25.0, 75.0)
    clock.now -= 3_600.0
    assert rest.left_s == 25.0
