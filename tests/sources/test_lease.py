"""Whose turn it is to read, and what a shared store is believed."""

from random import Random

import pytest

from discovery.errors import AccessDenied, CredentialsExpired, SourceError, SourceUnreachable
from discovery.model import Snapshot
from discovery.snapshots import Told
from discovery.sources.lease import FAILING_S, LONGEST_REST_S, Fitness, Held, Terms, is_behind
from tests.made import failed, observed, reading, service

DENIED = AccessDenied("ecs:ListTasks")
DOWN = SourceUnreachable("no answer")
CHANCE = Random(1)


def told(publisher: str, epoch: int, sequence: int) -> Told:
    return Told(Snapshot(epoch=epoch, sequence=sequence), publisher)


@pytest.mark.parametrize(
    ("found", "known", "behind"),
    [
        (("a", 2, 3), ("a", 2, 3), False),
        (("a", 2, 4), ("a", 2, 3), False),
        (("b", 3, 0), ("a", 2, 9), False),
        (("a", 2, 2), ("a", 2, 3), True),
        (("a", 1, 9), ("a", 2, 0), True),
        (("b", 2, 9), ("a", 2, 3), True),
    ],
)
def test_a_store_is_behind_that_says_less_than_is_known(
    found: tuple[str, int, int], known: tuple[str, int, int], behind: bool
) -> None:
    """Less by epoch, then by sequence; one epoch of two publishers was given twice."""
    assert is_behind(told(*found), told(*known)) is behind


def test_a_lease_is_given_up_before_it_ends() -> None:
    """Its holder counts from before it asked, the store from later, and clocks differ in speed."""
    held = Held(1, asked_at=100.0, terms=Terms(15.0))
    assert held.is_sure(113.4)
    assert not held.is_sure(113.5)


def test_two_renewals_may_fail() -> None:
    """It is renewed after a third of its time."""
    held = Held(1, asked_at=100.0, terms=Terms(15.0))
    assert held.renewed_in_s(100.0) == 5.0
    assert held.renewed_in_s(120.0) == 0.0


@pytest.mark.parametrize("error", [DENIED, CredentialsExpired("the token is expired")])
def test_who_may_not_read_lets_go_at_once(error: SourceError) -> None:
    """Others may have the permission."""
    fitness = Fitness().after(failed(error), 0.0, CHANCE)
    assert fitness.is_resting(1.0)
    assert fitness.why is error


def test_an_outage_is_waited_out_for_a_while() -> None:
    """Most likely it is one for all, and each new holder begins to read at full pace."""
    fitness = Fitness().after(failed(DOWN), 0.0, CHANCE).after(failed(DOWN), FAILING_S - 1, CHANCE)
    assert not fitness.is_resting(FAILING_S)
    assert fitness.after(failed(DOWN), FAILING_S, CHANCE).is_resting(FAILING_S + 1)


def test_rests_grow_up_to_a_bound() -> None:
    """Who never can read asks for the lease a few times an hour."""
    fitness, now = Fitness(), 0.0
    rests = []
    for _ in range(8):
        fitness = fitness.after(failed(DENIED), now, CHANCE)
        rests.append(fitness.rests_until - now)
        now = fitness.rests_until
    assert rests[3] > rests[0] * 2
    assert LONGEST_REST_S / 2 <= max(rests) <= LONGEST_REST_S


def test_a_read_that_learns_anything_is_a_success() -> None:
    """Whatever was before."""
    mixed = observed(reading(service("web", 1)), *failed(DENIED, "prod").clusters)
    denied = Fitness().after(failed(DENIED), 0.0, CHANCE)
    assert denied.after(mixed, 1_000.0, CHANCE) == Fitness()


def test_a_load_that_asks_for_nothing_says_nothing() -> None:
    """Such as one of nothing pending."""
    denied = Fitness().after(failed(DENIED), 0.0, CHANCE)
    assert denied.after(observed(), 1.0, CHANCE) is denied
