"""Deployments that shift traffic: every caller gives each revision its share, at every stage."""

import pytest

from tests.change.fleet import Shape
from tests.change.scenarios import Scenario, shifting, task_sets
from tests.change.stage import Timing, staged

TIMING = Timing(rate=90.0, drain_s=4.0)
PLAIN = Shape(drain_s=TIMING.drain_s)
SCENARIOS = [
    shifting("BLUE_GREEN", PLAIN, steps=(100.0,)),
    shifting("CANARY", PLAIN, steps=(20.0,), canaryConfiguration={"canaryPercent": 20.0}),
    shifting("LINEAR", PLAIN, steps=(50.0,), linearConfiguration={"stepPercent": 50.0}),
    task_sets(PLAIN),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_each_revision_has_its_share_and_nobody_fails(scenario: Scenario) -> None:
    """Within 5 % of the whole, also after it was rolled back."""
    with staged(scenario.setting, TIMING) as stage:
        scenario.act(stage)
        found = stage.scores()
    assert stage.missed == []
    assert [(name, score.errors) for name, score in found.items() if score.failed] == []
