"""The goals of balancing, in a simulated world: one seed, shorter than the benchmark."""

import pytest

from tests.bench.simulation import OURS, SCENARIOS, Measured

SEED = 1
# Tracing takes several times as long as the simulation, and the rooms have tests of their own.
pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize("name", SCENARIOS)
def test_goals_hold(name: str) -> None:
    """Every property that has a goal reaches it."""
    scenario, _, seconds = SCENARIOS[name]
    measured = list(scenario(SEED, seconds))
    assert [m for m in measured if m.most is not None or m.least is not None]
    assert [m for m in measured if not m.holds] == []


def test_ours_is_no_worse_than_any_peer_with_a_slow_endpoint() -> None:
    """In the same world, at the same rate."""
    scenario, _, _ = SCENARIOS["some slow"]
    by_kind = {kind_of(m): m.value for m in scenario(SEED, 15.0)}
    assert by_kind[OURS] == min(by_kind.values())


def kind_of(measured: Measured) -> str:
    return measured.name.rpartition(", ")[2].partition(":")[0]
