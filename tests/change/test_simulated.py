"""Half an hour of exchanged ports: who calls by our snapshots stays with no wrong service."""

import pytest

from tests.change.simulated import BY_DNS, OURS, POLLER, Course, simulated

pytestmark = pytest.mark.no_cover
DENIED = Course(denied_s=(600.0, 1_200.0))


def test_nobody_goes_to_the_wrong_service_beyond_interval_and_ttl() -> None:
    """At 10 % churn a minute; who polls alike and verifies nothing is misled more often."""
    it = simulated(Course(), seed=1)
    assert it.world.exchanged == 120
    assert [it.tallies[name].late for name in (OURS, BY_DNS)] == [0, 0]
    assert it.tallies[OURS].failed == 0
    assert it.tallies[OURS].wrong < it.tallies[POLLER].wrong


def test_nobody_goes_to_the_wrong_service_while_reading_is_denied() -> None:
    """Refusals tell of every port that was closed in between; who goes by the last list is lost."""
    tallies = simulated(DENIED, seed=1).tallies
    assert tallies[OURS].denied == 0
    assert [tallies[name].late for name in (OURS, BY_DNS)] == [0, 0]
    assert tallies[POLLER].late > 1_000
