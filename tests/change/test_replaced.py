"""Tasks that are replaced, boot, drain and are interrupted while four are calling: nobody fails."""

from dataclasses import replace

import pytest

from tests.change.fleet import Shape
from tests.change.scenarios import (
    Scenario,
    booting,
    draining,
    protected,
    restarted,
    rolling,
    spot,
)
from tests.change.stage import DNS, Timing, staged

TIMING = Timing()
PLAIN = Shape(drain_s=TIMING.drain_s)
WRAPPED = Shape(drain_s=TIMING.drain_s + 2.0, wrapped=True)  # it starts more slowly
SCENARIOS = [
    rolling(100, WRAPPED),
    rolling(50, PLAIN),
    booting(4.0, PLAIN, 2),
    spot(4, PLAIN, TIMING.drain_s + 4.0),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_no_request_fails_and_none_goes_to_the_wrong_task(scenario: Scenario) -> None:
    """Whether it goes by the transport, a listener or DNS."""
    with staged(scenario.setting, TIMING) as stage:
        scenario.act(stage)
        found = stage.scores()
    for caller, score in found.items():
        assert (caller, dict(score.errors)) == (caller, {})
        assert (caller, score.wrong, score.late) == (caller, 0, 0)


def test_while_hosts_drain_no_request_fails_and_no_task_has_twice_its_share() -> None:
    """Every task is replaced, one after the other."""
    scenario = draining(4, PLAIN)
    with staged(replace(scenario.setting, exact=True), TIMING) as stage:
        scenario.act(stage)
        found = stage.scores()
    assert [(name, score.errors) for name, score in found.items() if score.failed] == []
    assert [(name, score.most) for name, score in found.items() if score.most > 2.0] == []


def test_a_restart_in_place_is_followed_to_its_new_port() -> None:
    """Clients of the DNS go by the old one for an interval and a TTL; nobody else fails."""
    scenario = restarted(PLAIN)
    with staged(scenario.setting, TIMING) as stage:
        scenario.act(stage)
        found = stage.scores()
        by_dns = stage.load.of(DNS)
    assert [(name, s.errors) for name, s in found.items() if s.failed and name != DNS] == []
    right_by = stage.marks["exited"] + TIMING.grace_s
    assert [a.error for a in by_dns if a.error and a.at > right_by] == []


def test_a_protected_task_of_the_old_revision_serves_until_it_is_free() -> None:
    """While all others are replaced, and nobody fails when it goes at last."""
    scenario = protected(PLAIN)
    with staged(scenario.setting, TIMING) as stage:
        scenario.act(stage)
        found = stage.scores()
    assert [(name, s.errors) for name, s in found.items() if s.failed or s.late] == []
    assert [name for name, asked in stage.told.items() if asked == "0"] == []
