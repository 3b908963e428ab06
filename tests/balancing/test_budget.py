"""How many retries there may be."""

import pytest

from discovery.balancing.budget import RetryBudget
from discovery.balancing.window import Window


@pytest.mark.parametrize(("requests", "want"), [(0, 10), (100, 30), (1_000, 210)])
def test_a_fifth_and_a_reserve(requests: int, want: int) -> None:
    """20 % of the last ten seconds' requests, and one a second."""
    budget = RetryBudget()
    for _ in range(requests):
        budget.count(0.0)
    assert sum(budget.take(0.5) for _ in range(2_000)) == want


def test_the_budget_comes_back_with_time() -> None:
    """What was taken ten seconds ago is forgotten, and so are the requests."""
    budget = RetryBudget()
    assert sum(budget.take(0.0) for _ in range(50)) == 10
    assert not budget.take(5.0)
    assert sum(budget.take(10.5) for _ in range(50)) == 10


def test_a_window_forgets_slot_by_slot() -> None:
    """Counts are of about the last ten seconds, however long nothing was counted."""
    window = Window(10.0, 10)
    for second in range(20):
        window.add(second + 0.5, good=1, bad=second % 2)
    assert (window.all, window.bad) == (15, 5)
    window.move(25.0)
    assert window.all == 6
    window.move(1_000.0)
    assert (window.all, window.bad) == (0, 0)
