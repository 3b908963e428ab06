"""When to load next."""

from random import Random

import pytest

from discovery.catalog.pace import LONGEST_REST_S, LONGEST_RETRY_S, Pace
from discovery.errors import SourceError, SourceThrottled, SourceUnreachable
from discovery.model import Observation
from tests.made import failed, observed, reading, service


class Middle:
    """Chance that is always in the middle."""

    def random(self) -> float:
        """Half."""
        return 0.5

    def randrange(self, stop: int, /) -> int:
        """Half."""
        return stop // 2


GOOD = reading(service("web", 1))
ERROR = SourceUnreachable("no answer")


@pytest.mark.parametrize(
    ("observation", "doubted", "pause_s"),
    [
        (observed(GOOD), False, 10.0),
        (observed(GOOD, pending=True), False, 10.0),
        (observed(GOOD), True, 1.0),
        (observed(GOOD, rest_s=25.0), False, 25.0),
        (observed(GOOD, rest_s=25.0, pending=True), False, 25.0),
        (observed(GOOD, again_s=2.0), False, 2.0),
        (observed(GOOD, reading(label="prod", complete=False, error=ERROR)), False, 10.0),
        (observed(reading(service("web", 1), error=ERROR)), False, 10.0),
        (observed(reading(complete=True, error=ERROR)), False, 10.0),
        (observed(), False, 10.0),
    ],
)
def test_the_pause_after_a_load(observation: Observation, doubted: bool, pause_s: float) -> None:
    """The interval, the source's own pace, or sooner where more can be learned."""
    assert Pace(10.0).after(observation, doubted, Middle()).pause_s == pytest.approx(pause_s)


def test_the_interval_is_jittered_by_a_tenth() -> None:
    """Many processes do not ask in step."""
    random = Random(1)
    pauses = [Pace(10.0).after(observed(GOOD), False, random).pause_s for _ in range(500)]
    assert 9.0 <= min(pauses) < 9.1
    assert 10.9 < max(pauses) <= 11.0


@pytest.mark.parametrize(
    ("error", "first_s", "longest_s"),
    [(ERROR, 1.0, LONGEST_RETRY_S), (SourceThrottled("slow"), 10.0, LONGEST_REST_S)],
)
def test_failures_double_the_pause_up_to_a_limit(
    error: SourceError, first_s: float, longest_s: float
) -> None:
    """From a second, or from the interval where the API asked us to slow down."""
    pace, random, longest = Pace(10.0), Random(1), first_s
    for _ in range(40):
        pace = pace.after(failed(error), False, random)
        assert longest / 2 <= pace.pause_s <= longest
        longest = min(longest_s, longest * 2)


def test_a_success_ends_the_back_off() -> None:
    """The next pause is the interval again."""
    pace = Pace(10.0, pause_s=30.0, failures=9).after(observed(GOOD), False, Middle())
    assert (pace.pause_s, pace.failures) == (10.0, 0)
