"""Orders of records: how load spreads over those that come first, and over those behind them."""

from collections import Counter
from itertools import islice
from random import Random

import pytest

from discovery.dns.orders import Ordering, cycle, orders

SIZES = [2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 25]


def balanced(size: int, count: int) -> list[list[int]]:
    """The first orders of as many equal records."""
    several = orders("balanced", [1.0] * size, Random(1).randrange)
    return [list(order) for order in islice(several, count)]


@pytest.mark.parametrize("size", SIZES)
def test_every_record_comes_first_equally_often(size: int) -> None:
    """In each turn of as many answers as there are records."""
    several = balanced(size, 3 * size)
    for start in range(0, 3 * size, size):
        firsts = [order[0] for order in several[start : start + size]]
        assert sorted(firsts) == list(range(size))


@pytest.mark.parametrize("size", [n for n in SIZES if n > 2])
def test_the_share_of_a_dead_endpoint_spreads_over_all_others(size: int) -> None:
    """Evenly with an odd number; with an even one, one of them gets twice what others get."""
    several = balanced(size, size * (size - size % 2))
    for dead in range(size):
        heirs = Counter(order[1] for order in several if order[0] == dead)
        assert heirs.keys() == set(range(size)) - {dead}
        assert sorted(heirs.values())[:-1] == [1] * (size - 2)
        assert max(heirs.values()) == 1 + (size % 2 == 0)


@pytest.mark.parametrize("size", [1, *SIZES, 100])
def test_an_order_has_every_record_once(size: int) -> None:
    """Whatever its size."""
    assert all(sorted(order) == list(range(size)) for order in balanced(size, 50))
    assert size == 1 or all(sorted(cycle(size, n)) == list(range(size)) for n in range(2, 9))


@pytest.mark.parametrize("ordering", ["weighted", "balanced"])
def test_weights_are_the_shares_of_first_places(ordering: Ordering) -> None:
    """Exactly so in the long run, and the others follow by weight; none for weight 0."""
    several = orders(ordering, [1.0, 2.0, 5.0, 0.0], Random(3).randrange)
    found = [list(order) for order in islice(several, 800)]
    firsts = Counter(order[0] for order in found)
    assert all(abs(firsts[n] - want) <= 1 for n, want in enumerate((100, 200, 500, 0)))
    behind = Counter(order[1] for order in found if order[0] == 2)
    assert behind[1] > behind[0] > behind[3] == 0


def test_a_stable_order_is_that_of_the_zone() -> None:
    """For whoever wants to see the same answer twice."""
    several = orders("stable", [1.0, 9.0, 3.0], Random(1).randrange)
    assert [list(order) for order in islice(several, 3)] == 3 * [[0, 1, 2]]
